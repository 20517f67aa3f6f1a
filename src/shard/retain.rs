//! Retention: rows are dropped some time after their arrival, regardless of the times that clients gave them.
//!
//! Streams lose whole partitions. A partition that was sealed longer ago than the retention is dropped: one transaction
//! removes it from the catalogue, the views and the totals, and subtracts its rows from the tables that its family
//! derives from them. Its pages are freed afterwards, slice by slice (`free.rs`). An open partition is sealed when its
//! age reaches an eighth of the retention, so that rows of a quiet stream are dropped too. Rows therefore remain at
//! least as long as requested, and at most about an eighth longer, unless the clock is not trusted.
//!
//! Ledgers lose single rows. A pass walks over all rows of a ledger in slices, and passes follow each other at an
//! eighth of the retention, so the same bounds apply.
//!
//! Tenants may have ages of their own (`retain_tenants.rs`). The shorter one applies.

use std::any::Any;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, Row, TransactionBehavior};

use super::dropped::{self, DropReason};
use super::error::ShardError;
use super::family::DropSlice;
use super::file::Shard;
use super::partition::{Partition, check_name, firsts, names};
use super::partitions::partitions_of;
use super::retain_clock::{ClockCheck, report_hold};
use super::retention::{Leaving, Pass, write_hold};
use super::stores::committing;
use super::stream::{Ledger, Stream};
use super::{totals, view};
use crate::base::clock;

/// The time between two searches for old partitions.
pub(super) const LOOK_EVERY_US: u64 = 10_000_000;
/// An open partition is sealed after 1/`OPEN_SHARE` of the retention.
pub(super) const OPEN_SHARE: u32 = 8;

/// A sealed partition.
pub(super) struct Sealed {
    pub(super) name: String,
    /// The highest row id that was assigned in it.
    pub(super) last_id: i64,
    pub(super) rows: i64,
    pub(super) sealed_us: i64,
    pub(super) is_indexed: bool,
}

/// Returns the time before which rows arrived that have the age.
pub(super) fn cutoff_of(keep: Duration) -> i64 {
    clock::unix_us().saturating_sub(keep.as_micros() as i64)
}

/// Returns the time between the beginnings of two passes over a ledger.
pub(super) fn pass_pause_us(keep: Duration) -> u64 {
    LOOK_EVERY_US.max((keep / OPEN_SHARE).as_micros() as u64)
}

impl Shard {
    /// Returns `true` if [`Shard::retain`] has work now.
    pub(super) fn retain_due(&self) -> bool {
        let retention = &self.retention;
        if retention.freeing || retention.pass.is_some() {
            return true;
        }
        if let Some(leaving) = &retention.leaving {
            return leaving.count.as_ref().is_none_or(JoinHandle::is_finished);
        }
        if let Some(leaving) = &retention.tenant {
            return leaving.listing.as_ref().is_none_or(JoinHandle::is_finished);
        }
        let is_set = self.options.retains() || !retention.keeps.is_empty();
        self.options.tenant_keeps.has_changed(&retention.keeps)
            || is_set && clock::monotonic_us() >= retention.look_at_us
    }

    /// Runs one step: drops a partition, seals an old one, frees pages or drops rows for about `budget`.
    pub(super) fn retain(&mut self, budget: Duration) -> Result<(), ShardError> {
        if let Some(leaving) = self.retention.leaving.take() {
            return self.drop_counted(leaving);
        }
        if self.retention.freeing {
            return self.free_slice(budget);
        }
        if let Some(pass) = self.retention.pass.take() {
            return self.pass_slice(pass, budget);
        }
        if let Some(leaving) = self.retention.tenant.take() {
            return self.tenant_slice(leaving, budget);
        }
        self.follow_keeps();
        let may_drop = self.may_drop()?;
        for (stream, keep) in self.options.retention.clone() {
            if self.seal_old(stream, keep / OPEN_SHARE)? || (may_drop && self.drop_old(stream, keep)?) {
                return Ok(());
            }
        }
        if may_drop && self.begin_pass() {
            return Ok(());
        }
        if self.keep_size()? {
            return Ok(());
        }
        let leave = may_drop && (self.leave_tenants(budget)? || self.begin_tenant_pass()?);
        if leave || self.seal_for_tenants(budget)? {
            return Ok(());
        }
        let next_us = clock::monotonic_us() + LOOK_EVERY_US;
        self.retention.look_at_us = self.next_poll_us().unwrap_or(next_us);
        Ok(())
    }

    /// Begins the pass over a ledger that is due. Returns `true` if there is one.
    fn begin_pass(&mut self) -> bool {
        let now_us = clock::monotonic_us();
        let due = |(ledger, _): &&(&'static Ledger, Duration)| self.retention.is_pass_due(ledger, now_us);
        let Some((ledger, keep)) = self.options.ledger_retention.iter().find(due) else { return false };
        self.retention.next_pass(ledger, now_us.saturating_add(pass_pause_us(*keep)));
        self.retention.pass = Some(Pass::new(ledger, cutoff_of(*keep), DropReason::Age, None));
        true
    }

    /// Runs one slice of a pass. After an error, the pass is repeated later.
    fn pass_slice(&mut self, mut pass: Pass, budget: Duration) -> Result<(), ShardError> {
        let Pass { ledger, cutoff_us, reason, .. } = pass;
        let family = self.families.family_of_ledger(ledger);
        let Some(store) = self.stores.at(family) else { return Ok(()) };
        let until_us = clock::monotonic_us() + budget.as_micros() as u64 / 2;
        let tenant = pass.tenant.as_ref().map(|(_, number)| *number);
        let slice = DropSlice { ledger, tenant, cutoff_us, until_us, is_first: !pass.is_begun };
        let done = committing(&mut **store, |store| {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let (rows, is_done) = store.drop_rows(&transaction, slice)?;
            if rows > 0 {
                dropped::count(&transaction, ledger.name, reason, rows, cutoff_us)?;
            }
            transaction.commit()?;
            Ok::<_, ShardError>((rows, is_done))
        });
        let (rows, is_done) = done?;
        self.retention.count_dropped(ledger.name, reason, rows, cutoff_us);
        pass.rows += rows;
        pass.is_begun = true;
        if is_done {
            if pass.rows > 0 {
                let tenant_id = pass.tenant.as_ref().map(|(tenant_id, _)| &**tenant_id);
                self.report(ledger.name, pass.rows, cutoff_us, reason, tenant_id);
            } else if reason == DropReason::Size {
                self.pass_was_fruitless(ledger);
            }
        } else {
            self.retention.pass = Some(pass);
        }
        Ok(())
    }

    pub(super) fn report(
        &self,
        kind: &str,
        rows: u64,
        cutoff_us: i64,
        reason: DropReason,
        tenant_id: Option<&str>,
    ) {
        tracing::info!(
            path = %self.path.display(),
            stream = kind,
            tenant = tenant_id,
            rows,
            cutoff = clock::rfc3339(cutoff_us),
            reason = reason.as_str(),
            "retention dropped rows"
        );
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
        if open.is_none_or(|open| open.rows == 0 || open.created_us > old_us) {
            return Ok(false);
        }
        self.seal_open(stream)?;
        Ok(true)
    }

    /// Seals the open partition of a stream, in a transaction of its own. It must have rows.
    pub fn seal_open(&mut self, stream: &'static Stream) -> Result<(), ShardError> {
        let Some(open) = self.streams.get(stream).open.as_ref() else { return Ok(()) };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let next = Partition::create(&transaction, stream, Some(open), false)?;
        transaction.commit()?;
        self.streams.get_mut(stream).opened(next);
        self.stores.sealed(self.families.family_of(stream));
        Ok(())
    }

    /// Drops the oldest partition of a stream if it was sealed long enough ago and has its index.
    fn drop_old(&mut self, stream: &'static Stream, keep: Duration) -> Result<bool, ShardError> {
        let cutoff_us = cutoff_of(keep);
        let oldest = self.oldest_indexed(stream)?.filter(|oldest| oldest.sealed_us <= cutoff_us);
        let Some(oldest) = oldest else { return Ok(false) };
        self.begin_drop(stream, oldest.name, cutoff_us, DropReason::Age)?;
        Ok(true)
    }

    /// Returns the oldest partition of a stream that has its index.
    pub(super) fn oldest_indexed(&self, stream: &'static Stream) -> Result<Option<Sealed>, ShardError> {
        Ok(self.sealed(stream)?.into_iter().find(|partition| partition.is_indexed))
    }

    /// Returns the sealed partitions of a stream, oldest first.
    pub(super) fn sealed(&self, stream: &'static Stream) -> Result<Vec<Sealed>, ShardError> {
        let sql = "SELECT name, first_id + rows + erased - 1, rows, sealed_at, indexed_at IS NOT NULL \
                   FROM partition WHERE stream = ?1 AND sealed_at IS NOT NULL ORDER BY first_id";
        let read = |row: &Row<'_>| {
            let sealed_at: String = row.get(3)?;
            let sealed_us =
                sealed_at.parse::<jiff::Timestamp>().map_or(i64::MAX, jiff::Timestamp::as_microsecond);
            Ok(Sealed {
                name: row.get(0)?,
                last_id: row.get(1)?,
                rows: row.get(2)?,
                sealed_us,
                is_indexed: row.get(4)?,
            })
        };
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_map([stream.name], read)?.collect::<Result<Vec<_>, _>>()?;
        found.iter().try_for_each(|partition| check_name(stream, &partition.name))?;
        Ok(found)
    }

    /// Drops a partition, or begins to count what it contributes to the tables of its family.
    pub(super) fn begin_drop(
        &mut self,
        stream: &'static Stream,
        partition: String,
        cutoff_us: i64,
        reason: DropReason,
    ) -> Result<(), ShardError> {
        let family = self.families.family_of(stream);
        let counting = self.stores.at(family).and_then(|store| store.count_leaving(stream));
        let mut leaving = Leaving { stream, partition, cutoff_us, reason, count: None };
        let Some(counted) = counting else { return self.drop_partition(&leaving, None) };
        let (path, partition) = (self.path.clone(), leaving.partition.clone());
        let count = std::thread::Builder::new().name("retain".to_owned());
        leaving.count = Some(count.spawn(move || counted(&path, &partition))?);
        self.retention.leaving = Some(leaving);
        Ok(())
    }

    fn drop_counted(&mut self, mut leaving: Leaving) -> Result<(), ShardError> {
        let gone = |_| ShardError::Other("the thread that counts what leaves is gone".to_owned());
        let Some(count) = leaving.count.take() else { return Ok(()) };
        let counted = count.join().map_err(gone)??;
        self.drop_partition(&leaving, Some(counted))
    }

    /// Drops a partition in one transaction.
    pub(super) fn drop_partition(
        &mut self,
        leaving: &Leaving,
        counted: Option<Box<dyn Any + Send>>,
    ) -> Result<(), ShardError> {
        let Leaving { stream, partition, cutoff_us, reason, .. } = leaving;
        let Some(store) = self.stores.at(self.families.family_of(stream)) else { return Ok(()) };
        let done = committing(&mut **store, |store| {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let rows = leave(&transaction, stream, partition)?;
            store.leave(&transaction, stream, counted, &partitions_of(&transaction, stream)?)?;
            if rows > 0 {
                dropped::count(&transaction, stream.name, *reason, rows, *cutoff_us)?;
            }
            let left = firsts(&transaction, stream)?;
            transaction.commit()?;
            Ok::<_, ShardError>((rows, left))
        });
        let (rows, left) = done?;
        let state = self.streams.get_mut(stream);
        state.firsts = left;
        state.rows = state.rows.saturating_sub(rows);
        self.retention.freeing = true;
        self.retention.sizes.forget(partition);
        self.retention.count_dropped(stream.name, *reason, rows, *cutoff_us);
        if rows > 0 {
            self.report(stream.name, rows, *cutoff_us, *reason, None);
        }
        Ok(())
    }
}

/// Removes a partition from the catalogue, the views and the totals. Returns its number of rows.
fn leave(transaction: &Connection, stream: &'static Stream, name: &str) -> Result<u64, ShardError> {
    let rows: i64 =
        transaction.query_row("SELECT rows FROM partition WHERE name = ?1", [name], |row| row.get(0))?;
    transaction.execute("DELETE FROM partition_catalog WHERE name = ?1", [name])?;
    transaction.execute("DELETE FROM partition_bytes WHERE name = ?1", [name])?;
    transaction.execute("INSERT INTO dropped_partition (name) VALUES (?1)", [name])?;
    let rows = rows.unsigned_abs();
    totals::subtract(transaction, stream.total, rows)?;
    view::cover(transaction, stream, &names(transaction, stream)?)?;
    Ok(rows)
}

#[cfg(test)]
impl Shard {
    /// Makes the next step search for old partitions.
    pub(crate) fn retain_now(&mut self) {
        self.retention.look_at_us = 0;
        self.retention.next_passes.clear();
        self.retention.tenant_passes.iter_mut().for_each(std::collections::HashMap::clear);
        self.retention.sizes.measure_now();
    }

    pub(crate) fn wall_moves(&mut self, by_us: i64) {
        self.retention.clock.wall_moves(by_us);
    }

    pub(crate) fn is_retaining(&self) -> bool {
        let retention = &self.retention;
        let is_leaving = retention.leaving.is_some() || retention.tenant.is_some();
        is_leaving || retention.freeing || retention.pass.is_some()
    }
}
