//! The shapes of the answers: serialised as they stand here, and described so in the OpenAPI document.

use serde::Serialize;
use utoipa::ToSchema;

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

/// One broken field.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProblemField {
    /// JSON Pointer (RFC 6901); empty for the whole document.
    #[schema(example = "/timestamp")]
    pub pointer: String,
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
    /// Events accepted and not yet stored.
    #[schema(example = 42)]
    pub queue_size: u64,
    /// Events accepted.
    #[schema(example = 10_000)]
    pub total_received: u64,
    /// Events stored.
    #[schema(example = 9_958)]
    pub total_processed: u64,
    /// Rows in the database.
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
