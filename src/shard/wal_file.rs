//! A WAL that a connection has open: how many frames it has, how many are copied, and its sync.

use std::fs::File;
use std::io;
use std::path::Path;

use rusqlite::Connection;

use super::error::ShardError;
use super::identity::beside;

/// The frames of a WAL, as SQLite counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WalFrames {
    pub(super) whole: u64,
    pub(super) copied: u64,
    is_busy: bool,
}

impl WalFrames {
    /// Runs a checkpoint of this mode. `NOOP` only counts.
    pub(super) fn by(connection: &Connection, mode: &str) -> Result<WalFrames, ShardError> {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        let count = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        // A TRUNCATE checkpoint that reports busy may still have copied everything. The counts decide.
        let (whole, copied) = connection.query_row(&sql, [], count)?;
        match (u64::try_from(whole), u64::try_from(copied)) {
            (Ok(whole), Ok(copied)) => Ok(WalFrames { whole, copied, is_busy: false }),
            _ => Ok(WalFrames { is_busy: true, ..WalFrames::default() }),
        }
    }

    /// Returns `true` if another connection was copying, so that nothing was done or counted.
    pub(super) fn is_unknown(&self) -> bool {
        self.is_busy
    }

    /// Returns `true` if the database file contains all frames.
    ///
    /// A checkpoint that a reader limits skips pages with later frames, so the file is then in no state that there ever
    /// was.
    pub(super) fn is_copied(&self) -> bool {
        !self.is_busy && self.whole == self.copied
    }
}

/// Syncs the WAL of a database.
pub(super) fn sync_wal(database: &Path) -> Result<(), ShardError> {
    match File::open(beside(database, "-wal")) {
        Ok(wal) => Ok(wal.sync_all()?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}
