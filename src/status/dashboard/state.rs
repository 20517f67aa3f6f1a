//! `/dashboard/state`: the current counters, from memory and `/proc`, never from the disk.

use hdrhistogram::Histogram;

use super::super::health;
use super::super::shapes::{CoreState, DashboardState, LastOutage, ProcessState, RouteState, ShardNumbers};
use crate::api::reads::json;
use crate::base::clock;
use crate::clicks::CLICKS;
use crate::config::AckLevel;
use crate::events::EVENTS;
use crate::http::Answer;
use crate::ingest::ShardBoard;
use crate::journal::LaneState;
use crate::ops::Process;
use crate::ops::vitals::{CoreVitals, Route, STATUSES, Vitals};
use crate::orders::ORDERS;
use crate::shard::ShardState;

/// The number of buckets per doubling. Values in one bucket differ by less than 9 %.
const BUCKETS_PER_DOUBLING: f64 = 8.0;

/// Answers with everything on the page except a tenant's rows. This takes a third of the time of `/metrics`.
#[must_use]
pub fn state(vitals: &Vitals) -> Answer {
    json(
        200,
        &DashboardState {
            now_us: clock::unix_us(),
            started_us: vitals.started_us,
            monotonic_us: clock::monotonic_us(),
            version: env!("CARGO_PKG_VERSION"),
            runtime: vitals.runtime.name(),
            ack: match vitals.config.ack {
                AckLevel::Os => "os",
                AckLevel::Disk => "disk",
            },
            disk_free_bytes: vitals.board.disk_free(),
            process: Process::read().ok().map(|process| ProcessState {
                resident_bytes: process.resident_bytes,
                cpu_seconds: process.cpu_seconds,
                fds_open: process.fds_open,
                fds_max: process.fds_max,
                threads: process.threads,
            }),
            cores: vitals.cores.iter().enumerate().map(|(core, of)| core_state(core, of)).collect(),
            shards: vitals.board.shards.iter().map(shard_numbers).collect(),
            requests: vitals.routes.iter().filter_map(|route| route_state(route, vitals)).collect(),
        },
    )
}

fn core_state(core: usize, of: &CoreVitals) -> CoreState {
    let mut acks = of.hot.ack_latency.load().histogram.clone();
    // The histograms have the same bounds, so this cannot fail.
    let _ = acks.add(&of.executor.ack_latency.load().histogram);
    CoreState {
        core,
        cpu: of.cpu,
        connections: of.connections(),
        accepted_events: of.hot.accepted_events.get() + of.executor.accepted_events.get(),
        accepted_bytes: of.hot.accepted_bytes.get() + of.executor.accepted_bytes.get(),
        busy_us: of.hot.busy_us.get(),
        ack_us: folded(&acks),
    }
}

fn shard_numbers(board: &ShardBoard) -> ShardNumbers {
    let (status, flow) = (&board.status, board.flow());
    let state = status.state();
    ShardNumbers {
        shard: board.shard.0,
        state: state.name(),
        reason: (state != ShardState::Open).then(|| health::reason(board)),
        outage: status.outage().map(|outage| LastOutage {
            what: outage.what,
            reason: outage.reason.clone(),
            began_us: outage.began_us,
            ended_us: outage.ended_us,
        }),
        received: flow.received,
        stored: flow.processed,
        pending: flow.pending(),
        pending_bytes: flow.pending_bytes,
        behind_us: board.behind_us(),
        journal_bytes: board.lanes.iter().map(|lane| LaneState::bytes_on_disk(lane)).sum(),
        clicks: status.stored(&CLICKS),
        events: status.stored(&EVENTS),
        orders: status.stored(&ORDERS),
        dropped: status.dropped_rows(),
        duplicates: status.duplicates.get(),
        rejected: status.rejected.get(),
        partitions: status.partitions.get(),
        database_bytes: status.database_bytes.get(),
        wal_bytes: status.wal_bytes.get(),
        commits: status.commits.get(),
        commit_us: status.commit_us().map(|histogram| folded(&histogram)).unwrap_or_default(),
    }
}

/// Returns the number of a route's responses by status, or `None` if there were none.
fn route_state(route: &Route, vitals: &Vitals) -> Option<RouteState> {
    let lanes = || vitals.cores.iter().flat_map(|core| [&core.hot, &core.executor]);
    let count = |at: usize| lanes().map(|lane| lane.requests_of(route, at)).sum::<u64>();
    let counts = STATUSES.iter().enumerate().map(|(at, status)| (*status, count(at)));
    let statuses: Vec<(u16, u64)> = counts.filter(|(_, count)| *count > 0).collect();
    (!statuses.is_empty()).then_some(RouteState { route: route.name, statuses })
}

/// Returns a histogram in geometric buckets: (bucket, count), with bucket `b` up to 2^(b / 8) us. Counts only
/// increase, so the difference between two of these histograms is the histogram of the time between them.
fn folded(histogram: &Histogram<u64>) -> Vec<(u16, u64)> {
    let mut buckets: Vec<(u16, u64)> = Vec::new();
    for step in histogram.iter_recorded() {
        let value = histogram.median_equivalent(step.value_iterated_to()).max(1);
        let bucket = ((value as f64).log2() * BUCKETS_PER_DOUBLING).ceil() as u16;
        let count = step.count_at_value();
        match buckets.last_mut() {
            Some((last, sum)) if *last == bucket => *sum += count,
            _ => buckets.push((bucket, count)),
        }
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::vitals::latency_histogram;

    #[test]
    fn a_folded_histogram_keeps_every_count_and_nearly_every_value() {
        let mut histogram = latency_histogram();
        assert_eq!(folded(&histogram), []);
        let values = [1, 1, 2, 3, 90, 100, 1_000, 1_001, 250_000, 60_000_000];
        values.iter().for_each(|value| histogram.record(*value).unwrap());
        let buckets = folded(&histogram);
        assert_eq!(buckets[0], (0, 2), "1 us is its own bucket");
        assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0), "{buckets:?}");
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), 10);
        for value in values {
            let upper = |bucket: u16| (f64::from(bucket) / BUCKETS_PER_DOUBLING).exp2();
            let near = |bucket: u16| (upper(bucket) / value as f64 - 1.0).abs() < 0.11;
            assert!(buckets.iter().any(|(bucket, _)| near(*bucket)), "{value} in {buckets:?}");
        }
    }
}
