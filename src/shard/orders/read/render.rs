//! Orders as lines of JSON, with the fields that are asked for.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use super::super::super::error::ShardError;
use super::super::super::read::{write_rfc3339, write_string};
use super::super::schema::items_of;
use super::{Found, ORDER_FIELDS, OrdersOf};
use crate::base::money::write_decimal;

/// Names kept of one step.
const NAMES_MAX: usize = 4_096;

/// Writes the orders of one step; names that repeat are read once.
pub(super) struct Renderer<'c> {
    connection: &'c Connection,
    of: &'c OrdersOf,
    /// `"customer_id":…,"customer_name":…` as far as asked for.
    customers: HashMap<i64, Box<[u8]>>,
    /// `"product_id":…,"category":…`.
    products: HashMap<i64, Box<[u8]>>,
}

const CUSTOMER_SQL: &str = "SELECT customer_id, name, email FROM customer_row WHERE id = ?1";
const PRODUCT_SQL: &str =
    "SELECT p.product_id, g.name FROM product_row p JOIN category_row g ON g.id = p.category WHERE p.id = ?1";

fn items_sql(partition: &str) -> String {
    format!(
        "SELECT product, quantity, unit_price FROM {} WHERE id >= ?1 AND id < ?2 ORDER BY id",
        items_of(partition)
    )
}

fn received_sql(partition: &str) -> String {
    format!("SELECT received_us FROM {partition} WHERE id = ?1")
}

pub(super) fn name_statements() -> Vec<(String, String)> {
    vec![("a customer".to_owned(), CUSTOMER_SQL.to_owned()), ("a product".to_owned(), PRODUCT_SQL.to_owned())]
}

pub(super) fn statements(partition: &str) -> Vec<(String, String)> {
    vec![
        ("items of an order".to_owned(), items_sql(partition)),
        ("when an order was received".to_owned(), received_sql(partition)),
    ]
}

impl<'c> Renderer<'c> {
    pub(super) fn new(connection: &'c Connection, of: &'c OrdersOf) -> Result<Renderer<'c>, ShardError> {
        Ok(Renderer { connection, of, customers: HashMap::new(), products: HashMap::new() })
    }

    fn asks(&self, field: &str) -> bool {
        ORDER_FIELDS
            .iter()
            .position(|known| *known == field)
            .is_some_and(|at| self.of.fields & (1 << at) != 0)
    }

    /// One line. About 3 us with all fields and three items.
    pub(super) fn write(
        &mut self,
        partition: &str,
        order: &Found,
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
            // The first comma.
            Some(first) => *first = b'{',
            None => out.push(b'{'),
        }
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    fn customer(&mut self, customer: i64, out: &mut Vec<u8>) -> Result<(), ShardError> {
        if let Some(known) = self.customers.get(&customer) {
            out.extend_from_slice(known);
            return Ok(());
        }
        let mut written = Vec::new();
        let mut statement = self.connection.prepare_cached(CUSTOMER_SQL)?;
        statement.query_row([customer], |row| {
            for (at, field) in ["customer_id", "customer_name", "customer_email"].into_iter().enumerate() {
                if self.asks(field) {
                    written.extend_from_slice(b",\"");
                    written.extend_from_slice(field.as_bytes());
                    written.extend_from_slice(b"\":");
                    write_string(&mut written, row.get_ref(at)?.as_bytes().map_err(rusqlite::Error::from)?);
                }
            }
            Ok(())
        })?;
        out.extend_from_slice(&written);
        if self.customers.len() < NAMES_MAX {
            self.customers.insert(customer, written.into());
        }
        Ok(())
    }

    fn items(&mut self, partition: &str, id: i64, digits: u8, out: &mut Vec<u8>) -> Result<(), ShardError> {
        out.extend_from_slice(b",\"items\":[");
        let mut statement = self.connection.prepare_cached(&items_sql(partition))?;
        let mut rows = statement.query(params![id * 1024, id * 1024 + 1024])?;
        let mut number = itoa::Buffer::new();
        let mut is_first = true;
        while let Some(row) = rows.next()? {
            let (product, quantity, unit_price): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            out.extend_from_slice(if is_first { b"{" } else { b",{" });
            is_first = false;
            self.product(product, out)?;
            out.extend_from_slice(b",\"quantity\":");
            out.extend_from_slice(number.format(quantity).as_bytes());
            out.extend_from_slice(b",\"unit_price\":\"");
            write_decimal(unit_price, digits, out);
            out.extend_from_slice(b"\"}");
        }
        out.push(b']');
        Ok(())
    }

    fn product(&mut self, product: i64, out: &mut Vec<u8>) -> Result<(), ShardError> {
        if let Some(known) = self.products.get(&product) {
            out.extend_from_slice(known);
            return Ok(());
        }
        let mut written = b"\"product_id\":".to_vec();
        let mut statement = self.connection.prepare_cached(PRODUCT_SQL)?;
        statement.query_row([product], |row| {
            let text = |at: usize| row.get_ref(at)?.as_bytes().map_err(rusqlite::Error::from);
            write_string(&mut written, text(0)?);
            written.extend_from_slice(b",\"category\":");
            write_string(&mut written, text(1)?);
            Ok(())
        })?;
        out.extend_from_slice(&written);
        if self.products.len() < NAMES_MAX {
            self.products.insert(product, written.into());
        }
        Ok(())
    }
}
