//! The chunk that was fed, and the number of bytes read.

use bytes::Bytes;

use super::error::Fault;

/// The result of one decoder step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A block of decoded bytes is ready.
    Block,
    /// An entry ended, and with it its last line.
    Break,
    /// The chunk is consumed.
    Hungry,
    /// The upload ended correctly.
    End,
}

#[derive(Debug, Default)]
pub(super) struct Input {
    chunk: Bytes,
    /// The bytes after `chunk`, if some were given back.
    later: Bytes,
    consumed_bytes: u64,
    is_ended: bool,
}

impl Input {
    pub(super) fn starting_at(offset_bytes: u64) -> Input {
        Input { consumed_bytes: offset_bytes, ..Input::default() }
    }

    pub(super) fn feed(&mut self, chunk: Bytes) {
        self.chunk = chunk;
    }

    pub(super) fn end(&mut self) {
        self.is_ended = true;
    }

    pub(super) fn is_ended(&self) -> bool {
        self.is_ended
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunk.is_empty()
    }

    /// Returns the number of upload bytes read.
    pub(super) fn consumed_bytes(&self) -> u64 {
        self.consumed_bytes
    }

    /// Returns the unread bytes of the chunk.
    pub(super) fn rest(&self) -> &[u8] {
        &self.chunk
    }

    /// Marks the first bytes of [`Input::rest`] as read.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.take(bytes as u64);
    }

    /// Reads up to `bytes_max` bytes, without a copy.
    pub(super) fn take(&mut self, bytes_max: u64) -> Bytes {
        let length = self.chunk.len().min(usize::try_from(bytes_max).unwrap_or(usize::MAX));
        let taken = self.chunk.split_to(length);
        self.consumed_bytes += length as u64;
        if self.chunk.is_empty() {
            self.chunk = std::mem::take(&mut self.later);
        }
        taken
    }

    /// Gives back the bytes that were read last. May be called once, before anything else is read.
    pub(super) fn give_back(&mut self, bytes: Bytes) {
        self.consumed_bytes -= bytes.len() as u64;
        if !bytes.is_empty() {
            self.later = std::mem::replace(&mut self.chunk, bytes);
        }
    }

    /// Returns the step for a chunk that is consumed although the data is incomplete. Fails if the upload has ended.
    pub(super) fn starved(&self) -> Result<Step, Fault> {
        if self.is_ended { Err(Fault::Truncated) } else { Ok(Step::Hungry) }
    }
}
