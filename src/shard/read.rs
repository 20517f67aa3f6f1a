//! Reads rows in their source's order. Each bounded step reads one shard, in a separate read transaction.
//!
//! Nearly every partition has an index in the order that reads need, so a step merges the cursors of the partitions
//! whose times overlap. An unordered partition that has no index yet is read as a whole, and its next rows are sorted.
//! It is small: at most [`UNORDERED_ROWS_MAX`] rows and a batch. A step
//! ends after a number of rows, bytes or milliseconds, and returns the position at which the next step begins. Therefore
//! no reader delays a checkpoint for long.

mod copied;
mod render;
mod selected;

use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator as _;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, Rows, Statement, params_from_iter};

pub use copied::{BatchLimits, CopiedRow, RowBatch, Span, Texts};
pub use render::{write_line, write_rfc3339, write_string};
pub use selected::{
    RowCursor, Selected, copy_rows, oldest_id, oldest_id_in, select_rows, selecting_statements,
};

use super::error::ShardError;
use super::partitions::{PartitionInfo, partitions_of};
use super::stream::Stream;
use crate::base::clock;

/// How long one step may keep its snapshot.
const STEP_US: u64 = 50_000;
/// The maximum number of rows of an unordered partition, which reads sort until it has its index. It may have a batch more.
pub const UNORDERED_ROWS_MAX: u64 = 250_000;
/// Keys between two checks of the clock.
const KEYS_PER_LOOK: u32 = 256;

/// A range of times, and the direction in which it is read. `from_us` is inclusive and `to_us` exclusive, both in
/// microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    pub from_us: Option<i64>,
    pub to_us: Option<i64>,
    pub descending: bool,
}

/// A family's way to read one stream's rows, in an order that the source defines.
pub trait Source {
    fn stream(&self) -> &'static Stream;

    /// Returns `true` if the index contains the row's key and the filtered columns. The row itself is then looked up
    /// by id.
    fn reads_keys_first(&self) -> bool {
        false
    }

    /// Returns the SQL that reads one partition's rows after a position, in the source's order. Column 0 is the id,
    /// column 1 the time, then the columns of the order and the filter. With `keys_only`, it reads only what an index
    /// contains.
    fn cursor_sql(
        &self,
        range: &TimeRange,
        partition: &PartitionInfo,
        pin: i64,
        position: &Position,
        keys_only: bool,
    ) -> (String, Vec<Value>);

    /// Returns the SQL that reads the same rows, with the columns of an index and without one, from a partition that is
    /// not in order of time. It applies the filter itself. Only a stream with unordered partitions requires it.
    fn unordered_sql(
        &self,
        _range: &TimeRange,
        partition: &PartitionInfo,
        _pin: i64,
        _position: &Position,
    ) -> Result<(String, Vec<Value>), ShardError> {
        Err(ShardError::Corrupt(format!("{} has no index", partition.name)))
    }

    /// Returns the key of a cursor's row.
    fn key(&self, row: &Row<'_>) -> Result<Position, ShardError>;

    /// Returns `true` if the row matches the filter. The index has already selected rows by time.
    fn takes(&self, _row: &Row<'_>) -> Result<bool, ShardError> {
        Ok(true)
    }

    /// Renders a row as a line of JSON, from a cursor that has all its columns.
    fn render(&self, row: &Row<'_>, key: &Position, out: &mut Vec<u8>) -> Result<(), ShardError>;

    /// Renders a row from a cursor that has only the columns of the index.
    fn render_by_id(
        &self,
        _connection: &Connection,
        _partition: &str,
        row: &Row<'_>,
        key: &Position,
        out: &mut Vec<u8>,
    ) -> Result<(), ShardError> {
        self.render(row, key, out)
    }
}

/// A position in the order of one shard's rows. The parts that a stream does not sort by are empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub timestamp_us: i64,
    pub user_id: i64,
    pub event_id: String,
    pub id: i64,
}

/// The limits on one step.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub rows: usize,
    pub bytes: usize,
}

/// One shard's next rows, rendered.
#[derive(Debug, Default)]
pub struct Partial {
    pub rows: Vec<PartialRow>,
    /// The rows' JSON, one per line. The event ids for the merge are in `ids`.
    pub bytes: Vec<u8>,
    pub ids: Vec<u8>,
    /// The position of the next step; `None` at the end.
    pub next: Option<Position>,
}

/// One row of a [`Partial`].
#[derive(Clone, Copy, Debug)]
pub struct PartialRow {
    pub timestamp_us: i64,
    pub user_id: i64,
    pub id: i64,
    /// The end of its line in `bytes`, and of its event id in `ids`. Both begin where those of the previous row end.
    pub line_end: u32,
    pub id_end: u32,
}

impl TimeRange {
    /// Returns the position before the first row.
    #[must_use]
    pub fn start(&self) -> Position {
        let timestamp_us =
            if self.descending { self.to_us.unwrap_or(i64::MAX) } else { self.from_us.unwrap_or(i64::MIN) };
        let edge = if self.descending { i64::MIN } else { -1 };
        Position { timestamp_us, user_id: i64::MIN, event_id: String::new(), id: edge }
    }

    /// Returns parts of an SQL statement: the comparison with a position, the condition for the other end of the
    /// range, and the direction.
    #[must_use]
    pub fn sql(&self, time_column: &str) -> (&'static str, String, &'static str) {
        match self.descending {
            true => ("<", format!("{time_column} >= "), "DESC"),
            false => (">", format!("{time_column} < "), "ASC"),
        }
    }

    /// Returns the time where reading ends.
    #[must_use]
    pub fn edge(&self) -> i64 {
        match self.descending {
            true => self.from_us.unwrap_or(i64::MIN),
            false => self.to_us.unwrap_or(i64::MAX),
        }
    }

    /// Returns `true` if a partition may have rows after a position.
    #[must_use]
    pub fn overlaps(&self, partition: &PartitionInfo, position: &Position) -> bool {
        let Some((low, high)) = partition.timestamp_us else { return false };
        let (mut from, mut to) = (self.from_us.unwrap_or(i64::MIN), self.to_us.unwrap_or(i64::MAX));
        // Everything before the position was already read.
        if self.descending {
            to = to.min(position.timestamp_us.saturating_add(1));
        } else {
            from = from.max(position.timestamp_us);
        }
        low < to && high >= from
    }
}

/// Returns the highest row id of a stream, or 0 if the stream has no rows. Later rows get higher ids.
pub fn pin(connection: &Connection, stream: &'static Stream) -> Result<i64, ShardError> {
    let sql = "SELECT coalesce(max(first_id + rows + erased - 1), 0) FROM partition WHERE stream = ?1";
    let last: i64 = connection.prepare_cached(sql)?.query_row([stream.name], |row| row.get(0))?;
    Ok(last)
}

/// Reads the rows after `position` with ids up to `pin`, within the limits. With `keys_only`, `bytes` remains empty.
/// Callers use this to skip rows.
pub fn step<S: Source>(
    connection: &Connection,
    (source, range): (&S, &TimeRange),
    pin: i64,
    position: &Position,
    bounds: Bounds,
    keys_only: bool,
) -> Result<Partial, ShardError> {
    let until_us = clock::monotonic_us() + STEP_US;
    let infos = partitions_of(connection, source.stream())?;
    let infos: Vec<_> = infos
        .into_iter()
        .filter(|partition| partition.first_id <= pin && range.overlaps(partition, position))
        .collect();
    let keys_first = source.reads_keys_first();
    let mut statements = Vec::with_capacity(infos.len());
    for partition in &infos {
        let (sql, values) = if partition.is_in_time_order() {
            source.cursor_sql(range, partition, pin, position, keys_only || keys_first)
        } else {
            // No step takes more rows. With the limit, SQLite keeps only that many of the sorted rows.
            let (sql, values) = source.unordered_sql(range, partition, pin, position)?;
            (format!("{sql} LIMIT {}", bounds.rows.max(1)), values)
        };
        statements.push((connection.prepare_cached(&sql)?, values));
    }
    let mut cursors = Vec::with_capacity(statements.len());
    for ((statement, values), partition) in statements.iter_mut().zip(&infos) {
        cursors.push(Cursor::begin(source, statement, values, partition)?);
    }
    let mut partial = Partial::default();
    let mut seen = 0_u32;
    loop {
        let Some(best) = choose(&cursors, range.descending) else {
            partial.next = None;
            return Ok(partial);
        };
        let cursor = &mut cursors[best];
        let Some(key) = cursor.key.take() else { continue };
        let gone = || ShardError::Other("a cursor names no row".to_owned());
        let row = cursor.rows.get().ok_or_else(gone)?;
        if source.takes(row)? {
            if !keys_only {
                if keys_first || !cursor.partition.is_in_time_order() {
                    let table = &cursor.partition.name;
                    source.render_by_id(connection, table, row, &key, &mut partial.bytes)?;
                } else {
                    source.render(row, &key, &mut partial.bytes)?;
                }
            }
            partial.ids.extend_from_slice(key.event_id.as_bytes());
            partial.rows.push(PartialRow {
                timestamp_us: key.timestamp_us,
                user_id: key.user_id,
                id: key.id,
                line_end: partial.bytes.len() as u32,
                id_end: partial.ids.len() as u32,
            });
        }
        cursor.advance(source)?;
        seen += 1;
        let is_full = partial.rows.len() >= bounds.rows || partial.bytes.len() >= bounds.bytes;
        if is_full || (seen.is_multiple_of(KEYS_PER_LOOK) && clock::monotonic_us() >= until_us) {
            partial.next = Some(key);
            return Ok(partial);
        }
    }
}

/// One partition's rows in the source's order, with the next key already extracted.
struct Cursor<'s> {
    rows: Rows<'s>,
    partition: &'s PartitionInfo,
    key: Option<Position>,
}

impl<'s> Cursor<'s> {
    fn begin<S: Source>(
        source: &S,
        statement: &'s mut Statement<'_>,
        values: &[Value],
        partition: &'s PartitionInfo,
    ) -> Result<Cursor<'s>, ShardError> {
        let rows = statement.query(params_from_iter(values))?;
        let mut cursor = Cursor { rows, partition, key: None };
        cursor.advance(source)?;
        Ok(cursor)
    }

    fn advance<S: Source>(&mut self, source: &S) -> Result<(), ShardError> {
        self.rows.advance()?;
        self.key = self.rows.get().map(|row| source.key(row)).transpose()?;
        Ok(())
    }
}

/// Returns the index of the cursor with the next key. Searches linearly, because there are few partitions.
fn choose(cursors: &[Cursor<'_>], descending: bool) -> Option<usize> {
    let keyed = cursors.iter().enumerate().filter_map(|(at, cursor)| Some((cursor.key.as_ref()?, at)));
    if descending { keyed.max_by_key(|(key, _)| *key) } else { keyed.min_by_key(|(key, _)| *key) }
        .map(|(_, at)| at)
}

/// Returns every SQL statement with which this source can read a partition, each with a name. Used to check query
/// plans.
#[must_use]
pub fn statements<S: Source>(what: &str, source: &S, partition: &PartitionInfo) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for descending in [false, true] {
        let range = TimeRange { from_us: None, to_us: None, descending };
        for keys_only in [false, true] {
            let (sql, _) = source.cursor_sql(&range, partition, 0, &range.start(), keys_only);
            let order = if descending { "descending" } else { "ascending" };
            let columns = if keys_only { "keys" } else { "rows" };
            found.push((format!("{what}, {order}, {columns}"), sql));
        }
    }
    found
}
