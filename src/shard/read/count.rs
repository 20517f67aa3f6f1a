//! How many rows a filter has, without reading them: buckets inside, the index at the ragged edges.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::{Filter, Of};
use crate::shard::buckets::BucketSize;
use crate::shard::error::ShardError;
use crate::shard::inspect::{PartitionInfo, partitions_of};

/// Before and after every time that can be stored, and days.
const EARLIEST_US: i64 = -800_000 * 86_400_000_000;
const LATEST_US: i64 = 3_000_000 * 86_400_000_000;

/// One bucket of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketCount {
    pub start_us: i64,
    pub source: String,
    pub event_type: String,
    pub count: i64,
    pub first_us: i64,
    pub last_us: i64,
}

/// Rows of the filter. For events some hundred microseconds, whatever their number.
///
/// Orders are not counted: what a search has is known at its end.
pub fn count(connection: &Connection, filter: &Filter) -> Result<u64, ShardError> {
    let from = filter.from_us.unwrap_or(EARLIEST_US).max(EARLIEST_US);
    let to = filter.to_us.unwrap_or(LATEST_US).min(LATEST_US);
    if from >= to {
        return Ok(0);
    }
    let infos = partitions_of(connection, filter.of.stream())?;
    let counted = match &filter.of {
        Of::Orders(_) => 0,
        Of::Clicks { user_id } => {
            let mut sum = 0;
            for partition in &infos {
                let Some((low, high)) = partition.timestamp_us else { continue };
                if low >= to || high < from {
                    continue;
                }
                let is_whole = user_id.is_none() && low >= from && high < to;
                sum += if is_whole {
                    partition.rows as i64
                } else {
                    by_index(connection, &filter.of, partition, from, to)?
                };
            }
            sum
        }
        Of::Events { .. } => {
            let (inner_from, inner_to) = (ceil(BucketSize::Minute, from), BucketSize::Minute.floor(to));
            let edge = |from: i64, to: i64| -> Result<i64, ShardError> {
                let mut sum = 0;
                if from < to {
                    for partition in &infos {
                        if partition.timestamp_us.is_some_and(|(low, high)| low < to && high >= from) {
                            sum += by_index(connection, &filter.of, partition, from, to)?;
                        }
                    }
                }
                Ok(sum)
            };
            if inner_from >= inner_to {
                edge(from, to)?
            } else {
                edge(from, inner_from)?
                    + by_buckets(connection, &filter.of, BucketSize::Day, inner_from, inner_to)?
                    + edge(inner_to, to)?
            }
        }
    };
    Ok(counted.unsigned_abs())
}

fn ceil(size: BucketSize, us: i64) -> i64 {
    size.floor(us + size.us() - 1)
}

/// Whole buckets of this size inside, smaller ones at the edges.
fn by_buckets(
    connection: &Connection,
    of: &Of,
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
    of: &Of,
    size: BucketSize,
    from: i64,
    to: i64,
) -> Result<i64, ShardError> {
    let Of::Events { tenant_id, source, event_type } = of else { return Ok(0) };
    if from >= to {
        return Ok(0);
    }
    let mut statement = connection.prepare_cached(&sum_text(size))?;
    Ok(statement.query_row((tenant_id, from, to, source, event_type), |row| row.get(0))?)
}

fn by_index(
    connection: &Connection,
    of: &Of,
    partition: &PartitionInfo,
    from: i64,
    to: i64,
) -> Result<i64, ShardError> {
    let mut values: Vec<Value> = vec![from.into(), to.into()];
    match of {
        Of::Events { tenant_id, source, event_type } => {
            values.extend([tenant_id.clone().into(), source.clone().into(), event_type.clone().into()]);
        }
        Of::Clicks { user_id } => values.extend(user_id.map(Value::from)),
        Of::Orders(_) => return Ok(0),
    }
    let mut statement = connection.prepare_cached(&count_sql(of, partition))?;
    Ok(statement.query_row(params_from_iter(values), |row| row.get(0))?)
}

pub(super) fn count_sql(of: &Of, partition: &PartitionInfo) -> String {
    let name = &partition.name;
    match of {
        Of::Events { .. } => format!(
            "SELECT count(*) FROM {name} INDEXED BY {name}_order WHERE timestamp_us >= ?1 AND timestamp_us < ?2 \
             AND tenant_id = ?3 AND (?4 IS NULL OR source = ?4) AND (?5 IS NULL OR event_type = ?5)"
        ),
        Of::Orders(_) => String::new(),
        Of::Clicks { user_id: None } => format!(
            "SELECT count(*) FROM {name} INDEXED BY {name}_time WHERE timestamp_us >= ?1 AND timestamp_us < ?2"
        ),
        Of::Clicks { user_id: Some(_) } => {
            let index = if partition.indexed { "user" } else { "time" };
            format!(
                "SELECT count(*) FROM {name} INDEXED BY {name}_{index} WHERE timestamp_us >= ?1 \
                 AND timestamp_us < ?2 AND user_id = ?3"
            )
        }
    }
}

fn sum_text(size: BucketSize) -> String {
    format!(
        "SELECT coalesce(sum(count), 0) FROM {} WHERE tenant_id = ?1 AND start_us >= ?2 AND start_us < ?3 \
         AND (?4 IS NULL OR source = ?4) AND (?5 IS NULL OR event_type = ?5)",
        size.table()
    )
}

fn buckets_text(size: BucketSize) -> String {
    format!(
        "SELECT start_us, source, event_type, count, first_us, last_us FROM {} WHERE tenant_id = ?1 \
         AND start_us >= ?2 AND start_us < ?3 AND (?4 IS NULL OR source = ?4) \
         AND (?5 IS NULL OR event_type = ?5) ORDER BY start_us, source, event_type LIMIT ?6",
        size.table()
    )
}

/// As [`super::statements`], of the bucket tables.
#[must_use]
pub fn bucket_statements() -> Vec<(String, String)> {
    let both = |size: BucketSize| {
        let table = size.table();
        [(format!("{table}, summed"), sum_text(size)), (format!("{table}, listed"), buckets_text(size))]
    };
    BucketSize::ALL.into_iter().flat_map(both).collect()
}

/// The buckets of one tenant that begin in the range, in order of (start, source, type), at most `limit`.
pub fn bucket_counts(
    connection: &Connection,
    size: BucketSize,
    filter: &Filter,
    limit: usize,
) -> Result<Vec<BucketCount>, ShardError> {
    let Of::Events { tenant_id, source, event_type } = &filter.of else { return Ok(Vec::new()) };
    let sql = buckets_text(size);
    let (from, to) = (filter.from_us.unwrap_or(i64::MIN), filter.to_us.unwrap_or(i64::MAX));
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map((tenant_id, from, to, source, event_type, limit as i64), |row| {
        Ok(BucketCount {
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
