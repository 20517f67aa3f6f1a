//! `ingest-orders`: 1 M orders in order of time as NDJSON, 50,000 per request, from the socket to the commit on one
//! core, against Django with its REST framework; and in-process against a bare insert loop.

mod bare;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firehose::base::clock;
use serde::Deserialize;

use crate::cpu::CpuTimes;
use crate::orders::{self, Lines};
use crate::peer::{self, Running, Serve, System};
use crate::report::{Limit, Report};
use crate::run::{Figures, Round};
use crate::setup::Setup;
use crate::{cpu, http, process};

const ORDERS: usize = 1_000_000;
const CHUNK: usize = 50_000;
/// Django takes minutes for a million, and its rate does not depend on the number of orders.
const DJANGO_ORDERS: usize = 20_000;
const DJANGO_CHUNK: usize = 10_000;
const ORDERS_PER_S_MIN: f64 = 60_000.0;
const BARE_RATIO_MIN: f64 = 0.85;
const DJANGO_RATIO_MIN: f64 = 1.0;
const MEMORY_MIB_MAX: f64 = 64.0;
/// Threads of the server whose CPU is shown separately.
const ROLES: [(&str, &str); 3] =
    [("exec", "exec_cpu_us"), ("write", "write_cpu_us"), ("sort", "sort_cpu_us")];

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let mut report = Report::new("ingest-orders");
    let world = orders::world(orders::MEDIUM, setup.orders.unwrap_or(ORDERS))?;
    over_http(setup, &mut report, &world)?;
    in_process(setup, &mut report, &world)?;
    Ok(report)
}

/// `orders-loop`: the in-process part alone.
pub(crate) fn run_in_process(setup: &Setup) -> Result<Report> {
    let mut report = Report::new("orders-loop");
    let world = orders::world(orders::MEDIUM, setup.orders.unwrap_or(ORDERS))?;
    in_process(setup, &mut report, &world)?;
    Ok(report)
}

fn in_process(setup: &Setup, report: &mut Report, world: &firehose::gen_dataset::World) -> Result<()> {
    let records = orders::records(world)?;
    let case = "in-process, 10,000 orders a transaction";
    process::pin_here(&setup.server_cores)?;
    for round in 0..setup.rounds {
        report.record(case, "shard", round, bare::apply(setup, &records)?);
        report.record(case, "bare", round, bare::bare(setup, &records)?);
    }
    let ratio = report.ratio((case, "shard", "rows_per_s"), (case, "bare", "rows_per_s"));
    report.bar("orders per second, Shard::apply / bare loop", Limit::AtLeast(BARE_RATIO_MIN), ratio);
    let ratio = report.ratio((case, "bare", "row_cpu_us"), (case, "shard", "row_cpu_us"));
    report.bar("orders per second of CPU, Shard::apply / bare loop", Limit::AtLeast(BARE_RATIO_MIN), ratio);
    Ok(())
}

fn over_http(setup: &Setup, report: &mut Report, world: &firehose::gen_dataset::World) -> Result<()> {
    let systems = [System::Firehose(Serve::new(setup)), System::Django];
    peer::check(&systems)?;
    let lines = Lines::new(world, CHUNK)?;
    let few = orders::world(orders::MEDIUM, setup.orders.unwrap_or(ORDERS).min(DJANGO_ORDERS))?;
    let few = Lines::new(&few, DJANGO_CHUNK)?;
    for clients in setup.connection_counts(&[1, 2]) {
        let case = format!("{clients} clients, {CHUNK} orders a request");
        for round in 0..setup.rounds {
            let result = one(setup, &systems[0], &lines, clients)?;
            report.record(&case, "firehose", round, result);
            if clients == 1 {
                report.record(&case, "django", round, one(setup, &systems[1], &few, 1)?);
            }
        }
        let rate = report.median(&case, "firehose", "rows_per_s");
        report.bar(format!("{case}: orders per second"), Limit::AtLeast(ORDERS_PER_S_MIN), rate);
        if clients == 1 {
            // For one body of any length; every further client needs its own memory.
            let memory = report.worst(&case, "firehose", "over_idle_mib");
            report.bar(format!("{case}: memory over idle, MiB"), Limit::AtMost(MEMORY_MIB_MAX), memory);
            let ratio = report.ratio((&case, "firehose", "rows_per_s"), (&case, "django", "rows_per_s"));
            let text = format!("{case}: orders per second, firehose / django");
            report.bar(text, Limit::AtLeast(DJANGO_RATIO_MIN), ratio);
        }
    }
    Ok(())
}

/// The checked part of an ingest's response.
#[derive(Deserialize)]
struct Summary {
    rows_received: usize,
    rows_inserted: usize,
}

/// Sends every chunk once. The clients take the next chunk in turns.
fn one(setup: &Setup, system: &System, lines: &Lines, clients: usize) -> Result<Round> {
    let mut running = system.start(setup)?;
    let pid = running.process.pid();
    // The wait for the server's first response sends it an event.
    running.drain(Duration::from_secs(10))?;
    let there = running.health()?.database_events;
    let (idle, before) = (cpu::rss_bytes(pid)?, CpuTimes::of(pid)?);
    let next = AtomicUsize::new(0);
    let start = clock::now();
    let brought = process::clients(&setup.load_cores, clients, |_| send(&running, lines, &next));
    let seconds = start.elapsed().as_secs_f64();
    let mut sent = Sent::default();
    for one in brought.map_err(|error| running.with_log(error))? {
        sent.orders += one.orders;
        sent.chunk_ms.extend(one.chunk_ms);
    }
    let (cpu, peak, after) = (CpuTimes::of(pid)?, cpu::peak_rss_bytes(pid)?, cpu::rss_bytes(pid)?);
    let mut figures = Figures::new();
    figures.insert("rows_per_s", sent.orders as f64 / seconds);
    figures.insert("chunk_p50_ms", median(sent.chunk_ms));
    if matches!(system, System::Firehose(_)) {
        let mib = |bytes: u64| bytes.saturating_sub(idle) as f64 / f64::from(1 << 20);
        figures.insert("idle_mib", idle as f64 / f64::from(1 << 20));
        figures.insert("over_idle_mib", mib(peak));
        figures.insert("afterwards_mib", mib(after));
        let per_row = |ns: u64| ns as f64 / 1e3 / sent.orders.max(1) as f64;
        let cpu_us = per_row(cpu.total_since(&before));
        figures.insert("cpu_us", cpu_us);
        // The rate of a core that does nothing else.
        figures.insert("rows_per_cpu_s", 1e6 / cpu_us);
        for (role, figure) in ROLES {
            if let Some(ns) = cpu.role_since(&before, role) {
                figures.insert(figure, per_row(ns));
            }
        }
    } else {
        let stored = running.health()?.database_events - there;
        ensure!(stored == sent.orders as u64, "{stored} orders are stored, {} were sent", sent.orders);
    }
    running.stop()?;
    if matches!(system, System::Firehose(_)) {
        let stored = peer::stored_orders(running.folder.path())?;
        ensure!(stored == sent.orders as u64, "{stored} orders are stored, {} were sent", sent.orders);
    }
    Ok(Round { figures, fault: None })
}

#[derive(Default)]
struct Sent {
    orders: usize,
    /// Times from the first byte of a chunk to the response.
    chunk_ms: Vec<f64>,
}

/// Does the same as [`send`] and returns only the number of orders.
pub(super) fn send_all(running: &Running, lines: &Lines, next: &AtomicUsize) -> Result<usize> {
    Ok(send(running, lines, next)?.orders)
}

/// Sends one chunk after the other on one connection, each with its own key.
fn send(running: &Running, lines: &Lines, next: &AtomicUsize) -> Result<Sent> {
    let mut stream = connect(running)?;
    let mut sent = Sent::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= lines.chunks() {
            return Ok(sent);
        }
        let (orders, ms) = send_chunk(&mut stream, running, lines, number)?;
        sent.chunk_ms.push(ms);
        sent.orders += orders;
    }
}

pub(super) fn connect(running: &Running) -> Result<TcpStream> {
    let stream = TcpStream::connect(running.addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(600)))?;
    Ok(stream)
}

/// Sends one chunk with its own key. Returns its number of orders, all of which must be new, and the time in ms.
pub(super) fn send_chunk(
    stream: &mut TcpStream,
    running: &Running,
    lines: &Lines,
    number: usize,
) -> Result<(usize, f64)> {
    ensure!(!process::interrupted(), "interrupted");
    let (body, orders) = lines.chunk(number);
    let head = format!(
        "POST /api/v1/ingest/orders/ HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-ndjson\r\n\
         Idempotency-Key: chunk-{number}\r\nContent-Length: {}\r\n\r\n",
        running.addr,
        body.len()
    );
    let start = clock::now();
    stream.write_all(head.as_bytes())?;
    stream.write_all(body).context("the body was not taken")?;
    let answer = read_answer(stream)?;
    let ms = start.elapsed().as_secs_f64() * 1e3;
    let text = String::from_utf8_lossy(&answer);
    ensure!(http::status(&answer) == 200, "a chunk was answered {text}");
    let body = text.split("\r\n\r\n").nth(1).context("an answer without a body")?;
    let summary: Summary = serde_json::from_str(body).with_context(|| format!("unreadable: {body}"))?;
    ensure!(
        (summary.rows_received, summary.rows_inserted) == (orders, orders),
        "not every order was inserted: {body}"
    );
    Ok((orders, ms))
}

fn read_answer(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let (mut answer, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        if let Some(length) = http::message_length(&answer) {
            answer.truncate(length);
            return Ok(answer);
        }
        let read = stream.read(&mut piece).context("no answer")?;
        ensure!(read > 0 && answer.len() < 4 << 20, "the connection was closed in an answer");
        answer.extend_from_slice(&piece[..read]);
    }
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
