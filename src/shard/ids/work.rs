//! Converts the newest ids to a run, in slices: freezes them, writes the chunks, writes the run, and deletes the rows
//! that the run replaces. Each slice is one short transaction. After a crash between any two slices, the tables
//! contain every id once or twice.

use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::frozen::Frozen;
use super::run::{self, Run};
use super::table::{Table, hash_of};
use super::{Ids, IdsOf, store};
use crate::base::clock;
use crate::shard::error::ShardError;

/// Rows between two checks of the clock.
const STRIDE: usize = 8;

/// Rows of the id tables that are no longer needed.
#[derive(Default)]
pub(super) struct PendingDeletes {
    /// Rows of id_recent whose ids are in a run.
    pub(super) recent_below: Option<i64>,
    /// Rows of id_chunk whose run was removed.
    pub(super) chunks_below: Option<i64>,
    /// Rows of id_chunk whose run was not finished.
    pub(super) chunks_from: Option<i64>,
}

impl PendingDeletes {
    pub(super) fn load(
        connection: &Connection,
        of: &IdsOf,
        runs: &[Run],
    ) -> Result<PendingDeletes, ShardError> {
        let prefix = of.prefix;
        let exists = |rows: &str, id: i64| -> Result<Option<i64>, ShardError> {
            let sql = format!("SELECT EXISTS (SELECT 1 FROM {prefix}{rows})");
            Ok(connection.query_row(&sql, [id], |row| row.get::<_, bool>(0))?.then_some(id))
        };
        let (below, from) = match (runs.first(), runs.last()) {
            (Some(first), Some(last)) => (first.first_id, last.end()),
            _ => (i64::MIN, i64::MIN),
        };
        Ok(PendingDeletes {
            recent_below: exists("id_recent WHERE first_id < ?1", from)?,
            chunks_below: exists("id_chunk WHERE id < ?1", below)?,
            chunks_from: exists("id_chunk WHERE id >= ?1", from)?,
        })
    }

    /// Returns the table, the key, the comparison and the bound of the next rows to delete.
    fn due(&mut self) -> Option<([&'static str; 3], &mut Option<i64>)> {
        let recent = ["id_recent", "first_id", "<"];
        let below = ["id_chunk", "id", "<"];
        let from = ["id_chunk", "id", ">="];
        let all = [
            // These go first, because the next run's chunks use the same ids.
            (from, &mut self.chunks_from),
            (recent, &mut self.recent_below),
            (below, &mut self.chunks_below),
        ];
        all.into_iter().find(|(_, bound)| bound.is_some())
    }
}

impl Ids {
    /// Returns `true` if [`Ids::work`] has work now.
    pub fn work_due(&self) -> bool {
        let left = &self.leftovers;
        let is_left = [left.recent_below, left.chunks_below, left.chunks_from].iter().any(Option::is_some);
        let is_next = match &self.frozen {
            // Waiting for the thread for a moment is better than two full tables.
            Some(frozen) => !frozen.is_waiting() || self.newest.count() >= self.run_ids() / 4 * 3,
            None => self.newest.count() >= self.run_ids(),
        };
        self.staged.is_empty() && (is_left || is_next)
    }

    /// Returns `true` while a thread sorts ids, or sorted ids are not yet in a run.
    pub fn is_freezing(&self) -> bool {
        self.frozen.is_some()
    }

    /// Runs one slice of converting the newest ids to a run, or of deleting what a run replaced, in a separate
    /// transaction of about `budget`. Call it between batches; within a batch it does nothing. After an error, the
    /// slice has no effect. If too many new ids arrive before the thread has sorted the frozen ones (0.1 us per id),
    /// this function waits for the thread.
    pub fn work(&mut self, connection: &mut Connection, budget: Duration) -> Result<(), ShardError> {
        if !self.work_due() {
            return Ok(());
        }
        // By measurement, a commit takes about as long as the inserts before it, so the inserts get half of the
        // budget.
        let until_us = clock::monotonic_us() + budget.as_micros() as u64 / 2;
        if self.leftovers.due().is_some() {
            return self.clear(connection, until_us);
        }
        let Some(frozen) = &mut self.frozen else {
            let first_id = self.newest_first_id();
            let table = std::mem::replace(&mut self.newest, Table::new());
            self.frozen = Some(Frozen::new(first_id, table, self.sizes.chunk_ids));
            return Ok(());
        };
        if !frozen.is_written() {
            return write_chunks(self.of, frozen, begin(connection)?, until_us);
        }
        write_run(self.of, frozen, begin(connection)?)?;
        self.leftovers.recent_below = Some(frozen.end());
        self.runs.extend(self.frozen.take().map(Frozen::into_run));
        Ok(())
    }

    fn clear(&mut self, connection: &mut Connection, until_us: u64) -> Result<(), ShardError> {
        let Some(([table, key, compare], bound)) = self.leftovers.due() else { return Ok(()) };
        let table = format!("{}{table}", self.of.prefix);
        let sql = format!(
            "DELETE FROM {table} WHERE {key} IN \
             (SELECT {key} FROM {table} WHERE {key} {compare} ?1 ORDER BY {key} LIMIT ?2)"
        );
        let transaction = begin(connection)?;
        let mut is_done = false;
        while !is_done {
            let deleted = transaction.prepare_cached(&sql)?.execute(params![*bound, STRIDE as i64])?;
            is_done = deleted < STRIDE;
            if clock::monotonic_us() >= until_us {
                break;
            }
        }
        transaction.commit()?;
        if is_done {
            *bound = None;
        }
        Ok(())
    }
}

fn begin(connection: &mut Connection) -> Result<Transaction<'_>, ShardError> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

fn write_chunks(
    of: &IdsOf,
    frozen: &mut Frozen,
    transaction: Transaction<'_>,
    until_us: u64,
) -> Result<(), ShardError> {
    let (first_id, chunks) = (frozen.first_id, frozen.chunks);
    let sorted = frozen.sorted();
    let (mut chunk, mut at) = (sorted.chunks_written, sorted.entries_written);
    let mut blob = Vec::new();
    let mut statement = transaction
        .prepare_cached(&format!("INSERT INTO {}id_chunk (id, entries) VALUES (?1, ?2)", of.prefix))?;
    while chunk < chunks {
        let rest = &sorted.entries[at..];
        let count = rest.iter().take_while(|entry| run::part_of(hash_of(entry), chunks) == chunk).count();
        let id = first_id + i64::from(chunk);
        blob.clear();
        run::encode_chunk(&rest[..count], &mut blob);
        store::seal(id, &mut blob);
        statement.execute(params![id, blob])?;
        (chunk, at) = (chunk + 1, at + count);
        if (chunk as usize).is_multiple_of(STRIDE) && clock::monotonic_us() >= until_us {
            break;
        }
    }
    drop(statement);
    transaction.commit()?;
    (sorted.chunks_written, sorted.entries_written) = (chunk, at);
    Ok(())
}

/// Writes the run. From this commit on, it replaces the rows of id_recent.
fn write_run(of: &IdsOf, frozen: &mut Frozen, transaction: Transaction<'_>) -> Result<(), ShardError> {
    let mut blob = Vec::new();
    frozen.sorted().filter.encode(&mut blob);
    store::seal(frozen.first_id, &mut blob);
    transaction
        .prepare_cached(&format!(
            "INSERT INTO {}id_run (first_id, ids, chunks, filter) VALUES (?1, ?2, ?3, ?4)",
            of.prefix
        ))?
        .execute(params![frozen.first_id, frozen.ids() as i64, frozen.chunks, blob])?;
    transaction.commit()?;
    Ok(())
}
