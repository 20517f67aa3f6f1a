//! Renders orders as lines of JSON, with the requested fields.

use std::sync::OnceLock;

use rusqlite::{CachedStatement, Connection};

use super::super::schema::{item_ids, items_sql};
use super::filter::{ORDER_FIELDS, OrderFilter};
use super::indexed::IndexedOrder;
use crate::base::ids::ShardId;
use crate::base::money::write_decimal;
use crate::shard::ShardError;
use crate::shard::read::{write_rfc3339, write_string};

/// The maximum number of products whose names one query caches for a shard. Each product takes 32 bytes plus its
/// name.
const PRODUCTS_MAX: usize = 4_096;

/// A product's number and its part of an item's JSON.
type Known = (i64, Box<[u8]>);

/// Product names that a query has used in one shard. Each slot keeps the first product that is assigned to it.
pub(super) struct Products(Box<[OnceLock<Known>]>);

impl Default for Products {
    fn default() -> Products {
        Products((0..PRODUCTS_MAX).map(|_| OnceLock::new()).collect())
    }
}

impl Products {
    fn slot(&self, product: i64) -> Option<&OnceLock<Known>> {
        self.0.get(product.unsigned_abs() as usize % PRODUCTS_MAX)
    }
}

/// Writes one step's orders.
pub(super) struct Renderer<'c> {
    connection: &'c Connection,
    of: &'c OrderFilter,
    fields: u16,
    /// The partition that `items` reads.
    partition: String,
    items: Option<CachedStatement<'c>>,
    customer: CachedStatement<'c>,
    product: CachedStatement<'c>,
    products: Option<&'c Products>,
}

fn asks(fields: u16, field: &str) -> bool {
    ORDER_FIELDS.iter().position(|known| *known == field).is_some_and(|at| fields & (1 << at) != 0)
}

pub(super) const CUSTOMER_SQL: &str = "SELECT customer_id, name, email FROM customer_row WHERE id = ?1";
pub(super) const PRODUCT_SQL: &str =
    "SELECT p.product_id, g.name FROM product_row p JOIN category_row g ON g.id = p.category WHERE p.id = ?1";

fn received_sql(partition: &str) -> String {
    format!("SELECT received_us FROM {partition} WHERE id = ?1")
}

pub(super) fn name_statements() -> Vec<(String, String)> {
    vec![("a customer".to_owned(), CUSTOMER_SQL.to_owned()), ("a product".to_owned(), PRODUCT_SQL.to_owned())]
}

pub(super) fn statements(partition: &str) -> Vec<(String, String)> {
    vec![("when an order was received".to_owned(), received_sql(partition))]
}

impl<'c> Renderer<'c> {
    pub(super) fn new(
        connection: &'c Connection,
        shard: ShardId,
        of: &'c OrderFilter,
    ) -> Result<Renderer<'c>, ShardError> {
        Ok(Renderer {
            connection,
            products: asks(of.fields, "items").then(|| of.cache.products(shard)).flatten(),
            of,
            fields: of.fields,
            partition: String::new(),
            items: None,
            customer: connection.prepare_cached(CUSTOMER_SQL)?,
            product: connection.prepare_cached(PRODUCT_SQL)?,
        })
    }

    fn asks(&self, field: &str) -> bool {
        asks(self.fields, field)
    }

    /// Writes one line. Takes about 3 us with all fields and three items.
    pub(super) fn write(
        &mut self,
        partition: &str,
        order: &IndexedOrder,
        out: &mut Vec<u8>,
    ) -> Result<(), ShardError> {
        let start = out.len();
        let digits = order.currency.digits();
        let mut number = itoa::Buffer::new();
        if self.asks("order_id") {
            out.extend_from_slice(b",\"order_id\":");
            write_string(out, order.order_id.as_bytes());
        }
        if self.asks("tenant_id") {
            out.extend_from_slice(b",\"tenant_id\":");
            write_string(out, self.of.tenant_id.as_bytes());
        }
        if ["customer_id", "customer_name", "customer_email"].iter().any(|field| self.asks(field)) {
            self.customer(order.customer, out)?;
        }
        if self.asks("status") {
            out.extend_from_slice(b",\"status\":\"");
            out.extend_from_slice(order.status.as_str().as_bytes());
            out.push(b'"');
        }
        if self.asks("currency") {
            out.extend_from_slice(b",\"currency\":\"");
            out.extend_from_slice(order.currency.as_str().as_bytes());
            out.push(b'"');
        }
        if self.asks("ordered_at") {
            out.extend_from_slice(b",\"ordered_at\":\"");
            write_rfc3339(out, order.ordered_at_us);
            out.push(b'"');
        }
        if self.asks("total") {
            out.extend_from_slice(b",\"total\":\"");
            write_decimal(order.total, digits, out);
            out.push(b'"');
        }
        if self.asks("units") {
            out.extend_from_slice(b",\"units\":");
            out.extend_from_slice(number.format(order.units).as_bytes());
        }
        if self.asks("items") {
            self.items(partition, order.id, digits, out)?;
        }
        if self.asks("received_at") {
            let mut statement = self.connection.prepare_cached(&received_sql(partition))?;
            let received_us = statement.query_row([order.id], |row| row.get(0))?;
            out.extend_from_slice(b",\"received_at\":\"");
            write_rfc3339(out, received_us);
            out.push(b'"');
        }
        match out.get_mut(start) {
            // Replaces the first comma.
            Some(first) => *first = b'{',
            None => out.push(b'{'),
        }
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    fn customer(&mut self, customer: i64, out: &mut Vec<u8>) -> Result<(), ShardError> {
        let fields = self.fields;
        self.customer.query_row([customer], |row| {
            for (at, field) in ["customer_id", "customer_name", "customer_email"].into_iter().enumerate() {
                if asks(fields, field) {
                    out.extend_from_slice(b",\"");
                    out.extend_from_slice(field.as_bytes());
                    out.extend_from_slice(b"\":");
                    write_string(out, row.get_ref(at)?.as_bytes().map_err(rusqlite::Error::from)?);
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    fn items(&mut self, partition: &str, id: i64, digits: u8, out: &mut Vec<u8>) -> Result<(), ShardError> {
        out.extend_from_slice(b",\"items\":[");
        if self.partition != partition {
            // Drop the previous statement first, so that it returns to the connection's cache.
            self.items = None;
            self.items = Some(self.connection.prepare_cached(&items_sql(partition))?);
            partition.clone_into(&mut self.partition);
        }
        let Renderer { items: Some(items), product, products, .. } = self else { return Ok(()) };
        let mut rows = items.query(item_ids(id, id))?;
        let mut number = itoa::Buffer::new();
        let mut is_first = true;
        while let Some(row) = rows.next()? {
            let (item, quantity, unit_price): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            out.extend_from_slice(if is_first { b"{" } else { b",{" });
            is_first = false;
            let slot = products.as_ref().and_then(|products| products.slot(item));
            match slot.and_then(OnceLock::get) {
                Some((known, written)) if *known == item => out.extend_from_slice(written),
                _ => {
                    let start = out.len();
                    write_product(product, item, out)?;
                    if let Some(slot) = slot {
                        let _ = slot.set((item, out[start..].into()));
                    }
                }
            }
            out.extend_from_slice(b",\"quantity\":");
            out.extend_from_slice(number.format(quantity).as_bytes());
            out.extend_from_slice(b",\"unit_price\":\"");
            write_decimal(unit_price, digits, out);
            out.extend_from_slice(b"\"}");
        }
        out.push(b']');
        Ok(())
    }
}

/// Writes `"product_id":…,"category":…`.
fn write_product(
    statement: &mut CachedStatement<'_>,
    product: i64,
    out: &mut Vec<u8>,
) -> Result<(), ShardError> {
    statement.query_row([product], |row| {
        let text = |at: usize| row.get_ref(at)?.as_bytes().map_err(rusqlite::Error::from);
        out.extend_from_slice(b"\"product_id\":");
        write_string(out, text(0)?);
        out.extend_from_slice(b",\"category\":");
        write_string(out, text(1)?);
        Ok(())
    })?;
    Ok(())
}
