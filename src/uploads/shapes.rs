//! The upload shape in responses.

use serde::Serialize;
use utoipa::ToSchema;

use crate::orders::IngestSummary;

/// An upload's progress and the outcome of its rows so far. It has the members of an ingest's summary, and some of
/// its own.
#[derive(Serialize, ToSchema)]
pub struct UploadSummary {
    /// 32 hexadecimal digits.
    #[schema(example = "5f0c4be0a1d94c0e8f1b6b1f5f7a9c3d")]
    pub id: String,
    /// The offset before which everything is stored.
    #[schema(example = 8_388_608)]
    pub offset: u64,
    /// The size of the whole file in bytes. It is null until it is known.
    #[schema(example = 20_971_520)]
    pub length: Option<u64>,
    /// `receiving`, `finished`, `expired` or `failed`. An upload fails if the rest of it cannot be read (rows that
    /// were stored remain), or if no line is a valid order.
    #[schema(example = "receiving")]
    pub state: String,
    /// The reason for the failure.
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
