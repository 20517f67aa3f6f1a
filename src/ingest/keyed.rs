//! The rows of one request, on their way to the shard that their keys select.

use std::sync::Arc;

use crate::base::ids::{Receipt, Sequence};
use crate::base::kinds::Kind;

use super::{Appended, Batch};

/// The memory for the first row. Most rows have less, and would otherwise be moved as they grow.
const FIRST_BYTES: usize = 128;

/// The rows of one request that belong to one shard. They are encoded as in its journal, back to back in one
/// allocation.
#[derive(Clone, Debug)]
pub struct KeyedRows {
    kind: Kind,
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// The index of each row in its request.
    indexes: Vec<u32>,
}

impl KeyedRows {
    /// Creates an empty set for rows of one kind.
    #[must_use]
    pub fn of(kind: Kind) -> KeyedRows {
        KeyedRows { kind, bytes: Vec::new(), ends: Vec::new(), indexes: Vec::new() }
    }

    /// Adds a row. `encode` appends its payload, encoded as in the journal.
    pub fn push_record(&mut self, index: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(FIRST_BYTES);
        }
        encode(&mut self.bytes);
        self.ends.push(self.bytes.len() as u32);
        self.indexes.push(index as u32);
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns each row's index in the request and its journal payload, in the order they were added.
    pub fn rows(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.indexes.iter().map(|index| *index as usize).zip(self.payloads())
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the bytes of memory that the rows occupy.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + (self.ends.capacity() + self.indexes.capacity()) * size_of::<u32>()
    }

    /// Returns the journal payloads, in the order they were added.
    pub fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start as usize..*end as usize])
    }
}

/// Staged rows: the sequences from `first` to `last` of one lane. They count once `batch` is written.
#[derive(Clone, Debug)]
pub struct Written {
    pub first: Receipt,
    pub last: Sequence,
    pub appended: Appended,
    pub batch: Arc<Batch>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_out_as_they_went_in() {
        let mut rows = KeyedRows::of(Kind::new(2));
        rows.push_record(3, |bytes| bytes.extend_from_slice(b"a"));
        rows.push_record(9, |bytes| bytes.extend_from_slice(b"bc"));
        assert_eq!((rows.len(), rows.bytes()), (2, 3));
        assert_eq!(rows.rows().collect::<Vec<_>>(), [(3, &b"a"[..]), (9, b"bc")]);
        assert_eq!(rows.payloads().collect::<Vec<_>>(), [&b"a"[..], b"bc"]);
    }
}
