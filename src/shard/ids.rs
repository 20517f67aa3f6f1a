//! Which event ids a shard has: candidates by hash, quickly, however many there are. The caller settles a
//! candidate by comparing the ids themselves; an id that is stored is never missed.
//!
//! ```text
//!  stage ─► newest (hash table) ─► frozen ─► sorted run: chunks in the file, a filter in memory
//!           id_recent: one row a commit        └─ sorted on a thread of its own, written in slices
//! ```
//! A unique index on random ids falls to 46,000 inserts/s at 5 M rows, because each touches a page of its
//! own. Here an insert touches the newest table only, and a look-up of a new id ends at the filters: binary
//! fuse filters (Graf, Lemire 2022) of 16 bits, 18 bits an id, wrong once in 65,536. They are asked run by
//! run for a whole batch, so that one filter stays in the CPU's cache. Measured at 10 M ids: see tuning.md.
//!
//! Runs follow the order of arrival: each covers row ids `first_id..=last_id`, all of them committed.

mod build;
mod newest;
mod run;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use build::{Build, Built};
use newest::Newest;
use run::Run;
use rusqlite::{Connection, TransactionBehavior, params};

use super::error::ShardError;
use crate::base::clock;
use crate::base::keys::KeyHash;

/// Ids of one run: half a million cost 13 MiB as the newest and 1.2 MB afterwards.
const RUN_IDS: usize = 1 << 19;
/// Bytes of one id in the tables: its hash, big-endian, halves exchanged.
const HASH_BYTES: usize = 16;
/// Rows of id_recent deleted between two looks at the clock.
const DELETE_ROWS: usize = 4;

/// The tables, made by the schema.
pub(super) const SCHEMA: &str = "
CREATE TABLE id_recent (
  -- Hashes of the event ids stored last, 16 bytes each: of row first_id, first_id + 1, … One line a commit.
  first_id INTEGER PRIMARY KEY,
  hashes BLOB NOT NULL
);
CREATE TABLE id_run (
  -- Half a million event ids each, in order of arrival: their hashes are sorted in id_chunk.
  run INTEGER PRIMARY KEY,
  first_id INTEGER NOT NULL,
  last_id INTEGER NOT NULL,
  chunks INTEGER NOT NULL,
  filter BLOB NOT NULL  -- tells nearly every id that is not among them
);
CREATE TABLE id_chunk (
  -- id = run * 2^20 + chunk. Each entry: 16 bytes of hash, 4 bytes row id less the run's first_id.
  id INTEGER PRIMARY KEY,
  entries BLOB NOT NULL
);
";

/// A hash as it is kept: the half that is evenly spread within one shard comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Spread(u128);

impl Spread {
    fn of(hash: KeyHash) -> Spread {
        Spread(hash.0.rotate_left(64))
    }

    /// What filters and tables compare first.
    #[inline]
    fn tag(self) -> u64 {
        (self.0 >> 64) as u64
    }
}

/// The ids of one shard. All changes between two commits are taken back by [`Ids::rolled_back`].
pub(super) struct Ids {
    path: PathBuf,
    newest: Newest,
    /// What was staged since the last commit, as it goes into id_recent.
    staged: Vec<u8>,
    frozen: Option<(Newest, Build)>,
    runs: Vec<Run>,
    /// id_recent lines up to this row id belong to complete runs and are to be deleted.
    delete_upto: i64,
    /// Chunks of runs that were dropped: ranges of id_chunk still to be deleted.
    delete_chunks: Vec<(i64, i64)>,
    /// [`RUN_IDS`], or fewer in tests.
    run_ids: usize,
}

impl std::fmt::Debug for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ids").field("runs", &self.runs.len()).field("count", &self.count()).finish()
    }
}

impl Ids {
    /// Reads the tables: filters and the newest hashes, not the runs. About a millisecond a run.
    pub(super) fn load(connection: &Connection, path: PathBuf) -> Result<Ids, ShardError> {
        let runs = Run::load_all(connection)?;
        let last_id = runs.last().map_or(0, |run| run.last_id);
        let mut newest = Newest::new(last_id + 1);
        let mut statement = connection
            .prepare("SELECT first_id, hashes FROM id_recent WHERE first_id > ?1 ORDER BY first_id")?;
        let mut rows = statement.query([last_id])?;
        while let Some(row) = rows.next()? {
            let first_id: i64 = row.get(0)?;
            let hashes = row.get_ref(1)?.as_blob().map_err(|_| corrupt("id_recent"))?;
            let (hashes, rest) = hashes.as_chunks::<HASH_BYTES>();
            if !rest.is_empty() {
                return Err(corrupt("id_recent"));
            }
            newest.begin_at(first_id);
            for (row_id, hash) in (first_id..).zip(hashes) {
                if newest.next_id() != row_id {
                    return Err(corrupt("id_recent"));
                }
                newest.insert(Spread(u128::from_be_bytes(*hash)));
            }
        }
        newest.settle();
        let mut ids = Ids {
            path,
            newest,
            staged: Vec::new(),
            frozen: None,
            runs,
            delete_upto: last_id,
            delete_chunks: Vec::new(),
            run_ids: RUN_IDS,
        };
        ids.find_leftovers(connection)?;
        Ok(ids)
    }

    /// Chunks of runs that were never finished, or dropped and not yet deleted.
    fn find_leftovers(&mut self, connection: &Connection) -> Result<(), ShardError> {
        let mut from = i64::MIN;
        let ours: Vec<_> = self.runs.iter().map(Run::chunk_ids).collect();
        for (first, end) in ours {
            self.note_leftover(connection, from, first)?;
            from = end;
        }
        self.note_leftover(connection, from, i64::MAX)
    }

    fn note_leftover(&mut self, connection: &Connection, from: i64, to: i64) -> Result<(), ShardError> {
        let found: bool = connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM id_chunk WHERE id >= ?1 AND id < ?2)")?
            .query_row([from, to], |row| row.get(0))?;
        if found {
            self.delete_chunks.push((from, to));
        }
        Ok(())
    }

    /// Candidates among all but the newest ids, for a whole batch: index into `hashes` and row id.
    pub(super) fn look_up(
        &self,
        connection: &Connection,
        hashes: &[KeyHash],
        candidates: &mut Vec<(u32, i64)>,
    ) -> Result<(), ShardError> {
        if let Some((frozen, _)) = &self.frozen {
            for (index, hash) in (0..).zip(hashes) {
                candidates.extend(frozen.find(Spread::of(*hash)).map(|row_id| (index, row_id)));
            }
        }
        for run in &self.runs {
            for (index, hash) in (0..).zip(hashes) {
                let spread = Spread::of(*hash);
                if run.may_have(spread) {
                    run.find(connection, spread, |row_id| candidates.push((index, row_id)))?;
                }
            }
        }
        Ok(())
    }

    /// Candidates among the newest ids, those staged since the last commit included.
    #[inline]
    pub(super) fn newest(&self, hash: KeyHash) -> impl Iterator<Item = i64> + '_ {
        self.newest.find(Spread::of(hash))
    }

    /// Remembers the id of a row; row ids are consecutive from the first one of all.
    #[inline]
    pub(super) fn stage(&mut self, hash: KeyHash, row_id: i64) {
        let spread = Spread::of(hash);
        self.newest.begin_at(row_id);
        debug_assert_eq!(self.newest.next_id(), row_id);
        self.newest.insert(spread);
        self.staged.extend_from_slice(&spread.0.to_be_bytes());
    }

    /// Writes what was staged. In the caller's transaction.
    pub(super) fn save(&mut self, transaction: &Connection) -> Result<(), ShardError> {
        if self.staged.is_empty() {
            return Ok(());
        }
        let first_id = self.newest.next_id() - (self.staged.len() / HASH_BYTES) as i64;
        transaction
            .prepare_cached("INSERT INTO id_recent (first_id, hashes) VALUES (?1, ?2)")?
            .execute(params![first_id, self.staged])?;
        Ok(())
    }

    pub(super) fn committed(&mut self) {
        self.staged.clear();
        self.newest.settle();
    }

    pub(super) fn rolled_back(&mut self) {
        self.staged.clear();
        self.newest.undo();
    }

    /// Whether [`Ids::work`] has something to do now.
    pub(super) fn work_due(&self) -> bool {
        match &self.frozen {
            Some((_, build)) => build.is_ready(),
            None => self.newest.len() >= self.run_ids || self.has_deletes(),
        }
    }

    fn has_deletes(&self) -> bool {
        self.delete_upto > 0 || !self.delete_chunks.is_empty()
    }

    /// One slice, about `budget` long, of turning the newest ids into a run: a short transaction of its
    /// own. Not between stage and commit.
    pub(super) fn work(&mut self, connection: &mut Connection, budget: Duration) -> Result<(), ShardError> {
        let until_us = clock::monotonic_us() + budget.as_micros() as u64;
        if self.frozen.is_none() && self.newest.len() >= self.run_ids {
            let build = Build::start(self.path.clone(), self.newest.first_id(), self.newest.next_id() - 1)?;
            let fresh = Newest::new(self.newest.next_id());
            self.frozen = Some((std::mem::replace(&mut self.newest, fresh), build));
            return Ok(());
        }
        if let Some((_, build)) = &mut self.frozen {
            if !build.is_ready() {
                return Ok(());
            }
            let number = self.runs.last().map_or(0, |run| run.number) + 1;
            if let Some(run) = write_slice(connection, build.built()?, number, until_us)? {
                self.delete_upto = run.last_id;
                self.runs.push(run);
                self.frozen = None;
            }
            return Ok(());
        }
        self.delete_slice(connection, until_us)
    }

    fn delete_slice(&mut self, connection: &mut Connection, until_us: u64) -> Result<(), ShardError> {
        if !self.has_deletes() {
            return Ok(());
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (mut upto, mut chunks) = (self.delete_upto, self.delete_chunks.clone());
        loop {
            if upto > 0 {
                let deleted = transaction
                    .prepare_cached(
                        "DELETE FROM id_recent WHERE first_id IN \
                         (SELECT first_id FROM id_recent WHERE first_id <= ?1 ORDER BY first_id LIMIT ?2)",
                    )?
                    .execute(params![upto, DELETE_ROWS as i64])?;
                if deleted < DELETE_ROWS {
                    upto = 0;
                }
            } else if let Some((from, to)) = chunks.last().copied() {
                let deleted = transaction
                    .prepare_cached(
                        "DELETE FROM id_chunk WHERE id IN \
                         (SELECT id FROM id_chunk WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3)",
                    )?
                    .execute(params![from, to, 16 * DELETE_ROWS as i64])?;
                if deleted < 16 * DELETE_ROWS {
                    chunks.pop();
                }
            } else {
                break;
            }
            if clock::monotonic_us() >= until_us {
                break;
            }
        }
        transaction.commit()?;
        (self.delete_upto, self.delete_chunks) = (upto, chunks);
        Ok(())
    }

    /// Rows below `row_id` are gone: forgets the runs that only name such. In the caller's transaction;
    /// takes effect in memory at once, which is right either way, since a candidate without a row is none.
    pub(super) fn forget_below(&mut self, transaction: &Connection, row_id: i64) -> Result<(), ShardError> {
        let gone = self.runs.iter().take_while(|run| run.last_id < row_id).count();
        // The last run says where the next one begins: it stays.
        for run in self.runs.drain(..gone.min(self.runs.len().saturating_sub(1))) {
            transaction.execute("DELETE FROM id_run WHERE run = ?1", [run.number])?;
            self.delete_chunks.push(run.chunk_ids());
        }
        Ok(())
    }

    /// Memory of tables and filters.
    pub(super) fn memory_bytes(&self) -> usize {
        let frozen = self.frozen.as_ref().map_or(0, |(frozen, _)| frozen.memory_bytes());
        self.newest.memory_bytes() + frozen + self.runs.iter().map(Run::memory_bytes).sum::<usize>()
    }

    /// Shorter runs, for tests.
    #[cfg(test)]
    pub(super) fn run_ids(&mut self, ids: usize) {
        self.run_ids = ids;
    }

    pub(super) fn count(&self) -> u64 {
        let runs: u64 = self.runs.iter().map(|run| (run.last_id - run.first_id + 1) as u64).sum();
        let frozen = self.frozen.as_ref().map_or(0, |(frozen, _)| frozen.len());
        runs + (frozen + self.newest.len()) as u64
    }
}

/// Writes chunks until the time is up; the finished run with the last of them.
fn write_slice(
    connection: &mut Connection,
    built: &mut Built,
    number: i64,
    until_us: u64,
) -> Result<Option<Run>, ShardError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut next = built.written;
    {
        let mut insert =
            transaction.prepare_cached("INSERT OR REPLACE INTO id_chunk (id, entries) VALUES (?1, ?2)")?;
        while next < built.chunks() {
            insert.execute(params![run::chunk_id(number, next), built.chunk(next)])?;
            next += 1;
            // After the step, not before it: every slice gets further.
            if clock::monotonic_us() >= until_us {
                break;
            }
        }
    }
    let done = next == built.chunks();
    if done {
        transaction.execute(
            "INSERT INTO id_run (run, first_id, last_id, chunks, filter) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![number, built.first_id, built.last_id, built.chunks(), run::filter_bytes(&built.filter)],
        )?;
    }
    transaction.commit()?;
    built.written = next;
    Ok(done.then(|| built.run(number)))
}

fn corrupt(table: &str) -> ShardError {
    ShardError::Corrupt(format!("{table} holds bytes that are no hashes"))
}
