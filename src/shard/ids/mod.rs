//! The event ids of a shard: a lookup that never misses an id, and rarely returns a wrong row.
//!
//! In: the hash of each stored (tenant, event or order id), in row order. Out: candidates, the rows whose own id the
//! caller compares. Owns: the tables id_recent, id_run and id_chunk, and those of the orders. Never: decides what a
//! duplicate is.
//!
//! A unique index on random ids gets slower with every row (46,000 inserts/s at 5 M rows). Here, nothing is written
//! in random order. The newest ids are in a hash table ([`table`]), and in the file in order of arrival. Half a
//! million or more of them are frozen ([`frozen`]), sorted, and written as a run in chunks ([`run`], [`work`]). In
//! memory, a run is a filter of 2.25 bytes per id ([`filter`]). A lookup queries every filter. If a filter matches,
//! the lookup reads a chunk of its run.
//!
//! The life of a batch: [`Ids::look_up`] for the whole batch, then for each event [`Ids::newest`] and, if it is new,
//! [`Ids::stage`]; [`Ids::save`], the caller's COMMIT, [`Ids::committed`]. Only the lower 64 bits of a hash are used.
//! Among ten million ids, two share these bits in one of 370,000 shards, which costs only a comparison.

mod batch;
mod filter;
mod find;
mod frozen;
#[cfg(test)]
mod measure;
mod run;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod work;

use rusqlite::{Connection, params};

pub use self::batch::BatchIds;
pub use self::find::{IdReader, find, recent_sql, runs_sql};
use self::frozen::Frozen;
use self::run::Run;
pub use self::store::schema;
use self::table::Table;
use self::work::PendingDeletes;
use super::error::ShardError;
use super::stream::Stream;
use crate::base::keys::KeyHash;

/// The sizes of runs and chunks.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// The minimum number of ids in a run.
    pub run_ids_min: usize,
    /// The average number of ids in a chunk.
    pub chunk_ids: usize,
}

/// The filter of a run (1.2 MB) stays in a CPU's second-level cache while a batch is looked up. The table of the
/// newest ids, including the last batch, needs at most 2^20 slots. A chunk of 3 KiB is a small read for one id, and
/// five chunks fit a page of 16 KiB.
pub const SIZES: Sizes = Sizes { run_ids_min: 500_000, chunk_ids: 256 };

/// A run has at least 1/`RUN_PART` of all ids, so that the number of runs grows with the logarithm of the ids.
const RUN_PART: u64 = 32;

/// Where the rows of ids are.
#[derive(Clone, Copy, Debug)]
pub enum IdRows {
    /// In the partitions of a stream.
    Stream(&'static Stream),
    /// In one table. `next_sql` returns the row id after the highest one that was ever assigned, even if its row was
    /// deleted.
    Table { name: &'static str, next_sql: &'static str },
}

/// The rows that the ids belong to, and the names of their tables.
#[derive(Debug)]
pub struct IdsOf {
    pub rows: IdRows,
    /// The prefix of `id_recent`, `id_run` and `id_chunk`.
    pub prefix: &'static str,
    pub what: &'static str,
    pub key: &'static str,
    /// Returns the SQL that reads the row id and the parts of the hashed key of every row of a table, by ascending row
    /// id. The first part is the tenant.
    pub rows_sql: fn(&str) -> String,
    pub sizes: Sizes,
}

/// One shard's ids.
pub struct Ids {
    of: &'static IdsOf,
    runs: Vec<Run>,
    frozen: Option<Frozen>,
    newest: Table,
    /// The row id after the last one, or `None` before the first row.
    next_row_id: Option<i64>,
    /// Hashes staged since the last commit, in row order. They are in `newest` too.
    staged: Vec<u64>,
    /// `next_row_id` before the first staged hash.
    staged_from: Option<i64>,
    /// The row id that was passed to [`Ids::forget_below`] since the last commit, if any.
    forget_below: Option<i64>,
    leftovers: PendingDeletes,
    sizes: Sizes,
    /// Buffers that are reused from batch to batch.
    lower: Vec<u64>,
    hits: Vec<(u64, u32)>,
}

impl std::fmt::Debug for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ids").field("runs", &self.runs.len()).field("count", &self.count()).finish()
    }
}

/// Returns the half of a hash that does not select the shard.
#[inline]
fn lower(hash: KeyHash) -> u64 {
    hash.0 as u64
}

impl Ids {
    /// Loads the ids from the tables alone. Returns [`ShardError::Corrupt`] if a row of them is missing or damaged.
    pub fn load(connection: &Connection, of: &'static IdsOf) -> Result<Ids, ShardError> {
        Ids::load_with(connection, of, of.sizes)
    }

    fn load_with(connection: &Connection, of: &'static IdsOf, sizes: Sizes) -> Result<Ids, ShardError> {
        let runs = Run::load(connection, of)?;
        let mut ids = Ids {
            of,
            frozen: None,
            newest: Table::new(),
            next_row_id: runs.last().map(Run::end),
            staged: Vec::new(),
            staged_from: None,
            forget_below: None,
            leftovers: PendingDeletes::load(connection, of, &runs)?,
            sizes,
            lower: Vec::new(),
            hits: Vec::new(),
            runs,
        };
        ids.load_recent(connection)?;
        Ok(ids)
    }

    fn load_recent(&mut self, connection: &Connection) -> Result<(), ShardError> {
        let table = format!("{}id_recent", self.of.prefix);
        let mut statement = connection.prepare(&format!(
            "SELECT first_id, hashes FROM {table} WHERE first_id >= ?1 ORDER BY first_id"
        ))?;
        // A run replaces whole rows of id_recent.
        let mut rows = statement.query([self.next_row_id.unwrap_or(i64::MIN)])?;
        while let Some(row) = rows.next()? {
            let first_id: i64 = row.get(0)?;
            let damaged = || ShardError::Corrupt(format!("row {first_id} of {table} is invalid"));
            let blob = row.get_ref(1)?.as_blob().map_err(|_| damaged())?;
            let (hashes, torn) = store::unseal(&table, first_id, blob)?.as_chunks::<8>();
            let end = first_id.checked_add(hashes.len() as i64).ok_or_else(damaged)?;
            let is_next = self.next_row_id.is_none_or(|next| next == first_id);
            if !is_next || !torn.is_empty() || hashes.is_empty() {
                return Err(damaged());
            }
            for hash in hashes {
                self.newest.insert(u64::from_le_bytes(*hash), self.newest.count() as u32);
            }
            self.next_row_id = Some(end);
        }
        Ok(())
    }

    /// Looks up a whole batch among all ids except the newest. Pushes candidates as (index into `hashes`, row id), in
    /// no particular order; they may include forgotten rows. The lookup proceeds run by run, so that one filter stays
    /// in the CPU's cache: it takes about 9 ns per run and id, plus 4 us for each match of a filter.
    pub fn look_up(
        &mut self,
        connection: &Connection,
        hashes: &[KeyHash],
        candidates: &mut Vec<(u32, i64)>,
    ) -> Result<(), ShardError> {
        self.lower.clear();
        self.lower.extend(hashes.iter().copied().map(lower));
        if let Some(frozen) = &self.frozen {
            for (place, hash) in self.lower.iter().enumerate() {
                candidates.extend(frozen.find(*hash).map(|row_id| (place as u32, row_id)));
            }
        }
        for run in &self.runs {
            self.hits.clear();
            let places = self.lower.iter().zip(0_u32..);
            self.hits.extend(
                places.filter(|(hash, _)| run.filter.contains(**hash)).map(|(hash, place)| (*hash, place)),
            );
            if !self.hits.is_empty() {
                self.hits.sort_unstable();
                run.span().settle(connection, self.of, &self.hits, candidates)?;
            }
        }
        Ok(())
    }

    /// Reads where the newest ids of these hashes are, before [`Ids::newest`] is called for each of them.
    pub(super) fn touch_newest(&self, hashes: &[KeyHash]) {
        self.newest.touch(hashes.iter().copied().map(lower));
    }

    /// Returns candidates among the newest ids, including those staged since the last commit.
    #[inline]
    pub fn newest(&self, hash: KeyHash) -> impl Iterator<Item = i64> {
        let first_id = self.newest_first_id();
        self.newest.find(lower(hash)).map(move |offset| first_id + i64::from(offset))
    }

    fn newest_first_id(&self) -> i64 {
        self.next_row_id.unwrap_or(0) - self.newest.count() as i64
    }

    /// Adds the id of a row that is being stored. The row must directly follow the last one.
    #[inline]
    pub fn stage(&mut self, hash: KeyHash, row_id: i64) {
        debug_assert!(self.next_row_id.is_none_or(|next| next == row_id), "a row was left out");
        if self.staged.is_empty() {
            self.staged_from = self.next_row_id;
        }
        self.newest.insert(lower(hash), self.newest.count() as u32);
        self.staged.push(lower(hash));
        self.next_row_id = Some(row_id.saturating_add(1));
    }

    /// Returns the row id that must be staged next, or `None` if any row id may be next. A shard whose next row has a
    /// different row id has lost ids.
    pub fn next_row_id(&self) -> Option<i64> {
        self.next_row_id
    }

    /// Returns the row id of the next row of a table.
    pub fn next_of_table(&self) -> i64 {
        debug_assert!(self.next_row_id.is_some(), "the ids of a table begin when they are loaded");
        self.next_row_id.unwrap_or(1)
    }

    /// Sets the row id of the next row of a table of which no id is known.
    pub(super) fn begin_at(&mut self, row_id: i64) {
        self.next_row_id.get_or_insert(row_id);
    }

    /// Writes the staged ids, in the transaction of their rows and before COMMIT.
    pub fn save(&mut self, transaction: &Connection) -> Result<(), ShardError> {
        let Some(next) = self.next_row_id.filter(|_| !self.staged.is_empty()) else { return Ok(()) };
        let first_id = next - self.staged.len() as i64;
        let mut blob = Vec::with_capacity(self.staged.len() * 8 + 4);
        for hash in &self.staged {
            blob.extend_from_slice(&hash.to_le_bytes());
        }
        store::seal(first_id, &mut blob);
        transaction
            .prepare_cached(&format!(
                "INSERT OR REPLACE INTO {}id_recent (first_id, hashes) VALUES (?1, ?2)",
                self.of.prefix
            ))?
            .execute(params![first_id, blob])?;
        Ok(())
    }

    /// Called after the commit.
    pub fn committed(&mut self) {
        self.staged.clear();
        if let Some(row_id) = self.forget_below.take() {
            let gone = self.runs.iter().take_while(|run| run.end() <= row_id).count();
            if let Some(last) = self.runs.drain(..gone).next_back() {
                self.leftovers.chunks_below = Some(last.end());
            }
        }
    }

    /// Called after a rollback. Discards the staged ids.
    pub fn rolled_back(&mut self) {
        self.forget_below = None;
        if self.staged.is_empty() {
            return;
        }
        while let Some(hash) = self.staged.pop() {
            self.newest.remove(hash, self.newest.count() as u32 - 1);
        }
        self.next_row_id = self.staged_from;
    }

    /// Forgets the ids of rows below `row_id`, which are being deleted. At COMMIT, the runs that contain only such
    /// rows are removed; later slices of work delete their chunks. Before the commit, and in runs that contain other
    /// rows too, such rows may still be candidates.
    pub fn forget_below(&mut self, transaction: &Connection, row_id: i64) -> Result<(), ShardError> {
        let sql = format!("DELETE FROM {}id_run WHERE first_id + ids <= ?1", self.of.prefix);
        transaction.prepare_cached(&sql)?.execute([row_id])?;
        self.forget_below = self.forget_below.max(Some(row_id));
        Ok(())
    }

    /// Returns the lowest row id that has an id here, or `None` without ids.
    pub fn first_row_id(&self) -> Option<i64> {
        let recent = || (self.newest.count() > 0).then(|| self.newest_first_id());
        let frozen = || self.frozen.as_ref().map(|frozen| frozen.first_id);
        self.runs.first().map(|run| run.first_id).or_else(frozen).or_else(recent)
    }

    /// Returns the bytes of memory that grow with the ids.
    pub fn memory_bytes(&self) -> usize {
        let runs: usize = self.runs.iter().map(|run| size_of::<Run>() + run.filter.memory_bytes()).sum();
        let batch = (self.staged.capacity() + self.lower.capacity() + self.hits.capacity() * 2) * 8;
        runs + self.frozen.as_ref().map_or(0, Frozen::memory_bytes) + self.newest.memory_bytes() + batch
    }

    /// Returns the number of known ids, including staged ones and forgotten ones whose run still exists.
    pub fn count(&self) -> u64 {
        let runs: u64 = self.runs.iter().map(|run| u64::from(run.ids)).sum();
        let frozen = self.frozen.as_ref().map_or(0, Frozen::ids);
        runs + (frozen + self.newest.count()) as u64
    }

    /// Makes runs shorter, for tests.
    #[cfg(test)]
    pub fn shorten_runs(&mut self, run_ids_min: usize) {
        self.sizes = Sizes { run_ids_min, chunk_ids: 4 };
    }

    fn run_ids(&self) -> usize {
        self.sizes.run_ids_min.max((self.count() / RUN_PART) as usize)
    }
}
