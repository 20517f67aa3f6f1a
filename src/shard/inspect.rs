//! Looking at a shard from outside, read-only, also while a server writes to it.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::apply::Positions;
use super::error::ShardError;
use super::identity::beside;
use super::{open, partition};
use crate::base::ids::{LaneId, Sequence};

/// What a shard holds, as of one moment.
#[derive(Clone, Debug)]
pub struct Inspection {
    pub path: PathBuf,
    pub database_bytes: u64,
    pub wal_bytes: u64,
    pub page_bytes: u64,
    pub schema_version: u32,
    pub rows: u64,
    pub rejected: u64,
    /// Oldest first.
    pub partitions: Vec<PartitionInfo>,
    pub positions: Vec<(LaneId, Sequence)>,
}

/// One partition's line in the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    pub name: String,
    pub first_id: i64,
    pub rows: u64,
    pub timestamp_us: Option<(i64, i64)>,
    pub sealed: bool,
    pub indexed: bool,
}

/// What [`verify`] found.
#[derive(Clone, Debug)]
pub struct Verified {
    pub rows: u64,
    /// Empty if the shard is sound.
    pub problems: Vec<String>,
}

/// Reads counters and the catalogue, not the rows: milliseconds.
pub fn inspect(path: &Path) -> Result<Inspection, ShardError> {
    let connection = open::open_reader(path)?;
    // One snapshot for all that follows.
    let snapshot = connection.unchecked_transaction()?;
    let bytes = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    let number =
        |pragma| snapshot.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
    Ok(Inspection {
        path: path.to_owned(),
        database_bytes: bytes(path),
        wal_bytes: bytes(&beside(path, "-wal")),
        page_bytes: number("page_size")?,
        schema_version: number("user_version")? as u32,
        rows: total(&snapshot, "rows")?,
        rejected: total(&snapshot, "rejected_records")?,
        partitions: partitions(&snapshot)?,
        positions: Positions::load(&snapshot)?.list(),
    })
}

/// SQLite's integrity check, and every counter against a recount. Reads the whole file, and holds a
/// snapshot meanwhile: the WAL of a running server grows until it ends.
pub fn verify(path: &Path) -> Result<Verified, ShardError> {
    let connection = open::open_reader(path)?;
    let snapshot = connection.unchecked_transaction()?;
    let mut problems = Vec::new();
    {
        let mut statement = snapshot.prepare("PRAGMA integrity_check(100)")?;
        let mut lines = statement.query([])?;
        while let Some(line) = lines.next()? {
            let line: String = line.get(0)?;
            if line != "ok" {
                problems.push(line);
            }
        }
    }
    let mut rows = 0;
    for name in partition::names(&snapshot)? {
        let sql = format!(
            "SELECT c.rows, p.rows, c.low IS p.timestamp_us_min AND c.high IS p.timestamp_us_max \
             FROM partition p, \
             (SELECT count(*) AS rows, min(timestamp_us) AS low, max(timestamp_us) AS high FROM {name}) c \
             WHERE p.name = ?1"
        );
        let (counted, stored, bounds): (i64, i64, bool) =
            snapshot.query_row(&sql, [&name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        if counted != stored {
            problems.push(format!("{name} has {counted} rows, its counter says {stored}"));
        }
        if !bounds {
            problems.push(format!("{name} has other times than its catalogue line says"));
        }
        rows += counted.unsigned_abs();
    }
    let rejected: i64 = snapshot.query_row("SELECT count(*) FROM rejected_record", [], |row| row.get(0))?;
    for (name, counted) in [("rows", rows), ("rejected_records", rejected.unsigned_abs())] {
        let stored = total(&snapshot, name)?;
        if stored != counted {
            problems.push(format!("{name}: {counted} counted, the total says {stored}"));
        }
    }
    Ok(Verified { rows, problems })
}

fn partitions(snapshot: &Connection) -> Result<Vec<PartitionInfo>, ShardError> {
    let mut statement = snapshot.prepare(
        "SELECT name, first_id, rows, timestamp_us_min, timestamp_us_max, sealed_at IS NOT NULL, \
         indexed_at IS NOT NULL FROM partition ORDER BY first_id",
    )?;
    let read = |row: &rusqlite::Row<'_>| {
        let bounds: (Option<i64>, Option<i64>) = (row.get(3)?, row.get(4)?);
        Ok(PartitionInfo {
            name: row.get(0)?,
            first_id: row.get(1)?,
            rows: row.get::<_, i64>(2)?.unsigned_abs(),
            timestamp_us: bounds.0.zip(bounds.1),
            sealed: row.get(5)?,
            indexed: row.get(6)?,
        })
    };
    Ok(statement.query_map([], read)?.collect::<Result<_, _>>()?)
}

fn total(snapshot: &Connection, name: &str) -> Result<u64, ShardError> {
    let value: i64 =
        snapshot.query_row("SELECT value FROM total WHERE name = ?1", [name], |row| row.get(0))?;
    Ok(value.unsigned_abs())
}
