//! Records as they were read: one reused buffer, iterated in place.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::format::{RECORD_HEADER_BYTES, RecordHeader};
use crate::base::ids::Sequence;

/// Complete, checked, consecutive records. The batch's memory grows to the size of the largest read and is reused.
#[derive(Debug, Default)]
pub struct Batch {
    buffer: Vec<u8>,
    used: usize,
    count: usize,
    first: Sequence,
    /// The highest synced offset in its records.
    synced: u64,
}

/// One record, borrowed from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub sequence: Sequence,
    /// The number of a [`Kind`](crate::base::kinds::Kind), or a number that a newer program wrote.
    pub kind: u8,
    pub payload: &'a [u8],
}

impl Batch {
    #[must_use]
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Returns the records in the order of their sequences, which have no gaps.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let mut rest = &self.buffer[..self.used];
        std::iter::from_fn(move || {
            let header = RecordHeader::decode(rest)?;
            let (record, behind) = rest.split_at_checked(header.record_bytes()?)?;
            rest = behind;
            let payload = &record[header.payload_at()..];
            Some(Record { sequence: header.sequence, kind: header.kind, payload })
        })
    }

    #[must_use]
    pub fn first(&self) -> Option<Sequence> {
        (self.count > 0).then_some(self.first)
    }

    #[must_use]
    pub fn last(&self) -> Option<Sequence> {
        (self.count > 0).then(|| Sequence(self.first.0 + self.count as u64 - 1))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the bytes of the records in the journal, with their headers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.used
    }

    pub fn clear(&mut self) {
        self.used = 0;
        self.count = 0;
        self.synced = 0;
    }

    /// Returns the highest synced offset in the records, or 0 if they have none.
    pub(super) fn synced(&self) -> u64 {
        self.synced
    }

    /// Drops the records up to and including `floor`. Returns the number of bytes dropped.
    pub(super) fn drop_upto(&mut self, floor: Sequence) -> usize {
        let mut dropped = 0;
        let mut count = 0;
        while let Some(header) = RecordHeader::decode(&self.buffer[dropped..self.used])
            && header.sequence <= floor
            && let Some(record_bytes) = header.record_bytes()
        {
            dropped += record_bytes;
            count += 1;
        }
        self.buffer.copy_within(dropped..self.used, 0);
        self.used -= dropped;
        self.count -= count;
        self.first = Sequence(self.first.0 + count as u64);
        dropped
    }
}

/// A section of one segment file to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch<'a> {
    pub(super) file: &'a File,
    pub(super) base: u64,
    pub(super) salt: u32,
    /// Logical offset of the next record.
    pub(super) at: u64,
    /// Bytes at or after this logical offset are not read.
    pub(super) limit: u64,
    pub(super) expected: Sequence,
    /// If true, the first record may have a later sequence than expected.
    pub(super) jump: bool,
}

/// The result of [`Stretch::load`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loaded {
    Records,
    /// No bytes are left before the limit or the end of the file.
    End,
    /// The bytes are not a record, or they are not the expected record.
    Bad,
}

impl Stretch<'_> {
    /// Fills `batch` with the valid records at the start of the section: as many as the limits permit, but at least
    /// one if there is one. Takes one `pread`, unless the first record is larger than `bytes_max`.
    pub(super) fn load(&self, batch: &mut Batch, records_max: usize, bytes_max: usize) -> io::Result<Loaded> {
        batch.clear();
        let there = self.limit.saturating_sub(self.at);
        let mut want = (bytes_max as u64).min(there) as usize;
        loop {
            if batch.buffer.len() < want {
                batch.buffer.resize(want, 0);
            }
            let filled = read_up_to(self.file, &mut batch.buffer[..want], self.at - self.base)?;
            let needed = self.take(batch, filled, records_max);
            if batch.count > 0 {
                return Ok(Loaded::Records);
            }
            match needed {
                // The first record is longer than the read, and the file had all bytes that were requested. The next
                // read requests the whole record.
                Some(needed) if needed > filled && filled == want && needed as u64 <= there => want = needed,
                _ if filled == 0 => return Ok(Loaded::End),
                _ => return Ok(Loaded::Bad),
            }
        }
    }

    /// Counts the valid records in the first `filled` bytes. Returns the length of the first record if it is known and
    /// no record was accepted.
    fn take(&self, batch: &mut Batch, filled: usize, records_max: usize) -> Option<usize> {
        let bytes = &batch.buffer[..filled];
        let (mut used, mut count, mut expected, mut synced) = (0, 0, self.expected, 0);
        let mut needed = None;
        while count < records_max.max(1) {
            let rest = &bytes[used..];
            let Some(header) = RecordHeader::decode(rest) else {
                needed = Some(RECORD_HEADER_BYTES);
                break;
            };
            let jumps = self.jump && count == 0 && header.sequence > expected;
            let Some(record_bytes) = header.record_bytes() else { break };
            if header.sequence != expected && !jumps {
                break;
            }
            let Some(record) = rest.get(..record_bytes) else {
                needed = Some(record_bytes);
                break;
            };
            if !header.fits(record, self.salt, self.at + used as u64) {
                break;
            }
            if count == 0 {
                batch.first = header.sequence;
            }
            synced = synced.max(header.synced(record).unwrap_or(0));
            expected = header.sequence.next();
            used += record_bytes;
            count += 1;
        }
        (batch.used, batch.count, batch.synced) = (used, count, synced);
        needed
    }
}

/// Reads until the buffer is full or the file ends. Repeats interrupted calls.
pub(super) fn read_up_to(file: &File, buffer: &mut [u8], mut at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at) {
            Ok(0) => break,
            Ok(more) => {
                filled += more;
                at += more as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
