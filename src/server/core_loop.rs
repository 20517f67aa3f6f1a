//! One core's hot lane: an epoll loop over a closed list of wake-ups (a new connection, a readable or writable
//! connection, a message from another core, a finished fdatasync, the clock).
//!
//! ```text
//! wait ─► read every ready connection ─► parse, check, stage ─► one append ─► answer ─► wait
//! ```
//! In a steady state, the loop makes no system calls other than epoll_wait, recv, send and one write per tick. It
//! takes no lock and allocates nothing (S2).

mod answer;
mod arrive;
mod receive;
mod send;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use super::connections::{After, Connections, Key, Phase};
use super::endpoints::{CLICKS, ENDPOINTS, UNMATCHED};
use crate::api::error::{Asker, Refuse as _};
use crate::api::{self, Asked, Caller, Found, NotCalled, Operation, Preflight};
use crate::base::clock;
use crate::clicks;
use crate::config::{AckLevel, client_address};
use crate::cores::epoll::{self, Epoll};
use crate::cores::mailbox;
use crate::cores::stop::Stage;
use crate::cores::wake::Wake;
use crate::http::{
    Cors, Framing, Head, KnownHead, Method, Next, Refusal, RequestIds, To, Wanted, is_to_head, peek,
    sent_bytes_max, write_answer,
};
use crate::ingest::{Appended, Intake, Pressure, Refused};
use crate::lane::{HandedOver, Handler, answer_from_memory};
use crate::ops::Format;
use crate::ops::vitals::{CoreVitals, Latency, Vitals};
use crate::tenants::{Denied, Desk, Need, Now};

/// The maximum number of descriptors that one wait reports.
const EVENTS_MAX: usize = 1024;
/// The maximum number of connections accepted in one tick, so that a burst of new connections does not starve the
/// existing ones.
const ACCEPTS_MAX: usize = 64;
/// The maximum number of bytes in one read of a connection.
const RECV_BYTES: usize = 64 * 1024;
/// The number of staged bytes that ends a tick early. It bounds the memory of a tick and the size of one append.
const TICK_BYTES_MAX: usize = 1 << 20;
/// The number of responses that ends a tick early, for the same reason.
const TICK_ANSWERS_MAX: usize = 4 * 1024;
/// The size of the buffer for the bytes that one tick reads before it parses them.
const SCRATCH_BYTES: usize = 1 << 20;
/// How long the peer's unread bytes are dropped after a refusal, unless the peer closes the connection earlier.
const LINGER_MS: u64 = 1_000;
/// How long accepting pauses after an error such as EMFILE.
const ACCEPT_PAUSE_MS: u64 = 50;
/// The time between two log lines for accepted events.
const SAMPLE_MS: u64 = 1_000;
/// The smallest buffer for a partial request.
const INPUT_BYTES_MIN: usize = 2 * 1024;

const KEY_LISTENER: u64 = u64::MAX;
const KEY_WAKE: u64 = u64::MAX - 1;

/// The loop's limits. Time limits are in milliseconds.
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
    /// Set if there is a limit on events per client address.
    by_address: bool,
}

impl Limits {
    /// Returns the time limit of a phase in which a connection is read.
    fn reading_ms(&self, phase: Phase) -> u64 {
        match phase {
            Phase::Head => self.head_ms,
            Phase::Body => self.body_ms,
            _ => self.idle_ms,
        }
    }
}

/// What a listener is built from.
pub(super) struct Parts {
    pub(super) core: usize,
    pub(super) vitals: Arc<Vitals>,
    pub(super) wake: Arc<Wake>,
    pub(super) intake: Intake,
    pub(super) request_ids: RequestIds,
    pub(super) desk: Desk,
    /// Connections that other cores pass to this one.
    pub(super) inbox: Vec<mailbox::Receiver<OwnedFd>>,
    /// The mailboxes of the cores that connections are passed to. The entry for this core is `None`.
    pub(super) peers: Vec<Option<mailbox::Sender<OwnedFd>>>,
    pub(super) executor: async_channel::Sender<HandedOver>,
    pub(super) sync_wanted: async_channel::Sender<()>,
}

/// An owed response. Owed responses are in request order, and those of one connection are adjacent.
struct Owed {
    key: Key,
    what: OwedResponse,
}

enum OwedResponse {
    /// A 202 that is rendered after the append, so that no promise is sent before it is true.
    Accepted { receipt: crate::base::ids::Receipt, disk: bool, to: ResponseTarget },
    /// A response that is already rendered: a range of the arena.
    Rendered { start: usize, end: usize },
    /// There is no response. The connection's next step is in its `after`.
    Nothing,
}

/// The parts of a request that its response needs after the request's bytes have been dropped.
#[derive(Clone, Copy)]
struct ResponseTarget {
    request_id: (usize, usize),
    minor: u8,
    keep_alive: bool,
    has_origin: bool,
}

/// The bytes that one connection sent: a range of the scratch buffer.
struct Read {
    key: Key,
    start: usize,
    end: usize,
}

/// One connection's responses: a range of `out`.
struct Group {
    key: Key,
    start: usize,
    end: usize,
    events: u64,
    disk: bool,
}

/// When each status of refused events was last logged. Once all entries are taken, further statuses are not sampled.
#[derive(Default)]
struct Refusals([(u16, u64); 8]);

impl Refusals {
    fn is_first(&mut self, status: u16, now_ms: u64) -> bool {
        let Some((known, at_ms)) = self.0.iter_mut().find(|(known, _)| [0, status].contains(known)) else {
            return false;
        };
        let is_first = *known == 0 || now_ms >= *at_ms + SAMPLE_MS;
        if is_first {
            (*known, *at_ms) = (status, now_ms);
        }
        is_first
    }
}

/// A connection whose responses wait for the disk.
struct Held {
    key: Key,
    lane: usize,
    upto: u64,
    since_us: u64,
    events: u64,
    /// The id of this connection's sampled request, which is logged once it is answered.
    sampled: Option<String>,
}

pub(super) struct CoreLoop {
    parts: Parts,
    me: Arc<CoreVitals>,
    limits: Limits,
    epoll: Epoll,
    /// Set while the listener is in the epoll set. The socket itself is closed when the server drains.
    accepting: bool,
    listener: Option<TcpListener>,
    connections: Connections,
    /// Bytes that this tick has read and not parsed yet, one range per connection.
    scratch: Vec<u8>,
    scratch_filled: usize,
    reads: Vec<Read>,
    started_us: u64,
    /// Rendered responses and request ids of this tick.
    arena: Vec<u8>,
    owed: Vec<Owed>,
    /// The responses of this tick, one range per connection.
    out: Vec<u8>,
    accepted: clicks::AcceptedWriter,
    groups: Vec<Group>,
    /// Connections to read again without waiting.
    again: Vec<Key>,
    held: VecDeque<Held>,
    overdue: Vec<Key>,
    /// The head that any connection sent last.
    known_head: KnownHead,
    latency: Latency,
    now_us: u64,
    unix_us: i64,
    date: [u8; 29],
    date_s: i64,
    /// The request that this tick logs. At most one request per second is logged, because the lane has no time for
    /// more.
    sampled: Option<(Key, String)>,
    sample_at_ms: u64,
    /// The times at which refused events were last logged. In each second, the first refusal with each status is
    /// logged at level info.
    refusals: Refusals,
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
            buffer_bytes_max: config.buffer_bytes_a_core(parts.vitals.cores.len()),
            connections_max: config.connections_max,
            by_address: config.rate_per_address.is_some(),
        };
        let epoll = Epoll::new(EVENTS_MAX)?;
        epoll.add_level(&listener, KEY_LISTENER)?;
        epoll.add_level(&*parts.wake, KEY_WAKE)?;
        Ok(CoreLoop {
            me: parts.vitals.cores[parts.core].clone(),
            parts,
            limits,
            epoll,
            accepting: true,
            listener: Some(listener),
            connections: Connections::default(),
            scratch: vec![0; SCRATCH_BYTES],
            scratch_filled: 0,
            reads: Vec::with_capacity(EVENTS_MAX),
            started_us: 0,
            arena: Vec::with_capacity(RECV_BYTES),
            owed: Vec::with_capacity(EVENTS_MAX),
            out: Vec::with_capacity(SCRATCH_BYTES),
            accepted: clicks::AcceptedWriter::default(),
            groups: Vec::with_capacity(EVENTS_MAX),
            again: Vec::new(),
            held: VecDeque::new(),
            overdue: Vec::new(),
            known_head: KnownHead::default(),
            latency: Latency::default(),
            now_us: 0,
            unix_us: 0,
            date: [b' '; 29],
            date_s: i64::MIN,
            sampled: None,
            sample_at_ms: 0,
            refusals: Refusals::default(),
            sweep_at_ms: 0,
            publish_at_ms: 0,
            accept_again_at_ms: 0,
        })
    }

    /// Serves until the server flushes, then closes the remaining connections.
    pub(super) fn run(mut self) -> io::Result<()> {
        self.read_clock();
        loop {
            let timeout_ms = if self.again.is_empty() { self.until_next_duty_ms() } else { 0 };
            let count = self.epoll.wait(timeout_ms)?;
            self.read_clock();
            self.started_us = self.now_us;
            self.parts.intake.begin(self.now_us);
            for key in std::mem::take(&mut self.again) {
                self.guarded(key, |lane| lane.read_again(key));
            }
            for at in 0..count {
                let ready = self.epoll.ready(at);
                match ready.key {
                    KEY_LISTENER => self.accept(),
                    KEY_WAKE => self.woken(),
                    key => self.guarded(Key(key), |lane| lane.touched(Key(key), ready)),
                }
            }
            self.parse_reads();
            self.finish_tick();
            self.release_held();
            if !self.duties() {
                return Ok(());
            }
            let counted = &self.me.hot;
            counted.ticks.add(1);
            counted.busy_us.add(clock::monotonic_us() - self.started_us);
        }
    }

    /// Runs work for one connection and catches its panic. A bug that one client's bytes trigger costs that client
    /// its connection, but does not cost the other clients their core.
    fn guarded(&mut self, key: Key, work: impl FnOnce(&mut CoreLoop)) {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(self))).is_err() {
            tracing::error!(
                core = self.parts.core,
                "a request made the lane panic; its connection is closed"
            );
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

    fn until_next_duty_ms(&self) -> u32 {
        (self.sweep_at_ms.saturating_sub(self.now_ms()) + 1).min(self.limits.sweep_ms) as u32
    }

    /// Enforces time limits, publishes counters and checks the server's stop stage. Returns `false` when the loop has
    /// to end.
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
        self.finish_tick();
        self.parts.intake.rotate();
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
