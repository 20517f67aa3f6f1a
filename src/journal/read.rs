//! The consumer's side: reads the published records in order, and deletes those that the database has stored.
//!
//! In: the published end. Out: batches of checked records, and reports of missing records. Owns: the position (and,
//! in `release`, the deletion of segments). Never: reads beyond the published end, or stops at damage.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;

use super::batch::{Batch, Loaded, Stretch};
use super::error::JournalError;
use super::format::{HEADER_BYTES, RECORD_HEADER_BYTES};
use super::resync::{self, Found};
use super::segment::{self, Segment};
use super::state::LaneState;
use super::survey::Damage;
use crate::base::ids::Sequence;

/// The maximum number of damage reports kept for [`Reader::take_damage`]. [`LaneState`] counts all damage.
const DAMAGE_KEPT_MAX: usize = 64;
/// The maximum number of batch ends kept until they are released.
const MARKS_MAX: usize = 1024;
/// Minimum number of bytes per read.
const READ_BYTES_MIN: usize = 64 * 1024;
/// Bytes that a seek reads at once.
const SEEK_BYTES: usize = 1024 * 1024;

/// The one consumer of a lane.
#[derive(Debug)]
pub struct Reader {
    pub(super) state: Arc<LaneState>,
    _lock: Arc<File>,
    current: Option<Current>,
    /// Logical offset of the next record.
    pub(super) at: u64,
    expected: Sequence,
    /// Set if everything up to the published end was lost, so the next record may have any later sequence.
    jump: bool,
    /// Set after a loss until the next valid record shows how large the loss is.
    unsettled: bool,
    /// Records up to this one are not reported as missing: they were applied before, or are already counted as lost.
    accounted: Sequence,
    /// Segments that were entered and are not deleted yet, the current one last. All records of the other segments
    /// have been read.
    pub(super) segments: VecDeque<Known>,
    /// Ends of batches: the last sequence of each, and the offset after that record.
    pub(super) marks: VecDeque<(Sequence, u64)>,
    damage: Vec<Damage>,
    record_bytes_mean: usize,
    /// Missing records of earlier runs that no promise covers.
    unpromised: Vec<Damage>,
    /// Base of the newest segment that [`Reader::sync_applied`] has synced with its name, and the synced offset.
    pub(super) synced: (Option<u64>, u64),
}

#[derive(Debug)]
struct Current {
    segment: Segment,
    salt: u32,
    /// The segment's end, once a newer segment exists.
    next: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) base: u64,
    pub(super) first: Sequence,
}

/// Records that are missing between the last applied one and the first existing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub expected: Sequence,
    pub found: Sequence,
    /// See [`Damage`].
    pub promised: bool,
}

impl Reader {
    pub(super) fn new(
        state: Arc<LaneState>,
        lock: Arc<File>,
        expected: Sequence,
        unpromised: Vec<Damage>,
    ) -> Reader {
        Reader {
            at: state.read(),
            state,
            _lock: lock,
            current: None,
            expected,
            jump: false,
            unsettled: false,
            accounted: Sequence::NONE,
            segments: VecDeque::new(),
            marks: VecDeque::new(),
            damage: Vec::new(),
            record_bytes_mean: 256,
            unpromised,
            synced: (None, 0),
        }
    }

    #[must_use]
    pub fn state(&self) -> &Arc<LaneState> {
        &self.state
    }

    /// Returns the damage that was skipped since the last call, for the log. There are at most 64 entries.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damage)
    }

    /// Fills `batch` with complete records, at most `records_max` records and `bytes_max` bytes, but at least one
    /// record if one is published. Returns their number, or 0 if all have been read. It may return fewer records than
    /// are published. It skips and counts damage, which [`Reader::take_damage`] reports. If it fails, nothing was
    /// read, and the call may be repeated.
    pub fn read(
        &mut self,
        batch: &mut Batch,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<usize, JournalError> {
        batch.clear();
        loop {
            let end = self.state.end();
            if self.at >= end {
                return Ok(0);
            }
            let Some(limit) = self.limit(end)? else { continue };
            if self.at >= limit {
                self.enter()?;
                continue;
            }
            let Some(current) = &self.current else { continue };
            let stretch = self.stretch(current, limit);
            let guess = records_max.saturating_mul(self.record_bytes_mean + RECORD_HEADER_BYTES);
            let want = guess.max(READ_BYTES_MIN).min(bytes_max);
            let loaded = stretch.load(batch, records_max, want);
            match loaded.map_err(JournalError::io(&current.segment.path))? {
                Loaded::Records => {
                    self.advance(batch);
                    return Ok(batch.len());
                }
                Loaded::End | Loaded::Bad => self.skip_damage(limit)?,
            }
        }
    }

    /// Moves to the first record after `applied`, from any position, and reports missing records before it. Reads at
    /// most one segment.
    pub fn seek(&mut self, applied: Sequence) -> Result<Option<Gap>, JournalError> {
        let appended = self.state.appended();
        if applied > appended {
            return Err(JournalError::Behind { applied, appended });
        }
        self.start_before(applied)?;
        self.accounted = self.accounted.max(applied);
        let mut batch = Batch::new();
        let found = loop {
            if self.read(&mut batch, usize::MAX, SEEK_BYTES)? == 0 {
                break (appended > applied).then_some(appended.next());
            }
            if batch.last() > Some(applied) {
                let start = self.at - batch.bytes() as u64;
                self.at = start + batch.drop_upto(applied) as u64;
                self.expected = batch.first().unwrap_or(self.expected);
                break batch.first();
            }
        };
        self.expected = self.expected.max(applied.next());
        self.marks.clear();
        self.marks.push_back((applied, self.at));
        self.state.set_read(self.at);
        let expected = applied.next();
        let promised = |found: Sequence| {
            !self.unpromised.iter().any(|missing| {
                missing.first <= expected && found.0 <= missing.first.0.saturating_add(missing.lost)
            })
        };
        let gap = |found| Gap { expected, found, promised: promised(found) };
        Ok(found.filter(|found| *found > expected).map(gap))
    }

    fn stretch<'a>(&self, current: &'a Current, limit: u64) -> Stretch<'a> {
        Stretch {
            file: &current.segment.file,
            base: current.segment.base,
            salt: current.salt,
            at: self.at,
            limit,
            expected: self.expected,
            jump: self.jump,
        }
    }

    fn advance(&mut self, batch: &Batch) {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return };
        self.settle(first);
        self.at += batch.bytes() as u64;
        self.expected = last.next();
        self.jump = false;
        self.record_bytes_mean = batch.bytes() / batch.len();
        if self.marks.len() == MARKS_MAX {
            self.marks.pop_back();
        }
        self.marks.push_back((last, self.at));
        self.state.set_read(self.at);
    }

    /// Returns the end of the current segment. If there is no current segment, enters one and returns `None`. `end`
    /// was read earlier, so the segment that contains it is already known.
    fn limit(&mut self, end: u64) -> Result<Option<u64>, JournalError> {
        let newest = self.state.segment();
        let Some(current) = &mut self.current else {
            self.enter()?;
            return Ok(None);
        };
        if current.segment.base == newest {
            return Ok(Some(end));
        }
        if current.next.is_none() {
            let base = current.segment.base;
            current.next = published(&self.state)?.into_iter().find(|next| *next > base);
        }
        Ok(Some(current.next.unwrap_or(end).min(end)))
    }

    /// Opens the segment at the position, or the first one after it.
    fn enter(&mut self) -> Result<(), JournalError> {
        self.current = None;
        let end = self.state.end();
        let bases = published(&self.state)?;
        let behind = bases.partition_point(|base| *base <= self.at);
        let holding = behind.checked_sub(1).filter(|index| {
            // A position after the start of the newest segment is the end of its records, unless the reader gave up
            // there.
            behind < bases.len() || bases[*index] == self.at || self.jump
        });
        let Some(base) = bases.get(holding.unwrap_or(behind)).copied() else {
            return self.lose(end, end);
        };
        if base > self.at {
            self.lose(base, end)?;
        }
        let next = bases.into_iter().find(|next| *next > base);
        let segment = Segment::open(self.state.dir(), base, Some(self.state.lane()))?;
        let header = segment.as_ref().and_then(Segment::header);
        let inside = self.at > base;
        if self.segments.back().is_none_or(|known| known.base < base) {
            let first = header.map_or(self.expected, |header| header.first);
            self.segments.push_back(Known { base, first });
        }
        match (segment, header) {
            (Some(segment), Some(header)) if inside || header.first >= self.expected => {
                self.current = Some(Current { segment, salt: header.salt, next });
                if !inside {
                    self.settle(header.first);
                    self.jump = false;
                    self.at = base + HEADER_BYTES as u64;
                    // A segment header without records does not count as pending.
                    self.state.set_read(self.at);
                }
                Ok(())
            }
            _ => self.lose(next.unwrap_or(end).min(end), end),
        }
    }

    /// Skips damage: the record at the position is damaged, so reading continues with the next valid one below
    /// `limit`.
    fn skip_damage(&mut self, limit: u64) -> Result<(), JournalError> {
        let Some(current) = &self.current else { return Ok(()) };
        let path = &current.segment.path;
        match resync::next_sound(&self.stretch(current, limit)).map_err(JournalError::io(path))? {
            Found::Record { at, sequence: found } => {
                self.note(self.at, at - self.at);
                self.settle(found);
                self.at = at;
                self.jump = false;
                Ok(())
            }
            Found::Nothing | Found::GivenUp => self.lose(limit, self.state.end()),
        }
    }

    /// Notes that everything up to `to` is lost. The next valid record shows how many records that is.
    fn lose(&mut self, to: u64, end: u64) -> Result<(), JournalError> {
        self.note(self.at, to - self.at);
        self.at = to;
        self.jump |= to >= end;
        self.state.set_read(self.at);
        Ok(())
    }

    fn note(&mut self, from: u64, bytes: u64) {
        self.unsettled = true;
        let base =
            self.segments.iter().rev().map(|known| known.base).find(|base| *base <= from).unwrap_or(from);
        // If there is no space for the link, the reader continues. The file remains until it is released.
        let quarantined = segment::quarantine(self.state.dir(), base).is_ok();
        if self.damage.len() < DAMAGE_KEPT_MAX {
            let file = segment::path(self.state.dir(), base);
            let (offset, first) = (from - base, self.expected);
            let promised = !self.unpromised.iter().any(|missing| {
                missing.file == file
                    && missing.offset <= offset
                    && offset + bytes <= missing.offset + missing.bytes
            });
            self.damage.push(Damage { file, offset, bytes, first, lost: 0, quarantined, promised });
        }
    }

    /// Counts the records that damage has removed before `found`, the next valid record.
    fn settle(&mut self, found: Sequence) {
        if std::mem::take(&mut self.unsettled) {
            let from = self.expected.max(self.accounted.next());
            let lost = found.0.saturating_sub(from.0);
            if lost > 0 {
                self.state.count_damage(lost);
            }
            self.accounted = self.accounted.max(Sequence(found.0.saturating_sub(1)));
            if let Some(damage) = self.damage.last_mut() {
                damage.lost = lost;
            }
        }
        self.expected = self.expected.max(found);
    }

    /// Moves to the start of the last segment that begins at or before the record after `applied`.
    pub(super) fn start_before(&mut self, applied: Sequence) -> Result<(), JournalError> {
        self.segments.clear();
        let (mut start, mut kept) = (None, 0);
        for base in published(&self.state)? {
            let Some(segment) = Segment::open(self.state.dir(), base, Some(self.state.lane()))? else {
                continue;
            };
            let first = segment.header().map(|header| header.first);
            if start.is_some() && first.is_some_and(|first| first > applied.next()) {
                break;
            }
            // If a readable segment follows an unreadable one, all records of the unreadable segment were applied.
            self.segments.push_back(Known { base, first: first.unwrap_or(applied.next()) });
            if first.is_some() || start.is_none() {
                start = Some((base, first.unwrap_or(applied.next())));
                kept = self.segments.len();
            }
        }
        self.segments.truncate(kept);
        self.current = None;
        self.jump = false;
        self.unsettled = false;
        // If there are no segments, the position is the start of the first one to be written. The published end would
        // be wrong, because the first commit may have happened after the folder was listed.
        (self.at, self.expected) = start.unwrap_or((self.state.read(), applied.next()));
        Ok(())
    }
}

/// Returns the segments with published records. The folder may also contain segments of a commit in progress. That
/// commit may fail, and the next one may begin a segment at another offset.
fn published(state: &LaneState) -> Result<Vec<u64>, JournalError> {
    let newest = state.segment();
    let mut bases = segment::list_ours(state.dir())?;
    bases.retain(|base| *base <= newest);
    Ok(bases)
}
