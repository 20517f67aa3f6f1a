//! A file that is not the one in which its newest epoch began: a restored backup, a healed file, a replaced one. An epoch
//! begins in it before it gives out a number.

use std::collections::BTreeMap;

use rusqlite::{Connection, TransactionBehavior};

use super::checkpointed::checkpointed;
use super::epochs::{self, EpochReason, is_epoch_of_file};
use super::error::ShardError;

/// Such a file, and how far it is complete.
#[derive(Debug)]
pub(super) struct CopiedFile {
    /// The starts of its epoch.
    starts: BTreeMap<String, i64>,
}

impl CopiedFile {
    /// Returns the file if it is one. `lasts` are the last numbers that it has given out.
    pub(super) fn find(
        connection: &Connection,
        lasts: BTreeMap<String, i64>,
    ) -> Result<Option<CopiedFile>, ShardError> {
        if is_epoch_of_file(connection)? {
            return Ok(None);
        }
        // Beyond these numbers, the file may have other rows than the one it was copied from.
        let complete = checkpointed(connection)?;
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
