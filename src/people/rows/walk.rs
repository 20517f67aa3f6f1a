//! A walk through the rows of all partitions, which can be interrupted after any row.

use rusqlite::Connection;

use crate::shard::{PartitionInfo, ShardError};

/// The partition that was reached, and the row id in it. The walk starts with an empty name.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Walk {
    pub(in super::super) place: String,
    pub(in super::super) at: i64,
}

impl Walk {
    /// Returns the partition to work on, starting where the last slice ended.
    pub(in super::super) fn partition(&mut self, partitions: &[PartitionInfo]) -> Option<PartitionInfo> {
        if self.place.is_empty() {
            let first = partitions.first()?;
            self.begin(first);
            return Some(first.clone());
        }
        let number = |name: &str| name.rsplit('_').next().and_then(|digits| digits.parse::<u64>().ok());
        let reached = number(&self.place);
        // Retention may have dropped the partition.
        let found = partitions.iter().find(|partition| number(&partition.name) >= reached)?;
        if found.name != self.place {
            self.begin(found);
        }
        Some(found.clone())
    }

    fn begin(&mut self, partition: &PartitionInfo) {
        (self.place, self.at) = (partition.name.clone(), partition.first_id - 1);
    }

    /// Moves to the next partition. Returns `true` if there is no next partition.
    pub(in super::super) fn next_partition(&mut self, partitions: &[PartitionInfo]) -> bool {
        let behind = partitions.iter().skip_while(|partition| partition.name != self.place).nth(1);
        match behind {
            Some(next) => {
                self.begin(next);
                false
            }
            None => true,
        }
    }
}

pub(in super::super) fn max_id(connection: &Connection, table: &str) -> Result<Option<i64>, ShardError> {
    Ok(connection.query_row(&format!("SELECT max(id) FROM {table}"), [], |row| row.get(0))?)
}
