//! Frees the pages of partitions that retention has dropped, slice by slice.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::error::ShardError;
use super::file::Shard;
use super::stores::committing;
use crate::base::clock;

/// Rows deleted between two checks of the clock.
const DELETE_ROWS: i64 = 1_000;

impl Shard {
    /// Frees pages of dropped tables for about `budget`. Returns `true` if there were tables to free.
    pub fn free_dropped(&mut self, budget: Duration) -> Result<bool, ShardError> {
        let is_freeing = self.retention.freeing;
        if is_freeing {
            self.free_slice(budget)?;
        }
        Ok(is_freeing)
    }

    /// Frees a dropped partition. Its family may know more about its tables; otherwise the indexes are dropped first,
    /// then rows are deleted from the front, then the empty tables are dropped.
    pub(super) fn free_slice(&mut self, budget: Duration) -> Result<(), ShardError> {
        let until_us = clock::monotonic_us() + budget.as_micros() as u64;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let name: Option<String> = transaction
            .query_row("SELECT name FROM dropped_partition ORDER BY name LIMIT 1", [], |row| row.get(0))
            .optional()?;
        let Some(name) = name else {
            self.retention.freeing = false;
            return Ok(());
        };
        let Some(state) = self.streams.iter().find(|state| state.stream.has_partition(&name)) else {
            return Err(ShardError::Corrupt("dropped_partition names an unknown table".to_owned()));
        };
        let stream = state.stream;
        let Some(store) = self.stores.at(self.families.family_of(stream)) else { return Ok(()) };
        committing(&mut **store, |store| {
            let is_empty = match store.free(&transaction, &name, until_us)? {
                Some(is_empty) => is_empty,
                None => delete(&transaction, &name, until_us)?,
            };
            if is_empty {
                for side in stream.side_tables {
                    transaction.execute_batch(&format!("DROP TABLE {}", (side.table)(&name)))?;
                }
                transaction.execute_batch(&format!("DROP TABLE {name}"))?;
                transaction.execute("DELETE FROM dropped_partition WHERE name = ?1", [&name])?;
            }
            transaction.commit()?;
            Ok(())
        })
    }
}

/// Drops an index of the table, or deletes rows until `until_us`. Returns `true` once there are neither.
fn delete(transaction: &Connection, name: &str, until_us: u64) -> Result<bool, ShardError> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?1 LIMIT 1";
    let index: Option<String> = transaction.query_row(sql, [name], |row| row.get(0)).optional()?;
    if let Some(index) = index {
        transaction.execute_batch(&format!("DROP INDEX {index}"))?;
        return Ok(false);
    }
    loop {
        let deleted = transaction.execute(
            &format!("DELETE FROM {name} WHERE id IN (SELECT id FROM {name} ORDER BY id LIMIT ?1)"),
            [DELETE_ROWS],
        )?;
        if deleted == 0 {
            return Ok(true);
        }
        if clock::monotonic_us() >= until_us {
            return Ok(false);
        }
    }
}
