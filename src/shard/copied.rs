//! A file that is not the one in which its newest epoch began: a restored backup, a healed file, a replaced one. An epoch
//! begins in it before it gives out a number.

use std::collections::BTreeMap;

use rusqlite::{Connection, TransactionBehavior};

use super::change::{CHANGES, last_change};
use super::checkpointed::{checkpointed, write_places};
use super::epochs::{self, EPOCH, EpochReason, is_epoch_of_file};
use super::error::ShardError;
use super::family::Families;
use super::file::Shard;
use super::options::ShardOptions;
use super::stores::Stores;
use super::streams::Streams;

/// Such a file, and how far it is complete.
#[derive(Debug)]
pub(super) struct CopiedFile {
    /// The starts of its epoch.
    starts: BTreeMap<String, i64>,
}

impl CopiedFile {
    /// Returns the file if it is one.
    pub(super) fn find(
        connection: &Connection,
        streams: &Streams,
        stores: &Stores,
    ) -> Result<Option<CopiedFile>, ShardError> {
        if is_epoch_of_file(connection)? {
            return Ok(None);
        }
        // Beyond these numbers, the file may have other rows than the one it was copied from.
        let complete = checkpointed(connection)?;
        let lasts = last_numbers(connection, streams, stores)?;
        let start = |(stream, last): (String, i64)| {
            let known = complete.get(&stream).copied().unwrap_or_default();
            (stream, last.min(known))
        };
        Ok(Some(CopiedFile { starts: lasts.into_iter().map(start).collect() }))
    }

    /// Begins the epoch of the file, if there is one to begin.
    pub(super) fn begin_epoch(
        file: &mut Option<CopiedFile>,
        connection: &mut Connection,
    ) -> Result<(), ShardError> {
        let Some(copied) = file else { return Ok(()) };
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        epochs::begin(&transaction, EpochReason::Copied, &copied.starts)?;
        transaction.commit()?;
        *file = None;
        Ok(())
    }
}

/// Returns the last number that a file has given out for each stream and ledger and for the feed of changes.
pub(super) fn last_numbers(
    connection: &Connection,
    streams: &Streams,
    stores: &Stores,
) -> Result<BTreeMap<String, i64>, ShardError> {
    let streams = streams.iter().filter_map(|state| {
        let last = state.open.as_ref()?.next_id - 1;
        Some((state.stream.name.to_owned(), last))
    });
    let ledgers = stores.iter().flat_map(|store| store.last_ids());
    let ledgers = ledgers.map(|(ledger, last)| (ledger.to_owned(), last));
    let feed = [(CHANGES.to_owned(), last_change(connection)?)];
    Ok(streams.chain(ledgers).chain(feed).collect())
}

/// Notes in a copy, which is no open shard, that it is complete, and that it is another file than that of its epochs.
pub(super) fn complete(copy: &Connection, families: &Families) -> Result<(), ShardError> {
    let streams = Streams::load(copy, families.streams(), &ShardOptions::default())?;
    let mut places = last_numbers(copy, &streams, &Stores::default())?;
    for ledger in families.ledgers() {
        let next: i64 = copy.query_row(ledger.next_id_sql, [], |row| row.get(0))?;
        places.insert(ledger.name.to_owned(), next - 1);
    }
    places.insert(EPOCH.to_owned(), epochs::newest_number(copy)?);
    write_places(copy, &places)?;
    epochs::leave_home(copy)
}

impl Shard {
    /// Marks the rows as those of other shards, after all of them were carried into this file and before it is served. May
    /// be called again.
    ///
    /// # Errors
    /// SQLite reports an error.
    pub fn begin_resharded(&mut self) -> Result<(), ShardError> {
        let starts = last_numbers(&self.connection, &self.streams, &self.stores)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        epochs::become_resharded(&transaction, &starts)?;
        // Nothing reads the file before a checkpoint has completed it.
        let mut places = starts;
        places.insert(EPOCH.to_owned(), epochs::newest_number(&transaction)?);
        write_places(&transaction, &places)?;
        transaction.commit()?;
        Ok(())
    }
}
