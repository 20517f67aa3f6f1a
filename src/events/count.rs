//! Counts the events in a time range without reading them: by buckets inside the range, and by the index at its
//! edges. Rows that the buckets of a size do not contain are counted from the index, too, or from the rows of an
//! unordered partition that has no index yet.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::buckets::{Tally, is_counted, older_of, part_sql};
use super::newest::{NEWEST_SQL, newest, table_of};
use super::read::EventFilter;
use super::schema::EVENTS;
use crate::base::bucket_size::BucketSize;
use crate::shard::read::TimeRange;
use crate::shard::{PartitionInfo, ShardError, partitions_of};

/// The events of one source and type in one period, in one shard or in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub start_us: i64,
    pub source: String,
    pub event_type: String,
    pub count: i64,
    pub first_us: i64,
    pub last_us: i64,
}

/// Counts the events in the range. Takes a few hundred microseconds, regardless of their number.
pub(super) fn count(
    connection: &Connection,
    of: &EventFilter,
    (from, to): (i64, i64),
) -> Result<i64, ShardError> {
    let infos = partitions_of(connection, &EVENTS)?;
    let (inner_from, inner_to) = (ceil(BucketSize::Minute, from), BucketSize::Minute.floor(to));
    let edge = |from: i64, to: i64| by_rows(connection, of, &infos, None, (from, to));
    if inner_from >= inner_to {
        return edge(from, to);
    }
    Ok(edge(from, inner_from)?
        + by_buckets(connection, of, &infos, BucketSize::Day, (inner_from, inner_to))?
        + edge(inner_to, to)?)
}

pub(super) fn ceil(size: BucketSize, us: i64) -> i64 {
    size.floor(us + size.us() - 1)
}

/// Counts by whole buckets of this size inside the range, and by smaller buckets at its edges.
fn by_buckets(
    connection: &Connection,
    of: &EventFilter,
    infos: &[PartitionInfo],
    size: BucketSize,
    (from, to): (i64, i64),
) -> Result<i64, ShardError> {
    let smaller = match size {
        BucketSize::Day => Some(BucketSize::Hour),
        BucketSize::Hour => Some(BucketSize::Minute),
        BucketSize::Minute => None,
    };
    let sum = |from: i64, to: i64| -> Result<i64, ShardError> {
        Ok(sum_sql(connection, of, size, from, to)? + by_rows(connection, of, infos, Some(size), (from, to))?)
    };
    let Some(smaller) = smaller else { return sum(from, to) };
    let (inner_from, inner_to) = (ceil(size, from), size.floor(to));
    if inner_from >= inner_to {
        return by_buckets(connection, of, infos, smaller, (from, to));
    }
    Ok(by_buckets(connection, of, infos, smaller, (from, inner_from))?
        + sum(inner_from, inner_to)?
        + by_buckets(connection, of, infos, smaller, (inner_to, to))?)
}

fn sum_sql(
    connection: &Connection,
    of: &EventFilter,
    size: BucketSize,
    from: i64,
    to: i64,
) -> Result<i64, ShardError> {
    let EventFilter { tenant_id, source, event_type } = of;
    if from >= to {
        return Ok(0);
    }
    let mut statement = connection.prepare_cached(&sum_text(table_of(connection, size)?))?;
    let mut sum: i64 = statement.query_row((tenant_id, from, to, source, event_type), |row| row.get(0))?;
    newest(connection, of.names(), size, (from, to), |_, tally| sum += tally.count)?;
    Ok(sum)
}

/// Counts the rows of the partitions that buckets of this size do not contain, or without a size those of all.
fn by_rows(
    connection: &Connection,
    of: &EventFilter,
    infos: &[PartitionInfo],
    size: Option<BucketSize>,
    (from, to): (i64, i64),
) -> Result<i64, ShardError> {
    let EventFilter { tenant_id, source, event_type } = of;
    let mut sum = 0;
    for partition in infos {
        if size.is_none_or(|size| !is_counted(partition, size)) && overlaps(partition, from, to) {
            let mut statement = connection.prepare_cached(&count_sql(partition))?;
            sum +=
                statement.query_row((from, to, tenant_id, source, event_type), |row| row.get::<_, i64>(0))?;
        }
    }
    Ok(sum)
}

fn overlaps(partition: &PartitionInfo, from: i64, to: i64) -> bool {
    from < to && partition.timestamp_us.is_some_and(|(low, high)| low < to && high >= from)
}

/// Returns the index by time for a statement, if the partition has it.
fn access(partition: &PartitionInfo) -> String {
    match partition.is_in_time_order() {
        true => format!("{0} INDEXED BY {0}_order", partition.name),
        false => format!("{} NOT INDEXED", partition.name),
    }
}

pub(super) fn count_sql(partition: &PartitionInfo) -> String {
    let from = access(partition);
    format!(
        "SELECT count(*) FROM {from} WHERE timestamp_us >= ?1 AND timestamp_us < ?2 \
         AND tenant_id = ?3 AND (?4 IS NULL OR source = ?4) AND (?5 IS NULL OR event_type = ?5)"
    )
}

fn sum_text(table: &str) -> String {
    format!(
        "SELECT coalesce(sum(count), 0) FROM {table} WHERE tenant_id = ?1 AND start_us >= ?2 AND start_us < ?3 \
         AND (?4 IS NULL OR source = ?4) AND (?5 IS NULL OR event_type = ?5)"
    )
}

fn buckets_text(table: &str) -> String {
    format!(
        "SELECT start_us, source, event_type, count, first_us, last_us FROM {table} WHERE tenant_id = ?1 \
         AND start_us >= ?2 AND start_us < ?3 AND (?4 IS NULL OR source = ?4) \
         AND (?5 IS NULL OR event_type = ?5) ORDER BY start_us, source, event_type LIMIT ?6"
    )
}

/// Returns the SQL that reads a tenant's older buckets after a position.
pub(super) fn group_text(table: &str) -> String {
    format!(
        "SELECT start_us, source, event_type, count, first_us, last_us FROM {table} WHERE tenant_id = ?1 \
         AND (start_us, source, event_type) > (?2, ?3, ?4) AND start_us < ?5 \
         ORDER BY start_us, source, event_type"
    )
}

/// Returns the SQL that reads the rows of a period that buckets do not contain.
pub(super) fn uncounted_sql(partition: &PartitionInfo) -> String {
    let from = access(partition);
    format!(
        "SELECT timestamp_us, source, event_type FROM {from} WHERE timestamp_us >= ?1 AND timestamp_us < ?2 \
         AND tenant_id = ?3 AND (?4 IS NULL OR source = ?4) AND (?5 IS NULL OR event_type = ?5)"
    )
}

/// Calls `row` with the time, source and type of each row in the range that buckets of this size do not contain.
pub(super) fn uncounted(
    connection: &Connection,
    of: &EventFilter,
    infos: &[PartitionInfo],
    size: BucketSize,
    (from, to): (i64, i64),
    mut row: impl FnMut(i64, &str, &str),
) -> Result<(), ShardError> {
    let EventFilter { tenant_id, source, event_type } = of;
    for partition in infos {
        if is_counted(partition, size) || !overlaps(partition, from, to) {
            continue;
        }
        let mut statement = connection.prepare_cached(&uncounted_sql(partition))?;
        let mut rows = statement.query((from, to, tenant_id, source, event_type))?;
        while let Some(found) = rows.next()? {
            let text = |at: usize| found.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
            row(found.get(0)?, text(1)?, text(2)?);
        }
    }
    Ok(())
}

/// Returns every SQL statement that can read the bucket tables, with its name, to check the query plans.
#[must_use]
pub fn bucket_statements() -> Vec<(String, String)> {
    let both = |size: BucketSize| {
        let table = older_of(size);
        [
            (format!("{table}, summed"), sum_text(table)),
            (format!("{table}, listed"), buckets_text(table)),
            (format!("{table}, grouped"), group_text(table)),
            (format!("{table}, the times of one"), part_sql(size)),
        ]
    };
    let newest = ("the newest counts".to_owned(), NEWEST_SQL.to_owned());
    BucketSize::ALL.into_iter().flat_map(both).chain([newest]).collect()
}

/// Returns at most `limit` buckets of one tenant that begin in the range, ordered by (start, source, type). Call it within
/// a read transaction.
pub fn bucket_counts(
    connection: &Connection,
    size: BucketSize,
    (of, range): (&EventFilter, &TimeRange),
    limit: usize,
) -> Result<Vec<Bucket>, ShardError> {
    let EventFilter { tenant_id, source, event_type } = of;
    let sql = buckets_text(table_of(connection, size)?);
    let (from, to) = (range.from_us.unwrap_or(i64::MIN), range.to_us.unwrap_or(i64::MAX));
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map((tenant_id, from, to, source, event_type, limit as i64), |row| {
        Ok(Bucket {
            start_us: row.get(0)?,
            source: row.get(1)?,
            event_type: row.get(2)?,
            count: row.get(3)?,
            first_us: row.get(4)?,
            last_us: row.get(5)?,
        })
    })?;
    let stored = rows.collect::<Result<Vec<Bucket>, _>>()?;
    let infos = partitions_of(connection, &EVENTS)?;
    // A bucket begins in the range, but its rows may follow it.
    let start = |us: i64| if us == i64::MIN || us == i64::MAX { us } else { ceil(size, us) };
    let mut sums = BTreeMap::<(i64, String, String), Tally>::new();
    let mut is_full = false;
    uncounted(connection, of, &infos, size, (start(from), start(to)), |us, source, event_type| {
        is_full |= sums.len() > limit;
        if !is_full {
            let key = (size.floor(us), source.to_owned(), event_type.to_owned());
            sums.entry(key).and_modify(|sum| sum.add(Tally::of(us))).or_insert(Tally::of(us));
        }
    })?;
    newest(
        connection,
        of.names(),
        size,
        (start(from), start(to)),
        |(start_us, source, event_type), tally| {
            let key = (start_us, source.to_owned(), event_type.to_owned());
            sums.entry(key).and_modify(|sum| sum.add(tally)).or_insert(tally);
        },
    )?;
    if sums.is_empty() {
        return Ok(stored);
    }
    for Bucket { start_us, source, event_type, count, first_us, last_us } in stored {
        let tally = Tally { count, first_us, last_us };
        sums.entry((start_us, source, event_type)).and_modify(|sum| sum.add(tally)).or_insert(tally);
    }
    let bucket = |((start_us, source, event_type), Tally { count, first_us, last_us })| Bucket {
        start_us,
        source,
        event_type,
        count,
        first_us,
        last_us,
    };
    Ok(sums.into_iter().map(bucket).take(limit).collect())
}
