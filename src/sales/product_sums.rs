//! Sums by product: counts of orders, units and revenue, without customers and totals.
//!
//! In: one shard's segments, the rows that are in none, and the sums of dropped orders. Out: the sums of each product
//! and currency. Never: another answer than the rows give.
//!
//! Everything is read in one step, from one snapshot. Orders therefore count once, whatever happens to them meanwhile:
//! each order of a partition is in a segment or is read from its row, and a dropped order is in a sum or still has its
//! row in a table that is being freed.

use rusqlite::{Connection, params};

use super::read::{
    SalePart, SaleParts, SalePartsCursor, SaleSplit, SalesSum, SumKey, overlapping, sale_parts, sums_sql,
};
use super::spans::Spans;
use crate::base::money::Currency;
use crate::orders::{
    NextOrders, ORDERS, SalesFilter, SegmentColumns, SegmentHead, SumsBy, currencies, next_orders,
    read_segment_products, rows_as_columns, sales_days, unfreed,
};
use crate::shard::read::pin;
use crate::shard::{PartitionInfo, ShardError, tenant_number};

/// The number of orders that are read from rows at a time.
const ROWS_PER_READ: i64 = if cfg!(test) { 3 } else { 4_096 };
/// Columns are read if at least one in this many of the orders is selected. They are read whole, in about 20 ns an
/// order of any tenant. By index, a selected order takes about 2 us.
const SELECTED_SHARE: u64 = if cfg!(test) { 3 } else { 64 };

/// One product's sum in one group and currency.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    orders: i64,
    units: i128,
    revenue: i128,
}

/// The sums of a question, and the names of their products.
struct ProductSums<'q> {
    tenant: i64,
    of: &'q SalesFilter,
    spans: &'q Spans,
    range: (i64, i64),
    /// The sums of each group and currency, by the number of the name.
    sums: Vec<((u32, Currency), Vec<Sum>)>,
    products: SalePartsCursor,
    names: Vec<String>,
    /// The parts of the current order.
    parts: Vec<(u32, i64, i64)>,
    /// The number of sales and sums so far.
    rows: u64,
}

/// Returns the sums of the sales of `[from, to)` by product, and the number of sales and sums that were read. `inner`
/// is the part of the range that consists of whole days. The orders of other days must have their rows. Takes about
/// 20 ns per order in segments, 1 us per selected order in none, and 1 us per product.
pub(super) fn product_sums(
    connection: &Connection,
    of: &SalesFilter,
    spans: &Spans,
    range: (i64, i64),
    inner: (i64, i64),
) -> Result<(Vec<(SumKey, SalesSum)>, u64), ShardError> {
    let Some(tenant) = tenant_number(connection, &of.tenant_id)? else { return Ok((Vec::new(), 0)) };
    let products = SalePartsCursor::new(SaleSplit::Product, (0, 1));
    let (sums, names, parts) = Default::default();
    let mut adding = ProductSums { tenant, of, spans, range, sums, products, names, parts, rows: 0 };
    adding.live(connection)?;
    if inner.0 < inner.1 {
        adding.dropped(connection, inner)?;
    }
    let rows = adding.rows;
    Ok((adding.done(), rows))
}

impl ProductSums<'_> {
    /// Adds the orders of partitions.
    fn live(&mut self, connection: &Connection) -> Result<(), ShardError> {
        let (from_us, to_us) = self.range;
        let infos = overlapping(connection, i64::MAX, self.range)?;
        let days = sales_days(connection, self.of, (Some(from_us), Some(to_us)))?;
        let wanted: u64 = days.iter().map(|(_, orders)| orders.unsigned_abs()).sum();
        let there: u64 = infos.iter().map(|info| info.rows).sum();
        if wanted * SELECTED_SHARE < there {
            return self.by_index(connection);
        }
        let mut columns = SegmentColumns::default();
        infos.iter().try_for_each(|info| self.partition(connection, info, &mut columns))
    }

    /// Adds the selected orders, found by the index of time.
    fn by_index(&mut self, connection: &Connection) -> Result<(), ShardError> {
        let last = pin(connection, &ORDERS)?;
        let mut reading = Some(SalePartsCursor::new(SaleSplit::Product, (0, 1)));
        let mut names = Vec::new();
        while let Some(from) = reading {
            let (SaleParts { sales, names: more }, next) =
                sale_parts(connection, self.of, last, self.range, from)?;
            names.extend(more);
            self.rows += sales.len() as u64;
            for SalePart { ordered_at_us, name, currency, units, revenue, .. } in sales {
                if let Some(group) = self.spans.group_of(ordered_at_us) {
                    let at = self.place(group, currency);
                    self.add(at, name, (1, units.into(), revenue.into()));
                }
            }
            reading = next;
        }
        // The numbers are those of this reading.
        self.products = SalePartsCursor::with_names(SaleSplit::Product, &names);
        self.names = names;
        Ok(())
    }

    /// Adds the orders of a partition, from its segments, and from rows where there are none.
    fn partition(
        &mut self,
        connection: &Connection,
        info: &PartitionInfo,
        columns: &mut SegmentColumns,
    ) -> Result<(), ShardError> {
        let mut at = info.first_id;
        while at < info.end_id {
            let segment = |head: &SegmentHead| read_segment_products(connection, head, columns);
            let (orders, mut end) = next_orders(connection, (at, info.end_id), self.range, segment)?;
            if orders == NextOrders::Rows {
                end = end.min(at + ROWS_PER_READ);
                *columns = rows_as_columns(connection, &info.name, (at, end), true)?;
            }
            if orders != NextOrders::PassedOver {
                self.columns(connection, columns, self.range)?;
            }
            at = end;
        }
        Ok(())
    }

    /// Adds the dropped orders of whole days: those in sums, and those of tables that are being freed.
    fn dropped(&mut self, connection: &Connection, inner: (i64, i64)) -> Result<(), ShardError> {
        for currency in currencies(connection, self.of, self.tenant)? {
            let mut statement = connection.prepare_cached(&sums_sql(SumsBy::Product))?;
            let mut rows = statement.query(params![self.tenant, currency.as_str(), inner.0, inner.1])?;
            while let Some(row) = rows.next()? {
                let Some(group) = self.spans.group_of(row.get(0)?) else { continue };
                let Some(name) = self.products.number(connection, row.get(1)?, &mut self.names)? else {
                    continue;
                };
                let (units, revenue): (i64, i64) = (row.get(4)?, row.get(5)?);
                let at = self.place(group, currency);
                self.rows += 1;
                self.add(at, name, (row.get(3)?, units.into(), revenue.into()));
            }
        }
        for table in unfreed(connection)? {
            let id = |edge| -> Result<Option<i64>, ShardError> {
                Ok(connection.prepare_cached(&id_sql(&table, edge))?.query_row([], |row| row.get(0))?)
            };
            let (Some(mut at), Some(last)) = (id("min")?, id("max")?) else { continue };
            while at <= last {
                let end = (at + ROWS_PER_READ).min(last + 1);
                let columns = rows_as_columns(connection, &table, (at, end), true)?;
                self.columns(connection, &columns, inner)?;
                at = end;
            }
        }
        Ok(())
    }

    /// Adds the sales of a period among orders.
    fn columns(
        &mut self,
        connection: &Connection,
        columns: &SegmentColumns,
        (from_us, to_us): (i64, i64),
    ) -> Result<(), ShardError> {
        let only = self.of.currency;
        let is_wanted = |used: &Currency| only.is_none_or(|only| only == *used);
        let wanted: Vec<Option<Currency>> =
            columns.used.iter().map(|used| Some(*used).filter(is_wanted)).collect();
        // Neighbours are mostly in one period, and often in one currency.
        let mut span = ((i64::MAX, i64::MIN), 0_u32);
        let mut last: Option<((u32, Currency), usize)> = None;
        let mut end = 0;
        for (place, items) in columns.items.iter().enumerate() {
            let first = end;
            end += *items as usize;
            let at_us = columns.times_us[place];
            let is_sale = (1..=4).contains(&columns.statuses[place]) && columns.tenants[place] == self.tenant;
            if !is_sale || at_us < from_us || at_us >= to_us {
                continue;
            }
            let Some(Some(currency)) = wanted.get(columns.currencies[place] as usize) else { continue };
            if at_us < span.0.0 || at_us >= span.0.1 {
                let Some(found) = self.spans.find(at_us) else { continue };
                span = found;
            }
            let key = (span.1, *currency);
            let at = match last {
                Some((known, at)) if known == key => at,
                _ => self.place(key.0, key.1),
            };
            last = Some((key, at));
            self.rows += 1;
            self.parts.clear();
            for item in first..end {
                let number = self.products.number(connection, columns.products[item], &mut self.names)?;
                let Some(name) = number else { continue };
                let units = columns.quantities[item];
                let revenue = units.saturating_mul(columns.unit_prices[item]);
                // A linear search, because orders have few items.
                match self.parts.iter_mut().find(|(known, ..)| *known == name) {
                    Some((_, all_units, all_revenue)) => {
                        *all_units = all_units.saturating_add(units);
                        *all_revenue = all_revenue.saturating_add(revenue);
                    }
                    None => self.parts.push((name, units, revenue)),
                }
            }
            for part in 0..self.parts.len() {
                let (name, units, revenue) = self.parts[part];
                self.add(at, name, (1, units.into(), revenue.into()));
            }
        }
        Ok(())
    }

    /// Returns the place of the sums of a group and currency.
    fn place(&mut self, group: u32, currency: Currency) -> usize {
        let key = (group, currency);
        self.sums.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
            self.sums.push((key, Vec::new()));
            self.sums.len() - 1
        })
    }

    #[inline]
    fn add(&mut self, at: usize, name: u32, (orders, units, revenue): (i64, i128, i128)) {
        let sums = &mut self.sums[at].1;
        let name = name as usize;
        if name >= sums.len() {
            sums.resize((name + 1).max(sums.len() * 2), Sum::default());
        }
        let sum = &mut sums[name];
        sum.orders += orders;
        sum.units += units;
        sum.revenue += revenue;
    }

    fn done(self) -> Vec<(SumKey, SalesSum)> {
        let ProductSums { sums, names, .. } = self;
        let mut found = Vec::new();
        for ((group, currency), sums) in sums {
            for (name, Sum { orders, units, revenue }) in names.iter().zip(sums) {
                if orders > 0 || units > 0 {
                    let sum = SalesSum { orders, units, revenue, ..SalesSum::default() };
                    found.push(((group, name.clone(), currency), sum));
                }
            }
        }
        found
    }
}

/// Returns the SQL that reads the first (`min`) or the last (`max`) id of a table.
pub(super) fn id_sql(table: &str, edge: &str) -> String {
    format!("SELECT {edge}(id) FROM {table}")
}
