//! Inspects a lane's folder from outside, while a server may append to it. Changes nothing.

use std::path::Path;

use super::error::JournalError;
use super::segment::{self, Segment};
use super::survey::{Damage, Survey};
use crate::base::ids::{LaneId, Sequence};

/// A summary of a lane's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    pub lane: Option<LaneId>,
    pub segments: usize,
    /// Bytes of the segment files.
    pub bytes: u64,
    pub first: Option<Sequence>,
    /// The last complete record.
    pub last: Option<Sequence>,
}

/// The result of a checksum scan over every record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub segments: usize,
    pub bytes: u64,
    pub records: u64,
    pub first: Option<Sequence>,
    pub last: Option<Sequence>,
    pub damaged: Vec<Damage>,
    /// Bytes after the last complete record. They are a write in progress or an interrupted one, and not damage.
    pub unfinished_bytes: u64,
}

/// Reads the headers, and the records of the newest segment only (at most one segment of I/O).
pub fn inspect(dir: &Path) -> Result<Inspection, JournalError> {
    let mut seen = Inspection::default();
    let mut announced = None;
    let bases = segment::list(dir)?;
    for base in &bases {
        let Some(segment) = Segment::open(dir, *base, seen.lane)? else { continue };
        seen.segments += 1;
        seen.bytes += segment.bytes;
        let Some(header) = segment.header() else { continue };
        seen.lane = Some(header.lane);
        announced.get_or_insert(header.first);
        seen.last = Some(Sequence(header.first.0.saturating_sub(1)));
    }
    if let Some(newest) = bases.last() {
        let survey = Survey::of(dir, &[*newest], seen.lane)?;
        seen.last = seen.last.max(Some(survey.last));
    }
    seen.last = seen.last.filter(|last| Some(*last) >= announced && *last > Sequence::NONE);
    seen.first = announced.filter(|_| seen.last.is_some());
    Ok(seen)
}

/// Reads and checks every record.
pub fn verify(dir: &Path) -> Result<Verified, JournalError> {
    let survey = Survey::of(dir, &segment::list(dir)?, None)?;
    Ok(Verified {
        segments: survey.bases.len(),
        bytes: survey.bytes,
        records: survey.records,
        first: survey.first,
        last: survey.first.map(|_| survey.last),
        unfinished_bytes: survey.torn.map_or(0, |torn| torn.bytes),
        damaged: survey.damaged,
    })
}
