//! `/metrics`: every counter of every core, in Prometheus text or OpenMetrics. Labels are cores, shards, lanes,
//! routes and codes, never a string from a client.

use crate::api::{Asked, Problem};
use crate::base::clock;
use crate::clicks::CLICKS;
use crate::events::EVENTS;
use crate::http::Answer;
use crate::ops::vitals::{CoreVitals, DURATION_BOUNDS_US, LaneVitals, STATUSES, Vitals};
use crate::ops::{Format, Kind, Page, write_process_families};
use crate::orders::ORDERS;
use crate::prices::PRICE_ROWS;
use crate::shard::{DropReason, ShardState};
use crate::stock::STOCK_EVENTS;

/// The upper bounds of the latency buckets, in seconds.
const BOUNDS_S: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Answers with the page in the requested format.
#[must_use]
pub fn answer(asked: &Asked<'_>) -> Answer {
    Answer::new(200, asked.format.content_type(), page(asked.vitals, asked.format).into_bytes())
}

/// Renders the whole page. Takes about 300 us on the calling thread.
#[must_use]
pub(super) fn page(vitals: &Vitals, format: Format) -> String {
    let mut page = Page::new(format);
    build_info(&mut page, vitals);
    flow(&mut page, vitals);
    lanes(&mut page, vitals);
    queries(&mut page, vitals);
    requests(&mut page, vitals);
    latencies(&mut page, vitals);
    shards(&mut page, vitals);
    journals(&mut page, vitals);
    page.family(
        "firehose_disk_free_bytes",
        Kind::Gauge,
        "Free space on the data disk, at most a second old.",
        "bytes",
    );
    page.sample(&[], vitals.board.disk_free_bytes.get());
    exports(&mut page, vitals);
    write_process_families(&mut page);
    page.finish()
}

fn exports(page: &mut Page, vitals: &Vitals) {
    let of = &vitals.exports;
    page.family("firehose_exports_open", Kind::Gauge, "Exports that are queued or running.", "");
    page.sample(&[], of.open.get());
    page.family("firehose_export_files_bytes", Kind::Gauge, "Bytes in the files of all exports.", "bytes");
    page.sample(&[], of.bytes.get());
    page.family("firehose_export_rows", Kind::Counter, "Rows written to exports since the start.", "");
    page.sample(&[], of.rows.get());
    page.family(
        "firehose_exports_ended",
        Kind::Counter,
        "Exports that ended since the start, by outcome.",
        "",
    );
    page.sample(&[("state", "done")], of.done.get());
    page.sample(&[("state", "failed")], of.failed.get());
}

fn build_info(page: &mut Page, vitals: &Vitals) {
    page.family("firehose_build_info", Kind::Gauge, "Version and runtime. Always 1.", "");
    page.sample(&[("version", env!("CARGO_PKG_VERSION")), ("runtime", vitals.runtime.name())], 1u64);
    page.family("firehose_uptime_seconds", Kind::Gauge, "Time since the server started.", "seconds");
    page.sample(&[], (clock::monotonic_us() - vitals.started_monotonic_us) as f64 / 1e6);
}

/// Writes one family with a sample for each shard.
fn by_shard(
    page: &mut Page,
    vitals: &Vitals,
    name: &'static str,
    kind: Kind,
    help: &str,
    unit: &str,
    of: impl Fn(&crate::ingest::ShardBoard) -> f64,
) {
    page.family(name, kind, help, unit);
    for board in &vitals.board.shards {
        page.sample(&[("shard", &board.shard.to_string())], of(board));
    }
}

fn flow(page: &mut Page, vitals: &Vitals) {
    by_shard(
        page,
        vitals,
        "firehose_received_events",
        Kind::Counter,
        "Events accepted into the journals since the data folder was created.",
        "",
        |b| b.flow().received as f64,
    );
    by_shard(
        page,
        vitals,
        "firehose_stored_events",
        Kind::Counter,
        "Records applied to the database since the data folder was created. received = stored + queued.",
        "",
        |b| b.flow().processed as f64,
    );
    by_shard(
        page,
        vitals,
        "firehose_queue_events",
        Kind::Gauge,
        "Events accepted and not yet stored.",
        "",
        |b| b.flow().pending() as f64,
    );
    by_shard(
        page,
        vitals,
        "firehose_queue_bytes",
        Kind::Gauge,
        "Bytes in the journals that are not yet stored.",
        "bytes",
        |b| b.flow().pending_bytes as f64,
    );
    by_shard(
        page,
        vitals,
        "firehose_upkeep_pending",
        Kind::Gauge,
        "1 while ids are to be sorted, sealed partitions to be indexed, or rows to be erased or dropped.",
        "",
        |b| b.status.upkeep_pending.get() as f64,
    );
    by_shard(
        page,
        vitals,
        "firehose_price_changes",
        Kind::Counter,
        "Price anomalies and decisions on them since the start.",
        "",
        |b| b.status.changes.get() as f64,
    );
    by_shard(
        page,
        vitals,
        "firehose_oldest_unflushed_seconds",
        Kind::Gauge,
        "Upper bound on the age of the oldest event that is not stored. 0 if there is none.",
        "seconds",
        |b| b.behind_us() as f64 / 1e6,
    );
}

/// Returns both lanes of every core, with their labels.
fn each_lane(vitals: &Vitals) -> impl Iterator<Item = (String, &'static str, &CoreVitals, &LaneVitals)> {
    vitals.cores.iter().enumerate().flat_map(|(core, of)| {
        let lanes: [(&'static str, &LaneVitals); 2] = [("hot", &of.hot), ("executor", &of.executor)];
        lanes.map(|(lane, counted)| (core.to_string(), lane, &**of, counted))
    })
}

fn lanes(page: &mut Page, vitals: &Vitals) {
    type Of = fn(&LaneVitals) -> f64;
    let counters: [(&'static str, &str, &str, Of); 9] = [
        ("firehose_accepted_events", "Events accepted, by core and lane.", "", |l| {
            l.accepted_events.get() as f64
        }),
        ("firehose_accepted_bytes", "Body bytes of accepted events.", "bytes", |l| {
            l.accepted_bytes.get() as f64
        }),
        ("firehose_recv_calls", "recv system calls.", "", |l| l.recv_calls.get() as f64),
        ("firehose_send_calls", "send system calls.", "", |l| l.send_calls.get() as f64),
        ("firehose_ticks", "Turns of the loop. Each makes at most one journal write.", "", |l| {
            l.ticks.get() as f64
        }),
        (
            "firehose_core_busy_seconds",
            "Time not spent waiting. Its rate is the busy ratio of the lane.",
            "seconds",
            |l| l.busy_us.get() as f64 / 1e6,
        ),
        ("firehose_connections_accepted", "Connections accepted.", "", |l| l.connections_opened.get() as f64),
        (
            "firehose_connections_handed_over",
            "Connections handed from the hot lane to the executor.",
            "",
            |l| l.handed_over.get() as f64,
        ),
        (
            "firehose_streams_lagged",
            "Times that a stream of changes fell behind and continued from the shards.",
            "",
            |l| l.streams_lagged.get() as f64,
        ),
    ];
    for (name, help, unit, of) in counters {
        page.family(name, Kind::Counter, help, unit);
        for (core, lane, _, counted) in each_lane(vitals) {
            page.sample(&[("core", &core), ("lane", lane)], of(counted));
        }
    }
    page.family(
        "firehose_buffer_bytes",
        Kind::Gauge,
        "Memory held for incomplete requests and unsent responses.",
        "bytes",
    );
    for (core, lane, _, counted) in each_lane(vitals) {
        page.sample(&[("core", &core), ("lane", lane)], counted.buffer_bytes.get());
    }
    page.family("firehose_streams", Kind::Gauge, "Open streams of changes.", "");
    for (core, of) in vitals.cores.iter().enumerate() {
        page.sample(&[("core", &core.to_string())], of.executor.streams.get());
    }
    page.family("firehose_connections", Kind::Gauge, "Open connections.", "");
    for (core, of) in vitals.cores.iter().enumerate() {
        page.sample(&[("core", &core.to_string())], of.connections());
    }
}

fn queries(page: &mut Page, vitals: &Vitals) {
    let load = &vitals.queries;
    page.family("firehose_queries", Kind::Gauge, "Queries that are open. Their number is limited.", "");
    page.sample(&[], load.running() as u64);
    page.family("firehose_query_steps_waiting", Kind::Gauge, "Steps of queries that wait for a reader.", "");
    page.sample(&[], load.waiting_steps() as u64);
    page.family(
        "firehose_queries_refused",
        Kind::Counter,
        "Queries refused with 503: all places were taken, or a tenant had its share of them.",
        "",
    );
    let (all, share) = load.refusals();
    page.sample(&[("reason", "all_places")], all);
    page.sample(&[("reason", "tenant_share")], share);
    page.family(
        "firehose_reads_ended",
        Kind::Counter,
        "Reads that ended before their response was complete: the client was gone, or the server was stopped.",
        "",
    );
    let sum = |of: fn(&LaneVitals) -> u64| each_lane(vitals).map(|(_, _, _, lane)| of(lane)).sum::<u64>();
    page.sample(&[("reason", "client_gone")], sum(|lane| lane.reads_abandoned.get()));
    page.sample(&[("reason", "stopped")], sum(|lane| lane.reads_stopped.get()));
}

fn requests(page: &mut Page, vitals: &Vitals) {
    let sum =
        |of: &dyn Fn(&LaneVitals) -> u64| each_lane(vitals).map(|(_, _, _, lane)| of(lane)).sum::<u64>();
    page.family("firehose_http_requests", Kind::Counter, "Requests answered.", "");
    for route in &vitals.routes {
        for (at, status) in STATUSES.iter().enumerate() {
            let count = sum(&|lane| lane.requests_of(route, at));
            if count > 0 {
                let code = if *status == 0 { "other".to_owned() } else { status.to_string() };
                page.sample(&[("route", route.name), ("code", &code)], count);
            }
        }
    }
    page.family("firehose_rejected", Kind::Counter, "Requests refused, by slug of the problem.", "");
    for problem in Problem::ALL {
        page.sample(&[("code", problem.slug())], sum(&|lane| lane.problems[*problem as usize].get()));
    }
}

fn latencies(page: &mut Page, vitals: &Vitals) {
    page.family(
        "firehose_ack_latency_seconds",
        Kind::Histogram,
        "Time from the kernel's report of a request to the end of its 202, at most a second old.",
        "seconds",
    );
    for (core, lane, _, counted) in each_lane(vitals) {
        let latency = counted.ack_latency.load();
        page.histogram(
            &[("core", &core), ("lane", lane)],
            &latency.histogram,
            BOUNDS_S,
            latency.sum_us as f64 / 1e6,
        );
    }
    page.family(
        "firehose_commit_latency_seconds",
        Kind::Histogram,
        "Duration of a shard's transactions.",
        "seconds",
    );
    for board in &vitals.board.shards {
        if let Some(histogram) = board.status.commit_us() {
            let sum_s = histogram.mean() * histogram.len() as f64 / 1e6;
            page.histogram(&[("shard", &board.shard.to_string())], &histogram, BOUNDS_S, sum_s);
        }
    }
    page.family(
        "firehose_db_statement_duration_seconds",
        Kind::Summary,
        "Quantiles of the duration of a shard's transactions.",
        "seconds",
    );
    for board in &vitals.board.shards {
        if let Some(histogram) = board.status.commit_us() {
            let sum_s = histogram.mean() * histogram.len() as f64 / 1e6;
            let quantiles = [(0.5, "0.5"), (0.95, "0.95")];
            page.summary(&[("shard", &board.shard.to_string())], &histogram, &quantiles, sum_s);
        }
    }
    by_route(page, vitals);
}

/// Writes the durations of the executors' responses by route label. For a streamed response, the duration ends with
/// the response's head. Routes without requests have no lines.
fn by_route(page: &mut Page, vitals: &Vitals) {
    page.family(
        "firehose_http_request_duration_seconds",
        Kind::Histogram,
        "Time from the head of a request to its response, or to the head of a streamed response. \
         firehose_ack_latency_seconds has the responses of the listeners.",
        "seconds",
    );
    for route in &vitals.routes {
        let mut counts = [0; DURATION_BOUNDS_US.len() + 1];
        let mut sum_us = 0;
        for durations in
            vitals.cores.iter().flat_map(|core| route.rows.iter().map(|row| &core.executor.durations[*row]))
        {
            sum_us += durations.sum_us.get();
            counts.iter_mut().zip(&durations.buckets).for_each(|(count, cell)| *count += cell.get());
        }
        if counts.iter().any(|count| *count > 0) {
            page.buckets(&[("route", route.name)], &DURATION_BOUNDS_US, &counts, sum_us as f64 / 1e6);
        }
    }
}

fn shards(page: &mut Page, vitals: &Vitals) {
    by_shard(page, vitals, "firehose_shard_rows", Kind::Gauge, "Clicks in the shard.", "", |b| {
        b.status.stored(&CLICKS) as f64
    });
    by_shard(
        page,
        vitals,
        "firehose_shard_service_events",
        Kind::Gauge,
        "Idempotent events in the shard.",
        "",
        |b| b.status.stored(&EVENTS) as f64,
    );
    by_shard(page, vitals, "firehose_shard_orders", Kind::Gauge, "Orders in the shard.", "", |b| {
        b.status.stored(&ORDERS) as f64
    });
    page.family(
        "firehose_shard_dropped_rows",
        Kind::Counter,
        "Rows that retention has dropped since the shard was created.",
        "",
    );
    for board in &vitals.board.shards {
        let shard = board.shard.to_string();
        for (place, kind) in kept_kinds() {
            for reason in DropReason::ALL {
                let labels = [("shard", shard.as_str()), ("kind", kind), ("reason", reason.as_str())];
                page.sample(&labels, board.status.dropped(place, reason) as f64);
            }
        }
    }
    ships(page, vitals);
    by_shard(
        page,
        vitals,
        "firehose_duplicate_events",
        Kind::Counter,
        "Events that were not stored because the tenant already had their id.",
        "",
        |b| b.status.duplicates.get() as f64,
    );
    by_shard(
        page,
        vitals,
        "firehose_conflicting_events",
        Kind::Counter,
        "Duplicates whose content differed.",
        "",
        |b| b.status.conflicts.get() as f64,
    );
    by_shard(page, vitals, "firehose_shard_commits", Kind::Counter, "Transactions committed.", "", |b| {
        b.status.commits.get() as f64
    });
    by_shard(
        page,
        vitals,
        "firehose_shard_checkpoints",
        Kind::Counter,
        "Checkpoints that emptied the WAL.",
        "",
        |b| b.status.checkpoints.get() as f64,
    );
    by_shard(
        page,
        vitals,
        "firehose_shard_reopened",
        Kind::Counter,
        "Times that the shard was closed after a failure and opened again.",
        "",
        |b| b.status.reopened.get() as f64,
    );
    by_shard(
        page,
        vitals,
        "firehose_shard_rejected_records",
        Kind::Counter,
        "Records kept in rejected_record because they could not be stored as rows.",
        "",
        |b| b.status.rejected.get() as f64,
    );
    by_shard(
        page,
        vitals,
        "firehose_shard_lost_records",
        Kind::Counter,
        "Records that the journal could not return because of damage or a gap.",
        "",
        |b| b.status.lost_records.get() as f64,
    );
    by_shard(
        page,
        vitals,
        "firehose_shard_database_bytes",
        Kind::Gauge,
        "Size of the database file.",
        "bytes",
        |b| b.status.database_bytes.get() as f64,
    );
    by_shard(
        page,
        vitals,
        "firehose_shard_wal_bytes",
        Kind::Gauge,
        "Bytes in the WAL that no checkpoint has copied yet.",
        "bytes",
        |b| b.status.wal_bytes.get() as f64,
    );
    page.family("firehose_shard_state", Kind::Gauge, "1 for the state the shard is in.", "");
    for board in &vitals.board.shards {
        let now = board.status.state();
        for state in ShardState::ALL {
            let shard = board.shard.to_string();
            page.sample(&[("shard", &shard), ("state", state.name())], u64::from(*state == now));
        }
    }
}

/// Writes what the shards hold for the sinks, and what they dropped although a sink does not have it.
fn ships(page: &mut Page, vitals: &Vitals) {
    by_shard(
        page,
        vitals,
        "firehose_ship_held_bytes",
        Kind::Gauge,
        "Bytes of rows that retention would drop, but that a sink has not confirmed.",
        "bytes",
        |b| b.status.ship_held_bytes.get() as f64,
    );
    by_shard(
        page,
        vitals,
        "firehose_ship_hold_full",
        Kind::Gauge,
        "1 while these are more than ship_hold_max.",
        "",
        |b| b.status.ship_hold_full.get() as f64,
    );
    page.family(
        "firehose_ship_dropped_rows",
        Kind::Counter,
        "Rows that retention has dropped although a sink had not confirmed them, since the shard was created.",
        "",
    );
    for board in &vitals.board.shards {
        for (place, kind) in kept_kinds() {
            let labels = [("shard", &*board.shard.to_string()), ("kind", kind)];
            page.sample(&labels, board.status.dropped(place, DropReason::Unshipped) as f64);
        }
    }
}

/// Returns the index and the name of every kind of rows that retention drops.
fn kept_kinds() -> impl Iterator<Item = (usize, &'static str)> {
    let streams = [&CLICKS, &EVENTS, &ORDERS].map(|stream| (stream.place, stream.name));
    let ledgers = [&PRICE_ROWS, &STOCK_EVENTS].map(|ledger| (ledger.place, ledger.name));
    streams.into_iter().chain(ledgers)
}

fn journals(page: &mut Page, vitals: &Vitals) {
    type Of = fn(&crate::journal::LaneState) -> u64;
    let families: [(&'static str, Kind, &str, &str, Of); 3] = [
        ("firehose_journal_bytes", Kind::Gauge, "Bytes of the segment files.", "bytes", |l| {
            l.bytes_on_disk()
        }),
        ("firehose_journal_writes", Kind::Counter, "write system calls.", "", |l| l.writes()),
        ("firehose_journal_damaged_records", Kind::Counter, "Records with a wrong checksum.", "", |l| {
            l.damaged_records()
        }),
    ];
    for (name, kind, help, unit, of) in families {
        page.family(name, kind, help, unit);
        for board in &vitals.board.shards {
            for lane in &board.lanes {
                page.sample(
                    &[("shard", &board.shard.to_string()), ("lane", &lane.lane().folder())],
                    of(lane),
                );
            }
        }
    }
}
