//! The chunk that was fed, and how much of the upload was read.

use bytes::Bytes;

use super::error::Fault;

/// What a decoder did with its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is a block of decoded bytes.
    Block,
    /// An entry ended, and with it the line it ended in.
    Break,
    /// The chunk is used up.
    Hungry,
    /// The upload ended, as it should.
    End,
}

#[derive(Debug, Default)]
pub(super) struct Input {
    chunk: Bytes,
    /// What comes after `chunk`, where bytes were given back.
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

    /// Bytes of the upload that were read.
    pub(super) fn consumed_bytes(&self) -> u64 {
        self.consumed_bytes
    }

    /// What is at hand, not read yet.
    pub(super) fn rest(&self) -> &[u8] {
        &self.chunk
    }

    /// The first bytes of [`Input::rest`] are read.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.take(bytes as u64);
    }

    /// Reads up to so many bytes, without a copy.
    pub(super) fn take(&mut self, bytes_max: u64) -> Bytes {
        let length = self.chunk.len().min(usize::try_from(bytes_max).unwrap_or(usize::MAX));
        let taken = self.chunk.split_to(length);
        self.consumed_bytes += length as u64;
        if self.chunk.is_empty() {
            self.chunk = std::mem::take(&mut self.later);
        }
        taken
    }

    /// Gives back the bytes that were read last. Once, before anything else is read.
    pub(super) fn give_back(&mut self, bytes: Bytes) {
        self.consumed_bytes -= bytes.len() as u64;
        if !bytes.is_empty() {
            self.later = std::mem::replace(&mut self.chunk, bytes);
        }
    }

    /// There is nothing at hand, and something has to come.
    pub(super) fn starved(&self) -> Result<Step, Fault> {
        if self.is_ended { Err(Fault::Truncated) } else { Ok(Step::Hungry) }
    }
}
