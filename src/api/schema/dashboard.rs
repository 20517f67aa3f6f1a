//! What the dashboard is told: counters that only grow, and how things stand.

use serde::Serialize;
use utoipa::ToSchema;

/// The numbers of one moment. Rates are the difference of two over that of `monotonic_us`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DashboardState {
    /// Microseconds since 1970.
    pub now_us: i64,
    /// When the server started; counters begin anew where it differs. Microseconds since 1970.
    pub started_us: i64,
    /// A clock that is never set.
    pub monotonic_us: u64,
    #[schema(example = "0.1.0")]
    pub version: &'static str,
    #[schema(example = "io_uring")]
    pub runtime: &'static str,
    #[schema(example = "os")]
    pub ack: &'static str,
    /// Free on the data disk, at most a second old.
    pub disk_free_bytes: Option<u64>,
    /// Null where the kernel does not say.
    pub process: Option<ProcessState>,
    pub cores: Vec<CoreState>,
    pub shards: Vec<ShardNumbers>,
    /// Routes that were asked for.
    pub requests: Vec<RouteState>,
}

/// What the kernel says of the process.
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
    /// The CPU it is pinned to.
    pub cpu: usize,
    pub connections: u64,
    pub accepted_events: u64,
    pub accepted_bytes: u64,
    /// Time its listener did not wait.
    pub busy_us: u64,
    /// From request to answer: (bucket, count), bucket b up to 2^(b / 8) us.
    #[schema(value_type = Vec<Vec<u64>>)]
    pub ack_us: Vec<(u16, u64)>,
}

/// One shard.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ShardNumbers {
    pub shard: u16,
    /// `open`, or in one word why it is not written.
    #[schema(example = "open")]
    pub state: &'static str,
    /// The same in a sentence, where it is not open.
    pub reason: Option<String>,
    /// The outage that lasts, else the last one since the start.
    pub outage: Option<LastOutage>,
    /// Accepted since the data folder was made; received = stored + pending.
    pub received: u64,
    pub stored: u64,
    pub pending: u64,
    pub pending_bytes: u64,
    /// How long the oldest event that is not stored waits at the most.
    pub behind_us: u64,
    /// Segment files of its journals.
    pub journal_bytes: u64,
    pub clicks: u64,
    pub events: u64,
    pub orders: u64,
    pub duplicates: u64,
    pub rejected: u64,
    /// Tables of all streams, as of the last checkpoint.
    pub partitions: u64,
    pub database_bytes: u64,
    pub wal_bytes: u64,
    pub commits: u64,
    /// Durations of transactions: (bucket, count), bucket b up to 2^(b / 8) us.
    #[schema(value_type = Vec<Vec<u64>>)]
    pub commit_us: Vec<(u16, u64)>,
}

/// A stretch of time in which a shard was not written. What was accepted waited in its journals.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LastOutage {
    #[schema(example = "locked")]
    pub what: &'static str,
    pub reason: String,
    /// Microseconds since 1970.
    pub began_us: i64,
    /// Null while it lasts.
    pub ended_us: Option<i64>,
}

/// How often a route was answered.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RouteState {
    #[schema(example = "/event")]
    pub route: &'static str,
    /// (status, count); 0 stands for any status without a count of its own.
    #[schema(value_type = Vec<Vec<u64>>)]
    pub statuses: Vec<(u16, u64)>,
}
