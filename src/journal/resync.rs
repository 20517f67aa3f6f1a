//! Finds the next valid record after damage.

use std::io;

use super::batch::{Stretch, read_up_to};
use super::format::{RECORD_HEADER_BYTES, RecordHeader, SYNCED_BYTES};
use crate::base::ids::Sequence;
use crate::base::limits::RECORD_BYTES_MAX;

const CHUNK_BYTES: usize = 1024 * 1024;

/// The number of bytes that are checksummed for candidates before the search gives up on the rest of the segment.
/// Candidates are rare unless a payload imitates headers. In that case, a search without a limit would take quadratic
/// time.
const CHECKED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What follows a damaged record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Record {
        at: u64,
        sequence: Sequence,
    },
    /// There is no record. At the end of the newest segment this is a torn tail.
    Nothing,
    /// The search took too long. Records may follow.
    GivenUp,
}

/// Finds the first valid record after `stretch.at`, where the expected record is damaged. Returns its logical offset
/// and sequence. The sequence of a candidate must not precede the expected sequence. It must not exceed that sequence
/// by more than the number of records that fit into the skipped bytes.
pub(super) fn next_sound(stretch: &Stretch<'_>) -> io::Result<Found> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut record = Vec::new();
    let mut checked = 0;
    let mut start = stretch.at + 1;
    while start + RECORD_HEADER_BYTES as u64 <= stretch.limit {
        let want = (CHUNK_BYTES as u64).min(stretch.limit - start) as usize;
        let filled = read_up_to(stretch.file, &mut chunk[..want], start - stretch.base)?;
        if filled < RECORD_HEADER_BYTES {
            break;
        }
        let places = filled + 1 - RECORD_HEADER_BYTES;
        for place in 0..places {
            let at = start + place as u64;
            let Some(header) = RecordHeader::decode(&chunk[place..]) else { break };
            let lost_max = (at - stretch.at) / RECORD_HEADER_BYTES as u64;
            let lost = header.sequence.0.wrapping_sub(stretch.expected.0);
            let Some(record_bytes) = header.record_bytes() else { continue };
            let too_late = lost > lost_max && !stretch.jump;
            if header.sequence < stretch.expected || too_late || at + record_bytes as u64 > stretch.limit {
                continue;
            }
            checked += record_bytes;
            if checked > CHECKED_BYTES_MAX {
                return Ok(Found::GivenUp);
            }
            record.resize(record_bytes.min(RECORD_HEADER_BYTES + SYNCED_BYTES + RECORD_BYTES_MAX), 0);
            if read_up_to(stretch.file, &mut record, at - stretch.base)? == record_bytes
                && header.fits(&record, stretch.salt, at)
            {
                return Ok(Found::Record { at, sequence: header.sequence });
            }
        }
        start += places as u64;
    }
    Ok(Found::Nothing)
}
