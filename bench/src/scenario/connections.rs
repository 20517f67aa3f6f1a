//! `connections`: ten thousand idle connections and five hundred slow heads next to a normal load.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Socket, Type};

use crate::peer::{Running, Serve, System};
use crate::report::{Limit, Report};
use crate::run::{self, Figures, Round};
use crate::setup::Setup;
use crate::wrk::Load;
use crate::{cpu, http, process};

const IDLE_CONNECTIONS: usize = 10_000;
/// Memory per connection is counted from this many on, because the first ones use memory that the load has freed.
const IDLE_FIRST: usize = 1_000;
const SLOW_HEADS: usize = 500;
/// Longer than the server's time limit for a head (10 s), so that every slow one is cut off once.
const SLOW_SECONDS_MIN: u64 = 15;
/// Ports of one source address that are used before the next address.
const PORTS_PER_SOURCE: usize = 4_000;
const IDLE_BYTES_MAX: f64 = 1024.0;
const SERVED_P99_US_MAX: f64 = 10_000.0;

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let files = process::raise_file_limit()?;
    ensure!(
        files >= IDLE_CONNECTIONS as u64 + 2_000,
        "{files} open files are allowed, {} are needed: ulimit -n",
        IDLE_CONNECTIONS + 2_000
    );
    // Idle connections must stay open for the whole round.
    let extra = vec!["idle-timeout=600s".to_owned()];
    let system = System::Firehose(Serve { extra, ..Serve::new(setup) });
    let mut report = Report::new("connections");
    let connections = setup.connections.unwrap_or(64);
    let case = format!("load on {connections} connections");
    for round in 0..setup.rounds {
        report.record(&case, system.name(), round, one(setup, &system, connections)?);
    }
    let median = |figure| report.median(&case, "firehose", figure);
    let (served, memory) = (median("idle_served"), median("idle_connection_bytes"));
    let cut = median("slow_heads_cut");
    let (idle_p99, slow_p99) = (median("p99_beside_idle_us"), median("p99_beside_slow_us"));
    report.bar("connections open at once and served", Limit::AtLeast(IDLE_CONNECTIONS as f64), served);
    report.bar("process memory per idle connection, bytes", Limit::AtMost(IDLE_BYTES_MAX), memory);
    report.bar("p99 beside 10,000 idle connections, us", Limit::AtMost(SERVED_P99_US_MAX), idle_p99);
    report.bar("slow heads cut off", Limit::AtLeast(SLOW_HEADS as f64), cut);
    report.bar("p99 beside 500 slow heads, us", Limit::AtMost(SERVED_P99_US_MAX), slow_p99);
    Ok(report)
}

fn one(setup: &Setup, system: &System, connections: usize) -> Result<Round> {
    let mut running = system.start(setup)?;
    let mut figures = Figures::new();
    let mut faults = Vec::new();
    let mut loaded =
        |running: &Running, seconds, p99: &'static str, rate: &'static str, figures: &mut Figures| {
            let load = Load { seconds, ..setup.load("event.lua", connections) };
            let round = run::measure(running, system, setup, &load)?;
            faults.extend(round.fault);
            for (figure, name) in [("p99_us", p99), ("requests_per_s", rate)] {
                if let Some(value) = round.figures.get(figure) {
                    figures.insert(name, *value);
                }
            }
            anyhow::Ok(())
        };
    run::warm_up(&running, setup, &setup.load("event.lua", connections))?;
    loaded(&running, setup.seconds, "p99_alone_us", "alone_per_s", &mut figures)?;

    let pid = running.process.pid();
    let before = cpu::rss_bytes(pid)?;
    let mut idle = Vec::with_capacity(IDLE_CONNECTIONS);
    open_idle(running.addr, IDLE_FIRST, &mut idle)?;
    let with_first = cpu::rss_bytes(pid)?;
    open_idle(running.addr, IDLE_CONNECTIONS, &mut idle)?;
    let with_all = cpu::rss_bytes(pid)?;
    let rest = (IDLE_CONNECTIONS - IDLE_FIRST) as f64;
    figures.insert("idle_served", idle.len() as f64);
    figures.insert("rss_before_bytes", before as f64);
    figures.insert("rss_with_idle_bytes", with_all as f64);
    figures.insert("idle_connection_bytes", with_all.saturating_sub(with_first) as f64 / rest);
    loaded(&running, setup.seconds, "p99_beside_idle_us", "beside_idle_per_s", &mut figures)?;
    let closed = idle.iter().filter(|stream| is_closed(stream)).count();
    figures.insert("idle_closed", closed as f64);
    drop(idle);

    let slow = SlowHeads::start(running.addr, &setup.load_cores)?;
    let seconds = setup.seconds.max(SLOW_SECONDS_MIN);
    loaded(&running, seconds, "p99_beside_slow_us", "beside_slow_per_s", &mut figures)?;
    figures.insert("slow_heads_cut", slow.stop()? as f64);
    running.stop()?;
    if closed > 0 {
        faults.push(format!("{closed} idle connections were closed"));
    }
    Ok(Round { figures, fault: (!faults.is_empty()).then(|| faults.join(", ")) })
}

/// Opens connections until there are `count`, with one event answered on each, from as many source addresses as
/// needed.
fn open_idle(addr: SocketAddr, count: usize, streams: &mut Vec<TcpStream>) -> Result<()> {
    let request = http::event_request(addr);
    let mut answer = [0u8; 4096];
    for index in streams.len()..count {
        ensure!(!process::interrupted(), "interrupted");
        let mut stream = connect_from(index, addr).with_context(|| format!("idle connection {index}"))?;
        stream.write_all(&request)?;
        let read = stream.read(&mut answer).with_context(|| format!("idle connection {index}"))?;
        let status = http::status(&answer[..read]);
        ensure!(status == 202, "idle connection {index} was answered {status}");
        streams.push(stream);
    }
    Ok(())
}

fn connect_from(index: usize, addr: SocketAddr) -> Result<TcpStream> {
    let source = Ipv4Addr::new(127, 0, 0, u8::try_from(2 + index / PORTS_PER_SOURCE)?);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&addr.into(), Duration::from_secs(5))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(socket.into())
}

fn is_closed(stream: &TcpStream) -> bool {
    let mut byte = [0u8; 1];
    stream.set_nonblocking(true).is_err() || matches!(stream.peek(&mut byte), Ok(0))
}

/// Connections that send their head at one byte per second. One that is cut off is opened again.
struct SlowHeads {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<u64>>,
}

impl SlowHeads {
    fn start(addr: SocketAddr, cores: &[usize]) -> Result<SlowHeads> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, cores) = (Arc::clone(&stop), cores.to_vec());
        let mut streams = Vec::with_capacity(SLOW_HEADS);
        for index in 0..SLOW_HEADS {
            streams.push(slow_connection(index, addr)?);
        }
        let work = move || {
            process::pin_here(&cores)?;
            drip(streams, addr, &stopped)
        };
        let thread = std::thread::Builder::new().name("slow-heads".to_owned()).spawn(work)?;
        Ok(SlowHeads { stop, thread })
    }

    /// Returns the number of connections that were cut off.
    fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(cut) => cut,
            Err(_) => bail!("the slow heads panicked"),
        }
    }
}

fn slow_connection(index: usize, addr: SocketAddr) -> Result<(TcpStream, usize)> {
    let stream = connect_from(index, addr).with_context(|| format!("slow connection {index}"))?;
    stream.set_nonblocking(true)?;
    Ok((stream, 0))
}

fn drip(mut streams: Vec<(TcpStream, usize)>, addr: SocketAddr, stop: &AtomicBool) -> Result<u64> {
    const HEAD: &[u8] = b"POST /event HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
    let mut cut = 0;
    let mut answer = [0u8; 1024];
    while !stop.load(Ordering::Relaxed) {
        for (index, slot) in streams.iter_mut().enumerate() {
            let (stream, sent) = slot;
            let byte = HEAD.get(*sent).copied().unwrap_or(b'x');
            let written = stream.write(&[byte]).is_ok();
            // The response can only be the 408; if there is none yet, the read fails.
            if !written || stream.read(&mut answer).is_ok() {
                cut += 1;
                *slot = slow_connection(index, addr)?;
            } else {
                *sent += 1;
            }
        }
        for _ in 0..20 {
            if !stop.load(Ordering::Relaxed) {
                firehose::base::clock::pause(Duration::from_millis(50));
            }
        }
    }
    Ok(cut)
}
