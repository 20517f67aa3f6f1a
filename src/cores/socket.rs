//! A connected TCP socket on either runtime.
#![allow(unsafe_code, reason = "glommio takes a socket only as a raw descriptor")]

use std::io;
use std::net::TcpStream;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_lite::{AsyncRead, AsyncWrite};

use super::executor::Runtime;

#[derive(Debug)]
pub enum Socket {
    IoUring(glommio::net::TcpStream),
    Epoll(tokio::net::TcpStream),
}

impl Socket {
    /// Takes ownership of a connected, non-blocking socket. Must be called on the executor's own thread.
    pub fn adopt(runtime: Runtime, stream: TcpStream) -> io::Result<Socket> {
        match runtime {
            Runtime::IoUring => {
                // SAFETY: the descriptor is a connected TCP socket and no longer has another owner.
                Ok(Socket::IoUring(unsafe { glommio::net::TcpStream::from_raw_fd(stream.into_raw_fd()) }))
            }
            Runtime::Epoll => tokio::net::TcpStream::from_std(stream).map(Socket::Epoll),
        }
    }

    pub fn poll_read(&mut self, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Socket::IoUring(stream) => Pin::new(stream).poll_read(context, into),
            Socket::Epoll(stream) => {
                let mut buffer = tokio::io::ReadBuf::new(into);
                ready!(tokio::io::AsyncRead::poll_read(Pin::new(stream), context, &mut buffer))?;
                Poll::Ready(Ok(buffer.filled().len()))
            }
        }
    }

    pub fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Socket::IoUring(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Epoll(stream) => tokio::io::AsyncWrite::poll_write(Pin::new(stream), context, bytes),
        }
    }

    /// Shuts down our sending side. The peer can still send.
    pub fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::IoUring(stream) => Pin::new(stream).poll_close(context),
            Socket::Epoll(stream) => tokio::io::AsyncWrite::poll_shutdown(Pin::new(stream), context),
        }
    }
}
