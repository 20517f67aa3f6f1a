//! epoll, accept, recv and send for the hot lane: no allocation and no wrapper object per call.
#![allow(unsafe_code, reason = "recv and send on bare descriptors save a lookup")]

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd, RawFd};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::{Shutdown, SocketFlags};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

/// Connections that the kernel queues while a core is busy; limited by net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Opens one of several listening sockets on an address. The kernel distributes connections among them.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit this option, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    // Responses are smaller than one segment, so paced congestion control (BBR) would only add the cost of its
    // timers. If `reno` is not available, the system's default remains.
    let _ = socket.set_tcp_congestion(b"reno");
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The events of one descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    pub key: u64,
    pub readable: bool,
    pub writable: bool,
    /// Set if the peer has shut down its sending side, or the connection is broken. The caller reads until [`recv`]
    /// returns 0.
    pub hung_up: bool,
}

pub struct Epoll {
    fd: OwnedFd,
    /// The events of the last wait. The vector never grows beyond its initial capacity.
    events: Vec<epoll::Event>,
}

impl Epoll {
    pub fn new(events_max: usize) -> io::Result<Epoll> {
        Ok(Epoll { fd: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(events_max) })
    }

    /// Registers a level-triggered descriptor, for listening sockets and wake-ups.
    pub fn add_level(&self, fd: impl AsFd, key: u64) -> io::Result<()> {
        Ok(epoll::add(&self.fd, fd, EventData::new_u64(key), EventFlags::IN)?)
    }

    /// Registers an edge-triggered descriptor in both directions, for connections. It is registered once and never
    /// changed.
    pub fn add_edge(&self, fd: impl AsFd, key: u64) -> io::Result<()> {
        let events = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.fd, fd, EventData::new_u64(key), events)?)
    }

    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.fd, fd)?)
    }

    /// Waits up to this many milliseconds. If a signal interrupts the wait, no descriptor is ready.
    pub fn wait(&mut self, timeout_ms: u32) -> io::Result<usize> {
        let (seconds, rest_ms) = (timeout_ms / 1_000, timeout_ms % 1_000);
        let timeout = Timespec { tv_sec: i64::from(seconds), tv_nsec: i64::from(rest_ms) * 1_000_000 };
        self.events.clear();
        match epoll::wait(&self.fd, spare_capacity(&mut self.events), Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => Ok(0),
            waited => Ok(waited?),
        }
    }

    #[must_use]
    pub fn ready(&self, at: usize) -> Ready {
        let epoll::Event { flags, data } = self.events[at];
        Ready {
            key: data.u64(),
            readable: flags.contains(EventFlags::IN),
            writable: flags.contains(EventFlags::OUT),
            hung_up: flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR),
        }
    }
}

/// Accepts a new, non-blocking connection. Returns `WouldBlock` if there is none.
pub fn accept(listener: &TcpListener) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(rustix::io::retry_on_intr(|| rustix::net::accept_with(listener, flags))?)
}

/// Returns the address of the peer, or `None` if the connection is already closed.
#[must_use]
pub fn peer(fd: &OwnedFd) -> Option<IpAddr> {
    let address = SockRef::from(fd).peer_addr().ok()?.as_socket()?;
    Some(address.ip().to_canonical())
}

/// Receives bytes with a bare system call, like [`send`]. libc's functions are cancellation points, which cost a
/// multi-threaded process two atomic operations per call (2 % of the hot lane's time).
pub fn recv(fd: RawFd, into: &mut [u8]) -> io::Result<usize> {
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: the kernel writes at most `len` bytes into the slice; the peer's address is not requested.
    retry(|| unsafe {
        libc::syscall(libc::SYS_recvfrom, fd, into.as_mut_ptr(), into.len(), 0, null, null) as isize
    })
}

/// Sends bytes. It never raises SIGPIPE.
pub fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let (flags, null) = (libc::MSG_NOSIGNAL, std::ptr::null_mut::<libc::c_void>());
    // SAFETY: the kernel reads at most `len` bytes from the slice; no address is given.
    retry(|| unsafe {
        libc::syscall(libc::SYS_sendto, fd, bytes.as_ptr(), bytes.len(), flags, null, 0) as isize
    })
}

/// The peer of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    There,
    /// It has shut down its sending side. It may wait for a response, or be gone.
    Silent,
    /// The connection is reset, or both sides are shut down.
    Gone,
}

/// Returns the state of a connection's peer. Unread bytes do not hide it.
#[must_use]
pub fn peer_state(fd: RawFd) -> Peer {
    let mut asked = libc::pollfd { fd, events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: the kernel reads and writes one entry, and does not wait.
    let found = unsafe { libc::poll(&raw mut asked, 1, 0) };
    match asked.revents {
        _ if found < 1 => Peer::There,
        state if state & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0 => Peer::Gone,
        _ => Peer::Silent,
    }
}

/// Sets how a socket is closed: by a reset, which also drops unsent bytes, or in the usual way. A reset also follows if the
/// process is killed.
pub fn reset_on_close(fd: RawFd, is_reset: bool) -> io::Result<()> {
    let linger = libc::linger { l_onoff: is_reset.into(), l_linger: 0 };
    let length = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of the structure.
    let outcome = unsafe {
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), length)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Shuts down our sending side, so that the peer reads the response to its end before the close.
pub fn shutdown_write(fd: impl AsFd) {
    // An error means that the sending side is already shut down.
    let _ = rustix::net::shutdown(fd, Shutdown::Write);
}

fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        let outcome = call();
        if outcome >= 0 {
            return Ok(outcome as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
