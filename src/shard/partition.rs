//! The partitions of a shard: the open one that rows are appended to, and the sealed ones with their
//! indexes. An index on arrival would cost 20 to 40 times the insert (random user ids); one sorted
//! build over a full partition costs about 0.6 us a row.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};

use super::error::ShardError;
use super::file::Shard;
use super::view;
use crate::base::clock;

/// The partition rows go to. A copy is changed during a transaction and taken over by its commit.
#[derive(Clone, Debug)]
pub(super) struct Partition {
    name: String,
    pub(super) insert_sql: String,
    pub(super) next_id: i64,
    pub(super) rows: u64,
    timestamp_us: Option<(i64, i64)>,
}

/// An index that was just built.
#[derive(Clone, Debug)]
pub struct BuiltIndex {
    pub partition: String,
    pub index: String,
    pub rows: u64,
    pub took: Duration,
}

impl Partition {
    fn new(name: String, first_id: i64) -> Partition {
        let insert_sql = format!(
            "INSERT INTO {name} (id, user_id, timestamp_us, received_us, metadata) VALUES (?1, ?2, ?3, ?4, ?5)"
        );
        Partition { name, insert_sql, next_id: first_id, rows: 0, timestamp_us: None }
    }

    /// Counts a row that was inserted with `next_id`.
    #[inline]
    pub(super) fn count(&mut self, timestamp_us: i64) {
        self.next_id += 1;
        self.rows += 1;
        self.timestamp_us = Some(match self.timestamp_us {
            Some((min, max)) => (min.min(timestamp_us), max.max(timestamp_us)),
            None => (timestamp_us, timestamp_us),
        });
    }

    /// The open partition of a file that has one.
    pub(super) fn load(connection: &Connection) -> Result<Option<Partition>, ShardError> {
        let sql = "SELECT name, first_id, rows, timestamp_us_min, timestamp_us_max FROM partition \
                   WHERE sealed_at IS NULL ORDER BY first_id DESC LIMIT 1";
        let read = |row: &Row<'_>| {
            let bounds: (Option<i64>, Option<i64>) = (row.get(3)?, row.get(4)?);
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, bounds))
        };
        let Some((name, first_id, rows, bounds)) = connection.query_row(sql, [], read).optional()? else {
            return Ok(None);
        };
        check_name(&name)?;
        let last_id: Option<i64> =
            connection.query_row(&format!("SELECT max(id) FROM {name}"), [], |row| row.get(0))?;
        let mut partition = Partition::new(name, first_id);
        partition.next_id = last_id.map_or(first_id, |last| last.saturating_add(1));
        partition.rows = u64::try_from(rows)
            .map_err(|_| ShardError::Corrupt(format!("partition {} has {rows} rows", partition.name)))?;
        partition.timestamp_us = bounds.0.zip(bounds.1);
        Ok(Some(partition))
    }

    /// Makes the next partition, `previous` being sealed. In the caller's transaction.
    pub(super) fn create(
        transaction: &Connection,
        previous: Option<&Partition>,
    ) -> Result<Partition, ShardError> {
        let mut names = names(transaction)?;
        let number =
            names.last().and_then(|name| name.rsplit('_').next()?.parse::<u64>().ok()).unwrap_or(0) + 1;
        let now = clock::rfc3339(clock::unix_us());
        let mut first_id = 1;
        if let Some(previous) = previous {
            first_id = previous.next_id;
            transaction.execute(
                "UPDATE partition SET sealed_at = ?2 WHERE name = ?1",
                params![previous.name, now],
            )?;
        }
        let partition = Partition::new(format!("click_{number:06}"), first_id);
        transaction.execute_batch(&format!(
            "CREATE TABLE {} (
  -- Events in order of arrival; `id` goes on counting from one partition to the next.
  id INTEGER PRIMARY KEY,
  user_id INTEGER NOT NULL,
  timestamp_us INTEGER NOT NULL,  -- the client's time, microseconds since 1970 UTC
  received_us INTEGER NOT NULL,   -- when it was accepted
  metadata TEXT NOT NULL          -- JSON, byte for byte as received
)",
            partition.name
        ))?;
        transaction.execute(
            "INSERT INTO partition (name, first_id, rows, created_at) VALUES (?1, ?2, 0, ?3)",
            params![partition.name, first_id, now],
        )?;
        names.push(partition.name.clone());
        view::cover(transaction, &names)?;
        Ok(partition)
    }

    /// Writes the counters of the open partition. In the caller's transaction.
    pub(super) fn save(&self, transaction: &Connection) -> Result<(), ShardError> {
        let (min, max) = self.timestamp_us.unzip();
        transaction
            .prepare_cached(
                "UPDATE partition SET rows = ?2, timestamp_us_min = ?3, timestamp_us_max = ?4 WHERE name = ?1",
            )?
            .execute(params![self.name, self.rows as i64, min, max])?;
        Ok(())
    }
}

impl Shard {
    /// Whether a sealed partition still wants an index.
    #[must_use]
    pub fn indexes_due(&self) -> bool {
        self.indexes_due
    }

    /// Builds one index that is due, in a transaction of its own: about a second at the default
    /// partition size. `None` when nothing was due. Call it between batches, one at a time, so that the
    /// journal is read in between.
    pub fn build_index(&mut self) -> Result<Option<BuiltIndex>, ShardError> {
        let started_us = clock::monotonic_us();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let due = transaction
            .query_row(
                "SELECT name, rows FROM partition WHERE sealed_at IS NOT NULL AND indexed_at IS NULL \
                 ORDER BY first_id LIMIT 1",
                [],
                |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)),
            )
            .optional()?;
        let Some((partition, rows)) = due else {
            self.indexes_due = false;
            return Ok(None);
        };
        check_name(&partition)?;
        let user = format!("{partition}_user");
        let is_there = transaction.query_row(
            "SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND name = ?1",
            [&user],
            |row| row.get::<_, i64>(0),
        )?;
        let index = if is_there == 0 {
            transaction
                .execute_batch(&format!("CREATE INDEX {user} ON {partition} (user_id, timestamp_us)"))?;
            user
        } else {
            let time = format!("{partition}_time");
            transaction
                .execute_batch(&format!("CREATE INDEX IF NOT EXISTS {time} ON {partition} (timestamp_us)"))?;
            let now = clock::rfc3339(clock::unix_us());
            transaction
                .execute("UPDATE partition SET indexed_at = ?2 WHERE name = ?1", [&partition, &now])?;
            time
        };
        let is_more_due = is_index_due(&transaction)?;
        transaction.commit()?;
        self.indexes_due = is_more_due;
        let took = Duration::from_micros(clock::monotonic_us() - started_us);
        Ok(Some(BuiltIndex { partition, index, rows: rows.max(0) as u64, took }))
    }
}

/// Whether a sealed partition wants an index.
pub(super) fn is_index_due(connection: &Connection) -> Result<bool, ShardError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM partition WHERE sealed_at IS NOT NULL AND indexed_at IS NULL)";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

/// Every partition's table, oldest first.
pub(super) fn names(connection: &Connection) -> Result<Vec<String>, ShardError> {
    let mut statement = connection.prepare_cached("SELECT name FROM partition ORDER BY first_id")?;
    let names = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    names.iter().try_for_each(|name| check_name(name))?;
    Ok(names)
}

/// A name from the file goes into SQL text only if this program could have written it.
fn check_name(name: &str) -> Result<(), ShardError> {
    let digits = name.strip_prefix("click_").unwrap_or("");
    if digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(());
    }
    Err(ShardError::Corrupt("the partition table names a table that is none of ours".to_owned()))
}
