//! Rows of an earlier schema version, which upkeep moves into the tables of the present one while they are served.
//!
//! A migration renames their table. At each commit, a row is in one of both. There is no other record of the progress, so
//! that a crash loses at most the last slice.

use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::error::ShardError;
use super::ids::Ids;
use crate::base::clock;

/// The tables of rows that upkeep moves, the first of them with every row.
#[derive(Debug)]
pub struct Earlier {
    pub tables: &'static [&'static str],
    /// The words for the rows in the log.
    pub what: &'static str,
}

impl Earlier {
    /// Renames a table of the version before. Views that name the table must have been dropped.
    pub fn rename(&self, connection: &Connection, from: &str, to: &str) -> Result<(), ShardError> {
        // Without the pragma, SQLite refuses to rename a table in a new file, whose other views have no tables yet.
        connection.execute_batch(&format!(
            "PRAGMA legacy_alter_table = ON; ALTER TABLE {from} RENAME TO {to}; PRAGMA legacy_alter_table = OFF;"
        ))?;
        Ok(())
    }

    /// Returns `true` if there is a table of earlier rows.
    pub fn is_pending(&self, connection: &Connection) -> Result<bool, ShardError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?1)";
        Ok(connection.query_row(sql, [self.tables[0]], |row| row.get(0))?)
    }

    /// Returns `true` if every earlier row is moved.
    pub fn is_empty(&self, connection: &Connection) -> Result<bool, ShardError> {
        for table in self.tables {
            let sql = format!("SELECT EXISTS (SELECT 1 FROM {table})");
            if connection.query_row(&sql, [], |row| row.get(0))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Drops the tables. Rows that are left in them belong to nothing.
    pub fn drop_tables(&self, connection: &Connection) -> Result<(), ShardError> {
        if !self.is_empty(connection)? {
            let table = self.tables[0];
            return Err(ShardError::Corrupt(format!("{table} has rows that belong to nothing")));
        }
        for table in self.tables {
            connection.execute_batch(&format!("DROP TABLE {table}"))?;
        }
        Ok(())
    }

    /// Runs steps for half of `budget`, in one transaction, and saves the ids that they staged. A step gets the
    /// transaction, the ids and the monotonic time of its end, and returns the next state, or `None` at the end. After an
    /// error, the caller begins again with a new state.
    pub fn slice<S>(
        &self,
        connection: &mut Connection,
        ids: &mut Ids,
        budget: Duration,
        mut state: S,
        mut step: impl FnMut(&Connection, &mut Ids, u64, S) -> Result<Option<S>, ShardError>,
    ) -> Result<Option<S>, ShardError> {
        let until_us = clock::monotonic_us() + budget.as_micros() as u64 / 2;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let rest = loop {
            match step(&transaction, ids, until_us, state)? {
                Some(next) => state = next,
                None => break None,
            }
            if clock::monotonic_us() >= until_us {
                break Some(state);
            }
        };
        ids.save(&transaction)?;
        transaction.commit()?;
        if rest.is_none() {
            tracing::info!("the {} of an earlier version are moved", self.what);
        }
        Ok(rest)
    }
}
