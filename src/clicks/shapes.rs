//! The shapes of clicks in requests and responses.

use serde::Serialize;
use utoipa::ToSchema;

/// One event of a clickstream. Unknown fields are ignored. If a field is repeated, the last one counts.
#[derive(Serialize, ToSchema)]
pub struct ClickEvent {
    /// A 64-bit signed integer, written without fraction or exponent.
    #[schema(example = 12345)]
    pub user_id: i64,
    /// An ISO 8601 date-time. Without an offset, it is in UTC. It is stored to the microsecond.
    #[schema(format = DateTime, example = "2024-01-14T10:30:00Z")]
    pub timestamp: String,
    /// Any JSON value, including null, nested at most 127 levels deep. It is stored byte for byte.
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

/// A stored click.
#[derive(Serialize, ToSchema)]
pub struct StoredClick {
    #[schema(example = 12345)]
    pub user_id: i64,
    /// The event's time, in UTC.
    #[schema(format = DateTime, example = "2024-01-14T10:30:00Z")]
    pub timestamp: String,
    /// Exactly the bytes that were sent.
    #[schema(value_type = Value)]
    pub metadata: Box<serde_json::value::RawValue>,
    /// When the event was accepted, in UTC.
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
    /// Number of rows in the whole result, as of when its first page was read.
    pub total: u64,
    /// Cursor of the next page. Null on the last page.
    pub next_cursor: Option<String>,
}
