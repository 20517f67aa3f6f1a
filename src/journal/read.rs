//! The consumer's side: reads what is published, in order, and deletes what the database holds.
//!
//! In: the published end. Out: batches of checked records, and word of what is missing. Owns: the
//! position (and, in `release`, the deletion of segments). Never: reads beyond the published end, or stops at damage.

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

/// Stretches kept for [`Reader::take_damage`]; all are counted in [`LaneState`].
const DAMAGE_KEPT_MAX: usize = 64;
/// Ends of batches remembered until they are released.
const MARKS_MAX: usize = 1024;
/// Least bytes asked of the file at once.
const READ_BYTES_MIN: usize = 64 * 1024;
/// How far a seek reads at once.
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
    /// Everything up to the published end was lost: the next record may have any later sequence.
    jump: bool,
    /// A loss that the next sound record measures.
    unsettled: bool,
    /// Records up to here are not missed: applied before, or counted as lost already.
    accounted: Sequence,
    /// Segments not yet deleted that were entered, the current one last: all others' records are read.
    pub(super) segments: VecDeque<Known>,
    /// Ends of batches: the last sequence, and the offset behind it.
    pub(super) marks: VecDeque<(Sequence, u64)>,
    damage: Vec<Damage>,
    record_bytes_mean: usize,
    /// What is missing of the runs before and was promised to nobody.
    unpromised: Vec<Damage>,
    /// Base of the newest segment that [`Reader::sync_applied`] has synced, and how far.
    pub(super) synced: (Option<u64>, u64),
}

#[derive(Debug)]
struct Current {
    segment: Segment,
    salt: u32,
    /// Where it ends, once it is not the newest any more.
    next: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) base: u64,
    pub(super) first: Sequence,
}

/// Records between what was applied and what there is are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub expected: Sequence,
    pub found: Sequence,
    /// As of [`Damage`].
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

    /// The stretches skipped since the last call, at most 64 of them, for the log.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damage)
    }

    /// Fills `batch` with whole records, at most `records_max` and `bytes_max`, but one at least where
    /// one is published; returns how many, 0 when all is read. Fewer than there are may come. Damage is
    /// skipped, counted and told by [`Reader::take_damage`]. After an error nothing is read: try again.
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

    /// Goes to the first record after `applied`, from wherever it stands, and says where records are
    /// missing in front of it. Reads at most one segment.
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

    /// Where the current segment ends; enters one first where there is none, and then says nothing.
    /// `end` was read before, so what it covers is in a segment that is known by now.
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

    /// Opens the segment that holds the position, or the first one behind it.
    fn enter(&mut self) -> Result<(), JournalError> {
        self.current = None;
        let end = self.state.end();
        let bases = published(&self.state)?;
        let behind = bases.partition_point(|base| *base <= self.at);
        let holding = behind.checked_sub(1).filter(|index| {
            // Behind the last record of the newest segment is nothing of it, unless it was given up there.
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
                    // A header by itself is nothing that waits.
                    self.state.set_read(self.at);
                }
                Ok(())
            }
            _ => self.lose(next.unwrap_or(end).min(end), end),
        }
    }

    /// The record at the position is broken: goes on with the next sound one below `limit`.
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

    /// Everything up to `to` is lost; how many records that is, the next sound one tells.
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
        // Without room for the link the records still go on; the file stays until it is released.
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

    /// The next sound record is `found`: counts what is missing in front of it after damage.
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

    /// Stands at the start of the last segment that begins at or before the record after `applied`.
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
            // What an unreadable one in front of a readable one holds was applied.
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
        // Without any: where the first one will begin. Not the published end, because a first commit may
        // just have come between the look into the folder and here.
        (self.at, self.expected) = start.unwrap_or((self.state.read(), applied.next()));
        Ok(())
    }
}

/// The segments that hold published records. The folder may show one more, of a commit going on that
/// can still fail and begin another elsewhere.
fn published(state: &LaneState) -> Result<Vec<u64>, JournalError> {
    let newest = state.segment();
    let mut bases = segment::list_ours(state.dir())?;
    bases.retain(|base| *base <= newest);
    Ok(bases)
}
