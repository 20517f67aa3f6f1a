//! The counters of each core's threads, and everything else that observers read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;
use hdrhistogram::Histogram;

use crate::base::counters::Cell;
use crate::config::Config;
use crate::cores::executor::Runtime;
use crate::cores::stop::Stop;
use crate::ingest::Board;
use crate::query::QueryLoad;

/// The statuses that have their own counters. Any other status counts as the last.
pub const STATUSES: [u16; 29] = [
    200, 202, 201, 204, 206, 303, 304, 400, 401, 403, 404, 405, 408, 409, 412, 413, 414, 415, 416, 417, 422,
    429, 431, 500, 501, 503, 505, 507, 0,
];
/// The number of routes with their own counters. The endpoint table has fewer.
pub const ROUTES: usize = 64;
/// The number of problems with their own counters. The catalogue has fewer.
pub const PROBLEMS: usize = 128;

/// Returns an empty latency histogram: 1 us to 60 s at two significant digits, 20 KiB.
#[must_use]
pub fn latency_histogram() -> Histogram<u64> {
    match Histogram::new_with_bounds(1, 60_000_000, 2) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("constant bounds are valid: {error}"),
    }
}

/// A histogram as last published by its owner, with the sum that Prometheus requires.
#[derive(Clone, Debug)]
pub struct Latency {
    pub histogram: Histogram<u64>,
    pub sum_us: u64,
}

impl Default for Latency {
    fn default() -> Latency {
        Latency { histogram: latency_histogram(), sum_us: 0 }
    }
}

/// The upper bounds of the buckets for durations by route, in microseconds.
pub const DURATION_BOUNDS_US: [u64; 12] =
    [250, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000, 30_000_000];

/// The durations of one row of the endpoint table. The last bucket is for values above the last bound.
#[derive(Debug)]
pub struct Durations {
    pub buckets: [Cell; DURATION_BOUNDS_US.len() + 1],
    pub sum_us: Cell,
}

impl Durations {
    const fn new() -> Durations {
        Durations { buckets: [const { Cell::new(0) }; DURATION_BOUNDS_US.len() + 1], sum_us: Cell::new(0) }
    }
}

/// One thread's counters. Only that thread writes them.
#[derive(Debug)]
pub struct LaneVitals {
    pub accepted_events: Cell,
    pub accepted_bytes: Cell,
    pub recv_calls: Cell,
    pub send_calls: Cell,
    pub ticks: Cell,
    pub busy_us: Cell,
    pub connections_opened: Cell,
    pub handed_over: Cell,
    pub buffer_bytes: Cell,
    /// The number of open change streams.
    pub streams: Cell,
    /// The number of times that a stream fell behind and had to continue from the shards.
    pub streams_lagged: Cell,
    /// The number of reads that ended before their responses were complete, because their clients were gone.
    pub reads_abandoned: Cell,
    /// The same, because the server was stopped.
    pub reads_stopped: Cell,
    pub requests: [[Cell; STATUSES.len()]; ROUTES],
    /// The executor's durations, from the head of a request to the end of its response.
    pub durations: [Durations; ROUTES],
    /// Indexed by the order of the problem catalogue.
    pub problems: [Cell; PROBLEMS],
    /// The latency of acknowledged events, from the kernel's report of the request to the end of sending the
    /// response.
    pub ack_latency: ArcSwap<Latency>,
}

impl Default for LaneVitals {
    fn default() -> LaneVitals {
        LaneVitals {
            accepted_events: Cell::default(),
            accepted_bytes: Cell::default(),
            recv_calls: Cell::default(),
            send_calls: Cell::default(),
            ticks: Cell::default(),
            busy_us: Cell::default(),
            connections_opened: Cell::default(),
            handed_over: Cell::default(),
            buffer_bytes: Cell::default(),
            streams: Cell::default(),
            streams_lagged: Cell::default(),
            reads_abandoned: Cell::default(),
            reads_stopped: Cell::default(),
            requests: [const { [const { Cell::new(0) }; STATUSES.len()] }; ROUTES],
            durations: [const { Durations::new() }; ROUTES],
            problems: [const { Cell::new(0) }; PROBLEMS],
            ack_latency: ArcSwap::default(),
        }
    }
}

impl LaneVitals {
    /// Returns the number of a route's responses that had the status at this index of [`STATUSES`].
    #[must_use]
    pub fn requests_of(&self, route: &Route, status: usize) -> u64 {
        route.rows.iter().filter_map(|row| self.requests.get(*row)).map(|counts| counts[status].get()).sum()
    }

    /// Counts a read that ended before its response was complete.
    pub fn count_ended(&self, is_stop: bool) {
        if is_stop { &self.reads_stopped } else { &self.reads_abandoned }.add(1);
    }

    /// Adds the duration of a response. It costs two additions.
    pub fn time_request(&self, row: usize, duration_us: u64) {
        let durations = &self.durations[row.min(ROUTES - 1)];
        durations.buckets[DURATION_BOUNDS_US.partition_point(|bound| *bound < duration_us)].add(1);
        durations.sum_us.add(duration_us);
    }

    pub fn count_request(&self, route: usize, status: u16) {
        let known = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len() - 1);
        self.requests[route.min(ROUTES - 1)][known].add(1);
    }
}

/// One core: its two lanes, and its number of connections. This number is the only count here that several threads
/// write. It changes when a connection opens or closes. New connections go to the core with the fewest.
#[derive(Debug, Default)]
pub struct CoreVitals {
    pub cpu: usize,
    pub hot: CachePadded<LaneVitals>,
    pub executor: CachePadded<LaneVitals>,
    connections: CachePadded<AtomicU64>,
}

impl CoreVitals {
    #[must_use]
    pub fn new(cpu: usize) -> CoreVitals {
        CoreVitals { cpu, ..CoreVitals::default() }
    }

    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub fn connection_opened(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub fn connection_closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The counters of exports, published by the core that runs them.
#[derive(Debug, Default)]
pub struct ExportVitals {
    /// The number of exports that are queued or running.
    pub open: Cell,
    /// The total size of all export files.
    pub bytes: Cell,
    /// The number of rows exported since the start.
    pub rows: Cell,
    pub done: Cell,
    pub failed: Cell,
}

/// The rows counted under one `route` label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub name: &'static str,
    /// Indexes into [`LaneVitals::requests`].
    pub rows: Vec<usize>,
}

/// The data behind `/health`, `/ready` and `/metrics`. Reading it never touches the disk and never waits.
#[derive(Debug)]
pub struct Vitals {
    pub config: Config,
    pub routes: Vec<Route>,
    pub board: Arc<Board>,
    pub cores: Vec<Arc<CoreVitals>>,
    pub exports: ExportVitals,
    pub queries: Arc<QueryLoad>,
    pub stop: Arc<Stop>,
    pub runtime: Runtime,
    pub started_us: i64,
    pub started_monotonic_us: u64,
}

impl Vitals {
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.cores.iter().map(|core| core.connections()).sum()
    }
}
