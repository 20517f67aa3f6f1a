//! Handles an open shard whose path no longer names its file: copies it back from the open connection, or releases
//! the path to the file that replaced it.

use std::fs::File;
use std::path::Path;

use rusqlite::backup::{Backup, StepResult};

use super::checkpoint::CheckpointMode;
use super::checkpointed::write_places;
use super::epochs;
use super::error::ShardError;
use super::file::Shard;
use super::healed::{HEALED, PART, RECORD, remove};
use super::identity::{Identity, beside};
use super::open;
use crate::base::durable;

impl Shard {
    /// Copies every committed row to a new file after [`ShardError::Missing`], through the open connection, which
    /// still has them. The next [`Shard::open`] gives the copy the shard's name. Drop this shard first. May be called
    /// again after an error. Takes about a second per gigabyte of the database.
    pub fn heal(&mut self) -> Result<(), ShardError> {
        if Identity::of(&self.path)? == Some(self.identity) {
            // Only the WAL was moved or removed. The checkpoint copies its rows into the database file.
            return match self.checkpoint(CheckpointMode::Passive)?.complete {
                true => Ok(()),
                false => Err(ShardError::Busy),
            };
        }
        let dir = self.path.parent().unwrap_or(Path::new("."));
        durable::create_folder(dir)?;
        let part = beside(&self.path, PART);
        remove(&part)?;
        let mut copy = open::open_plain(&part, true)?;
        {
            let backup = Backup::new(&self.connection, &mut copy)?;
            match backup.step(-1)? {
                StepResult::Done => {}
                _ => return Err(ShardError::Busy),
            }
        }
        // The copy is complete, and an epoch begins in it when it is opened.
        write_places(&copy, &self.places()?)?;
        epochs::leave_home(&copy)?;
        copy.close().map_err(|(_, error)| error)?;
        File::open(&part)?.sync_all()?;
        durable::rename(&part, &beside(&self.path, HEALED))?;
        Ok(())
    }

    /// Closes this shard after [`ShardError::Replaced`], without touching the files that belong to the new one. If
    /// the WAL still belongs to this shard, its content is first copied into the old file, wherever that file was
    /// moved. The WAL is then removed, because SQLite would treat it as the WAL of the new file.
    pub fn leave(mut self) -> Result<(), ShardError> {
        let wal = beside(&self.path, "-wal");
        let is_ours = self.wal_identity.is_some() && Identity::of(&wal)? == self.wal_identity;
        if is_ours {
            // This is a courtesy to whoever moved the file, so an error is ignored. The journal may still have these
            // rows too.
            let _ = self.checkpoint(CheckpointMode::Passive);
        }
        let path = self.path.clone();
        self.poison();
        if is_ours {
            remove(&wal)?;
            remove(&beside(&path, "-shm"))?;
            remove(&beside(&path, RECORD))?;
        }
        Ok(())
    }
}
