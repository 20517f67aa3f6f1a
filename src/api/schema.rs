//! The shapes of responses: serialised from these types, and described by them in the OpenAPI document.

pub mod commerce;
pub mod dashboard;
pub mod exports;
pub mod people;
pub mod prices;
pub mod stock;
pub mod texts;

use serde::Serialize;
use utoipa::ToSchema;

use self::texts::{Identifier, Name};

/// One event of a clickstream. Unknown fields are ignored. If a field is repeated, the last one counts.
#[derive(Serialize, ToSchema)]
pub struct ClickEvent {
    /// A 64-bit signed integer, written without fraction or exponent.
    #[schema(example = 12345)]
    pub user_id: i64,
    /// An ISO 8601 date-time. Without an offset it is UTC. Stored to the microsecond.
    #[schema(format = DateTime, example = "2024-01-14T10:30:00Z")]
    pub timestamp: String,
    /// Any JSON value, including null, nested at most 127 levels deep. Stored byte for byte.
    #[schema(value_type = Value)]
    pub metadata: Box<serde_json::value::RawValue>,
}

/// The event is accepted. The `Firehose-Ack` header names the promise.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Accepted {
    #[schema(example = "accepted")]
    pub status: &'static str,
    #[schema(example = "Event queued for processing")]
    pub message: &'static str,
}

/// The body of every 202 of `POST /event`.
pub const ACCEPTED: Accepted = Accepted { status: "accepted", message: "Event queued for processing" };

/// A problem document (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDocument {
    /// Path of a page that explains this type of problem. Stable.
    #[schema(example = "/docs/problems/invalid-event")]
    pub r#type: String,
    /// The type of problem in a few words.
    pub title: String,
    /// The HTTP status code, repeated.
    #[schema(example = 422)]
    pub status: u16,
    /// The fault of this request.
    pub detail: String,
    /// The request's id, as in the `X-Request-Id` header.
    pub instance: String,
    /// Every invalid field, if fields are invalid.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<ProblemField>,
    /// Events waiting to be stored. Only in `queue-full`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub queue_size: Option<u64>,
    /// Bytes waiting to be stored. Only in `queue-full`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub queue_bytes: Option<u64>,
    /// Expected time until they are stored. Only in `queue-full`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub expected_delay_seconds: Option<u64>,
}

/// One invalid field of a body, or one invalid query parameter.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProblemField {
    /// Index of the row, from 0, if the request has many rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub index: Option<usize>,
    /// Line number of the row, from 1, if the body has lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub line: Option<usize>,
    /// Name of the invalid query parameter. Absent if the server has no parameter of that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "limit")]
    pub parameter: Option<String>,
    /// JSON Pointer (RFC 6901) into the body. Empty for the whole document.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "/timestamp")]
    pub pointer: Option<String>,
    /// Stable code, one of those listed in the description of the 422 response. More may be added.
    #[schema(example = "invalid_timestamp")]
    pub code: String,
    /// One sentence for people.
    pub detail: String,
}

/// Health of the server. Counters continue across restarts: they count from the creation of the data folder.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Health {
    /// `healthy`, or `degraded` while a shard cannot be written. Events are still accepted then.
    #[schema(example = "healthy")]
    pub status: &'static str,
    /// Records accepted and not yet stored: events, orders, and changes of order status, stock and prices.
    #[schema(example = 42)]
    pub queue_size: u64,
    /// Events and orders accepted, plus other records that are not yet stored.
    #[schema(example = 10_000)]
    pub total_received: u64,
    /// Events and orders that are stored or were found to be duplicates.
    #[schema(example = 9_958)]
    pub total_processed: u64,
    /// Events and orders in the database.
    #[schema(example = 9_958)]
    pub database_events: u64,
    /// Bytes in the journals that are not yet stored.
    pub queue_bytes: u64,
    pub uptime_seconds: u64,
    #[schema(example = "0.1.0")]
    pub version: &'static str,
    /// `io_uring`, or `epoll` where the kernel or its sandbox refuses io_uring.
    #[schema(example = "io_uring")]
    pub runtime: &'static str,
    /// Number of cores that serve requests.
    pub cores: u16,
    /// The promise of a 202 unless the request asks for more: `os` (survives the death of the process) or
    /// `disk` (survives a power cut).
    #[schema(example = "os")]
    pub ack: &'static str,
    pub shards: Vec<ShardHealth>,
}

/// Health of one shard.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ShardHealth {
    pub shard: u16,
    /// `ok`, or one word for why the shard cannot be written.
    #[schema(example = "ok")]
    pub state: &'static str,
    /// The state in a sentence, if it is not `ok`.
    pub reason: Option<String>,
    pub received: u64,
    pub processed: u64,
    pub pending: u64,
    pub pending_bytes: u64,
    pub database_events: u64,
}

/// Readiness of the server.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Ready {
    /// `ready`, `not_ready` or `draining`.
    #[schema(example = "ready")]
    pub status: &'static str,
    pub checks: Checks,
}

/// The checks that readiness depends on.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Checks {
    pub shards: Check,
    pub journal: Check,
    pub disk: Check,
}

/// The result of one check and its reason.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Check {
    pub ok: bool,
    pub reason: String,
}

/// State of an accepted event.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct ReceiptState {
    /// `pending` while it is only in the journal, `stored` once it is in the database.
    #[schema(example = "stored")]
    pub state: &'static str,
}

/// One event of the events service. Unknown fields are ignored. If a field is repeated, the last one counts.
#[derive(Serialize, ToSchema)]
pub struct ServiceEvent {
    /// 1 to 200 bytes without control characters. The tenant's own name for the event, stored once.
    #[schema(value_type = Identifier)]
    pub event_id: String,
    /// 1 to 200 bytes without control characters.
    #[schema(value_type = Identifier)]
    pub tenant_id: String,
    /// 1 to 100 bytes without control characters.
    #[schema(value_type = Name)]
    pub source: String,
    /// 1 to 100 bytes without control characters.
    #[schema(value_type = Name)]
    pub event_type: String,
    /// An RFC 3339 date-time with an offset. Stored to the microsecond.
    #[schema(format = DateTime, example = "2024-01-15T10:30:00Z")]
    pub timestamp: String,
    /// A JSON object of at most 64 KiB. Stored byte for byte.
    #[schema(value_type = Object)]
    pub payload: Box<serde_json::value::RawValue>,
}

/// Up to 5,000 events. The same rows may be sent as NDJSON, one per line.
#[derive(Serialize, ToSchema)]
pub struct BulkEvents {
    #[schema(min_items = 1, max_items = 5000)]
    pub events: Vec<ServiceEvent>,
}

/// Outcome of one event.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct EventResult<'r> {
    /// `created`, `duplicate` (the first event remains) or `accepted` (in the journal; the duplicate check
    /// happens at commit).
    #[schema(example = "created")]
    pub status: &'static str,
    #[schema(example = "evt_001")]
    pub event_id: &'r str,
    /// `true` if the stored event has different content.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub conflict: Option<bool>,
}

/// Outcome of a bulk request. received = inserted + duplicates + rejected + pending.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BulkResult<'r> {
    pub received: usize,
    pub inserted: usize,
    /// Rows whose id was stored before, including conflicts.
    pub duplicates: usize,
    /// Rows that were not stored. `results` gives the reasons.
    pub rejected: usize,
    /// Rows that are in the journal and not yet committed.
    pub pending: usize,
    /// The rows that were not inserted, in request order.
    pub results: Vec<BulkRow<'r>>,
}

/// Outcome of one row that was not inserted.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct BulkRow<'r> {
    pub index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub event_id: Option<&'r str>,
    /// `duplicate`, `conflict`, `rejected` or `pending`.
    #[schema(example = "duplicate")]
    pub result: &'static str,
    /// Reason of the rejection.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub code: Option<&'static str>,
    /// JSON Pointer to the first invalid field of the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub pointer: Option<&'static str>,
    /// Line number, from 1, in an NDJSON body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub line: Option<usize>,
}

/// A stored event of the events service.
#[derive(Serialize, ToSchema)]
pub struct StoredEvent {
    #[schema(example = "evt_001")]
    pub event_id: String,
    #[schema(example = "tenant_1")]
    pub tenant_id: String,
    #[schema(example = "web")]
    pub source: String,
    #[schema(example = "click")]
    pub event_type: String,
    /// UTC.
    #[schema(format = DateTime, example = "2024-01-15T10:30:00Z")]
    pub timestamp: String,
    /// The bytes that were sent.
    #[schema(value_type = Object)]
    pub payload: Box<serde_json::value::RawValue>,
    /// Time of acceptance, UTC.
    #[schema(format = DateTime, example = "2024-01-15T10:30:00.123456Z")]
    pub received_at: String,
}

/// A page of events, ordered by timestamp and event id.
#[derive(Serialize, ToSchema)]
pub struct EventPage {
    pub events: Vec<StoredEvent>,
    /// The requested page number. Absent if the request had a cursor.
    pub page: Option<u64>,
    pub page_size: u64,
    /// Number of rows in the whole result, as of its first page.
    pub total: u64,
    /// Cursor of the next page. Null on the last page.
    pub next_cursor: Option<String>,
}

/// A stored event of the collector.
#[derive(Serialize, ToSchema)]
pub struct StoredClick {
    #[schema(example = 12345)]
    pub user_id: i64,
    /// UTC.
    #[schema(format = DateTime, example = "2024-01-14T10:30:00Z")]
    pub timestamp: String,
    /// The bytes that were sent.
    #[schema(value_type = Value)]
    pub metadata: Box<serde_json::value::RawValue>,
    /// Time of acceptance, UTC.
    #[schema(format = DateTime, example = "2024-01-14T10:30:00.123456Z")]
    pub received_at: String,
}

/// A page of the collector's events, ordered by timestamp and user.
#[derive(Serialize, ToSchema)]
pub struct ClickPage {
    pub events: Vec<StoredClick>,
    /// The requested page number. Absent if the request had a cursor.
    pub page: Option<u64>,
    pub page_size: u64,
    /// Number of rows in the whole result, as of its first page.
    pub total: u64,
    /// Cursor of the next page. Null on the last page.
    pub next_cursor: Option<String>,
}

/// Counts of a tenant's events over time.
#[derive(Serialize, ToSchema)]
pub struct Metrics {
    #[schema(example = "tenant_1")]
    pub tenant_id: String,
    /// `minute`, `hour` or `day`.
    #[schema(example = "hour")]
    pub bucket_size: String,
    pub metrics: Vec<Metric>,
}

/// The events of one source and type in one bucket. Empty buckets are omitted.
#[derive(Serialize, ToSchema)]
pub struct Metric {
    /// Start of the bucket, UTC. With `tz`, buckets begin as they do in that zone.
    #[schema(format = DateTime, example = "2024-01-15T10:00:00Z")]
    pub bucket_start: String,
    #[schema(example = "web")]
    pub source: String,
    #[schema(example = "click")]
    pub event_type: String,
    pub count: u64,
    /// Earliest timestamp in the bucket.
    #[schema(format = DateTime, example = "2024-01-15T10:01:00Z")]
    pub first_at: String,
    /// Latest timestamp in the bucket.
    #[schema(format = DateTime, example = "2024-01-15T10:59:00Z")]
    pub last_at: String,
}
