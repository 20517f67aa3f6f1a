//! The producer's side: records are staged in memory and written to the file with one write per commit.
//!
//! In: payloads, in pieces. Out: sequences, and the published end. Owns: the segment being written. Never: reads,
//! syncs, waits, or writes below the published end.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::AppendError;
use super::format::{
    HEADER_BYTES, Heading, RECORD_HEADER_BYTES, Run, SYNCED_BYTES, SegmentHeader, encode_record,
};
use super::state::LaneState;
use super::{Options, segment};
use crate::base::ids::Sequence;
use crate::base::kinds::Kind;
use crate::base::limits::RECORD_BYTES_MAX;

/// After a commit, the stage frees memory above this size, which is that of 16 of the largest records.
const STAGE_BYTES_KEPT: usize = 16 * RECORD_BYTES_MAX;

/// The one producer of a lane.
#[derive(Debug)]
pub struct Appender {
    state: Arc<LaneState>,
    options: Options,
    _lock: Arc<File>,
    /// The segment of the next record; `None` until the first commit after opening.
    current: Option<Current>,
    /// Offset after the last published record.
    end: u64,
    /// The sequence of the first record in the next commit.
    next: Sequence,
    stage: Vec<u8>,
    staged: usize,
    too_large: bool,
    /// The synced offset in the last published record that has one, and the synced offset that is staged, if any.
    said_synced: (u64, Option<u64>),
    /// Segments that begin within the stage, with their positions in it.
    begins: Vec<(usize, SegmentHeader)>,
    /// Files of a failed commit that could not be removed yet.
    leftovers: Vec<PathBuf>,
}

#[derive(Debug)]
struct Current {
    file: File,
    base: u64,
    salt: u32,
    /// Set if a failed write left bytes after the end that could not be truncated. A new segment hides them.
    spoilt: bool,
}

/// A published commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The last record of the commit.
    pub last: Sequence,
    /// The lane's new end. Once [`LaneState::synced`] reaches it, the commit survives a power cut.
    pub end: u64,
}

impl Appender {
    pub(super) fn new(state: Arc<LaneState>, options: Options, lock: Arc<File>) -> Appender {
        let state_end = state.end();
        Appender {
            end: state_end,
            next: state.appended().next(),
            state,
            options,
            _lock: lock,
            current: None,
            stage: Vec::new(),
            staged: 0,
            too_large: false,
            // Bytes before this offset do not belong to this run.
            said_synced: (state_end, None),
            begins: Vec::new(),
            leftovers: Vec::new(),
        }
    }

    /// Stages one record whose payload is the concatenated pieces, and returns the sequence that it will have once it
    /// is committed. Allocates nothing once the stage has grown. A payload above [`RECORD_BYTES_MAX`] makes the
    /// commit fail with [`AppendError::TooLarge`]; the caller's limits are below it.
    #[inline]
    pub fn stage(&mut self, kind: Kind, pieces: &[&[u8]]) -> Sequence {
        let payload_bytes = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let sequence = Sequence(self.next.0 + self.staged as u64);
        self.staged += 1;
        if payload_bytes > RECORD_BYTES_MAX {
            self.too_large = true;
            return sequence;
        }
        let synced = self.news_of_sync();
        let header_bytes = RECORD_HEADER_BYTES + if synced.is_some() { SYNCED_BYTES } else { 0 };
        let salt = self.salt_for(sequence, header_bytes + payload_bytes);
        let at = self.end + self.stage.len() as u64;
        let heading = Heading { sequence, kind: kind.number(), synced };
        encode_record(&mut self.stage, salt, at, heading, pieces, payload_bytes);
        sequence
    }

    /// Returns the synced offset of the lane for the first record of a commit, if no record contains it yet.
    #[inline]
    fn news_of_sync(&mut self) -> Option<u64> {
        let synced = if self.staged == 1 { self.state.synced() } else { 0 };
        self.said_synced.1 = self.said_synced.1.or((synced > self.said_synced.0).then_some(synced));
        self.said_synced.1.filter(|_| self.staged == 1)
    }

    /// Returns the number of staged records, and the number of their bytes.
    #[must_use]
    pub fn staged(&self) -> (usize, usize) {
        (self.staged, self.stage.len())
    }

    /// Returns the offset after the last staged record. It is that of the lane once the stage is committed.
    #[must_use]
    pub fn staged_end(&self) -> u64 {
        self.end + self.stage.len() as u64
    }

    /// Writes and publishes the staged records: one `pwrite`, and one more for each new segment. On an error, nothing
    /// is published, the stage is emptied, and the sequences are used again.
    pub fn commit(&mut self) -> Result<Committed, AppendError> {
        if self.staged == 0 {
            return Ok(Committed { last: self.state.appended(), end: self.end });
        }
        let written = self.write();
        if written.is_ok() {
            self.next = Sequence(self.next.0 + self.staged as u64);
            self.end += self.stage.len() as u64;
            self.said_synced.0 = self.said_synced.1.unwrap_or(self.said_synced.0);
            let last = Sequence(self.next.0 - 1);
            let base = self.current.as_ref().map_or(0, |current| current.base);
            self.state.publish(last, base, self.end, self.stage.len() as u64);
        }
        self.abandon();
        written.map(|()| Committed { last: Sequence(self.next.0 - 1), end: self.end })
    }

    /// Begins another segment, without a record, if [`LaneState::ask_rotation`] requested it and no commit has begun
    /// one since. Returns `true` if it began a segment. The segment's header continues the sequence. Takes two atomic
    /// loads if nothing was requested. Must not be called while anything is staged.
    pub fn rotate_if_asked(&mut self) -> Result<bool, AppendError> {
        if self.staged != 0 || !self.state.rotation_asked() {
            return Ok(false);
        }
        self.begin_segment(self.end, self.next);
        let written = self.write();
        if written.is_ok() {
            self.end += self.stage.len() as u64;
            let base = self.current.as_ref().map_or(0, |current| current.base);
            self.state.publish(self.state.appended(), base, self.end, self.stage.len() as u64);
        }
        self.abandon();
        written.map(|()| true)
    }

    /// Discards the stage.
    pub fn abandon(&mut self) {
        self.stage.clear();
        self.stage.shrink_to(STAGE_BYTES_KEPT);
        self.begins.clear();
        self.staged = 0;
        self.said_synced.1 = None;
        self.too_large = false;
    }

    #[must_use]
    pub fn state(&self) -> &Arc<LaneState> {
        &self.state
    }

    /// Returns the salt of the segment that a record of this size goes to. Begins a segment if the record does not
    /// fit into the current one.
    #[inline]
    fn salt_for(&mut self, sequence: Sequence, record_bytes: usize) -> u32 {
        let open = match (self.begins.last(), &self.current) {
            (Some((_, header)), _) => Some((header.base, header.salt)),
            (None, Some(current)) => {
                let leave = current.spoilt || (self.staged == 1 && self.state.must_leave(current.base));
                (!leave).then_some((current.base, current.salt))
            }
            (None, None) => None,
        };
        let at = self.end + self.stage.len() as u64;
        match open {
            // A segment holds at least one record, however small the configured segment size is.
            Some((base, salt))
                if at + record_bytes as u64 - base <= self.options.segment_bytes
                    || at == base + HEADER_BYTES as u64 =>
            {
                salt
            }
            _ => self.begin_segment(at, sequence),
        }
    }

    #[cold]
    fn begin_segment(&mut self, base: u64, first: Sequence) -> u32 {
        let is_first = self.current.is_none() && self.begins.is_empty();
        let run = if is_first { Run::Begins } else { Run::Continues };
        let header = SegmentHeader::new(self.state.lane(), base, first, run);
        self.begins.push((self.stage.len(), header));
        self.stage.extend_from_slice(&header.encode());
        header.salt
    }

    fn write(&mut self) -> Result<(), AppendError> {
        if self.too_large {
            return Err(AppendError::TooLarge);
        }
        if self.state.bytes_on_disk() + self.stage.len() as u64 > self.options.bytes_max {
            return Err(AppendError::Full);
        }
        self.remove_leftovers()?;
        let mut begun = Vec::new();
        match self.write_parts(&mut begun) {
            Ok(()) => {
                if let Some(newest) = begun.pop() {
                    self.current = Some(newest);
                }
                Ok(())
            }
            Err(error) => {
                self.undo(&begun);
                Err(error.into())
            }
        }
    }

    fn write_parts(&self, begun: &mut Vec<Current>) -> io::Result<()> {
        let in_current = self.begins.first().map_or(self.stage.len(), |(place, _)| *place);
        if let (Some(current), true) = (&self.current, in_current > 0) {
            self.state.count_write();
            current.file.write_all_at(&self.stage[..in_current], self.end - current.base)?;
        }
        for (index, (place, header)) in self.begins.iter().enumerate() {
            let upto = self.begins.get(index + 1).map_or(self.stage.len(), |(place, _)| *place);
            let path = segment::path(self.state.dir(), header.base);
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
            begun.push(Current { file, base: header.base, salt: header.salt, spoilt: false });
            self.state.count_write();
            begun[index].file.write_all_at(&self.stage[*place..upto], 0)?;
        }
        Ok(())
    }

    /// Undoes the writes of a failed commit, so that neither the next commit nor a recovery finds them.
    fn undo(&mut self, begun: &[Current]) {
        for segment in begun {
            self.leftovers.push(segment::path(self.state.dir(), segment.base));
        }
        // Files that cannot be removed now are removed before the next write.
        let _ = self.remove_leftovers();
        if let Some(current) = &mut self.current {
            // If this segment were truncated while a later one still exists, a recovery after a crash would report a
            // loss.
            current.spoilt |=
                !self.leftovers.is_empty() || current.file.set_len(self.end - current.base).is_err();
        }
    }

    fn remove_leftovers(&mut self) -> io::Result<()> {
        while let Some(path) = self.leftovers.last() {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.leftovers.pop(),
            };
        }
        Ok(())
    }
}
