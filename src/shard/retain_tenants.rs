//! Retention by tenant: rows leave earlier than the server's retention requires if their tenant has an age of its own.
//!
//! Streams: once a partition was sealed longer ago than the age of a tenant, the tenant's rows are deleted from it in
//! slices, in the order of their ids. Partitions follow each other in order, so that one number describes the progress
//! (`tenant_marks.rs`). A thread lists the rows first (`tenant_rows.rs`). A partition without rows is dropped. An open
//! partition with rows of the tenant is sealed when its age reaches an eighth of that of the tenant.
//!
//! Ledgers: a pass visits only the rows of the tenant. Passes of a tenant follow each other at an eighth of its age.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::TransactionBehavior;

use super::dropped::{self, DropReason};
use super::error::ShardError;
use super::family::TenantSlice;
use super::file::Shard;
use super::holds::Leave;
use super::names::tenant_number;
use super::partition::{Deleted, subtract_deleted, widened};
use super::partitions::Sealed;
use super::partitions::partitions_of;
use super::retain::{OPEN_SHARE, cutoff_of, ids_of, pass_pause_us};
use super::retention::{Leaving, Pass, ROWS_MIN, Retention, TenantLeaving, TenantRows};
use super::stores::committing;
use super::stream::Stream;
use super::tenant_keeps::TenantKeep;
use super::tenant_marks::TenantMarks;
use super::tenant_rows::{count_rows, has_rows, list, times_of, value_of};
use crate::base::clock;

/// The maximum number of rows in one transaction.
const ROWS_MAX: usize = 4_096;

impl Shard {
    /// Takes over the current ages of tenants. A pass with another age than before is due at once.
    pub(super) fn follow_keeps(&mut self) {
        let current = self.options.tenant_keeps.current();
        if Arc::ptr_eq(&current, &self.retention.keeps) {
            return;
        }
        let ages = |keeps: &[TenantKeep]| -> HashMap<(&'static str, Box<str>), Duration> {
            keeps.iter().map(|keep| ((keep.setting, keep.tenant_id.clone()), keep.keep)).collect()
        };
        let (before, after) = (ages(&self.retention.keeps), ages(&current));
        for ledger in self.families.ledgers() {
            self.retention.tenant_passes[ledger.place].retain(|tenant_id, _| {
                let key = (ledger.setting, tenant_id.clone());
                before.get(&key) == after.get(&key)
            });
        }
        self.retention.keeps = current;
    }

    /// Runs one step: drops an empty partition, or begins to delete rows of a tenant. Returns `true` if there may be
    /// more to do.
    pub(super) fn leave_tenants(&mut self, budget: Duration) -> Result<bool, ShardError> {
        let until_us = clock::monotonic_us() + budget.as_micros() as u64 / 2;
        let (keeps, now_us) = (self.retention.keeps.clone(), clock::unix_us());
        for stream in self.families.streams() {
            let Some(column) = stream.tenant else { continue };
            let mut keeps = keeps.iter().filter(|keep| keep.setting == column.setting).peekable();
            if keeps.peek().is_none() {
                continue;
            }
            let sealed = self.sealed(stream)?;
            if let Some(empty) = sealed.iter().find(|partition| partition.rows == 0 && partition.is_indexed) {
                let (partition, reason) = (empty.name.clone(), DropReason::Tenant);
                let leaving =
                    Leaving { stream, partition, cutoff_us: now_us, reason, is_forced: false, count: None };
                self.drop_partition(&leaving, None)?;
                return Ok(true);
            }
            for TenantKeep { tenant_id, keep, .. } in keeps {
                let cutoff_us = now_us.saturating_sub(keep.as_micros() as i64);
                let upto = self.retention.marks.upto(stream, tenant_id);
                let from = sealed.partition_point(|partition| partition.last_id <= upto);
                let old = |partition: &&Sealed| partition.is_indexed && partition.sealed_us <= cutoff_us;
                let tenant = value_of(&self.connection, column, tenant_id)?;
                // Rows leave in order. Those behind a held partition are only noted.
                let mut is_behind = false;
                for partition in sealed[from..].iter().take_while(old) {
                    if clock::monotonic_us() >= until_us && is_behind {
                        break;
                    }
                    let leave = match &tenant {
                        None => Leave::Now,
                        Some(tenant) => {
                            let of = (stream, &**tenant_id);
                            self.may_leave_of_tenant(of, partition, !is_behind, |connection| {
                                count_rows(connection, (stream, column), &partition.name, tenant)
                            })?
                        }
                    };
                    is_behind |= matches!(leave, Leave::Held | Leave::Waits);
                    if is_behind {
                        continue;
                    }
                    if let Some(tenant) = &tenant
                        && has_rows(&self.connection, (stream, column), &partition.name, tenant)?
                    {
                        let (path, name) = (self.path.clone(), partition.name.clone());
                        let listing = std::thread::Builder::new().name("retain".to_owned());
                        let of = (stream, column);
                        let value = tenant.clone();
                        self.retention.tenant = Some(TenantLeaving {
                            stream,
                            column,
                            tenant_id: tenant_id.clone(),
                            tenant: tenant.clone(),
                            sealed: partition.clone(),
                            cutoff_us,
                            is_forced: leave == Leave::Unshipped,
                            listing: Some(listing.spawn(move || list(&path, of, &name, &value))?),
                            rows: TenantRows::default(),
                            at: 0,
                            dropped: 0,
                            unshipped: 0,
                        });
                        return Ok(true);
                    }
                    self.retention.marks.set(stream, tenant_id, partition.last_id);
                    if clock::monotonic_us() >= until_us {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Deletes rows of a tenant for about `budget`, in one transaction with their counters. After an error, the rest is
    /// deleted later.
    pub(super) fn tenant_slice(
        &mut self,
        mut leaving: TenantLeaving,
        budget: Duration,
    ) -> Result<(), ShardError> {
        if let Some(listing) = leaving.listing.take() {
            let gone = |_| ShardError::Other("the thread that lists a tenant's rows is gone".to_owned());
            leaving.rows = listing.join().map_err(gone)??;
        }
        let TenantLeaving { stream, column, cutoff_us, is_forced, .. } = leaving;
        let last_id = leaving.sealed.last_id;
        let (reason, of) = (DropReason::Tenant, (stream, column));
        let partitions = partitions_of(&self.connection, stream)?;
        let Some(store) = self.stores.at(self.families.family_of(stream)) else { return Ok(()) };
        let (tenant_id, partition) = (&*leaving.tenant_id, &*leaving.sealed.name);
        let left = leaving.rows.ids.get(leaving.at..).unwrap_or_default();
        let ids = &left[..left.len().min(self.retention.tenant_rows)];
        let (began_us, budget_us) = (clock::monotonic_us(), budget.as_micros() as u64);
        let until_us = began_us + budget_us / 2;
        let slice = TenantSlice { tenant_id, partition, ids, partitions: &partitions, until_us };
        let Retention { holds, clock, .. } = &self.retention;
        let ship = self.options.ship.as_ref();
        let done = committing(&mut **store, |store| {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // A sink may have been registered while the rows were listed.
            let limits = holds.limits_now(&transaction, ship, clock)?;
            let of_partition = ids_of(&transaction, partition)?;
            if limits.is_shipped()
                && !is_forced
                && holds.judge(&transaction, &limits, stream, of_partition)? != Leave::Now
            {
                return Ok(None);
            }
            let (handled, rows) = store.drop_tenant(&transaction, slice)?;
            let upto_id = match handled.checked_sub(1).and_then(|last| ids.get(last)) {
                Some(id) if handled < left.len() => *id,
                None if !left.is_empty() => return Ok(Some((handled, None))),
                _ => last_id,
            };
            let mut times_left = times_of(&transaction, of, partition, &leaving.tenant)?;
            if let Some((low, high)) = leaving.rows.others {
                times_left = Some(widened(Some(widened(times_left, low)), high));
            }
            let gone = subtract_deleted(&transaction, stream, partition, Deleted { rows, times_left })?;
            TenantMarks::save(&transaction, stream, tenant_id, upto_id)?;
            let confirmed = limits.of(stream.name).confirmed;
            let unshipped = ids[..handled].iter().filter(|id| **id > confirmed).count() as u64;
            let unshipped = unshipped.min(rows);
            for (reason, rows) in [(reason, rows - unshipped), (DropReason::Unshipped, unshipped)] {
                if rows > 0 {
                    dropped::count(&transaction, stream.name, reason, rows, cutoff_us)?;
                }
            }
            transaction.commit()?;
            Ok::<_, ShardError>(Some((handled, Some((gone, upto_id, unshipped)))))
        });
        let Some((handled, done)) = done? else {
            self.retention.holds.look_again();
            return Ok(());
        };
        let took_us = clock::monotonic_us() - began_us;
        if let Some((gone, upto_id, unshipped)) = done {
            let rows = &mut self.retention.tenant_rows;
            match took_us {
                us if us > budget_us => *rows = (*rows / 2).max(ROWS_MIN),
                us if us < budget_us / 2 => *rows = (*rows * 2).min(ROWS_MAX),
                _ => {}
            }
            self.retention.marks.set(stream, &leaving.tenant_id, upto_id);
            self.retention.count_dropped(stream.name, reason, gone.rows - unshipped, cutoff_us);
            self.retention.count_dropped(stream.name, DropReason::Unshipped, unshipped, cutoff_us);
            leaving.dropped += gone.rows;
            leaving.unshipped += unshipped;
            self.rows_gone(stream, &leaving.sealed.name, &gone);
        }
        leaving.at += handled;
        if leaving.at < leaving.rows.ids.len() {
            self.retention.tenant = Some(leaving);
        } else {
            let tenant_id = Some(&*leaving.tenant_id);
            self.report(stream.name, leaving.dropped - leaving.unshipped, cutoff_us, reason, tenant_id);
            self.report(stream.name, leaving.unshipped, cutoff_us, DropReason::Unshipped, tenant_id);
        }
        Ok(())
    }

    /// Begins the pass over the rows of a tenant in a ledger that is due. Returns `true` if there is one.
    pub(super) fn begin_tenant_pass(&mut self) -> Result<bool, ShardError> {
        let now_us = clock::monotonic_us();
        let keeps = self.retention.keeps.clone();
        for ledger in self.families.ledgers() {
            for TenantKeep { tenant_id, keep, .. } in keeps.iter().filter(|of| of.setting == ledger.setting) {
                let is_forced = self.is_pass_forced(ledger, Some(tenant_id));
                let next = &mut self.retention.tenant_passes[ledger.place];
                if !is_forced && next.get(tenant_id).is_some_and(|at_us| *at_us > now_us) {
                    continue;
                }
                next.insert(tenant_id.clone(), now_us.saturating_add(pass_pause_us(*keep)));
                let Some(tenant) = tenant_number(&self.connection, tenant_id)? else { continue };
                let tenant = Some((tenant_id.clone(), tenant));
                let pass = Pass::new(ledger, cutoff_of(*keep), DropReason::Tenant, tenant);
                self.retention.pass = Some(Pass { is_forced, ..pass });
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Seals an open partition that has rows of a tenant and is old for it. Returns `true` if there may be more to do.
    pub(super) fn seal_for_tenants(&mut self, budget: Duration) -> Result<bool, ShardError> {
        let until_us = clock::monotonic_us() + budget.as_micros() as u64 / 2;
        let (keeps, now_us) = (self.retention.keeps.clone(), clock::unix_us());
        let from = std::mem::take(&mut self.retention.seal_at);
        for (at, TenantKeep { tenant_id, setting, keep }) in keeps.iter().enumerate().skip(from) {
            let is_it =
                |stream: &&'static Stream| stream.tenant.is_some_and(|column| column.setting == *setting);
            let Some(stream) = self.families.streams().find(is_it) else { continue };
            let old_us = now_us.saturating_sub((*keep / OPEN_SHARE).as_micros() as i64);
            let open = self.streams.get(stream).open.as_ref();
            let (Some(column), Some(open)) =
                (stream.tenant, open.filter(|open| open.rows > 0 && open.created_us <= old_us))
            else {
                continue;
            };
            if let Some(tenant) = value_of(&self.connection, column, tenant_id)?
                && (open.is_unordered || has_rows(&self.connection, (stream, column), &open.name, &tenant)?)
            {
                self.seal_open(stream)?;
                return Ok(true);
            }
            if clock::monotonic_us() >= until_us {
                self.retention.seal_at = at + 1;
                return Ok(true);
            }
        }
        self.stores.iter_mut().for_each(|store| store.tenants_dropped());
        Ok(false)
    }
}
