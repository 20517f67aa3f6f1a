//! One thread that sends events for several tenants, each at its own pace.
//!
//! It sends `POST /events` with a new id each time, with one request in flight on each connection. Latency counts from
//! the due time of a request, so that the stalls of a server are included. The thread spins, because a sleep would be
//! in every latency. One loop serves all parties, because two that spin on one core would wait for each other's time
//! slices.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use firehose::base::clock;
use hdrhistogram::Histogram;

use crate::epoll::{EDGE, Epoll, READABLE};
use crate::{http, process};

/// Time in which responses may still arrive after the last request was due.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 16 * 1024;
const LATENCY_US_MAX: u64 = 60_000_000;
const ID_DIGITS: usize = 16;

/// A tenant that sends.
#[derive(Clone)]
pub(super) struct Party {
    tenant: String,
    per_s: f64,
    connections: usize,
    request: Vec<u8>,
    /// Position of the event's id in the request.
    id_at: usize,
    id: u64,
}

impl Party {
    pub(super) fn new(tenant: &str, key: &str, per_s: f64, connections: usize) -> Party {
        let body = format!(
            "{{\"event_id\":\"{}\",\"tenant_id\":\"{tenant}\",\"source\":\"web\",\"event_type\":\"click\",\
             \"timestamp\":\"2024-01-15T10:30:00Z\",\"payload\":{{\"page\":\"/products/42\",\"button\":\"buy\"}}}}",
            "0".repeat(ID_DIGITS)
        );
        let head = format!(
            "POST /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let id_at = head.len() + "{\"event_id\":\"".len();
        let request = [head, body].concat().into_bytes();
        Party { tenant: tenant.to_owned(), per_s, connections, request, id_at, id: clock::unix_us() as u64 }
    }

    pub(super) fn tenant(&self) -> &str {
        &self.tenant
    }

    pub(super) fn per_s(&self) -> f64 {
        self.per_s
    }

    /// Returns an event that was not sent before.
    pub(super) fn next(&mut self) -> &[u8] {
        self.id += 1;
        let digits = format!("{:0ID_DIGITS$x}", self.id);
        self.request[self.id_at..self.id_at + ID_DIGITS].copy_from_slice(digits.as_bytes());
        &self.request
    }
}

/// The responses to one party's events within the measured time.
pub(super) struct Taken {
    /// Latency of the requests that were due in this time.
    pub(super) latency_us: Histogram<u64>,
    /// Responses with 201.
    pub(super) created: u64,
    /// Responses with 429.
    pub(super) limited: u64,
    pub(super) others: u64,
}

impl Taken {
    pub(super) fn answered(&self) -> u64 {
        self.created + self.limited + self.others
    }
}

struct Connection {
    stream: TcpStream,
    party: usize,
    /// The due time of the request in flight.
    due_us: Option<u64>,
    partial: Vec<u8>,
}

struct Side {
    party: Party,
    /// Connections without a request in flight.
    idle: Vec<usize>,
    sent: u64,
    taken: Taken,
}

/// The responses of each party, and the delays of the load itself.
pub(super) struct Sent {
    pub(super) taken: Vec<Taken>,
    /// Time between two turns of the loop, which the latencies include. It is long if the load had to share its core.
    pub(super) turn_us: Histogram<u64>,
}

/// Sends for all parties during `lead` and `time`, and measures only during `time`.
pub(super) fn send(addr: SocketAddr, parties: &[Party], lead: Duration, time: Duration) -> Result<Sent> {
    let mut epoll = Epoll::new()?;
    let (mut connections, mut sides) = (Vec::new(), Vec::new());
    for (number, party) in parties.iter().enumerate() {
        let first = connections.len();
        for key in first..first + party.connections {
            let stream = TcpStream::connect(addr)?;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            epoll.add(stream.as_raw_fd(), READABLE | EDGE, key as u64)?;
            connections.push(Connection { stream, party: number, due_us: None, partial: Vec::new() });
        }
        // No two calls use the same ids.
        let party = Party { id: party.id.max(clock::unix_us() as u64), ..party.clone() };
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?;
        let taken = Taken { latency_us, created: 0, limited: 0, others: 0 };
        sides.push(Side { party, idle: (first..connections.len()).rev().collect(), sent: 0, taken });
    }
    let start_us = clock::monotonic_us();
    let from_us = start_us + lead.as_micros() as u64;
    let to_us = from_us + time.as_micros() as u64;
    let end_us = to_us + LAST_ANSWERS.as_micros() as u64;
    let mut bytes = vec![0; ANSWER_BYTES_MAX];
    let (mut turn_us, mut last_us) = (Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?, start_us);
    loop {
        ensure!(!process::interrupted(), "interrupted");
        let now_us = clock::monotonic_us();
        if (from_us..to_us).contains(&now_us) {
            // Weighted by its length, which gives the share of the time in which the loop was this slow.
            turn_us.saturating_record_n(now_us - last_us, now_us - last_us);
        }
        last_us = now_us;
        for side in &mut sides {
            while let Some(key) = side.idle.pop() {
                let due_us = start_us + (side.sent as f64 * 1e6 / side.party.per_s) as u64;
                if due_us > now_us || due_us >= to_us {
                    side.idle.push(key);
                    break;
                }
                side.sent += 1;
                let (connection, request) = (&mut connections[key], side.party.next());
                connection.due_us = Some(due_us);
                let sent = connection.stream.write(request)?;
                ensure!(sent == request.len(), "a connection did not take a whole request");
            }
        }
        let on_the_way = connections.iter().any(|connection| connection.due_us.is_some());
        if now_us >= to_us && (!on_the_way || now_us >= end_us) {
            ensure!(!on_the_way, "requests were not answered within {LAST_ANSWERS:?}");
            return Ok(Sent { taken: sides.into_iter().map(|side| side.taken).collect(), turn_us });
        }
        for index in 0..epoll.wait(0)? {
            let key = epoll.key(index) as usize;
            let Some(status) = read(&mut connections[key], &mut bytes)? else { continue };
            let Some(due_us) = connections[key].due_us.take() else { bail!("an answer nobody asked for") };
            let side = &mut sides[connections[key].party];
            side.idle.push(key);
            let now_us = clock::monotonic_us();
            if (from_us..to_us).contains(&due_us) {
                side.taken.latency_us.saturating_record((now_us - due_us).max(1));
            }
            if (from_us..to_us).contains(&now_us) {
                match status {
                    201 => side.taken.created += 1,
                    429 => side.taken.limited += 1,
                    _ => side.taken.others += 1,
                }
            }
        }
    }
}

/// Returns the status of a complete response; `None` while a part of it is missing.
fn read(connection: &mut Connection, bytes: &mut [u8]) -> Result<Option<u16>> {
    let read = match connection.stream.read(bytes) {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    ensure!(read > 0, "the server closed a connection");
    let partial = &mut connection.partial;
    partial.extend_from_slice(&bytes[..read]);
    ensure!(partial.len() < ANSWER_BYTES_MAX, "an answer is too long");
    let Some(length) = http::message_length(partial) else { return Ok(None) };
    ensure!(length == partial.len(), "there is more than one answer");
    let status = http::status(partial);
    partial.clear();
    Ok(Some(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_differ_in_their_ids_only() {
        let mut party = Party::new("t", "fh_k", 10.0, 1);
        let (first, second) = (party.next().to_vec(), party.next().to_vec());
        assert_eq!(http::message_length(&first), Some(first.len()));
        let differing = first.iter().zip(&second).filter(|(one, two)| one != two).count();
        assert!((1..=ID_DIGITS).contains(&differing) && first.len() == second.len());
        let body = first.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        let event: serde_json::Value = serde_json::from_slice(&first[body..]).unwrap();
        assert_eq!(event["tenant_id"], "t");
        assert_eq!(event["event_id"].as_str().map(str::len), Some(ID_DIGITS));
    }
}
