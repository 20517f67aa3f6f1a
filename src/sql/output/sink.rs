//! Where results go: a buffer in front of a file, a pipe or a terminal.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;

use crate::sql::error::SqlError;
use crate::sql::stop::Stop;

/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 32 * 1024;
/// Bytes that a writable pipe accepts without blocking (`PIPE_BUF`).
const PIPE_BYTES: usize = 4_096;
/// Time between two checks whether the query must end, while the reader does not read.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Standard output.
pub(in crate::sql) struct Sink {
    pub(in crate::sql) buffer: Vec<u8>,
    is_file: bool,
    stop: Arc<Stop>,
}

impl Sink {
    pub(in crate::sql) fn new(stop: Arc<Stop>) -> Sink {
        let found = rustix::fs::fstat(io::stdout().as_fd());
        let is_file =
            found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::RegularFile);
        Sink { buffer: Vec::with_capacity(BUFFER_BYTES * 2), is_file, stop }
    }

    /// Writes the buffer if it is full.
    pub(in crate::sql) fn write_full(&mut self) -> Result<(), SqlError> {
        if self.buffer.len() < BUFFER_BYTES { Ok(()) } else { self.flush() }
    }

    /// Writes the buffer. A reader that does not read holds up the query, and therefore its snapshots. The query still
    /// ends when it must, because no write blocks.
    pub(in crate::sql) fn flush(&mut self) -> Result<(), SqlError> {
        let stdout = io::stdout();
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() {
            let mut fds = [PollFd::new(&stdout, PollFlags::OUT)];
            let is_ready = self.is_file || poll(&mut fds, Some(&PAUSE)).is_ok_and(|ready| ready > 0);
            if let Some(reason) = self.stop.reason() {
                self.buffer.clear();
                return Err(SqlError::Stopped(reason, self.stop.explain(reason)));
            }
            if !is_ready {
                continue;
            }
            let some = &rest[..if self.is_file { rest.len() } else { rest.len().min(PIPE_BYTES) }];
            let written = rustix::io::write(&stdout, some).map_err(io::Error::from);
            match written {
                Ok(bytes) => rest = &rest[bytes..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    self.buffer.clear();
                    return Err(SqlError::Closed);
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.buffer.clear();
        io::stdout().flush()?;
        Ok(())
    }
}
