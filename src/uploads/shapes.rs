//! The shape of an upload in responses.

use serde::Serialize;
use utoipa::ToSchema;

use crate::orders::IngestSummary;

/// Progress of an upload and the outcome of its rows so far: the members of an ingest's summary, and its own.
#[derive(Serialize, ToSchema)]
pub struct UploadSummary {
    /// 32 hexadecimal digits.
    #[schema(example = "5f0c4be0a1d94c0e8f1b6b1f5f7a9c3d")]
    pub id: String,
    /// Offset before which everything is stored.
    #[schema(example = 8_388_608)]
    pub offset: u64,
    /// Size of the whole file in bytes. Null until it is known.
    #[schema(example = 20_971_520)]
    pub length: Option<u64>,
    /// `receiving`, `finished`, `expired`, or `failed`: the rest cannot be read, while rows that were stored
    /// remain, or no line is a valid order.
    #[schema(example = "receiving")]
    pub state: String,
    /// Reason of the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub detail: Option<String>,
    #[schema(format = DateTime, example = "2026-03-01T12:00:00Z")]
    pub created_at: String,
    #[schema(format = DateTime, example = "2026-03-02T12:00:00Z")]
    pub expires_at: String,
    /// Orders that are stored, inserted or duplicate. They survive a kill of the process.
    #[schema(example = 20_000)]
    pub rows_committed: u64,
    #[serde(flatten)]
    pub summary: IngestSummary,
}
