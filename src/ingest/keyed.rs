//! Rows of one request on their way to the shard of their keys.

use crate::base::ids::{Receipt, Sequence};
use crate::base::kinds::Kind;
use crate::events::SERVICE_EVENT;
use crate::events::{ServiceEventRow, decode_service_event};

use super::Appended;

/// Rows of one request that belong to one shard. They are encoded as in its journal, one after another in one
/// allocation.
#[derive(Clone, Debug)]
pub struct KeyedRows {
    kind: Kind,
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// The index of each row in its request.
    indexes: Vec<u32>,
}

/// The default kind is idempotent events.
impl Default for KeyedRows {
    fn default() -> KeyedRows {
        KeyedRows::of(SERVICE_EVENT)
    }
}

impl KeyedRows {
    /// Creates an empty set of rows of one kind.
    #[must_use]
    pub fn of(kind: Kind) -> KeyedRows {
        KeyedRows { kind, bytes: Vec::new(), ends: Vec::new(), indexes: Vec::new() }
    }

    pub fn push(&mut self, index: usize, row: &ServiceEventRow<'_>) {
        self.push_record(index, |bytes| row.encode(bytes));
    }

    /// Adds a row, which `encode` appends as in the journal.
    pub fn push_record(&mut self, index: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(&mut self.bytes);
        self.ends.push(self.bytes.len() as u32);
        self.indexes.push(index as u32);
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the index in the request and the journal payload of every row, in order.
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

    /// Returns the journal payloads, in order.
    pub fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start as usize..*end as usize])
    }

    /// Returns the index in the request and the event id of every row, in order.
    pub fn names(&self) -> impl Iterator<Item = (usize, &str)> {
        let ids = self.payloads().map(|payload| decode_service_event(payload).map_or("", |row| row.event_id));
        self.indexes.iter().map(|index| *index as usize).zip(ids)
    }
}

/// Rows that are journaled: the sequences from `first` to `last` of one lane.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    pub first: Receipt,
    pub last: Sequence,
    pub appended: Appended,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_out_as_they_went_in() {
        let mut rows = KeyedRows::default();
        let row = |event_id| ServiceEventRow {
            timestamp_us: 1,
            received_us: 2,
            tenant_id: "t",
            event_id,
            source: "s",
            event_type: "e",
            payload: "{}",
        };
        rows.push(3, &row("a"));
        rows.push(9, &row("bc"));
        assert_eq!(rows.len(), 2);
        assert_eq!(rows.names().collect::<Vec<_>>(), [(3, "a"), (9, "bc")]);
        let read: Vec<_> = rows.payloads().map(|payload| decode_service_event(payload).unwrap()).collect();
        assert_eq!(read, [row("a"), row("bc")]);
    }
}
