//! hyper on glommio or on tokio with the same 202: what an asynchronous server costs before it does anything.
//!
//! One connection is one task of the server's own executor. It reads the body of a request and answers with a
//! constant, all of one read in one write. It parses and stores nothing, and has no time limits.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use firehose::cores::executor::{self, Runtime};
use firehose::cores::socket::Socket;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};

use super::{ANSWER_BODY, ANSWER_HEADERS};

const READ_BYTES: usize = 16 * 1024;
/// Accepted connections that have no task yet.
const ACCEPTED_MAX: usize = 1024;

/// Serves until it is killed, on the CPU that the caller is pinned to.
pub(crate) fn serve(addr: SocketAddr, runtime: Runtime, cpu: usize) -> Result<()> {
    let listener = TcpListener::bind(addr)?;
    let (accepted, incoming) = async_channel::bounded(ACCEPTED_MAX);
    // Accepting blocks its own thread, so that both runtimes get their connections in the same way.
    std::thread::Builder::new().name("accept".to_owned()).spawn(move || -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            if accepted.send_blocking(stream).is_err() {
                return Ok(());
            }
        }
    })?;
    executor::run(runtime, "peer", cpu, async move {
        while let Ok(stream) = incoming.recv().await {
            if let Ok(socket) = Socket::adopt(runtime, stream) {
                executor::spawn(connection(Io { socket, bytes: vec![0; READ_BYTES] }));
            }
        }
    })?;
    bail!("the listener ended")
}

/// Returns the only CPU that this process may use.
pub(crate) fn own_cpu() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let cpu = allowed.and_then(|list| list.trim().parse().ok());
    ensure!(cpu.is_some(), "peer-hyper runs on one CPU: start it with taskset -c");
    Ok(cpu.unwrap_or(0))
}

async fn connection(io: Io) {
    let service = service_fn(|request: Request<Incoming>| async move {
        let body = request.into_body().collect().await;
        Ok::<_, Infallible>(answer(body.is_ok()))
    });
    // A peer that left is not worth a line.
    let mut builder = hyper::server::conn::http1::Builder::new();
    drop(builder.pipeline_flush(true).serve_connection(io, service).await);
}

fn answer(is_whole: bool) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from_static(ANSWER_BODY.as_bytes())));
    *answer.status_mut() = if is_whole { StatusCode::ACCEPTED } else { StatusCode::BAD_REQUEST };
    for header in ANSWER_HEADERS {
        if let Some((name, value)) = header.split_once(": ")
            && let Ok(name) = hyper::header::HeaderName::from_bytes(name.as_bytes())
        {
            answer.headers_mut().insert(name, hyper::header::HeaderValue::from_static(value));
        }
    }
    answer
}

/// A socket as hyper reads and writes it.
struct Io {
    socket: Socket,
    bytes: Vec<u8>,
}

impl hyper::rt::Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Io { socket, bytes } = self.get_mut();
        let room = bytes.len().min(into.remaining());
        let read = ready!(socket.poll_read(context, &mut bytes[..room]))?;
        into.put_slice(&bytes[..read]);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().socket.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket.poll_shutdown(context)
    }
}
