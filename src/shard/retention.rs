//! The state of retention in one shard.

use std::any::Any;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use rusqlite::Connection;
use rusqlite::types::Value;

use super::drop_slice::DroppedSlice;
use super::dropped::{DropReason, DroppedRows, dropped_rows};
use super::error::ShardError;
use super::holds::Holds;
use super::partitions::Sealed;
use super::retain_clock::RetainClock;
use super::sizes::Sizes;
use super::stream::{Ledger, STREAMS_MAX, Stream, TenantColumn};
use super::tenant_keeps::TenantKeep;
use super::tenant_marks::TenantMarks;
use super::totals;
use crate::base::clock;

/// The minimum number of a tenant's rows in one transaction. What follows from the rows (buckets, sums) takes far longer
/// for some than for others, so the number follows the time that the last transactions took.
pub(super) const ROWS_MIN: usize = if cfg!(test) { 3 } else { 16 };

/// The state of retention.
#[derive(Debug)]
pub(super) struct Retention {
    pub(super) clock: RetainClock,
    pub(super) look_at_us: u64,
    /// Whether dropped tables have pages to free.
    pub(super) freeing: bool,
    /// The partition whose contribution to its family's derived tables is being counted.
    pub(super) leaving: Option<Leaving>,
    /// The running pass over a ledger.
    pub(super) pass: Option<Pass>,
    /// The monotonic time of the next pass over each ledger. A ledger that is not listed is due.
    pub(super) next_passes: Vec<(&'static Ledger, u64)>,
    pub(super) sizes: Sizes,
    /// The ages of tenants that are in force.
    pub(super) keeps: Arc<Vec<TenantKeep>>,
    pub(super) marks: TenantMarks,
    /// The tenant whose rows are leaving a partition.
    pub(super) tenant: Option<TenantLeaving>,
    /// The maximum number of a tenant's rows in the next transaction.
    pub(super) tenant_rows: usize,
    /// The monotonic time of the next pass over a tenant's rows, by the index of the ledger. A tenant that is not listed
    /// is due.
    pub(super) tenant_passes: [HashMap<Box<str>, u64>; STREAMS_MAX],
    /// The index of the age with which the search for partitions to seal continues.
    pub(super) seal_at: usize,
    pub(super) holds: Holds,
    /// What was dropped so far, as committed.
    pub(super) dropped: Vec<DroppedRows>,
}

#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) stream: &'static Stream,
    pub(super) partition: String,
    pub(super) cutoff_us: i64,
    pub(super) reason: DropReason,
    /// It leaves although a sink has not confirmed it.
    pub(super) is_forced: bool,
    pub(super) count: Option<JoinHandle<Result<Box<dyn Any + Send>, ShardError>>>,
}

/// The earliest and latest time of rows, if there are any.
pub(super) type Times = Option<(i64, i64)>;

/// The rows of a tenant in a sealed partition, and the times that remain without them.
#[derive(Debug, Default)]
pub(super) struct TenantRows {
    /// The ids of the tenant's rows, in ascending order.
    pub(super) ids: Vec<i64>,
    /// The times of all other rows.
    pub(super) others: Times,
}

/// A tenant's rows that are leaving a sealed partition.
#[derive(Debug)]
pub(super) struct TenantLeaving {
    pub(super) stream: &'static Stream,
    pub(super) column: TenantColumn,
    pub(super) tenant_id: Box<str>,
    /// The tenant's value in the column.
    pub(super) tenant: Value,
    /// The ids and the number of the rows when it began to leave.
    pub(super) sealed: Sealed,
    pub(super) cutoff_us: i64,
    /// Its rows leave although a sink has not confirmed them.
    pub(super) is_forced: bool,
    pub(super) listing: Option<JoinHandle<Result<TenantRows, ShardError>>>,
    pub(super) rows: TenantRows,
    /// The number of listed rows that were handled.
    pub(super) at: usize,
    /// Rows deleted so far, and those of them that a sink has not confirmed.
    pub(super) dropped: u64,
    pub(super) unshipped: u64,
}

/// A pass over all rows of a ledger, or over those of one tenant.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) ledger: &'static Ledger,
    pub(super) cutoff_us: i64,
    pub(super) reason: DropReason,
    /// The name and number of the tenant.
    pub(super) tenant: Option<(Box<str>, i64)>,
    /// The result so far.
    pub(super) done: DroppedSlice,
    pub(super) is_begun: bool,
    /// Rows leave although a sink has not confirmed them.
    pub(super) is_forced: bool,
    /// The monotonic time of the beginning.
    pub(super) began_us: u64,
}

impl Pass {
    pub(super) fn new(
        ledger: &'static Ledger,
        cutoff_us: i64,
        reason: DropReason,
        tenant: Option<(Box<str>, i64)>,
    ) -> Pass {
        let (done, began_us) = (DroppedSlice::default(), clock::monotonic_us());
        Pass { ledger, cutoff_us, reason, tenant, done, is_begun: false, is_forced: false, began_us }
    }
}

impl Retention {
    pub(super) fn is_pass_due(&self, ledger: &'static Ledger, now_us: u64) -> bool {
        self.next_passes.iter().all(|(known, at_us)| *known != ledger || *at_us <= now_us)
    }

    pub(super) fn next_pass(&mut self, ledger: &'static Ledger, at_us: u64) {
        self.next_passes.retain(|(known, _)| *known != ledger);
        self.next_passes.push((ledger, at_us));
    }

    /// Counts rows that a committed transaction dropped.
    pub(super) fn count_dropped(&mut self, kind: &str, reason: DropReason, rows: u64, cutoff_us: i64) {
        let is_it = |known: &&mut DroppedRows| known.kind == kind && known.reason == reason.as_str();
        match self.dropped.iter_mut().find(is_it) {
            Some(known) => {
                known.rows += rows;
                known.cutoff_us = known.cutoff_us.max(cutoff_us);
            }
            None if rows == 0 => {}
            None => self.dropped.push(DroppedRows {
                kind: kind.to_owned(),
                reason: reason.as_str().to_owned(),
                rows,
                cutoff_us,
            }),
        }
    }

    /// Makes a pass over a ledger due at a time, unless it is due earlier.
    pub(super) fn pass_sooner(&mut self, ledger: &'static Ledger, tenant_id: &str, at_us: u64) {
        if tenant_id.is_empty() {
            let next = self.next_passes.iter_mut().filter(|(known, _)| *known == ledger);
            next.for_each(|(_, known_us)| *known_us = at_us.min(*known_us));
        } else if let Some(known_us) = self.tenant_passes[ledger.place].get_mut(tenant_id) {
            *known_us = at_us.min(*known_us);
        }
    }

    /// Discards a running count and a list of rows, because rows are about to change. Both are repeated later.
    pub(super) fn stop_counting(&mut self) {
        self.leaving = None;
        self.tenant = None;
    }

    pub(super) fn load(
        connection: &Connection,
        path: &Path,
        streams: impl Iterator<Item = &'static Stream>,
        keeps: Arc<Vec<TenantKeep>>,
    ) -> Result<Retention, ShardError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM dropped_partition)";
        let freeing = connection.query_row(sql, [], |row| row.get(0))?;
        let held = totals::find(connection, HELD)?;
        let clock = RetainClock::of_shard(path, held);
        if held.is_some() || clock.is_held() {
            write_hold(connection, &clock)?;
        }
        Ok(Retention {
            clock,
            look_at_us: 0,
            freeing,
            leaving: None,
            pass: None,
            next_passes: Vec::new(),
            sizes: Sizes::load(connection)?,
            keeps,
            marks: TenantMarks::load(connection, streams)?,
            tenant: None,
            tenant_rows: ROWS_MIN,
            tenant_passes: Default::default(),
            seal_at: 0,
            holds: Holds::default(),
            dropped: dropped_rows(connection)?,
        })
    }
}

/// The total that stores how far ahead the clock was when dropping stopped. It exists only while dropping is stopped.
/// Without it, a restart would trust the clock, because writes in the meantime make the file look new.
const HELD: &str = "retention_held_us";

pub(super) fn write_hold(connection: &Connection, clock: &RetainClock) -> Result<(), ShardError> {
    let held = clock.is_held().then(|| clock.ahead_us());
    match (totals::find(connection, HELD)?, held) {
        (stored, held) if stored == held => Ok(()),
        (_, Some(ahead_us)) => totals::set(connection, HELD, ahead_us),
        (_, None) => totals::remove(connection, HELD),
    }
}
