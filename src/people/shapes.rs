//! The erasure shapes in responses.

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::schema::texts::Identifier;

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
    /// `done`: nothing about the person is left in the data folder. Absent in certificates of versions without sinks, as
    /// `sinks` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "done")]
    pub local: Option<String>,
    /// The sinks of `firehose ship` that had copies of rows and have erased the person, by name. Empty if none was
    /// registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sinks: Option<Vec<ErasedInSink>>,
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

/// The state of an erasure in one sink.
#[derive(Serialize, ToSchema)]
pub struct ErasedInSink {
    #[schema(example = "postgres")]
    pub name: String,
    /// `done` or `pending`.
    #[schema(example = "pending")]
    pub state: String,
}

/// The progress of an erasure.
#[derive(Serialize, ToSchema)]
pub struct ErasureProgress {
    pub id: String,
    /// `running` or `finished`.
    #[schema(example = "running")]
    pub state: String,
    pub shards: Vec<ErasureStep>,
    /// `done` if nothing about the person is left in the data folder but the masked record that waits for the sinks, or
    /// `pending`. Absent if an earlier version finished the erasure, as `sinks` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "done")]
    pub local: Option<String>,
    /// The sinks of `firehose ship` that may have copies of rows, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sinks: Option<Vec<ErasedInSink>>,
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

/// The customers to erase.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewErasures {
    /// `erase` (the default) or `pseudonymise`.
    #[schema(value_type = String, required = false, default = "erase", example = "erase",
        pattern = "^(erase|pseudonymise)$")]
    pub mode: Option<String>,
    /// Ids of 1 to 200 bytes without control characters. A customer who is listed twice is erased once.
    #[schema(value_type = Vec<Identifier>, min_items = 1, max_items = 1000, example = json!(["c-7", "c-8"]))]
    pub customers: Vec<String>,
}

/// The erasures of one request, one for each customer.
#[derive(Serialize, ToSchema)]
pub struct Erasures {
    pub erasures: Vec<CustomerErasure>,
}

/// The erasure of one of several customers.
#[derive(Serialize, ToSchema)]
pub struct CustomerErasure {
    #[schema(example = "c-7")]
    pub customer: String,
    /// The erasure's id.
    pub id: String,
    /// `running` or `finished`.
    #[schema(example = "finished")]
    pub state: String,
    /// The path of the erasure's progress.
    #[schema(example = "/api/v1/tenants/acme/erasures/00000000000000000000000000000000")]
    pub url: String,
    /// The certificate. It is present once the erasure is finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<ErasureCertificate>,
}

/// A customer, and the number of rows that are held of them.
#[derive(Serialize, ToSchema)]
pub struct HeldCustomer {
    #[schema(example = "c-7")]
    pub id: String,
    /// Every name with which an order arrived.
    #[schema(example = json!(["Ann Smith"]))]
    pub names: Vec<String>,
    #[schema(example = json!(["ann@example.com"]))]
    pub emails: Vec<String>,
    /// `true` if there are more names and addresses than the server searches for: 64 of each in a shard, half a
    /// megabyte in total.
    pub names_truncated: bool,
    /// `erase` or `pseudonymise` if the customer was erased and later records are suppressed, or `null`.
    pub suppressed: Option<String>,
    pub held: Vec<HeldRows>,
    /// Places that were not searched to their end within ten seconds. More rows may be held there.
    #[schema(example = json!([]))]
    pub unfinished: Vec<String>,
}

/// The number of rows in one place.
#[derive(Serialize, ToSchema)]
pub struct HeldRows {
    #[schema(example = "orders")]
    pub place: String,
    #[schema(example = 12)]
    pub rows: u64,
}

/// One row that is held of a customer. The other members depend on the place.
#[derive(Serialize, ToSchema)]
pub struct HeldRow {
    /// The place, such as `orders`.
    #[schema(example = "orders")]
    pub place: String,
    /// The shard, if the place is in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<u64>,
    /// `certain`, or `possible` for data that may also be someone else's. Absent for rows of the customer's own.
    #[serde(skip_serializing_if = "Option::is_none", rename = "match")]
    pub certainty: Option<String>,
}

/// The last line of an export of a customer's data.
#[derive(Serialize, ToSchema)]
pub struct EndOfHeldRows {
    pub _end: bool,
    /// The number of lines before this one.
    #[schema(example = 12)]
    pub rows: u64,
    /// The number of rows by place. Items are part of the lines of their orders.
    pub held: Vec<HeldRows>,
}
