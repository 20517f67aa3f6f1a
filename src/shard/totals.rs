//! The counters in the table `total`, equal to a recount at every commit.

use rusqlite::{Connection, params};

use super::error::ShardError;

/// The total of rejected records.
pub(super) const REJECTED: &str = "rejected_records";
/// The total of stored records that are not rows of a stream.
pub(super) const OTHER: &str = "other_records";

/// Adds to an existing total.
pub(super) fn add(transaction: &Connection, total: &str, more: u64) -> Result<(), ShardError> {
    if more > 0 {
        transaction
            .prepare_cached("UPDATE total SET value = value + ?2 WHERE name = ?1")?
            .execute(params![total, more as i64])?;
    }
    Ok(())
}

pub(super) fn load_total(connection: &Connection, name: &str) -> Result<u64, ShardError> {
    let value: i64 = connection.query_row(
        "SELECT coalesce((SELECT value FROM total WHERE name = ?1), 0)",
        [name],
        |row| row.get(0),
    )?;
    u64::try_from(value).map_err(|_| ShardError::Corrupt(format!("total {name} is {value}")))
}

/// Returns a counter of `total`.
pub fn total(snapshot: &Connection, name: &str) -> Result<u64, ShardError> {
    let value: i64 =
        snapshot.query_row("SELECT value FROM total WHERE name = ?1", [name], |row| row.get(0))?;
    Ok(value.unsigned_abs())
}
