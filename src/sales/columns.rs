//! Sales from columns: a step reads segments, and rows where there are none, and adds their sales to groups.
//!
//! In: one shard's segments. Out: the sales of each group and currency. Never: another answer than the rows give.

mod groups;
mod masks;
mod names;

use rusqlite::Connection;

use self::groups::Sale;
pub(super) use self::groups::{GroupKey, SaleGroups, SaleList};
pub(super) use self::masks::{CustomerMasks, LISTS_MAX};
pub(super) use self::names::NameTable;
pub use self::names::name_statement;
use super::read::overlapping;
use super::spans::Spans;
use crate::base::clock;
use crate::orders::{
    NextOrders, SalesFilter, SegmentColumns, SegmentHead, next_orders, read_segment, rows_as_columns,
    sales_days, segmented_to,
};
use crate::shard::{PartitionInfo, ShardError, tenant_number};

/// The time after which a step ends. One that begins to read a segment finishes it, in about a millisecond.
const STEP_US: u64 = 10_000;
/// The number of orders that are read from rows at a time.
const ROWS_PER_READ: i64 = if cfg!(test) { 3 } else { 4_096 };

/// The grouping of sales.
#[derive(Debug)]
pub(super) enum Grouping {
    /// The periods of the question.
    Periods,
    /// Names, of sales in any period.
    Names(NameTable),
}

/// The state of reading one shard. Each step passes it to the next.
#[derive(Debug)]
pub(super) struct ColumnScan {
    of: SalesFilter,
    pin: i64,
    spans: Spans,
    window: (i64, i64),
    grouping: Grouping,
    pub(super) groups: SaleGroups,
    /// The first order of the window's partitions, and the next one to read.
    from: i64,
    at: i64,
    pub(super) is_done: bool,
}

impl ColumnScan {
    /// Returns the state before the first step. Orders with ids up to `pin` count.
    pub(super) fn new(of: SalesFilter, pin: i64, spans: Spans, grouping: Grouping) -> ColumnScan {
        let groups = match &grouping {
            Grouping::Periods => SaleGroups::default(),
            Grouping::Names(_) => SaleGroups::with_masks(),
        };
        ColumnScan { of, pin, spans, window: (0, 0), grouping, groups, from: 0, at: 0, is_done: true }
    }

    /// Returns the result of a shard that was never written.
    pub(super) fn absent(&self) -> ColumnScan {
        ColumnScan::new(self.of.clone(), 0, self.spans.clone(), Grouping::Periods)
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

    /// Returns the names of groups by name.
    pub(super) fn names(&mut self) -> Vec<String> {
        match &mut self.grouping {
            Grouping::Names(table) => std::mem::take(&mut table.names),
            Grouping::Periods => Vec::new(),
        }
    }

    /// Runs a step, until it has taken 10 ms or its groups have grown by `bytes_max`.
    pub(super) fn step(
        mut self,
        connection: &Connection,
        bytes_max: usize,
    ) -> Result<ColumnScan, ShardError> {
        let until_us = clock::monotonic_us() + STEP_US;
        let until_bytes = self.groups.bytes() + bytes_max;
        let Some(tenant) = tenant_number(connection, &self.of.tenant_id)? else {
            self.is_done = true;
            return Ok(self);
        };
        if let Grouping::Names(table) = &mut self.grouping
            && !table.read(connection, tenant, until_us)?
        {
            return Ok(self);
        }
        let infos = overlapping(connection, self.pin, self.window)?;
        if self.at == 0 {
            self.from = infos.first().map_or(0, |info| info.first_id);
            self.at = self.from;
        }
        let mut columns = SegmentColumns::default();
        while let Some(info) = infos.iter().find(|info| info.end_id.min(self.pin + 1) > self.at) {
            self.read(connection, tenant, info, &mut columns)?;
            if clock::monotonic_us() >= until_us || self.groups.bytes() > until_bytes {
                return Ok(self);
            }
        }
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
        let with_items = matches!(self.grouping, Grouping::Names(_));
        let segment = |head: &SegmentHead| read_segment(connection, head, with_items, columns);
        let (orders, mut next) = next_orders(connection, (from, end), self.window, segment)?;
        if orders == NextOrders::Rows {
            next = next.min(from + ROWS_PER_READ);
            *columns = rows_as_columns(connection, &info.name, (from, next), with_items)?;
        }
        if orders != NextOrders::PassedOver {
            self.add(tenant, columns, (end.min(next) - from) as usize)?;
        }
        self.at = next;
        Ok(())
    }

    /// Adds the sales among the first `count` orders.
    fn add(&mut self, tenant: i64, columns: &SegmentColumns, count: usize) -> Result<(), ShardError> {
        let count = count.min(columns.statuses.len());
        let ColumnScan { of, spans, window, grouping, groups, .. } = self;
        let places: Vec<Option<usize>> = columns
            .used
            .iter()
            .map(|used| of.currency.is_none_or(|only| only == *used).then(|| groups.currency(*used)))
            .collect();
        // Sales are roughly ordered by time, so neighbours are mostly in one period.
        let mut span = ((i64::MAX, i64::MIN), 0_u32);
        let mut group_of = |at_us: i64| {
            if at_us < span.0.0 || at_us >= span.0.1 {
                span = spans.find(at_us)?;
            }
            Some(span.1)
        };
        // Returns the place of a sale's currency, and its period.
        let mut selected = |place: usize| {
            let at_us = columns.times_us[place];
            let is_sale = (1..=4).contains(&columns.statuses[place]) && columns.tenants[place] == tenant;
            if !is_sale || at_us < window.0 || at_us >= window.1 {
                return None;
            }
            Some((*places.get(columns.currencies[place] as usize)?.as_ref()?, group_of(at_us)?))
        };
        let sale = |place: usize, units, revenue| Sale {
            customer: columns.customers[place] as u64,
            total: columns.totals[place],
            units,
            revenue,
        };
        let Grouping::Names(names) = grouping else {
            for place in 0..count {
                if let Some((currency, group)) = selected(place) {
                    groups.push(currency, group, sale(place, columns.units[place], columns.totals[place]));
                }
            }
            return Ok(());
        };
        let (mut end, mut parts) = (0, Vec::<(u32, i64, i64)>::new());
        for place in 0..count {
            let first = end;
            end += columns.items[place] as usize;
            let Some((currency, _)) = selected(place) else { continue };
            parts.clear();
            for item in first..end {
                let Some(name) = names.place(columns.products[item])? else { continue };
                let units = columns.quantities[item];
                let revenue = units.saturating_mul(columns.unit_prices[item]);
                // A linear search, because orders have few items.
                match parts.iter_mut().find(|(known, ..)| *known == name) {
                    Some((_, all_units, all_revenue)) => {
                        *all_units = all_units.saturating_add(units);
                        *all_revenue = all_revenue.saturating_add(revenue);
                    }
                    None => parts.push((name, units, revenue)),
                }
            }
            let push = |mask, (name, units, revenue): &(u32, i64, i64)| {
                mask | groups.push(currency, *name, sale(place, *units, *revenue))
            };
            let mask = parts.iter().fold(0, push);
            groups.add_customer(columns.customers[place] as u64, mask);
        }
        Ok(())
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
