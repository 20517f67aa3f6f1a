//! The views someone with the sqlite3 shell reads: `events` and `service_events`, with times as text, over
//! `click` and `service_event`, which are every partition of a stream in one.

use std::fmt::Write as _;

use rusqlite::Connection;

use super::error::ShardError;
use super::orders;
use super::stream::Stream;

/// Partitions one SELECT unites. The stock shell refuses more than 500; above this many, a stream's view
/// unites groups (`click_group_001`, …) of this size.
pub(super) const GROUP_PARTITIONS_MAX: usize = 400;

/// `CREATE VIEW events`. The view names `click`, so it stays as it is when partitions are added.
pub(super) fn events_sql() -> String {
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

/// `CREATE VIEW service_events`, over `service_event`, which has no partition yet.
pub(super) fn service_events_sql() -> String {
    let empty = Stream::ServiceEvent.columns().split(", ").map(|column| format!("NULL AS {column}"));
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

/// RFC 3339 with six digits, so that text order is time order. Integer arithmetic with a floor, right
/// before 1970 too; outside the years 0000 to 9999 the integer is shown.
pub(super) fn time_sql(column: &str) -> String {
    let micros = format!("(({column} % 1000000 + 1000000) % 1000000)");
    format!(
        "coalesce(strftime('%Y-%m-%dT%H:%M:%S', ({column} - {micros}) / 1000000, 'unixepoch')\n    \
         || printf('.%06dZ', {micros}), {column} || 'us')"
    )
}

/// Makes the stream's view cover `partitions` (oldest first). Call it in the transaction that changed them.
/// Full groups are left alone: under a millisecond up to 400 partitions, a few beyond.
pub(super) fn cover(
    transaction: &Connection,
    stream: Stream,
    partitions: &[String],
) -> Result<(), ShardError> {
    cover_as(transaction, stream.name(), stream.columns(), partitions)?;
    if stream == Stream::Order {
        let items: Vec<String> = partitions.iter().map(|name| orders::items_of(name)).collect();
        cover_as(transaction, "sales_item", orders::ITEM_COLUMNS, &items)?;
    }
    Ok(())
}

fn cover_as(
    transaction: &Connection,
    name: &str,
    columns: &str,
    partitions: &[String],
) -> Result<(), ShardError> {
    if partitions.len() <= GROUP_PARTITIONS_MAX {
        return replace(transaction, name, columns, partitions);
    }
    let mut groups = Vec::new();
    for (index, members) in partitions.chunks(GROUP_PARTITIONS_MAX).enumerate() {
        let group = format!("{name}_group_{:03}", index + 1);
        let full = members.len() == GROUP_PARTITIONS_MAX;
        if !(full && covers(transaction, &group, members)?) {
            replace(transaction, &group, columns, members)?;
        }
        groups.push(group);
    }
    replace(transaction, name, columns, &groups)
}

/// Whether the view exists and has the first and the last of its members: a group grows at its end and
/// shrinks at its beginning, so it is complete.
fn covers(transaction: &Connection, view: &str, members: &[String]) -> Result<bool, ShardError> {
    let (Some(first), Some(last)) = (members.first(), members.last()) else { return Ok(true) };
    let mut statement = transaction.prepare_cached(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'view' AND name = ?1 AND sql LIKE ?2 AND sql LIKE ?3",
    )?;
    let (first, last) = (format!("%AS\n%FROM {first}\n%"), format!("% FROM {last}"));
    let found: i64 = statement.query_row((view, first, last), |row| row.get(0))?;
    Ok(found > 0)
}

fn replace(
    transaction: &Connection,
    view: &str,
    columns: &str,
    sources: &[String],
) -> Result<(), ShardError> {
    let mut sql = format!("DROP VIEW IF EXISTS {view};\nCREATE VIEW {view} AS");
    for (index, source) in sources.iter().enumerate() {
        let union = if index == 0 { "" } else { " UNION ALL" };
        // Writing to a String cannot fail.
        let _ = write!(sql, "{union}\n  SELECT {columns} FROM {source}");
    }
    transaction.execute_batch(&sql)?;
    Ok(())
}
