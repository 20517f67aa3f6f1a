//! A sealed partition's index of clicks by user. It is built in slices of a few milliseconds, so that no commit waits
//! for it.
//!
//! A separate thread reads the users of the partition, which no longer changes, and sorts them. The writer appends
//! them in index order (`shard/index_build.rs`) to a table that finally becomes the index (`shard/built.rs`).

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::schema::CLICKS;
use super::store::ClickStore;
use crate::base::clock;
use crate::shard::partition::{mark_indexed, to_index};
use crate::shard::{
    BuiltIndex, Entries, IndexBuild, IndexNames, Shard, ShardError, SortPermit, become_index, open_reader,
    reload_schema,
};

/// The number of rows read in one transaction. It is small enough that no checkpoint waits long.
const READ_ROWS: i64 = 50_000;

/// An entry of the index: user_id, timestamp_us, id.
type Key = (i64, i64, i64);

/// The index that is being built.
pub(super) type Sealing = IndexBuild<Vec<Key>, SortPermit>;

/// Returns `true` if a sealed partition lacks its index.
pub(super) fn is_due(connection: &Connection) -> Result<bool, ShardError> {
    Ok(to_index(connection, &CLICKS)?.is_some())
}

impl ClickStore {
    /// Returns `true` if [`ClickStore::seal`] has work to do now.
    pub(super) fn is_seal_due(&self) -> bool {
        self.seal_due && !self.sealing.as_ref().is_some_and(Sealing::is_waiting)
    }

    /// Spends about `budget` on building the index that is due. Returns the index if this slice completes it. Call it
    /// between batches. The state is in the file, so the work continues after a crash.
    pub(super) fn seal(
        &mut self,
        shard: &mut Shard,
        budget: Duration,
    ) -> Result<Option<BuiltIndex>, ShardError> {
        let until_us = clock::monotonic_us() + budget.as_micros() as u64;
        let Some(sealing) = &mut self.sealing else {
            self.begin_sealing(shard)?;
            return Ok(None);
        };
        match sealing.receive()? {
            Entries::Awaited => return Ok(None),
            Entries::Arrived => sealing.written = continued_at(shard.connection(), sealing)?,
            Entries::Present => {}
        }
        let transaction = shard.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
        let written = {
            let mut insert = transaction.prepare_cached(&format!(
                "INSERT INTO {}_user_build (user_id, timestamp_us, id) VALUES (?1, ?2, ?3)",
                sealing.partition
            ))?;
            sealing.write(sealing.entries.len(), until_us, |keys, piece| {
                for (user_id, timestamp_us, id) in &keys[piece] {
                    insert.execute(params![user_id, timestamp_us, id])?;
                }
                Ok(())
            })?
        };
        let done = written == sealing.entries.len();
        if done {
            let table = &*sealing.partition;
            let (build, index) = (format!("{table}_user_build"), format!("{table}_user"));
            let sql = format!("CREATE INDEX {index} ON {table} (user_id, timestamp_us)");
            become_index(&transaction, IndexNames { build: &build, index: &index, table, sql: &sql })?;
            mark_indexed(&transaction, table)?;
        }
        transaction.commit()?;
        sealing.written = written;
        if !done {
            return Ok(None);
        }
        reload_schema(shard.connection())?;
        let Some(sealing) = self.sealing.take() else { return Ok(None) };
        self.seal_due = is_due(shard.connection())?;
        let index = format!("{}_user", sealing.partition);
        Ok(Some(sealing.built(index)))
    }

    /// Stops building an index because rows are about to be deleted. The build is restarted later. Returns the name
    /// of the unfinished table.
    pub fn stop_sealing(&mut self) -> Option<String> {
        self.sealing.take().map(|sealing| format!("{}_user_build", sealing.partition))
    }

    fn begin_sealing(&mut self, shard: &mut Shard) -> Result<(), ShardError> {
        let Some(name) = to_index(shard.connection(), &CLICKS)? else {
            self.seal_due = false;
            return Ok(());
        };
        let Some(permit) = SortPermit::acquire() else { return Ok(()) };
        let transaction = shard.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
        let has_index: bool = transaction.query_row(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = ?1)",
            [format!("{name}_user")],
            |row| row.get(0),
        )?;
        if has_index {
            mark_indexed(&transaction, &name)?;
            transaction.commit()?;
            return Ok(());
        }
        transaction.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS {name}_user_build (
  -- Becomes the index {name}_user when it is complete.
  user_id INTEGER NOT NULL, timestamp_us INTEGER NOT NULL, id INTEGER NOT NULL,
  PRIMARY KEY (user_id, timestamp_us, id)
) WITHOUT ROWID"
        ))?;
        transaction.commit()?;
        let (path, partition) = (shard.path().to_owned(), name.clone());
        self.sealing = Some(IndexBuild::begin(name, permit, move || sort(path, &partition))?);
        Ok(())
    }
}

/// Returns the number of entries that an earlier build has written, which a crash interrupted.
fn continued_at(connection: &Connection, sealing: &Sealing) -> Result<usize, ShardError> {
    let build = format!("{}_user_build", sealing.partition);
    let last: Option<Key> = connection
        .query_row(
            &format!(
                "SELECT user_id, timestamp_us, id FROM {build} \
                 ORDER BY user_id DESC, timestamp_us DESC, id DESC LIMIT 1"
            ),
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?;
    Ok(last.map_or(0, |last| sealing.entries.partition_point(|key| *key <= last)))
}

/// Returns the sorted entries of the index.
fn sort(path: PathBuf, partition: &str) -> Result<Vec<Key>, ShardError> {
    let reader = open_reader(&path)?;
    let mut keys = Vec::new();
    let mut last = i64::MIN;
    let mut statement = reader.prepare(&format!(
        "SELECT user_id, timestamp_us, id FROM {partition} WHERE id > ?1 ORDER BY id LIMIT ?2"
    ))?;
    loop {
        let before = keys.len();
        let mut rows = statement.query([last, READ_ROWS])?;
        while let Some(row) = rows.next()? {
            keys.push((row.get(0)?, row.get(1)?, row.get(2)?));
        }
        match keys[before..].last() {
            Some((_, _, id)) => last = *id,
            None => break,
        }
    }
    keys.sort_unstable();
    Ok(keys)
}
