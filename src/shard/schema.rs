//! A shard's schema: the tables that always exist, and the migrations that create them.

use std::collections::BTreeMap;

use rusqlite::{Connection, TransactionBehavior, params};

use super::epochs::{self, EpochReason};
use super::error::ShardError;
use super::family::Families;
use crate::base::clock;

/// `FHSD`: the application id that `file(1)` and other programs see in the header.
pub(crate) const APPLICATION_ID: i32 = 0x4648_5344;

/// One migration of a file's schema, in the caller's transaction.
type Migration = fn(&Connection) -> Result<(), ShardError>;

/// The kernel's part of each migration, which runs before the families' parts
/// ([`Family::migrate`](super::Family::migrate)). Append-only: entry `n` of the list is schema version `n + 1`.
/// Released versions are never edited.
const MIGRATIONS: &[Migration] = &[
    version_1, version_2, nothing, version_4, nothing, nothing, version_7, version_8, nothing, nothing,
    version_11, nothing, nothing, version_14, version_15, nothing, version_17,
];

/// The newest schema version that this program supports.
pub const VERSION: u32 = MIGRATIONS.len() as u32;

/// The first schema version with epochs.
const FIRST_WITH_EPOCHS: u32 = 17;

fn nothing(_: &Connection) -> Result<(), ShardError> {
    Ok(())
}

/// Creates the first tables. SQLite keeps the comments inside a statement, so `.schema` documents the tables.
fn version_1(connection: &Connection) -> Result<(), ShardError> {
    let tables = "
CREATE TABLE migration (
  -- Which changes of the schema this file went through.
  version INTEGER PRIMARY KEY,
  applied_at TEXT NOT NULL,
  description TEXT NOT NULL
);
CREATE TABLE partition (
  -- The tables that hold the rows, oldest first. Rows are appended to the newest one in order of
  -- arrival; a full one is sealed and then gets its indexes.
  name TEXT PRIMARY KEY,
  first_id INTEGER NOT NULL UNIQUE,
  rows INTEGER NOT NULL,
  timestamp_us_min INTEGER,
  timestamp_us_max INTEGER,
  created_at TEXT NOT NULL,
  sealed_at TEXT,  -- NULL: rows are still appended
  indexed_at TEXT  -- NULL: an index is still to be built
) WITHOUT ROWID;
CREATE TABLE journal_position (
  -- The last record of each journal whose rows are in this file. Written with the rows, so that a
  -- restart goes on exactly there. Do not edit.
  lane INTEGER PRIMARY KEY,
  sequence INTEGER NOT NULL
);
CREATE TABLE total (
  -- Counters, equal to a recount at every commit.
  name TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO total VALUES ('rejected_records', 0), ('rows', 0);
CREATE TABLE rejected_record (
  -- Journal records that could not be stored as rows, kept as they are.
  lane INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  payload BLOB NOT NULL,
  reason TEXT NOT NULL,
  PRIMARY KEY (lane, sequence)
);
";
    connection.execute_batch(tables)?;
    Ok(())
}

/// Adds support for several streams.
fn version_2(connection: &Connection) -> Result<(), ShardError> {
    connection.execute_batch(
        "
CREATE TABLE partition_v1 AS SELECT * FROM partition;
DROP TABLE partition;
CREATE TABLE partition (
  -- The tables that hold the rows, oldest first within a stream ('click' or 'service_event'). Rows are
  -- appended to the newest one in order of arrival; a full one is sealed. `rows` of one being dropped is
  -- what is still in it.
  name TEXT PRIMARY KEY,
  stream TEXT NOT NULL,
  first_id INTEGER NOT NULL,
  rows INTEGER NOT NULL,
  timestamp_us_min INTEGER,
  timestamp_us_max INTEGER,
  created_at TEXT NOT NULL,
  sealed_at TEXT,   -- NULL: rows are still appended
  indexed_at TEXT,  -- NULL: an index is still to be built
  UNIQUE (stream, first_id)
) WITHOUT ROWID;
INSERT INTO partition
  SELECT name, 'click', first_id, rows, timestamp_us_min, timestamp_us_max, created_at, sealed_at, indexed_at
  FROM partition_v1;
DROP TABLE partition_v1;
CREATE TABLE dropped_partition (
  -- Tables that retention has taken out of the views; their pages are freed bit by bit.
  name TEXT PRIMARY KEY
) WITHOUT ROWID;
",
    )?;
    Ok(())
}

/// Adds the erasure of rows and the suppression of people.
fn version_4(connection: &Connection) -> Result<(), ShardError> {
    connection.execute_batch(
        "
ALTER TABLE partition ADD COLUMN erased INTEGER NOT NULL DEFAULT 0;  -- rows that were, and are not any more
",
    )?;
    super::suppressed::create_tables(connection)
}

/// Adds the counters of what retention drops, and the sizes of partitions.
fn version_7(connection: &Connection) -> Result<(), ShardError> {
    super::dropped::create_tables(connection)
}

/// Adds how far the rows of tenants have left.
fn version_8(connection: &Connection) -> Result<(), ShardError> {
    super::tenant_marks::create_table(connection)
}

/// Adds how far the file is complete without its WAL.
fn version_11(connection: &Connection) -> Result<(), ShardError> {
    super::checkpointed::create_table(connection)
}

/// Adds partitions whose rows arrive in no order of time.
fn version_14(connection: &Connection) -> Result<(), ShardError> {
    super::partition::add_unordered(connection)
}

/// Adds the page of what nearly every commit changes.
fn version_15(connection: &Connection) -> Result<(), ShardError> {
    super::commit_page::create_table(connection)
}

/// Adds the feed of changes and the epochs.
fn version_17(connection: &Connection) -> Result<(), ShardError> {
    super::change::create_table(connection)?;
    epochs::create_tables(connection)
}

/// Refuses a file of another program or of a newer version, without changing it.
pub(super) fn check_owner(connection: &Connection) -> Result<(), ShardError> {
    // One snapshot, because another program may be creating the file.
    let snapshot = connection.unchecked_transaction()?;
    let id: i32 = snapshot.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version = version_of(&snapshot)?;
    if id != APPLICATION_ID {
        let objects: i64 = snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if id != 0 || version != 0 || objects != 0 {
            return Err(ShardError::Foreign(format!("application id {id:#x}, {objects} objects")));
        }
    }
    if version > VERSION {
        return Err(ShardError::TooNew { found: version, known: VERSION });
    }
    Ok(())
}

/// Checks that the file has the current schema. Operations that read every table call this function. A server that
/// opens an older file migrates it.
pub fn check_current(connection: &Connection) -> Result<(), ShardError> {
    match version_of(connection)? {
        VERSION => Ok(()),
        older => Err(ShardError::Other(format!(
            "it has schema version {older}, and this program has version {VERSION}: serve the folder once"
        ))),
    }
}

/// Returns `true` if the file has its tables. A file without tables is still being created, and contains no records.
pub fn is_made(connection: &Connection) -> Result<bool, ShardError> {
    Ok(version_of(connection)? > 0)
}

/// Returns `true` if the file has the newest schema version.
pub fn is_current(connection: &Connection) -> Result<bool, ShardError> {
    Ok(version_of(connection)? == VERSION)
}

/// Migrates the file to [`VERSION`]. Each step from an older version is a separate transaction. A new file is created
/// in a single transaction, so that no other program sees only some of its tables.
pub fn migrate(connection: &mut Connection, families: &Families) -> Result<(), ShardError> {
    while version_of(connection)? < VERSION {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // The version is read again under the lock, because another program may have been faster.
        let found = version_of(&transaction)?;
        let steps = if found == 0 { MIGRATIONS.len() } else { 1 };
        let kernels = MIGRATIONS.iter().zip(families.versions).skip(found as usize).take(steps);
        for (version, (migrate, description)) in (found..).zip(kernels) {
            migrate(&transaction)?;
            families.list.iter().try_for_each(|family| family.migrate(&transaction, version + 1))?;
            transaction.execute(
                "INSERT INTO migration (version, applied_at, description) VALUES (?1, ?2, ?3)",
                params![version + 1, clock::rfc3339(clock::unix_us()), description],
            )?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", version + 1)?;
        }
        if found < FIRST_WITH_EPOCHS && version_of(&transaction)? >= FIRST_WITH_EPOCHS {
            let reason = if found == 0 { EpochReason::Made } else { EpochReason::Migrated };
            epochs::begin(&transaction, reason, &BTreeMap::new())?;
        }
        transaction.commit()?;
    }
    Ok(())
}

fn version_of(connection: &Connection) -> Result<u32, ShardError> {
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    u32::try_from(version).map_err(|_| ShardError::Corrupt(format!("schema version {version}")))
}
