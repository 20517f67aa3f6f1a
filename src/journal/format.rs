//! A segment's bytes: a header stored twice, then records. All numbers are little-endian.
//!
//! ```text
//! segment header, 2 x 32 bytes: magic 4 | version 2 | lane 1 | begins 1 | base offset 8 | first sequence 8 | salt 4 | CRC 4
//! record, 17 bytes + payload:   CRC 4 | payload length 4 | sequence 8 | kind 1 | (synced 8) | payload
//! ```
//!
//! The first record of a commit contains the lane's synced offset, if that offset has changed since the last record
//! that has one. In such a record, the highest bit of the length is set, and eight bytes precede the payload.
//! Recording a sync therefore costs no further sync. If missing records are after every recorded synced offset, no
//! promise covered them. `begins` is 1 in the first segment after the lane was opened. Synced offsets that are
//! recorded from that segment on say nothing about earlier segments. Version 1 had neither `begins` nor synced
//! offsets.
//!
//! The header is stored twice, so that one damaged sector or bit does not hide every record after it. A record's
//! CRC-32C (Castagnoli, RFC 3720 B.4) covers all bytes of the record after the CRC. It starts from the segment's
//! random salt, xored with the record's own logical offset (its upper half rotated by 16). Bytes that a client sends,
//! or that are at another offset, are therefore never mistaken for a record.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use super::crc;
use crate::base::ids::{LaneId, Sequence};
use crate::base::limits::RECORD_BYTES_MAX;

/// The newest format that this program reads and writes.
pub(super) const VERSION: u16 = 2;
/// Bytes before the first record of a segment.
pub(super) const HEADER_BYTES: usize = 2 * COPY_BYTES;
/// Bytes of a record without its payload.
pub(super) const RECORD_HEADER_BYTES: usize = 17;
/// Bytes of a synced offset in a record.
pub(super) const SYNCED_BYTES: usize = 8;
/// Set in the length of a record with a synced offset.
const SAYS_SYNCED: u32 = 1 << 31;
const _: () = assert!(RECORD_BYTES_MAX < SAYS_SYNCED as usize, "the length leaves the bit free");

const COPY_BYTES: usize = 32;
const MAGIC: [u8; 4] = *b"FHJL";

/// A segment header's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) lane: LaneId,
    /// Logical offset of the segment's first byte, which is also the first byte of the header.
    pub(super) base: u64,
    /// Sequence of the first record in the segment.
    pub(super) first: Sequence,
    pub(super) salt: u32,
    pub(super) run: Run,
}

/// The position of a segment in its lane's run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// The first segment after the lane was opened.
    Begins,
    Continues,
    /// Written by a version that recorded neither runs nor synced offsets.
    Unknown,
}

/// The first bytes of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// A valid header. `damaged` is the offset of a copy whose checksum does not match.
    Sound {
        header: SegmentHeader,
        damaged: Option<usize>,
    },
    /// Too short or all zero: the process or the machine stopped while the file was being created.
    Unfinished,
    /// A segment whose two header copies are both damaged.
    Damaged,
    Newer(u16),
    Foreign,
}

impl SegmentHeader {
    pub(super) fn new(lane: LaneId, base: u64, first: Sequence, run: Run) -> SegmentHeader {
        // The hash keys of the standard library are the only source of randomness here.
        let salt = RandomState::new().build_hasher().finish() as u32;
        SegmentHeader { lane, base, first, salt, run }
    }

    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut copy = [0; COPY_BYTES];
        copy[0..4].copy_from_slice(&MAGIC);
        copy[4..6].copy_from_slice(&VERSION.to_le_bytes());
        copy[6] = self.lane.0;
        copy[7] = u8::from(self.run == Run::Begins);
        copy[8..16].copy_from_slice(&self.base.to_le_bytes());
        copy[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        copy[24..28].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32c::crc32c(&copy[..28]);
        copy[28..32].copy_from_slice(&crc.to_le_bytes());
        let mut both = [0; HEADER_BYTES];
        both[..COPY_BYTES].copy_from_slice(&copy);
        both[COPY_BYTES..].copy_from_slice(&copy);
        both
    }

    /// Decodes the first bytes of any file.
    pub(super) fn decode(bytes: &[u8]) -> Opening {
        let Some(bytes) = bytes.get(..HEADER_BYTES) else { return Opening::Unfinished };
        if bytes.iter().all(|byte| *byte == 0) {
            return Opening::Unfinished;
        }
        let (first, second) = bytes.split_at(COPY_BYTES);
        match (decode_copy(first), decode_copy(second)) {
            (Some(Ok(header)), Some(Ok(same))) if header == same => Opening::Sound { header, damaged: None },
            (Some(Ok(header)), _) => Opening::Sound { header, damaged: Some(COPY_BYTES) },
            (_, Some(Ok(header))) => Opening::Sound { header, damaged: Some(0) },
            (Some(Err(version)), _) | (_, Some(Err(version))) => Opening::Newer(version),
            _ if first[..4] != MAGIC && second[..4] != MAGIC => Opening::Foreign,
            // A later format may have its checksum elsewhere, but its magic and version are in the same places.
            _ if first[4..6] == second[4..6] && u16_at(first, 4) > VERSION => {
                Opening::Newer(u16_at(first, 4))
            }
            _ => Opening::Damaged,
        }
    }
}

/// Decodes one copy. Returns `None` if the checksum does not match, and `Err` with the version if the format is
/// newer.
fn decode_copy(copy: &[u8]) -> Option<Result<SegmentHeader, u16>> {
    if copy[..4] != MAGIC || crc32c::crc32c(&copy[..28]) != u32_at(copy, 28) {
        return None;
    }
    let run = match (u16_at(copy, 4), copy[7]) {
        (1, _) => Run::Unknown,
        (VERSION, 0) => Run::Continues,
        (VERSION, _) => Run::Begins,
        (version, _) => return Some(Err(version)),
    };
    Some(Ok(SegmentHeader {
        lane: LaneId(copy[6]),
        base: u64_at(copy, 8),
        first: Sequence(u64_at(copy, 16)),
        salt: u32_at(copy, 24),
        run,
    }))
}

/// The first bytes of a record, not checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) crc: u32,
    pub(super) payload_bytes: u32,
    /// Set if the record has a synced offset.
    pub(super) says_synced: bool,
    pub(super) sequence: Sequence,
    pub(super) kind: u8,
}

impl RecordHeader {
    /// Decodes a header. `None` if there are too few bytes.
    #[inline]
    pub(super) fn decode(bytes: &[u8]) -> Option<RecordHeader> {
        let bytes = bytes.get(..RECORD_HEADER_BYTES)?;
        Some(RecordHeader {
            crc: u32_at(bytes, 0),
            payload_bytes: u32_at(bytes, 4) & !SAYS_SYNCED,
            says_synced: u32_at(bytes, 4) & SAYS_SYNCED != 0,
            sequence: Sequence(u64_at(bytes, 8)),
            kind: bytes[16],
        })
    }

    /// Returns the length of the whole record. `None` if no record may be that large.
    #[inline]
    pub(super) fn record_bytes(&self) -> Option<usize> {
        let payload = self.payload_bytes as usize;
        (payload <= RECORD_BYTES_MAX).then_some(self.payload_at() + payload)
    }

    /// Returns the offset of the payload within the record.
    #[inline]
    pub(super) fn payload_at(&self) -> usize {
        RECORD_HEADER_BYTES + if self.says_synced { SYNCED_BYTES } else { 0 }
    }

    /// Returns the synced offset in the complete `record`, if it has one.
    #[inline]
    pub(super) fn synced(&self, record: &[u8]) -> Option<u64> {
        self.says_synced.then(|| u64_at(record, RECORD_HEADER_BYTES))
    }

    /// Returns `true` if the complete `record` is the one that was written at logical offset `at`.
    #[inline]
    pub(super) fn fits(&self, record: &[u8], salt: u32, at: u64) -> bool {
        record_crc(&record[4..], salt, at) == self.crc
    }
}

/// A record without its payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heading {
    pub(super) sequence: Sequence,
    pub(super) kind: u8,
    /// The lane's synced offset, if the record is to contain it.
    pub(super) synced: Option<u64>,
}

/// Appends one record to `out`; `at` is its logical offset.
#[inline]
pub(super) fn encode_record(
    out: &mut Vec<u8>,
    salt: u32,
    at: u64,
    heading: Heading,
    pieces: &[&[u8]],
    payload_bytes: usize,
) {
    let start = out.len();
    out.reserve(RECORD_HEADER_BYTES + SYNCED_BYTES + payload_bytes);
    let mut header = [0; RECORD_HEADER_BYTES];
    let says_synced = if heading.synced.is_some() { SAYS_SYNCED } else { 0 };
    header[4..8].copy_from_slice(&(payload_bytes as u32 | says_synced).to_le_bytes());
    header[8..16].copy_from_slice(&heading.sequence.0.to_le_bytes());
    header[16] = heading.kind;
    out.extend_from_slice(&header);
    if let Some(synced) = heading.synced {
        out.extend_from_slice(&synced.to_le_bytes());
    }
    for piece in pieces {
        out.extend_from_slice(piece);
    }
    let crc = record_crc(&out[start + 4..], salt, at);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Returns the CRC of a record. The CRC of the same bytes differs for every start value, so the bytes match at one
/// offset only.
#[inline]
fn record_crc(after: &[u8], salt: u32, at: u64) -> u32 {
    let start = salt ^ (at as u32) ^ ((at >> 32) as u32).rotate_left(16);
    crc::append(start, after)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

#[inline]
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}
