//! The current decoded bytes: a buffer of 64 KiB, or a part of the chunk that was fed.

use bytes::Bytes;

/// Maximum number of bytes decoded ahead.
pub(super) const BLOCK_BYTES: usize = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct Block {
    /// Borrowed from the chunk; empty if `decoded` has the bytes.
    lent: Bytes,
    /// Allocated on first use.
    decoded: Box<[u8]>,
    decoded_bytes: usize,
}

impl Block {
    pub(super) fn bytes(&self) -> &[u8] {
        if self.lent.is_empty() { &self.decoded[..self.decoded_bytes] } else { &self.lent }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.lent.len() + self.decoded.len()
    }

    /// Releases the bytes.
    pub(super) fn clear(&mut self) {
        self.lent = Bytes::new();
        self.decoded_bytes = 0;
    }

    pub(super) fn lend(&mut self, bytes: Bytes) {
        self.decoded_bytes = 0;
        self.lent = bytes;
    }

    /// Moves the bytes out, for another decoder to read.
    pub(super) fn lent_or_copied(&mut self) -> Bytes {
        let bytes = match self.lent.is_empty() {
            true => Bytes::copy_from_slice(self.bytes()),
            false => std::mem::take(&mut self.lent),
        };
        self.clear();
        bytes
    }

    /// Returns the buffer, for a decoder to fill. [`Block::fill`] sets its length.
    pub(super) fn buffer(&mut self) -> &mut [u8] {
        self.clear();
        if self.decoded.is_empty() {
            self.decoded = vec![0; BLOCK_BYTES].into_boxed_slice();
        }
        &mut self.decoded
    }

    pub(super) fn fill(&mut self, bytes: usize) {
        self.decoded_bytes = bytes;
    }
}
