//! Reads the data of selected orders.

use rusqlite::{Connection, Row};

use super::super::super::record::ITEM_IDS;
use super::super::super::schema::{item_ids, items_sql};
use super::batch::{BatchBounds, BatchItem, BatchOrder, OrderBatch};
use super::cache::StepCache;
use super::choose::ChosenOrder;
use super::columns::HeldSegment;
use super::{LOOK, STEP_US, currency};
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::orders::schema::ORDERS;
use crate::orders::status::OrderStatus;
use crate::shard::{ShardError, partitions_of, tenant_number};

/// The cost of looking up a selected row, relative to reading an unselected one.
const DENSE: i64 = 4;

/// The shard and the tenant that the selected orders belong to.
#[derive(Clone, Copy, Debug)]
pub struct OrderSource<'a> {
    pub shard: ShardId,
    pub tenant_id: &'a str,
}

/// Adds selected orders, all of one shard, to the batch until a bound or the time limit is reached. Returns the
/// number of orders added. If most of the stored orders are selected, it takes about 0.5 us an order that is in a
/// segment, otherwise 1 us and 0.3 us an item. The batch is the same in both cases.
pub fn read_orders(
    connection: &Connection,
    of: OrderSource<'_>,
    chosen: &[ChosenOrder],
    bounds: BatchBounds,
    batch: &mut OrderBatch,
    cache: &mut StepCache,
) -> Result<usize, ShardError> {
    cache.begin(connection, of.shard)?;
    let StepCache { names, segment, .. } = cache;
    let tenant = tenant_number(connection, of.tenant_id)?.ok_or_else(gone)?;
    let until_us = clock::monotonic_us() + STEP_US;
    let infos = partitions_of(connection, &ORDERS)?;
    let before = (batch.orders.len(), batch.items.len());
    // The numbers of the names. The names are looked up later.
    let (mut customers, mut products) = (Vec::new(), Vec::new());
    let mut taken = 0;
    while taken < chosen.len() && !bounds.is_full(batch) {
        let rest = &chosen[taken..];
        let info = infos.iter().rev().find(|info| info.first_id <= rest[0].id).ok_or_else(gone)?;
        let of_partition =
            rest.iter().take_while(|one| (info.first_id..info.end_id).contains(&one.id)).count();
        let room = bounds.orders.saturating_sub(batch.orders.len());
        let run = &rest[..of_partition.min(LOOK).min(room)];
        if run.is_empty() {
            return Err(gone());
        }
        let mut reading = Reading {
            connection,
            tenant,
            partition: &info.name,
            bounds,
            batch,
            customers: &mut customers,
            products: &mut products,
        };
        let is_dense = run.is_sorted_by(|one, other| one.id < other.id)
            && run[run.len() - 1].id - run[0].id < DENSE * run.len() as i64;
        taken += if !is_dense {
            reading.single(run)?
        } else {
            match segment.hold(connection, info, run)? {
                0 => reading.dense(run)?,
                held => reading.held(&run[..held], segment)?,
            }
        };
        if clock::monotonic_us() >= until_us {
            break;
        }
    }
    names.add_customers(connection, &customers, batch, |batch, at, place| {
        batch.orders[before.0 + at].customer = place;
    })?;
    names.add_products(connection, &products, batch, |batch, at, place| {
        batch.items[before.1 + at].product = place;
    })?;
    Ok(taken)
}

fn gone() -> ShardError {
    ShardError::Other("orders of the export no longer exist".to_owned())
}

/// Reads a run of orders of one partition into a batch.
struct Reading<'r, 'c> {
    connection: &'c Connection,
    /// The tenant of the export. No other tenant's order is exported, even if the shard's file has been replaced by
    /// one with other ids since the selection.
    tenant: i64,
    partition: &'r str,
    bounds: BatchBounds,
    batch: &'r mut OrderBatch,
    customers: &'r mut Vec<i64>,
    products: &'r mut Vec<i64>,
}

impl Reading<'_, '_> {
    /// Reads orders and items side by side, in one full scan.
    fn dense(&mut self, run: &[ChosenOrder]) -> Result<usize, ShardError> {
        let (first, last) = (run[0].id, run[run.len() - 1].id);
        let mut orders = self.connection.prepare_cached(&orders_sql(self.partition))?;
        let mut items = self.connection.prepare_cached(&items_sql(self.partition))?;
        let mut rows = orders.query([first, last])?;
        let mut lines = items.query(item_ids(first, last))?;
        let mut line = if self.bounds.with_items { lines.next()? } else { None };
        for (at, one) in run.iter().enumerate() {
            loop {
                let row = rows.next()?.ok_or_else(gone)?;
                let id: i64 = row.get(0)?;
                if id == one.id {
                    self.order(row, one.status)?;
                    break;
                }
                if id > one.id {
                    return Err(gone());
                }
            }
            while let Some(current) = line {
                let id: i64 = current.get(3)?;
                if id / ITEM_IDS > one.id {
                    line = Some(current);
                    break;
                }
                if id / ITEM_IDS == one.id {
                    self.item(current, id)?;
                }
                line = lines.next()?;
            }
            self.ended();
            if self.bounds.is_full(self.batch) {
                return Ok(at + 1);
            }
        }
        Ok(run.len())
    }

    /// Reads orders that are in the segment that is held, in one scan of their rows.
    fn held(&mut self, run: &[ChosenOrder], segment: &HeldSegment) -> Result<usize, ShardError> {
        let mut orders = self.connection.prepare_cached(&held_orders_sql(self.partition))?;
        let mut rows = orders.query([run[0].id, run[run.len() - 1].id])?;
        for (at, one) in run.iter().enumerate() {
            let row = loop {
                let row = rows.next()?.ok_or_else(gone)?;
                match row.get::<_, i64>(0)? {
                    id if id < one.id => {}
                    id if id == one.id => break row,
                    _ => return Err(gone()),
                }
            };
            if row.get::<_, i64>(4)? != self.tenant {
                return Err(gone());
            }
            let numbers = segment.order(one.id).ok_or_else(gone)?;
            let order_id = self.batch.keep(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?);
            self.customers.push(row.get(2)?);
            self.batch.orders.push(BatchOrder {
                order_id,
                customer: 0,
                status: one.status,
                currency: numbers.currency,
                ordered_at_us: numbers.ordered_at_us,
                received_us: row.get(3)?,
                total: numbers.total,
                units: numbers.units,
                item_count: numbers.item_count,
                items_end: 0,
            });
            if self.bounds.with_items {
                for (product, item) in segment.items(&numbers) {
                    self.products.push(product);
                    self.batch.items.push(item);
                }
            }
            self.ended();
            if self.bounds.is_full(self.batch) {
                return Ok(at + 1);
            }
        }
        Ok(run.len())
    }

    /// Looks up each order separately.
    fn single(&mut self, run: &[ChosenOrder]) -> Result<usize, ShardError> {
        let mut orders = self.connection.prepare_cached(&orders_sql(self.partition))?;
        let mut items = self.connection.prepare_cached(&items_sql(self.partition))?;
        for (at, one) in run.iter().enumerate() {
            let mut rows = orders.query([one.id, one.id])?;
            self.order(rows.next()?.ok_or_else(gone)?, one.status)?;
            if self.bounds.with_items {
                let mut lines = items.query(item_ids(one.id, one.id))?;
                while let Some(line) = lines.next()? {
                    self.item(line, line.get(3)?)?;
                }
            }
            self.ended();
            if self.bounds.is_full(self.batch) {
                return Ok(at + 1);
            }
        }
        Ok(run.len())
    }

    fn order(&mut self, row: &Row<'_>, status: OrderStatus) -> Result<(), ShardError> {
        if row.get::<_, i64>(9)? != self.tenant {
            return Err(gone());
        }
        let order_id = self.batch.keep(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?);
        self.customers.push(row.get(2)?);
        self.batch.orders.push(BatchOrder {
            order_id,
            customer: 0,
            status,
            currency: currency(row, 3)?,
            ordered_at_us: row.get(4)?,
            total: row.get(5)?,
            units: row.get(6)?,
            item_count: row.get(7)?,
            received_us: row.get(8)?,
            items_end: 0,
        });
        Ok(())
    }

    fn item(&mut self, row: &Row<'_>, id: i64) -> Result<(), ShardError> {
        self.products.push(row.get(0)?);
        let line = (id % ITEM_IDS) as u32 + 1;
        self.batch.items.push(BatchItem { line, product: 0, quantity: row.get(1)?, unit_price: row.get(2)? });
        Ok(())
    }

    fn ended(&mut self) {
        let items_end = self.batch.items.len() as u32;
        if let Some(order) = self.batch.orders.last_mut() {
            order.items_end = items_end;
        }
    }
}

pub(super) fn orders_sql(partition: &str) -> String {
    format!(
        "SELECT id, order_id, customer, currency, ordered_at_us, total, units, items, received_us, tenant \
         FROM {partition} WHERE id >= ?1 AND id <= ?2 ORDER BY id"
    )
}

/// Returns the SQL that reads of orders what no segment has.
pub(super) fn held_orders_sql(partition: &str) -> String {
    format!(
        "SELECT id, order_id, customer, received_us, tenant FROM {partition} WHERE id >= ?1 AND id <= ?2 ORDER BY id"
    )
}
