//! A closed-loop load with what wrk lacks: latency by 100 ms window, an exact count, a pace.
//!
//! One thread, one epoll, N keep-alive connections with one write of requests in flight on each. Without a rate, every
//! connection sends as soon as it has its responses. With a rate, requests are due at fixed times, and latency counts
//! from the due time, so that the stalls of a server are included.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail, ensure};
use firehose::base::clock;
use hdrhistogram::Histogram;

use crate::epoll::{EDGE, Epoll, READABLE};
use crate::{http, process};

const WINDOW_US: u64 = 100_000;
/// Time in which responses may still arrive after the last request was sent.
const LAST_ANSWERS_US: u64 = 5_000_000;
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The traffic of the load: its connections and their requests.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) connections: usize,
    /// Requests in one write. A connection waits for all their responses.
    pub(crate) depth: usize,
    /// Requests per second; `None` sends as fast as the responses arrive.
    pub(crate) rate: Option<f64>,
    /// A request that each connection sends first. Its response is read and not counted.
    pub(crate) first: Option<Vec<u8>>,
}

impl Shape {
    /// One event at a time on each connection.
    pub(crate) fn events(connections: usize) -> Shape {
        Shape { connections, depth: 1, rate: None, first: None }
    }
}

struct Window {
    latency_us: Histogram<u64>,
    answered: u64,
    refused: u64,
}

/// The responses, by their time of arrival.
pub(crate) struct Answers {
    start_us: u64,
    windows: Vec<Window>,
    /// Responses with 202.
    pub(crate) accepted: u64,
    /// Responses with any other status.
    pub(crate) refused: u64,
    /// Requests whose connection failed or that were never answered.
    pub(crate) lost: u64,
}

/// The responses between two moments of `clock::monotonic_us`, in whole windows.
pub(crate) struct Span {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    pub(crate) answered_per_s: f64,
    pub(crate) refused: u64,
}

impl Answers {
    fn new(start_us: u64) -> Answers {
        Answers { start_us, windows: Vec::new(), accepted: 0, refused: 0, lost: 0 }
    }

    fn record(&mut self, now_us: u64, latency_us: u64, status: u16) -> Result<()> {
        let index = ((now_us - self.start_us) / WINDOW_US) as usize;
        while self.windows.len() <= index {
            let latency_us = Histogram::new_with_bounds(1, 60_000_000, 2)?;
            self.windows.push(Window { latency_us, answered: 0, refused: 0 });
        }
        let window = &mut self.windows[index];
        window.latency_us.saturating_record(latency_us.max(1));
        window.answered += 1;
        if status == 202 {
            self.accepted += 1;
        } else {
            self.refused += 1;
            window.refused += 1;
        }
        Ok(())
    }

    pub(crate) fn between(&self, from_us: u64, to_us: u64) -> Result<Span> {
        let first = (from_us.saturating_sub(self.start_us)).div_ceil(WINDOW_US) as usize;
        let end = (to_us.saturating_sub(self.start_us) / WINDOW_US) as usize;
        let windows = self.windows.get(first..end.min(self.windows.len()).max(first)).unwrap_or_default();
        let mut latency_us = Histogram::<u64>::new_with_bounds(1, 60_000_000, 2)?;
        let (mut answered, mut refused) = (0, 0);
        for window in windows {
            latency_us.add(&window.latency_us)?;
            answered += window.answered;
            refused += window.refused;
        }
        // Windows without responses at the very end of the span count as time, too.
        let seconds = end.saturating_sub(first).max(1) as f64 * WINDOW_US as f64 / 1e6;
        Ok(Span {
            p50_us: latency_us.value_at_quantile(0.5) as f64,
            p99_us: latency_us.value_at_quantile(0.99) as f64,
            p999_us: latency_us.value_at_quantile(0.999) as f64,
            max_us: latency_us.max() as f64,
            answered_per_s: answered as f64 / seconds,
            refused,
        })
    }
}

/// A load that runs until it is stopped.
pub(crate) struct RunningLoad {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Answers>>,
}

/// Starts the load on a new thread that runs on `cores`.
pub(crate) fn start(addr: SocketAddr, shape: &Shape, cores: &[usize]) -> Result<RunningLoad> {
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, shape, cores) = (Arc::clone(&stop), shape.clone(), cores.to_vec());
    let work = move || {
        process::pin_here(&cores)?;
        Loop::connect(addr, &shape)?.run(&stopped)
    };
    let thread = std::thread::Builder::new().name("load".to_owned()).spawn(work)?;
    Ok(RunningLoad { stop, thread })
}

impl RunningLoad {
    /// Stops sending, waits for the outstanding responses, and returns all responses.
    pub(crate) fn stop(self) -> Result<Answers> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(answers) => answers.context("the load"),
            Err(_) => bail!("the load panicked"),
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// The due time of the requests in flight.
    due_us: u64,
    /// The number of requests in flight.
    on_the_way: usize,
    partial: Vec<u8>,
}

struct Loop {
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    /// Connections without a request in flight.
    idle: Vec<usize>,
    /// The requests of one write.
    requests: Vec<u8>,
    depth: usize,
    rate: Option<f64>,
    sent: u64,
    answers: Answers,
}

impl Loop {
    fn connect(addr: SocketAddr, shape: &Shape) -> Result<Loop> {
        let epoll = Epoll::new()?;
        let mut connections = Vec::with_capacity(shape.connections);
        for key in 0..shape.connections {
            let mut stream = http::connect(addr)?;
            if let Some(first) = &shape.first {
                let (status, ..) = http::exchange_on(&mut stream, first)?;
                ensure!(status == 200, "the first request of a connection got {status}");
            }
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            epoll.add(stream.as_raw_fd(), READABLE | EDGE, key as u64)?;
            connections.push(Some(Connection { stream, due_us: 0, on_the_way: 0, partial: Vec::new() }));
        }
        let idle = (0..shape.connections).rev().collect();
        let requests = http::event_request(addr).repeat(shape.depth);
        let answers = Answers::new(clock::monotonic_us());
        let Shape { depth, rate, .. } = *shape;
        Ok(Loop { epoll, connections, idle, requests, depth, rate, sent: 0, answers })
    }

    fn run(mut self, stop: &AtomicBool) -> Result<Answers> {
        let mut bytes = vec![0u8; ANSWER_BYTES_MAX];
        let mut end_us = None;
        loop {
            let now_us = clock::monotonic_us();
            if end_us.is_none() && (stop.load(Ordering::Relaxed) || process::interrupted()) {
                end_us = Some(now_us + LAST_ANSWERS_US);
            }
            match end_us {
                None => self.send_due(now_us)?,
                Some(end_us) if now_us >= end_us || self.on_the_way() == 0 => break,
                Some(_) => {}
            }
            // With a pace to keep, the loop spins: a sleep of 1 ms would be in every latency.
            let timeout_ms = if self.rate.is_some() { 0 } else { 10 };
            for index in 0..self.epoll.wait(timeout_ms)? {
                self.read(self.epoll.key(index) as usize, &mut bytes)?;
            }
        }
        self.answers.lost += self.on_the_way();
        Ok(self.answers)
    }

    fn on_the_way(&self) -> u64 {
        self.connections.iter().flatten().map(|connection| connection.on_the_way as u64).sum()
    }

    /// Sends the due requests on idle connections.
    fn send_due(&mut self, now_us: u64) -> Result<()> {
        while let Some(key) = self.idle.pop() {
            let due_us = match self.rate {
                None => clock::monotonic_us(),
                Some(rate) => self.answers.start_us + (self.sent as f64 * 1e6 / rate) as u64,
            };
            if self.rate.is_some() && due_us > now_us {
                self.idle.push(key);
                return Ok(());
            }
            let Some(connection) = self.connections[key].as_mut() else { continue };
            self.sent += self.depth as u64;
            (connection.due_us, connection.on_the_way) = (due_us, self.depth);
            // A few small requests on an empty socket: the kernel accepts all of them or the peer is gone.
            if !connection.stream.write(&self.requests).is_ok_and(|sent| sent == self.requests.len()) {
                self.give_up(key);
            }
        }
        if self.connections.iter().all(Option::is_none) {
            bail!("every connection failed");
        }
        Ok(())
    }

    fn give_up(&mut self, key: usize) {
        self.answers.lost +=
            self.connections[key].take().map_or(0, |connection| connection.on_the_way as u64);
    }

    fn read(&mut self, key: usize, bytes: &mut [u8]) -> Result<()> {
        let Some(connection) = self.connections[key].as_mut() else { return Ok(()) };
        let read = match connection.stream.read(bytes) {
            Ok(0) => 0,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(_) => 0,
        };
        if read == 0 {
            self.give_up(key);
            return Ok(());
        }
        let Connection { due_us, on_the_way, partial, .. } = connection;
        let joined = !partial.is_empty();
        if joined {
            partial.extend_from_slice(&bytes[..read]);
        }
        let whole = if joined { partial.as_slice() } else { &bytes[..read] };
        let now_us = clock::monotonic_us();
        let mut used = 0;
        while let Some(length) = http::message_length(&whole[used..]) {
            if *on_the_way == 0 {
                // A response without a request.
                self.give_up(key);
                return Ok(());
            }
            let status = http::status(&whole[used..]);
            self.answers.record(now_us, now_us.saturating_sub(*due_us), status)?;
            *on_the_way -= 1;
            used += length;
        }
        if whole.len() - used >= ANSWER_BYTES_MAX || (*on_the_way == 0 && used < whole.len()) {
            self.give_up(key);
            return Ok(());
        }
        if joined {
            partial.drain(..used);
        } else {
            partial.extend_from_slice(&bytes[used..read]);
        }
        if *on_the_way == 0 {
            self.idle.push(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts a server that answers `count` requests on one connection, the second with a 503.
    fn server(count: usize) -> Result<(SocketAddr, JoinHandle<Result<()>>)> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            let mut bytes = Vec::new();
            let mut chunk = [0u8; 4096];
            let mut answered = 0;
            while answered < count {
                let read = stream.read(&mut chunk)?;
                anyhow::ensure!(read > 0, "closed early");
                bytes.extend_from_slice(&chunk[..read]);
                while let Some(length) = http::message_length(&bytes) {
                    bytes.drain(..length);
                    answered += 1;
                    let status = if answered == 2 { "503 Busy" } else { "202 Accepted" };
                    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok");
                    // In two pieces, so that the reading side must join them.
                    stream.write_all(&answer.as_bytes()[..10])?;
                    stream.write_all(&answer.as_bytes()[10..])?;
                }
            }
            Ok(())
        });
        Ok((addr, thread))
    }

    #[test]
    fn every_answer_is_counted_by_its_status_and_a_lost_one_as_lost() -> Result<()> {
        let (addr, thread) = server(5)?;
        let load = Loop::connect(addr, &Shape::events(1))?;
        let start_us = load.answers.start_us;
        // The server closes after five responses. The sixth request is lost and ends the load.
        let stop = AtomicBool::new(false);
        let mut load = load;
        let mut bytes = vec![0u8; ANSWER_BYTES_MAX];
        while load.connections[0].is_some() {
            if load.send_due(clock::monotonic_us()).is_err() {
                break;
            }
            for index in 0..load.epoll.wait(1000)? {
                load.read(load.epoll.key(index) as usize, &mut bytes)?;
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(matches!(thread.join(), Ok(Ok(()))));
        assert_eq!((load.answers.accepted, load.answers.refused), (4, 1));
        assert!(load.answers.lost <= 1);
        let span = load.answers.between(start_us, start_us + 60_000_000)?;
        assert_eq!(span.refused, 1);
        assert!(span.max_us >= span.p50_us);
        Ok(())
    }

    #[test]
    fn pipelined_answers_are_counted_one_by_one_and_the_missing_ones_are_lost() -> Result<()> {
        let (addr, thread) = server(4)?;
        let mut load = Loop::connect(addr, &Shape { depth: 3, ..Shape::events(1) })?;
        let mut bytes = vec![0u8; ANSWER_BYTES_MAX];
        // The server answers all requests that it has read, two writes of three, and closes.
        while load.connections[0].is_some() && load.send_due(clock::monotonic_us()).is_ok() {
            for index in 0..load.epoll.wait(1000)? {
                load.read(load.epoll.key(index) as usize, &mut bytes)?;
            }
        }
        assert!(matches!(thread.join(), Ok(Ok(()))));
        let Answers { accepted, refused, lost, .. } = load.answers;
        assert_eq!((accepted, refused), (5, 1));
        assert_eq!(accepted + refused + lost, load.sent);
        Ok(())
    }

    #[test]
    fn a_span_holds_only_its_own_windows() -> Result<()> {
        let mut answers = Answers::new(1_000_000);
        answers.record(1_050_000, 10, 202)?;
        answers.record(1_150_000, 1000, 202)?;
        answers.record(1_250_000, 10, 500)?;
        let middle = answers.between(1_100_000, 1_200_000)?;
        assert_eq!((middle.refused, middle.answered_per_s as u64), (0, 10));
        assert!(middle.p99_us >= 990.0);
        assert_eq!(answers.between(1_200_000, 1_300_000)?.refused, 1);
        assert_eq!(answers.between(9_000_000, 9_100_000)?.answered_per_s as u64, 0);
        Ok(())
    }
}
