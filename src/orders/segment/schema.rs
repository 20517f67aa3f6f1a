//! The tables of segments.

use rusqlite::Connection;

use crate::shard::ShardError;

/// The schema version that added segments.
pub(in super::super) const SINCE: u32 = 10;

/// The bytes of the segments of orders `[?1, ?2)`.
pub(in super::super) const BYTES_SQL: &str =
    "SELECT sum(length(data)) FROM sales_segment WHERE id >= ?1 * 16 AND id < ?2 * 16";

pub(in super::super) fn tables_sql() -> &'static str {
    "CREATE TABLE sales_segment (
  -- Orders by columns, for exact figures: copies of rows, which can be made again. A segment has up to 16384
  -- consecutive orders of one partition. Its rows: the head, then one a column.
  id INTEGER PRIMARY KEY,  -- the id of the segment's first order * 16 + the column
  data BLOB NOT NULL       -- integers, as src/orders/segment/column.rs has it
);
CREATE TABLE sales_segment_stale (
  -- Orders whose status has changed since their segment was made.
  id INTEGER PRIMARY KEY,  -- of the order
  status INTEGER NOT NULL  -- now; 0: deleted
);"
}

/// Returns `true` if the file has the tables of segments. A server reads older files while they cannot be migrated.
pub(super) fn are_there(connection: &Connection) -> Result<bool, ShardError> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? >= SINCE)
}
