//! Retention: rows are dropped by whole partitions, some time after their arrival, regardless of the times that
//! clients gave them.
//!
//! A partition that was sealed longer ago than the retention is dropped: one transaction removes it from the
//! catalogue, the views and the totals, and subtracts its rows from the tables that its family derives from them. Its
//! pages are freed afterwards, slice by slice. An open partition is sealed when its age reaches an eighth of the
//! retention, so that rows of a quiet stream are dropped too. Rows therefore remain at least as long as requested,
//! and at most about an eighth longer, unless the clock is not trusted.

use std::any::Any;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::error::ShardError;
use super::file::Shard;
use super::partition::{Partition, check_name, firsts, names};
use super::partitions::partitions_of;
use super::retain_clock::{ClockCheck, report_hold};
use super::retention::{Leaving, write_hold};
use super::stream::Stream;
use super::view;
use crate::base::clock;

/// The time between two searches for old partitions.
const LOOK_EVERY_US: u64 = 10_000_000;
/// An open partition is sealed after 1/`OPEN_SHARE` of the retention.
const OPEN_SHARE: u32 = 8;
/// Rows deleted between two checks of the clock.
const DELETE_ROWS: i64 = 1_000;

/// The number of dropped rows, and the first row id and the table of each remaining partition.
type Left = (u64, Vec<(i64, String)>);

impl Shard {
    /// Returns `true` if [`Shard::retain`] has work now.
    pub(super) fn retain_due(&self) -> bool {
        let is_counted = |leaving: &Leaving| leaving.count.as_ref().is_none_or(JoinHandle::is_finished);
        let is_set = !self.options.retention.is_empty();
        self.retention.freeing
            || match &self.retention.leaving {
                Some(leaving) => is_counted(leaving),
                None => is_set && clock::monotonic_us() >= self.retention.look_at_us,
            }
    }

    /// Runs one step: drops a partition, seals an old one, or frees pages for about `budget`.
    pub(super) fn retain(&mut self, budget: Duration) -> Result<(), ShardError> {
        if let Some(leaving) = self.retention.leaving.take() {
            return self.drop_counted(leaving);
        }
        if self.retention.freeing {
            return self.free_slice(budget);
        }
        let may_drop = self.may_drop()?;
        for (stream, keep) in self.options.retention.clone() {
            if self.seal_old(stream, keep / OPEN_SHARE)? || (may_drop && self.drop_old(stream, keep)?) {
                return Ok(());
            }
        }
        self.retention.look_at_us = clock::monotonic_us() + LOOK_EVERY_US;
        Ok(())
    }

    /// Frees pages of dropped tables for about `budget`. Returns `true` if there were tables to free.
    pub fn free_dropped(&mut self, budget: Duration) -> Result<bool, ShardError> {
        let is_freeing = self.retention.freeing;
        if is_freeing {
            self.retain(budget)?;
        }
        Ok(is_freeing)
    }

    /// Returns `true` if the clock can be trusted.
    fn may_drop(&mut self) -> Result<bool, ShardError> {
        let was_held = self.retention.clock.is_held();
        let look = self.retention.clock.check(clock::unix_us(), clock::monotonic_us());
        match look {
            ClockCheck::Jumped(ahead_us) => report_hold(&self.path, ahead_us),
            ClockCheck::Restored => {
                tracing::warn!(path = %self.path.display(), "the clock was set back: retention continues");
            }
            ClockCheck::MayDrop | ClockCheck::Held => {}
        }
        if was_held || self.retention.clock.is_held() {
            write_hold(&self.connection, &self.retention.clock)?;
        }
        Ok(matches!(look, ClockCheck::MayDrop | ClockCheck::Restored))
    }

    /// Seals the open partition of a stream if it is old and not empty.
    fn seal_old(&mut self, stream: &'static Stream, age: Duration) -> Result<bool, ShardError> {
        let old_us = clock::unix_us().saturating_sub(age.as_micros() as i64);
        let open = self.streams.get(stream).open.as_ref();
        let Some(open) = open.filter(|open| open.rows > 0 && open.created_us <= old_us) else {
            return Ok(false);
        };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let next = Partition::create(&transaction, stream, Some(open))?;
        transaction.commit()?;
        self.streams.get_mut(stream).opened(next);
        self.stores.sealed(self.families.family_of(stream));
        Ok(true)
    }

    /// Drops the oldest partition of a stream if it was sealed long enough ago and has its index.
    fn drop_old(&mut self, stream: &'static Stream, keep: Duration) -> Result<bool, ShardError> {
        let cutoff = clock::unix_us().saturating_sub(keep.as_micros() as i64);
        let oldest = self
            .connection
            .query_row(
                "SELECT name, sealed_at FROM partition WHERE stream = ?1 AND indexed_at IS NOT NULL \
                 ORDER BY first_id LIMIT 1",
                [stream.name],
                |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
            )
            .optional()?;
        let Some((name, sealed_at)) = oldest else { return Ok(false) };
        let sealed_us =
            sealed_at.parse::<jiff::Timestamp>().map_or(i64::MAX, jiff::Timestamp::as_microsecond);
        if sealed_us > cutoff {
            return Ok(false);
        }
        check_name(stream, &name)?;
        let family = self.families.family_of(stream);
        let counting = self.stores.at(family).and_then(|store| store.count_leaving(stream));
        if let Some(counted) = counting {
            let (path, partition) = (self.path.clone(), name.clone());
            let count = std::thread::Builder::new().name("retain".to_owned());
            let count = count.spawn(move || counted(&path, &partition))?;
            self.retention.leaving = Some(Leaving { stream, partition: name, count: Some(count) });
            return Ok(true);
        }
        let (rows, left) = self.drop_partition(stream, &name, None)?;
        self.left(stream, rows, left);
        Ok(true)
    }

    fn drop_counted(&mut self, mut leaving: Leaving) -> Result<(), ShardError> {
        let gone = |_| ShardError::Other("the thread that counts what leaves is gone".to_owned());
        let Some(count) = leaving.count.take() else { return Ok(()) };
        let counted = count.join().map_err(gone)??;
        let left = self.drop_partition(leaving.stream, &leaving.partition, Some(counted));
        if let Some(store) = self.stores.at(self.families.family_of(leaving.stream)) {
            if left.is_ok() { store.committed() } else { store.rolled_back() }
        }
        let (rows, left) = left?;
        self.left(leaving.stream, rows, left);
        Ok(())
    }

    /// Drops a partition in one transaction. Returns its number of rows and the remaining partitions.
    fn drop_partition(
        &mut self,
        stream: &'static Stream,
        partition: &str,
        counted: Option<Box<dyn Any + Send>>,
    ) -> Result<Left, ShardError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let rows = leave(&transaction, stream, partition)?;
        if let (Some(counted), Some(store)) = (counted, self.stores.at(self.families.family_of(stream))) {
            store.leave(&transaction, counted, &partitions_of(&transaction, stream)?)?;
        }
        let left = firsts(&transaction, stream)?;
        transaction.commit()?;
        Ok((rows, left))
    }

    fn left(&mut self, stream: &'static Stream, rows: u64, left: Vec<(i64, String)>) {
        let state = self.streams.get_mut(stream);
        state.firsts = left;
        state.rows = state.rows.saturating_sub(rows);
        self.retention.freeing = true;
    }

    /// Frees pages of dropped tables: first indexes, then rows from the front, then the empty table.
    fn free_slice(&mut self, budget: Duration) -> Result<(), ShardError> {
        let until_us = clock::monotonic_us() + budget.as_micros() as u64;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let name: Option<String> = transaction
            .query_row("SELECT name FROM dropped_partition ORDER BY name LIMIT 1", [], |row| row.get(0))
            .optional()?;
        let Some(name) = name else {
            self.retention.freeing = false;
            return Ok(());
        };
        if !self.streams.iter().any(|state| state.stream.has_partition(&name)) {
            return Err(ShardError::Corrupt("dropped_partition names an unknown table".to_owned()));
        }
        let index: Option<String> = transaction
            .query_row(
                "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?1 LIMIT 1",
                [&name],
                |row| row.get(0),
            )
            .optional()?;
        match index {
            Some(index) => transaction.execute_batch(&format!("DROP INDEX {index}"))?,
            None => loop {
                let deleted = transaction.execute(
                    &format!("DELETE FROM {name} WHERE id IN (SELECT id FROM {name} ORDER BY id LIMIT ?1)"),
                    [DELETE_ROWS],
                )?;
                if deleted == 0 {
                    transaction.execute_batch(&format!("DROP TABLE {name}"))?;
                    transaction.execute("DELETE FROM dropped_partition WHERE name = ?1", [&name])?;
                    break;
                }
                if clock::monotonic_us() >= until_us {
                    break;
                }
            },
        }
        transaction.commit()?;
        Ok(())
    }
}

/// Removes a partition from the catalogue, the views and the totals. Returns its number of rows.
fn leave(transaction: &Connection, stream: &'static Stream, name: &str) -> Result<u64, ShardError> {
    let rows: i64 =
        transaction.query_row("SELECT rows FROM partition WHERE name = ?1", [name], |row| row.get(0))?;
    transaction.execute("DELETE FROM partition WHERE name = ?1", [name])?;
    transaction.execute("INSERT INTO dropped_partition (name) VALUES (?1)", [name])?;
    transaction
        .execute("UPDATE total SET value = value - ?2 WHERE name = ?1", params![stream.total, rows])?;
    view::cover(transaction, stream, &names(transaction, stream)?)?;
    Ok(rows.unsigned_abs())
}

#[cfg(test)]
impl Shard {
    /// Makes the next step search for old partitions.
    pub(crate) fn retain_now(&mut self) {
        self.retention.look_at_us = 0;
    }

    pub(crate) fn wall_moves(&mut self, by_us: i64) {
        self.retention.clock.wall_moves(by_us);
    }

    pub(crate) fn is_retaining(&self) -> bool {
        self.retention.leaving.is_some() || self.retention.freeing
    }
}
