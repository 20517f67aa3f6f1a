//! The hot lane's connections: a slab of small entries. Only connections in the middle of a request or response hold
//! memory.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::http::Connection;

/// The key of a slab entry. A stale key belongs to a connection that was closed in the same tick, and finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(pub(super) u64);

/// What a connection waits for. There is a separate time limit for each phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The next request.
    Idle,
    /// The rest of a head, from its first byte.
    Head,
    /// The rest of a body, from the end of its head.
    Body,
    /// The disk, before a response that promises it.
    Held,
    /// The peer, until it has received its response.
    Write,
    /// The peer, until it has seen our close. If the socket were closed first, the peer's unread bytes would cause a
    /// reset.
    Linger,
}

impl Phase {
    /// Returns the phase of a connection with these unparsed bytes. The beginning of an empty line begins no head.
    pub(super) fn reading(unparsed: &[u8], in_body: bool) -> Phase {
        match (unparsed, in_body) {
            (b"", _) | (b"\r", false) => Phase::Idle,
            (_, false) => Phase::Head,
            (_, true) => Phase::Body,
        }
    }
}

/// The next step of a connection once its responses are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    KeepAlive,
    Close,
    /// The request was refused before its end. What the peer still sends is read and dropped for a while.
    Linger,
    HandOver,
}

pub(super) struct Conn {
    pub(super) fd: OwnedFd,
    generation: u32,
    pub(super) phase: Phase,
    pub(super) after: After,
    /// Set if the socket may contain more than was read. The socket is read again once nothing blocks the connection.
    pub(super) more: bool,
    /// Set while bytes that were read in this tick are not parsed yet.
    pub(super) unparsed: bool,
    /// Set while the connection is owed responses of this tick, which may have to wait for the disk. No further
    /// request is parsed until it is known whether they have to. Otherwise, its response would be sent under the
    /// wrong promise.
    pub(super) is_owed: bool,
    pub(super) hung_up: bool,
    pub(super) deadline_ms: u64,
    /// The peer's address. It is requested from the kernel only if there is a limit per client address.
    pub(super) peer: Option<IpAddr>,
    pub(super) parser: Connection,
    /// Received bytes that are not consumed yet. An empty vector has no allocation.
    pub(super) input: Vec<u8>,
    /// Rendered bytes that are not sent yet.
    pub(super) output: Vec<u8>,
}

impl Conn {
    pub(super) fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Returns `true` if nothing may be read now, because the response to an earlier request must be sent first.
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

    /// Returns the total buffer size of connections that are in the middle of a request or response.
    pub(super) fn buffered(&self) -> usize {
        self.buffered
    }

    /// Updates the total after the capacity of a connection's buffers has changed from `before` to `after`.
    pub(super) fn rebuffered(&mut self, before: usize, after: usize) {
        self.buffered = self.buffered + after - before;
    }

    /// Collects the keys of the connections past their deadline and, if `idle_too`, of all idle connections.
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
