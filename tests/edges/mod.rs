//! The real server as a child process, and a client that writes raw bytes and reads strictly.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test file takes what it needs")]

mod cases;
mod client;
mod server;

pub use cases::{After, Case, cases};
pub use client::{Client, Reply, is_end};
pub use server::{Server, eventually};

/// The two implementations that can serve a connection. Every rule applies to both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Hot,
    Executor,
}

pub const LANES: [Lane; 2] = [Lane::Hot, Lane::Executor];

/// A valid event.
pub const EVENT: &str = r#"{"user_id":12345,"timestamp":"2024-01-14T10:30:00Z","metadata":{"page":"/a"}}"#;

/// Returns a `POST` with a `Host`, a `Content-Length` and further header lines.
pub fn post(target: &str, lines: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("POST {target} HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n", body.len()).into_bytes();
    for line in lines {
        bytes.extend(line.bytes());
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    bytes
}

/// Returns the same request with a chunked body in pieces of `step` bytes.
pub fn post_chunked(target: &str, lines: &[&str], body: &[u8], step: usize) -> Vec<u8> {
    let mut bytes =
        format!("POST {target} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n").into_bytes();
    for line in lines {
        bytes.extend(line.bytes());
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"\r\n");
    for chunk in body.chunks(step) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

/// Returns a request without a body.
pub fn plain(method: &str, target: &str, lines: &[&str]) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: t\r\n");
    for line in lines {
        text += line;
        text += "\r\n";
    }
    text += "\r\n";
    text.into_bytes()
}
