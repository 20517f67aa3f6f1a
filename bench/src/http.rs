//! The HTTP that the driver needs: requests as bytes, the end of a message, one blocking exchange.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use memchr::memmem::Finder;

/// A constant event of about 200 bytes, the same as `wrk/event.lua` sends.
pub(crate) const EVENT: &str = concat!(
    r#"{"user_id":12345,"timestamp":"2024-01-14T10:30:00Z","metadata":{"page":"/products/42","#,
    r#""referrer":"https://example.com/search?q=shoes","session":"5f2d8e0a91c34b7e","button":"add_to_cart","ms":1384}}"#
);

/// Returns the bytes of `POST /event`, keep-alive.
pub(crate) fn event_request(addr: SocketAddr) -> Vec<u8> {
    format!(
        "POST /event HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{EVENT}",
        EVENT.len()
    )
    .into_bytes()
}

/// Returns the length of the first message in `bytes`, head and `Content-Length` body, or `None` while a part of it is
/// missing. Suitable for the messages of this program and its peers; does not support chunks.
#[inline]
pub(crate) fn message_length(bytes: &[u8]) -> Option<usize> {
    static HEAD_END: OnceLock<Finder<'static>> = OnceLock::new();
    static LENGTH: OnceLock<Finder<'static>> = OnceLock::new();
    // Without its first letters, because hyper and uvicorn write the name in lower case.
    const NAME: &[u8] = b"ength: ";
    let head = HEAD_END.get_or_init(|| Finder::new(b"\r\n\r\n")).find(bytes)? + 4;
    let mut body = 0usize;
    if let Some(at) = LENGTH.get_or_init(|| Finder::new(NAME)).find(&bytes[..head]) {
        for digit in bytes[at + NAME.len()..head].iter().take_while(|byte| byte.is_ascii_digit()) {
            body = body.saturating_mul(10).saturating_add(usize::from(digit - b'0'));
        }
    }
    let end = head.checked_add(body)?;
    (bytes.len() >= end).then_some(end)
}

/// Returns the status of a response whose head is complete; 0 if it is not HTTP.
#[inline]
pub(crate) fn status(bytes: &[u8]) -> u16 {
    match bytes {
        [
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            _,
            b'.',
            _,
            b' ',
            a @ b'0'..=b'9',
            b @ b'0'..=b'9',
            c @ b'0'..=b'9',
            ..,
        ] => u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'),
        _ => 0,
    }
}

/// Opens a connection on which a read waits 10 s at most.
pub(crate) fn connect(addr: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// Sends one request on a new connection and reads the whole response. Returns the status, the bytes of the response
/// with its head, and the body.
pub(crate) fn exchange(addr: SocketAddr, request: &[u8]) -> Result<(u16, usize, String)> {
    let (status, answer) = exchange_on(&mut connect(addr)?, request)?;
    let body_at = answer.windows(4).position(|end| end == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    Ok((status, answer.len(), String::from_utf8_lossy(&answer[body_at..]).into_owned()))
}

/// Sends one request and reads the whole response. Returns the status, and the response with its head.
pub(crate) fn exchange_on(stream: &mut TcpStream, request: &[u8]) -> Result<(u16, Vec<u8>)> {
    stream.write_all(request)?;
    let mut answer = Vec::new();
    let mut chunk = [0u8; 16 * 1024];
    loop {
        if let Some(length) = message_length(&answer) {
            answer.truncate(length);
            return Ok((status(&answer), answer));
        }
        let read = stream.read(&mut chunk).context("no answer")?;
        ensure!(read > 0, "connection closed before the answer was complete");
        ensure!(answer.len() < 4 << 20, "answer larger than 4 MiB");
        answer.extend_from_slice(&chunk[..read]);
    }
}

pub(crate) fn get(addr: SocketAddr, path: &str) -> Result<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    let (status, _, body) = exchange(addr, request.as_bytes())?;
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_where_its_length_says() {
        let whole = b"HTTP/1.1 202 Accepted\r\ncontent-length: 3\r\nA: b\r\n\r\nabcHTTP/1.1";
        assert_eq!(message_length(whole), Some(whole.len() - 8));
        assert_eq!(status(whole), 202);
        for cut in 0..whole.len() - 8 {
            assert_eq!(message_length(&whole[..cut]), None);
        }
        assert_eq!(message_length(b"GET / HTTP/1.1\r\n\r\n"), Some(18));
        assert_eq!(message_length(b"A: \r\nContent-Length: 99999999999999999999999999\r\n\r\n"), None);
        assert_eq!(status(b"ICY 200 OK"), 0);
    }
}
