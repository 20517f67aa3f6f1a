//! Looking at a shard from outside, read-only, also while a server writes to it.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row};

use super::apply::Positions;
use super::buckets::BucketSize;
use super::error::ShardError;
use super::identity::beside;
use super::orders::verify_sales;
use super::stream::Stream;
use super::{open, partition, schema};
use crate::base::ids::{LaneId, Sequence};

/// What a shard holds, as of one moment.
#[derive(Clone, Debug)]
pub struct Inspection {
    pub path: PathBuf,
    pub database_bytes: u64,
    pub wal_bytes: u64,
    pub page_bytes: u64,
    pub schema_version: u32,
    /// Clicks.
    pub rows: u64,
    /// Idempotent events.
    pub service_events: u64,
    pub orders: u64,
    pub rejected: u64,
    /// Oldest first within each stream.
    pub partitions: Vec<PartitionInfo>,
    pub positions: Vec<(LaneId, Sequence)>,
}

/// One partition's line in the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    pub name: String,
    pub stream: Stream,
    pub first_id: i64,
    /// The row id behind the last that was given out; rows that were erased had one too.
    pub end_id: i64,
    pub rows: u64,
    pub timestamp_us: Option<(i64, i64)>,
    pub sealed: bool,
    pub indexed: bool,
}

/// What [`verify`] found.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Of all streams.
    pub rows: u64,
    /// Empty if the shard is sound.
    pub problems: Vec<String>,
}

/// Problems told of one check; more are only counted.
const PROBLEMS_MAX: usize = 20;

/// What one check finds.
#[derive(Default)]
pub(super) struct Problems {
    told: Vec<String>,
    count: usize,
}

impl Problems {
    pub(super) fn tell(&mut self, problem: impl FnOnce() -> String) {
        self.count += 1;
        if self.told.len() < PROBLEMS_MAX {
            self.told.push(problem());
        }
    }

    /// With a last line of how many there are, where that is more than are told.
    pub(super) fn done(mut self, in_all: impl FnOnce(usize) -> String) -> Vec<String> {
        if self.count > self.told.len() {
            self.told.push(in_all(self.count));
        }
        self.told
    }
}

/// Reads counters and the catalogue, not the rows: milliseconds. Of a file of an older schema as well.
pub fn inspect(path: &Path) -> Result<Inspection, ShardError> {
    let connection = open::open_reader(path)?;
    // One snapshot for all that follows.
    let snapshot = connection.unchecked_transaction()?;
    let bytes = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    let number =
        |pragma| snapshot.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
    let schema_version = number("user_version")? as u32;
    let (is_current, has_orders) = (schema_version >= 2, schema_version >= 3);
    Ok(Inspection {
        path: path.to_owned(),
        database_bytes: bytes(path),
        wal_bytes: bytes(&beside(path, "-wal")),
        page_bytes: number("page_size")?,
        schema_version,
        rows: total(&snapshot, Stream::Click.total())?,
        service_events: if is_current { total(&snapshot, Stream::ServiceEvent.total())? } else { 0 },
        orders: if has_orders { total(&snapshot, Stream::Order.total())? } else { 0 },
        rejected: total(&snapshot, "rejected_records")?,
        partitions: if is_current { partitions(&snapshot)? } else { Vec::new() },
        positions: Positions::load(&snapshot)?.list(),
    })
}

/// SQLite's integrity check, and every counter against a recount. Reads the whole file, and holds a
/// snapshot meanwhile: the WAL of a running server grows until it ends.
pub fn verify(path: &Path) -> Result<Verified, ShardError> {
    let connection = open::open_reader(path)?;
    schema::check_current(&connection)?;
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
    let mut counts = Vec::new();
    for stream in Stream::ALL {
        let mut rows = 0;
        for name in partition::names(&snapshot, stream)? {
            let sql = format!(
                "SELECT c.rows, p.rows, c.low IS p.timestamp_us_min AND c.high IS p.timestamp_us_max \
                 FROM partition p, \
                 (SELECT count(*) AS rows, min({time}) AS low, max({time}) AS high FROM {name}) c \
                 WHERE p.name = ?1",
                time = stream.time_column()
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
        counts.push((stream.total(), rows));
    }
    super::orders::verify_entries(&snapshot, &mut problems)?;
    let rejected: i64 = snapshot.query_row("SELECT count(*) FROM rejected_record", [], |row| row.get(0))?;
    let rows = counts.iter().map(|(_, rows)| rows).sum();
    counts.push(("rejected_records", rejected.unsigned_abs()));
    for (name, counted) in counts {
        let stored = total(&snapshot, name)?;
        if stored != counted {
            problems.push(format!("{name}: {counted} counted, the total says {stored}"));
        }
    }
    Ok(Verified { rows, problems })
}

/// Every bucket against a recount of the rows, both ways, and that no event id is there twice (W2, R3).
/// Sorts all ids and groups: some seconds a million events, in temporary files.
pub fn verify_aggregates(path: &Path) -> Result<Verified, ShardError> {
    let connection = open::open_reader(path)?;
    schema::check_current(&connection)?;
    connection.pragma_update(None, "temp_store", "FILE")?;
    let snapshot = connection.unchecked_transaction()?;
    let mut problems = Vec::new();
    for size in BucketSize::ALL {
        let (table, us) = (size.table(), size.us());
        let start = format!("timestamp_us - ((timestamp_us % {us}) + {us}) % {us}");
        let recount = format!(
            "SELECT tenant_id, {start} AS start_us, source, event_type, count(*), min(timestamp_us), \
             max(timestamp_us) FROM service_event GROUP BY tenant_id, {start}, source, event_type"
        );
        let columns = "tenant_id, start_us, source, event_type, count, first_us, last_us";
        let told = |row: &Row<'_>| {
            let (start_us, rows): (i64, i64) = (row.get(1)?, row.get(4)?);
            Ok(format!("the bucket at {start_us} with {rows} rows"))
        };
        differences(&snapshot, (table, columns), &recount, told, &mut problems)?;
    }
    let twice: i64 = snapshot.query_row(
        "SELECT count(*) FROM (SELECT 1 FROM service_event GROUP BY tenant_id, event_id HAVING count(*) > 1)",
        [],
        |row| row.get(0),
    )?;
    if twice > 0 {
        problems.push(format!("{twice} event ids are stored more than once"));
    }
    verify_sales(&snapshot, &mut problems)?;
    // Temporary tables are all that it can write: the file is opened for reading.
    snapshot.pragma_update(None, "query_only", false)?;
    super::orders::verify_words(&snapshot, &mut problems)?;
    super::prices::verify(&snapshot, &mut problems)?;
    let rows = total(&snapshot, Stream::ServiceEvent.total())? + total(&snapshot, Stream::Order.total())?;
    Ok(Verified { rows, problems })
}

/// A table's lines against those that a query makes of the rows, both ways; `told` names a line.
pub(super) fn differences(
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
            found.tell(|| format!("{table}: {line}: {what}"));
        }
        problems.extend(found.done(|count| format!("{table}: {count} rows in total: {what}")));
    }
    Ok(())
}

fn partitions(snapshot: &Connection) -> Result<Vec<PartitionInfo>, ShardError> {
    let mut found = Vec::new();
    for stream in Stream::ALL {
        found.extend(partitions_of(snapshot, stream)?);
    }
    Ok(found)
}

/// The catalogue of one stream, oldest first.
pub(super) fn partitions_of(snapshot: &Connection, stream: Stream) -> Result<Vec<PartitionInfo>, ShardError> {
    macro_rules! sql {
        ($erased:literal) => {
            concat!(
                "SELECT name, first_id, rows, timestamp_us_min, timestamp_us_max, sealed_at IS NOT NULL, \
                 indexed_at IS NOT NULL, first_id + rows + ",
                $erased,
                " FROM partition WHERE stream = ?1 ORDER BY first_id"
            )
        };
    }
    let version: u32 = snapshot.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let mut statement = snapshot.prepare_cached(if version >= 4 { sql!("erased") } else { sql!("0") })?;
    let read = |row: &Row<'_>| {
        let bounds: (Option<i64>, Option<i64>) = (row.get(3)?, row.get(4)?);
        Ok(PartitionInfo {
            name: row.get(0)?,
            stream,
            first_id: row.get(1)?,
            end_id: row.get(7)?,
            rows: row.get::<_, i64>(2)?.unsigned_abs(),
            timestamp_us: bounds.0.zip(bounds.1),
            sealed: row.get(5)?,
            indexed: row.get(6)?,
        })
    };
    let found = statement.query_map([stream.name()], read)?.collect::<Result<Vec<_>, _>>()?;
    found.iter().try_for_each(|partition| partition::check_name(&partition.name))?;
    Ok(found)
}

fn total(snapshot: &Connection, name: &str) -> Result<u64, ShardError> {
    let value: i64 =
        snapshot.query_row("SELECT value FROM total WHERE name = ?1", [name], |row| row.get(0))?;
    Ok(value.unsigned_abs())
}
