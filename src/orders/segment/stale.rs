//! The list of orders that have changed since their segment was made.

use rusqlite::{Connection, params};

use super::columns::SegmentColumns;
use crate::shard::ShardError;

pub(super) const STALE_SQL: &str =
    "SELECT id, status FROM sales_segment_stale WHERE id >= ?1 AND id < ?2 ORDER BY id";

/// The status of a deleted order.
pub(super) const GONE: i64 = 0;

/// Returns the listed orders `[first, end)` with their statuses.
pub(super) fn stale_statuses(
    connection: &Connection,
    (first_id, end_id): (i64, i64),
) -> Result<Vec<(i64, i64)>, ShardError> {
    let mut statement = connection.prepare_cached(STALE_SQL)?;
    let rows = statement.query_map([first_id, end_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Sets the listed statuses in the columns of the segment that begins with an order. A deleted order has no customer.
pub(super) fn apply(stale: &[(i64, i64)], first_id: i64, columns: &mut SegmentColumns) {
    for (id, status) in stale {
        let Ok(place) = usize::try_from(id - first_id) else { continue };
        if let Some(stored) = columns.statuses.get_mut(place) {
            *stored = *status;
        }
        if *status == GONE
            && let Some(customer) = columns.customers.get_mut(place)
        {
            *customer = 0;
        }
    }
}

/// Lists an order, in the transaction that changes it.
pub(super) fn list(transaction: &Connection, id: i64, status: i64) -> Result<(), ShardError> {
    let sql = "INSERT OR REPLACE INTO sales_segment_stale (id, status) VALUES (?1, ?2)";
    transaction.prepare_cached(sql)?.execute(params![id, status])?;
    Ok(())
}

/// Returns the number of listed orders `[first, end)`.
pub(super) fn count(connection: &Connection, (first_id, end_id): (i64, i64)) -> Result<usize, ShardError> {
    let sql = "SELECT count(*) FROM sales_segment_stale WHERE id >= ?1 AND id < ?2";
    let found: i64 = connection.prepare_cached(sql)?.query_row([first_id, end_id], |row| row.get(0))?;
    Ok(found.unsigned_abs() as usize)
}

/// Deletes the listed orders `[first, end)`.
pub(super) fn forget(transaction: &Connection, (first_id, end_id): (i64, i64)) -> Result<(), ShardError> {
    let sql = "DELETE FROM sales_segment_stale WHERE id >= ?1 AND id < ?2";
    transaction.prepare_cached(sql)?.execute([first_id, end_id])?;
    Ok(())
}
