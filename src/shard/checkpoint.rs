//! Checkpoints copy the WAL into the database file. Only records that a complete checkpoint has copied and synced are
//! durable, and the journal may delete only those. If a bit of the WAL flips, SQLite drops every later commit, rows
//! and positions together, and the journal then replays the lost records ([`recover`](super::recover()) handles a bit
//! that a checkpoint requires). A server leaves the copying to a [`Copier`](super::Copier) and checkpoints on its
//! writer's thread only what remains.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::error::ShardError;
use super::file::Shard;
use super::identity::beside;
use super::wal::Wal;
use super::wal_file::{WalFrames, sync_wal};
use crate::base::ids::{LaneId, Sequence};
use crate::base::{clock, durable};

/// How thorough a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointMode {
    /// Copies as much as open readers allow, without waiting for anyone.
    Passive,
    /// Copies as much as [`CheckpointMode::Passive`] does. Truncates the WAL file to zero bytes if no reader uses
    /// it.
    Truncate,
}

/// The result of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Set if every frame is in the database file, and the file is synced. A copier's pass is complete without the
    /// frames that were committed while it copied.
    pub complete: bool,
    /// Bytes of WAL frames that are not in the database file.
    pub wal_bytes: u64,
    /// Positions that are now durable: those of every lane if the checkpoint is complete, otherwise none.
    pub durable: Vec<(LaneId, Sequence)>,
    pub took: Duration,
}

impl Shard {
    /// Returns the bytes of WAL frames that no checkpoint has copied yet.
    #[must_use]
    pub fn wal_bytes(&self) -> u64 {
        self.wal_frames.get().saturating_sub(self.wal_copied.get()) * self.frame_bytes
    }

    /// Returns the bytes of all frames since the WAL started from its beginning.
    #[must_use]
    pub fn wal_whole_bytes(&self) -> u64 {
        self.wal_frames.get() * self.frame_bytes
    }

    /// Returns the length of the WAL file, or 0 if there is none.
    #[must_use]
    pub fn wal_file_bytes(&self) -> u64 {
        std::fs::metadata(beside(&self.path, "-wal")).map_or(0, |wal| wal.len())
    }

    /// Returns `true` if the WAL file is empty or absent.
    #[must_use]
    pub fn is_wal_truncated(&self) -> bool {
        self.wal_file_bytes() == 0
    }

    /// Syncs the WAL file, so that its length survives a power cut.
    ///
    /// # Errors
    /// The disk cannot be synced.
    pub fn sync_wal(&self) -> Result<(), ShardError> {
        sync_wal(&self.path)
    }

    /// Returns the checkpoint that the size of the WAL requires, if any, for a shard without a copier.
    #[must_use]
    pub fn checkpoint_due(&self) -> Option<CheckpointMode> {
        let bytes = self.wal_bytes();
        // A WAL of this length shows that a reader kept it from restarting. Truncation frees its disk space once the
        // reader has ended.
        let is_held = self.wal_whole_bytes() >= 4 * self.options.checkpoint_wal_bytes;
        (bytes >= self.options.checkpoint_wal_bytes).then_some(if is_held {
            CheckpointMode::Truncate
        } else {
            CheckpointMode::Passive
        })
    }

    /// Copies the WAL into the database file and syncs it. The caller syncs the journal up to the applied positions
    /// first, so that the journal is never behind the database after a power cut. Takes 50 to 120 ms for 32 MiB.
    /// Never waits for a lock. No copier's pass may be under way.
    pub fn checkpoint(&mut self, mode: CheckpointMode) -> Result<Checkpoint, ShardError> {
        let started_us = clock::monotonic_us();
        self.check_size()?;
        let frames = self.wal_frames.get();
        let recorded = match frames > self.wal_copied.get() {
            true => {
                self.passes += 1;
                let salts = Wal::salts(&beside(&self.path, "-wal"))?.unwrap_or_default();
                // The record must not be durable before the frames that it names.
                sync_wal(&self.path)?;
                self.record.begin(self.passes, salts, frames)?;
                Some(salts)
            }
            false => None,
        };
        let sql = match mode {
            CheckpointMode::Passive => "PASSIVE",
            CheckpointMode::Truncate => "TRUNCATE",
        };
        let found = WalFrames::by(&self.connection, sql)?;
        self.count_frames(found);
        let complete = found.is_copied();
        if let Some(salts) = recorded.filter(|_| complete) {
            self.record.end(self.passes, salts, frames)?;
        }
        // A checkpoint makes the file grow, or shrink if pages were freed.
        self.file_bytes = self.database_bytes();
        let took = Duration::from_micros(clock::monotonic_us() - started_us);
        if complete {
            let places = self.places()?;
            self.checkpointed.note(places);
        }
        let durable = if complete { self.positions() } else { Vec::new() };
        Ok(Checkpoint { complete, wal_bytes: self.wal_bytes(), durable, took })
    }

    /// Takes over the counts of a checkpoint.
    pub(super) fn count_frames(&self, frames: WalFrames) {
        if !frames.is_unknown() {
            self.wal_frames.set(frames.whole);
            self.wal_copied.set(frames.copied);
        }
    }
}

/// Syncs the WAL of the connection's shard. A power cut then loses no row, id or status that the connection has read,
/// even if their records in the journal are not synced yet. Takes as long as the disk takes for what was committed
/// since the last sync, at most a few MiB while the copier keeps up.
///
/// # Errors
/// The disk cannot be synced.
pub fn sync_commits(connection: &Connection) -> Result<(), ShardError> {
    let path = Path::new(connection.path().unwrap_or_default());
    sync_wal(path)?;
    // The WAL file may be new.
    Ok(durable::sync_folder(durable::holder_of(path))?)
}
