//! The writer's part of a copier's pass: what it notes at the start, and what follows from a complete one.

use std::sync::Arc;
use std::time::Duration;

use super::checkpoint::Checkpoint;
use super::checkpointed::Places;
use super::copier::{PassOrder, Passed};
use super::epochs::{self, EPOCH};
use super::error::ShardError;
use super::file::Shard;
use super::wal_file::WalFrames;
use crate::base::clock;
use crate::base::ids::{LaneId, Sequence};

/// How far a shard had come when a pass began. A complete pass has copied at least this.
#[derive(Debug)]
pub struct Mark {
    positions: Vec<(LaneId, Sequence)>,
    places: Places,
    began_us: u64,
}

impl Shard {
    /// Notes how far the shard has come, and returns the order for its copier. Until [`Shard::end_checkpoint`], this
    /// connection must not run a checkpoint.
    ///
    /// # Errors
    /// The path names another file, or the file was truncated.
    pub fn begin_checkpoint(&mut self) -> Result<(Mark, PassOrder), ShardError> {
        self.check_identity()?;
        self.passes += 1;
        self.is_copying = true;
        let order = PassOrder {
            number: self.passes,
            frames: Arc::clone(&self.wal_frames),
            identity: self.identity,
            file_bytes: if self.can_shrink { 0 } else { self.file_bytes },
        };
        let mark =
            Mark { positions: self.positions(), places: self.places()?, began_us: clock::monotonic_us() };
        Ok((mark, order))
    }

    /// Takes over the result of a pass. If it is complete, the mark's positions are durable, and
    /// [`Shard::save_checkpointed`] has something to write.
    ///
    /// # Errors
    /// The pass failed, or the file was truncated.
    pub fn end_checkpoint(
        &mut self,
        mark: Mark,
        passed: Result<Passed, ShardError>,
    ) -> Result<Checkpoint, ShardError> {
        self.is_copying = false;
        let is_complete = passed?.is_complete;
        if !self.can_shrink {
            self.check_size()?;
        }
        self.file_bytes = self.database_bytes();
        self.count_frames(WalFrames::by(&self.connection, "NOOP")?);
        let durable = if is_complete { mark.positions } else { Vec::new() };
        if is_complete {
            self.checkpointed.note(mark.places);
        }
        let took = Duration::from_micros(clock::monotonic_us() - mark.began_us);
        Ok(Checkpoint { complete: is_complete, wal_bytes: self.wal_bytes(), durable, took })
    }

    /// Writes how far the file is complete, if that has changed: a commit of one page. Returns `true` if it has.
    ///
    /// # Errors
    /// SQLite reports an error. The next call tries again.
    pub fn save_checkpointed(&mut self) -> Result<bool, ShardError> {
        self.checkpointed.save(&mut self.connection)
    }

    /// Returns the last row id of every stream and ledger, the last numbers of the feed of changes and of the epochs, and
    /// the position of every journal.
    pub(super) fn places(&self) -> Result<Places, ShardError> {
        let journals = self.positions().into_iter().map(|(lane, last)| (lane.folder(), last.0.cast_signed()));
        let mut places = self.stores.last_numbers(&self.connection, &self.streams)?;
        places.insert(EPOCH.to_owned(), epochs::newest_number(&self.connection)?);
        places.extend(journals);
        Ok(places)
    }
}
