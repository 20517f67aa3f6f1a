//! An index that was written as a table.
//!
//! `CREATE INDEX` would hold the write lock for 0.6 s per million rows. The entries of an index are therefore appended
//! in its order to a WITHOUT ROWID table, slice by slice. The table's b-tree equals that of the index byte for byte:
//! both store the key columns and the row id as one record (SQLite's file format, section 2.4). One change to the
//! catalogue (`PRAGMA writable_schema`) turns the complete table into the index. Every connection notices the change by
//! the schema version, and the planner of the sqlite3 shell uses the index.

use rusqlite::{Connection, params};

use super::error::ShardError;

/// The names of an index that is being built, and the statement that describes it.
#[derive(Clone, Copy, Debug)]
pub struct IndexNames<'n> {
    /// The table with its entries.
    pub build: &'n str,
    pub index: &'n str,
    pub table: &'n str,
    /// The `CREATE INDEX` of the index.
    pub sql: &'n str,
}

/// Turns the finished table into the index, in the caller's transaction. After the commit, call [`reload_schema`].
pub fn become_index(transaction: &Connection, names: IndexNames<'_>) -> Result<(), ShardError> {
    let IndexNames { build, index, table, sql } = names;
    let version: i64 = transaction.pragma_query_value(None, "schema_version", |row| row.get(0))?;
    transaction.execute_batch("PRAGMA writable_schema = ON")?;
    let changed = transaction.execute(
        "UPDATE sqlite_schema SET type = 'index', name = ?1, tbl_name = ?2, sql = ?3 \
         WHERE type = 'table' AND name = ?4",
        params![index, table, sql, build],
    );
    transaction.execute_batch("PRAGMA writable_schema = OFF")?;
    if changed? != 1 {
        return Err(ShardError::Other(format!("{build} is not in the catalogue")));
    }
    transaction.pragma_update(None, "schema_version", version + 1)?;
    Ok(())
}

/// Reloads the catalogue, in which the table is now an index.
pub fn reload_schema(connection: &Connection) -> Result<(), ShardError> {
    connection.execute_batch("PRAGMA writable_schema = RESET")?;
    connection.flush_prepared_statement_cache();
    Ok(())
}
