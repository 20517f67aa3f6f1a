//! The shapes of erasing people, as they are described in the OpenAPI document.

use serde::Serialize;
use utoipa::ToSchema;

/// What was erased, with nothing of the person in it.
#[derive(Serialize, ToSchema)]
pub struct ErasureCertificate {
    /// 32 hexadecimal digits.
    pub id: String,
    /// `customer` of a tenant, or `user` of the collector.
    #[schema(example = "customer")]
    pub subject: String,
    /// `null` for a user.
    #[schema(example = "acme")]
    pub tenant_id: Option<String>,
    /// `erase` or `pseudonymise`.
    #[schema(example = "erase")]
    pub mode: String,
    #[schema(format = DateTime)]
    pub began_at: String,
    #[schema(format = DateTime)]
    pub finished_at: String,
    pub shards: Vec<ErasedInShard>,
    /// Resumable uploads that had lines of the person, or may have had.
    pub uploads_removed: u64,
    /// Exports of the tenant that had to do with the person: files that are gone or are made again.
    pub exports_removed: u64,
    /// The customer has more names and addresses than were looked for: 64 of each in a shard, half a megabyte in all.
    /// The orders and what says the customer's id went; events and uploads with only another address may be left.
    pub names_truncated: bool,
    /// SHA-256 of the certificate without this member as canonical JSON (RFC 8785).
    #[schema(example = "sha-256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    pub digest: String,
}

/// What was touched in one shard.
#[derive(Serialize, ToSchema)]
pub struct ErasedInShard {
    pub shard: u64,
    pub orders: u64,
    pub items: u64,
    /// Rows of customers: one for each name and address.
    pub customers: u64,
    /// Entries of the index that searches by words use.
    pub words: u64,
    /// Service events.
    pub events: u64,
    /// Events of the collector.
    pub clicks: u64,
    /// Entries of other indexes and lists.
    pub index_entries: u64,
    /// Records that could not be stored and were kept as they came.
    pub rejected_records: u64,
    /// Kept answers of ingests that lost the order ids in their errors.
    pub ingest_answers: u64,
    /// Journals that were begun anew.
    pub journals: u64,
    /// Bytes of their segments that were deleted.
    pub journal_bytes: u64,
    /// Damaged segments that had been kept, and went.
    pub quarantined_segments: u64,
    /// Pages of the database whose unused bytes were overwritten.
    pub pages: u64,
}

/// How far an erasure is.
#[derive(Serialize, ToSchema)]
pub struct ErasureProgress {
    pub id: String,
    /// `running` or `finished`.
    #[schema(example = "running")]
    pub state: String,
    pub shards: Vec<ErasureStep>,
    /// Once it is finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<ErasureCertificate>,
}

/// What one shard is doing for it.
#[derive(Serialize, ToSchema)]
pub struct ErasureStep {
    pub shard: u64,
    #[schema(example = "orders")]
    pub step: String,
}
