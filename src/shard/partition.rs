//! A shard's partitions. Each stream has one open partition, to which rows are appended, and any number of sealed
//! ones. A partition has an index by time from its first row on. An exception is one for rows that arrive in no order
//! of time (an unordered partition), because each of them would change another page of the index. It gets the index
//! once it is sealed. An additional index on a random key would make
//! inserts 20 to 40 times slower, so the additional index of clicks is built after the partition is sealed
//! (`clicks/seal.rs`).

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::commit_page::{self, PARTITION, PageKey};
use super::error::ShardError;
use super::stream::Stream;
use super::{totals, view};
use crate::base::clock;

/// The partition to which rows are appended. A transaction changes a copy, which replaces the original after the
/// commit.
#[derive(Clone, Debug)]
pub struct Partition {
    pub name: String,
    pub insert_sql: String,
    pub next_id: i64,
    pub rows: u64,
    /// The time of its creation, in microseconds since 1970.
    pub created_us: i64,
    /// Whether it was made for rows that arrive in no order of time, and has no index.
    pub is_unordered: bool,
    timestamp_us: Option<(i64, i64)>,
    /// Whether there is a gap between the greatest id and `next_id`, because rows were erased.
    has_gap: bool,
}

/// Returns the earliest and latest of `times` and `us`.
#[inline]
pub fn widened(times: Option<(i64, i64)>, us: i64) -> (i64, i64) {
    times.map_or((us, us), |(low, high)| (low.min(us), high.max(us)))
}

impl Partition {
    fn new(name: String, stream: &'static Stream, first_id: i64, created_us: i64) -> Partition {
        let insert_sql = stream.insert_sql(&name);
        Partition {
            name,
            insert_sql,
            next_id: first_id,
            rows: 0,
            created_us,
            is_unordered: false,
            timestamp_us: None,
            has_gap: false,
        }
    }

    /// Returns the id to bind for the next row. After the first row, SQLite assigns the greatest id plus one by
    /// itself. This saves the search for an existing id, which takes a twentieth of the insert's time.
    #[inline]
    pub fn id_to_bind(&self) -> Option<i64> {
        (self.rows == 0 || self.has_gap).then_some(self.next_id)
    }

    /// Checks that SQLite assigned `next_id` to the row just inserted. All other code assumes this.
    #[inline]
    pub fn check_id(&self, connection: &Connection) -> Result<(), ShardError> {
        if connection.last_insert_rowid() == self.next_id {
            return Ok(());
        }
        Err(ShardError::Corrupt(format!("{} has rows it does not count", self.name)))
    }

    /// Counts a row that was inserted with `next_id`.
    #[inline]
    pub fn count(&mut self, timestamp_us: i64) {
        self.next_id += 1;
        self.rows += 1;
        self.has_gap = false;
        self.timestamp_us = Some(widened(self.timestamp_us, timestamp_us));
    }

    /// Loads the open partition of a stream, if the file has one.
    pub fn load(connection: &Connection, stream: &'static Stream) -> Result<Option<Partition>, ShardError> {
        let sql = "SELECT name, first_id, rows, timestamp_us_min, timestamp_us_max, created_at, erased, \
                   unordered FROM partition \
                   WHERE stream = ?1 AND sealed_at IS NULL ORDER BY first_id DESC LIMIT 1";
        let read = |row: &Row<'_>| {
            let bounds: (Option<i64>, Option<i64>) = (row.get(3)?, row.get(4)?);
            let (name, first_id, rows): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let (created_at, erased): (String, i64) = (row.get(5)?, row.get(6)?);
            Ok((name, first_id, rows, bounds, created_at, erased, row.get(7)?))
        };
        let found = connection.query_row(sql, [stream.name], read).optional()?;
        let Some((name, first_id, rows, bounds, created_at, erased, is_unordered)) = found else {
            return Ok(None);
        };
        check_name(stream, &name)?;
        let last_id: Option<i64> =
            connection.query_row(&format!("SELECT max(id) FROM {name}"), [], |row| row.get(0))?;
        let created_us = created_at.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_microsecond);
        let mut partition = Partition::new(name, stream, first_id, created_us);
        let behind = last_id.map_or(first_id, |last| last.saturating_add(1));
        // Ids are never reused, because other tables refer to rows by them.
        partition.next_id = behind.max(first_id.saturating_add(rows).saturating_add(erased));
        partition.has_gap = partition.next_id > behind;
        partition.rows = u64::try_from(rows)
            .map_err(|_| ShardError::Corrupt(format!("partition {} has {rows} rows", partition.name)))?;
        partition.timestamp_us = bounds.0.zip(bounds.1);
        partition.is_unordered = is_unordered;
        Ok(Some(partition))
    }

    /// Seals `previous` and creates the next partition of a stream, in the caller's transaction. The stream may not
    /// have unordered partitions; then `is_unordered` has no effect.
    pub fn create(
        transaction: &Connection,
        stream: &'static Stream,
        previous: Option<&Partition>,
        is_unordered: bool,
    ) -> Result<Partition, ShardError> {
        let mut names = names(transaction, stream)?;
        // The open partition is never dropped, so no name is reused.
        let number =
            names.last().and_then(|name| name.rsplit('_').next()?.parse::<u64>().ok()).unwrap_or(0) + 1;
        let (created_us, now) = now();
        let mut first_id = 1;
        if let Some(previous) = previous {
            first_id = previous.next_id;
            let indexed_at = (!stream.has_sealed_index && !previous.is_unordered).then_some(&now);
            previous.save(transaction)?;
            settle(transaction, &previous.name)?;
            transaction.execute(
                "UPDATE partition_catalog SET sealed_at = ?2, indexed_at = ?3 WHERE name = ?1",
                params![previous.name, now, indexed_at],
            )?;
        }
        let name = format!("{}_{number:06}", stream.name);
        let mut partition = Partition::new(name, stream, first_id, created_us);
        let table_sql = stream.unordered_sql.filter(|_| is_unordered);
        partition.is_unordered = table_sql.is_some();
        transaction.execute_batch(&table_sql.unwrap_or(stream.create_sql)(&partition.name))?;
        transaction.execute(
            "INSERT INTO partition_catalog (name, stream, first_id, rows, created_at, unordered) \
             VALUES (?1, ?2, ?3, 0, ?4, ?5)",
            params![partition.name, stream.name, first_id, now, partition.is_unordered],
        )?;
        names.push(partition.name.clone());
        view::cover(transaction, stream, &names)?;
        Ok(partition)
    }

    /// Subtracts erased rows from the open partition, and sets the times of the remaining ones.
    pub fn erased(&mut self, rows: u64, timestamp_us: Option<(i64, i64)>) {
        self.rows = self.rows.saturating_sub(rows);
        self.timestamp_us = timestamp_us;
        self.has_gap = true;
    }

    /// Writes the counters of the open partition, in the caller's transaction.
    pub fn save(&self, transaction: &Connection) -> Result<(), ShardError> {
        commit_page::set(
            transaction,
            PageKey::new(PARTITION, &self.name, 0),
            self.rows as i64,
            self.timestamp_us,
        )
    }
}

/// Moves the counters of a partition from the commit page to the catalogue, which is about to change them.
fn settle(transaction: &Connection, partition: &str) -> Result<(), ShardError> {
    let sql = "UPDATE partition_catalog SET rows = c.value, timestamp_us_min = c.low, timestamp_us_max = c.high \
               FROM commit_page c WHERE partition_catalog.name = ?1 AND c.kind = ?2 AND c.name = ?1";
    transaction.prepare_cached(sql)?.execute(params![partition, PARTITION.number()])?;
    commit_page::remove(transaction, PARTITION, partition)
}

/// Adds the columns of unordered partitions.
pub(super) fn add_unordered(connection: &Connection) -> Result<(), ShardError> {
    connection.execute_batch(
        "
ALTER TABLE partition ADD COLUMN unordered INTEGER NOT NULL DEFAULT 0;  -- 1: rows came in no order of time
ALTER TABLE partition ADD COLUMN counted INTEGER NOT NULL DEFAULT 0;  -- how many sizes of buckets have its rows, if so
",
    )?;
    Ok(())
}

/// Marks a sealed partition as indexed.
pub fn mark_indexed(transaction: &Connection, partition: &str) -> Result<(), ShardError> {
    let (_, now) = now();
    transaction.execute("UPDATE partition_catalog SET indexed_at = ?2 WHERE name = ?1", [partition, &now])?;
    Ok(())
}

/// Returns the current time, as a number and in the catalogue's format.
pub fn now() -> (i64, String) {
    let us = clock::unix_us();
    (us, clock::rfc3339(us))
}

/// Returns the names of a stream's tables, oldest first.
pub fn names(connection: &Connection, stream: &'static Stream) -> Result<Vec<String>, ShardError> {
    let mut statement =
        connection.prepare_cached("SELECT name FROM partition WHERE stream = ?1 ORDER BY first_id")?;
    let names = statement.query_map([stream.name], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    names.iter().try_for_each(|name| check_name(stream, name))?;
    Ok(names)
}

/// Returns the first row id and table of every partition of a stream, oldest first.
pub fn firsts(connection: &Connection, stream: &'static Stream) -> Result<Vec<(i64, String)>, ShardError> {
    let mut statement = connection
        .prepare_cached("SELECT first_id, name FROM partition WHERE stream = ?1 ORDER BY first_id")?;
    let rows = statement.query_map([stream.name], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let firsts = rows.collect::<Result<Vec<(i64, String)>, _>>()?;
    firsts.iter().try_for_each(|(_, name)| check_name(stream, name))?;
    Ok(firsts)
}

/// Returns the table that contains a row id, from the first ids of all tables.
pub fn table_of(firsts: &[(i64, String)], row_id: i64) -> Option<&str> {
    let place = firsts.partition_point(|(first, _)| *first <= row_id).checked_sub(1)?;
    firsts.get(place).map(|(_, table)| table.as_str())
}

/// Returns the oldest sealed partition of a stream that still needs its index.
pub fn to_index(connection: &Connection, stream: &'static Stream) -> Result<Option<String>, ShardError> {
    let sql = "SELECT name FROM partition WHERE stream = ?1 AND sealed_at IS NOT NULL AND indexed_at IS NULL \
               ORDER BY first_id LIMIT 1";
    let name: Option<String> = connection.query_row(sql, [stream.name], |row| row.get(0)).optional()?;
    name.iter().try_for_each(|name| check_name(stream, name))?;
    Ok(name)
}

/// Checks a name from the file before it is used in SQL text. Accepts only names that this program could have
/// written.
pub fn check_name(stream: &'static Stream, name: &str) -> Result<(), ShardError> {
    if stream.has_partition(name) {
        return Ok(());
    }
    Err(ShardError::Corrupt("the partition table names an unknown table".to_owned()))
}

/// Rows that were deleted from a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    pub rows: u64,
    /// The earliest and latest time of the remaining rows.
    pub times_left: Option<(i64, i64)>,
}

/// Subtracts deleted rows from the counters of their partition and stream. If the earliest or latest row was among
/// them, this function searches for the new bounds: in an index if the table has one, otherwise in the whole
/// partition, which takes 10 ms per hundred thousand rows.
pub fn count_deleted(
    transaction: &Connection,
    stream: &'static Stream,
    table: &str,
    rows: u64,
    times: Option<(i64, i64)>,
) -> Result<Deleted, ShardError> {
    let sql = "SELECT timestamp_us_min, timestamp_us_max FROM partition WHERE name = ?1";
    let read = |row: &Row<'_>| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?));
    let known = transaction.query_row(sql, [table], read).optional()?;
    let known = known.and_then(|(low, high)| low.zip(high));
    let Some((low, high)) = times.filter(|_| rows > 0) else {
        return Ok(Deleted { rows, times_left: known });
    };
    let mut times_left = known;
    if known.is_none_or(|(first, last)| low <= first || high >= last) {
        let time = stream.time_column;
        let sql = format!("SELECT (SELECT min({time}) FROM {table}), (SELECT max({time}) FROM {table})");
        times_left = transaction.query_row(&sql, [], read).map(|(low, high)| low.zip(high))?;
    }
    subtract_deleted(transaction, stream, table, Deleted { rows, times_left })
}

/// Subtracts deleted rows from the counters of their partition and stream, and sets the times of the remaining ones.
pub(super) fn subtract_deleted(
    transaction: &Connection,
    stream: &'static Stream,
    table: &str,
    deleted: Deleted,
) -> Result<Deleted, ShardError> {
    let (min, max) = deleted.times_left.unzip();
    settle(transaction, table)?;
    transaction
        .prepare_cached(
            "UPDATE partition_catalog SET rows = rows - ?2, erased = erased + ?2, timestamp_us_min = ?3, \
             timestamp_us_max = ?4 WHERE name = ?1",
        )?
        .execute(params![table, deleted.rows as i64, min, max])?;
    totals::subtract(transaction, stream.total, deleted.rows)?;
    Ok(deleted)
}
