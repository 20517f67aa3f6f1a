//! The partitions of a shard: of each stream an open one that rows are appended to, and the sealed ones.
//! Each keeps an index in order of time from its first row; a further index on a random key would cost 20 to
//! 40 times the insert, so clicks get theirs when the partition is sealed (`seal`).

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::error::ShardError;
use super::stream::Stream;
use super::view;
use crate::base::clock;

/// The partition rows go to. A copy is changed during a transaction and taken over by its commit.
#[derive(Clone, Debug)]
pub(super) struct Partition {
    pub(super) name: String,
    pub(super) insert_sql: String,
    pub(super) next_id: i64,
    pub(super) rows: u64,
    /// When it was made; microseconds since 1970.
    pub(super) created_us: i64,
    timestamp_us: Option<(i64, i64)>,
    /// The greatest id is not the one before the next: rows were erased.
    has_gap: bool,
}

/// Earliest and latest time, with this one among them.
#[inline]
pub(super) fn widened(times: Option<(i64, i64)>, us: i64) -> (i64, i64) {
    times.map_or((us, us), |(low, high)| (low.min(us), high.max(us)))
}

impl Partition {
    fn new(name: String, stream: Stream, first_id: i64, created_us: i64) -> Partition {
        let insert_sql = stream.insert_sql(&name);
        Partition {
            name,
            insert_sql,
            next_id: first_id,
            rows: 0,
            created_us,
            timestamp_us: None,
            has_gap: false,
        }
    }

    /// What to insert as the id of the next row. After the first, SQLite counts on by itself (the greatest id
    /// and one), which saves it the look whether the id is there already: a twentieth of the insert.
    #[inline]
    pub(super) fn id_to_bind(&self) -> Option<i64> {
        (self.rows == 0 || self.has_gap).then_some(self.next_id)
    }

    /// Whether the row just inserted got `next_id`, as everything else assumes.
    #[inline]
    pub(super) fn check_id(&self, connection: &Connection) -> Result<(), ShardError> {
        if connection.last_insert_rowid() == self.next_id {
            return Ok(());
        }
        Err(ShardError::Corrupt(format!("{} has rows it does not count", self.name)))
    }

    /// Counts a row that was inserted with `next_id`.
    #[inline]
    pub(super) fn count(&mut self, timestamp_us: i64) {
        self.next_id += 1;
        self.rows += 1;
        self.has_gap = false;
        self.timestamp_us = Some(widened(self.timestamp_us, timestamp_us));
    }

    /// The open partition of a stream, where the file has one.
    pub(super) fn load(connection: &Connection, stream: Stream) -> Result<Option<Partition>, ShardError> {
        let sql = "SELECT name, first_id, rows, timestamp_us_min, timestamp_us_max, created_at, erased FROM partition \
                   WHERE stream = ?1 AND sealed_at IS NULL ORDER BY first_id DESC LIMIT 1";
        let read = |row: &Row<'_>| {
            let bounds: (Option<i64>, Option<i64>) = (row.get(3)?, row.get(4)?);
            let (name, first_id, rows): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok((name, first_id, rows, bounds, row.get::<_, String>(5)?, row.get::<_, i64>(6)?))
        };
        let found = connection.query_row(sql, [stream.name()], read).optional()?;
        let Some((name, first_id, rows, bounds, created_at, erased)) = found else { return Ok(None) };
        check_name(&name)?;
        let last_id: Option<i64> =
            connection.query_row(&format!("SELECT max(id) FROM {name}"), [], |row| row.get(0))?;
        let created_us = created_at.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_microsecond);
        let mut partition = Partition::new(name, stream, first_id, created_us);
        let behind = last_id.map_or(first_id, |last| last.saturating_add(1));
        // Ids are not given out again: others know rows by them.
        partition.next_id = behind.max(first_id.saturating_add(rows).saturating_add(erased));
        partition.has_gap = partition.next_id > behind;
        partition.rows = u64::try_from(rows)
            .map_err(|_| ShardError::Corrupt(format!("partition {} has {rows} rows", partition.name)))?;
        partition.timestamp_us = bounds.0.zip(bounds.1);
        Ok(Some(partition))
    }

    /// Makes the next partition of a stream, `previous` being sealed. In the caller's transaction.
    pub(super) fn create(
        transaction: &Connection,
        stream: Stream,
        previous: Option<&Partition>,
    ) -> Result<Partition, ShardError> {
        let mut names = names(transaction, stream)?;
        // The open one is never dropped, so no name comes back.
        let number =
            names.last().and_then(|name| name.rsplit('_').next()?.parse::<u64>().ok()).unwrap_or(0) + 1;
        let (created_us, now) = now();
        let mut first_id = 1;
        if let Some(previous) = previous {
            first_id = previous.next_id;
            let indexed_at = (!stream.has_sealed_index()).then_some(&now);
            transaction.execute(
                "UPDATE partition SET sealed_at = ?2, indexed_at = ?3 WHERE name = ?1",
                params![previous.name, now, indexed_at],
            )?;
        }
        let name = format!("{}_{number:06}", stream.name());
        let partition = Partition::new(name, stream, first_id, created_us);
        transaction.execute_batch(&stream.create_sql(&partition.name))?;
        transaction.execute(
            "INSERT INTO partition (name, stream, first_id, rows, created_at) VALUES (?1, ?2, ?3, 0, ?4)",
            params![partition.name, stream.name(), first_id, now],
        )?;
        names.push(partition.name.clone());
        view::cover(transaction, stream, &names)?;
        Ok(partition)
    }

    /// Rows of the open partition went; with the times of what is left.
    pub(super) fn erased(&mut self, rows: u64, timestamp_us: Option<(i64, i64)>) {
        self.rows = self.rows.saturating_sub(rows);
        self.timestamp_us = timestamp_us;
        self.has_gap = true;
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

/// The time, as a number and as the catalogue has it.
pub(super) fn now() -> (i64, String) {
    let us = clock::unix_us();
    (us, clock::rfc3339(us))
}

/// The tables of a stream, oldest first.
pub(super) fn names(connection: &Connection, stream: Stream) -> Result<Vec<String>, ShardError> {
    let mut statement =
        connection.prepare_cached("SELECT name FROM partition WHERE stream = ?1 ORDER BY first_id")?;
    let names =
        statement.query_map([stream.name()], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    names.iter().try_for_each(|name| check_name(name))?;
    Ok(names)
}

/// First row id and table of every partition of a stream, oldest first.
pub(super) fn firsts(connection: &Connection, stream: Stream) -> Result<Vec<(i64, String)>, ShardError> {
    let mut statement = connection
        .prepare_cached("SELECT first_id, name FROM partition WHERE stream = ?1 ORDER BY first_id")?;
    let rows = statement.query_map([stream.name()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let firsts = rows.collect::<Result<Vec<(i64, String)>, _>>()?;
    firsts.iter().try_for_each(|(_, name)| check_name(name))?;
    Ok(firsts)
}

/// The table that a row id belongs to, of those whose first ids are known.
pub(super) fn table_of(firsts: &[(i64, String)], row_id: i64) -> Option<&str> {
    let place = firsts.partition_point(|(first, _)| *first <= row_id).checked_sub(1)?;
    firsts.get(place).map(|(_, table)| table.as_str())
}

/// The oldest sealed partition of a stream that is still to get its index.
pub(super) fn to_index(connection: &Connection, stream: Stream) -> Result<Option<String>, ShardError> {
    let sql = "SELECT name FROM partition WHERE stream = ?1 AND sealed_at IS NOT NULL AND indexed_at IS NULL \
               ORDER BY first_id LIMIT 1";
    let name: Option<String> = connection.query_row(sql, [stream.name()], |row| row.get(0)).optional()?;
    name.iter().try_for_each(|name| check_name(name))?;
    Ok(name)
}

/// A name from the file goes into SQL text only if this program could have written it.
pub(super) fn check_name(name: &str) -> Result<(), ShardError> {
    let digits = Stream::ALL
        .into_iter()
        .find_map(|stream| name.strip_prefix(stream.name())?.strip_prefix('_'))
        .unwrap_or("");
    if digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(());
    }
    Err(ShardError::Corrupt("the partition table names an unknown table".to_owned()))
}
