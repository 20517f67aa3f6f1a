//! One order, as stored in the time index.

use rusqlite::Row;

use super::super::status::OrderStatus;
use crate::base::money::Currency;
use crate::shard::ShardError;

/// One order, as stored in the time index.
#[derive(Clone, Debug)]
pub(in crate::orders) struct IndexedOrder {
    pub(in crate::orders) ordered_at_us: i64,
    pub(in crate::orders) order_id: String,
    pub(in crate::orders) id: i64,
    pub(in crate::orders) currency: Currency,
    pub(in crate::orders) status: OrderStatus,
    pub(in crate::orders) total: i64,
    pub(in crate::orders) units: i64,
    pub(in crate::orders) customer: i64,
}

pub(in crate::orders) fn damaged() -> ShardError {
    ShardError::Corrupt("an order has an unknown status or currency".to_owned())
}

/// Reads an order from the columns ordered_at_us, order_id, id, currency, status, total, units, customer.
pub(in crate::orders) fn found(row: &Row<'_>) -> Result<IndexedOrder, ShardError> {
    let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
    Ok(IndexedOrder {
        ordered_at_us: row.get(0)?,
        order_id: text(1)?.to_owned(),
        id: row.get(2)?,
        currency: Currency::parse(text(3)?).ok_or_else(damaged)?,
        status: OrderStatus::from_code(row.get(4)?).ok_or_else(damaged)?,
        total: row.get(5)?,
        units: row.get(6)?,
        customer: row.get(7)?,
    })
}

pub(in crate::orders) const FOUND_COLUMNS: &str =
    "ordered_at_us, order_id, id, currency, status, total, units, customer";

pub(in crate::orders) fn by_id_sql(partition: &str) -> String {
    format!("SELECT {FOUND_COLUMNS} FROM {partition} WHERE id = ?1 AND tenant = ?2")
}

/// Returns the SQL that reads the orders after a position, newest first.
pub(in crate::orders) fn scan_sql(partition: &str) -> String {
    format!(
        "SELECT {FOUND_COLUMNS} FROM {partition} INDEXED BY {partition}_time WHERE tenant = ?1 \
         AND (ordered_at_us, order_id) < (?2, ?3) AND ordered_at_us >= ?4 AND id <= ?5 \
         ORDER BY ordered_at_us DESC, order_id DESC"
    )
}
