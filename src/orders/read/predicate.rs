//! The conditions on an order, expressed in one shard's numbers.

use rusqlite::{Connection, params};

use super::customers::CustomerSet;
use super::filter::OrderFilter;
use super::indexed::IndexedOrder;
use crate::orders::schema::{item_ids, items_sql};
use crate::shard::ShardError;
use crate::shard::read::Position;

/// The conditions on a row, expressed in the shard's own numbers.
pub(in crate::orders) struct OrderPredicate<'a> {
    pub(in crate::orders) of: &'a OrderFilter,
    pub(in crate::orders) tenant: i64,
    /// The selected products, sorted. `None` selects all products.
    pub(in crate::orders) products: Option<Vec<i64>>,
    pub(in crate::orders) customers: Option<&'a CustomerSet>,
    pub(in crate::orders) pin: i64,
    pub(in crate::orders) from_us: i64,
}

impl OrderPredicate<'_> {
    pub(in crate::orders) fn takes(&self, found: &IndexedOrder) -> bool {
        let status = self.of.statuses == 0 || self.of.statuses & (1 << found.status as u8) != 0;
        let scaled =
            || i128::from(found.total) * 10_i128.pow(4_u32.saturating_sub(found.currency.digits().into()));
        found.id <= self.pin
            && status
            && self.of.total_min.is_none_or(|min| scaled() >= min)
            && self.of.total_max.is_none_or(|max| scaled() <= max)
            && self.customers.is_none_or(|customers| customers.has(found.customer))
    }
}

impl OrderPredicate<'_> {
    /// Returns `true` if the order is after the position and not older than the range.
    pub(in crate::orders) fn is_behind(&self, found: &IndexedOrder, position: &Position) -> bool {
        found.ordered_at_us >= self.from_us
            && (found.ordered_at_us, &found.order_id) < (position.timestamp_us, &position.event_id)
    }

    /// Returns `true` if the order has an item with a selected product, or if all products are selected.
    pub(in crate::orders) fn has_product(
        &self,
        connection: &Connection,
        partition: &str,
        id: i64,
    ) -> Result<bool, ShardError> {
        let Some(products) = &self.products else { return Ok(true) };
        has_product(connection, partition, id, products)
    }
}

pub(in crate::orders) fn has_product(
    connection: &Connection,
    partition: &str,
    id: i64,
    products: &[i64],
) -> Result<bool, ShardError> {
    let mut statement = connection.prepare_cached(&items_sql(partition))?;
    let mut rows = statement.query(item_ids(id, id))?;
    while let Some(row) = rows.next()? {
        if products.binary_search(&row.get(0)?).is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(in crate::orders) const PRODUCTS_SQL: &str =
    "SELECT id FROM product_row WHERE tenant = ?1 AND product_id = ?2";

pub(in crate::orders) fn product_numbers(
    connection: &Connection,
    tenant: i64,
    product_ids: &[String],
) -> Result<Vec<i64>, ShardError> {
    let mut statement = connection.prepare_cached(PRODUCTS_SQL)?;
    let mut numbers = Vec::new();
    for product_id in product_ids {
        let rows = statement.query_map(params![tenant, product_id], |row| row.get(0))?;
        numbers.extend(rows.collect::<Result<Vec<i64>, _>>()?);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}
