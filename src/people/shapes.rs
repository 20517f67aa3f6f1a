//! The erasure shapes in responses.

use serde::Serialize;
use utoipa::ToSchema;

/// The report of an erasure. It contains no data about the erased person.
#[derive(Serialize, ToSchema)]
pub struct ErasureCertificate {
    /// 32 hexadecimal digits.
    pub id: String,
    /// `customer` for a tenant's customer, or `user` for a user of the collector.
    #[schema(example = "customer")]
    pub subject: String,
    /// The tenant's id, or `null` for a user.
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
    /// Resumable uploads that contained, or may have contained, the person's lines. They were removed.
    pub uploads_removed: u64,
    /// The tenant's exports that contained the person. Their files were deleted or are written again.
    pub exports_removed: u64,
    /// `true` if the customer has more names and addresses than the server searched for: 64 of each in a shard, half
    /// a megabyte in total. The orders, and all rows with the customer's id, are gone. Events and uploads that
    /// contain only another address may remain.
    pub names_truncated: bool,
    /// The SHA-256 of the certificate without this member, as canonical JSON (RFC 8785).
    #[schema(example = "sha-256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    pub digest: String,
}

/// The rows changed in one shard.
#[derive(Serialize, ToSchema)]
pub struct ErasedInShard {
    pub shard: u64,
    pub orders: u64,
    pub items: u64,
    /// Customer rows, one for each combination of name and address.
    pub customers: u64,
    /// Entries in the search's word index.
    pub words: u64,
    /// Service events.
    pub events: u64,
    /// The collector's events.
    pub clicks: u64,
    /// Entries in other indexes and lists.
    pub index_entries: u64,
    /// Records that could not be stored and had been kept as received.
    pub rejected_records: u64,
    /// Stored ingest summaries whose errors lost their order ids.
    pub ingest_answers: u64,
    /// Journals that were restarted.
    pub journals: u64,
    /// Bytes in deleted journal segments.
    pub journal_bytes: u64,
    /// Damaged segments that had been kept and were deleted.
    pub quarantined_segments: u64,
    /// Database pages whose unused bytes were overwritten.
    pub pages: u64,
}

/// The progress of an erasure.
#[derive(Serialize, ToSchema)]
pub struct ErasureProgress {
    pub id: String,
    /// `running` or `finished`.
    #[schema(example = "running")]
    pub state: String,
    pub shards: Vec<ErasureStep>,
    /// The certificate. It is present once the erasure is finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<ErasureCertificate>,
}

/// The current step in one shard.
#[derive(Serialize, ToSchema)]
pub struct ErasureStep {
    pub shard: u64,
    #[schema(example = "orders")]
    pub step: String,
}
