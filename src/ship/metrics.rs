//! The figures of a run, counted by the shards' threads and shown as a page of metrics.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use super::rows::ShipStream;
use super::sink::{Places, Written};
use super::source::Seen;
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::ops::{Format, Kind, Number, Page};

const STREAMS: usize = ShipStream::ALL.len();

/// The value of a time that is not known.
const NO_TIME: i64 = i64::MIN;

/// The figures of one stream of one shard.
#[derive(Debug)]
struct StreamFigures {
    rows: AtomicU64,
    twice: AtomicU64,
    rejected: AtomicU64,
    skipped: AtomicU64,
    place: AtomicI64,
    behind_rows: AtomicU64,
    /// The time at which the oldest row that is not shipped was received.
    oldest_us: AtomicI64,
}

/// The figures of one shard. Its thread writes them, and any thread may read them.
#[derive(Debug)]
pub(super) struct ShardFigures {
    pub shard: ShardId,
    streams: [StreamFigures; STREAMS],
    is_connected: AtomicBool,
    errors: AtomicU64,
    failed_us: AtomicI64,
    has_unmoved: AtomicBool,
    is_seen: AtomicBool,
}

/// The figures of one stream at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct StreamState {
    pub rows: u64,
    pub twice: u64,
    pub rejected: u64,
    pub skipped: u64,
    pub place: i64,
    pub behind_rows: u64,
    pub behind_seconds: f64,
}

impl ShardFigures {
    #[must_use]
    pub(super) fn new(shard: ShardId) -> ShardFigures {
        ShardFigures {
            shard,
            streams: std::array::from_fn(|_| StreamFigures {
                rows: AtomicU64::new(0),
                twice: AtomicU64::new(0),
                rejected: AtomicU64::new(0),
                skipped: AtomicU64::new(0),
                place: AtomicI64::new(0),
                behind_rows: AtomicU64::new(0),
                oldest_us: AtomicI64::new(NO_TIME),
            }),
            is_connected: AtomicBool::new(false),
            errors: AtomicU64::new(0),
            failed_us: AtomicI64::new(NO_TIME),
            has_unmoved: AtomicBool::new(false),
            is_seen: AtomicBool::new(false),
        }
    }

    fn of(&self, stream: ShipStream) -> &StreamFigures {
        &self.streams[stream as usize]
    }

    pub(super) fn count(&self, stream: ShipStream, written: Written, skipped: u64) {
        let figures = self.of(stream);
        figures.rows.fetch_add(written.rows, Ordering::Relaxed);
        figures.twice.fetch_add(written.twice, Ordering::Relaxed);
        figures.rejected.fetch_add(written.rejected, Ordering::Relaxed);
        figures.skipped.fetch_add(skipped, Ordering::Relaxed);
    }

    /// Sets the places that the target has confirmed; 0 for a stream that is not listed.
    pub(super) fn set_places(&self, places: &Places) {
        for stream in ShipStream::ALL {
            let place = places.get(&stream).copied().unwrap_or_default();
            self.of(stream).place.store(place, Ordering::Relaxed);
        }
    }

    pub(super) fn set_connected(&self, is_connected: bool) {
        self.is_connected.store(is_connected, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, at_us: i64) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.failed_us.store(at_us, Ordering::Relaxed);
    }

    pub(super) fn set_seen(&self, seen: &Seen) {
        for (stream, unshipped) in &seen.streams {
            let figures = self.of(*stream);
            figures.behind_rows.store(unshipped.rows, Ordering::Relaxed);
            figures.oldest_us.store(unshipped.oldest_us.unwrap_or(NO_TIME), Ordering::Relaxed);
        }
        self.has_unmoved.store(seen.has_unmoved, Ordering::Relaxed);
        self.is_seen.store(true, Ordering::Relaxed);
    }

    /// Returns the figures of a stream. `now_us` is the time that the age of the oldest row refers to, so the age rises
    /// also while nothing is measured.
    #[must_use]
    pub(super) fn state(&self, stream: ShipStream, now_us: i64) -> StreamState {
        let figures = self.of(stream);
        let behind_seconds = match figures.oldest_us.load(Ordering::Relaxed) {
            NO_TIME => 0.0,
            oldest_us => now_us.saturating_sub(oldest_us).max(0) as f64 / 1e6,
        };
        StreamState {
            rows: figures.rows.load(Ordering::Relaxed),
            twice: figures.twice.load(Ordering::Relaxed),
            rejected: figures.rejected.load(Ordering::Relaxed),
            skipped: figures.skipped.load(Ordering::Relaxed),
            place: figures.place.load(Ordering::Relaxed),
            behind_rows: figures.behind_rows.load(Ordering::Relaxed),
            behind_seconds,
        }
    }

    /// Returns the rows that this run has sent and those that are behind.
    #[must_use]
    pub(super) fn sums(&self) -> (u64, u64) {
        self.streams.iter().fold((0, 0), |(rows, behind), stream| {
            let behind_rows = stream.behind_rows.load(Ordering::Relaxed);
            (rows + stream.rows.load(Ordering::Relaxed), behind + behind_rows)
        })
    }

    /// Returns the rows that the target has rejected in this run.
    #[must_use]
    pub(super) fn rejected(&self) -> u64 {
        self.streams.iter().map(|stream| stream.rejected.load(Ordering::Relaxed)).sum()
    }
}

/// Renders the figures of all shards.
#[must_use]
pub(super) fn page(shards: &[std::sync::Arc<ShardFigures>], format: Format) -> String {
    let mut page = Page::new(format);
    let now_us = clock::unix_us();
    let names: Vec<String> = shards.iter().map(|figures| figures.shard.0.to_string()).collect();
    let mut family = |name, kind, help, unit, value: &dyn Fn(&StreamState) -> Number| {
        page.family(name, kind, help, unit);
        for (figures, shard) in shards.iter().zip(&names) {
            for stream in ShipStream::ALL {
                let labels = [("shard", shard.as_str()), ("stream", stream.as_str())];
                page.sample(&labels, value(&figures.state(stream, now_us)));
            }
        }
    };
    let help = "Rows that the target has confirmed in this run.";
    family("firehose_ship_rows", Kind::Counter, help, "", &|of| Number::Whole(of.rows));
    let help = "Rows that the target had already under the same key.";
    family("firehose_ship_twice", Kind::Counter, help, "", &|of| Number::Whole(of.twice));
    let help = "Rows that the target refused for their data.";
    family("firehose_ship_rejected", Kind::Counter, help, "", &|of| Number::Whole(of.rejected));
    let help = "Changes of rows that no longer exist.";
    family("firehose_ship_skipped", Kind::Counter, help, "", &|of| Number::Whole(of.skipped));
    let help = "Row ids that are stored and not in the target.";
    family("firehose_ship_behind_rows", Kind::Gauge, help, "", &|of| Number::Whole(of.behind_rows));
    let help = "Age of the oldest row that is not in the target.";
    family("firehose_ship_behind_seconds", Kind::Gauge, help, "seconds", &|of| {
        Number::Float(of.behind_seconds)
    });
    page.family("firehose_ship_connected", Kind::Gauge, "1 if the last call to the target succeeded.", "");
    for (figures, shard) in shards.iter().zip(&names) {
        page.sample(&[("shard", shard)], u64::from(figures.is_connected.load(Ordering::Relaxed)));
    }
    page.family("firehose_ship_errors", Kind::Counter, "Calls to the target that failed.", "");
    for (figures, shard) in shards.iter().zip(&names) {
        page.sample(&[("shard", shard)], figures.errors.load(Ordering::Relaxed));
    }
    let help = "Time of the last failed call to the target, in seconds since 1970. 0: none.";
    page.family("firehose_ship_last_error_seconds", Kind::Gauge, help, "seconds");
    for (figures, shard) in shards.iter().zip(&names) {
        let at_us = figures.failed_us.load(Ordering::Relaxed);
        let seconds = if at_us == NO_TIME { 0.0 } else { at_us as f64 / 1e6 };
        page.sample(&[("shard", shard)], seconds);
    }
    page.finish()
}
