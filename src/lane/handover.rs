//! A socket that moves from the hot lane to the executor of the same core.

use std::net::TcpStream;
use std::os::fd::OwnedFd;

/// The socket and the bytes already read from it. They start with a head that has not been answered.
#[derive(Debug)]
pub struct HandedOver {
    pub fd: OwnedFd,
    pub unread: Vec<u8>,
}

impl HandedOver {
    pub fn new(fd: OwnedFd, unread: Vec<u8>) -> HandedOver {
        HandedOver { fd, unread }
    }

    pub fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (TcpStream::from(self.fd), self.unread)
    }
}
