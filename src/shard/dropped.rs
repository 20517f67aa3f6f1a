//! What retention has dropped: counters in the shard's file, by kind of row and reason.

use rusqlite::{Connection, params};

use super::error::ShardError;
use super::partition::now;

/// Why retention dropped rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// They were older than the retention.
    Age,
    /// The rows of their kind took more bytes than the retention.
    Size,
    /// They were older than the retention of their tenant.
    Tenant,
    /// They would have left for another reason, but a sink had not confirmed them for so long that they took more bytes
    /// than allowed.
    Unshipped,
}

impl DropReason {
    pub const ALL: [DropReason; 4] =
        [DropReason::Age, DropReason::Size, DropReason::Tenant, DropReason::Unshipped];

    /// Returns the name in the log, in metrics and in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            DropReason::Age => "age",
            DropReason::Size => "size",
            DropReason::Tenant => "tenant",
            DropReason::Unshipped => "unshipped",
        }
    }
}

/// The rows of one kind that retention has dropped for one reason, since the file was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedRows {
    /// The name of the stream or ledger.
    pub kind: String,
    /// The name of a [`DropReason`].
    pub reason: String,
    pub rows: u64,
    /// Only rows that arrived before this time were dropped, in microseconds since 1970.
    pub cutoff_us: i64,
}

/// Creates the tables of the counters and of the sizes of partitions.
pub(super) fn create_tables(connection: &Connection) -> Result<(), ShardError> {
    Ok(connection.execute_batch(
        "
CREATE TABLE retention_dropped (
  -- Rows that retention has dropped since this file was created.
  kind TEXT NOT NULL,          -- the name of their stream or table
  reason TEXT NOT NULL,        -- age, size
  rows INTEGER NOT NULL,
  cutoff_us INTEGER NOT NULL,  -- only rows that arrived before this time, in microseconds since 1970 UTC
  dropped_at TEXT NOT NULL,    -- the last time
  PRIMARY KEY (kind, reason)
) WITHOUT ROWID;
CREATE TABLE partition_bytes (
  -- The size of sealed partitions with their indexes, if retention limits the size of their stream.
  name TEXT PRIMARY KEY,  -- partition.name
  bytes INTEGER NOT NULL
) WITHOUT ROWID;
",
    )?)
}

/// Counts dropped rows, in the transaction that drops them.
pub(super) fn count(
    transaction: &Connection,
    kind: &str,
    reason: DropReason,
    rows: u64,
    cutoff_us: i64,
) -> Result<(), ShardError> {
    let sql = "INSERT INTO retention_dropped (kind, reason, rows, cutoff_us, dropped_at) VALUES (?1, ?2, ?3, ?4, ?5) \
               ON CONFLICT (kind, reason) DO UPDATE SET rows = rows + excluded.rows, \
               cutoff_us = max(cutoff_us, excluded.cutoff_us), dropped_at = excluded.dropped_at";
    let values = params![kind, reason.as_str(), rows as i64, cutoff_us, now().1];
    transaction.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// Returns the counters. A file of an older schema has none.
pub fn dropped_rows(connection: &Connection) -> Result<Vec<DroppedRows>, ShardError> {
    if connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? < 7 {
        return Ok(Vec::new());
    }
    let sql = "SELECT kind, reason, rows, cutoff_us FROM retention_dropped ORDER BY kind, reason";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        Ok(DroppedRows {
            kind: row.get(0)?,
            reason: row.get(1)?,
            rows: row.get::<_, i64>(2)?.unsigned_abs(),
            cutoff_us: row.get(3)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
