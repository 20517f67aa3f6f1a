//! `single-orders`: one order per ingest, each with its own key, with the acks `os` and `disk`: the cost of the rule
//! that a key never outlives its rows.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firehose::base::clock;

use crate::orders::{self, Lines};
use crate::peer::{self, Running, Serve, System};
use crate::report::{Limit, Report};
use crate::run::{self, Figures, Round};
use crate::setup::Setup;
use crate::{http, process};

const ORDERS: usize = 20_000;
/// One fdatasync serves every ingest that waits for it, so the bar applies where there are some.
const BAR_CLIENTS: usize = 64;
const DISK_RATIO_MIN: f64 = 0.5;

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let mut report = Report::new("single-orders");
    let levels = ["os", "disk"].map(|ack| System::Firehose(Serve { ack, ..Serve::new(setup) }));
    peer::check(&levels)?;
    let world = orders::world(orders::MEDIUM, setup.orders.unwrap_or(ORDERS))?;
    let lines = Lines::new(&world, 1)?;
    for clients in setup.connection_counts(&[1, BAR_CLIENTS]) {
        let case = format!("{clients} clients, an order an ingest");
        run::interleave(setup.rounds, &levels, |round, system| {
            let System::Firehose(serve) = system else { return Ok(()) };
            report.record(&case, serve.ack, round, one(setup, system, &lines, clients)?);
            Ok(())
        })?;
        if clients == BAR_CLIENTS {
            let ratio = report.ratio((&case, "disk", "orders_per_s"), (&case, "os", "orders_per_s"));
            report.bar(
                format!("{case}: orders per second, disk / os"),
                Limit::AtLeast(DISK_RATIO_MIN),
                ratio,
            );
        }
    }
    Ok(report)
}

/// Sends as many of the orders as the time allows.
fn one(setup: &Setup, system: &System, lines: &Lines, clients: usize) -> Result<Round> {
    let mut running = system.start(setup)?;
    let next = AtomicUsize::new(0);
    let start = clock::now();
    let until = start + Duration::from_secs(setup.seconds);
    let sent = process::clients(&setup.load_cores, clients, |_| send(&running, lines, &next, until));
    let mut ms: Vec<f64> = sent.map_err(|error| running.with_log(error))?.into_iter().flatten().collect();
    let seconds = start.elapsed().as_secs_f64();
    running.stop()?;
    let stored = peer::stored_orders(running.folder.path())?;
    ensure!(stored == ms.len() as u64, "{stored} orders are stored, {} were answered", ms.len());
    ms.sort_by(f64::total_cmp);
    let at = |share: f64| ms.get((ms.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    let mut figures = Figures::new();
    figures.insert("orders_per_s", ms.len() as f64 / seconds);
    figures.insert("p50_ms", at(0.5));
    figures.insert("p99_ms", at(0.99));
    Ok(Round { figures, fault: None })
}

/// Sends one ingest after the other on one connection, and returns their durations.
fn send(running: &Running, lines: &Lines, next: &AtomicUsize, until: std::time::Instant) -> Result<Vec<f64>> {
    let mut stream = TcpStream::connect(running.addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let (mut ms, mut answer) = (Vec::new(), Vec::new());
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let start = clock::now();
        if number >= lines.chunks() || start >= until {
            return Ok(ms);
        }
        ensure!(!process::interrupted(), "interrupted");
        let (body, _) = lines.chunk(number);
        let mut request = format!(
            "POST /api/v1/ingest/orders/ HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-ndjson\r\n\
             Idempotency-Key: order-{number}\r\nContent-Length: {}\r\n\r\n",
            running.addr,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        stream.write_all(&request)?;
        read_answer(&mut stream, &mut answer)?;
        ensure!(http::status(&answer) == 200, "answered {}", String::from_utf8_lossy(&answer));
        ms.push(start.elapsed().as_secs_f64() * 1e3);
    }
}

fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<()> {
    let mut piece = [0; 4096];
    answer.clear();
    while http::message_length(answer).is_none() {
        let read = stream.read(&mut piece).context("no answer")?;
        ensure!(read > 0, "the connection was closed in an answer");
        answer.extend_from_slice(&piece[..read]);
    }
    Ok(())
}
