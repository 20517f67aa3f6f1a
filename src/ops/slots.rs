//! The connections to the operators' port, and how long each has been silent.
#![allow(
    unsafe_code,
    reason = "shutdown(2) by descriptor: the only way to end a connection that the crate owns"
)]

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// Maximum number of connections. Operators and scrapers are few, and each connection costs up to 200 KiB (a
/// coroutine's stack and buffers).
pub(super) const CONNECTIONS_MAX: usize = 256;

/// Seconds that a connection may be without a complete request: more than the usual scrape intervals.
pub(super) const SILENCE_S_MAX: u64 = 120;

/// The connections. A slot contains the descriptor and the time of its last complete request. Only the `ops` thread
/// uses the slots, so a descriptor in a slot always belongs to that connection.
pub(super) struct Slots([AtomicU64; CONNECTIONS_MAX]);

/// The time stored for a connection that must not be closed, because a response is being generated.
pub(super) const WORKING: u64 = u32::MAX as u64;

impl Slots {
    pub(super) fn new() -> Slots {
        Slots([const { AtomicU64::new(0) }; CONNECTIONS_MAX])
    }

    /// Assigns a slot and returns its number, or `None` if all are taken.
    pub(super) fn enter(&self, fd: RawFd, now_s: u64) -> Option<usize> {
        let free = self.0.iter().position(|slot| slot.load(Ordering::Relaxed) == 0)?;
        self.mark(free, fd, now_s);
        Some(free)
    }

    pub(super) fn mark(&self, slot: usize, fd: RawFd, heard_s: u64) {
        // A taken slot is never zero, because zero means free. The stored descriptor is therefore one higher.
        self.0[slot].store((fd as u64 + 1) << 32 | heard_s.min(WORKING), Ordering::Relaxed);
    }

    pub(super) fn leave(&self, slot: usize) {
        self.0[slot].store(0, Ordering::Relaxed);
    }

    /// Closes the connections that were silent for too long, and returns their number.
    pub(super) fn cut_silent(&self, now_s: u64) -> usize {
        let mut cut = 0;
        for slot in &self.0 {
            let value = slot.load(Ordering::Relaxed);
            let heard_s = value & WORKING;
            if value != 0 && heard_s != WORKING && now_s.saturating_sub(heard_s) > SILENCE_S_MAX {
                shut((value >> 32) as RawFd - 1, libc::SHUT_RDWR);
                cut += 1;
            }
        }
        cut
    }
}

/// Shuts down one or both directions of a connection.
pub(super) fn shut(fd: RawFd, how: libc::c_int) {
    // SAFETY: plain numbers; `fd` is the socket of a connection whose loop is still running, because its slot is
    // released before the socket is closed, on the same thread.
    unsafe { libc::shutdown(fd, how) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    #[test]
    fn silent_connections_are_cut_and_working_ones_are_not() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let pair = || {
            let client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
            (client, server.accept().unwrap().0)
        };
        let (mut silent, silent_served) = pair();
        let (_working, working_served) = pair();
        let fd = std::os::fd::AsRawFd::as_raw_fd;
        let slots = Slots::new();
        let first = slots.enter(fd(&silent_served), 10).unwrap();
        let second = slots.enter(fd(&working_served), 10).unwrap();
        slots.mark(second, fd(&working_served), WORKING);
        assert_eq!(slots.cut_silent(10 + SILENCE_S_MAX), 0);
        assert_eq!(slots.cut_silent(11 + SILENCE_S_MAX), 1);
        assert_eq!(silent.read(&mut [0]).unwrap(), 0, "the client sees the end");
        slots.leave(first);
        assert_eq!(slots.cut_silent(1000), 0);
        let free = (0..CONNECTIONS_MAX).take_while(|_| slots.enter(7, 0).is_some()).count();
        assert_eq!(free, CONNECTIONS_MAX - 1);
    }
}
