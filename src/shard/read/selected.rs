//! Selects rows and copies them, for a file that outlives its query: first the ids of the rows that match, then their
//! columns. Each call is one bounded step on one shard.
//!
//! Rows of these streams are never changed in place except by an erasure, so reading the same selection returns the
//! same data every time.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::copied::{BatchLimits, RowBatch};
use super::{Bounds, Position, Source, TimeRange, step};
use crate::base::clock;
use crate::shard::error::ShardError;
use crate::shard::partitions::{PartitionInfo, partitions_of};
use crate::shard::stream::Stream;

/// The maximum time that one step holds its snapshot. It is short, so that a waiting query is hardly delayed.
const STEP_US: u64 = 20_000;
/// The number of rows between two checks of the clock.
const LOOK: usize = 256;
/// The number of ids that one step examines. It is small in a debug build, so that tests with few rows take several
/// steps.
const CHOOSE_IDS: i64 = if cfg!(debug_assertions) { 150 } else { 16_384 };
/// The number of rows that one step selects by an index.
const CHOOSE_ROWS: usize = if cfg!(debug_assertions) { 40 } else { 8_192 };
/// The cost of looking up a selected row, relative to reading an unselected one.
const DENSE: i64 = 4;

/// A source whose rows can be selected by id and copied.
pub trait Selected: Source {
    /// Returns `true` if the source has so many rows in the range that reading all rows of the partitions by id is
    /// faster than reading an index.
    fn is_most(
        &self,
        connection: &Connection,
        range: &TimeRange,
        infos: &[PartitionInfo],
    ) -> Result<bool, ShardError>;

    /// Returns the SQL that reads the keys of the rows with ids in `(after, upto]`, by id. The first columns are those
    /// of [`Source::cursor_sql`] with `keys_only`.
    fn scan_sql(&self, range: &TimeRange, partition: &str, after: i64, upto: i64) -> (String, Vec<Value>);

    /// Returns the SQL that reads the columns of the rows with ids from `?1` to `?2`, by id. Column 0 is the id.
    fn copy_sql(partition: &str) -> String;

    /// Adds a row of [`Selected::copy_sql`] to the batch. Returns `false` if it is not a row of the source.
    fn copy(&self, row: &Row<'_>, batch: &mut RowBatch) -> Result<bool, ShardError>;
}

/// The progress of the selection in one shard.
#[derive(Clone, Debug, Default)]
pub struct RowCursor {
    /// Whether all rows are read by id. The first step decides this.
    is_whole: Option<bool>,
    /// The highest id read so far, if all rows are read.
    after: i64,
    /// The position of the last row read by an index.
    position: Option<Position>,
}

/// Returns the ids of the next rows in the range that match and have ids up to `pin`, and where to continue if there
/// are more. They are sorted by id if all rows are read, otherwise by the source's order. `spare` is an empty list
/// whose memory is reused.
pub fn select_rows<S: Selected>(
    connection: &Connection,
    (source, range): (&S, &TimeRange),
    pin: i64,
    mut cursor: RowCursor,
    spare: Vec<i64>,
) -> Result<(Vec<i64>, Option<RowCursor>), ShardError> {
    let mut selected = spare;
    let start = range.start();
    let mut infos = partitions_of(connection, source.stream())?;
    infos.retain(|info| info.first_id <= pin && range.overlaps(info, &start));
    let is_whole = match cursor.is_whole {
        Some(is_whole) => is_whole,
        None => source.is_most(connection, range, &infos)?,
    };
    cursor.is_whole = Some(is_whole);
    if !is_whole {
        let position = cursor.position.take().unwrap_or(start);
        let bounds = Bounds { rows: CHOOSE_ROWS, bytes: usize::MAX };
        let partial = step(connection, (source, range), pin, &position, bounds, true)?;
        selected.extend(partial.rows.iter().map(|row| row.id));
        cursor.position = partial.next;
        let has_more = cursor.position.is_some();
        return Ok((selected, has_more.then_some(cursor)));
    }
    let end = |info: &PartitionInfo| (info.end_id - 1).min(pin);
    let Some(info) = infos.iter().find(|info| end(info) > cursor.after) else { return Ok((selected, None)) };
    let until_us = clock::monotonic_us() + STEP_US;
    let first = cursor.after.max(info.first_id - 1);
    cursor.after = end(info).min(first.saturating_add(CHOOSE_IDS));
    // Reserve the maximum at once, because the process keeps the memory that a growing list frees.
    selected.reserve_exact(CHOOSE_IDS as usize);
    let (sql, values) = source.scan_sql(range, &info.name, first, cursor.after);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut seen = 0_usize;
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        if source.takes(row)? {
            selected.push(id);
        }
        seen += 1;
        if seen.is_multiple_of(LOOK) && clock::monotonic_us() >= until_us {
            cursor.after = id;
            break;
        }
    }
    let has_more = infos.last().is_some_and(|info| end(info) > cursor.after);
    Ok((selected, has_more.then_some(cursor)))
}

/// Adds selected rows, all of one shard, to the batch until a limit or the time limit is reached. Returns the number
/// of rows added.
pub fn copy_rows<S: Selected>(
    connection: &Connection,
    source: &S,
    ids: &[i64],
    limits: BatchLimits,
    batch: &mut RowBatch,
) -> Result<usize, ShardError> {
    let until_us = clock::monotonic_us() + STEP_US;
    let infos = partitions_of(connection, source.stream())?;
    let mut taken = 0;
    while taken < ids.len() && !limits.are_reached(batch) {
        let rest = &ids[taken..];
        let info = infos.iter().rev().find(|info| info.first_id <= rest[0]).ok_or_else(gone)?;
        let of_partition = rest.iter().take_while(|id| (info.first_id..info.end_id).contains(id)).count();
        let run = &rest[..of_partition.min(LOOK).min(limits.rows - batch.rows.len())];
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Err(gone()) };
        let is_dense = run.is_sorted() && last - first < DENSE * run.len() as i64;
        let mut statement = connection.prepare_cached(&S::copy_sql(&info.name))?;
        if is_dense {
            let mut rows = statement.query([first, last])?;
            for id in run {
                loop {
                    let row = rows.next()?.ok_or_else(gone)?;
                    let found: i64 = row.get(0)?;
                    if found > *id {
                        return Err(gone());
                    }
                    if found == *id {
                        add(source, row, batch)?;
                        break;
                    }
                }
                taken += 1;
                if limits.are_reached(batch) {
                    break;
                }
            }
        } else {
            for id in run {
                let mut rows = statement.query([id, id])?;
                add(source, rows.next()?.ok_or_else(gone)?, batch)?;
                taken += 1;
                if limits.are_reached(batch) {
                    break;
                }
            }
        }
        if clock::monotonic_us() >= until_us {
            break;
        }
    }
    Ok(taken)
}

fn add<S: Selected>(source: &S, row: &Row<'_>, batch: &mut RowBatch) -> Result<(), ShardError> {
    if source.copy(row, batch)? { Ok(()) } else { Err(gone()) }
}

fn gone() -> ShardError {
    ShardError::Other("selected rows no longer exist".to_owned())
}

/// Returns the first row id of a stream's oldest partition. Retention has dropped all rows with lower ids.
pub fn oldest_id(connection: &Connection, stream: &'static Stream) -> Result<i64, ShardError> {
    let sql = "SELECT coalesce(min(first_id), 0) FROM partition WHERE stream = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([stream.name], |row| row.get(0))?)
}

/// Returns the first row id of the oldest partition that may have rows in the range, or `None` if no partition has
/// any.
pub fn oldest_id_in(
    connection: &Connection,
    stream: &'static Stream,
    range: &TimeRange,
) -> Result<Option<i64>, ShardError> {
    let (start, infos) = (range.start(), partitions_of(connection, stream)?);
    Ok(infos.iter().find(|info| range.overlaps(info, &start)).map(|info| info.first_id))
}

/// Returns every statement of this module for a source's partition, with its name, to check the query plans.
#[must_use]
pub fn selecting_statements<S: Selected>(what: &str, source: &S, partition: &str) -> Vec<(String, String)> {
    let range = TimeRange { from_us: None, to_us: None, descending: false };
    vec![
        (format!("{what} to select, by id"), source.scan_sql(&range, partition, 0, 0).0),
        (format!("{what} to copy"), S::copy_sql(partition)),
    ]
}
