//! Sales from columns: a step reads segments, and rows where there are none, and adds their sales to groups.
//!
//! In: one shard's segments. Out: the sales of each group and currency. Never: another answer than the rows give.

mod categories;
mod groups;
mod log;
mod masks;
mod names;
mod periods;
mod pool;

use rusqlite::Connection;

use self::categories::CategoryLists;
pub(super) use self::categories::SharedLists;
pub(super) use self::groups::{GroupKey, SaleList};
use self::log::SaleLog;
pub(super) use self::log::{BUCKETS, Bucket, LARGE, LoggedOrders, PartSum};
pub(super) use self::names::NameTable;
pub use self::names::name_statement;
pub(super) use self::periods::PeriodScan;
pub(super) use self::pool::ColumnPool;
use super::read::{SaleSplit, overlapping};
use super::spans::Spans;
use crate::base::clock;
use crate::base::money::Currency;
use crate::orders::{
    NextOrders, SalesFilter, SegmentColumns, SegmentHead, next_orders, read_segment, rows_as_columns,
    sales_days, segmented_to,
};
use crate::shard::{PartitionInfo, ShardError, tenant_number};

/// The time after which a step ends. One that begins to read a segment finishes it, in about a millisecond.
const STEP_US: u64 = 10_000;
/// The number of orders that are read from rows at a time.
const ROWS_PER_READ: i64 = if cfg!(test) { 3 } else { 4_096 };

/// The state of reading one shard's sales by name. Each step passes it to the next.
#[derive(Debug)]
pub(super) struct ColumnScan {
    of: SalesFilter,
    pin: i64,
    spans: Spans,
    window: (i64, i64),
    names: NameTable,
    /// The sales by category.
    lists: CategoryLists,
    /// The sales by product, of which there are many.
    pub(super) log: SaleLog,
    /// The first order of the window's partitions, and the next one to read.
    from: i64,
    at: i64,
    pub(super) is_done: bool,
}

impl ColumnScan {
    /// Returns the state before the first step. Orders with ids up to `pin` count.
    pub(super) fn new(
        of: SalesFilter,
        pin: i64,
        spans: Spans,
        names: NameTable,
        shared: SharedLists,
    ) -> ColumnScan {
        let (lists, log) = (CategoryLists::new(shared), SaleLog::default());
        ColumnScan { of, pin, spans, window: (0, 0), names, lists, log, from: 0, at: 0, is_done: true }
    }

    /// Returns the result of a shard that was never written.
    pub(super) fn absent(&self) -> ColumnScan {
        let names = NameTable::new(self.names.by(), (0, 1));
        ColumnScan::new(self.of.clone(), 0, self.spans.clone(), names, SharedLists::default())
    }

    /// Begins to read the sales of `[from, to)`.
    pub(super) fn begin(&mut self, window: (i64, i64)) {
        (self.window, self.at, self.is_done) = (window, 0, false);
    }

    /// Returns the fraction of the shard's orders that were read.
    pub(super) fn progress(&self) -> f64 {
        let (read, all) = (self.at - self.from, self.pin + 1 - self.from);
        if self.is_done { 1.0 } else { (read as f64 / all.max(1) as f64).clamp(0.0, 1.0) }
    }

    /// Returns the memory of all groups, without the set of customers that all shards share.
    pub(super) fn bytes(&self) -> usize {
        self.lists.bytes() + self.log.bytes()
    }

    /// Returns the number of sales so far.
    pub(super) fn rows(&self) -> u64 {
        self.lists.rows + self.log.rows
    }

    /// Removes the lists by category, with their numbers.
    pub(super) fn take_lists(&mut self) -> impl Iterator<Item = (usize, SaleList)> {
        self.lists.take()
    }

    /// Returns the names of groups by name.
    pub(super) fn names(&mut self) -> Vec<String> {
        std::mem::take(&mut self.names.names)
    }

    /// Runs a step, until it has taken 10 ms or its groups have grown by `bytes_max`.
    pub(super) fn step(
        mut self,
        connection: &Connection,
        bytes_max: usize,
    ) -> Result<ColumnScan, ShardError> {
        let until_us = clock::monotonic_us() + STEP_US;
        let until_bytes = self.bytes() + bytes_max;
        let Some(tenant) = tenant_number(connection, &self.of.tenant_id)? else {
            self.is_done = true;
            return Ok(self);
        };
        if !self.names.read(connection, tenant, until_us)? {
            return Ok(self);
        }
        let infos = overlapping(connection, self.pin, self.window)?;
        if self.at == 0 {
            self.from = infos.first().map_or(0, |info| info.first_id);
            self.at = self.from;
        }
        let pool = self.lists.pool();
        let mut columns = pool.take();
        while let Some(info) = infos.iter().find(|info| info.end_id.min(self.pin + 1) > self.at) {
            self.read(connection, tenant, info, &mut columns)?;
            if clock::monotonic_us() >= until_us || self.bytes() > until_bytes {
                pool.put_back(columns);
                return Ok(self);
            }
        }
        pool.put_back(columns);
        self.is_done = true;
        Ok(self)
    }

    /// Reads the next segment of a partition, or the next rows.
    fn read(
        &mut self,
        connection: &Connection,
        tenant: i64,
        info: &PartitionInfo,
        columns: &mut SegmentColumns,
    ) -> Result<(), ShardError> {
        let (from, end) = (self.at.max(info.first_id), info.end_id.min(self.pin + 1));
        let segment = |head: &SegmentHead| read_segment(connection, head, true, columns);
        let (orders, mut next) = next_orders(connection, (from, end), self.window, segment)?;
        if orders == NextOrders::Rows {
            next = next.min(from + ROWS_PER_READ);
            *columns = rows_as_columns(connection, &info.name, (from, next), true)?;
        }
        if orders != NextOrders::PassedOver {
            self.add(tenant, columns, (end.min(next) - from) as usize)?;
        }
        self.at = next;
        Ok(())
    }

    /// Adds the sales among the first `count` orders.
    fn add(&mut self, tenant: i64, columns: &SegmentColumns, count: usize) -> Result<(), ShardError> {
        let selected = self.selected(tenant, columns, count);
        let ColumnScan { names, lists, log, .. } = self;
        match names.by() {
            SaleSplit::Category => lists.add(columns, &selected, names),
            SaleSplit::Product => log.add(columns, &selected, names),
        }
    }

    /// Returns for each of the first `count` orders the place of its currency and its period, if it is selected.
    fn selected(&mut self, tenant: i64, columns: &SegmentColumns, count: usize) -> Vec<Option<(u32, u32)>> {
        let ColumnScan { of, spans, window, names, lists, log, .. } = self;
        let is_logged = names.by() == SaleSplit::Product;
        let mut currency = |used| if is_logged { log.currency(used) } else { lists.currency(used) };
        let is_wanted = |used: Currency| of.currency.is_none_or(|only| only == used);
        let places: Vec<Option<u32>> =
            columns.used.iter().map(|used| is_wanted(*used).then(|| currency(*used) as u32)).collect();
        // Sales are roughly ordered by time, so neighbours are mostly in one period.
        let mut span = ((i64::MAX, i64::MIN), 0_u32);
        let numbers = columns.statuses.iter().zip(&columns.tenants).take(count);
        let numbers = numbers.zip(columns.times_us.iter().zip(&columns.currencies));
        let select = |((status, of), (at_us, currency)): ((&i64, &i64), (&i64, &i64))| {
            let is_sale = (1..=4).contains(status) && *of == tenant;
            if !is_sale || *at_us < window.0 || *at_us >= window.1 {
                return None;
            }
            let currency = places.get(*currency as usize).copied().flatten()?;
            if *at_us < span.0.0 || *at_us >= span.0.1 {
                span = spans.find(*at_us)?;
            }
            Some((currency, span.1))
        };
        numbers.map(select).collect()
    }
}

/// The orders that a question reads in one shard.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Coverage {
    /// The sales that are selected, about.
    pub(super) wanted: i64,
    /// The orders of the partitions that may have some.
    pub(super) orders: i64,
    /// Those of them that are in no segment.
    pub(super) uncovered: i64,
}

/// Returns what the sales of `[from, to)` need of a shard. Takes about 10 us a partition.
pub(super) fn coverage(
    connection: &Connection,
    of: &SalesFilter,
    range: (i64, i64),
) -> Result<Coverage, ShardError> {
    let days = sales_days(connection, of, (Some(range.0), Some(range.1)))?;
    let mut found = Coverage { wanted: days.iter().map(|(_, orders)| orders).sum(), ..Coverage::default() };
    for info in overlapping(connection, i64::MAX, range)? {
        found.orders += info.end_id - info.first_id;
        found.uncovered += info.end_id - segmented_to(connection, &info)?;
    }
    Ok(found)
}
