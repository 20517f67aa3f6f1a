//! A sealed partition's index of clicks by user. It is built in slices of a few milliseconds, so that no commit waits
//! for it.
//!
//! A separate thread reads the users of the partition, which no longer changes, and sorts them. The writer appends
//! them in index order to a table that finally becomes the index (`shard/built.rs`).

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::schema::CLICKS;
use super::store::ClickStore;
use crate::base::clock;
use crate::shard::partition::{mark_indexed, to_index};
use crate::shard::{
    BuiltIndex, IndexNames, Shard, ShardError, SortPermit, become_index, open_reader, reload_schema,
};

/// The number of rows read in one transaction. It is small enough that no checkpoint waits long.
const READ_ROWS: i64 = 50_000;
/// The number of rows written between two reads of the clock.
const WRITE_ROWS: usize = 256;

/// An entry of the index: user_id, timestamp_us, id.
type Key = (i64, i64, i64);

/// An index that is being built.
#[derive(Debug)]
pub(super) struct Sealing {
    partition: String,
    started_us: u64,
    sort: Option<JoinHandle<Result<Vec<Key>, ShardError>>>,
    keys: Vec<Key>,
    /// The number of committed keys.
    written: usize,
    /// Held while the keys are in memory.
    _permit: SortPermit,
}

/// Returns `true` if a sealed partition lacks its index.
pub(super) fn is_due(connection: &Connection) -> Result<bool, ShardError> {
    Ok(to_index(connection, &CLICKS)?.is_some())
}

impl Sealing {
    fn is_waiting(&self) -> bool {
        self.sort.as_ref().is_some_and(|sort| !sort.is_finished())
    }
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
        if let Some(sort) = &sealing.sort {
            if !sort.is_finished() {
                return Ok(None);
            }
            if let Some(sort) = sealing.sort.take() {
                let gone = |_| ShardError::Other("the thread that sorts users is gone".to_owned());
                // After an error, the shard is reopened and the build is restarted.
                sealing.keys = sort.join().map_err(gone)??;
            }
            let build = format!("{}_user_build", sealing.partition);
            let last: Option<Key> = shard
                .connection()
                .query_row(
                    &format!(
                        "SELECT user_id, timestamp_us, id FROM {build} \
                         ORDER BY user_id DESC, timestamp_us DESC, id DESC LIMIT 1"
                    ),
                    [],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                )
                .optional()?;
            // The rows up to `last` are from an earlier build that a crash interrupted.
            sealing.written = last.map_or(0, |last| sealing.keys.partition_point(|key| *key <= last));
        }
        let transaction = shard.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut written = sealing.written;
        {
            let mut insert = transaction.prepare_cached(&format!(
                "INSERT INTO {}_user_build (user_id, timestamp_us, id) VALUES (?1, ?2, ?3)",
                sealing.partition
            ))?;
            while written < sealing.keys.len() {
                for (user_id, timestamp_us, id) in sealing.keys[written..].iter().take(WRITE_ROWS) {
                    insert.execute(params![user_id, timestamp_us, id])?;
                    written += 1;
                }
                // The check follows the step, so that every slice makes progress.
                if clock::monotonic_us() >= until_us {
                    break;
                }
            }
        }
        let done = written == sealing.keys.len();
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
        Ok(Some(BuiltIndex {
            index: format!("{}_user", sealing.partition),
            rows: sealing.keys.len() as u64,
            took: Duration::from_micros(clock::monotonic_us() - sealing.started_us),
            partition: sealing.partition,
        }))
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
        let sort = std::thread::Builder::new().name("seal".to_owned()).spawn(move || sort(path, &partition));
        self.sealing = Some(Sealing {
            partition: name,
            started_us: clock::monotonic_us(),
            // If the thread cannot start, the build is restarted later.
            sort: Some(sort?),
            keys: Vec::new(),
            written: 0,
            _permit: permit,
        });
        Ok(())
    }
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
