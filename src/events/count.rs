//! Counts the events in a time range without reading them: by buckets inside the range, and by the index at its
//! edges.

use rusqlite::Connection;

use super::buckets::{part_sql, table_of};
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
    let edge = |from: i64, to: i64| -> Result<i64, ShardError> {
        let mut sum = 0;
        if from < to {
            for partition in &infos {
                if partition.timestamp_us.is_some_and(|(low, high)| low < to && high >= from) {
                    sum += by_index(connection, of, partition, from, to)?;
                }
            }
        }
        Ok(sum)
    };
    if inner_from >= inner_to {
        return edge(from, to);
    }
    Ok(edge(from, inner_from)?
        + by_buckets(connection, of, BucketSize::Day, inner_from, inner_to)?
        + edge(inner_to, to)?)
}

pub(super) fn ceil(size: BucketSize, us: i64) -> i64 {
    size.floor(us + size.us() - 1)
}

/// Counts by whole buckets of this size inside the range, and by smaller buckets at its edges.
fn by_buckets(
    connection: &Connection,
    of: &EventFilter,
    size: BucketSize,
    from: i64,
    to: i64,
) -> Result<i64, ShardError> {
    let smaller = match size {
        BucketSize::Day => Some(BucketSize::Hour),
        BucketSize::Hour => Some(BucketSize::Minute),
        BucketSize::Minute => None,
    };
    let Some(smaller) = smaller else { return sum_sql(connection, of, size, from, to) };
    let (inner_from, inner_to) = (ceil(size, from), size.floor(to));
    if inner_from >= inner_to {
        return by_buckets(connection, of, smaller, from, to);
    }
    Ok(by_buckets(connection, of, smaller, from, inner_from)?
        + sum_sql(connection, of, size, inner_from, inner_to)?
        + by_buckets(connection, of, smaller, inner_to, to)?)
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
    let mut statement = connection.prepare_cached(&sum_text(size))?;
    Ok(statement.query_row((tenant_id, from, to, source, event_type), |row| row.get(0))?)
}

fn by_index(
    connection: &Connection,
    of: &EventFilter,
    partition: &PartitionInfo,
    from: i64,
    to: i64,
) -> Result<i64, ShardError> {
    let EventFilter { tenant_id, source, event_type } = of;
    let mut statement = connection.prepare_cached(&count_sql(partition))?;
    Ok(statement.query_row((from, to, tenant_id, source, event_type), |row| row.get(0))?)
}

pub(super) fn count_sql(partition: &PartitionInfo) -> String {
    let name = &partition.name;
    format!(
        "SELECT count(*) FROM {name} INDEXED BY {name}_order WHERE timestamp_us >= ?1 AND timestamp_us < ?2 \
         AND tenant_id = ?3 AND (?4 IS NULL OR source = ?4) AND (?5 IS NULL OR event_type = ?5)"
    )
}

fn sum_text(size: BucketSize) -> String {
    format!(
        "SELECT coalesce(sum(count), 0) FROM {} WHERE tenant_id = ?1 AND start_us >= ?2 AND start_us < ?3 \
         AND (?4 IS NULL OR source = ?4) AND (?5 IS NULL OR event_type = ?5)",
        table_of(size)
    )
}

fn buckets_text(size: BucketSize) -> String {
    format!(
        "SELECT start_us, source, event_type, count, first_us, last_us FROM {} WHERE tenant_id = ?1 \
         AND start_us >= ?2 AND start_us < ?3 AND (?4 IS NULL OR source = ?4) \
         AND (?5 IS NULL OR event_type = ?5) ORDER BY start_us, source, event_type LIMIT ?6",
        table_of(size)
    )
}

/// Returns the SQL that reads a tenant's buckets after a position.
pub(super) fn group_text(size: BucketSize) -> String {
    format!(
        "SELECT start_us, source, event_type, count, first_us, last_us FROM {} WHERE tenant_id = ?1 \
         AND (start_us, source, event_type) > (?2, ?3, ?4) AND start_us < ?5 \
         ORDER BY start_us, source, event_type",
        table_of(size)
    )
}

/// Returns every SQL statement that can read the bucket tables, with its name, to check the query plans.
#[must_use]
pub fn bucket_statements() -> Vec<(String, String)> {
    let both = |size: BucketSize| {
        let table = table_of(size);
        [
            (format!("{table}, summed"), sum_text(size)),
            (format!("{table}, listed"), buckets_text(size)),
            (format!("{table}, grouped"), group_text(size)),
            (format!("{table}, the times of one"), part_sql(size)),
        ]
    };
    BucketSize::ALL.into_iter().flat_map(both).collect()
}

/// Returns at most `limit` buckets of one tenant that begin in the range, ordered by (start, source, type).
pub fn bucket_counts(
    connection: &Connection,
    size: BucketSize,
    (of, range): (&EventFilter, &TimeRange),
    limit: usize,
) -> Result<Vec<Bucket>, ShardError> {
    let EventFilter { tenant_id, source, event_type } = of;
    let sql = buckets_text(size);
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
    Ok(rows.collect::<Result<_, _>>()?)
}
