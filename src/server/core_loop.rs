//! One core's hot lane: an epoll loop over a closed list of wake-ups (a new connection, a readable or
//! writable one, a message from another core, a finished fdatasync, the clock).
//!
//! ```text
//! wait ─► read every ready connection ─► parse, check, stage ─► one append ─► answer ─► wait
//! ```
//! In a steady state it makes no system call beyond epoll_wait, recv, send and one write a tick, takes
//! no lock and allocates nothing (S2).

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use super::connections::{After, Connections, Key, Phase};
use super::handover::HandedOver;
use crate::api;
use crate::base::clock;
use crate::config::AckLevel;
use crate::cores::epoll::{self, Epoll};
use crate::cores::mailbox;
use crate::cores::stop::Stage;
use crate::cores::wake::Wake;
use crate::http::{Head, Method, Next, Refusal, RequestIds, To, Wanted, peek, sent_bytes_max, write_answer};
use crate::ingest::{Intake, Pressure, Refused};
use crate::ops::Format;
use crate::ops::vitals::{CoreVitals, Latency, Vitals};

/// Descriptors reported by one wait.
const EVENTS_MAX: usize = 1024;
/// Connections accepted in one tick, so that a storm of new ones does not starve the others.
const ACCEPTS_MAX: usize = 64;
/// Bytes asked of a connection at once.
const RECV_BYTES: usize = 64 * 1024;
/// Staged bytes that end a tick early: bounds the memory of a tick and the size of one append.
const TICK_BYTES_MAX: usize = 1 << 20;
/// Answers that end a tick early, for the same reason.
const TICK_ANSWERS_MAX: usize = 16 * 1024;
/// After a refusal the peer's unread bytes are dropped for so long, or until it closes.
const LINGER_MS: u64 = 1_000;
/// Accepting pauses after an error such as EMFILE.
const ACCEPT_PAUSE_MS: u64 = 50;
/// Smallest buffer for a partial request.
const INPUT_BYTES_MIN: usize = 2 * 1024;

const KEY_LISTENER: u64 = u64::MAX;
const KEY_WAKE: u64 = u64::MAX - 1;

/// Time limits in the loop's own unit.
#[derive(Clone, Copy, Debug)]
struct Limits {
    head_ms: u64,
    body_ms: u64,
    idle_ms: u64,
    write_ms: u64,
    sweep_ms: u64,
    event_bytes_max: usize,
    buffer_bytes_max: usize,
    connections_max: u64,
}

/// What a listener is made of.
pub(super) struct Parts {
    pub(super) core: usize,
    pub(super) vitals: Arc<Vitals>,
    pub(super) wake: Arc<Wake>,
    pub(super) intake: Intake,
    pub(super) request_ids: RequestIds,
    /// Connections that other cores pass on.
    pub(super) inbox: Vec<mailbox::Receiver<OwnedFd>>,
    /// Where connections are passed on to; `None` for the own core.
    pub(super) peers: Vec<Option<mailbox::Sender<OwnedFd>>>,
    pub(super) executor: async_channel::Sender<HandedOver>,
    pub(super) sync_wanted: async_channel::Sender<()>,
}

/// An answer owed, in the order of the requests; those of one connection stand together.
struct Owed {
    key: Key,
    what: What,
}

enum What {
    /// Rendered after the append: nobody is told before it is true.
    Accepted { receipt: crate::base::ids::Receipt, disk: bool, to: Addressee },
    /// Rendered already: a range of the arena.
    Rendered { start: usize, end: usize },
    /// Nothing to say; the connection's next step is in its `after`.
    Nothing,
}

/// What of a request its answer needs, when the request's bytes are gone.
#[derive(Clone, Copy)]
struct Addressee {
    request_id: (usize, usize),
    minor: u8,
    keep_alive: bool,
    has_origin: bool,
}

/// Connections whose answers wait for the disk.
struct Held {
    key: Key,
    lane: usize,
    upto: u64,
    since_us: u64,
    events: u64,
}

pub(super) struct CoreLoop {
    parts: Parts,
    me: Arc<CoreVitals>,
    limits: Limits,
    epoll: Epoll,
    /// Watched at the moment; the socket itself is closed when the server drains.
    accepting: bool,
    listener: Option<TcpListener>,
    connections: Connections,
    scratch: Vec<u8>,
    /// Rendered answers and request ids of this tick.
    arena: Vec<u8>,
    owed: Vec<Owed>,
    out: Vec<u8>,
    /// Connections to look at again without waiting.
    again: Vec<Key>,
    held: VecDeque<Held>,
    overdue: Vec<Key>,
    latency: Latency,
    now_us: u64,
    unix_us: i64,
    date: [u8; 29],
    date_s: i64,
    sweep_at_ms: u64,
    publish_at_ms: u64,
    accept_again_at_ms: u64,
}

impl CoreLoop {
    pub(super) fn new(parts: Parts, listener: TcpListener) -> io::Result<CoreLoop> {
        let config = &parts.vitals.config;
        let ms = |time: std::time::Duration| time.as_millis() as u64;
        let least = [config.head_timeout, config.body_timeout, config.idle_timeout, config.write_timeout];
        let least_ms = least.into_iter().map(ms).min().unwrap_or(1000);
        let limits = Limits {
            head_ms: ms(config.head_timeout),
            body_ms: ms(config.body_timeout),
            idle_ms: ms(config.idle_timeout),
            write_ms: ms(config.write_timeout),
            sweep_ms: (least_ms / 4).clamp(10, 500),
            event_bytes_max: config.event_bytes_max as usize,
            buffer_bytes_max: config.buffer_bytes_max as usize / parts.vitals.cores.len(),
            connections_max: config.connections_max,
        };
        let epoll = Epoll::new(EVENTS_MAX)?;
        epoll.add_level(listener.as_raw_fd(), KEY_LISTENER)?;
        epoll.add_level(parts.wake.as_raw_fd(), KEY_WAKE)?;
        Ok(CoreLoop {
            me: parts.vitals.cores[parts.core].clone(),
            parts,
            limits,
            epoll,
            accepting: true,
            listener: Some(listener),
            connections: Connections::default(),
            scratch: vec![0; RECV_BYTES],
            arena: Vec::with_capacity(RECV_BYTES),
            owed: Vec::with_capacity(EVENTS_MAX),
            out: Vec::with_capacity(RECV_BYTES),
            again: Vec::new(),
            held: VecDeque::new(),
            overdue: Vec::new(),
            latency: Latency::default(),
            now_us: 0,
            unix_us: 0,
            date: [b' '; 29],
            date_s: i64::MIN,
            sweep_at_ms: 0,
            publish_at_ms: 0,
            accept_again_at_ms: 0,
        })
    }

    /// Serves until the server flushes; every connection left then is closed.
    pub(super) fn run(mut self) -> io::Result<()> {
        self.read_clock();
        loop {
            let timeout_ms = if self.again.is_empty() { self.until_next_duty_ms() } else { 0 };
            let count = self.epoll.wait(timeout_ms)?;
            self.read_clock();
            let started_us = self.now_us;
            self.parts.intake.begin(self.now_us);
            for key in std::mem::take(&mut self.again) {
                self.guarded(key, |lane| lane.look_again(key));
            }
            for at in 0..count {
                let ready = self.epoll.ready(at);
                match ready.key {
                    KEY_LISTENER => self.accept(),
                    KEY_WAKE => self.woken(),
                    key => self.guarded(Key(key), |lane| lane.touched(Key(key), ready)),
                }
                if self.parts.intake.staged_bytes() > TICK_BYTES_MAX || self.owed.len() > TICK_ANSWERS_MAX {
                    self.finish_tick(started_us);
                    self.parts.intake.begin(self.now_us);
                }
            }
            self.finish_tick(started_us);
            self.release_held();
            if !self.duties() {
                return Ok(());
            }
            let counted = &self.me.hot;
            counted.ticks.add(1);
            counted.busy_us.add(clock::monotonic_us() - started_us);
        }
    }

    /// A bug that one client's bytes reach costs that client its connection, not the others their core.
    fn guarded(&mut self, key: Key, work: impl FnOnce(&mut CoreLoop)) {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(self))).is_err() {
            tracing::error!(
                core = self.parts.core,
                "a request made the lane panic; its connection is closed"
            );
            self.scratch.resize(RECV_BYTES, 0);
            self.owed.retain(|owed| owed.key != key);
            self.close(key);
        }
    }

    fn now_ms(&self) -> u64 {
        self.now_us / 1000
    }

    fn read_clock(&mut self) {
        self.now_us = clock::monotonic_us();
        self.unix_us = clock::unix_us();
        let second = self.unix_us.div_euclid(1_000_000);
        if second != self.date_s {
            self.date_s = second;
            self.date = clock::http_date(self.unix_us);
        }
    }

    fn until_next_duty_ms(&self) -> i32 {
        (self.sweep_at_ms.saturating_sub(self.now_ms()) + 1).min(self.limits.sweep_ms) as i32
    }

    // ── connections come ────────────────────────────────────────────────────────────────────────

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_MAX {
            let Some(listener) = &self.listener else { return };
            match epoll::accept(listener) {
                Ok(fd) => self.place(fd),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The peer was gone before we looked; the next one may be there.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(core = self.parts.core, %error, "accepting pauses for {ACCEPT_PAUSE_MS} ms");
                    self.stop_accepting();
                    self.accept_again_at_ms = self.now_ms() + ACCEPT_PAUSE_MS;
                    return;
                }
            }
        }
    }

    fn stop_accepting(&mut self) {
        if self.accepting {
            self.accepting = false;
            if let Some(listener) = &self.listener {
                // It was added by us; there is nothing to do about an error.
                let _ = self.epoll.remove(listener.as_raw_fd());
            }
        }
    }

    fn accept_again(&mut self) {
        if let Some(listener) = &self.listener {
            self.accepting = self.epoll.add_level(listener.as_raw_fd(), KEY_LISTENER).is_ok();
        }
    }

    /// Gives a new connection to the core with the fewest.
    fn place(&mut self, fd: OwnedFd) {
        self.me.hot.connections_opened.add(1);
        if self.parts.vitals.connections() >= self.limits.connections_max {
            self.turn_away(&fd);
            return;
        }
        let mine = self.me.connections();
        let cores = &self.parts.vitals.cores;
        let fewest = cores.iter().enumerate().min_by_key(|(_, core)| core.connections());
        let chosen = match fewest {
            Some((core, vitals)) if vitals.connections() < mine => core,
            _ => self.parts.core,
        };
        self.parts.vitals.cores[chosen].connection_opened();
        let fd = match &mut self.parts.peers[chosen] {
            None => fd,
            Some(peer) => match peer.send(fd) {
                Ok(()) => return,
                Err(fd) => {
                    // Its mailbox is full: keep the connection, and the counts right.
                    self.parts.vitals.cores[chosen].connection_closed();
                    self.me.connection_opened();
                    fd
                }
            },
        };
        self.adopt(fd);
    }

    fn adopt(&mut self, fd: OwnedFd) {
        let raw = fd.as_raw_fd();
        let key = self.connections.insert(fd, self.now_ms() + self.limits.idle_ms);
        if let Err(error) = self.epoll.add_edge(raw, key.0) {
            tracing::warn!(core = self.parts.core, %error, "a connection could not be watched; closed");
            self.close(key);
        }
    }

    /// 503 to one connection too many, as far as its socket takes it at once.
    fn turn_away(&mut self, fd: &OwnedFd) {
        let id = self.parts.request_ids.give();
        let limit = self.limits.event_bytes_max as u64;
        let answer = api::error::refusal(Refusal::ConnectionsFull, limit, id, &self.me.hot.problems);
        let to = To {
            date: &self.date,
            request_id: id.as_bytes(),
            minor: 1,
            keep_alive: false,
            head_only: false,
            has_origin: false,
        };
        self.out.clear();
        write_answer(&mut self.out, &answer, &to);
        // It is leaving either way.
        let _ = epoll::send(fd.as_raw_fd(), &self.out);
        epoll::shutdown_write(fd.as_raw_fd());
    }

    /// A message from another core, or word that something was synced.
    fn woken(&mut self) {
        self.parts.wake.clear();
        for from in 0..self.parts.inbox.len() {
            while let Ok(fd) = self.parts.inbox[from].pop() {
                self.adopt(fd);
            }
        }
    }

    // ── connections speak ───────────────────────────────────────────────────────────────────────

    fn touched(&mut self, key: Key, ready: epoll::Ready) {
        let Some(conn) = self.connections.get(key) else { return };
        conn.hung_up |= ready.hung_up;
        if ready.writable && conn.phase == Phase::Write {
            self.flush(key);
        }
        if ready.readable || ready.hung_up {
            self.readable(key);
        }
    }

    fn look_again(&mut self, key: Key) {
        if self.connections.get(key).is_some() {
            self.readable(key);
        }
    }

    /// Reads once (edge-triggered: what stays in the socket is noted in `more` or `again`).
    fn readable(&mut self, key: Key) {
        let Some(conn) = self.connections.get(key) else { return };
        if conn.phase == Phase::Linger {
            return self.drop_input(key);
        }
        if conn.is_blocked() {
            conn.more = true;
            return;
        }
        conn.more = false;
        let fd = conn.raw_fd();
        let owed_before = self.owed.len();
        if conn.input.is_empty() {
            let mut scratch = std::mem::take(&mut self.scratch);
            self.me.hot.recv_calls.add(1);
            let received = epoll::recv(fd, &mut scratch);
            let is_full = matches!(received, Ok(count) if count == scratch.len());
            if let Some(count) = self.received(key, received, is_full) {
                let rest = self.consume(key, &mut scratch, count);
                self.keep(key, &scratch[rest.0..rest.1]);
            }
            self.scratch = scratch;
        } else {
            let Some(mut input) = self.room_for_more(key) else { return };
            let filled = input.len();
            input.resize(input.capacity().min(filled + RECV_BYTES), 0);
            self.me.hot.recv_calls.add(1);
            let received = epoll::recv(fd, &mut input[filled..]);
            let is_full = matches!(received, Ok(count) if count == input.len() - filled);
            match self.received(key, received, is_full) {
                Some(count) => {
                    let rest = self.consume(key, &mut input, filled + count);
                    input.copy_within(rest.0..rest.1, 0);
                    input.truncate(rest.1 - rest.0);
                }
                None => input.truncate(filled),
            }
            self.put_input(key, input);
        }
        // Where an answer is owed, the connection is looked at again after it has left.
        if self.owed.len() == owed_before && self.connections.get(key).is_some_and(|conn| conn.more) {
            self.again.push(key);
        }
    }

    /// What a read says of the connection; the count where there is something to parse.
    fn received(&mut self, key: Key, received: io::Result<usize>, is_full: bool) -> Option<usize> {
        match received {
            Ok(0) => {
                // The peer has ended its direction: answers of whole requests have left or are owed and
                // still leave; half a request will never be whole.
                self.settle(key, After::Close);
                None
            }
            Ok(count) => {
                let conn = self.connections.get(key)?;
                if is_full || conn.hung_up {
                    conn.more = true;
                }
                Some(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(_) => {
                self.close(key);
                None
            }
        }
    }

    /// The connection's buffer with room for at least as much again; `None` when the lane holds too
    /// much already (the connection is refused).
    fn room_for_more(&mut self, key: Key) -> Option<Vec<u8>> {
        let full = self.connections.buffered() > self.limits.buffer_bytes_max;
        let conn = self.connections.get(key)?;
        let before = conn.input.capacity();
        if conn.input.len() == before {
            if full {
                self.refuse(key, Refusal::BuffersFull);
                return None;
            }
            conn.input.reserve_exact(before.max(INPUT_BYTES_MIN));
        }
        let input = std::mem::take(&mut conn.input);
        self.connections.rebuffered(before, 0);
        Some(input)
    }

    fn put_input(&mut self, key: Key, input: Vec<u8>) {
        let Some(conn) = self.connections.get(key) else { return };
        if !input.is_empty() {
            let after = input.capacity();
            conn.input = input;
            self.connections.rebuffered(0, after);
        }
    }

    /// Keeps what is left of the scratch buffer for the next read.
    fn keep(&mut self, key: Key, rest: &[u8]) {
        if rest.is_empty() {
            return;
        }
        if self.connections.buffered() > self.limits.buffer_bytes_max {
            return self.refuse(key, Refusal::BuffersFull);
        }
        let mut input = Vec::with_capacity((rest.len() + 1).next_power_of_two().max(INPUT_BYTES_MIN));
        input.extend_from_slice(rest);
        self.put_input(key, input);
    }

    /// Parses `buffer[..filled]` and answers every whole request in it; gives the range that is left.
    fn consume(&mut self, key: Key, buffer: &mut [u8], filled: usize) -> (usize, usize) {
        let Some(conn) = self.connections.get(key) else { return (0, 0) };
        let mut parser = std::mem::take(&mut conn.parser);
        let event_bytes_max = self.limits.event_bytes_max;
        let (mut start, mut filled, mut answered) = (0, filled, false);
        let after = loop {
            if start == filled {
                break After::KeepAlive;
            }
            let mut left = filled - start;
            let next =
                parser.next(&mut buffer[start..filled], &mut left, |head| wanted(head, event_bytes_max));
            // Chunks were moved together: the bytes behind them have moved down.
            let end = start + left;
            match next {
                Next::More { send_continue } => {
                    filled = end;
                    if send_continue {
                        self.owe_bytes(key, crate::http::CONTINUE);
                    }
                    break After::KeepAlive;
                }
                Next::Skip(bytes) => start += bytes,
                Next::Request { head, body, consumed } => {
                    answered = true;
                    let keep_alive = self.answer(key, &head, body);
                    start += consumed;
                    filled = end;
                    if !keep_alive {
                        break After::Close;
                    }
                }
                Next::HandOver => break After::HandOver,
                Next::Refused(refusal) => {
                    self.owe_refusal(key, refusal, &buffer[start..end]);
                    start = filled;
                    break After::Linger;
                }
            }
        };
        let in_body = parser.in_body();
        if let Some(conn) = self.connections.get(key) {
            conn.parser = parser;
            let phase = match (start < filled, in_body) {
                (false, _) => Phase::Idle,
                (true, false) => Phase::Head,
                (true, true) => Phase::Body,
            };
            // A limit runs from where its phase began, not from the last byte: dripping gains nothing,
            // nor do empty lines.
            if answered || phase != conn.phase {
                conn.phase = phase;
                conn.deadline_ms = self.now_us / 1000
                    + match phase {
                        Phase::Head => self.limits.head_ms,
                        Phase::Body => self.limits.body_ms,
                        _ => self.limits.idle_ms,
                    };
            }
        }
        match after {
            After::KeepAlive => {}
            After::Close => {
                // Closing on unread bytes would reset the connection and could take the answer with it.
                let unread = start < filled || self.connections.get(key).is_some_and(|conn| conn.more);
                start = filled;
                self.settle(key, if unread { After::Linger } else { After::Close });
            }
            after => self.settle(key, after),
        }
        (start, filled)
    }

    // ── requests are answered ───────────────────────────────────────────────────────────────────

    /// Owes the answer to one whole request; whether the connection stays.
    fn answer(&mut self, key: Key, head: &Head<'_>, body: &[u8]) -> bool {
        let (endpoint, argument) = api::find(head.path);
        let keep_alive = head.keep_alive && self.parts.vitals.stop.stage() < Stage::Draining;
        let answer = match (endpoint, head.method) {
            (api::Endpoint::Event, Method::Post) => match self.take_event(head, body) {
                Ok((receipt, disk)) => {
                    let start = self.arena.len();
                    self.arena.extend_from_slice(match head.request_id {
                        Some(id) => id.as_bytes(),
                        None => self.parts.request_ids.give().as_bytes(),
                    });
                    let to = Addressee {
                        request_id: (start, self.arena.len()),
                        minor: head.minor,
                        keep_alive,
                        has_origin: head.has_origin,
                    };
                    self.owed.push(Owed { key, what: What::Accepted { receipt, disk, to } });
                    self.me.hot.accepted_bytes.add(body.len() as u64);
                    return keep_alive;
                }
                Err(refused) => Err(refused),
            },
            _ => Ok(()),
        };
        let id = match head.request_id {
            Some(id) => id,
            None => self.parts.request_ids.give(),
        };
        let problems = &self.me.hot.problems;
        let answer = match answer {
            Ok(()) => {
                let format = Format::Text;
                let asked = api::Asked { endpoint, argument, method: head.method, format, request_id: id };
                api::plain(&asked, &self.parts.vitals, problems)
            }
            Err(refused) => api::error::refused(&refused, self.limits.event_bytes_max as u64, id, problems),
        };
        self.me.hot.count_request(endpoint as usize, answer.status);
        let to = To {
            date: &self.date,
            request_id: id.as_bytes(),
            minor: head.minor,
            keep_alive,
            head_only: head.method == Method::Head,
            has_origin: head.has_origin,
        };
        let start = self.arena.len();
        write_answer(&mut self.arena, &answer, &to);
        self.owed.push(Owed { key, what: What::Rendered { start, end: self.arena.len() } });
        keep_alive && !answer.close
    }

    fn take_event(
        &mut self,
        head: &Head<'_>,
        body: &[u8],
    ) -> Result<(crate::base::ids::Receipt, bool), api::error::EventRefused> {
        let disk = api::event::wants_disk(head.query, self.parts.vitals.config.ack)?;
        let coding = head.coding.ok_or(api::error::EventRefused::UnknownCoding)?;
        let receipt = self.parts.intake.take(coding, body, self.unix_us)?;
        Ok((receipt, disk))
    }

    fn owe_bytes(&mut self, key: Key, bytes: &[u8]) {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        self.owed.push(Owed { key, what: What::Rendered { start, end: self.arena.len() } });
    }

    /// `bytes` begin with the refused request: of a sound head the answer still takes over what it must.
    fn owe_refusal(&mut self, key: Key, refusal: Refusal, bytes: &[u8]) {
        let head = peek(bytes);
        let id = match head.and_then(|head| head.request_id) {
            Some(id) => id,
            None => self.parts.request_ids.give(),
        };
        let answer =
            api::error::refusal(refusal, self.limits.event_bytes_max as u64, id, &self.me.hot.problems);
        let to = To {
            date: &self.date,
            request_id: id.as_bytes(),
            minor: 1,
            keep_alive: false,
            head_only: head.is_some_and(|head| head.method == Method::Head),
            has_origin: head.is_some_and(|head| head.has_origin),
        };
        let start = self.arena.len();
        write_answer(&mut self.arena, &answer, &to);
        self.me.hot.count_request(api::Endpoint::Unknown as usize, answer.status);
        self.owed.push(Owed { key, what: What::Rendered { start, end: self.arena.len() } });
    }

    /// Refuses outside of parsing: a time limit, the memory limit.
    fn refuse(&mut self, key: Key, refusal: Refusal) {
        let Some(conn) = self.connections.get(key) else { return };
        let input = std::mem::take(&mut conn.input);
        self.connections.rebuffered(input.capacity(), 0);
        self.owe_refusal(key, refusal, &input);
        self.settle(key, After::Linger);
    }

    /// Decides what becomes of the connection once what it is owed has left.
    fn settle(&mut self, key: Key, after: After) {
        if let Some(conn) = self.connections.get(key) {
            conn.after = after;
            self.owed.push(Owed { key, what: What::Nothing });
        }
    }

    // ── the tick ends ───────────────────────────────────────────────────────────────────────────

    /// One append for all events of the tick, then every answer.
    fn finish_tick(&mut self, started_us: u64) {
        if self.owed.is_empty() {
            return;
        }
        let appended = self.parts.intake.commit();
        let owed = std::mem::take(&mut self.owed);
        let mut accepted = 0;
        let mut sync = false;
        let mut at = 0;
        while at < owed.len() {
            let key = owed[at].key;
            let first = at;
            while at < owed.len() && owed[at].key == key {
                at += 1;
            }
            let (events, disk) = self.render(&owed[first..at], &appended);
            match appended {
                Ok(Some(appended)) if disk => {
                    sync = true;
                    let Some(conn) = self.connections.get(key) else { continue };
                    let before = conn.output.capacity();
                    conn.output.extend_from_slice(&self.out);
                    let after = conn.output.capacity();
                    conn.phase = Phase::Held;
                    conn.deadline_ms = u64::MAX;
                    self.connections.rebuffered(before, after);
                    let (lane, upto) = (appended.lane, appended.upto);
                    self.held.push_back(Held { key, lane, upto, since_us: started_us, events });
                    self.close_above_budget(key);
                }
                _ => {
                    accepted += events;
                    self.send(key);
                }
            }
        }
        self.owed = owed;
        self.owed.clear();
        self.arena.clear();
        if sync {
            // A full channel means that the executor will look anyway.
            let _ = self.parts.sync_wanted.try_send(());
        }
        if accepted > 0 {
            self.acked(accepted, started_us);
        }
    }

    /// Renders one connection's answers into `out`: how many events they accept, and whether one of
    /// them promises the disk.
    fn render(
        &mut self,
        owed: &[Owed],
        appended: &Result<Option<crate::ingest::Appended>, Pressure>,
    ) -> (u64, bool) {
        self.out.clear();
        let (mut events, mut any_disk) = (0, false);
        for one in owed {
            match &one.what {
                What::Nothing => {}
                What::Rendered { start, end } => self.out.extend_from_slice(&self.arena[*start..*end]),
                What::Accepted { receipt, disk, to } => {
                    let id = &self.arena[to.request_id.0..to.request_id.1];
                    let addressee = To {
                        date: &self.date,
                        request_id: id,
                        minor: to.minor,
                        keep_alive: to.keep_alive,
                        head_only: false,
                        has_origin: to.has_origin,
                    };
                    match appended {
                        Ok(_) => {
                            events += 1;
                            any_disk |= disk;
                            let level = if *disk { AckLevel::Disk } else { AckLevel::Os };
                            api::event::write_accepted(&mut self.out, &addressee, level, *receipt);
                        }
                        Err(pressure) => {
                            let refused = Refused::Pressure(*pressure).into();
                            let limit = self.limits.event_bytes_max as u64;
                            let id = std::str::from_utf8(id).unwrap_or_default();
                            let answer = api::error::refused(&refused, limit, id, &self.me.hot.problems);
                            self.me.hot.count_request(api::Endpoint::Event as usize, answer.status);
                            write_answer(&mut self.out, &answer, &addressee);
                        }
                    }
                }
            }
        }
        (events, any_disk)
    }

    /// Counts acks of events and how long they took.
    fn acked(&mut self, events: u64, since_us: u64) {
        let took_us = clock::monotonic_us() - since_us;
        self.latency.histogram.saturating_record_n(took_us.max(1), events);
        self.latency.sum_us += took_us * events;
        self.me.hot.accepted_events.add(events);
        self.me.hot.requests[api::Endpoint::Event as usize][1].add(events);
    }

    /// Sends `out` to the connection; what the socket does not take waits in the connection.
    fn send(&mut self, key: Key) {
        let Some(conn) = self.connections.get(key) else { return };
        let waits_for_disk = conn.phase == Phase::Held;
        if self.out.is_empty() && conn.output.is_empty() && !waits_for_disk {
            return self.sent(key);
        }
        if !conn.output.is_empty() {
            let before = conn.output.capacity();
            conn.output.extend_from_slice(&self.out);
            let after = conn.output.capacity();
            self.connections.rebuffered(before, after);
            // Behind an answer that waits for the disk, it leaves with that one.
            if !waits_for_disk {
                self.flush(key);
            }
            return;
        }
        self.me.hot.send_calls.add(1);
        match epoll::send(conn.raw_fd(), &self.out) {
            Ok(count) if count == self.out.len() => self.sent(key),
            Ok(count) => self.wait_to_write(key, count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_to_write(key, 0),
            Err(_) => self.close(key),
        }
    }

    fn wait_to_write(&mut self, key: Key, sent: usize) {
        let Some(conn) = self.connections.get(key) else { return };
        let before = conn.output.capacity();
        conn.output.extend_from_slice(&self.out[sent..]);
        conn.phase = Phase::Write;
        conn.deadline_ms = self.now_us / 1000 + self.limits.write_ms;
        let after = conn.output.capacity();
        self.connections.rebuffered(before, after);
        self.close_above_budget(key);
    }

    /// Answers that nobody takes must not fill the memory: the connection that would go above it ends.
    fn close_above_budget(&mut self, key: Key) {
        if self.connections.buffered() > self.limits.buffer_bytes_max {
            self.close(key);
        }
    }

    /// Sends what waits in the connection.
    fn flush(&mut self, key: Key) {
        let Some(conn) = self.connections.get(key) else { return };
        self.me.hot.send_calls.add(1);
        match epoll::send(conn.raw_fd(), &conn.output) {
            Ok(count) if count == conn.output.len() => {
                let before = conn.output.capacity();
                conn.output = Vec::new();
                self.connections.rebuffered(before, 0);
                self.sent(key);
            }
            Ok(count) => {
                conn.output.drain(..count);
                conn.phase = Phase::Write;
                conn.deadline_ms = self.now_us / 1000 + self.limits.write_ms;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if conn.phase != Phase::Write {
                    conn.phase = Phase::Write;
                    conn.deadline_ms = self.now_us / 1000 + self.limits.write_ms;
                }
            }
            Err(_) => self.close(key),
        }
    }

    /// Everything owed has left: the connection's next step.
    fn sent(&mut self, key: Key) {
        let now_ms = self.now_us / 1000;
        let Some(conn) = self.connections.get(key) else { return };
        match conn.after {
            After::KeepAlive => {
                if matches!(conn.phase, Phase::Write | Phase::Held) {
                    let partial = !conn.input.is_empty();
                    conn.phase = match (partial, conn.parser.in_body()) {
                        (false, _) => Phase::Idle,
                        (true, false) => Phase::Head,
                        (true, true) => Phase::Body,
                    };
                    conn.deadline_ms = now_ms
                        + match conn.phase {
                            Phase::Head => self.limits.head_ms,
                            Phase::Body => self.limits.body_ms,
                            _ => self.limits.idle_ms,
                        };
                }
                if conn.more {
                    self.again.push(key);
                }
            }
            After::Close => self.close(key),
            After::Linger => {
                epoll::shutdown_write(conn.raw_fd());
                let before = conn.input.capacity();
                conn.input = Vec::new();
                conn.phase = Phase::Linger;
                conn.deadline_ms = now_ms + LINGER_MS;
                self.connections.rebuffered(before, 0);
                self.drop_input(key);
            }
            After::HandOver => self.hand_over(key),
        }
    }

    /// Reads and drops what a refused peer still sends, until it closes or its time is over.
    fn drop_input(&mut self, key: Key) {
        let Some(conn) = self.connections.get(key) else { return };
        match epoll::recv(conn.raw_fd(), &mut self.scratch) {
            Ok(0) => self.close(key),
            Ok(count) if count == self.scratch.len() => self.again.push(key),
            Ok(_) if conn.hung_up => self.again.push(key),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.close(key),
        }
    }

    fn hand_over(&mut self, key: Key) {
        let Some(conn) = self.connections.remove(key) else { return };
        // Still open, so that the executor is the only one to watch it.
        let _ = self.epoll.remove(conn.raw_fd());
        self.me.hot.handed_over.add(1);
        match self.parts.executor.try_send(HandedOver::new(conn.fd, conn.input)) {
            Ok(()) => {}
            Err(error) => {
                let handed = error.into_inner();
                self.turn_away(&handed.fd);
                self.me.connection_closed();
            }
        }
    }

    fn close(&mut self, key: Key) {
        if self.connections.remove(key).is_some() {
            self.me.connection_closed();
        }
    }

    // ── the disk and the clock ──────────────────────────────────────────────────────────────────

    /// Releases the answers whose events are on disk by now.
    fn release_held(&mut self) {
        while let Some(first) = self.held.front() {
            let is_synced = self.parts.intake.synced(first.lane) >= first.upto;
            let is_lost = !is_synced && self.parts.intake.sync_failed(first.lane);
            if !is_synced && !is_lost {
                return;
            }
            let Some(held) = self.held.pop_front() else { return };
            if is_lost {
                // No answer is the honest one: the events may or may not be stored.
                self.close(held.key);
                continue;
            }
            self.acked(held.events, held.since_us);
            self.flush(held.key);
        }
    }

    /// Time limits, counters and the stages of stopping; whether to go on.
    fn duties(&mut self) -> bool {
        let now_ms = self.now_ms();
        if now_ms < self.sweep_at_ms {
            return true;
        }
        self.sweep_at_ms = now_ms + self.limits.sweep_ms;
        let stage = self.parts.vitals.stop.stage();
        if stage >= Stage::Draining {
            self.stop_accepting();
            self.listener = None;
        } else if !self.accepting && now_ms >= self.accept_again_at_ms {
            self.accept_again();
        }
        let mut overdue = std::mem::take(&mut self.overdue);
        self.connections.overdue(now_ms, stage >= Stage::Draining, &mut overdue);
        for key in overdue.drain(..) {
            let Some(conn) = self.connections.get(key) else { continue };
            match conn.phase {
                Phase::Head => self.refuse(key, Refusal::HeadTimeout),
                Phase::Body => self.refuse(key, Refusal::BodyTimeout),
                Phase::Idle | Phase::Held | Phase::Write | Phase::Linger => self.close(key),
            }
        }
        self.overdue = overdue;
        self.finish_tick(self.now_us);
        self.me.hot.buffer_bytes.set(self.connections.buffered() as u64);
        if now_ms >= self.publish_at_ms {
            self.publish_at_ms = now_ms + 1_000;
            self.me.hot.ack_latency.store(Arc::new(self.latency.clone()));
        }
        if stage < Stage::Flushing {
            return true;
        }
        for key in self.connections.keys() {
            self.close(key);
        }
        false
    }
}

/// What this lane answers itself; everything else goes to the executor.
fn wanted(head: &Head<'_>, event_bytes_max: usize) -> Wanted {
    let (endpoint, _) = api::find(head.path);
    if !endpoint.is_hot() {
        return Wanted::Elsewhere;
    }
    Wanted::Here { body_bytes_max: sent_bytes_max(head.coding, event_bytes_max) }
}
