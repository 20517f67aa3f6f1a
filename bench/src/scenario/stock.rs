//! `stock`: 16 clients that change stock concurrently, 100 updates per request, from the socket to the commit on one
//! core: all of the same 20 products, then of 100,000; and in-process a bare transaction per request that does the
//! same.

use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use firehose::base::clock;
use hdrhistogram::Histogram;
use rusqlite::{Connection, TransactionBehavior, params};

use crate::cpu::CpuTimes;
use crate::peer::{self, Serve, System};
use crate::report::{Limit, Report};
use crate::run::{Figures, Round};
use crate::setup::{Folder, Setup};
use crate::{http, process};

const CLIENTS: usize = 16;
const UPDATES: u64 = 100;
const UPDATES_PER_S_MIN: f64 = 20_000.0;
const BARE_RATIO_MIN: f64 = 1.1;
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Numbers of products in the updates.
const CASES: [(&str, u64); 2] = [("20 products", 20), ("100,000 products", 100_000)];

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let system = System::Firehose(Serve::new(setup));
    peer::check(std::slice::from_ref(&system))?;
    let mut report = Report::new("stock");
    for (name, products) in CASES {
        for clients in setup.connection_counts(&[CLIENTS]) {
            let case = format!("{clients} clients, {name}");
            for round in 0..setup.rounds {
                report.record(&case, "firehose", round, over_http(setup, &system, clients, products)?);
                process::pin_here(&setup.server_cores)?;
                report.record(&case, "bare", round, bare(setup, products)?);
                process::pin_here(&setup.load_cores)?;
            }
            let rate = report.median(&case, "firehose", "updates_per_s");
            report.bar(format!("{case}: updates per second"), Limit::AtLeast(UPDATES_PER_S_MIN), rate);
            let ratio = report.ratio((&case, "firehose", "updates_per_s"), (&case, "bare", "updates_per_s"));
            let text = format!("{case}: updates per second, firehose / bare loop in-process");
            report.bar(text, Limit::AtLeast(BARE_RATIO_MIN), ratio);
        }
    }
    Ok(report)
}

fn over_http(setup: &Setup, system: &System, clients: usize, products: u64) -> Result<Round> {
    let mut running = system.start(setup)?;
    let pid = running.process.pid();
    // The wait for the server's first response sends it an event.
    running.drain(Duration::from_secs(10))?;
    let before = CpuTimes::of(pid)?;
    let start = clock::now();
    let end = start + Duration::from_secs(setup.seconds);
    let sent = process::clients(&setup.load_cores, clients, |client| {
        load(running.addr, Updates::new(client as u64 + 1, products), end)
    })?;
    let (mut latency_us, mut updates) = (histogram()?, 0);
    for (latencies, sent) in sent {
        latency_us.add(&latencies)?;
        updates += sent;
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu = CpuTimes::of(pid)?;
    running.stop()?;
    let mut figures = Figures::new();
    figures.insert("updates_per_s", updates as f64 / seconds);
    figures.insert("p50_ms", latency_us.value_at_quantile(0.5) as f64 / 1e3);
    figures.insert("p99_ms", latency_us.value_at_quantile(0.99) as f64 / 1e3);
    let per_update = |ns: u64| ns as f64 / 1e3 / updates.max(1) as f64;
    figures.insert("cpu_us", per_update(cpu.total_since(&before)));
    for (role, figure) in [("exec", "exec_cpu_us"), ("write", "write_cpu_us")] {
        if let Some(ns) = cpu.role_since(&before, role) {
            figures.insert(figure, per_update(ns));
        }
    }
    Ok(Round { figures, fault: None })
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 600_000_000, 3)?)
}

/// One client's deltas: equally many for every product, every event new. More is added than removed.
struct Updates {
    client: u64,
    products: u64,
    sent: u64,
    random: u64,
}

/// An event: its number, the product, the delta.
type Delta = (u64, u64, i64);

impl Updates {
    fn new(client: u64, products: u64) -> Updates {
        Updates { client, products, sent: 0, random: client << 48 | clock::unix_us() as u64 | 1 }
    }

    fn next(&mut self) -> Vec<Delta> {
        (0..UPDATES)
            .map(|n| {
                // xorshift64 (Marsaglia 2003)
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                self.sent += 1;
                let product = if self.products <= UPDATES { n } else { self.random } % self.products;
                (self.sent, product, (self.random % 9 + 1) as i64)
            })
            .collect()
    }

    fn event_id(&self, number: u64) -> String {
        format!("client-{:02}-{number:010}", self.client)
    }

    fn request(&mut self, addr: SocketAddr) -> Vec<u8> {
        use std::fmt::Write as _;
        let mut body = String::from("{\"mode\":\"merge\",\"updates\":[");
        for (at, (number, product, delta)) in self.next().into_iter().enumerate() {
            let (comma, id) = (if at > 0 { "," } else { "" }, self.event_id(number));
            // Writing to a string cannot fail.
            let _ = write!(
                body,
                "{comma}{{\"event_id\":\"{id}\",\"product_id\":\"product-{product:06}\",\"delta\":{delta},\
                 \"occurred_at\":\"2026-03-01T12:00:00Z\"}}"
            );
        }
        body.push_str("]}");
        let length = body.len();
        format!(
            "PUT /api/v1/tenants/acme/stock/bulk_update HTTP/1.1\r\nHost: {addr}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

/// Sends one request after the other on one connection.
fn load(addr: SocketAddr, mut updates: Updates, end: Instant) -> Result<(Histogram<u64>, u64)> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    let (mut latency_us, mut answer, mut piece) = (histogram()?, Vec::new(), [0; 64 * 1024]);
    while clock::now() < end {
        let request = updates.request(addr);
        let sent_us = clock::monotonic_us();
        stream.write_all(&request)?;
        answer.clear();
        let length = loop {
            if let Some(length) = http::message_length(&answer) {
                break length;
            }
            let read = stream.read(&mut piece).context("no answer")?;
            ensure!(read > 0 && answer.len() < ANSWER_BYTES_MAX, "the connection was closed in an answer");
            answer.extend_from_slice(&piece[..read]);
        };
        latency_us.saturating_record(clock::monotonic_us() - sent_us);
        let text = String::from_utf8_lossy(&answer[..length]);
        ensure!(http::status(&answer) == 200, "a request was answered {text}");
        ensure!(text.contains("\"failed\":0,\"pending\":0,"), "not every product was changed: {text}");
    }
    Ok((latency_us, updates.sent))
}

/// Does what a service with one connection and no HTTP would do: one transaction per request, with the event if it is
/// new, then the level. It stores no answer and checks no version.
fn bare(setup: &Setup, products: u64) -> Result<Round> {
    let folder = Folder::new(&setup.data_root)?;
    let mut connection = Connection::open(folder.path().join("bare.db"))?;
    connection.execute_batch(
        "PRAGMA page_size = 16384; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
         CREATE TABLE level (id INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, product TEXT NOT NULL,
           quantity INTEGER NOT NULL, version INTEGER NOT NULL, UNIQUE (tenant, product));
         CREATE TABLE event (product TEXT NOT NULL, event_id TEXT NOT NULL, delta INTEGER NOT NULL,
           at_us INTEGER NOT NULL, PRIMARY KEY (product, event_id)) WITHOUT ROWID;",
    )?;
    let mut clients: Vec<Updates> =
        (0..CLIENTS as u64).map(|client| Updates::new(client + 1, products)).collect();
    let (start, mut updates) = (clock::now(), 0_u64);
    let end = start + Duration::from_secs(setup.seconds);
    while clock::now() < end {
        for client in &mut clients {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut event = transaction.prepare_cached(
                    "INSERT OR IGNORE INTO event (product, event_id, delta, at_us) VALUES (?1, ?2, ?3, ?4)",
                )?;
                let mut level = transaction.prepare_cached(
                    "INSERT INTO level (tenant, product, quantity, version) VALUES (1, ?1, ?2, 1) \
                     ON CONFLICT (tenant, product) DO UPDATE SET quantity = quantity + excluded.quantity, \
                     version = version + 1",
                )?;
                for (number, product, delta) in client.next() {
                    let product = format!("product-{product:06}");
                    let new = event.execute(params![product, client.event_id(number), delta, 0])?;
                    if new > 0 {
                        level.execute(params![product, delta])?;
                    }
                }
            }
            transaction.commit()?;
            updates += UPDATES;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let stored: i64 = connection.query_row("SELECT count(*) FROM event", [], |row| row.get(0))?;
    ensure!(stored as u64 == updates, "{stored} events are stored, {updates} were sent");
    let mut figures = Figures::new();
    figures.insert("updates_per_s", updates as f64 / seconds);
    Ok(Round { figures, fault: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_sound_and_their_events_differ() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 80));
        for (products, different) in [(20, 20), (100_000, 50)] {
            let mut updates = Updates::new(3, products);
            let mut ids = std::collections::BTreeSet::new();
            for _ in 0..3 {
                let request = updates.request(addr);
                assert_eq!(http::message_length(&request), Some(request.len()));
                let body = request.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
                let json: serde_json::Value = serde_json::from_slice(&request[body..]).unwrap();
                let rows = json["updates"].as_array().unwrap();
                ids.extend(rows.iter().map(|row| row["event_id"].to_string()));
                let of: std::collections::BTreeSet<_> =
                    rows.iter().map(|row| row["product_id"].to_string()).collect();
                assert!(of.len() >= different && of.len() as u64 <= products.min(UPDATES));
            }
            assert_eq!(ids.len(), 300);
        }
    }
}
