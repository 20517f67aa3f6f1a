//! Reads one order or one customer by its number, with everything that is stored about it.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::cache::QueryCache;
use super::filter::{ORDER_FIELDS, OrderFilter};
use super::indexed::{by_id_sql, found};
use super::render::{CUSTOMER_SQL, Renderer};
use crate::base::ids::ShardId;
use crate::orders::schema::{ORDERS, item_ids, items_of};
use crate::shard::partition::{firsts, table_of};
use crate::shard::read::write_rfc3339;
use crate::shard::{ShardError, tenant_number};

/// An order as one line of JSON, without a line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldOrder {
    pub line: Vec<u8>,
    /// The number of its items.
    pub items: u64,
}

pub(super) const STATUS_TIME_SQL: &str = "SELECT occurred_us FROM order_status_time WHERE id = ?1";

pub(super) fn count_sql(partition: &str) -> String {
    format!("SELECT count(*) FROM {} WHERE id >= ?1 AND id < ?2", items_of(partition))
}

/// Returns an order with its items and the time of its last status change, or `None` if it no longer exists.
pub fn held_order(
    connection: &Connection,
    shard: ShardId,
    tenant_id: &str,
    id: i64,
) -> Result<Option<HeldOrder>, ShardError> {
    let Some(tenant) = tenant_number(connection, tenant_id)? else { return Ok(None) };
    let firsts = firsts(connection, &ORDERS)?;
    let Some(table) = table_of(&firsts, id) else { return Ok(None) };
    let mut statement = connection.prepare_cached(&by_id_sql(table))?;
    let order = statement.query_row(params![id, tenant], |row| Ok(found(row))).optional()?;
    let Some(order) = order.transpose()? else { return Ok(None) };
    let of = everything(tenant_id);
    let mut line = Vec::new();
    Renderer::new(connection, shard, &of)?.write(table, &order, &mut line)?;
    // The line ends with `}` and a line end.
    line.truncate(line.len().saturating_sub(2));
    let mut changed = connection.prepare_cached(STATUS_TIME_SQL)?;
    if let Some(changed_us) = changed.query_row([id], |row| row.get(0)).optional()? {
        line.extend_from_slice(b",\"status_changed_at\":\"");
        write_rfc3339(&mut line, changed_us);
        line.push(b'"');
    }
    line.push(b'}');
    let [first, end] = item_ids(id, id);
    let mut count = connection.prepare_cached(&count_sql(table))?;
    let items: i64 = count.query_row([first, end], |row| row.get(0))?;
    Ok(Some(HeldOrder { line, items: items.unsigned_abs() }))
}

/// Returns a customer's id, name and e-mail address, by the customer's number.
pub fn held_customer(connection: &Connection, customer: i64) -> Result<Option<[String; 3]>, ShardError> {
    let mut statement = connection.prepare_cached(CUSTOMER_SQL)?;
    let read = |row: &rusqlite::Row<'_>| Ok([row.get(0)?, row.get(1)?, row.get(2)?]);
    Ok(statement.query_row([customer], read).optional()?)
}

/// Returns a filter with all fields.
fn everything(tenant_id: &str) -> OrderFilter {
    OrderFilter {
        tenant_id: tenant_id.to_owned(),
        order: None,
        customer: None,
        currency: None,
        product_ids: Vec::new(),
        category: None,
        price_min: None,
        price_max: None,
        statuses: 0,
        total_min: None,
        total_max: None,
        words: Vec::new(),
        fields: (1 << ORDER_FIELDS.len()) - 1,
        cache: QueryCache::default(),
    }
}
