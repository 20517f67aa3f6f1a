//! The shapes of the answers: serialised as they stand here, and described so in the OpenAPI document.

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

/// One event of a clickstream. Unknown fields are ignored; of two with one name the last counts.
#[derive(Serialize, ToSchema)]
pub struct ClickEvent {
    /// A 64-bit signed integer, written without fraction or exponent.
    #[schema(example = 12345)]
    pub user_id: i64,
    /// An ISO 8601 date-time; without an offset it counts as UTC. Kept to the microsecond.
    #[schema(format = DateTime, example = "2024-01-14T10:30:00Z")]
    pub timestamp: String,
    /// Any JSON value, null included, nested at most 127 levels deep; kept byte for byte.
    #[schema(value_type = Value)]
    pub metadata: Box<serde_json::value::RawValue>,
}

/// The event was accepted; the `Firehose-Ack` header says what that promises.
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
    /// Path of a page that explains this kind of problem; stable.
    #[schema(example = "/docs/problems/invalid-event")]
    pub r#type: String,
    /// The kind of problem in a few words.
    pub title: String,
    /// The HTTP status, once more.
    #[schema(example = 422)]
    pub status: u16,
    /// What was wrong this time.
    pub detail: String,
    /// The request's id, as in the `X-Request-Id` header.
    pub instance: String,
    /// Every broken field, where fields are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<ProblemField>,
    /// Of `queue-full` only: events waiting to be stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub queue_size: Option<u64>,
    /// Of `queue-full` only: bytes waiting to be stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub queue_bytes: Option<u64>,
    /// Of `queue-full` only: how long storing them should take.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub expected_delay_seconds: Option<u64>,
}

/// One broken field: of a body, or of the query string.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProblemField {
    /// Of a row in a request of many: which one, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub index: Option<usize>,
    /// The row's line, from 1, where the body has lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub line: Option<usize>,
    /// Of the query string: the parameter; absent where the server has none of that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "limit")]
    pub parameter: Option<String>,
    /// Of a body: JSON Pointer (RFC 6901); empty for the whole document.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "/timestamp")]
    pub pointer: Option<String>,
    /// Stable code: one of the list in the description of the 422 answer; more may be added.
    #[schema(example = "invalid_timestamp")]
    pub code: String,
    /// One sentence for people.
    pub detail: String,
}

/// How the server is. Counters go on over restarts: they count since the data folder was made.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Health {
    /// `healthy`, or `degraded` while a shard cannot be written (events are still accepted).
    #[schema(example = "healthy")]
    pub status: &'static str,
    /// Records accepted and not yet stored: events, orders, and changes of statuses, stock and prices.
    #[schema(example = 42)]
    pub queue_size: u64,
    /// Events and orders accepted; with them any other record for as long as it waits.
    #[schema(example = 10_000)]
    pub total_received: u64,
    /// Events and orders that are stored, or were there already.
    #[schema(example = 9_958)]
    pub total_processed: u64,
    /// Events and orders in the database.
    #[schema(example = 9_958)]
    pub database_events: u64,
    /// Bytes of the journals that are not yet stored.
    pub queue_bytes: u64,
    pub uptime_seconds: u64,
    #[schema(example = "0.1.0")]
    pub version: &'static str,
    /// `io_uring`, or `epoll` where the kernel or its sandbox refuses io_uring.
    #[schema(example = "io_uring")]
    pub runtime: &'static str,
    /// Cores that serve.
    pub cores: u16,
    /// What a 202 promises unless more is asked for: `os` (survives the death of the process) or `disk`
    /// (survives a power cut).
    #[schema(example = "os")]
    pub ack: &'static str,
    pub shards: Vec<ShardHealth>,
}

/// How one shard is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ShardHealth {
    pub shard: u16,
    /// `ok`, or in one word why it cannot be written.
    #[schema(example = "ok")]
    pub state: &'static str,
    /// The state in a sentence, where it is not `ok`.
    pub reason: Option<String>,
    pub received: u64,
    pub processed: u64,
    pub pending: u64,
    pub pending_bytes: u64,
    pub database_events: u64,
}

/// Whether the server should be sent requests.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Ready {
    /// `ready`, `not_ready` or `draining`.
    #[schema(example = "ready")]
    pub status: &'static str,
    pub checks: Checks,
}

/// What readiness depends on.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Checks {
    pub shards: Check,
    pub journal: Check,
    pub disk: Check,
}

/// One check and why it came out so.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Check {
    pub ok: bool,
    pub reason: String,
}

/// Where an accepted event is.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct ReceiptState {
    /// `pending` while it is only in the journal, `stored` once it is in the database.
    #[schema(example = "stored")]
    pub state: &'static str,
}

/// One event of the events service. Unknown fields are ignored; of two with one name the last counts.
#[derive(Serialize, ToSchema)]
pub struct ServiceEvent {
    /// 1 to 200 bytes without control characters; the tenant's own name for the event, stored once.
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
    /// An RFC 3339 date-time with an offset. Kept to the microsecond.
    #[schema(format = DateTime, example = "2024-01-15T10:30:00Z")]
    pub timestamp: String,
    /// A JSON object of at most 64 KiB; kept byte for byte.
    #[schema(value_type = Object)]
    pub payload: Box<serde_json::value::RawValue>,
}

/// Up to 5,000 events. The same rows may be sent as NDJSON, one a line.
#[derive(Serialize, ToSchema)]
pub struct BulkEvents {
    #[schema(min_items = 1, max_items = 5000)]
    pub events: Vec<ServiceEvent>,
}

/// What became of one event.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct EventResult<'r> {
    /// `created`, `duplicate` (the first one stands) or `accepted` (journaled, and checked for duplicates
    /// when it is committed).
    #[schema(example = "created")]
    pub status: &'static str,
    #[schema(example = "evt_001")]
    pub event_id: &'r str,
    /// The one that stands has other content.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub conflict: Option<bool>,
}

/// What became of a bulk request: received = inserted + duplicates + rejected + pending.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BulkResult<'r> {
    pub received: usize,
    pub inserted: usize,
    /// Ids that were there already, conflicts included.
    pub duplicates: usize,
    /// Rows that are not stored, each with the reason.
    pub rejected: usize,
    /// Rows that are in the journal and not yet committed.
    pub pending: usize,
    /// The rows that were not inserted, in the order of the request.
    pub results: Vec<BulkRow<'r>>,
}

/// What became of one row that was not inserted.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct BulkRow<'r> {
    pub index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub event_id: Option<&'r str>,
    /// `duplicate`, `conflict`, `rejected` or `pending`.
    #[schema(example = "duplicate")]
    pub result: &'static str,
    /// Why it was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub code: Option<&'static str>,
    /// JSON Pointer to the first broken field of the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub pointer: Option<&'static str>,
    /// Its line, from 1, in an NDJSON body.
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
    /// As it was sent, byte for byte.
    #[schema(value_type = Object)]
    pub payload: Box<serde_json::value::RawValue>,
    /// When it was accepted, UTC.
    #[schema(format = DateTime, example = "2024-01-15T10:30:00.123456Z")]
    pub received_at: String,
}

/// A page of events, ordered by timestamp and event id.
#[derive(Serialize, ToSchema)]
pub struct EventPage {
    pub events: Vec<StoredEvent>,
    /// The number that was asked for; absent where a cursor was.
    pub page: Option<u64>,
    pub page_size: u64,
    /// Rows of the whole answer, as of its first page.
    pub total: u64,
    /// For the page behind this one; null at the end.
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
    /// As it was sent, byte for byte.
    #[schema(value_type = Value)]
    pub metadata: Box<serde_json::value::RawValue>,
    /// When it was accepted, UTC.
    #[schema(format = DateTime, example = "2024-01-14T10:30:00.123456Z")]
    pub received_at: String,
}

/// A page of the collector's events, ordered by timestamp and user.
#[derive(Serialize, ToSchema)]
pub struct ClickPage {
    pub events: Vec<StoredClick>,
    /// The number that was asked for; absent where a cursor was.
    pub page: Option<u64>,
    pub page_size: u64,
    /// Rows of the whole answer, as of its first page.
    pub total: u64,
    /// For the page behind this one; null at the end.
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

/// The events of one source and type in one bucket; buckets without events are left out.
#[derive(Serialize, ToSchema)]
pub struct Metric {
    /// UTC; with `tz`, the instant at which the bucket begins there.
    #[schema(format = DateTime, example = "2024-01-15T10:00:00Z")]
    pub bucket_start: String,
    #[schema(example = "web")]
    pub source: String,
    #[schema(example = "click")]
    pub event_type: String,
    pub count: u64,
    /// Earliest timestamp in it.
    #[schema(format = DateTime, example = "2024-01-15T10:01:00Z")]
    pub first_at: String,
    /// Latest timestamp in it.
    #[schema(format = DateTime, example = "2024-01-15T10:59:00Z")]
    pub last_at: String,
}
