//! epoll, accept, recv and send as the hot lane calls them: no allocation, no wrapper object a call.
#![allow(unsafe_code, reason = "std has no epoll; recv and send on bare descriptors save a lookup")]

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

/// Connections the kernel holds for us while a core is busy; clamped by net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// A listening socket among several on one address: the kernel spreads connections over them.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Inherited by accepted sockets: saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    // Answers are smaller than one segment: a paced congestion control (BBR) would only cost its timers.
    // Where there is no `reno`, the system's own choice stays.
    let _ = socket.set_tcp_congestion(b"reno");
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What [`Epoll::wait`] reports of one descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    pub key: u64,
    pub readable: bool,
    pub writable: bool,
    /// The peer has ended its direction (or the connection is broken): read until 0.
    pub hung_up: bool,
}

#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
    count: usize,
}

impl Epoll {
    pub fn new(events_max: usize) -> io::Result<Epoll> {
        // SAFETY: no pointers; the descriptor returned is ours alone.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just created, owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Epoll { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; events_max], count: 0 })
    }

    /// Level-triggered, for listening sockets and wake-ups.
    pub fn add_level(&self, fd: RawFd, key: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN as u32, key)
    }

    /// Edge-triggered in both directions, for connections: registered once and never touched again.
    pub fn add_edge(&self, fd: RawFd, key: u64) -> io::Result<()> {
        let events = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        self.control(libc::EPOLL_CTL_ADD, fd, events as u32, key)
    }

    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    fn control(&self, operation: i32, fd: RawFd, events: u32, key: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: key };
        // SAFETY: `event` outlives the call, which copies it.
        let outcome = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, &raw mut event) };
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits up to so many milliseconds; a signal counts as nothing ready.
    pub fn wait(&mut self, timeout_ms: i32) -> io::Result<usize> {
        let (events, len) = (self.events.as_mut_ptr(), self.events.len() as i32);
        // SAFETY: the kernel writes at most `len` events into the vector's own memory.
        let count = unsafe { libc::epoll_wait(self.fd.as_raw_fd(), events, len, timeout_ms) };
        if count < 0 {
            self.count = 0;
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) };
        }
        self.count = count as usize;
        Ok(self.count)
    }

    #[must_use]
    pub fn ready(&self, at: usize) -> Ready {
        let event = self.events[..self.count][at];
        let has = |flags: i32| event.events & flags as u32 != 0;
        Ready {
            key: event.u64,
            readable: has(libc::EPOLLIN),
            writable: has(libc::EPOLLOUT),
            hung_up: has(libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR),
        }
    }
}

/// A new connection, non-blocking; `WouldBlock` when there is none.
pub fn accept(listener: &TcpListener) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the peer's address is not asked for; the descriptor returned is ours alone.
    let fd = retry(|| unsafe {
        libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) as isize
    })?;
    // SAFETY: just accepted, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// The address at the other end of a connection; `None` where it is gone already.
#[must_use]
pub fn peer(fd: &OwnedFd) -> Option<IpAddr> {
    let address = SockRef::from(fd).peer_addr().ok()?.as_socket()?;
    Some(address.ip().to_canonical())
}

/// As a bare system call, as [`send`]: libc's functions are cancellation points, which costs a process
/// with threads two atomic operations a call (2 % of the hot lane's time).
pub fn recv(fd: RawFd, into: &mut [u8]) -> io::Result<usize> {
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: the kernel writes at most `len` bytes into the slice; the peer's address is not asked for.
    retry(|| unsafe {
        libc::syscall(libc::SYS_recvfrom, fd, into.as_mut_ptr(), into.len(), 0, null, null) as isize
    })
}

/// Never raises SIGPIPE.
pub fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let (flags, null) = (libc::MSG_NOSIGNAL, std::ptr::null_mut::<libc::c_void>());
    // SAFETY: the kernel reads at most `len` bytes from the slice; no address is given.
    retry(|| unsafe {
        libc::syscall(libc::SYS_sendto, fd, bytes.as_ptr(), bytes.len(), flags, null, 0) as isize
    })
}

/// Ends our direction, so that the peer reads the answer to its end before the close.
pub fn shutdown_write(fd: RawFd) {
    // SAFETY: no pointers. An error means that there is nothing left to end.
    unsafe { libc::shutdown(fd, libc::SHUT_WR) };
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
