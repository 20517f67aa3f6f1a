//! The tables of clicks: a partitioned stream and the view over it.

use rusqlite::Connection;

use crate::shard::view::time_sql;
use crate::shard::{ShardError, Stream, partition};

/// The collector's events, in order of arrival.
pub static CLICKS: Stream = Stream {
    place: 0,
    name: "click",
    total: "rows",
    since: 1,
    columns: "id, user_id, timestamp_us, received_us, metadata",
    values: "?1, ?2, ?3, ?4, ?5",
    time_column: "timestamp_us",
    tenant: None,
    create_sql,
    unordered_sql: None,
    side_tables: &[],
    tables: |partition| vec![partition.to_owned()],
    shared_bytes_sql: None,
    has_statuses: false,
    has_sealed_index: true,
    partition_rows_max: None,
};

fn create_sql(partition: &str) -> String {
    format!(
        "CREATE TABLE {partition} (
  -- Events in order of arrival; `id` goes on counting from one partition to the next.
  id INTEGER PRIMARY KEY,
  user_id INTEGER NOT NULL,
  timestamp_us INTEGER NOT NULL,  -- the client's time, microseconds since 1970 UTC
  received_us INTEGER NOT NULL,   -- when it was accepted
  metadata TEXT NOT NULL          -- JSON, byte for byte as received
);
{}",
        live_index_sql(partition)
    )
}

fn live_index_sql(partition: &str) -> String {
    format!("CREATE INDEX {partition}_time ON {partition} (timestamp_us, user_id)")
}

/// Runs the migration to a version. Version 1 creates the view. Version 2 indexes every partition by time from its
/// first row. It builds the existing partitions' indexes once, which takes about half a second per million rows.
pub(super) fn migrate(connection: &Connection, version: u32) -> Result<(), ShardError> {
    match version {
        1 => connection.execute_batch(&events_sql())?,
        2 => {
            for name in partition::names(connection, &CLICKS)? {
                connection.execute_batch(&format!("DROP INDEX IF EXISTS {name}_time"))?;
                connection.execute_batch(&live_index_sql(&name))?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Returns the SQL for `CREATE VIEW events`. The view reads `click`, so it does not change when partitions are added.
fn events_sql() -> String {
    format!(
        "
CREATE VIEW events AS
  -- One line an event, oldest arrival first. Times are UTC; `timestamp` is the client's, `created_at`
  -- ours. For speed on much data ask `click`, which has the same rows with times as integers
  -- (microseconds since 1970), or one partition.
SELECT id, user_id,
  {} AS timestamp,
  metadata,
  {} AS created_at
FROM click;
",
        time_sql("timestamp_us"),
        time_sql("received_us")
    )
}
