//! `merge`: 100,000 rows from eight shards read as one stream while the server keeps writing, against the sqlite3
//! shell with the same query over the attached shards.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firehose::base::clock;

use super::bulk::{Requests, Times};
use crate::peer::{Running, Serve, System};
use crate::report::{Limit, Report};
use crate::run::{Figures, Round};
use crate::setup::Setup;
use crate::{cpu, http, process};

const SHARDS: usize = 8;
const ROWS: usize = 100_000;
const ROWS_PER_S_MIN: f64 = 300_000.0;
/// Deep paging: a late page costs the same as an early one.
const DEEP_RATIO_MAX: f64 = 1.2;
/// Memory that the response may add to the server, whatever its size.
const GROWTH_MIB_MAX: f64 = 64.0;

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let mut report = Report::new("merge");
    let case = format!("{ROWS} rows, {SHARDS} shards");
    for round in 0..setup.rounds {
        let (firehose, sqlite) = one(setup)?;
        report.record(&case, "firehose", round, firehose);
        report.record(&case, "sqlite3", round, sqlite);
    }
    let rate = report.median(&case, "firehose", "rows_per_s");
    report.bar(format!("{case}: rows per second as NDJSON"), Limit::AtLeast(ROWS_PER_S_MIN), rate);
    let growth = report.worst(&case, "firehose", "growth_mib");
    report.bar(format!("{case}: memory added by three streams, MiB"), Limit::AtMost(GROWTH_MIB_MAX), growth);
    let deep = report.ratio((&case, "firehose", "page_10000_us"), (&case, "firehose", "page_1_us"));
    report.bar(format!("{case}: page 10,000 by cursor / page 1"), Limit::AtMost(DEEP_RATIO_MAX), deep);
    let ratio = report.ratio((&case, "firehose", "rows_per_s"), (&case, "sqlite3", "rows_per_s"));
    report.bar(format!("{case}: rows per second, firehose / sqlite3"), Limit::AtLeast(1.0), ratio);
    Ok(report)
}

fn one(setup: &Setup) -> Result<(Round, Round)> {
    let system = System::Firehose(Serve { shards: SHARDS, ..Serve::new(setup) });
    let mut running = system.start(setup)?;
    let pid = running.process.pid();
    let stream = &mut TcpStream::connect(running.addr)?;
    // Each request has four tenants, so the first tenant gets a quarter of the rows.
    let mut requests = Requests::new(running.addr, 1, 5_000, Times::Rising);
    for _ in 0..=ROWS * 4 / 5_000 {
        bulk(stream, requests.next())?;
    }
    running.drain(Duration::from_secs(60))?;

    let writing = Arc::new(AtomicBool::new(true));
    let writer = {
        let (addr, cores, writing) = (running.addr, setup.load_cores.clone(), writing.clone());
        std::thread::spawn(move || {
            process::pin_here(&cores)?;
            let (mut stream, mut requests) =
                (TcpStream::connect(addr)?, Requests::new(addr, 2, 100, Times::Rising));
            while writing.load(Ordering::Relaxed) {
                bulk(&mut stream, requests.next())?;
                process::pause(Duration::from_millis(50))?;
            }
            anyhow::Ok(())
        })
    };
    let peak = Peak::watch(pid)?;
    let target = "/events?tenant_id=tenant_0&to=2024-01-15T23:00:00Z";
    let (mut best_s, mut rows, mut first_ms, mut bytes) = (f64::MAX, 0, 0.0, 0);
    for _ in 0..3 {
        let stream = read_stream(&running, target)?;
        ensure!(stream.rows >= ROWS, "{} rows came back", stream.rows);
        if stream.seconds < best_s {
            (best_s, rows, first_ms, bytes) = (stream.seconds, stream.rows, stream.first_ms, stream.bytes);
        }
    }
    let growth = peak.stop()?;
    writing.store(false, Ordering::Relaxed);
    writer.join().ok().context("the writer panicked")??;
    running.drain(Duration::from_secs(60))?;

    let mut figures = Figures::new();
    figures.insert("rows_per_s", rows as f64 / best_s);
    figures.insert("first_row_ms", first_ms);
    figures.insert("answer_mib", bytes as f64 / f64::from(1 << 20));
    figures.insert("growth_mib", growth as f64 / f64::from(1 << 20));
    let (first, last) = walk(&running)?;
    figures.insert("page_1_us", first);
    figures.insert("page_10000_us", last);
    let sqlite = sqlite3(setup, &running)?;
    running.stop()?;
    Ok((Round { figures, fault: None }, sqlite))
}

fn bulk(stream: &mut TcpStream, request: &[u8]) -> Result<()> {
    stream.write_all(request)?;
    let (mut answer, mut piece) = (Vec::new(), [0; 64 * 1024]);
    while http::message_length(&answer).is_none() {
        let read = stream.read(&mut piece)?;
        ensure!(read > 0, "the connection was closed");
        answer.extend_from_slice(&piece[..read]);
    }
    ensure!(http::status(&answer) == 200, "{}", String::from_utf8_lossy(&answer));
    Ok(())
}

struct Streamed {
    rows: usize,
    seconds: f64,
    first_ms: f64,
    bytes: usize,
}

fn read_stream(running: &Running, target: &str) -> Result<Streamed> {
    let mut stream = TcpStream::connect(running.addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-ndjson\r\nConnection: close\r\n\r\n"
    );
    let start = clock::now();
    stream.write_all(request.as_bytes())?;
    let (mut piece, mut rows, mut bytes, mut first_ms, mut tail) =
        (vec![0; 256 * 1024], 0, 0, 0.0, Vec::new());
    loop {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            break;
        }
        if bytes == 0 {
            first_ms = start.elapsed().as_secs_f64() * 1e3;
            ensure!(http::status(&piece) == 200, "{}", String::from_utf8_lossy(&piece[..read]));
        }
        bytes += read;
        // Every row ends like this. The tail kept between two reads counts a row that they split.
        tail.extend_from_slice(&piece[..read]);
        rows += memchr::memmem::find_iter(&tail, b"}\n").count();
        let keep = usize::from(tail.last() == Some(&b'}'));
        tail.drain(..tail.len() - keep);
    }
    Ok(Streamed { rows, seconds: start.elapsed().as_secs_f64(), first_ms, bytes })
}

/// Follows next_cursor for 10,000 pages of ten rows. Returns the medians of the first hundred and the last hundred
/// pages. The very first page also counts the rows and is not included.
fn walk(running: &Running) -> Result<(f64, f64)> {
    let mut stream = TcpStream::connect(running.addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let base = "/events?tenant_id=tenant_0&page_size=10";
    let (mut target, mut times, mut answer, mut piece) =
        (base.to_owned(), Vec::new(), Vec::new(), [0; 64 * 1024]);
    for _ in 0..=10_000 {
        let start = clock::now();
        stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
        answer.clear();
        while http::message_length(&answer).is_none() {
            let read = stream.read(&mut piece)?;
            ensure!(read > 0, "the connection was closed");
            answer.extend_from_slice(&piece[..read]);
        }
        times.push(start.elapsed().as_secs_f64() * 1e6);
        let text = String::from_utf8_lossy(&answer);
        ensure!(http::status(&answer) == 200, "{text}");
        let cursor = text.split("\"next_cursor\":\"").nth(1).and_then(|rest| rest.split('"').next());
        target = format!("{base}&cursor={}", cursor.context("the pages ended early")?);
    }
    let median = |times: &[f64]| {
        let mut sorted = times.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    Ok((median(&times[1..101]), median(&times[9_900..])))
}

/// Reads the same rows in the same order by one query of the sqlite3 shell, written as JSON lines.
fn sqlite3(setup: &Setup, running: &Running) -> Result<Round> {
    let shard = |index: usize| running.folder.path().join(format!("data/shard-{index:02}/shard.db"));
    let mut sql = String::from(".mode list\n");
    for index in 1..SHARDS {
        writeln!(sql, "ATTACH '{}' AS s{index};", shard(index).display())?;
    }
    sql.push_str("SELECT json_object('event_id', event_id, 'tenant_id', tenant_id, 'source', source, 'event_type', \
         event_type, 'timestamp', strftime('%Y-%m-%dT%H:%M:%fZ', timestamp_us / 1e6, 'unixepoch'), 'payload', \
         json(payload), 'received_at', strftime('%Y-%m-%dT%H:%M:%fZ', received_us / 1e6, 'unixepoch')) FROM (");
    for index in 0..SHARDS {
        let (union, schema) = (
            if index == 0 { "" } else { " UNION ALL " },
            if index == 0 { "main".to_owned() } else { format!("s{index}") },
        );
        write!(sql, "{union}SELECT * FROM {schema}.service_event WHERE tenant_id = 'tenant_0'")?;
    }
    sql.push_str(") ORDER BY timestamp_us, event_id;\n");
    let mut command = Command::new("sqlite3");
    command.arg("-readonly").arg(shard(0)).stdin(Stdio::piped()).stdout(Stdio::piped());
    process::pin_here(&setup.server_cores)?;
    let start = clock::now();
    let mut child = command.spawn().context("sqlite3 is not installed: apt-get install sqlite3")?;
    child.stdin.take().context("no standard input")?.write_all(sql.as_bytes())?;
    let output = child.wait_with_output()?;
    let seconds = start.elapsed().as_secs_f64();
    process::pin_here(&setup.load_cores)?;
    let rows = memchr::memchr_iter(b'\n', &output.stdout).count();
    ensure!(output.status.success() && rows >= ROWS, "sqlite3 gave {rows} rows");
    let mut figures = Figures::new();
    figures.insert("rows_per_s", rows as f64 / seconds);
    Ok(Round { figures, fault: None })
}

/// The peak memory of a process during some work, minus its memory before.
pub(super) struct Peak {
    stop: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
    before: u64,
    thread: std::thread::JoinHandle<()>,
}

impl Peak {
    pub(super) fn watch(pid: u32) -> Result<Peak> {
        let before = cpu::rss_bytes(pid)?;
        let (stop, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(before)));
        let thread = {
            let (stop, peak) = (stop.clone(), peak.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    peak.fetch_max(cpu::rss_bytes(pid).unwrap_or(0), Ordering::Relaxed);
                    clock::pause(Duration::from_millis(5));
                }
            })
        };
        Ok(Peak { stop, peak, before, thread })
    }

    pub(super) fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the watcher panicked")?;
        Ok(self.peak.load(Ordering::Relaxed).saturating_sub(self.before))
    }
}
