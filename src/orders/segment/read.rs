//! Reads segments, with the changes since they were made.

use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, OptionalExtension as _};

use super::build::read_rows;
use super::column::{ColumnError, decode};
use super::columns::SegmentColumns;
use super::layout::{Field, SegmentHead, first_id_of, row_ids};
use super::schema::are_there;
use super::stale::{self, stale_statuses};
use crate::base::clock;
use crate::shard::{PartitionInfo, ShardError};

pub(super) const HEAD_SQL: &str = "SELECT data FROM sales_segment WHERE id = ?1";
pub(super) const NEXT_SQL: &str = "SELECT id FROM sales_segment WHERE id >= ?1 ORDER BY id LIMIT 1";
pub(super) const LAST_SQL: &str =
    "SELECT id FROM sales_segment WHERE id >= ?1 AND id < ?2 ORDER BY id DESC LIMIT 1";
pub(super) const COLUMNS_SQL: &str =
    "SELECT id, data FROM sales_segment WHERE id >= ?1 AND id <= ?2 ORDER BY id";

/// The pause between two warnings about damage that reads have met.
const WARN_PAUSE_US: u64 = 60_000_000;
static WARNED_US: AtomicU64 = AtomicU64::new(0);

/// Returns what was read of a segment, or `None` if it is damaged. The rows are to be read instead.
///
/// # Errors
/// The error, if it is not damage.
pub(in super::super) fn undamaged<T>(read: Result<T, ShardError>) -> Result<Option<T>, ShardError> {
    let error = match read {
        Ok(read) => return Ok(Some(read)),
        Err(error @ ShardError::Corrupt(_)) => error,
        Err(error) => return Err(error),
    };
    let (now_us, warned_us) = (clock::monotonic_us(), WARNED_US.load(Ordering::Relaxed));
    if warned_us == 0 || now_us.saturating_sub(warned_us) >= WARN_PAUSE_US {
        WARNED_US.store(now_us.max(1), Ordering::Relaxed);
        tracing::error!(%error, "a segment is damaged: its orders are read from their rows until the next start, which \
                                 makes the segment again");
    }
    Ok(None)
}

/// Returns the segment that begins with an order.
pub(super) fn segment_at(connection: &Connection, first_id: i64) -> Result<Option<SegmentHead>, ShardError> {
    if !are_there(connection)? {
        return Ok(None);
    }
    let mut statement = connection.prepare_cached(HEAD_SQL)?;
    let mut rows = statement.query([Field::Head.row_id(first_id)])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let bytes = row.get_ref(0)?.as_blob().unwrap_or_default();
    SegmentHead::decode(first_id, bytes).map(Some)
}

/// Returns the first order of the first segment that begins at an order or after it.
pub(super) fn next_segment(connection: &Connection, from_id: i64) -> Result<Option<i64>, ShardError> {
    if !are_there(connection)? {
        return Ok(None);
    }
    let [first, _] = row_ids(from_id, from_id);
    let found: Option<i64> =
        connection.prepare_cached(NEXT_SQL)?.query_row([first], |row| row.get(0)).optional()?;
    Ok(found.map(first_id_of))
}

/// Returns the segment that has an order of a partition, if one has.
pub(in super::super) fn segment_with(
    connection: &Connection,
    partition: &PartitionInfo,
    id: i64,
) -> Result<Option<SegmentHead>, ShardError> {
    if !are_there(connection)? {
        return Ok(None);
    }
    let range = row_ids(partition.first_id, id + 1);
    let last: Option<i64> =
        connection.prepare_cached(LAST_SQL)?.query_row(range, |row| row.get(0)).optional()?;
    let head = last.map(|row| segment_at(connection, first_id_of(row))).transpose()?.flatten();
    Ok(head.filter(|head| (id + 1..=partition.end_id).contains(&head.end_id())))
}

/// How the next orders of a partition are to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextOrders {
    /// Their segment was read.
    Columns,
    /// Their rows are to be read, because they are in no segment or in a damaged one.
    Rows,
    /// None of them is of the period.
    PassedOver,
}

/// Finds the orders `[from, end)` that are read together, with the id after them, and reads their segment with
/// `read` if they have one. A segment is read as a whole, so its end may be above `end`.
///
/// # Errors
/// The error of `read` or of SQLite, if it is not damage to a segment.
pub fn next_orders(
    connection: &Connection,
    (from, end): (i64, i64),
    period: (i64, i64),
    read: impl FnOnce(&SegmentHead) -> Result<(), ShardError>,
) -> Result<(NextOrders, i64), ShardError> {
    if let Some(head) = undamaged(segment_at(connection, from))?.flatten() {
        if !head.overlaps(period) {
            return Ok((NextOrders::PassedOver, head.end_id()));
        }
        if undamaged(read(&head))?.is_some() {
            return Ok((NextOrders::Columns, head.end_id()));
        }
    }
    let next = next_segment(connection, from + 1)?.unwrap_or(i64::MAX);
    Ok((NextOrders::Rows, end.min(next)))
}

/// Returns the id after the last segment of a partition, or the partition's first id if it has none.
pub fn segmented_to(connection: &Connection, partition: &PartitionInfo) -> Result<i64, ShardError> {
    if !are_there(connection)? {
        return Ok(partition.first_id);
    }
    let range = row_ids(partition.first_id, partition.end_id);
    let last: Option<i64> =
        connection.prepare_cached(LAST_SQL)?.query_row(range, |row| row.get(0)).optional()?;
    let Some(first_id) = last.map(first_id_of) else { return Ok(partition.first_id) };
    let head = undamaged(segment_at(connection, first_id))?.flatten();
    Ok(head.map_or(first_id, |head| head.end_id().min(partition.end_id)))
}

/// Reads the orders `[first, end)` of a partition from their rows, in the form of a segment. Takes about 0.5 us an order,
/// and 0.3 us an item if the items are wanted.
pub fn rows_as_columns(
    connection: &Connection,
    partition: &str,
    range: (i64, i64),
    with_items: bool,
) -> Result<SegmentColumns, ShardError> {
    read_rows(connection, partition, range, with_items.then_some(usize::MAX))
}

/// Reads a segment's columns as of now, those of the items only if they are wanted. Takes about 5 ns an order and 2 ns
/// an item. Any damage is an error that names the column.
pub fn read_segment(
    connection: &Connection,
    head: &SegmentHead,
    with_items: bool,
    columns: &mut SegmentColumns,
) -> Result<(), ShardError> {
    read_columns(connection, head, with_items, columns)?;
    apply_changes(connection, head, columns)
}

/// Reads the columns that a question by product needs, as of now: those of items, and times, statuses, tenants,
/// currencies and numbers of items of orders. The other columns are empty. Otherwise as [`read_segment`].
pub fn read_segment_products(
    connection: &Connection,
    head: &SegmentHead,
    columns: &mut SegmentColumns,
) -> Result<(), ShardError> {
    read_fields(connection, head, &Field::OF_PRODUCTS, columns)?;
    apply_changes(connection, head, columns)
}

fn apply_changes(
    connection: &Connection,
    head: &SegmentHead,
    columns: &mut SegmentColumns,
) -> Result<(), ShardError> {
    let range @ (first_id, _) = (head.first_id, head.end_id());
    stale::apply(&stale_statuses(connection, range)?, first_id, columns);
    Ok(())
}

/// Reads a segment's columns as of the time when it was made, as [`read_segment`] does.
pub(super) fn read_columns(
    connection: &Connection,
    head: &SegmentHead,
    with_items: bool,
    columns: &mut SegmentColumns,
) -> Result<(), ShardError> {
    // The numbers of items are the last column of orders.
    let without_items = &Field::ORDERS[..Field::ORDERS.len() - 1];
    match with_items {
        true => read_fields(connection, head, &[&Field::ORDERS[..], &Field::ITEMS].concat(), columns),
        false => read_fields(connection, head, without_items, columns),
    }
}

/// Reads some columns, given in ascending order. The others are empty afterwards.
fn read_fields(
    connection: &Connection,
    head: &SegmentHead,
    fields: &[Field],
    columns: &mut SegmentColumns,
) -> Result<(), ShardError> {
    let first_id = head.first_id;
    for field in Field::ORDERS.into_iter().chain(Field::ITEMS) {
        columns.column(field).into_iter().for_each(Vec::clear);
    }
    let (Some(first), Some(last)) = (fields.first(), fields.last()) else { return Ok(()) };
    let mut statement = connection.prepare_cached(COLUMNS_SQL)?;
    let mut rows = statement.query([first.row_id(first_id), last.row_id(first_id)])?;
    for field in fields.iter().copied() {
        let count = if Field::ITEMS.contains(&field) { head.items } else { head.orders };
        let row_id = field.row_id(first_id);
        let found = loop {
            match rows.next()? {
                Some(row) if row.get::<_, i64>(0)? < row_id => {}
                found => break found,
            }
        };
        let row = found.filter(|row| row.get::<_, i64>(0).ok() == Some(row_id));
        let row = row.ok_or_else(|| field.damaged(first_id, ColumnError::Missing))?;
        // Another type is as damaged as no bytes.
        let bytes = row.get_ref(1)?.as_blob().unwrap_or_default();
        let Some(values) = columns.column(field) else { continue };
        decode(row_id, bytes, count, values).map_err(|error| field.damaged(first_id, error))?;
    }
    check(head, columns, fields.contains(&Field::Items))?;
    columns.used.clone_from(&head.currencies);
    Ok(())
}

/// Checks what the use of the columns relies on.
fn check(head: &SegmentHead, columns: &SegmentColumns, with_items: bool) -> Result<(), ShardError> {
    let places = 0..head.currencies.len() as i64;
    let is_used = |(currency, status): (&i64, &i64)| *status == 0 || places.contains(currency);
    if !columns.currencies.iter().zip(&columns.statuses).all(is_used) {
        return Err(Field::Currency.damaged(head.first_id, ColumnError::Header));
    }
    let items =
        columns.items.iter().try_fold(0_usize, |sum, items| sum.checked_add(usize::try_from(*items).ok()?));
    if with_items && items != Some(head.items) {
        return Err(Field::Items.damaged(head.first_id, ColumnError::Count));
    }
    Ok(())
}
