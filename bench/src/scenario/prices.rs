//! `prices`: price events over HTTP, each answered after it is committed and compared; the writer's part of the work
//! alone, in large batches and in those of 128 connections; and the same events in bare transactions, which are not
//! compared with more than the price before.

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
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

const CONNECTIONS: usize = 128;
const PRODUCTS: u64 = 2_000;
/// One in this many prices is twice the usual one.
const ODD_ONE_IN: u64 = 50;
const EVENTS_PER_S_MIN: f64 = 5_000.0;
const WRITER_ROWS_PER_S_MIN: f64 = 30_000.0;
/// Events of a batch: many, and as many as connections wait for a commit.
const BATCHES: [usize; 2] = [2_000, CONNECTIONS];
const WRITER_ROWS: usize = 400_000;
const BARE_RATIO_MIN: f64 = 1.0;

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
    let writer =
        |batch| format!("writer alone, batches of {batch}, {WRITER_ROWS} events of {PRODUCTS} products");
    for round in 0..setup.rounds {
        report.record(&case, "firehose", round, over_http(setup, &system, connections)?);
        for batch in BATCHES {
            report.record(&writer(batch), "firehose", round, alone(setup, batch)?);
            report.record(&writer(batch), "bare", round, bare(setup, batch)?);
        }
    }
    let rate = report.median(&case, "firehose", "events_per_s");
    report.bar("price events committed per second", Limit::AtLeast(EVENTS_PER_S_MIN), rate);
    for batch in BATCHES {
        let rate = report.median(&writer(batch), "firehose", "rows_per_s");
        let name = format!("writer, batches of {batch}: price events per second");
        report.bar(name, Limit::AtLeast(WRITER_ROWS_PER_S_MIN), rate);
        let bare = report.median(&writer(batch), "bare", "rows_per_s");
        let ratio = rate.zip(bare).map(|(rate, bare)| rate / bare);
        report.bar(
            format!("writer, batches of {batch}: ratio to bare"),
            Limit::AtLeast(BARE_RATIO_MIN),
            ratio,
        );
    }
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
    fn new(first: u64, events: usize) -> Batch {
        let mut batch = Batch { first, bytes: Vec::new(), ends: Vec::new() };
        let Some(currency) = Currency::parse("USD") else { return batch };
        let rules = PriceRules { change_bp: 2_000, score_milli: 3_500, window: 20 };
        for number in first..first + events as u64 {
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

fn alone(setup: &Setup, batch: usize) -> Result<Round> {
    let folder = Folder::new(&setup.data_root)?;
    let options = ShardOptions { folder_id: [7; 16], ..ShardOptions::default() };
    let mut shard = Shard::open(&ShardFolder::new(folder.path().join("shard-00")), &options, &FAMILIES)?;
    let (mut writing, mut changes) = (Duration::ZERO, 0);
    let events = WRITER_ROWS / batch * batch;
    for first in (0..events as u64).step_by(batch) {
        ensure!(!process::interrupted(), "interrupted");
        let batch = Batch::new(first, batch);
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
    figures.insert("rows_per_s", events as f64 / writing.as_secs_f64());
    figures.insert("anomalies", changes as f64);
    Ok(Round { figures, fault: None })
}

/// Does what a service with one connection would do: one transaction per batch, with each event if it is new, after a
/// comparison with the price before it. There is no window, and an anomaly is only counted.
fn bare(setup: &Setup, batch: usize) -> Result<Round> {
    let folder = Folder::new(&setup.data_root)?;
    let mut connection = Connection::open(folder.path().join("bare.db"))?;
    connection.execute_batch(
        "PRAGMA page_size = 16384; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
         CREATE TABLE price (product TEXT NOT NULL, event_id TEXT NOT NULL, at_us INTEGER NOT NULL,
           price INTEGER NOT NULL, currency TEXT NOT NULL, accepted INTEGER NOT NULL,
           PRIMARY KEY (product, event_id)) WITHOUT ROWID;
         CREATE INDEX price_time ON price (product, currency, at_us, price) WHERE accepted;",
    )?;
    let events = WRITER_ROWS / batch * batch;
    let (mut writing, mut odd) = (Duration::ZERO, 0_u64);
    for first in (0..events as u64).step_by(batch) {
        ensure!(!process::interrupted(), "interrupted");
        let names: Vec<(String, String)> = (first..first + batch as u64)
            .map(|number| (format!("p{}", number % PRODUCTS), format!("e{number}")))
            .collect();
        let start = clock::now();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut before = transaction.prepare_cached(
                "SELECT price FROM price WHERE product = ?1 AND currency = 'USD' AND accepted AND at_us <= ?2 \
                 ORDER BY at_us DESC LIMIT 1",
            )?;
            let mut insert = transaction.prepare_cached(
                "INSERT OR IGNORE INTO price (product, event_id, at_us, price, currency, accepted) \
                 VALUES (?1, ?2, ?3, ?4, 'USD', ?5)",
            )?;
            for ((product, event_id), number) in names.iter().zip(first..) {
                let (cents, at_us) = (price(number) as i64, (number / PRODUCTS) as i64 * 1_000_000);
                let last: Option<i64> =
                    before.query_row(params![product, at_us], |row| row.get(0)).optional()?;
                let is_accepted = last.is_none_or(|last| (cents - last).abs() * 5 <= last);
                odd += u64::from(!is_accepted);
                insert.execute(params![product, event_id, at_us, cents, is_accepted])?;
            }
        }
        transaction.commit()?;
        writing += start.elapsed();
    }
    let mut figures = Figures::new();
    figures.insert("rows_per_s", events as f64 / writing.as_secs_f64());
    figures.insert("anomalies", odd as f64);
    Ok(Round { figures, fault: None })
}
