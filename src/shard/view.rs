//! The views that combine all partitions of a stream, and the times that they show in the sqlite3 shell.

use std::fmt::Write as _;

use rusqlite::Connection;

use super::error::ShardError;
use super::stream::Stream;

/// The number of partitions that one SELECT combines. The stock shell refuses more than 500. Above this number, a
/// stream's view combines groups (`click_group_001`, …) of this size.
pub(super) const GROUP_PARTITIONS_MAX: usize = 400;

/// Returns SQL that formats a time as RFC 3339 with six fractional digits, so that text order is time order. Uses
/// integer arithmetic with a floor, which is correct before 1970 too. Outside of the years 0000 to 9999, the text is
/// the integer with `us` appended.
pub fn time_sql(column: &str) -> String {
    let micros = format!("(({column} % 1000000 + 1000000) % 1000000)");
    format!(
        "coalesce(strftime('%Y-%m-%dT%H:%M:%S', ({column} - {micros}) / 1000000, 'unixepoch')\n    \
         || printf('.%06dZ', {micros}), {column} || 'us')"
    )
}

/// Makes the stream's view cover `partitions` (oldest first). Call it in the transaction that changed them. Full
/// groups are not changed. Takes less than a millisecond for up to 400 partitions, and a few milliseconds for more.
pub(super) fn cover(
    transaction: &Connection,
    stream: &'static Stream,
    partitions: &[String],
) -> Result<(), ShardError> {
    cover_as(transaction, stream.name, stream.columns, partitions)?;
    for side in stream.side_tables {
        let tables: Vec<String> = partitions.iter().map(|name| (side.table)(name)).collect();
        cover_as(transaction, side.view, side.columns, &tables)?;
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

/// Returns `true` if the view exists and has the first and the last of its members. A group grows only at its end and
/// shrinks only at its beginning, so a view with both members is complete.
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
