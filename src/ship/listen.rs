//! The port of a run's metrics: one thread that answers `GET /metrics`, one connection at a time.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::metrics::{ShardFigures, page};
use crate::base::clock;
use crate::ops::{Format, negotiate};

/// The maximum size of a request's head.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// The maximum time that a connection may take.
const PATIENCE_US: u64 = 2_000_000;
/// The maximum time of one read or write.
const STEP: Duration = Duration::from_millis(500);
/// The pause after a connection could not be accepted, for example because descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the figures on `address` for the rest of the process. Returns the bound address.
///
/// # Errors
/// The address is in use or does not belong to this machine.
pub(super) fn serve_metrics(address: SocketAddr, shards: Vec<Arc<ShardFigures>>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let bound = listener.local_addr()?;
    std::thread::Builder::new().name("metrics".to_owned()).spawn(move || {
        loop {
            match listener.accept() {
                // The client may be gone, which concerns no one else.
                Ok((connection, _)) => _ = answer(connection, &shards),
                Err(error) => {
                    tracing::debug!(%error, "a connection for metrics was not accepted");
                    clock::pause(PAUSE);
                }
            }
        }
    })?;
    Ok(bound)
}

fn answer(mut connection: TcpStream, shards: &[Arc<ShardFigures>]) -> io::Result<()> {
    connection.set_read_timeout(Some(STEP))?;
    connection.set_write_timeout(Some(STEP))?;
    let until_us = clock::monotonic_us() + PATIENCE_US;
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = connection.read(&mut part)?;
        if read == 0 || head.len() + read > HEAD_BYTES_MAX || clock::monotonic_us() > until_us {
            return Ok(());
        }
        head.extend_from_slice(&part[..read]);
    }
    let head = String::from_utf8_lossy(&head);
    let mut lines = head.lines();
    let mut request = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (request.next().unwrap_or_default(), request.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let accept: Vec<&str> = lines
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.eq_ignore_ascii_case("accept"))
        .map(|(_, value)| value.trim())
        .collect();
    let (status, format, body) = match (method, path) {
        ("GET" | "HEAD", "/metrics") => {
            let format = negotiate(&accept);
            ("200 OK", format, page(shards, format))
        }
        ("GET" | "HEAD", _) => ("404 Not Found", Format::Text, "the figures are at /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", Format::Text, "use GET\n".to_owned()),
    };
    let content_type = if status.starts_with('2') { format.content_type() } else { "text/plain" };
    let mut response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if method != "HEAD" {
        response.push_str(&body);
    }
    connection.write_all(response.as_bytes())
}
