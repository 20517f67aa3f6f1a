//! Epochs: the lives of a file's row ids and change numbers.
//!
//! A number is given out once within an epoch. A copy of a file gives out the numbers after its newest row again, for
//! other rows, so an epoch begins in every file that is not the one in which the newest epoch began. Whoever has read
//! rows up to a number compares the epoch's id first.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::UNIX_EPOCH;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::ShardError;
use crate::base::clock;

/// The name of the newest epoch's number in [`checkpointed`](super::checkpointed()).
pub const EPOCH: &str = "epoch";

/// The reason why an epoch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochReason {
    /// The file is new.
    Made,
    /// The file is of a version without epochs.
    Migrated,
    /// The file is another one: a restored backup, a healed one, or a replaced one.
    Copied,
    /// The rows come from other shards.
    Resharded,
}

impl EpochReason {
    pub const ALL: [EpochReason; 4] =
        [EpochReason::Made, EpochReason::Migrated, EpochReason::Copied, EpochReason::Resharded];

    /// Returns the name that is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            EpochReason::Made => "made",
            EpochReason::Migrated => "migrated",
            EpochReason::Copied => "copied",
            EpochReason::Resharded => "resharded",
        }
    }

    /// Returns the reason with this stored name.
    #[must_use]
    pub fn parse(name: &str) -> Option<EpochReason> {
        EpochReason::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

/// One epoch of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// From 1, in this file.
    pub number: i64,
    /// 32 random hex digits.
    pub id: String,
    pub reason: EpochReason,
    /// For each stream, the last number that earlier epochs gave out and that is in this file. 0 for a stream that is not
    /// listed.
    pub starts: BTreeMap<String, i64>,
}

/// Creates the tables.
pub(super) fn create_tables(connection: &Connection) -> Result<(), ShardError> {
    Ok(connection.execute_batch(
        "
CREATE TABLE epoch (
  -- The lives of this file's row ids, oldest first. Within an epoch, an id is given out once.
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,   -- 32 random hexadecimal digits
  reason TEXT NOT NULL,      -- made, migrated, copied, resharded
  began_us INTEGER NOT NULL, -- microseconds since 1970 UTC
  device INTEGER NOT NULL,   -- the file in which it began, as the next two
  inode INTEGER NOT NULL,
  born_ns INTEGER NOT NULL   -- 0: the file system does not say
);
CREATE TABLE epoch_start (
  -- The last row id of each stream that the epochs before gave out and that is in this file.
  epoch INTEGER NOT NULL,    -- epoch.number
  stream TEXT NOT NULL,      -- a stream or a ledger; 'change': the feed of changes
  last INTEGER NOT NULL,
  PRIMARY KEY (epoch, stream)
) WITHOUT ROWID;
",
    )?)
}

/// A file, as an epoch notes it. An inode may be used again, so the time at which it was made counts too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Home {
    device: i64,
    inode: i64,
    born_ns: i64,
}

impl Home {
    /// A home that no file has.
    const NONE: Home = Home { device: 0, inode: 0, born_ns: 0 };

    fn of(connection: &Connection) -> Result<Home, ShardError> {
        // A database in memory has no path.
        let Some(path) = connection.path().filter(|path| !path.is_empty()) else { return Ok(Home::NONE) };
        let found = std::fs::metadata(Path::new(path))?;
        let born = found.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        Ok(Home {
            device: found.dev().cast_signed(),
            inode: found.ino().cast_signed(),
            born_ns: born.map_or(0, |born| i64::try_from(born.as_nanos()).unwrap_or_default()),
        })
    }

    /// Returns `true` if both are the same file, as far as the file systems say.
    fn is(&self, other: &Home) -> bool {
        let are_known = self.born_ns != 0 && other.born_ns != 0;
        (self.device, self.inode) == (other.device, other.inode)
            && (!are_known || self.born_ns == other.born_ns)
    }
}

fn newest_home(connection: &Connection) -> Result<Option<Home>, ShardError> {
    let sql = "SELECT device, inode, born_ns FROM epoch ORDER BY number DESC LIMIT 1";
    let read =
        |row: &rusqlite::Row<'_>| Ok(Home { device: row.get(0)?, inode: row.get(1)?, born_ns: row.get(2)? });
    Ok(connection.query_row(sql, [], read).optional()?)
}

/// Returns `true` if the newest epoch began in this file. In a copy, no epoch has begun until a server opens it.
///
/// # Errors
/// SQLite or the file system reports an error.
pub fn is_epoch_of_file(connection: &Connection) -> Result<bool, ShardError> {
    let here = Home::of(connection)?;
    Ok(newest_home(connection)?.is_some_and(|home| home.is(&here)))
}

/// Returns every epoch of a file, oldest first.
///
/// # Errors
/// SQLite reports an error.
pub fn epochs(connection: &Connection) -> Result<Vec<Epoch>, ShardError> {
    let mut statement = connection.prepare_cached("SELECT number, id, reason FROM epoch ORDER BY number")?;
    let mut starts_of = connection.prepare_cached("SELECT stream, last FROM epoch_start WHERE epoch = ?1")?;
    let mut rows = statement.query([])?;
    let mut epochs = Vec::new();
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        let reason: String = row.get(2)?;
        let reason = EpochReason::parse(&reason)
            .ok_or_else(|| ShardError::Corrupt(format!("an epoch began for the reason {reason:?}")))?;
        let starts = starts_of.query_map([number], |row| Ok((row.get(0)?, row.get(1)?)))?;
        epochs.push(Epoch { number, id: row.get(1)?, reason, starts: starts.collect::<Result<_, _>>()? });
    }
    Ok(epochs)
}

/// Returns `true` if the rows before the newest epoch come from another file: if the numbers that this file gives out may be
/// others than those that clients know.
///
/// # Errors
/// SQLite reports an error.
pub fn is_copy(connection: &Connection) -> Result<bool, ShardError> {
    let sql = "SELECT reason IN ('copied', 'resharded') FROM epoch ORDER BY number DESC LIMIT 1";
    let found: Option<bool> = connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
    Ok(found.unwrap_or_default())
}

/// Returns the number of the newest epoch, or 0.
pub(super) fn newest_number(connection: &Connection) -> Result<i64, ShardError> {
    Ok(connection
        .prepare_cached("SELECT coalesce(max(number), 0) FROM epoch")?
        .query_row([], |row| row.get(0))?)
}

/// Begins an epoch in this file, in the caller's transaction.
pub(super) fn begin(
    connection: &Connection,
    reason: EpochReason,
    starts: &BTreeMap<String, i64>,
) -> Result<(), ShardError> {
    let number = newest_number(connection)? + 1;
    insert(connection, number, reason, starts)
}

/// Replaces the epochs of a new file by one whose rows come from other shards.
pub(super) fn become_resharded(
    connection: &Connection,
    starts: &BTreeMap<String, i64>,
) -> Result<(), ShardError> {
    connection.execute_batch("DELETE FROM epoch_start; DELETE FROM epoch;")?;
    insert(connection, 1, EpochReason::Resharded, starts)
}

/// Marks a file as a copy, so that an epoch begins in it whatever its inode is.
pub(super) fn leave_home(connection: &Connection) -> Result<(), ShardError> {
    let sql = "UPDATE epoch SET device = 0, inode = 0, born_ns = 0 \
               WHERE number = (SELECT max(number) FROM epoch)";
    connection.execute(sql, [])?;
    Ok(())
}

fn insert(
    connection: &Connection,
    number: i64,
    reason: EpochReason,
    starts: &BTreeMap<String, i64>,
) -> Result<(), ShardError> {
    let home = Home::of(connection)?;
    connection.execute(
        "INSERT INTO epoch (number, id, reason, began_us, device, inode, born_ns) \
         VALUES (?1, lower(hex(randomblob(16))), ?2, ?3, ?4, ?5, ?6)",
        params![number, reason.as_str(), clock::unix_us(), home.device, home.inode, home.born_ns],
    )?;
    for (stream, last) in starts {
        let sql = "INSERT INTO epoch_start (epoch, stream, last) VALUES (?1, ?2, ?3)";
        connection.execute(sql, params![number, stream, last])?;
    }
    Ok(())
}
