//! Frees tables slice by slice: rows are deleted from the front, and an empty table is dropped. Also the table of sums
//! by product that earlier versions kept.

use rusqlite::Connection;

use crate::base::clock;
use crate::shard::ShardError;

/// The number of rows between two checks of the clock.
pub(super) const ROWS_PER_CHECK: i64 = 256;

/// The table of sums by day and product up to schema version 11, with its key.
pub(super) const PRODUCT_SUMS: &str = "sales_by_product";
const PRODUCT_SUMS_KEY: &str = "tenant, currency, start_us, product";

/// Returns `true` if the table of sums by product has rows.
pub(super) fn has_product_sums(connection: &Connection) -> Result<bool, ShardError> {
    Ok(connection.prepare(&format!("SELECT 1 FROM {PRODUCT_SUMS}"))?.exists([])?)
}

/// Returns `true` if an earlier version left its sums by product in the file.
pub(super) fn are_product_sums_left(connection: &Connection) -> Result<bool, ShardError> {
    exists(connection, PRODUCT_SUMS)
}

/// Deletes sums by product of an earlier version until `until_us`. Returns `true` once there are none.
pub(super) fn free_product_sums(transaction: &Connection, until_us: u64) -> Result<bool, ShardError> {
    free_rows(transaction, PRODUCT_SUMS, PRODUCT_SUMS_KEY, until_us)
}

/// Returns `true` if the file has a table.
pub(super) fn exists(transaction: &Connection, table: &str) -> Result<bool, ShardError> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    Ok(transaction.prepare_cached(sql)?.exists([table])?)
}

/// Deletes rows from the front of a table until `until_us`, and drops it once it is empty. `key` is its primary key.
/// Returns `true` if it was dropped.
pub(super) fn free_rows(
    transaction: &Connection,
    table: &str,
    key: &str,
    until_us: u64,
) -> Result<bool, ShardError> {
    let sql =
        format!("DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} ORDER BY {key} LIMIT ?1)");
    loop {
        if transaction.prepare_cached(&sql)?.execute([ROWS_PER_CHECK])? == 0 {
            transaction.execute_batch(&format!("DROP TABLE {table}"))?;
            return Ok(true);
        }
        if clock::monotonic_us() >= until_us {
            return Ok(false);
        }
    }
}
