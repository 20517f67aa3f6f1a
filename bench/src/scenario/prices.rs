//! `prices`: price events over HTTP, each answered after it is committed and compared; and the writer's part of the
//! work alone.

use std::time::Duration;

use anyhow::{Result, ensure};
use firehose::base::clock;
use firehose::base::ids::{LaneId, Sequence};
use firehose::base::money::Currency;
use firehose::base::observed::Observed;
use firehose::base::prices::PriceRules;
use firehose::prices::PRICE_EVENT;
use firehose::prices::{PriceEventRow, PriceRow};
use firehose::shard::{CheckpointMode, Entry, Records, Shard, ShardFolder, ShardOptions};

use crate::closed::{self, Requests};
use crate::peer::{Serve, System};
use crate::report::{Limit, Report};
use crate::run::{Figures, Round};
use crate::setup::{Folder, Setup};
use crate::{cpu, process};
use firehose::families::FAMILIES;

const CONNECTIONS: usize = 128;
const PRODUCTS: u64 = 2_000;
/// One in this many prices is twice the usual one.
const ODD_ONE_IN: u64 = 50;
const EVENTS_PER_S_MIN: f64 = 5_000.0;
const WRITER_ROWS_PER_S_MIN: f64 = 30_000.0;
const BATCH: usize = 2_000;
const WRITER_ROWS: usize = 400_000;

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let mut report = Report::new("prices");
    let connections = setup.connections.unwrap_or(CONNECTIONS);
    let case = format!("{connections} connections, {PRODUCTS} products, 1 in {ODD_ONE_IN} out of line");
    let extra = vec![
        "price-events-per-second=1000000".to_owned(),
        "product-events-per-second=1000000".to_owned(),
        // A request that waits for a commit also waits for this interval.
        "flush-interval=1ms".to_owned(),
    ];
    let system = System::Firehose(Serve { extra, ..Serve::new(setup) });
    let writer = format!("writer alone, batches of {BATCH}, {WRITER_ROWS} events of {PRODUCTS} products");
    for round in 0..setup.rounds {
        report.record(&case, "firehose", round, over_http(setup, &system, connections)?);
        report.record(&writer, "firehose", round, alone(setup)?);
    }
    let rate = report.median(&case, "firehose", "events_per_s");
    report.bar("price events committed per second", Limit::AtLeast(EVENTS_PER_S_MIN), rate);
    let rate = report.median(&writer, "firehose", "rows_per_s");
    report.bar("writer: price events per second", Limit::AtLeast(WRITER_ROWS_PER_S_MIN), rate);
    Ok(report)
}

/// Returns the price of an event, about the same for each product.
fn price(number: u64) -> u64 {
    let usual = 1_000 + number % PRODUCTS + number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 20;
    if number % ODD_ONE_IN == ODD_ONE_IN - 1 { usual * 2 } else { usual }
}

/// Returns the event with a number: a price that was observed at a second of a day.
pub(super) fn event(number: u64, cents: u64, second: u64) -> String {
    format!(
        r#"{{"event_id":"e{number}","price":"{}.{:02}","currency":"USD","observed_at":"2026-01-01T{:02}:{:02}:{:02}Z"}}"#,
        cents / 100,
        cents % 100,
        second / 3_600 % 24,
        second / 60 % 60,
        second % 60
    )
}

/// Returns the request with a number.
fn request(number: u64) -> Vec<u8> {
    let product = number % PRODUCTS;
    let (cents, seconds) = (price(number), number / PRODUCTS);
    let body = event(number, cents, seconds);
    format!(
        "POST /api/v1/tenants/shop/products/p{product}/price-event HTTP/1.1\r\nHost: localhost\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn over_http(setup: &Setup, system: &System, connections: usize) -> Result<Round> {
    let mut running = system.start(setup)?;
    let mut figures = Figures::new();
    let mut requests = Requests::new(&request, 201);
    // The first seconds fill the history of every product.
    closed::load(running.addr, connections, Duration::from_secs(2), &mut requests)?;
    let before = process::cpu_ns(running.process.pid())?;
    let answers = closed::load(running.addr, connections, Duration::from_secs(setup.seconds), &mut requests)?;
    let (answered, odd, latency) = (answers.count, answers.odd, answers.latency_us);
    let seconds = answers.time.as_secs_f64();
    let used_ns = process::cpu_ns(running.process.pid())?.saturating_sub(before);
    figures.insert("events_per_s", answered as f64 / seconds);
    figures.insert("cpu_us_per_event", used_ns as f64 / 1e3 / answered.max(1) as f64);
    figures.insert("p50_us", latency.value_at_quantile(0.5) as f64);
    figures.insert("p99_us", latency.value_at_quantile(0.99) as f64);
    figures.insert("rss_bytes", cpu::rss_bytes(running.process.pid())? as f64);
    running.stop()?;
    Ok(Round { figures, fault: (odd > 0).then(|| format!("{odd} answers were no 201")) })
}

/// One batch of records.
struct Batch {
    first: u64,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Batch {
    fn new(first: u64) -> Batch {
        let mut batch = Batch { first, bytes: Vec::new(), ends: Vec::new() };
        let Some(currency) = Currency::parse("USD") else { return batch };
        let rules = PriceRules { change_bp: 2_000, score_milli: 3_500, window: 20 };
        for number in first..first + BATCH as u64 {
            let (product_id, event_id) = (format!("p{}", number % PRODUCTS), format!("e{number}"));
            let observed = Observed {
                at_us: (number / PRODUCTS) as i64 * 1_000_000,
                received_us: number as i64,
                tenant_id: "shop",
                product_id: &product_id,
                event_id: &event_id,
            };
            let row = PriceRow { observed, price: price(number) as i64, currency };
            PriceEventRow::new(row, rules).encode(&mut batch.bytes);
            batch.ends.push(batch.bytes.len());
        }
        batch
    }
}

impl Records for Batch {
    fn records(&self) -> impl Iterator<Item = Entry<'_>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let payloads = starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end]);
        (self.first + 1..).zip(payloads).map(|(n, payload)| Entry {
            sequence: Sequence(n),
            kind: PRICE_EVENT.number(),
            payload,
        })
    }
}

fn alone(setup: &Setup) -> Result<Round> {
    let folder = Folder::new(&setup.data_root)?;
    let options = ShardOptions { folder_id: [7; 16], ..ShardOptions::default() };
    let mut shard = Shard::open(&ShardFolder::new(folder.path().join("shard-00")), &options, &FAMILIES)?;
    let (mut writing, mut changes) = (Duration::ZERO, 0);
    for first in (0..WRITER_ROWS as u64).step_by(BATCH) {
        ensure!(!process::interrupted(), "interrupted");
        let batch = Batch::new(first);
        let start = clock::now();
        let applied = shard.apply(&[(LaneId::keyed(0), &batch)], &mut |_, _, _| {})?;
        writing += start.elapsed();
        ensure!(applied.rejected == 0, "a price event was none");
        changes += applied.changes;
        if shard.checkpoint_due().is_some() {
            shard.checkpoint(CheckpointMode::Passive)?;
        }
    }
    let mut figures = Figures::new();
    figures.insert("rows_per_s", WRITER_ROWS as f64 / writing.as_secs_f64());
    figures.insert("anomalies", changes as f64);
    Ok(Round { figures, fault: None })
}
