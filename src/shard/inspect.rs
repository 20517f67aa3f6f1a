//! Read-only inspection of a shard from outside, even while a server writes to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, Row};

use super::dropped::{DroppedRows, dropped_rows};
use super::error::ShardError;
use super::family::Families;
use super::identity::beside;
use super::partitions::{PartitionInfo, partitions_of};
use super::positions::Positions;
use super::stream::{Ledger, Stream};
use super::totals::{OTHER, REJECTED, load_total, total};
use super::{open, partition, schema};
use crate::base::clock;
use crate::base::ids::{LaneId, Sequence};

/// A shard's content at one moment.
#[derive(Clone, Debug)]
pub struct Inspection {
    pub path: PathBuf,
    pub database_bytes: u64,
    pub wal_bytes: u64,
    pub page_bytes: u64,
    pub schema_version: u32,
    /// Rows of every stream, in the order of the families.
    pub stored: Vec<(&'static Stream, u64)>,
    pub rejected: u64,
    /// Stored records that are not rows of a stream, since the shard was created.
    pub other: u64,
    /// Rows that retention has dropped.
    pub dropped: Vec<DroppedRows>,
    /// Dropped partitions whose pages are not freed yet.
    pub unfreed: Vec<String>,
    /// Partitions, oldest first within each stream.
    pub partitions: Vec<PartitionInfo>,
    pub positions: Vec<(LaneId, Sequence)>,
}

/// The result of [`verify`].
#[derive(Clone, Debug)]
pub struct Verified {
    /// Rows of all streams.
    pub rows: u64,
    /// Empty if the shard is sound.
    pub problems: Vec<String>,
}

/// The number of problems that one check reports. Further problems are only counted.
const PROBLEMS_MAX: usize = 20;

/// The problems that one check finds.
#[derive(Default)]
pub struct Problems {
    told: Vec<String>,
    count: usize,
}

impl Inspection {
    /// Returns a stream's rows.
    #[must_use]
    pub fn stored(&self, stream: &'static Stream) -> u64 {
        self.stored.iter().find(|(of, _)| *of == stream).map_or(0, |(_, rows)| *rows)
    }
}

impl Problems {
    pub fn report(&mut self, problem: impl FnOnce() -> String) {
        self.count += 1;
        if self.told.len() < PROBLEMS_MAX {
            self.told.push(problem());
        }
    }

    /// Returns the reported problems. Adds a last line with the total number if some were not reported.
    pub fn done(mut self, in_all: impl FnOnce(usize) -> String) -> Vec<String> {
        if self.count > self.told.len() {
            self.told.push(in_all(self.count));
        }
        self.told
    }
}

/// Reads counters and the catalogue but no rows, in milliseconds. Supports files of older schemas.
pub fn inspect(path: &Path, families: &Families) -> Result<Inspection, ShardError> {
    let connection = open::open_reader(path)?;
    // One snapshot for all following reads.
    let snapshot = connection.unchecked_transaction()?;
    let bytes = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    let number =
        |pragma| snapshot.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
    let schema_version = number("user_version")? as u32;
    let mut stored = Vec::new();
    for stream in families.streams() {
        let rows = if schema_version >= stream.since { total(&snapshot, stream.total)? } else { 0 };
        stored.push((stream, rows));
    }
    Ok(Inspection {
        path: path.to_owned(),
        database_bytes: bytes(path),
        wal_bytes: bytes(&beside(path, "-wal")),
        page_bytes: number("page_size")?,
        schema_version,
        stored,
        rejected: total(&snapshot, REJECTED)?,
        other: load_total(&snapshot, OTHER)?,
        dropped: dropped_rows(&snapshot)?,
        unfreed: if schema_version >= 2 { unfreed(&snapshot)? } else { Vec::new() },
        partitions: if schema_version >= 2 { partitions(&snapshot, families)? } else { Vec::new() },
        positions: Positions::load(&snapshot)?.list(),
    })
}

/// Steps of SQLite's virtual machine between two looks at the clock, about 50 us.
const STEPS: i32 = 2_000;

/// Counts the rows of a ledger, which has no counter: about 10 million in a second. Returns `None` if that takes longer
/// than `patience`, because the snapshot keeps a server's WAL from being reset. A file of an older schema has no rows of
/// a table that it lacks.
pub fn ledger_rows(path: &Path, ledger: &Ledger, patience: Duration) -> Result<Option<u64>, ShardError> {
    let mut connection = open::open_reader(path)?;
    let exists = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = ?1)";
    let mut rows_of = None;
    for name in [ledger.name, ledger.all] {
        if connection.query_row(exists, [name], |row| row.get(0))? {
            rows_of = Some(name);
        }
    }
    let Some(rows_of) = rows_of else { return Ok(Some(0)) };
    let until_us = clock::monotonic_us().saturating_add(patience.as_micros() as u64);
    connection.progress_handler(STEPS, Some(move || clock::monotonic_us() >= until_us))?;
    // `count(*)` would run in one step, which nothing can end.
    let sql = format!("SELECT coalesce(sum(1), 0) FROM {rows_of}");
    match connection.query_row(&sql, [], |row| row.get::<_, i64>(0)) {
        Ok(rows) => Ok(Some(rows.unsigned_abs())),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Runs SQLite's integrity check, and compares every counter with a recount. Reads the whole file with one snapshot,
/// so the WAL of a running server grows until this function returns.
pub fn verify(path: &Path, families: &Families) -> Result<Verified, ShardError> {
    with_snapshot(path, |snapshot| verify_rows(snapshot, families))
}

/// Takes a step of a verification in a snapshot of a shard. If there is no space next to the shard for what the step
/// sorts, the step is repeated with temporary files in SQLite's own folder (`SQLITE_TMPDIR`, `TMPDIR`, `/var/tmp`,
/// `/tmp`), so that a full disk can be verified.
pub fn with_snapshot<T>(
    path: &Path,
    step: impl Fn(&Connection) -> Result<T, ShardError>,
) -> Result<T, ShardError> {
    let open = || -> Result<Connection, ShardError> {
        let connection = open::open_reader(path)?;
        schema::check_current(&connection)?;
        connection.pragma_update(None, "temp_store", "FILE")?;
        Ok(connection)
    };
    let connection = open()?;
    let taken = step(&*connection.unchecked_transaction()?);
    let Err(ShardError::Full) = taken else { return taken };
    let connection = open()?;
    open::keep_temporary_files_elsewhere(&connection)?;
    match step(&*connection.unchecked_transaction()?) {
        Err(ShardError::Full) => Err(ShardError::Other(
            "there is no space for temporary files, neither next to the database nor in the folder for them; free \
             some, or name another folder in SQLITE_TMPDIR"
                .to_owned(),
        )),
        taken => taken,
    }
}

fn verify_rows(snapshot: &Connection, families: &Families) -> Result<Verified, ShardError> {
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
    let mut counts = Vec::new();
    for stream in families.streams() {
        let mut rows = 0;
        for name in partition::names(snapshot, stream)? {
            let sql = format!(
                "SELECT c.rows, p.rows, c.low IS p.timestamp_us_min AND c.high IS p.timestamp_us_max \
                 FROM partition p, \
                 (SELECT count(*) AS rows, min({time}) AS low, max({time}) AS high FROM {name}) c \
                 WHERE p.name = ?1",
                time = stream.time_column
            );
            let (counted, stored, bounds): (i64, i64, bool) =
                snapshot.query_row(&sql, [&name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            if counted != stored {
                problems.push(format!("{name} has {counted} rows, its counter says {stored}"));
            }
            if !bounds {
                problems.push(format!("{name} has times that its catalogue row does not"));
            }
            rows += counted.unsigned_abs();
        }
        counts.push((stream.total, rows));
    }
    families.list.iter().try_for_each(|family| family.verify(snapshot, &mut problems))?;
    let rejected: i64 = snapshot.query_row("SELECT count(*) FROM rejected_record", [], |row| row.get(0))?;
    let rows = counts.iter().map(|(_, rows)| rows).sum();
    counts.push((REJECTED, rejected.unsigned_abs()));
    for (name, counted) in counts {
        let stored = total(snapshot, name)?;
        if stored != counted {
            problems.push(format!("{name}: {counted} counted, the total says {stored}"));
        }
    }
    Ok(Verified { rows, problems })
}

/// Compares what families derive from their rows with a recount, in both directions, and checks that each id is
/// stored once (W2, R3). Sorts all ids and groups, which takes a few seconds per million events, in temporary files.
pub fn verify_aggregates(path: &Path, families: &Families) -> Result<Verified, ShardError> {
    with_snapshot(path, |snapshot| {
        // Only temporary tables can be written, because the file is open for reading.
        snapshot.pragma_update(None, "query_only", false)?;
        let mut problems = Vec::new();
        let mut rows = 0;
        for family in families.list {
            rows += family.verify_aggregates(snapshot, &mut problems)?;
        }
        Ok(Verified { rows, problems })
    })
}

/// Compares a table's rows with the result of the query `recount`, in both directions. `told` describes a row.
pub fn differences(
    connection: &Connection,
    (table, columns): (&str, &str),
    recount: &str,
    told: impl Fn(&Row<'_>) -> rusqlite::Result<String>,
    problems: &mut Vec<String>,
) -> Result<(), ShardError> {
    let stored = format!("SELECT {columns} FROM {table}");
    for (what, sql) in [
        ("differs from the rows", format!("{stored} EXCEPT {recount}")),
        ("is missing or different", format!("{recount} EXCEPT {stored}")),
    ] {
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        let mut found = Problems::default();
        while let Some(row) = rows.next()? {
            let line = told(row)?;
            found.report(|| format!("{table}: {line}: {what}"));
        }
        problems.extend(found.done(|count| format!("{table}: {count} rows in total: {what}")));
    }
    Ok(())
}

fn unfreed(snapshot: &Connection) -> Result<Vec<String>, ShardError> {
    let mut statement = snapshot.prepare("SELECT name FROM dropped_partition ORDER BY name")?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

fn partitions(snapshot: &Connection, families: &Families) -> Result<Vec<PartitionInfo>, ShardError> {
    let mut found = Vec::new();
    for stream in families.streams() {
        found.extend(partitions_of(snapshot, stream)?);
    }
    Ok(found)
}
