//! The tables of idempotent events: a partitioned stream with a view over it, ids, and buckets.

use rusqlite::Connection;

use super::{buckets, newest};
use crate::shard::ids::{self, IdRows, IdsOf};
use crate::shard::view::time_sql;
use crate::shard::{ShardError, Stream, TenantColumn};

/// The idempotent events, in order of arrival.
pub static EVENTS: Stream = Stream {
    place: 1,
    name: "service_event",
    total: "service_events",
    since: 2,
    columns: "id, tenant_id, event_id, source, event_type, timestamp_us, received_us, payload",
    values: "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8",
    time_column: "timestamp_us",
    tenant: Some(TenantColumn { column: "tenant_id", is_number: false, index: "_order", setting: "events" }),
    create_sql,
    unordered_sql: Some(table_sql),
    side_tables: &[],
    tables: |partition| vec![partition.to_owned()],
    shared_bytes_sql: None,
    has_statuses: false,
    has_sealed_index: false,
    partition_rows_max: None,
};

/// The events' ids.
pub(crate) static EVENT_IDS: IdsOf = IdsOf {
    rows: IdRows::Stream(&EVENTS),
    prefix: "",
    what: "event",
    key: "event id",
    rows_sql: |partition| format!("SELECT id, tenant_id, event_id FROM {partition} ORDER BY id"),
    sizes: ids::SIZES,
};

fn create_sql(partition: &str) -> String {
    format!("{};\n{}", table_sql(partition), order_sql(partition))
}

/// Returns the SQL for a partition's index by time.
pub(super) fn order_sql(partition: &str) -> String {
    format!(
        "CREATE INDEX {partition}_order ON {partition} (tenant_id, timestamp_us, event_id, source, event_type)"
    )
}

fn table_sql(partition: &str) -> String {
    format!(
        "CREATE TABLE {partition} (
  -- Events in order of arrival; `id` goes on counting from one partition to the next.
  -- (tenant_id, event_id) is unique over all partitions and shards; id_recent and id_run see to it.
  id INTEGER PRIMARY KEY,
  tenant_id TEXT NOT NULL,
  event_id TEXT NOT NULL,
  source TEXT NOT NULL,
  event_type TEXT NOT NULL,
  timestamp_us INTEGER NOT NULL,  -- the client's time, microseconds since 1970 UTC
  received_us INTEGER NOT NULL,   -- when it was accepted
  payload TEXT NOT NULL           -- a JSON object, byte for byte as received
)"
    )
}

/// Runs the migration to a version. Version 2 creates everything.
pub(super) fn migrate(connection: &Connection, version: u32) -> Result<(), ShardError> {
    if version == 2 {
        connection.execute_batch("INSERT INTO total VALUES ('service_events', 0);")?;
        connection.execute_batch(&ids::schema(&EVENT_IDS))?;
        connection.execute_batch(&buckets::schema())?;
        connection.execute_batch(&service_events_sql())?;
    }
    if version == newest::NEWEST_SINCE {
        connection.execute_batch(&newest::schema())?;
    }
    Ok(())
}

/// Returns the SQL for `CREATE VIEW service_events`, over `service_event`, which has no partition yet.
fn service_events_sql() -> String {
    let empty = EVENTS.columns.split(", ").map(|column| format!("NULL AS {column}"));
    format!(
        "
CREATE VIEW service_event AS
  SELECT {} WHERE false;
CREATE VIEW service_events AS
  -- The idempotent events, oldest arrival first. Times are UTC; `timestamp` is the client's, `created_at`
  -- ours. For speed on much data ask `service_event`, which has the same rows with times as integers
  -- (microseconds since 1970), with tenant_id and a range of timestamp_us: it has an index on both.
SELECT id, event_id, tenant_id, source, event_type,
  {} AS timestamp,
  payload,
  {} AS created_at
FROM service_event;
",
        empty.collect::<Vec<_>>().join(", "),
        time_sql("timestamp_us"),
        time_sql("received_us")
    )
}
