//! Deletes one customer's orders or assigns them to a pseudonym. Updates rows, lists, sums and sketches in the
//! caller's transaction (R3).

use std::collections::HashSet;

use rusqlite::{CachedStatement, Connection, params};

use super::names::Product;
use super::schema::{by_customer, by_product, item_ids, items_of};
use super::segment::SegmentChange;
use super::status::OrderStatus;
use super::store::OrderStore;
use super::sums::Sale;
use crate::base::money::Currency;
use crate::shard::{ShardError, tenant_number};

/// The effect of an erasure on an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErasureEffect {
    Delete,
    /// The order is assigned to the customer with this key.
    Reassign {
        customer_key: i64,
    },
}

/// The numbers of rows changed for one order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Touched {
    pub(crate) orders: u64,
    pub(crate) items: u64,
    pub(crate) index_entries: u64,
    /// The time of the order, if it was deleted.
    pub(crate) deleted_us: Option<i64>,
}

pub(super) const CUSTOMER_SQL: &str =
    "SELECT id FROM customer_row WHERE key = ?1 AND tenant = ?2 AND customer_id = ?3";

/// Returns a customer's numbers: one for each combination of name and address.
pub(crate) fn customers_of(
    connection: &Connection,
    tenant_id: &str,
    (customer_id, key): (&str, i64),
) -> Result<Option<(i64, Vec<i64>)>, ShardError> {
    let Some(tenant) = tenant_number(connection, tenant_id)? else { return Ok(None) };
    let mut statement = connection.prepare_cached(CUSTOMER_SQL)?;
    let found = statement.query_map(params![key, tenant, customer_id], |row| row.get(0))?;
    Ok(Some((tenant, found.collect::<Result<_, _>>()?)))
}

/// Returns these customers' orders in one partition, each with its customer. Reads them from the partition's list if it has one. Otherwise,
/// reads all of the tenant's orders from the time index (0.2 us each).
pub(crate) fn orders_of(
    connection: &Connection,
    table: &str,
    is_listed: bool,
    tenant: i64,
    customers: &[i64],
) -> Result<Vec<(i64, i64)>, ShardError> {
    let mut found = Vec::new();
    if is_listed {
        let sql = format!("SELECT id FROM {} WHERE customer = ?1", by_customer(table));
        let mut statement = connection.prepare_cached(&sql)?;
        for customer in customers {
            for id in statement.query_map([customer], |row| row.get(0))? {
                found.push((id?, *customer));
            }
        }
        return Ok(found);
    }
    let wanted: HashSet<i64> = customers.iter().copied().collect();
    let sql = format!("SELECT id, customer FROM {table} INDEXED BY {table}_time WHERE tenant = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([tenant])?;
    while let Some(row) = rows.next()? {
        let customer = row.get(1)?;
        if wanted.contains(&customer) {
            found.push((row.get(0)?, customer));
        }
    }
    Ok(found)
}

/// An item's product, quantity and price.
pub(super) type Line = (Product, (i64, i64));

/// Returns the items of an order.
pub(super) fn items(connection: &Connection, table: &str, order: i64) -> Result<Vec<Line>, ShardError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT i.product, p.category, i.quantity, i.unit_price FROM {} i JOIN product_row p \
         ON p.id = i.product WHERE i.id >= ?1 AND i.id < ?2 ORDER BY i.id",
        items_of(table)
    ))?;
    let read = |row: &rusqlite::Row<'_>| {
        Ok((Product { id: row.get(0)?, category: row.get(1)? }, (row.get(2)?, row.get(3)?)))
    };
    Ok(statement.query_map(item_ids(order, order), read)?.collect::<Result<_, _>>()?)
}

/// Returns the products of an order's items: the lowest product number with the same product id, and the number. A
/// product in several categories has several numbers.
pub(super) fn products_by_id(
    connection: &Connection,
    table: &str,
    order: i64,
) -> Result<Vec<(i64, i64)>, ShardError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT (SELECT min(f.id) FROM product_row f WHERE f.tenant = p.tenant AND f.product_id = p.product_id), \
         i.product FROM {} i JOIN product_row p ON p.id = i.product WHERE i.id >= ?1 AND i.id < ?2 ORDER BY i.id",
        items_of(table)
    ))?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    Ok(statement.query_map(item_ids(order, order), read)?.collect::<Result<_, _>>()?)
}

impl OrderStore {
    /// Clears the cached name numbers, so that they are looked up again.
    pub(crate) fn forget_names(&mut self) {
        self.names = super::names::Names::default();
    }

    /// Changes the given orders of a partition and everything derived from them. Returns what was changed for each.
    /// `tables` are the tables of all
    /// partitions. The caller must call [`Store::committed`](crate::shard::Store::committed) or `rolled_back`
    /// afterwards.
    pub(crate) fn change(
        &mut self,
        transaction: &Connection,
        table: &str,
        is_listed: bool,
        changes: &[(i64, ErasureEffect)],
        tables: &[&str],
    ) -> Result<Vec<Touched>, ShardError> {
        let mut touched = Vec::with_capacity(changes.len());
        for (id, becomes) in changes {
            touched.push(self.change_one(transaction, table, is_listed, *id, *becomes)?);
        }
        let change = |becomes: &ErasureEffect| match becomes {
            ErasureEffect::Delete => SegmentChange::Gone,
            ErasureEffect::Reassign { customer_key } => SegmentChange::Customer(*customer_key),
        };
        let changes: Vec<_> = changes.iter().map(|(id, becomes)| (*id, change(becomes))).collect();
        self.segments.rows_changed(transaction, &changes)?;
        self.sums.save(transaction, tables)?;
        Ok(touched)
    }

    fn change_one(
        &mut self,
        transaction: &Connection,
        table: &str,
        is_listed: bool,
        id: i64,
        becomes: ErasureEffect,
    ) -> Result<Touched, ShardError> {
        let mut touched = Touched::default();
        let Some((status, customer, sale)) = sale(transaction, table, id)? else { return Ok(touched) };
        if (becomes == ErasureEffect::Reassign { customer_key: sale.customer_key }) {
            // A slice that ran before a crash has already changed this order.
            return Ok(touched);
        }
        let items = items(transaction, table, id)?;
        self.sums.touch(sale.tenant);
        if status.is_sale() {
            self.sums.take_out(transaction, &sale, items.iter().copied())?;
        }
        touched.orders += 1;
        if let ErasureEffect::Reassign { customer_key } = becomes {
            let sql = format!("UPDATE {table} SET customer_key = ?2 WHERE id = ?1");
            transaction.prepare_cached(&sql)?.execute(params![id, customer_key])?;
            // The same figures now belong to another customer, so the sketches are rebuilt.
            if status.is_sale() {
                self.sums.add(&Sale { customer_key, ..sale }, items.iter().copied());
            }
            touched.index_entries += 1;
            return Ok(touched);
        }
        let at = sale.ordered_at_us;
        let deleted = delete_order(transaction, (table, is_listed), (id, customer, at), &items)?;
        touched.items = deleted.items;
        touched.index_entries = deleted.index_entries;
        touched.deleted_us = Some(at);
        Ok(touched)
    }
}

/// Deletes an order of a partition with its items, its entries in the lists and the time of its status. The order is
/// its id, customer and time. Returns the number of items and entries.
pub(super) fn delete_order(
    transaction: &Connection,
    (table, is_listed): (&str, bool),
    (id, customer, at): (i64, i64, i64),
    items: &[Line],
) -> Result<Touched, ShardError> {
    let mut touched = Touched::default();
    let run = |sql: String, values: &[i64]| -> Result<u64, ShardError> {
        let mut statement: CachedStatement<'_> = transaction.prepare_cached(&sql)?;
        Ok(statement.execute(rusqlite::params_from_iter(values))? as u64)
    };
    if is_listed {
        let sql = |list: String, column: &str| {
            format!("DELETE FROM {list} WHERE {column} = ?1 AND ordered_at_us = ?2 AND id = ?3")
        };
        touched.index_entries += run(sql(by_customer(table), "customer"), &[customer, at, id])?;
        for (product, _) in items {
            touched.index_entries += run(sql(by_product(table), "product"), &[product.id, at, id])?;
        }
    }
    let of_items = format!("DELETE FROM {} WHERE id >= ?1 AND id < ?2", items_of(table));
    touched.items += run(of_items, &item_ids(id, id))?;
    touched.index_entries += run(format!("DELETE FROM {table} WHERE id = ?1"), &[id])?;
    run("DELETE FROM order_status_time WHERE id = ?1".to_owned(), &[id])?;
    Ok(touched)
}

/// Returns the order's status and customer, and what the order contributes to the sums.
pub(super) fn sale(
    connection: &Connection,
    table: &str,
    id: i64,
) -> Result<Option<(OrderStatus, i64, Sale)>, ShardError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT tenant, status, currency, ordered_at_us, total, units, customer_key, customer FROM {table} \
         WHERE id = ?1"
    ))?;
    let mut rows = statement.query([id])?;
    rows.next()?.map(|row| sale_of(row, table)).transpose()
}

/// Reads what [`sale`] returns from a row with its columns.
pub(super) fn sale_of(row: &rusqlite::Row<'_>, table: &str) -> Result<(OrderStatus, i64, Sale), ShardError> {
    let damaged = || ShardError::Corrupt(format!("{table} has an order with an unknown status or currency"));
    let status = OrderStatus::from_code(row.get(1)?).ok_or_else(damaged)?;
    let currency = Currency::parse(row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?);
    let sale = Sale {
        tenant: row.get(0)?,
        currency: currency.ok_or_else(damaged)?,
        ordered_at_us: row.get(3)?,
        total: row.get(4)?,
        units: row.get(5)?,
        customer_key: row.get(6)?,
    };
    Ok((status, row.get(7)?, sale))
}
