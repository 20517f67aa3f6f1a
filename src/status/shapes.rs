//! The shapes of health, readiness and the dashboard's data: counters that only increase, and current states.

use serde::Serialize;
use utoipa::ToSchema;

/// Counters at one moment. A rate is the difference of two samples divided by the difference of their
/// `monotonic_us`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DashboardState {
    /// Microseconds since 1970.
    pub now_us: i64,
    /// The server's start time, in microseconds since 1970. Counters start from zero when it changes.
    pub started_us: i64,
    /// Microseconds on a clock that is never adjusted.
    pub monotonic_us: u64,
    #[schema(example = "0.1.0")]
    pub version: &'static str,
    #[schema(example = "io_uring")]
    pub runtime: &'static str,
    #[schema(example = "os")]
    pub ack: &'static str,
    /// Free bytes on the data disk, at most a second old.
    pub disk_free_bytes: Option<u64>,
    /// Null if the kernel does not report the figures.
    pub process: Option<ProcessState>,
    pub cores: Vec<CoreState>,
    pub shards: Vec<ShardNumbers>,
    /// Routes that have received requests.
    pub requests: Vec<RouteState>,
}

/// The kernel's figures for the process.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct ProcessState {
    pub resident_bytes: u64,
    pub cpu_seconds: f64,
    pub fds_open: u64,
    pub fds_max: u64,
    pub threads: u64,
}

/// One core: its listener and its executor.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CoreState {
    pub core: usize,
    /// The CPU that the core is pinned to.
    pub cpu: usize,
    pub connections: u64,
    pub accepted_events: u64,
    pub accepted_bytes: u64,
    /// How long the core's listener was busy.
    pub busy_us: u64,
    /// Time from request to response: (bucket, count). Bucket b goes up to 2^(b / 8) us.
    #[schema(value_type = Vec<Vec<u64>>)]
    pub ack_us: Vec<(u16, u64)>,
}

/// One shard.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ShardNumbers {
    pub shard: u16,
    /// `open`, or one word that says why the shard is not written.
    #[schema(example = "open")]
    pub state: &'static str,
    /// The state as a sentence, if it is not `open`.
    pub reason: Option<String>,
    /// The current outage. If there is none, the last one since the start.
    pub outage: Option<LastOutage>,
    /// Records accepted since the data folder was created. `received` = `stored` + `pending`.
    pub received: u64,
    pub stored: u64,
    pub pending: u64,
    pub pending_bytes: u64,
    /// Upper bound on the age of the oldest event that is not stored yet.
    pub behind_us: u64,
    /// Total size of the shard's journal segment files.
    pub journal_bytes: u64,
    pub clicks: u64,
    pub events: u64,
    pub orders: u64,
    /// Rows that retention has dropped since the shard was created.
    pub dropped: u64,
    pub duplicates: u64,
    pub rejected: u64,
    /// Number of partition tables over all streams, as of the last checkpoint.
    pub partitions: u64,
    pub database_bytes: u64,
    pub wal_bytes: u64,
    pub commits: u64,
    /// Transaction durations: (bucket, count). Bucket b goes up to 2^(b / 8) us.
    #[schema(value_type = Vec<Vec<u64>>)]
    pub commit_us: Vec<(u16, u64)>,
}

/// A period during which a shard was not written. Accepted records waited in its journals.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LastOutage {
    #[schema(example = "locked")]
    pub what: &'static str,
    pub reason: String,
    /// Microseconds since 1970.
    pub began_us: i64,
    /// Null while the outage lasts.
    pub ended_us: Option<i64>,
}

/// The number of responses for one route.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RouteState {
    #[schema(example = "/event")]
    pub route: &'static str,
    /// Each status and its count. Status 0 covers all statuses without a count of their own.
    #[schema(value_type = Vec<Vec<u64>>)]
    pub statuses: Vec<(u16, u64)>,
}

/// The server's health. Counters continue across restarts: they count from the creation of the data folder.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Health {
    /// `healthy`, or `degraded` while a shard cannot be written, or holds more rows for a sink than `ship_hold_max`.
    /// Events are still accepted in that state.
    #[schema(example = "healthy")]
    pub status: &'static str,
    /// Records accepted but not yet stored: events, orders, and changes of order status, stock and prices.
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
    /// Bytes in the journals that are not yet stored in the database.
    pub queue_bytes: u64,
    pub uptime_seconds: u64,
    #[schema(example = "0.1.0")]
    pub version: &'static str,
    /// `io_uring`, or `epoll` where the kernel or its sandbox refuses io_uring.
    #[schema(example = "io_uring")]
    pub runtime: &'static str,
    /// Number of cores that serve requests.
    pub cores: u16,
    /// What a 202 promises unless the request asks for more: `os` (the event survives the death of the process) or
    /// `disk` (the event survives a power cut).
    #[schema(example = "os")]
    pub ack: &'static str,
    /// Free bytes on the data disk, at most a second old.
    pub disk_free_bytes: Option<u64>,
    pub shards: Vec<ShardHealth>,
}

/// One shard's health.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ShardHealth {
    pub shard: u16,
    /// `ok`, or one word that says why the shard cannot be written.
    #[schema(example = "ok")]
    pub state: &'static str,
    /// The state as a sentence, if it is not `ok`; or what an open shard holds for its sinks, if this needs attention.
    pub reason: Option<String>,
    pub received: u64,
    pub processed: u64,
    pub pending: u64,
    pub pending_bytes: u64,
    pub database_events: u64,
    /// `true` while upkeep is left: ids to sort, sealed partitions to index, or rows to erase or drop. Records are
    /// stored and found meanwhile.
    pub upkeep_pending: bool,
}

/// The server's readiness.
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

/// One check's result and the reason for it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Check {
    pub ok: bool,
    pub reason: String,
}

/// The state of an accepted event.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct ReceiptState {
    /// `pending` while it is only in the journal, `stored` once it is in the database.
    #[schema(example = "stored")]
    pub state: &'static str,
}
