//! The floor: one thread, epoll, one recv and one send per request; nothing parsed, nothing stored.
//!
//! It measures what any server on this kernel pays for a request and its response. It finds the end of a request by
//! its blank line and `Content-Length`, and answers all requests of one read by one send, each with a constant of the
//! size of firehose's 202. It does not allocate after a connection's first partial request.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use anyhow::Result;

use super::{ANSWER_BODY, ANSWER_HEADERS};
use crate::epoll::{EDGE, Epoll, READABLE};
use crate::http::message_length;

const READ_BYTES: usize = 64 * 1024;
/// Responses per send. More requests than this in one read are answered by several sends.
const ANSWERS_MAX: usize = 64;
/// A request that is still incomplete at this size ends its connection.
const PARTIAL_BYTES_MAX: usize = 1 << 20;
/// Connections are indexed by their descriptor, and a larger descriptor is refused.
const CONNECTIONS_MAX: usize = 1 << 17;
const LISTENER: u64 = u64::MAX;

struct Connection {
    stream: TcpStream,
    /// The beginning of an incomplete request; empty in steady state.
    partial: Vec<u8>,
}

/// Serves until it is killed. With `level`, epoll reports readiness while bytes are left; without, once per arrival.
pub(crate) fn serve(addr: SocketAddr, level: bool) -> Result<()> {
    let listener = TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    let mut epoll = Epoll::new()?;
    epoll.add(listener.as_raw_fd(), READABLE, LISTENER)?;
    let interest = if level { READABLE } else { READABLE | EDGE };
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut bytes = vec![0u8; READ_BYTES];
    let answers = answer().repeat(ANSWERS_MAX);
    let answer_bytes = answers.len() / ANSWERS_MAX;
    loop {
        for index in 0..epoll.wait(-1)? {
            let key = epoll.key(index);
            if key == LISTENER {
                accept(&listener, &epoll, interest, &mut connections)?;
                continue;
            }
            let slot = &mut connections[key as usize];
            let Some(connection) = slot else { continue };
            if !connection.serve(&mut bytes, &answers, answer_bytes) {
                *slot = None;
            }
        }
    }
}

impl Connection {
    /// Reads the available bytes and answers the complete requests. Returns `false` when the connection is over.
    #[inline]
    fn serve(&mut self, bytes: &mut [u8], answers: &[u8], answer_bytes: usize) -> bool {
        loop {
            let read = match self.stream.read(bytes) {
                Ok(0) => return false,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            };
            let requests = if self.partial.is_empty() {
                let (requests, used) = count(&bytes[..read]);
                self.partial.extend_from_slice(&bytes[used..read]);
                requests
            } else {
                self.partial.extend_from_slice(&bytes[..read]);
                let (requests, used) = count(&self.partial);
                self.partial.drain(..used);
                requests
            };
            if self.partial.len() > PARTIAL_BYTES_MAX || !self.answer(requests, answers, answer_bytes) {
                return false;
            }
            // A short read emptied the socket; later bytes are a new arrival.
            if read < bytes.len() {
                return true;
            }
        }
    }

    #[inline]
    fn answer(&mut self, mut requests: usize, answers: &[u8], answer_bytes: usize) -> bool {
        while requests > 0 {
            let now = requests.min(ANSWERS_MAX);
            // A client that does not read its responses is dropped, because there is no buffer for them here.
            match self.stream.write(&answers[..now * answer_bytes]) {
                Ok(sent) if sent == now * answer_bytes => requests -= now,
                _ => return false,
            }
        }
        true
    }
}

/// Returns the number of complete requests at the start of these bytes, and their total length.
#[inline]
fn count(bytes: &[u8]) -> (usize, usize) {
    let (mut requests, mut used) = (0, 0);
    while let Some(length) = message_length(&bytes[used..]) {
        requests += 1;
        used += length;
    }
    (requests, used)
}

fn accept(
    listener: &TcpListener,
    epoll: &Epoll,
    interest: u32,
    connections: &mut Vec<Option<Connection>>,
) -> Result<()> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let fd = stream.as_raw_fd();
                let slot = fd as usize;
                if slot >= CONNECTIONS_MAX {
                    continue;
                }
                if connections.len() <= slot {
                    connections.resize_with(slot + 1, || None);
                }
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                epoll.add(fd, interest, slot as u64)?;
                connections[slot] = Some(Connection { stream, partial: Vec::new() });
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => {
                eprintln!("accept: {error}");
                return Ok(());
            }
        }
    }
}

fn answer() -> Vec<u8> {
    format!(
        "HTTP/1.1 202 Accepted\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: {}\r\n{}\r\n\r\n{ANSWER_BODY}",
        ANSWER_BODY.len(),
        ANSWER_HEADERS.join("\r\n"),
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_and_the_rest_is_left() {
        let request = crate::http::event_request(SocketAddr::from(([127, 0, 0, 1], 80)));
        let mut bytes = request.repeat(3);
        assert_eq!(count(&bytes), (3, bytes.len()));
        bytes.extend_from_slice(&request[..request.len() - 1]);
        assert_eq!(count(&bytes), (3, request.len() * 3));
        assert_eq!(count(&[]), (0, 0));
    }

    #[test]
    fn the_answer_is_one_message_of_the_size_of_the_real_one() {
        let answer = answer();
        assert_eq!(message_length(&answer), Some(answer.len()));
        assert!((285..=300).contains(&answer.len()), "{}", answer.len());
    }
}
