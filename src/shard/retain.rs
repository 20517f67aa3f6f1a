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

use super::change::CHANGES;
use super::drop_slice::DropSlice;
use super::dropped::{self, DropReason};
use super::error::ShardError;
use super::file::Shard;
use super::hold::Upto;
use super::holds::{Leave, unshipped_rows};
use super::partition::{Partition, check_name, firsts, names};
use super::partitions::{Sealed, partitions_of};
use super::retain_clock::{ClockCheck, LOOK_EVERY_US, report_hold};
use super::retention::{Leaving, Pass, Retention, write_hold};
use super::stores::committing;
use super::stream::Stream;
use super::{totals, view};
use crate::base::clock;

/// An open partition is sealed after 1/`OPEN_SHARE` of the retention.
pub(super) const OPEN_SHARE: u32 = 8;

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
        if self.begin_holds()? {
            return Ok(());
        }
        for (stream, keep) in self.options.retention.clone() {
            if self.seal_old(stream, keep / OPEN_SHARE)? || self.drop_old(stream, keep, may_drop)? {
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
        if leave || self.seal_for_tenants(budget)? || self.settle_holds()? {
            return Ok(());
        }
        let next_us = clock::monotonic_us() + LOOK_EVERY_US;
        self.retention.look_at_us = self.next_poll_us().unwrap_or(next_us);
        Ok(())
    }

    /// Begins the pass over a ledger that is due. Returns `true` if there is one.
    fn begin_pass(&mut self) -> bool {
        let now_us = clock::monotonic_us();
        for (ledger, keep) in self.options.ledger_retention.clone() {
            let is_forced = self.is_pass_forced(ledger, None);
            if is_forced || self.retention.is_pass_due(ledger, now_us) {
                self.retention.next_pass(ledger, now_us.saturating_add(pass_pause_us(keep)));
                let pass = Pass::new(ledger, cutoff_of(keep), DropReason::Age, None);
                self.retention.pass = Some(Pass { is_forced, ..pass });
                return true;
            }
        }
        false
    }

    /// Runs one slice of a pass. After an error, the pass is repeated later.
    fn pass_slice(&mut self, mut pass: Pass, budget: Duration) -> Result<(), ShardError> {
        let Pass { ledger, cutoff_us, reason, .. } = pass;
        let family = self.families.family_of_ledger(ledger);
        let Some(store) = self.stores.at(family) else { return Ok(()) };
        let until_us = clock::monotonic_us() + budget.as_micros() as u64 / 2;
        let tenant = pass.tenant.as_ref().map(|(_, number)| *number);
        let (is_first, is_forced) = (!pass.is_begun, pass.is_forced);
        let Retention { holds, clock, .. } = &self.retention;
        let ship = self.options.ship.as_ref();
        let done = committing(&mut **store, |store| {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let limits = holds.limits_now(&transaction, ship, clock)?;
            let [upto, changes] = [ledger.name, CHANGES].map(|stream| match is_forced {
                true => Upto { kept: i64::MAX, ..limits.of(stream) },
                false => limits.of(stream),
            });
            let slice = DropSlice { ledger, tenant, cutoff_us, until_us, is_first, upto, changes };
            let done = store.drop_rows(&transaction, slice)?;
            let shipped = done.rows - done.unshipped;
            for (reason, rows) in [(reason, shipped), (DropReason::Unshipped, done.unshipped)] {
                if rows > 0 {
                    dropped::count(&transaction, ledger.name, reason, rows, cutoff_us)?;
                }
            }
            transaction.commit()?;
            Ok::<_, ShardError>(done)
        });
        let done = done?;
        let shipped = done.rows - done.unshipped;
        self.retention.count_dropped(ledger.name, reason, shipped, cutoff_us);
        self.retention.count_dropped(ledger.name, DropReason::Unshipped, done.unshipped, cutoff_us);
        pass.done.add(done);
        pass.is_begun = true;
        if !done.is_done {
            self.retention.pass = Some(pass);
            return Ok(());
        }
        let all = pass.done;
        let tenant_id = pass.tenant.as_ref().map(|(tenant_id, _)| &**tenant_id);
        if all.rows > 0 {
            self.report(ledger.name, all.rows - all.unshipped, cutoff_us, reason, tenant_id);
            self.report(ledger.name, all.unshipped, cutoff_us, DropReason::Unshipped, tenant_id);
        } else if reason == DropReason::Size && all.held == 0 && all.waiting == 0 {
            self.pass_was_fruitless(ledger);
        }
        let (left, now_us) = ((all.held, all.waiting), clock::monotonic_us());
        let name = tenant_id.unwrap_or_default();
        if let Some(pause_us) = self.retention.holds.pass_ended(ledger, name, left, now_us - pass.began_us) {
            self.retention.pass_sooner(ledger, name, now_us.saturating_add(pause_us));
        }
        Ok(())
    }

    /// Logs dropped rows, if there are any.
    pub(super) fn report(
        &self,
        kind: &str,
        rows: u64,
        cutoff_us: i64,
        reason: DropReason,
        tenant_id: Option<&str>,
    ) {
        if rows == 0 {
            return;
        }
        if reason == DropReason::Unshipped {
            tracing::error!(
                path = %self.path.display(),
                stream = kind,
                tenant = tenant_id,
                rows,
                cutoff = clock::rfc3339(cutoff_us),
                "ship_hold_max is exceeded: retention dropped rows that a sink does not have"
            );
            return;
        }
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

    /// Drops the oldest partition of a stream if it was sealed long enough ago, has its index and is held for no sink.
    fn drop_old(
        &mut self,
        stream: &'static Stream,
        keep: Duration,
        may_drop: bool,
    ) -> Result<bool, ShardError> {
        if !may_drop && !self.retention.holds.is_shipped() {
            return Ok(false);
        }
        let cutoff_us = cutoff_of(keep);
        let is_old = |partition: &Sealed| partition.is_indexed && partition.sealed_us <= cutoff_us;
        // Partitions leave in order. Those behind a held one are only noted.
        let mut is_behind = !may_drop;
        for oldest in self.sealed(stream)?.into_iter().filter(is_old) {
            let leave = self.may_leave(stream, &oldest, !is_behind)?;
            if !is_behind && matches!(leave, Leave::Now | Leave::Unshipped) {
                let is_forced = leave == Leave::Unshipped;
                self.begin_drop(stream, oldest.name, cutoff_us, (DropReason::Age, is_forced))?;
                return Ok(true);
            }
            is_behind = true;
        }
        Ok(false)
    }

    /// Returns the sealed partitions of a stream, oldest first.
    pub(super) fn sealed(&self, stream: &'static Stream) -> Result<Vec<Sealed>, ShardError> {
        let sql = "SELECT name, first_id + rows + erased - 1, rows, sealed_at, indexed_at IS NOT NULL, first_id \
                   FROM partition WHERE stream = ?1 AND sealed_at IS NOT NULL ORDER BY first_id";
        let read = |row: &Row<'_>| {
            let sealed_at: String = row.get(3)?;
            let sealed_us =
                sealed_at.parse::<jiff::Timestamp>().map_or(i64::MAX, jiff::Timestamp::as_microsecond);
            Ok(Sealed {
                name: row.get(0)?,
                first_id: row.get(5)?,
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
        (reason, is_forced): (DropReason, bool),
    ) -> Result<(), ShardError> {
        let family = self.families.family_of(stream);
        let counting = self.stores.at(family).and_then(|store| store.count_leaving(stream));
        let mut leaving = Leaving { stream, partition, cutoff_us, reason, is_forced, count: None };
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
        let Leaving { stream, partition, cutoff_us, reason, is_forced, .. } = leaving;
        let Some(store) = self.stores.at(self.families.family_of(stream)) else { return Ok(()) };
        let Retention { holds, clock, .. } = &self.retention;
        let ship = self.options.ship.as_ref();
        let done = committing(&mut **store, |store| {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let limits = holds.limits_now(&transaction, ship, clock)?;
            let ids = ids_of(&transaction, partition)?;
            let mut unshipped = 0;
            // A sink may have been registered while the rows were counted.
            if limits.is_shipped() && holds.judge(&transaction, &limits, stream, ids)? != Leave::Now {
                if !is_forced {
                    return Ok(None);
                }
                unshipped = unshipped_rows(&transaction, &limits, stream, (partition, ids.0, ids.1))?;
            }
            let rows = leave(&transaction, stream, partition)?;
            store.leave(&transaction, stream, counted, &partitions_of(&transaction, stream)?)?;
            let unshipped = unshipped.min(rows);
            for (reason, rows) in [(*reason, rows - unshipped), (DropReason::Unshipped, unshipped)] {
                if rows > 0 {
                    dropped::count(&transaction, stream.name, reason, rows, *cutoff_us)?;
                }
            }
            let left = firsts(&transaction, stream)?;
            transaction.commit()?;
            Ok::<_, ShardError>(Some((rows, unshipped, left)))
        });
        let Some((rows, unshipped, left)) = done? else {
            self.retention.holds.look_again();
            return Ok(());
        };
        let state = self.streams.get_mut(stream);
        state.firsts = left;
        state.rows = state.rows.saturating_sub(rows);
        self.retention.freeing = true;
        self.retention.sizes.forget(partition);
        for (reason, rows) in [(*reason, rows - unshipped), (DropReason::Unshipped, unshipped)] {
            self.retention.count_dropped(stream.name, reason, rows, *cutoff_us);
            self.report(stream.name, rows, *cutoff_us, reason, None);
        }
        Ok(())
    }
}

/// Returns the first and the last row id of a partition, and its number of rows.
pub(super) fn ids_of(connection: &Connection, name: &str) -> Result<(i64, i64, i64), ShardError> {
    let sql = "SELECT first_id, first_id + rows + erased - 1, rows FROM partition WHERE name = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?)
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
        self.retention.holds.look_again();
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
