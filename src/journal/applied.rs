//! The sync of a lane up to its reader's position, prepared by the reader and run on any thread.

use std::fs::File;
use std::io;
use std::sync::Arc;

use super::error::JournalError;
use super::read::Reader;
use super::segment;
use super::state::LaneState;
use crate::base::ids::LaneId;

/// Syncs the records that a reader has read. A database checkpoint runs it first, so that after a power cut the journal
/// is not behind the database.
#[derive(Debug)]
pub struct AppliedSync {
    state: Arc<LaneState>,
    /// Base offsets of the segments to sync.
    segments: Vec<u64>,
    /// Set if a segment's name may not be durable yet.
    is_new: bool,
    newest: Option<u64>,
    upto: u64,
    result: Result<(), JournalError>,
}

impl AppliedSync {
    #[must_use]
    pub fn lane(&self) -> LaneId {
        self.state.lane()
    }

    /// Syncs now, on the calling thread. [`Reader::synced_applied`] takes over the result.
    pub fn run(&mut self) {
        self.result = self.segments.iter().try_for_each(|base| sync_segment(&self.state, *base));
        if self.result.is_ok() && self.is_new {
            self.result = segment::sync_folder(self.state.dir());
        }
    }
}

impl Reader {
    /// Prepares the sync of the segments up to the reader's position. Returns `None` if they are synced. The sync
    /// includes the start of the newest segment, which [`Reader::release`] requires.
    #[must_use]
    pub fn plan_sync(&self) -> Option<AppliedSync> {
        let from = self.synced.1.max(self.state.synced());
        if from >= self.at {
            return None;
        }
        let ends = self.segments.iter().skip(1).map(|next| next.base).chain([self.at]);
        let read = self.segments.iter().zip(ends).filter(|(_, ends)| *ends > from);
        let mut segments: Vec<u64> = read.map(|(known, _)| known.base).collect();
        let newest = self.state.segment();
        if segments.last().is_none_or(|last| *last < newest) && self.synced.0 < Some(newest) {
            segments.push(newest);
        }
        let newest = self.synced.0.max(segments.last().copied());
        Some(AppliedSync {
            state: Arc::clone(&self.state),
            segments,
            is_new: newest != self.synced.0,
            newest,
            upto: self.at,
            result: Ok(()),
        })
    }

    /// Takes over the result of a sync that this reader prepared.
    ///
    /// # Errors
    /// The sync failed, and nothing counts as synced.
    pub fn synced_applied(&mut self, sync: AppliedSync) -> Result<(), JournalError> {
        sync.result?;
        self.synced = (self.synced.0.max(sync.newest), self.synced.1.max(sync.upto));
        Ok(())
    }

    /// Fdatasyncs the segments up to the reader's position.
    ///
    /// # Errors
    /// The disk cannot be synced.
    pub fn sync_applied(&mut self) -> Result<(), JournalError> {
        let Some(mut sync) = self.plan_sync() else { return Ok(()) };
        sync.run();
        self.synced_applied(sync)
    }
}

/// Syncs one segment. A failure counts for the whole lane.
pub(super) fn sync_segment(state: &LaneState, base: u64) -> Result<(), JournalError> {
    let path = segment::path(state.dir(), base);
    File::open(&path).and_then(|file| file.sync_data()).map_err(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            state.note_sync_failure();
        }
        JournalError::io(&path)(error)
    })
}
