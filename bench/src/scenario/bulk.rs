//! `bulk`: `POST /events/bulk` with 5,000 rows per request, from the socket to the commit, on one core: with rising
//! times, with times at random over a year, and with all times equal. Then the same with many clients and few rows.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firehose::base::clock;
use hdrhistogram::Histogram;

use crate::cpu::CpuTimes;
use crate::peer::{self, Running, Serve, System};
use crate::report::{Limit, Report};
use crate::run::{self, Figures, Round};
use crate::setup::Setup;
use crate::{http, process};

const ROWS: usize = 5_000;
/// Clients with few rows per request, whose batches are those of several requests.
const MANY_CLIENTS: usize = 64;
const FEW_ROWS: usize = 100;
const ROWS_PER_S_MIN: f64 = 200_000.0;
const P50_MS_MAX: f64 = 40.0;
const UPSERT_RATIO_MIN: f64 = 1.0;
const ORDER_RATIO_MIN: f64 = 0.5;
/// The time within which upkeep has built the indexes of what was stored.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 4 << 20;

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let systems = [System::Firehose(Serve::new(setup)), System::Upsert];
    peer::check(&systems)?;
    let mut report = Report::new("bulk");
    for clients in setup.connection_counts(&[1, 8]) {
        let case = format!("{clients} clients, {ROWS} rows a request");
        run::interleave(setup.rounds, &systems, |round, system| {
            report.record(&case, system.name(), round, one(setup, system, (clients, ROWS), Times::Rising)?);
            // Rounds with other times follow at once, so that the same minutes are compared.
            for (name, times) in ORDERS {
                if system.name() == "firehose" {
                    report.record(&case, name, round, one(setup, system, (clients, ROWS), times)?);
                }
            }
            Ok(())
        })?;
        let rate = report.median(&case, "firehose", "rows_per_s");
        report.bar(format!("{case}: rows committed per second"), Limit::AtLeast(ROWS_PER_S_MIN), rate);
        if clients == 1 {
            let p50 = report.median(&case, "firehose", "p50_ms");
            report.bar(format!("{case}: p50 in ms"), Limit::AtMost(P50_MS_MAX), p50);
        }
        compare_orders(&mut report, &case);
        let ratio = report.ratio((&case, "firehose", "rows_per_s"), (&case, "upsert", "rows_per_s"));
        report.bar(
            format!("{case}: rows per second, firehose / upsert"),
            Limit::AtLeast(UPSERT_RATIO_MIN),
            ratio,
        );
    }
    let case = format!("{MANY_CLIENTS} clients, {FEW_ROWS} rows a request");
    for round in 0..setup.rounds {
        for (name, times) in [("firehose", Times::Rising)].into_iter().chain(ORDERS) {
            let result = one(setup, &systems[0], (MANY_CLIENTS, FEW_ROWS), times)?;
            report.record(&case, name, round, result);
        }
    }
    compare_orders(&mut report, &case);
    Ok(report)
}

fn compare_orders(report: &mut Report, case: &str) {
    for (name, _) in ORDERS {
        let ratio = report.ratio((case, name, "rows_per_s"), (case, "firehose", "rows_per_s"));
        let text = format!("{case}: rows per second, {name} / rising times");
        report.bar(text, Limit::AtLeast(ORDER_RATIO_MIN), ratio);
    }
}

/// The order of the events' times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Times {
    Rising,
    /// At random over a year.
    Random,
    Equal,
}

/// The orders that are compared with rising times, and their names in the report.
const ORDERS: [(&str, Times); 2] = [("random times", Times::Random), ("equal times", Times::Equal)];

fn one(
    setup: &Setup,
    system: &System,
    (clients, rows_per_request): (usize, usize),
    times: Times,
) -> Result<Round> {
    let mut running = system.start(setup)?;
    let pid = running.process.pid();
    // The wait for the server's first response sends it an event.
    running.drain(Duration::from_secs(10))?;
    let there = running.health()?.database_events;
    let before = CpuTimes::of(pid)?;
    let start = clock::now();
    let end = start + Duration::from_secs(setup.seconds);
    let sent = process::clients(&setup.load_cores, clients, |client| {
        load(running.addr, client as u64 + 1, rows_per_request, times, end)
    })?;
    let (mut latency_us, mut rows) = (histogram()?, 0);
    for (latencies, inserted) in sent {
        latency_us.add(&latencies)?;
        rows += inserted;
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu = CpuTimes::of(pid)?;
    let settled = match system.name() {
        "firehose" => Some(settle(&running)?),
        _ => None,
    };
    let settled_cpu = CpuTimes::of(pid)?;
    check_stored(&running, there + rows)?;
    running.stop()?;
    let mut figures = Figures::new();
    figures.insert("rows_per_s", rows as f64 / seconds);
    figures.insert("p50_ms", latency_us.value_at_quantile(0.5) as f64 / 1e3);
    figures.insert("p99_ms", latency_us.value_at_quantile(0.99) as f64 / 1e3);
    let per_row = |ns: u64| ns as f64 / 1e3 / rows.max(1) as f64;
    figures.insert("cpu_us", per_row(cpu.total_since(&before)));
    if let Some(settled) = settled {
        figures.insert("settled_s", settled.as_secs_f64());
        figures.insert("settled_cpu_us", per_row(settled_cpu.total_since(&before)));
    }
    for (role, figure) in run::ROLES {
        if let Some(ns) = cpu.role_since(&before, role) {
            figures.insert(figure, per_row(ns));
        }
    }
    Ok(Round { figures, fault: None })
}

/// Waits until the indexes of what was stored are built. Returns the time that it took.
fn settle(running: &Running) -> Result<Duration> {
    let start = clock::now();
    // The last partition is sealed once no more events arrive.
    process::pause(Duration::from_secs(3))?;
    process::poll("indexes are built", SETTLED_WITHIN, || Ok((!running.is_upkeep_pending()?).then_some(())))?;
    Ok(start.elapsed())
}

fn check_stored(running: &Running, rows: u64) -> Result<()> {
    let health = running.health()?;
    ensure!(
        health.database_events == rows,
        "{} rows are stored, {rows} were inserted",
        health.database_events
    );
    Ok(())
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 600_000_000, 3)?)
}

/// Sends one request after the other on one connection, with new ids only.
fn load(
    addr: SocketAddr,
    client: u64,
    rows: usize,
    times: Times,
    end: std::time::Instant,
) -> Result<(Histogram<u64>, u64)> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    let mut requests = Requests::new(addr, client, rows, times);
    let (mut latency_us, mut inserted, mut answer) = (histogram()?, 0, Vec::new());
    while clock::now() < end {
        let request = requests.next();
        let sent_us = clock::monotonic_us();
        stream.write_all(request)?;
        let length = read_answer(&mut stream, &mut answer)?;
        latency_us.saturating_record(clock::monotonic_us() - sent_us);
        let status = http::status(&answer);
        let text = String::from_utf8_lossy(&answer[..length]);
        ensure!(status == 200, "a bulk request was answered {status}: {text}");
        ensure!(text.contains(&format!("\"inserted\":{rows},")), "not every row was inserted: {text}");
        inserted += rows as u64;
    }
    Ok((latency_us, inserted))
}

fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<usize> {
    answer.clear();
    let mut piece = [0; 64 * 1024];
    loop {
        if let Some(length) = http::message_length(answer) {
            return Ok(length);
        }
        let read = stream.read(&mut piece).context("no answer")?;
        ensure!(read > 0 && answer.len() < ANSWER_BYTES_MAX, "the connection was closed in an answer");
        answer.extend_from_slice(&piece[..read]);
    }
}

/// Requests that differ only in their ids and times, updated in place.
pub(super) struct Requests {
    bytes: Vec<u8>,
    /// The positions of each row's id and time of day.
    ids: Vec<(usize, usize)>,
    random: u64,
    times: Times,
    /// Rows sent; a rising time advances by a tenth of a millisecond per row.
    sent: u64,
}

impl Requests {
    pub(super) fn new(addr: SocketAddr, client: u64, rows: usize, times: Times) -> Requests {
        let (mut body, mut ids) = (b"{\"events\":[".to_vec(), Vec::new());
        for row in 0..rows {
            if row > 0 {
                body.push(b',');
            }
            body.extend_from_slice(b"{\"event_id\":\"");
            let id = body.len();
            body.extend_from_slice(&[b'0'; 36]);
            let (source, kind) =
                (["web", "ios", "android"][row % 3], ["click", "view", "cart", "buy", "exit"][row % 5]);
            let tenant = row % 4;
            body.extend_from_slice(
                format!(
                    "\",\"tenant_id\":\"tenant_{tenant}\",\"source\":\"{source}\",\"event_type\":\"{kind}\",\
                     \"timestamp\":\"2024-01-15T"
                )
                .as_bytes(),
            );
            ids.push((id, body.len()));
            body.extend_from_slice(
                format!(
                    "00:00:00.000000Z\",\"payload\":{{\"page\":\"/products/{row}\",\
                     \"referrer\":\"https://example.com/search?q=shoes\",\"position\":{row},\"test\":true}}}}"
                )
                .as_bytes(),
            );
        }
        body.extend_from_slice(b"]}");
        let head = format!(
            "POST /events/bulk HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let ids = ids.into_iter().map(|(id, time)| (id + head.len(), time + head.len())).collect();
        Requests {
            bytes: [head.as_bytes(), &body].concat(),
            ids,
            random: client << 48 | clock::unix_us() as u64 | 1,
            times,
            sent: 0,
        }
    }

    fn random(&mut self) -> u64 {
        // xorshift64* (Marsaglia 2003, Vigna 2016)
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns the next request, with new UUIDs (version 4).
    pub(super) fn next(&mut self) -> &[u8] {
        for row in 0..self.ids.len() {
            let value = u128::from(self.random()) << 64 | u128::from(self.random());
            let (id, time) = self.ids[row];
            write_uuid(&mut self.bytes[id..id + 36], value);
            match self.times {
                Times::Rising => write_time(&mut self.bytes[time..time + 15], self.sent * 100),
                Times::Random => {
                    let random = self.random();
                    let (month, day) = (random % 12 + 1, random / 12 % 28 + 1);
                    let date = &mut self.bytes[time - 6..time - 1];
                    for (at, number) in [(0, month), (3, day)] {
                        date[at] = b'0' + (number / 10) as u8;
                        date[at + 1] = b'0' + (number % 10) as u8;
                    }
                    write_time(&mut self.bytes[time..time + 15], random >> 16);
                }
                Times::Equal => {}
            }
            self.sent += 1;
        }
        &self.bytes
    }
}

/// Writes the time of day of this many microseconds as `hh:mm:ss.uuuuuu`.
fn write_time(into: &mut [u8], us: u64) {
    let us = us % 86_400_000_000;
    let (seconds, mut rest) = (us / 1_000_000, us % 1_000_000);
    for (at, number) in [(0, seconds / 3_600), (3, seconds / 60 % 60), (6, seconds % 60)] {
        into[at] = b'0' + (number / 10) as u8;
        into[at + 1] = b'0' + (number % 10) as u8;
    }
    for digit in into[9..15].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// Writes the 36 characters of a UUID of version 4 made from these bits.
pub(super) fn write_uuid(into: &mut [u8], bits: u128) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | 4 << 76 | 2 << 62;
    let mut shift = 128;
    for (at, byte) in into.iter_mut().enumerate() {
        *byte = if matches!(at, 8 | 13 | 18 | 23) {
            b'-'
        } else {
            shift -= 4;
            DIGITS[(bits >> shift) as usize & 0xf]
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_sound_and_their_ids_differ() {
        let mut ids = std::collections::BTreeSet::new();
        let (mut different, mut days) =
            (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        for times in [Times::Rising, Times::Random, Times::Equal] {
            let client = times as u64 + 1;
            let mut requests = Requests::new(SocketAddr::from(([127, 0, 0, 1], 80)), client, 7, times);
            let request = requests.next();
            let body = request.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
            assert_eq!(http::message_length(request), Some(request.len()));
            let json: serde_json::Value = serde_json::from_slice(&request[body..]).unwrap();
            for row in json["events"].as_array().unwrap() {
                ids.insert(row["event_id"].to_string());
                let time = row["timestamp"].as_str().unwrap().to_owned();
                assert_eq!(time.len(), "2024-01-15T00:00:00.000000Z".len());
                if times == Times::Random {
                    days.insert(time[..10].to_owned());
                }
                different.insert(time);
            }
        }
        // The first rising time is that of equal ones, and random days hardly repeat.
        assert_eq!(different.len(), 14);
        assert!(days.len() > 3, "{days:?}");
        assert_eq!(ids.len(), 21);
        assert!(ids.iter().all(|id| id.len() == 38 && &id[15..16] == "4" && "89ab".contains(&id[20..21])));
    }
}
