//! The rows of orders, with their items and the status that no later change takes back.

use rusqlite::Connection;

use super::names::Names;
use super::portion::{Portion, ROW_BYTES, text};
use super::settled::{Settled, StatusAt};
use crate::orders::{ORDERS, OrderStatus, item_ids, items_sql};
use crate::shard::ShardError;
use crate::ship::rows::{ItemRow, OrderRow};

/// The memory of an item beyond its texts.
const ITEM_BYTES: usize = 80;

/// Returns the statement that reads a partition.
pub(super) fn sql(partition: &str) -> String {
    format!(
        "SELECT id, tenant, order_id, customer, status, first_status, currency, ordered_at_us, total, received_us \
         FROM {partition} WHERE id > ?1 AND id <= ?2 ORDER BY id"
    )
}

/// Reads orders. `settled` is the last change that the file has without its WAL: the orders have their status as of it.
pub(super) fn read(
    snapshot: &Connection,
    portion: &mut Portion,
    names: &mut Names<'_>,
    settled: i64,
) -> Result<Vec<OrderRow>, ShardError> {
    let mut found = Vec::new();
    let statuses = Settled::load(snapshot, settled)?;
    portion.read_stream(snapshot, &ORDERS, sql, |portion, row, table| {
        let id = row.get(0)?;
        let status = match statuses.of(id) {
            StatusAt::Now => row.get(4)?,
            StatusAt::Code(code) => code,
            StatusAt::Unknown => return Ok(portion.end_before(id)),
        };
        let customer = names.customer(row.get(3)?)?;
        let items = items(snapshot, table, id, names)?;
        let order = OrderRow {
            id,
            tenant_id: names.tenant(row.get(1)?)?.to_string(),
            order_id: text(row, 2)?,
            customer_id: customer.id,
            customer_name: customer.name,
            customer_email: customer.email,
            status: status_text(status)?,
            first_status: status_text(row.get(5)?)?,
            status_seq: settled,
            currency: text(row, 6)?,
            ordered_at_us: row.get(7)?,
            total: row.get(8)?,
            received_us: row.get(9)?,
            items,
        };
        let bytes = bytes_of(&order);
        found.push(order);
        Ok(portion.count(id, bytes))
    })?;
    Ok(found)
}

fn bytes_of(order: &OrderRow) -> usize {
    let texts =
        [&order.tenant_id, &order.order_id, &order.customer_id, &order.customer_name, &order.customer_email];
    let items = order.items.iter().map(|item| ITEM_BYTES + item.product_id.len() + item.category.len());
    2 * ROW_BYTES + texts.into_iter().map(String::len).sum::<usize>() + items.sum::<usize>()
}

/// Returns the name of a stored status.
pub(super) fn status_text(code: u8) -> Result<&'static str, ShardError> {
    OrderStatus::from_code(code)
        .map(OrderStatus::as_str)
        .ok_or_else(|| ShardError::Corrupt(format!("an order has the unknown status {code}")))
}

fn items(
    snapshot: &Connection,
    table: &str,
    order: i64,
    names: &mut Names<'_>,
) -> Result<Vec<ItemRow>, ShardError> {
    let mut statement = snapshot.prepare_cached(&items_sql(table))?;
    let mut rows = statement.query(item_ids(order, order))?;
    let [first, _] = item_ids(order, order);
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        let product = names.product(row.get(0)?)?;
        items.push(ItemRow {
            line: (row.get::<_, i64>(3)? - first + 1) as i32,
            product_id: product.0.clone(),
            category: product.1.clone(),
            quantity: row.get(1)?,
            unit_price: row.get(2)?,
        });
    }
    Ok(items)
}
