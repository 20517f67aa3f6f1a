//! A thin epoll handle: the three calls that the load loop and the floor peer make.
#![allow(
    unsafe_code,
    reason = "epoll has no safe wrapper in std, and the floor must not pay for a larger one"
)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Reports readiness once per arrival, not while bytes are left.
pub(crate) const EDGE: u32 = libc::EPOLLET as u32;
pub(crate) const READABLE: u32 = libc::EPOLLIN as u32;

const EVENTS_MAX: usize = 1024;

pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Epoll> {
        // SAFETY: takes no pointer; the result is checked below.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Epoll { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX] })
    }

    /// Watches a descriptor. [`Epoll::wait`] returns `key`. Closing the descriptor ends the watch.
    pub(crate) fn add(&self, fd: RawFd, interest: u32, key: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest, u64: key };
        // SAFETY: `event` outlives the call, which only reads it.
        if unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Waits until a descriptor is ready or the time is over (-1 waits without a limit), and returns the number of
    /// keys for [`Epoll::key`]. After a signal it returns 0.
    pub(crate) fn wait(&mut self, timeout_ms: i32) -> io::Result<usize> {
        let (events, room) = (self.events.as_mut_ptr(), self.events.len() as i32);
        // SAFETY: `events` points at `room` writable entries for the duration of the call.
        let ready = unsafe { libc::epoll_wait(self.fd.as_raw_fd(), events, room, timeout_ms) };
        if ready >= 0 {
            return Ok(ready as usize);
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            error => Err(error),
        }
    }

    pub(crate) fn key(&self, index: usize) -> u64 {
        self.events[index].u64
    }
}
