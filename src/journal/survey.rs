//! Reads every record of a lane's segments without changing anything. Recovery and `verify` share it.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::batch::{Batch, Loaded, Stretch, read_up_to};
use super::error::JournalError;
use super::format::{HEADER_BYTES, Opening, Run};
use super::resync::{self, Found};
use super::segment::{self, Segment};
use crate::base::ids::{LaneId, Sequence};

/// Bytes of a segment that are in memory at a time.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Bytes of a segment that differ from what was written, or are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub file: PathBuf,
    /// Offset in the file.
    pub offset: u64,
    pub bytes: u64,
    /// The record that was expected there.
    pub first: Sequence,
    /// Records lost, from `first` on. 0 if the damage hides none, or if no later record shows how many.
    pub lost: u64,
    /// Whether the file is kept in `quarantine/`. It is always false for a read-only survey.
    pub quarantined: bool,
    /// Whether the server may have promised that these records survive a power cut. It is false if the bytes look as
    /// if they never reached the disk, and no later record proves that they did.
    pub promised: bool,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { file, offset, bytes, first, lost, .. } = self;
        write!(
            f,
            "{} at byte {offset}: {bytes} bytes {}, {lost} records lost from {first} on",
            file.display(),
            if self.promised { "damaged" } else { "that were not synced are missing" },
        )
    }
}

/// A folder's content.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) lane: Option<LaneId>,
    /// Base offsets of the segments, ascending, without an unfinished one.
    pub(super) bases: Vec<u64>,
    /// The total size of the segment files.
    pub(super) bytes: u64,
    pub(super) records: u64,
    pub(super) first: Option<Sequence>,
    /// The first record according to the oldest valid header, whether or not the record is lost.
    pub(super) announced: Option<Sequence>,
    /// The last record. If the last segment has no records, this is the record before the first sequence in its
    /// header.
    pub(super) last: Sequence,
    /// Logical offset after the last record.
    pub(super) end: u64,
    pub(super) damaged: Vec<Damage>,
    /// Bytes after the last record of the last segment that are not a record.
    pub(super) torn: Option<Torn>,
    /// The last file, if it has no header yet.
    pub(super) unfinished: Option<PathBuf>,
    /// The last entry of `damaged`, if no later record has shown the size of the loss.
    unsettled: Option<usize>,
    expected: Option<Sequence>,
    /// The highest synced offset in the records of the current run; `None` if records do not contain any.
    synced: Option<u64>,
    /// Logical offset and appearance of the entries of `damaged` that belong to this run.
    of_run: Vec<(u64, Look)>,
}

/// The appearance of bytes that are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// The bytes are missing, or they contain a whole sector of zeros: they were never written to the disk.
    Unwritten,
    Other,
}

/// The smallest unit that a disk writes as a whole.
const SECTOR_BYTES: u64 = 512;

impl Look {
    fn of(file: &Path, offset: u64, bytes: u64) -> io::Result<Look> {
        let file = File::open(file)?;
        let end = offset + bytes;
        if file.metadata()?.len() < end {
            return Ok(Look::Unwritten);
        }
        let mut sector = [0; SECTOR_BYTES as usize];
        let mut at = offset.next_multiple_of(SECTOR_BYTES);
        while at < end {
            let filled = read_up_to(&file, &mut sector, at)?;
            if filled > 0 && at + filled as u64 <= end && sector[..filled].iter().all(|byte| *byte == 0) {
                return Ok(Look::Unwritten);
            }
            at += SECTOR_BYTES;
        }
        Ok(Look::Other)
    }
}

#[derive(Debug)]
pub(super) struct Torn {
    pub(super) path: PathBuf,
    /// Bytes of the file up to the last record.
    pub(super) keep: u64,
    pub(super) bytes: u64,
}

impl Survey {
    /// Surveys the segments with these base offsets. A segment that is missing was released in the meantime.
    pub(super) fn of(dir: &Path, bases: &[u64], lane: Option<LaneId>) -> Result<Survey, JournalError> {
        let mut survey = Survey { lane, ..Survey::default() };
        let mut batch = Batch::new();
        for (index, base) in bases.iter().enumerate() {
            let next = bases.get(index + 1).copied();
            match Segment::open(dir, *base, survey.lane)? {
                Some(segment) => survey.add(&segment, next, &mut batch)?,
                None => survey.expected = None,
            }
        }
        survey.leave_run();
        Ok(survey)
    }

    fn add(&mut self, segment: &Segment, next: Option<u64>, batch: &mut Batch) -> Result<(), JournalError> {
        if segment.opening == Opening::Unfinished && next.is_none() {
            self.unfinished = Some(segment.path.clone());
            self.end = segment.base;
            return Ok(());
        }
        let file_end = segment.base + segment.bytes;
        let limit = next.map_or(file_end, |next| next.min(file_end));
        if let (Some(expected), Some(before)) = (self.expected, self.bases.last())
            && self.end < segment.base
        {
            let file = segment::path(segment.path.parent().unwrap_or(Path::new("")), *before);
            self.damage(file, self.end - before, segment.base - self.end, expected, None);
        }
        self.bases.push(segment.base);
        self.bytes += segment.bytes;
        self.end = limit;
        let expected = self.expected.unwrap_or(Sequence(1));
        let header = match segment.header() {
            Some(header) if self.expected.is_none_or(|expected| header.first >= expected) => header,
            _ => {
                self.damage(segment.path.clone(), 0, limit - segment.base, expected, None);
                return Ok(());
            }
        };
        self.lane = Some(header.lane);
        self.settle(header.first);
        self.enter_run(header.run);
        self.announced.get_or_insert(header.first);
        self.last = self.last.max(Sequence(header.first.0.saturating_sub(1)));
        if let Opening::Sound { damaged: Some(copy), .. } = segment.opening {
            self.damage(segment.path.clone(), copy as u64, HEADER_BYTES as u64 / 2, header.first, Some(0));
        }
        let stretch = Stretch {
            file: &segment.file,
            base: segment.base,
            salt: header.salt,
            at: segment.base + HEADER_BYTES as u64,
            limit,
            expected: header.first,
            jump: false,
        };
        self.walk(segment, stretch, next.is_none(), batch)
    }

    fn walk(
        &mut self,
        segment: &Segment,
        mut stretch: Stretch<'_>,
        newest: bool,
        batch: &mut Batch,
    ) -> Result<(), JournalError> {
        let io = |error| JournalError::io(&segment.path)(error);
        while stretch.at < stretch.limit {
            let loaded = stretch.load(batch, usize::MAX, CHUNK_BYTES).map_err(io)?;
            if let (Loaded::Records, Some(first), Some(last)) = (loaded, batch.first(), batch.last()) {
                self.first.get_or_insert(first);
                self.last = last;
                self.records += batch.len() as u64;
                self.synced = self.synced.map(|synced| synced.max(batch.synced()));
                stretch.at += batch.bytes() as u64;
                stretch.expected = last.next();
                continue;
            }
            let (path, offset) = (segment.path.clone(), stretch.at - segment.base);
            match resync::next_sound(&stretch).map_err(io)? {
                Found::Record { at, sequence: found } => {
                    let lost = found.0 - stretch.expected.0;
                    self.damage(path, offset, at - stretch.at, stretch.expected, Some(lost));
                    (stretch.at, stretch.expected) = (at, found);
                }
                Found::Nothing if newest => {
                    self.torn = Some(Torn { path, keep: offset, bytes: stretch.limit - stretch.at });
                    self.end = stretch.at;
                    break;
                }
                Found::Nothing | Found::GivenUp => {
                    self.damage(path, offset, stretch.limit - stretch.at, stretch.expected, None);
                    break;
                }
            }
        }
        self.expected = Some(stretch.expected);
        Ok(())
    }

    /// Records damage. `lost` is `None` if only later records show how many records are lost.
    fn damage(&mut self, file: PathBuf, offset: u64, bytes: u64, first: Sequence, lost: Option<u64>) {
        if lost.is_none() {
            self.unsettled = Some(self.damaged.len());
        }
        let lost = lost.unwrap_or(0);
        // Bytes that cannot be read are treated as written.
        let look = Look::of(&file, offset, bytes).unwrap_or(Look::Other);
        self.of_run.push((segment::base_of(&file).unwrap_or(0) + offset, look));
        self.damaged.push(Damage { file, offset, bytes, first, lost, quarantined: false, promised: true });
    }

    /// Begins a run, because the lane was opened again here, or its records contain no synced offsets.
    fn enter_run(&mut self, run: Run) {
        let is_first = self.bases.len() == 1;
        match run {
            Run::Begins => {
                self.leave_run();
                self.synced = Some(0);
            }
            Run::Continues if is_first => self.synced = Some(0),
            Run::Continues => {}
            Run::Unknown => {
                self.leave_run();
                self.synced = None;
            }
        }
    }

    /// Ends a run whose records were all read. Unwritten bytes that none of these records proves to be synced were
    /// not promised.
    fn leave_run(&mut self) {
        let from = self.damaged.len() - self.of_run.len();
        for (damage, (at, look)) in self.damaged[from..].iter_mut().zip(self.of_run.drain(..)) {
            damage.promised = look == Look::Other || self.synced.is_none_or(|synced| at < synced);
        }
    }

    /// Settles the size of a loss. The next valid segment begins with `first`, so the records missing before it
    /// belong to the damage. Without damage, the lane was opened with a floor and nothing is missing.
    fn settle(&mut self, first: Sequence) {
        let Some(index) = self.unsettled.take() else { return };
        if let (Some(damage), Some(expected)) = (self.damaged.get_mut(index), self.expected) {
            damage.lost = first.0.saturating_sub(expected.0);
        }
    }
}
