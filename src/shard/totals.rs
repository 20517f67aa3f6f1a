//! The counters on the commit page, equal to a recount at every commit. The view `total` shows them.

use rusqlite::{Connection, OptionalExtension as _};

use super::commit_page::{self, PageKey, TOTAL};
use super::error::ShardError;

/// The total of rejected records.
pub(super) const REJECTED: &str = "rejected_records";
/// The total of stored records that are not rows of a stream.
pub(super) const OTHER: &str = "other_records";

/// Adds to a total.
pub(super) fn add(transaction: &Connection, total: &str, more: u64) -> Result<(), ShardError> {
    if more > 0 {
        commit_page::add(transaction, PageKey::new(TOTAL, total, 0), more as i64, None)?;
    }
    Ok(())
}

/// Subtracts from a total.
pub(super) fn subtract(transaction: &Connection, total: &str, less: u64) -> Result<(), ShardError> {
    commit_page::add(transaction, PageKey::new(TOTAL, total, 0), -(less as i64), None)
}

/// Subtracts deleted records from the total of rejected ones.
///
/// # Errors
/// SQLite reports an error.
pub fn subtract_rejected(transaction: &Connection, records: u64) -> Result<(), ShardError> {
    subtract(transaction, REJECTED, records)
}

/// Sets a total.
pub(super) fn set(transaction: &Connection, total: &str, value: i64) -> Result<(), ShardError> {
    commit_page::set(transaction, PageKey::new(TOTAL, total, 0), value, None)
}

/// Deletes a total.
pub(super) fn remove(transaction: &Connection, total: &str) -> Result<(), ShardError> {
    commit_page::remove(transaction, TOTAL, total)
}

/// Returns a total that may not exist.
pub(super) fn find(connection: &Connection, name: &str) -> Result<Option<i64>, ShardError> {
    let sql = "SELECT value FROM total WHERE name = ?1";
    Ok(connection.query_row(sql, [name], |row| row.get(0)).optional()?)
}

pub(super) fn load_total(connection: &Connection, name: &str) -> Result<u64, ShardError> {
    let value = find(connection, name)?.unwrap_or(0);
    u64::try_from(value).map_err(|_| ShardError::Corrupt(format!("total {name} is {value}")))
}

/// Returns a counter of `total`.
pub fn total(snapshot: &Connection, name: &str) -> Result<u64, ShardError> {
    let value: i64 =
        snapshot.query_row("SELECT value FROM total WHERE name = ?1", [name], |row| row.get(0))?;
    Ok(value.unsigned_abs())
}
