//! How far the database file, without its WAL, is complete: for each stream the last row id, for each journal the last
//! record.
//!
//! A committed row id is not yet a promise. Commits are not synced, so a damaged WAL or a power cut may lose some, and
//! the journals then repeat the records, possibly in another order. Up to these ids, no row changes its id any more. They
//! are written after the checkpoint that makes them true, so they are true wherever they are read, and only if they
//! have changed, so a shard without new rows comes to rest.

use std::collections::BTreeMap;

use rusqlite::{Connection, TransactionBehavior, params};

use super::error::ShardError;

/// Creates the table.
pub(super) fn create_table(connection: &Connection) -> Result<(), ShardError> {
    Ok(connection.execute_batch(
        "
CREATE TABLE checkpointed (
  -- How far this file is complete without its WAL, as of the last checkpoints. Up to here, rows keep
  -- their ids even if the WAL is lost.
  stream TEXT PRIMARY KEY,  -- a stream of rows, or the folder of a journal
  last INTEGER NOT NULL     -- the last row id, or the last record of the journal
) WITHOUT ROWID;
",
    )?)
}

/// Row ids by stream, and records by journal.
pub(super) type Places = BTreeMap<String, i64>;

/// Returns how far the file is complete without its WAL: the last row id of each stream and ledger, the last number of
/// the feed of changes and of the epochs, the last record of each journal. A name that is not listed has none.
///
/// # Errors
/// SQLite reports an error.
pub fn checkpointed(connection: &Connection) -> Result<Places, ShardError> {
    let mut statement = connection.prepare_cached("SELECT stream, last FROM checkpointed")?;
    let stored = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(stored.collect::<Result<_, _>>()?)
}

/// The content of the table, and what is to be written to it.
#[derive(Debug, Default)]
pub(super) struct Checkpointed {
    stored: Places,
    /// `None` if the table has everything that is known.
    next: Option<Places>,
}

impl Checkpointed {
    pub(super) fn load(connection: &Connection) -> Result<Checkpointed, ShardError> {
        Ok(Checkpointed { stored: checkpointed(connection)?, next: None })
    }

    /// Notes how far a checkpoint has come.
    pub(super) fn note(&mut self, places: Places) {
        let is_new = places.iter().any(|(stream, last)| self.stored.get(stream) != Some(last));
        self.next = is_new.then_some(places);
    }

    /// Writes what was noted, in a transaction of its own. Returns `true` if there was anything to write.
    pub(super) fn save(&mut self, connection: &mut Connection) -> Result<bool, ShardError> {
        let Some(next) = &self.next else { return Ok(false) };
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        write_places(
            &transaction,
            next.iter().filter(|(stream, last)| self.stored.get(*stream) != Some(*last)),
        )?;
        transaction.commit()?;
        self.stored.append(&mut self.next.take().unwrap_or_default());
        Ok(true)
    }
}

/// Writes some entries of the table, in the caller's transaction.
pub(super) fn write_places<'p>(
    connection: &Connection,
    places: impl IntoIterator<Item = (&'p String, &'p i64)>,
) -> Result<(), ShardError> {
    for (stream, last) in places {
        let sql = "INSERT INTO checkpointed (stream, last) VALUES (?1, ?2) \
                   ON CONFLICT (stream) DO UPDATE SET last = excluded.last";
        connection.prepare_cached(sql)?.execute(params![stream, last])?;
    }
    Ok(())
}
