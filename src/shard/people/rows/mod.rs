//! The rows of a person, stream by stream: each function is one slice of its step, and says whether the step is
//! done. Counters, buckets and sums change in the same transaction (R3).

mod clicks;
mod events;
mod kept;
mod orders;

pub(in crate::shard) use self::kept::without_order_ids;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::super::error::ShardError;
use super::super::inspect::PartitionInfo;
use super::super::stream::Stream;
use super::record::{ErasureMode, Subject};
use super::work::Erasing;

/// Rows of customers, rejected records or answers of one transaction.
const ROWS_PER_SLICE: i64 = 64;
/// Rows that are looked through between two looks at the clock.
const LOOK_ROWS: i64 = 250;

impl Erasing {
    /// Tenant and the ids under which the person may have orders.
    fn customer(&self) -> Option<(&str, Vec<&str>)> {
        let Some(Subject::Customer { tenant_id, customer_id, token, .. }) = &self.subject else {
            return None;
        };
        let mut ids = vec![customer_id.as_str()];
        if self.mode == ErasureMode::Erase {
            ids.push(token);
        }
        Some((tenant_id, ids))
    }

    /// The next partition to work on, from where the last slice was.
    fn partition(&mut self, partitions: Vec<PartitionInfo>) -> Option<PartitionInfo> {
        if self.place.is_empty() {
            let first = partitions.into_iter().next()?;
            (self.place, self.at) = (first.name.clone(), first.first_id - 1);
            return Some(first);
        }
        let number = |name: &str| name.rsplit('_').next().and_then(|digits| digits.parse::<u64>().ok());
        let reached = number(&self.place);
        // Retention may have dropped it.
        let found = partitions.into_iter().find(|partition| number(&partition.name) >= reached)?;
        if found.name != self.place {
            self.begin(&found);
        }
        Some(found)
    }

    fn begin(&mut self, partition: &PartitionInfo) {
        (self.place, self.at, self.orders) = (partition.name.clone(), partition.first_id - 1, None);
    }

    /// On to the partition behind this one; whether there is none.
    fn next_partition(&mut self, partitions: Vec<PartitionInfo>) -> bool {
        let behind = partitions.into_iter().skip_while(|partition| partition.name != self.place).nth(1);
        match behind {
            Some(next) => {
                self.begin(&next);
                false
            }
            None => true,
        }
    }
}

fn max_id(connection: &Connection, table: &str) -> Result<Option<i64>, ShardError> {
    Ok(connection.query_row(&format!("SELECT max(id) FROM {table}"), [], |row| row.get(0))?)
}

/// Takes rows that went out of the counters of their partition and stream. Earliest and latest time of those that
/// are left are looked for where one of them went: in an index of clicks, otherwise in the whole partition (10 ms a
/// hundred thousand rows). They are returned.
fn count_gone(
    transaction: &Transaction<'_>,
    stream: Stream,
    table: &str,
    gone: u64,
    times: Option<(i64, i64)>,
) -> Result<Option<(i64, i64)>, ShardError> {
    let sql = "SELECT timestamp_us_min, timestamp_us_max FROM partition WHERE name = ?1";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?));
    let known = transaction.query_row(sql, [table], read).optional()?;
    let known = known.and_then(|(low, high)| low.zip(high));
    let Some((low, high)) = times.filter(|_| gone > 0) else { return Ok(known) };
    let mut left = known;
    if known.is_none_or(|(first, last)| low <= first || high >= last) {
        let time = stream.time_column();
        let sql = format!("SELECT (SELECT min({time}) FROM {table}), (SELECT max({time}) FROM {table})");
        left = transaction.query_row(&sql, [], read).map(|(low, high)| low.zip(high))?;
    }
    let (min, max) = left.unzip();
    transaction
        .prepare_cached(
            "UPDATE partition SET rows = rows - ?2, erased = erased + ?2, timestamp_us_min = ?3, \
             timestamp_us_max = ?4 WHERE name = ?1",
        )?
        .execute(params![table, gone as i64, min, max])?;
    transaction
        .prepare_cached("UPDATE total SET value = value - ?2 WHERE name = ?1")?
        .execute(params![stream.total(), gone as i64])?;
    Ok(left)
}
