//! The conditions on an order, expressed in one shard's numbers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::customers::{self, CustomerSet};
use super::filter::OrderFilter;
use super::indexed::IndexedOrder;
use crate::base::ids::ShardId;
use crate::base::money::Currency;
use crate::orders::schema::{item_ids, items_sql};
use crate::shard::ShardError;
use crate::shard::read::Position;

/// The number of products whose categories one step remembers.
const CATEGORIES_KEPT: usize = 65_536;

/// The conditions on a row, expressed in the shard's own numbers.
pub(in crate::orders) struct OrderPredicate<'a> {
    pub(in crate::orders) of: &'a OrderFilter,
    pub(in crate::orders) tenant: i64,
    /// The selected products, sorted. `None` selects all products.
    pub(in crate::orders) products: Option<Vec<i64>>,
    category: Option<i64>,
    /// A cache of category numbers by product number.
    categories: RefCell<HashMap<i64, i64>>,
    pub(in crate::orders) customers: Option<Arc<CustomerSet>>,
    pub(in crate::orders) pin: i64,
    pub(in crate::orders) from_us: i64,
}

/// Converts an amount in minor units to ten-thousandths of the currency's unit.
fn scaled(amount: i64, currency: Currency) -> i128 {
    i128::from(amount) * 10_i128.pow(4_u32.saturating_sub(currency.digits().into()))
}

impl<'a> OrderPredicate<'a> {
    /// Looks up the shard's numbers. Returns `None` if no order of the shard can match.
    pub(in crate::orders) fn new(
        connection: &Connection,
        shard: ShardId,
        of: &'a OrderFilter,
        tenant: i64,
        pin: i64,
        from_us: i64,
    ) -> Result<Option<OrderPredicate<'a>>, ShardError> {
        let products = (!of.product_ids.is_empty())
            .then(|| product_numbers(connection, tenant, &of.product_ids))
            .transpose()?;
        let category = match &of.category {
            None => None,
            Some(name) => match category_number(connection, tenant, name)? {
                None => return Ok(None),
                number => number,
            },
        };
        let customers = (!of.words.is_empty() || of.customer.is_some())
            .then(|| of.cache.customers(shard, || customers::selected(connection, tenant, of)))
            .transpose()?;
        let is_empty = products.as_ref().is_some_and(Vec::is_empty)
            || customers.as_ref().is_some_and(|set| set.is_empty());
        if is_empty {
            return Ok(None);
        }
        let categories = RefCell::default();
        Ok(Some(OrderPredicate { of, tenant, products, category, categories, customers, pin, from_us }))
    }

    /// Returns `true` if there are no conditions on the customer or on items.
    pub(in crate::orders) fn is_of_numbers(&self) -> bool {
        self.customers.is_none() && self.products.is_none() && !self.has_more_than_products()
    }

    /// Returns `true` if the order meets all conditions except those on its items.
    pub(in crate::orders) fn takes(&self, found: &IndexedOrder) -> bool {
        let status = self.of.statuses == 0 || self.of.statuses & (1 << found.status as u8) != 0;
        let total = || scaled(found.total, found.currency);
        found.id <= self.pin
            && status
            && self.of.currency.is_none_or(|currency| currency == found.currency)
            && self.of.total_min.is_none_or(|min| total() >= min)
            && self.of.total_max.is_none_or(|max| total() <= max)
            && self.customers.as_ref().is_none_or(|customers| customers.has(found.customer))
    }

    /// Returns `true` if the order is after the position and not older than the range.
    pub(in crate::orders) fn is_behind(&self, found: &IndexedOrder, position: &Position) -> bool {
        found.ordered_at_us >= self.from_us
            && (found.ordered_at_us, &found.order_id) < (position.timestamp_us, &position.event_id)
    }

    /// Returns `true` if there are conditions on items that a list of a product's orders does not ensure.
    pub(in crate::orders) fn has_more_than_products(&self) -> bool {
        self.category.is_some() || self.of.price_min.is_some() || self.of.price_max.is_some()
    }

    /// Returns `true` if one of the order's items meets all conditions on items, or if there are no such conditions.
    pub(in crate::orders) fn has_item(
        &self,
        connection: &Connection,
        partition: &str,
        order: &IndexedOrder,
    ) -> Result<bool, ShardError> {
        if self.products.is_none() && !self.has_more_than_products() {
            return Ok(true);
        }
        let mut statement = connection.prepare_cached(&items_sql(partition))?;
        let mut rows = statement.query(item_ids(order.id, order.id))?;
        while let Some(row) = rows.next()? {
            let (product, price) = (row.get(0)?, scaled(row.get(2)?, order.currency));
            let is_in =
                self.products.as_ref().is_none_or(|products| products.binary_search(&product).is_ok())
                    && self.of.price_min.is_none_or(|min| price >= min)
                    && self.of.price_max.is_none_or(|max| price <= max);
            if is_in && self.is_of_category(connection, product)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_of_category(&self, connection: &Connection, product: i64) -> Result<bool, ShardError> {
        let Some(wanted) = self.category else { return Ok(true) };
        let mut known = self.categories.borrow_mut();
        if let Some(category) = known.get(&product) {
            return Ok(*category == wanted);
        }
        let mut statement = connection.prepare_cached(PRODUCT_CATEGORY_SQL)?;
        let category: i64 = statement.query_row([product], |row| row.get(0))?;
        if known.len() >= CATEGORIES_KEPT {
            known.clear();
        }
        known.insert(product, category);
        Ok(category == wanted)
    }
}

pub(in crate::orders) const PRODUCT_CATEGORY_SQL: &str = "SELECT category FROM product_row WHERE id = ?1";
pub(in crate::orders) const CATEGORY_SQL: &str =
    "SELECT id FROM category_row WHERE tenant = ?1 AND name = ?2";

fn category_number(connection: &Connection, tenant: i64, name: &str) -> Result<Option<i64>, ShardError> {
    let mut statement = connection.prepare_cached(CATEGORY_SQL)?;
    Ok(statement.query_row(params![tenant, name], |row| row.get(0)).optional()?)
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
