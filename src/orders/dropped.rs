//! Deletes the orders of partitions that retention has dropped, slice by slice. Their sums remain in the tables of the
//! sums, so each slice adds what its orders contributed to tables of their own (`dropped_sales_*`). Therefore the sums
//! equal the rows plus these tables at every commit (R3), and sketches can be rebuilt.
//!
//! A customer without any other order is deleted too.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension as _};

use super::erase::{items, products_by_id, sale_of};
use super::free_rows::{ROWS_PER_CHECK, exists, free_rows};
use super::schema::{ORDERS, by_customer, by_product, item_ids, items_of};
use super::segment::drop_unreachable;
use super::store::OrderStore;
use super::words::delete_words;
use crate::base::clock;
use crate::shard::{PartitionInfo, ShardError, partitions_of};

/// The number of orders between two checks of the clock.
const ORDERS_PER_CHECK: i64 = 16;
/// The number of customers of an unlisted partition that one slice reads.
const CUSTOMERS_PER_SLICE: i64 = 5_000;

/// The customers of the partitions without lists. While they are known, new orders add their customers.
#[derive(Debug, Default)]
pub(super) struct Unlisted {
    customers: HashSet<i64>,
    /// Tables that are not read to their end, each with the last id that was read.
    left: Vec<(String, i64)>,
}

impl Unlisted {
    /// Returns `true` if a partition without lists has an order of the customer.
    pub(super) fn contains(&self, customer: i64) -> bool {
        self.customers.contains(&customer)
    }

    /// Lists the partitions to read. Later partitions contain only orders that are added one by one.
    pub(super) fn begin(transaction: &Connection) -> Result<Unlisted, ShardError> {
        let partitions = partitions_of(transaction, &ORDERS)?.into_iter().filter(|info| !info.indexed);
        let left = partitions.map(|info| (info.name, info.first_id - 1)).collect();
        Ok(Unlisted { customers: HashSet::new(), left })
    }

    pub(super) fn add(&mut self, customer: i64) {
        self.customers.insert(customer);
    }

    /// Reads some customers. Returns `true` once all are known.
    pub(super) fn read(&mut self, transaction: &Connection) -> Result<bool, ShardError> {
        let Some((table, after)) = self.left.last_mut() else { return Ok(true) };
        let sql = format!("SELECT id, customer FROM {table} WHERE id > ?1 ORDER BY id LIMIT ?2");
        let mut statement = transaction.prepare_cached(&sql)?;
        let mut rows = statement.query([*after, CUSTOMERS_PER_SLICE])?;
        let before = *after;
        while let Some(row) = rows.next()? {
            *after = row.get(0)?;
            self.customers.insert(row.get(1)?);
        }
        if *after == before {
            self.left.pop();
        }
        Ok(false)
    }
}

impl OrderStore {
    /// Deletes rows of a dropped partition until `until_us`. Returns `true` once its tables are empty.
    pub(super) fn free_orders(
        &mut self,
        transaction: &Connection,
        table: &str,
        until_us: u64,
    ) -> Result<bool, ShardError> {
        if !drop_unreachable(transaction, until_us)? {
            return Ok(false);
        }
        let list = by_product(table);
        if exists(transaction, &list)? {
            free_rows(transaction, &list, "product, ordered_at_us, id", until_us)?;
            return Ok(false);
        }
        let list = by_customer(table);
        if exists(transaction, &list)? {
            self.free_customers(transaction, &list, until_us)?;
            return Ok(false);
        }
        self.unlisted = None;
        let is_empty = self.fold(transaction, table, until_us)?;
        self.sums.save_dropped(transaction, self.drops_sums)?;
        Ok(is_empty)
    }

    /// Deletes orders with their items, and adds up their sales.
    fn fold(&mut self, transaction: &Connection, table: &str, until_us: u64) -> Result<bool, ShardError> {
        let sql = format!(
            "SELECT tenant, status, currency, ordered_at_us, total, units, customer_key, customer, id FROM {table} \
             ORDER BY id LIMIT ?1"
        );
        let mut statement = transaction.prepare_cached(&sql)?;
        loop {
            let (mut first, mut last) = (None, 0);
            let mut rows = statement.query([ORDERS_PER_CHECK])?;
            let mut is_time_over = false;
            while let Some(row) = rows.next()? {
                let (status, _, sale) = sale_of(row, table)?;
                last = row.get(8)?;
                first = first.or(Some(last));
                if status.is_sale() {
                    let by_id = products_by_id(transaction, table, last)?;
                    self.sums.add_dropped_sale(&sale, &items(transaction, table, last)?, by_id);
                }
                // An order may have a thousand items.
                is_time_over = clock::monotonic_us() >= until_us;
                if is_time_over {
                    break;
                }
            }
            drop(rows);
            let Some(first) = first else { return Ok(true) };
            let run = |sql: String, values: [i64; 2]| transaction.prepare_cached(&sql)?.execute(values);
            let of_items = format!("DELETE FROM {} WHERE id >= ?1 AND id < ?2", items_of(table));
            run(of_items, item_ids(first, last))?;
            run(format!("DELETE FROM {table} WHERE id >= ?1 AND id <= ?2"), [first, last])?;
            let of_times = "DELETE FROM order_status_time WHERE id >= ?1 AND id <= ?2";
            run(of_times.to_owned(), [first, last])?;
            if is_time_over {
                return Ok(false);
            }
        }
    }

    /// Deletes entries of a partition's list by customer until `until_us`, and customers that no order names any more.
    fn free_customers(
        &mut self,
        transaction: &Connection,
        list: &str,
        until_us: u64,
    ) -> Result<(), ShardError> {
        let unlisted = match &mut self.unlisted {
            Some(unlisted) => unlisted,
            none => none.insert(Unlisted::begin(transaction)?),
        };
        if !unlisted.read(transaction)? {
            return Ok(());
        }
        let lists = lists_of(&partitions_of(transaction, &ORDERS)?);
        let first_sql = format!("SELECT customer FROM {list} ORDER BY customer LIMIT 1");
        let mut first = transaction.prepare_cached(&first_sql)?;
        let delete_sql = format!(
            "DELETE FROM {list} WHERE customer = ?1 AND (ordered_at_us, id) IN \
             (SELECT ordered_at_us, id FROM {list} WHERE customer = ?1 ORDER BY ordered_at_us, id LIMIT ?2)"
        );
        let mut is_any_gone = false;
        loop {
            let Some(customer) = first.query_row([], |row| row.get(0)).optional()? else {
                drop(first);
                transaction.execute_batch(&format!("DROP TABLE {list}"))?;
                break;
            };
            transaction.prepare_cached(&delete_sql)?.execute([customer, ROWS_PER_CHECK])?;
            if !is_named(transaction, std::slice::from_ref(&list.to_owned()), customer)?
                && !unlisted.contains(customer)
                && !is_named(transaction, &lists, customer)?
            {
                delete_customer(transaction, customer)?;
                is_any_gone = true;
            }
            if clock::monotonic_us() >= until_us {
                break;
            }
        }
        if is_any_gone {
            self.forget_names();
        }
        Ok(())
    }
}

/// Deletes a customer that no order names any more.
pub(super) fn delete_customer(transaction: &Connection, customer: i64) -> Result<(), ShardError> {
    // The deletion of the words requires the row's text.
    delete_words(transaction, customer)?;
    transaction.prepare_cached("DELETE FROM customer_row WHERE id = ?1")?.execute([customer])?;
    Ok(())
}

/// Returns the names of the existing lists by customer.
pub(super) fn lists_of(partitions: &[PartitionInfo]) -> Vec<String> {
    partitions.iter().filter(|info| info.indexed).map(|info| by_customer(&info.name)).collect()
}

/// Returns `true` if one of the lists has an order of the customer.
pub(super) fn is_named(
    transaction: &Connection,
    lists: &[String],
    customer: i64,
) -> Result<bool, ShardError> {
    for list in lists {
        let sql = format!("SELECT 1 FROM {list} WHERE customer = ?1 LIMIT 1");
        if transaction.prepare_cached(&sql)?.exists([customer])? {
            return Ok(true);
        }
    }
    Ok(false)
}
