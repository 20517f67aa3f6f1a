//! The hot lane's connections: a slab of small entries; memory is held only by those in the middle of
//! something.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::http::Connection;

/// Names an entry; stale names (of a connection closed in the same tick) find nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(pub(super) u64);

/// What a connection waits for: each has its own time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The next request.
    Idle,
    /// The rest of a head, from its first byte.
    Head,
    /// The rest of a body, from the end of its head.
    Body,
    /// The disk, before an answer that promises it.
    Held,
    /// The peer, to take its answer.
    Write,
    /// The peer, to see our close before its unread bytes would turn it into a reset.
    Linger,
}

/// What is to become of a connection once its answers are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    KeepAlive,
    Close,
    /// Refused in the middle of something: what it still sends is read and dropped for a while.
    Linger,
    HandOver,
}

pub(super) struct Conn {
    pub(super) fd: OwnedFd,
    generation: u32,
    pub(super) phase: Phase,
    pub(super) after: After,
    /// The socket may hold more than was read: look again when nothing stands in the way.
    pub(super) more: bool,
    /// What was read in this tick is not parsed yet.
    pub(super) unparsed: bool,
    /// Answers of this tick are owed, and may turn out to wait for the disk. Whoever parsed more before that is known
    /// would put later answers behind them under the wrong promise.
    pub(super) is_owed: bool,
    pub(super) hung_up: bool,
    pub(super) deadline_ms: u64,
    /// Who is at the other end; asked of the kernel only where it matters.
    pub(super) peer: Option<IpAddr>,
    pub(super) parser: Connection,
    /// Received and not yet consumed; no allocation while it is empty.
    pub(super) input: Vec<u8>,
    /// Rendered and not yet sent.
    pub(super) output: Vec<u8>,
}

impl Conn {
    pub(super) fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Nothing may be read now: an answer of an earlier request has to leave first.
    pub(super) fn is_blocked(&self) -> bool {
        self.unparsed
            || self.is_owed
            || matches!(self.phase, Phase::Held | Phase::Write)
            || self.after != After::KeepAlive
    }
}

/// All connections of one listener.
#[derive(Default)]
pub(super) struct Connections {
    entries: slab::Slab<Conn>,
    generation: u32,
    buffered: usize,
}

impl Connections {
    pub(super) fn insert(&mut self, fd: OwnedFd, peer: Option<IpAddr>, deadline_ms: u64) -> Key {
        self.generation = self.generation.wrapping_add(1);
        let conn = Conn {
            fd,
            generation: self.generation,
            phase: Phase::Idle,
            after: After::KeepAlive,
            more: false,
            unparsed: false,
            is_owed: false,
            hung_up: false,
            deadline_ms,
            peer,
            parser: Connection::default(),
            input: Vec::new(),
            output: Vec::new(),
        };
        let at = self.entries.insert(conn);
        Key(u64::from(self.generation) << 32 | at as u64)
    }

    pub(super) fn get(&mut self, key: Key) -> Option<&mut Conn> {
        let conn = self.entries.get_mut((key.0 & 0xffff_ffff) as usize)?;
        (conn.generation == (key.0 >> 32) as u32).then_some(conn)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Conn> {
        self.get(key)?;
        let conn = self.entries.try_remove((key.0 & 0xffff_ffff) as usize)?;
        self.buffered -= conn.input.capacity() + conn.output.capacity();
        Some(conn)
    }

    /// Bytes held for connections in the middle of something.
    pub(super) fn buffered(&self) -> usize {
        self.buffered
    }

    /// To be told after a change of a connection's buffers: their capacities before it.
    pub(super) fn rebuffered(&mut self, before: usize, after: usize) {
        self.buffered = self.buffered + after - before;
    }

    /// Keys of the connections past their deadline, and of idle ones when `idle_too`.
    pub(super) fn overdue(&self, now_ms: u64, idle_too: bool, into: &mut Vec<Key>) {
        for (at, conn) in &self.entries {
            if conn.deadline_ms <= now_ms || (idle_too && conn.phase == Phase::Idle) {
                into.push(Key(u64::from(conn.generation) << 32 | at as u64));
            }
        }
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        self.overdue(u64::MAX, true, &mut keys);
        keys
    }
}
