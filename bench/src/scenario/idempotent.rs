//! `idempotent`: a shard's writer alone, storing events with random or ordered UUIDs while the shard grows to ten
//! million; `buckets`: the same with and without the counts over time.

use std::time::Duration;

use anyhow::{Result, ensure};
use firehose::base::clock;
use firehose::base::ids::{LaneId, Sequence};
use firehose::events::SERVICE_EVENT;
use firehose::events::ServiceEventRow;
use firehose::shard::{CheckpointMode, Entry, Records, Shard, ShardFolder, ShardOptions};

use super::bulk::write_uuid;
use crate::report::{Limit, Report};
use crate::run::{Figures, Round};
use crate::setup::{Folder, Setup};
use crate::{cpu, process};
use firehose::events::EVENTS;
use firehose::families::FAMILIES;

const ROWS_PER_S_MIN: f64 = 500_000.0;
const BYTES_PER_ID_MAX: f64 = 6.0;
const BUCKETS_SHARE_MAX: f64 = 0.10;
/// The server's own `batch_rows_max`: the rows that a busy writer commits together.
const BATCH: usize = 20_000;
const MILLION: usize = 1_000_000;
const SLICE: Duration = Duration::from_millis(4);

#[derive(Clone, Copy, PartialEq)]
enum Ids {
    /// UUID version 4.
    Random,
    /// UUID version 7: the upper 48 bits are the time.
    Ordered,
}

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    process::pin_here(&setup.server_cores)?;
    let mut report = Report::new("idempotent");
    for round in 0..setup.rounds {
        for (name, ids) in [("uuid4", Ids::Random), ("uuid7", Ids::Ordered)] {
            for (millions, figures) in grow(setup, ids)? {
                let case = format!("{millions} M events in the shard");
                report.record(&case, name, round, Round { figures, fault: None });
            }
        }
    }
    for name in ["uuid4", "uuid7"] {
        let rate = report.median("10 M events in the shard", name, "rows_per_s");
        report.bar(format!("10 M: {name} rows per second"), Limit::AtLeast(ROWS_PER_S_MIN), rate);
    }
    let bytes = report.worst("10 M events in the shard", "uuid4", "bytes_per_id");
    report.bar("10 M: memory an id, bytes", Limit::AtMost(BYTES_PER_ID_MAX), bytes);
    Ok(report)
}

/// Measures the cost of the last million rows before 1, 5 and 10 million.
fn grow(setup: &Setup, ids: Ids) -> Result<Vec<(usize, Figures)>> {
    let folder = Folder::new(&setup.data_root)?;
    let mut shard = open(&folder, false)?;
    let before = cpu::rss_bytes(std::process::id())?;
    let mut batch = Batch::new(ids);
    let mut found = Vec::new();
    for million in 1..=10 {
        let mut figures = store(&mut shard, &mut batch, MILLION)?;
        if [1, 5, 10].contains(&million) {
            // Lets the background sort end.
            let until = clock::now() + Duration::from_secs(2);
            while clock::now() < until {
                if shard.upkeep_due() {
                    shard.upkeep(SLICE)?;
                }
                process::pause(Duration::from_millis(1))?;
            }
            figures.insert("bytes_per_id", shard.id_memory_bytes() as f64 / shard.stored(&EVENTS) as f64);
            let grown = cpu::rss_bytes(std::process::id())?.saturating_sub(before);
            figures.insert("process_growth_mib", grown as f64 / f64::from(1 << 20));
            found.push((million, figures));
        }
    }
    ensure!(shard.stored(&EVENTS) == 10 * MILLION as u64, "{} events are stored", shard.stored(&EVENTS));
    drop(shard);
    let start = clock::now();
    let shard = open(&folder, false)?;
    let opened_ms = start.elapsed().as_secs_f64() * 1e3;
    ensure!(shard.stored(&EVENTS) == 10 * MILLION as u64, "not all were stored");
    if let Some((_, figures)) = found.last_mut() {
        figures.insert("reopen_ms", opened_ms);
    }
    Ok(found)
}

pub(crate) fn run_buckets(setup: &Setup) -> Result<Report> {
    process::pin_here(&setup.server_cores)?;
    let mut report = Report::new("buckets");
    let case = "60 groups, batches of 20,000";
    for round in 0..setup.rounds {
        // The first one alternates, so that effects on the machine affect both equally often.
        let mut turns = [("with", false), ("without", true)];
        turns.rotate_left(round % 2);
        for (name, without) in turns {
            let folder = Folder::new(&setup.data_root)?;
            let mut shard = open(&folder, without)?;
            let figures = store(&mut shard, &mut Batch::new(Ids::Random), MILLION)?;
            report.record(case, name, round, Round { figures, fault: None });
        }
    }
    let share = report.ratio((case, "with", "row_us"), (case, "without", "row_us")).map(|ratio| ratio - 1.0);
    report.bar("upkeep of the buckets / cost of a row without", Limit::AtMost(BUCKETS_SHARE_MAX), share);
    Ok(report)
}

fn open(folder: &Folder, without_buckets: bool) -> Result<Shard> {
    let options =
        ShardOptions { without_aggregates: without_buckets, folder_id: [7; 16], ..ShardOptions::default() };
    Ok(Shard::open(&ShardFolder::new(folder.path().join("shard-00")), &options, &FAMILIES)?)
}

/// Stores this many rows in batches, with the upkeep that becomes due between them.
fn store(shard: &mut Shard, batch: &mut Batch, rows: usize) -> Result<Figures> {
    let (mut writing, mut upkeep, mut slowest) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for _ in 0..rows / BATCH {
        ensure!(!process::interrupted(), "interrupted");
        batch.fill();
        let start = clock::now();
        let applied = shard.apply(&[(LaneId::keyed(0), &*batch)], &mut |_, _, _| {})?;
        writing += start.elapsed();
        ensure!(applied.stored(&EVENTS) == BATCH as u64, "{} of a batch were new", applied.stored(&EVENTS));
        let start = clock::now();
        if shard.upkeep_due() {
            shard.upkeep(SLICE)?;
        }
        upkeep += start.elapsed();
        slowest = slowest.max(start.elapsed());
        if shard.checkpoint_due().is_some() {
            shard.checkpoint(CheckpointMode::Passive)?;
        }
    }
    let mut figures = Figures::new();
    let all = writing + upkeep;
    figures.insert("rows_per_s", rows as f64 / all.as_secs_f64());
    figures.insert("row_us", writing.as_secs_f64() * 1e6 / rows as f64);
    figures.insert("upkeep_us", upkeep.as_secs_f64() * 1e6 / rows as f64);
    figures.insert("slowest_slice_ms", slowest.as_secs_f64() * 1e3);
    Ok(figures)
}

/// One batch of records of about 200 bytes, reused for the next one.
struct Batch {
    ids: Ids,
    random: u64,
    next: u64,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Batch {
    fn new(ids: Ids) -> Batch {
        Batch { ids, random: 0x1234_5678_9abc_def1, next: 1, bytes: Vec::new(), ends: Vec::new() }
    }

    fn random(&mut self) -> u64 {
        // xorshift64* (Marsaglia 2003, Vigna 2016)
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Fills the batch from 60 groups: 4 tenants, 3 sources, 5 types. Times advance by a millisecond per row.
    fn fill(&mut self) {
        self.next += if self.ends.is_empty() { 0 } else { BATCH as u64 };
        self.bytes.clear();
        self.ends.clear();
        for row in self.next..self.next + BATCH as u64 {
            let mut bits = u128::from(self.random()) << 64 | u128::from(self.random());
            if self.ids == Ids::Ordered {
                bits = bits >> 48 | u128::from(1_700_000_000_000 + row) << 80;
            }
            let mut id = [0; 36];
            write_uuid(&mut id, bits);
            let n = row as usize;
            ServiceEventRow {
                timestamp_us: 1_700_000_000_000_000 + row as i64 * 1_000,
                received_us: 1_700_000_000_000_500 + row as i64 * 1_000,
                tenant_id: ["tenant_0", "tenant_1", "tenant_2", "tenant_3"][n % 4],
                event_id: std::str::from_utf8(&id).unwrap_or_default(),
                source: ["web", "ios", "android"][n % 3],
                event_type: ["click", "view", "cart", "buy", "exit"][n % 5],
                payload: r#"{"page":"/products/4711","referrer":"https://example.com/search?q=shoes","position":17,"test":true}"#,
            }
            .encode(&mut self.bytes);
            self.ends.push(self.bytes.len());
        }
    }
}

impl Records for Batch {
    fn records(&self) -> impl Iterator<Item = Entry<'_>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let payloads = starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end]);
        (self.next..).zip(payloads).map(|(n, payload)| Entry {
            sequence: Sequence(n),
            kind: SERVICE_EVENT.number(),
            payload,
        })
    }
}
