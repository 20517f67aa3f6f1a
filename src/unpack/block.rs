//! The decoded bytes at hand: a buffer of 64 KiB, or part of the chunk that was fed.

use bytes::Bytes;

/// Bytes decoded ahead at most.
pub(super) const BLOCK_BYTES: usize = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct Block {
    /// Lent from the chunk; empty where `decoded` holds the bytes.
    lent: Bytes,
    /// Allocated when it is first filled.
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

    /// Lets go of what it holds.
    pub(super) fn clear(&mut self) {
        self.lent = Bytes::new();
        self.decoded_bytes = 0;
    }

    pub(super) fn lend(&mut self, bytes: Bytes) {
        self.decoded_bytes = 0;
        self.lent = bytes;
    }

    /// What it holds, for another decoder to read; nothing is left in it.
    pub(super) fn lent_or_copied(&mut self) -> Bytes {
        let bytes = match self.lent.is_empty() {
            true => Bytes::copy_from_slice(self.bytes()),
            false => std::mem::take(&mut self.lent),
        };
        self.clear();
        bytes
    }

    /// The buffer, for a decoder to fill; [`Block::fill`] says how far it came.
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
