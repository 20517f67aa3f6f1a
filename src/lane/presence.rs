//! Ends reads whose clients have left, and long reads when the server stops.
//!
//! hyper does not watch a socket while a response is computed, and a stream without rows is not written to for a while.
//! The lane therefore looks at the sockets of all reads at every housekeeping. Writes run to their end: a client may
//! send one and leave.
//!
//! A reset ends a read at once. A client that has only shut down its sending side still waits for its response, but
//! the end of its bytes looks the same as that of a client that is gone. Before the response, the lane therefore sends an
//! interim response (100, RFC 9110 §15.2): a client that waits ignores it, and the system of one that is gone resets the
//! connection. Within a response, its pieces have this effect. If neither can be sent for a while, the read ends.

use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::body::{AnswerBody, BodyError};
use crate::base::clock;
use crate::cores::epoll::{self, Peer};

/// How long a read may continue after the server has begun to drain, from the start of the read.
pub(super) const STOP_PATIENCE: Duration = Duration::from_secs(1);
/// The age of a read at which its client is probed for the first time. Nearly all reads take less.
const PROBE_AFTER_US: u64 = 1_000_000;
/// The pause between two probes. A client may leave after it has ignored the first.
const PROBE_PAUSE_US: u64 = 5_000_000;
/// How long a read continues if its client has shut down its sending side, and nothing can be sent to it.
const SILENCE_US: u64 = 10_000_000;
/// An interim response. Every client of HTTP/1.1 must be able to ignore it.
const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The progress of the current read of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There is no read.
    Idle,
    /// Nothing of the response has been sent.
    Computes,
    /// The response is a stream of rows that are read meanwhile.
    Streams,
}

/// Why a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    ClientGone,
    Stopped,
}

/// How the end of the current response is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By its length or its last chunk.
    Framed,
    /// By the end of the connection (HTTP/1.0 without a length). Until the body is complete, the connection ends by a
    /// reset, so that nobody takes an incomplete body for a whole one.
    Open,
    /// By the end of the connection, and the body is complete.
    Complete,
}

/// The state of a connection's current read, shared by the connection's task, its socket and the lane.
#[derive(Debug)]
pub(super) struct Presence {
    phase: Cell<Phase>,
    started_us: Cell<u64>,
    /// Set if the client understands interim responses.
    may_probe: Cell<bool>,
    /// Set while hyper has bytes that the socket has not accepted.
    pub(super) is_blocked: Cell<bool>,
    /// The time since which the client is silent and nothing was sent to it.
    silent_since_us: Cell<Option<u64>>,
    probed_us: Cell<Option<u64>>,
    ended: Cell<Option<Ended>>,
    pub(super) end: Cell<End>,
    waker: RefCell<Option<Waker>>,
}

impl Default for Presence {
    fn default() -> Presence {
        Presence {
            phase: Cell::new(Phase::Idle),
            started_us: Cell::new(0),
            may_probe: Cell::new(false),
            is_blocked: Cell::new(false),
            silent_since_us: Cell::new(None),
            probed_us: Cell::new(None),
            ended: Cell::new(None),
            end: Cell::new(End::Framed),
            waker: RefCell::new(None),
        }
    }
}

/// The current read of a connection. Dropping it ends the watch.
pub(super) struct Watch(Rc<Presence>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.phase.set(Phase::Idle);
    }
}

impl Presence {
    /// Begins the watch of a request, if it is a read: if it changes nothing.
    pub(super) fn watch(self: &Rc<Presence>, request: &hyper::Request<Incoming>) -> Option<Watch> {
        if ![hyper::Method::GET, hyper::Method::HEAD].contains(request.method()) {
            return None;
        }
        self.phase.set(Phase::Computes);
        self.started_us.set(clock::monotonic_us());
        self.may_probe.set(request.version() == hyper::Version::HTTP_11);
        self.silent_since_us.set(None);
        self.probed_us.set(None);
        Some(Watch(self.clone()))
    }

    /// Records that the end of the connection is the end of the response.
    pub(super) fn open_end(&self, fd: RawFd) {
        match epoll::reset_on_close(fd, true) {
            Ok(()) => self.end.set(End::Open),
            Err(error) => {
                tracing::warn!(%error, "an incomplete response of HTTP/1.0 would not end by a reset")
            }
        }
    }

    /// Records that the socket has accepted bytes.
    pub(super) fn has_written(&self) {
        self.silent_since_us.set(None);
    }

    pub(super) fn is_reading(&self) -> bool {
        self.phase.get() != Phase::Idle
    }

    /// Returns why the connection is to be ended. Otherwise, the task is woken when there is a reason.
    pub(super) fn poll_ended(&self, context: &Context<'_>) -> Option<Ended> {
        let ended = self.ended.get();
        // A connection without a read needs no waker, and another poll follows the beginning of a read.
        if ended.is_none() && self.is_reading() {
            let mut waker = self.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
        }
        ended
    }

    fn look(&self, fd: RawFd, now_us: u64, is_draining: bool) {
        let phase = self.phase.get();
        if phase == Phase::Idle || self.ended.get().is_some() {
            return;
        }
        let age_us = now_us.saturating_sub(self.started_us.get());
        let ended = match epoll::peer_state(fd) {
            Peer::Gone => Some(Ended::ClientGone),
            Peer::Silent => self.has_left(fd, phase, age_us, now_us).then_some(Ended::ClientGone),
            Peer::There => None,
        };
        let is_late = is_draining && phase == Phase::Streams && age_us >= STOP_PATIENCE.as_micros() as u64;
        if let Some(ended) = ended.or(is_late.then_some(Ended::Stopped)) {
            self.ended.set(Some(ended));
            if let Some(waker) = self.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// Returns `true` if a client that has shut down its sending side counts as gone. Probes it if that is possible.
    fn has_left(&self, fd: RawFd, phase: Phase, age_us: u64, now_us: u64) -> bool {
        // hyper limits how long a client may not read.
        if self.is_blocked.get() {
            return false;
        }
        if phase == Phase::Streams || !self.may_probe.get() {
            let since_us = self.silent_since_us.get().unwrap_or(now_us);
            self.silent_since_us.set(Some(since_us));
            return now_us - since_us >= SILENCE_US;
        }
        let is_due = self.probed_us.get().is_none_or(|probed_us| now_us - probed_us >= PROBE_PAUSE_US);
        if age_us < PROBE_AFTER_US || !is_due {
            return false;
        }
        self.probed_us.set(Some(now_us));
        match epoll::send(fd, PROBE) {
            // A part of it would be the beginning of a damaged response.
            Ok(sent) => sent != PROBE.len(),
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// The connections that a lane serves.
#[derive(Debug, Default)]
pub(super) struct Presences(RefCell<slab::Slab<(RawFd, Rc<Presence>)>>);

/// A served connection in the list. Dropping it removes the entry.
pub(super) struct Served<'l> {
    all: &'l Presences,
    seat: usize,
}

impl Presences {
    /// Adds a connection. It must be removed before its socket is closed.
    pub(super) fn add(&self, fd: RawFd, presence: Rc<Presence>) -> Served<'_> {
        Served { all: self, seat: self.0.borrow_mut().insert((fd, presence)) }
    }

    /// Looks at the sockets of all reads.
    pub(super) fn look(&self, is_draining: bool) {
        let now_us = clock::monotonic_us();
        for (_, (fd, presence)) in self.0.borrow().iter() {
            presence.look(*fd, now_us, is_draining);
        }
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.all.0.borrow_mut().try_remove(self.seat);
    }
}

/// A response's body, during which the watch of its request continues.
pub(super) struct WatchedBody {
    body: AnswerBody,
    presence: Rc<Presence>,
    _watch: Option<Watch>,
}

impl WatchedBody {
    pub(super) fn new(body: AnswerBody, presence: Rc<Presence>, watch: Option<Watch>) -> WatchedBody {
        // Only bodies that are read from the shards are watched. A file holds no reader, and a live stream ends itself.
        let watch = watch.filter(|_| body.is_query());
        if let Some(Watch(presence)) = &watch {
            presence.phase.set(Phase::Streams);
            presence.silent_since_us.set(None);
        }
        WatchedBody { body, presence, _watch: watch }
    }
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let WatchedBody { body, presence, .. } = self.get_mut();
        let polled = Pin::new(&mut *body).poll_frame(context);
        let is_whole = matches!(polled, Poll::Ready(None)) || body.is_end_stream();
        if is_whole && presence.end.get() == End::Open {
            presence.end.set(End::Complete);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
