//! Erases a person's rows, one stream at a time. Each function runs one slice of its step and returns `true` once the
//! step is done. Counters, buckets and sums change in the same transaction (R3).

mod clicks;
mod events;
mod kept;
mod orders;

pub(super) use self::clicks::erase_clicks;
pub(super) use self::events::erase_events;
pub(super) use self::kept::{erase_answers, erase_rejected};
pub(super) use self::orders::{erase_customers, erase_orders, merge_words};

use rusqlite::Connection;

use super::active::ActiveErasure;
use super::record::Subject;
use crate::shard::{ErasureMode, PartitionInfo, ShardError};

/// The number of customer rows, rejected records or responses in one transaction.
const ROWS_PER_SLICE: i64 = 64;
/// The number of rows searched between two checks of the clock.
const LOOK_ROWS: i64 = 250;

impl ActiveErasure {
    /// Returns the tenant, and the ids under which the person may have orders.
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

    /// Returns the partition to work on, starting where the last slice ended.
    fn partition(&mut self, partitions: Vec<PartitionInfo>) -> Option<PartitionInfo> {
        if self.place.is_empty() {
            let first = partitions.into_iter().next()?;
            (self.place, self.at) = (first.name.clone(), first.first_id - 1);
            return Some(first);
        }
        let number = |name: &str| name.rsplit('_').next().and_then(|digits| digits.parse::<u64>().ok());
        let reached = number(&self.place);
        // Retention may have dropped the partition.
        let found = partitions.into_iter().find(|partition| number(&partition.name) >= reached)?;
        if found.name != self.place {
            self.begin(&found);
        }
        Some(found)
    }

    fn begin(&mut self, partition: &PartitionInfo) {
        (self.place, self.at, self.orders) = (partition.name.clone(), partition.first_id - 1, None);
    }

    /// Moves to the next partition. Returns `true` if there is no next partition.
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
