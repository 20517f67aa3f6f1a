//! A closed-loop load of requests that the caller makes: one thread, one epoll, one request in flight on each connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Result, ensure};
use firehose::base::clock;
use hdrhistogram::Histogram;

use crate::epoll::{EDGE, Epoll, READABLE};
use crate::{http, process};

/// The requests of a load. A number is used once.
pub(crate) struct Requests<'r> {
    pub(crate) next: u64,
    /// Makes the request with a number.
    pub(crate) make: &'r dyn Fn(u64) -> Vec<u8>,
    /// The status that each response must have.
    pub(crate) status: u16,
    /// A response that takes longer is listed in [`Answered::slow`].
    pub(crate) slow_us: u64,
}

impl<'r> Requests<'r> {
    pub(crate) fn new(make: &'r dyn Fn(u64) -> Vec<u8>, status: u16) -> Requests<'r> {
        Requests { next: 0, make, status, slow_us: u64::MAX }
    }
}

/// One slow response. The time is on the monotonic clock.
#[derive(Clone, Copy)]
pub(crate) struct Slow {
    pub(crate) sent_us: u64,
    pub(crate) latency_us: u64,
}

/// The responses to a load.
pub(crate) struct Answered {
    pub(crate) count: u64,
    /// Responses with another status.
    pub(crate) odd: u64,
    pub(crate) latency_us: Histogram<u64>,
    /// From the first request to the last response.
    pub(crate) time: Duration,
    pub(crate) slow: Vec<Slow>,
}

/// One connection with one request in flight.
struct Connection {
    stream: TcpStream,
    partial: Vec<u8>,
    unsent: Vec<u8>,
    sent_us: u64,
}

impl Connection {
    fn send(&mut self, request: Vec<u8>) -> Result<()> {
        self.sent_us = clock::monotonic_us();
        self.unsent = request;
        self.flush()
    }

    /// Writes as much as the socket accepts.
    fn flush(&mut self) -> Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Returns the status of the response once it is complete.
    fn answer(&mut self) -> Result<Option<u16>> {
        let mut chunk = [0; 16_384];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => anyhow::bail!("a connection was closed"),
                Ok(read) => self.partial.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let Some(length) = http::message_length(&self.partial) else { return Ok(None) };
        let status = http::status(&self.partial);
        self.partial.drain(..length);
        Ok(Some(status))
    }
}

/// Sends requests for this time and waits for all responses.
pub(crate) fn load(
    addr: SocketAddr,
    connections: usize,
    time: Duration,
    requests: &mut Requests<'_>,
) -> Result<Answered> {
    let mut epoll = Epoll::new()?;
    let mut latency_us = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
    let mut open = Vec::with_capacity(connections);
    let start = clock::now();
    let mut next = || {
        requests.next += 1;
        (requests.make)(requests.next - 1)
    };
    for key in 0..connections {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll.add(stream.as_raw_fd(), READABLE | EDGE, key as u64)?;
        let mut connection = Connection { stream, partial: Vec::new(), unsent: Vec::new(), sent_us: 0 };
        connection.send(next())?;
        open.push(connection);
    }
    let (until, mut waiting) = (start + time, connections);
    let (mut count, mut odd, mut slow) = (0, 0, Vec::new());
    while waiting > 0 {
        ensure!(!process::interrupted(), "interrupted");
        // Only a request that did not fit into its socket needs the short wait.
        let is_partial = open.iter().any(|connection| !connection.unsent.is_empty());
        for index in 0..epoll.wait(if is_partial { 1 } else { 1_000 })? {
            let connection = &mut open[epoll.key(index) as usize];
            let Some(status) = connection.answer()? else { continue };
            let sent_us = connection.sent_us;
            let waited_us = clock::monotonic_us() - sent_us;
            latency_us.saturating_record(waited_us);
            if waited_us > requests.slow_us {
                slow.push(Slow { sent_us, latency_us: waited_us });
            }
            count += 1;
            odd += u64::from(status != requests.status);
            if clock::now() < until {
                connection.send(next())?;
            } else {
                waiting -= 1;
            }
        }
        if is_partial {
            open.iter_mut().try_for_each(Connection::flush)?;
        }
    }
    Ok(Answered { count, odd, latency_us, time: start.elapsed(), slow })
}
