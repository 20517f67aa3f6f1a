//! Carrying the WAL over into the database file. Only what a complete checkpoint has carried and synced
//! is durable, and only that may be forgotten by the journal: a flipped bit in a WAL drops every later
//! commit, rows and positions together, and the journal then replays them.

use std::fs::File;
use std::io;
use std::time::Duration;

use super::error::ShardError;
use super::file::Shard;
use super::identity::beside;
use crate::base::clock;
use crate::base::ids::{LaneId, Sequence};

/// How hard a checkpoint tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointMode {
    /// As much as open readers allow, without waiting for anybody.
    Passive,
    /// The same, and the WAL file is cut to nothing if no reader uses it.
    Truncate,
}

/// What a checkpoint did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whether every frame is in the database file, synced.
    pub complete: bool,
    /// Bytes of frames in the WAL that are not.
    pub wal_bytes: u64,
    /// Positions that are durable now: every lane's when complete, otherwise none.
    pub durable: Vec<(LaneId, Sequence)>,
    pub took: Duration,
}

impl Shard {
    /// Bytes of frames in the WAL that no checkpoint has carried over yet.
    #[must_use]
    pub fn wal_bytes(&self) -> u64 {
        let frames = self.wal_frames.get();
        // SQLite starts the WAL from the front again once all of it was carried over.
        let carried = if self.wal_frames_carried <= frames { self.wal_frames_carried } else { 0 };
        (frames - carried) * self.frame_bytes
    }

    /// Whether the WAL file is empty, or not there.
    #[must_use]
    pub fn is_wal_cut(&self) -> bool {
        std::fs::metadata(beside(&self.path, "-wal")).map_or(true, |wal| wal.len() == 0)
    }

    /// The length of the WAL file survives a power cut.
    ///
    /// # Errors
    /// As the disk has them.
    pub fn sync_wal(&self) -> Result<(), ShardError> {
        match File::open(beside(&self.path, "-wal")) {
            Ok(wal) => Ok(wal.sync_all()?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The checkpoint that the size of the WAL asks for, if any.
    #[must_use]
    pub fn checkpoint_due(&self) -> Option<CheckpointMode> {
        let bytes = self.wal_bytes();
        // A WAL this long was held by a reader: when it has gone, give the disk space back.
        let is_held = self.wal_frames.get() * self.frame_bytes >= 4 * self.options.checkpoint_wal_bytes;
        (bytes >= self.options.checkpoint_wal_bytes).then_some(if is_held {
            CheckpointMode::Truncate
        } else {
            CheckpointMode::Passive
        })
    }

    /// Carries the WAL over and syncs. The journal must be synced up to the applied positions before, so
    /// that it is never behind the database after a power cut. 50 to 120 ms for 32 MiB; never waits for
    /// a lock.
    pub fn checkpoint(&mut self, mode: CheckpointMode) -> Result<Checkpoint, ShardError> {
        let started_us = clock::monotonic_us();
        self.check_size()?;
        let sql = match mode {
            CheckpointMode::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
            CheckpointMode::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
        };
        // A busy TRUNCATE may have carried everything over all the same: the frame counts decide.
        let (frames, carried): (i64, i64) =
            self.connection.query_row(sql, [], |row| Ok((row.get(1)?, row.get(2)?)))?;
        let complete = frames >= 0 && frames == carried;
        if let (Ok(frames), Ok(carried)) = (u64::try_from(frames), u64::try_from(carried)) {
            self.wal_frames.set(frames);
            self.wal_frames_carried = carried;
        }
        // It grows here, and shrinks where pages were given back.
        self.file_bytes = self.database_bytes();
        let took = Duration::from_micros(clock::monotonic_us() - started_us);
        let durable = if complete { self.positions() } else { Vec::new() };
        Ok(Checkpoint { complete, wal_bytes: self.wal_bytes(), durable, took })
    }
}
