//! From the newest ids to a run, in slices: freeze, write the chunks, write the run, delete what it
//! replaces. Each slice is one short transaction; whichever is the last before a crash, the tables hold
//! every id once or twice.

use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::frozen::Frozen;
use super::run::{self, Run};
use super::table::{Table, hash_of};
use super::{Ids, IdsOf, store};
use crate::base::clock;
use crate::shard::error::ShardError;

/// Rows between two looks at the clock.
const STRIDE: usize = 8;

/// Rows of the id tables that nobody asks for any more.
#[derive(Default)]
pub(super) struct Leftovers {
    /// Of id_recent: a run has them.
    pub(super) recent_below: Option<i64>,
    /// Of id_chunk: their run is gone.
    pub(super) chunks_below: Option<i64>,
    /// Of id_chunk: their run was not finished.
    pub(super) chunks_from: Option<i64>,
}

impl Leftovers {
    pub(super) fn load(connection: &Connection, of: &IdsOf, runs: &[Run]) -> Result<Leftovers, ShardError> {
        let prefix = of.prefix;
        let exists = |rows: &str, id: i64| -> Result<Option<i64>, ShardError> {
            let sql = format!("SELECT EXISTS (SELECT 1 FROM {prefix}{rows})");
            Ok(connection.query_row(&sql, [id], |row| row.get::<_, bool>(0))?.then_some(id))
        };
        let (below, from) = match (runs.first(), runs.last()) {
            (Some(first), Some(last)) => (first.first_id, last.end()),
            _ => (i64::MIN, i64::MIN),
        };
        Ok(Leftovers {
            recent_below: exists("id_recent WHERE first_id < ?1", from)?,
            chunks_below: exists("id_chunk WHERE id < ?1", below)?,
            chunks_from: exists("id_chunk WHERE id >= ?1", from)?,
        })
    }

    /// Table, key and which rows of it.
    fn due(&mut self) -> Option<([&'static str; 3], &mut Option<i64>)> {
        let recent = ["id_recent", "first_id", "<"];
        let below = ["id_chunk", "id", "<"];
        let from = ["id_chunk", "id", ">="];
        let all = [
            // First, for the next run's chunks take their places.
            (from, &mut self.chunks_from),
            (recent, &mut self.recent_below),
            (below, &mut self.chunks_below),
        ];
        all.into_iter().find(|(_, bound)| bound.is_some())
    }
}

impl Ids {
    /// Whether [`Ids::work`] would do something now.
    pub fn work_due(&self) -> bool {
        let left = &self.leftovers;
        let is_left = [left.recent_below, left.chunks_below, left.chunks_from].iter().any(Option::is_some);
        let is_next = match &self.frozen {
            // Rather a moment of standing still than two full tables.
            Some(frozen) => !frozen.is_waiting() || self.newest.count() >= self.run_ids() / 4 * 3,
            None => self.newest.count() >= self.run_ids(),
        };
        self.staged.is_empty() && (is_left || is_next)
    }

    /// One slice of turning the newest ids into a run, or of deleting what one replaced: a transaction of
    /// its own, of about `budget`. Call it between batches; within one it does nothing. After an error
    /// the slice is as if it had not been. Where ids come faster than a thread sorts the last ones (0.1 us
    /// an id), it waits for the thread.
    pub fn work(&mut self, connection: &mut Connection, budget: Duration) -> Result<(), ShardError> {
        if !self.work_due() {
            return Ok(());
        }
        // Measured: a commit takes about as long as the inserts before it.
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

/// From this commit on the run stands for the rows of id_recent.
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
