//! `sse`: five thousand readers of one tenant's stream of price changes: memory and CPU while nothing happens, and the
//! time until an anomaly has reached all of them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firehose::base::clock;
use hdrhistogram::Histogram;
use memchr::memmem;

use crate::epoll::{EDGE, Epoll, READABLE};
use crate::peer::{Serve, System};
use crate::report::{Limit, Report};
use crate::run::{Figures, Round};
use crate::setup::Setup;
use crate::{cpu, http, process};

const STREAMS: usize = 5_000;
/// Memory is counted from this many on, because the first ones use memory that the start has freed.
const STREAMS_FIRST: usize = 500;
const ANOMALIES: usize = 40;
const IDLE: Duration = Duration::from_secs(5);
/// Time after which an anomaly counts as lost.
const PATIENCE_US: u64 = 10_000_000;
const BYTES_MAX: f64 = 24.0 * 1024.0;
const P99_US_MAX: f64 = 100_000.0;

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let files = process::raise_file_limit()?;
    let streams = setup.connections.unwrap_or(STREAMS);
    ensure!(files >= streams as u64 + 500, "{files} open files are allowed, {} are needed", streams + 500);
    let system =
        System::Firehose(Serve { extra: vec!["flush-interval=1ms".to_owned()], ..Serve::new(setup) });
    let mut report = Report::new("sse");
    let case = format!("{streams} streams of one tenant");
    for round in 0..setup.rounds {
        report.record(&case, "firehose", round, one(setup, &system, streams)?);
    }
    let memory = report.median(&case, "firehose", "stream_bytes");
    report.bar("process memory per idle stream, bytes", Limit::AtMost(BYTES_MAX), memory);
    let p99 = report.median(&case, "firehose", "p99_us");
    report.bar("anomaly to all streams, p99, us", Limit::AtMost(P99_US_MAX), p99);
    Ok(report)
}

fn one(setup: &Setup, system: &System, count: usize) -> Result<Round> {
    let mut running = system.start(setup)?;
    let pid = running.process.pid();
    let post = |id: &str, price: u32| {
        let body = format!(
            r#"{{"event_id":"{id}","price":{price},"currency":"USD","observed_at":"2026-01-01T00:00:00Z"}}"#
        );
        let request = format!(
            "POST /api/v1/tenants/shop/products/p/price-event HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        http::exchange(running.addr, request.as_bytes())
    };
    // The first price of a product; every other price is an anomaly compared with it.
    let (status, ..) = post("a", 10)?;
    ensure!(status == 201, "the first price was answered {status}");
    let mut epoll = Epoll::new()?;
    let mut streams = Vec::with_capacity(count);
    open(running.addr, STREAMS_FIRST.min(count / 2), &mut epoll, &mut streams)?;
    let before = cpu::rss_bytes(pid)?;
    let first = streams.len();
    open(running.addr, count, &mut epoll, &mut streams)?;
    let after = cpu::rss_bytes(pid)?;
    let mut figures = Figures::new();
    figures.insert("stream_bytes", after.saturating_sub(before) as f64 / (count - first) as f64);
    figures.insert("rss_bytes", after as f64);
    let (used, start) = (process::cpu_ns(pid)?, clock::now());
    process::pause(IDLE)?;
    let used = process::cpu_ns(pid)?.saturating_sub(used) as f64;
    figures.insert("idle_cpu_percent", used / start.elapsed().as_nanos() as f64 * 100.0);
    let (mut latency, mut whole) = (
        Histogram::<u64>::new_with_bounds(1, 60_000_000, 2)?,
        Histogram::<u64>::new_with_bounds(1, 60_000_000, 2)?,
    );
    let mut lost = 0;
    for number in 0..ANOMALIES {
        // Reads the comments of the idle time.
        drain(&mut epoll, &mut streams)?;
        let sent_us = clock::monotonic_us();
        let (status, ..) = post(&format!("b{number}"), 20)?;
        ensure!(status == 201, "an anomaly was answered {status}");
        let mut missing = count;
        while missing > 0 && clock::monotonic_us() - sent_us < PATIENCE_US {
            ensure!(!process::interrupted(), "interrupted");
            for index in 0..epoll.wait(100)? {
                if has_anomaly(&mut streams[epoll.key(index) as usize])? {
                    latency.saturating_record(clock::monotonic_us() - sent_us);
                    // A stream that was late for the previous anomaly may be counted twice.
                    missing = missing.saturating_sub(1);
                }
            }
        }
        whole.saturating_record(clock::monotonic_us() - sent_us);
        lost += missing;
    }
    figures.insert("p50_us", latency.value_at_quantile(0.5) as f64);
    figures.insert("p99_us", latency.value_at_quantile(0.99) as f64);
    figures.insert("to_the_last_p50_us", whole.value_at_quantile(0.5) as f64);
    drop(streams);
    running.stop()?;
    Ok(Round { figures, fault: (lost > 0).then(|| format!("{lost} deliveries never came")) })
}

/// Opens streams until there are `count`, each with its first id.
fn open(addr: SocketAddr, count: usize, epoll: &mut Epoll, streams: &mut Vec<TcpStream>) -> Result<()> {
    const REQUEST: &[u8] = b"GET /api/v1/tenants/shop/price-anomalies HTTP/1.1\r\nHost: localhost\r\n\
                             Accept: text/event-stream\r\n\r\n";
    for number in streams.len()..count {
        ensure!(!process::interrupted(), "interrupted");
        let mut stream = TcpStream::connect(addr).with_context(|| format!("stream {number}"))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(REQUEST)?;
        let (mut answer, mut chunk) = (Vec::new(), [0; 2_048]);
        while memmem::find(&answer, b"\nid: ").is_none() {
            let read = stream.read(&mut chunk).with_context(|| format!("stream {number}"))?;
            ensure!(read > 0, "stream {number} was closed");
            answer.extend_from_slice(&chunk[..read]);
        }
        ensure!(http::status(&answer) == 200, "stream {number} was answered {}", http::status(&answer));
        stream.set_nonblocking(true)?;
        epoll.add(stream.as_raw_fd(), READABLE | EDGE, number as u64)?;
        streams.push(stream);
    }
    Ok(())
}

fn drain(epoll: &mut Epoll, streams: &mut [TcpStream]) -> Result<()> {
    loop {
        let ready = epoll.wait(0)?;
        if ready == 0 {
            return Ok(());
        }
        for index in 0..ready {
            has_anomaly(&mut streams[epoll.key(index) as usize])?;
        }
    }
}

/// Reads the available bytes. Returns `true` if they contain an anomaly, which is smaller than a segment.
fn has_anomaly(stream: &mut TcpStream) -> Result<bool> {
    let (mut found, mut chunk) = (false, [0; 4_096]);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => anyhow::bail!("a stream was closed"),
            Ok(read) => found |= memmem::find(&chunk[..read], b"event: anomaly").is_some(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(found),
            Err(error) => return Err(error.into()),
        }
    }
}
