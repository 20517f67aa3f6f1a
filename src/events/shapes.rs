//! The shapes of events in requests and responses.

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::schema::texts::{Identifier, Name};

/// One event of the events service. Unknown fields are ignored. If a field is repeated, the last one counts.
#[derive(Serialize, ToSchema)]
pub struct ServiceEvent {
    /// The tenant's own name for the event: 1 to 200 bytes without control characters. Each id is stored once.
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
    /// An RFC 3339 date-time with an offset. It is stored to the microsecond.
    #[schema(format = DateTime, example = "2024-01-15T10:30:00Z")]
    pub timestamp: String,
    /// A JSON object of at most 64 KiB. It is stored byte for byte.
    #[schema(value_type = Object)]
    pub payload: Box<serde_json::value::RawValue>,
}

/// Up to 5,000 events. The same rows may be sent as NDJSON, one per line.
#[derive(Serialize, ToSchema)]
pub struct BulkEvents {
    #[schema(min_items = 1, max_items = 5000)]
    pub events: Vec<ServiceEvent>,
}

/// One event's outcome.
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

/// The outcome of a bulk request. `received` = `inserted` + `duplicates` + `rejected` + `pending`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BulkResult<'r> {
    pub received: usize,
    pub inserted: usize,
    /// Rows whose id was stored before, including conflicts.
    pub duplicates: usize,
    /// Rows that were not stored. `results` lists the reasons.
    pub rejected: usize,
    /// Rows that are in the journal but not committed yet.
    pub pending: usize,
    /// The rows that were not inserted, in request order.
    pub results: Vec<BulkRow<'r>>,
}

/// The outcome of one row that was not inserted.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct BulkRow<'r> {
    pub index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub event_id: Option<&'r str>,
    /// `duplicate`, `conflict`, `rejected` or `pending`.
    #[schema(example = "duplicate")]
    pub result: &'static str,
    /// Why the row was rejected.
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
    /// The event's time, in UTC.
    #[schema(format = DateTime, example = "2024-01-15T10:30:00Z")]
    pub timestamp: String,
    /// Exactly the bytes that were sent.
    #[schema(value_type = Object)]
    pub payload: Box<serde_json::value::RawValue>,
    /// When the event was accepted, in UTC.
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
    /// Number of rows in the whole result, as of when its first page was read.
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

/// The number of a tenant's events by group, and how it was computed.
#[derive(Serialize, ToSchema)]
pub struct EventSummary {
    /// Sorted by time or name. Groups without an event are omitted.
    pub groups: Vec<EventGroup>,
    pub total: EventTotal,
    pub meta: SummaryMeta,
}

/// The events of one type, source, hour or day.
#[derive(Serialize, ToSchema)]
pub struct EventGroup {
    /// A type, a source, the start of an hour in UTC, or a date.
    #[schema(example = "click")]
    pub key: String,
    #[schema(example = 42)]
    pub count: u64,
    /// Earliest timestamp in the group.
    #[schema(format = DateTime, example = "2024-01-15T10:01:00Z")]
    pub first_at: String,
    /// Latest timestamp in the group.
    #[schema(format = DateTime, example = "2024-01-15T10:59:00Z")]
    pub last_at: String,
}

/// All events of the period.
#[derive(Serialize, ToSchema)]
pub struct EventTotal {
    #[schema(example = 42)]
    pub count: u64,
    /// Null if there is no event.
    #[schema(format = DateTime, example = "2024-01-15T10:01:00Z")]
    pub first_at: Option<String>,
    #[schema(format = DateTime, example = "2024-01-15T10:59:00Z")]
    pub last_at: Option<String>,
}

/// How a summary was computed.
#[derive(Serialize, ToSchema)]
pub struct SummaryMeta {
    /// Always `exact`.
    #[schema(example = "exact")]
    pub precision: &'static str,
    /// Number of rows and buckets read.
    pub rows_scanned: u64,
    /// `true` if the answer comes from buckets that are updated together with the events, and from rows only at the
    /// ends of the period.
    pub preaggregated: bool,
    /// Every event that was stored by then is counted.
    #[schema(format = DateTime, example = "2026-03-01T12:00:02Z")]
    pub as_of: String,
    #[schema(example = 1.4)]
    pub elapsed_ms: f64,
}

/// The number of distinct values in a tenant's events, and how it was computed.
#[derive(Serialize, ToSchema)]
pub struct UniqueValues {
    /// The value, as it was requested.
    #[schema(example = "payload.user.id")]
    pub by: String,
    /// Number of distinct values.
    #[schema(example = 17)]
    pub count: u64,
    /// Number of events in the period.
    #[schema(example = 42)]
    pub events: u64,
    /// Number of events whose payload has no value at the path. An event with the value `null` has one.
    #[schema(example = 3)]
    pub missing: u64,
    pub meta: UniqueMeta,
}

/// How a number of distinct values was computed.
#[derive(Serialize, ToSchema)]
pub struct UniqueMeta {
    /// `exact` for up to 100,000 values, otherwise `approx`.
    #[schema(example = "exact")]
    pub precision: &'static str,
    pub method: UniqueMethod,
    /// The relative standard error of `count`. Empty if `precision` is `exact`.
    #[schema(value_type = Object)]
    pub error_bounds: serde_json::Value,
    /// Number of rows and buckets read.
    pub rows_scanned: u64,
    /// `true` if the answer comes from buckets that are updated together with the events.
    pub preaggregated: bool,
    /// Every event that was stored by then is counted.
    #[schema(format = DateTime, example = "2026-03-01T12:00:02Z")]
    pub as_of: String,
    #[schema(example = 1.4)]
    pub elapsed_ms: f64,
}

/// Where the number of distinct values comes from.
#[derive(Serialize, ToSchema)]
pub struct UniqueMethod {
    /// `set of 128-bit hashes` or `hyperloglog p=14`.
    #[schema(example = "set of 128-bit hashes")]
    pub count: &'static str,
}
