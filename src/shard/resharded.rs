//! The epoch of a file whose rows come from other shards.

use rusqlite::TransactionBehavior;

use super::checkpointed::write_places;
use super::epochs::{self, EPOCH};
use super::error::ShardError;
use super::file::Shard;

impl Shard {
    /// Marks the rows as those of other shards, after all of them were carried into this file and before it is served. May
    /// be called again.
    ///
    /// # Errors
    /// SQLite reports an error.
    pub fn begin_resharded(&mut self) -> Result<(), ShardError> {
        let starts = self.stores.last_numbers(&self.connection, &self.streams)?;
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
