//! Reads and counts clicks. They are read in order of (timestamp, user, id).

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::schema::CLICKS;
use crate::shard::read::{
    CopiedRow, Position, RowBatch, Selected, Source, TimeRange, selecting_statements, statements, write_line,
    write_rfc3339,
};
use crate::shard::{PartitionInfo, ShardError, Stream, partitions_of};

/// All rows are read by id if this factor times the clicks that are certainly in the range reaches their number.
const MOST: u64 = 3;

/// A selection of clicks: one user's clicks, or all clicks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClickFilter {
    pub user_id: Option<i64>,
}

impl Source for ClickFilter {
    fn stream(&self) -> &'static Stream {
        &CLICKS
    }

    fn cursor_sql(
        &self,
        range: &TimeRange,
        partition: &PartitionInfo,
        pin: i64,
        position: &Position,
        keys_only: bool,
    ) -> (String, Vec<Value>) {
        let name = &partition.name;
        let (compare, bound, order) = range.sql("timestamp_us");
        let rest = if keys_only { "" } else { ", received_us, metadata" };
        let columns = format!("SELECT id, timestamp_us, user_id{rest} FROM {name}");
        let mut values: Vec<Value> = vec![
            position.timestamp_us.into(),
            position.user_id.into(),
            position.id.into(),
            range.edge().into(),
            pin.into(),
        ];
        let sql = match self.user_id {
            None => format!(
                "{columns} INDEXED BY {name}_time WHERE (timestamp_us, user_id, id) {compare} (?1, ?2, ?3) \
                 AND {bound}?4 AND id <= ?5 ORDER BY timestamp_us {order}, user_id {order}, id {order}"
            ),
            Some(user_id) => {
                values.push(user_id.into());
                // The user is fixed, so only time and id are compared, in the order of the index. The plus keeps the
                // planner from dropping the user from ORDER BY and then sorting the rows.
                let (index, user, then) = if partition.indexed {
                    ("user", "user_id", String::new())
                } else {
                    ("time", "+user_id", format!("user_id {order}, "))
                };
                format!(
                    "{columns} INDEXED BY {name}_{index} WHERE {user} = ?6 AND \
                     (timestamp_us, id) {compare} (?1, ?3) AND {bound}?4 AND id <= ?5 \
                     ORDER BY timestamp_us {order}, {then}id {order}"
                )
            }
        };
        (sql, values)
    }

    fn key(&self, row: &Row<'_>) -> Result<Position, ShardError> {
        Ok(Position {
            timestamp_us: row.get(1)?,
            user_id: row.get(2)?,
            event_id: String::new(),
            id: row.get(0)?,
        })
    }

    fn render(&self, row: &Row<'_>, key: &Position, out: &mut Vec<u8>) -> Result<(), ShardError> {
        out.extend_from_slice(b"{\"user_id\":");
        out.extend_from_slice(itoa::Buffer::new().format(key.user_id).as_bytes());
        out.extend_from_slice(b",\"timestamp\":\"");
        write_rfc3339(out, key.timestamp_us);
        out.extend_from_slice(b"\",\"metadata\":");
        write_line(out, row.get_ref(4)?.as_bytes().map_err(rusqlite::Error::from)?);
        out.extend_from_slice(b",\"received_at\":\"");
        write_rfc3339(out, row.get(3)?);
        out.extend_from_slice(b"\"}\n");
        Ok(())
    }
}

impl Selected for ClickFilter {
    fn is_most(
        &self,
        _connection: &Connection,
        range: &TimeRange,
        infos: &[PartitionInfo],
    ) -> Result<bool, ShardError> {
        // The clicks of one user are few, and one of the indexes has all columns of the filter.
        if self.user_id.is_some() {
            return Ok(false);
        }
        let (from, to) = (range.from_us.unwrap_or(i64::MIN), range.to_us.unwrap_or(i64::MAX));
        let is_inside =
            |info: &&PartitionInfo| info.timestamp_us.is_some_and(|(low, high)| low >= from && high < to);
        let inside: u64 = infos.iter().filter(is_inside).map(|info| info.rows).sum();
        let stored: u64 = infos.iter().map(|info| info.rows).sum();
        Ok(inside.saturating_mul(MOST) >= stored)
    }

    fn scan_sql(&self, range: &TimeRange, partition: &str, after: i64, upto: i64) -> (String, Vec<Value>) {
        let sql = format!(
            "SELECT id, timestamp_us, user_id FROM {partition} NOT INDEXED WHERE id > ?1 AND id <= ?2 \
             AND timestamp_us >= ?3 AND timestamp_us < ?4 ORDER BY id"
        );
        let (from, to) = (range.from_us.unwrap_or(i64::MIN), range.to_us.unwrap_or(i64::MAX));
        (sql, vec![after.into(), upto.into(), from.into(), to.into()])
    }

    fn copy_sql(partition: &str) -> String {
        format!(
            "SELECT id, user_id, timestamp_us, received_us, metadata FROM {partition} NOT INDEXED \
             WHERE id >= ?1 AND id <= ?2 ORDER BY id"
        )
    }

    fn copy(&self, row: &Row<'_>, batch: &mut RowBatch) -> Result<bool, ShardError> {
        let json = batch.texts.keep(row.get_ref(4)?.as_str().map_err(rusqlite::Error::from)?);
        let (user_id, timestamp_us, received_us) = (row.get(1)?, row.get(2)?, row.get(3)?);
        batch.rows.push(CopiedRow { user_id, timestamp_us, received_us, json, ..CopiedRow::default() });
        Ok(true)
    }
}

/// Counts the clicks in the range. If all users are selected, partitions that are entirely inside the range
/// contribute their row counters. Otherwise, the rows are counted in an index.
pub(super) fn count(
    connection: &Connection,
    of: &ClickFilter,
    (from, to): (i64, i64),
) -> Result<i64, ShardError> {
    let mut sum = 0;
    for partition in &partitions_of(connection, &CLICKS)? {
        let Some((low, high)) = partition.timestamp_us else { continue };
        if low >= to || high < from {
            continue;
        }
        let is_whole = of.user_id.is_none() && low >= from && high < to;
        sum += if is_whole {
            partition.rows as i64
        } else {
            let values: Vec<Value> = [from, to].into_iter().chain(of.user_id).map(Value::from).collect();
            let mut statement = connection.prepare_cached(&count_sql(of, partition))?;
            statement.query_row(params_from_iter(values), |row| row.get(0))?
        };
    }
    Ok(sum)
}

fn count_sql(of: &ClickFilter, partition: &PartitionInfo) -> String {
    let name = &partition.name;
    match of.user_id {
        None => format!(
            "SELECT count(*) FROM {name} INDEXED BY {name}_time WHERE timestamp_us >= ?1 AND timestamp_us < ?2"
        ),
        Some(_) => {
            let index = if partition.indexed { "user" } else { "time" };
            format!(
                "SELECT count(*) FROM {name} INDEXED BY {name}_{index} WHERE timestamp_us >= ?1 \
                 AND timestamp_us < ?2 AND user_id = ?3"
            )
        }
    }
}

/// Returns every SQL statement that can read clicks from a partition, with its name, to check the query plans.
#[must_use]
pub fn click_statements(partition: &PartitionInfo) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (what, user_id) in [("clicks", None), ("clicks of a user", Some(1))] {
        let of = ClickFilter { user_id };
        found.extend(statements(what, &of, partition));
        if user_id.is_none() {
            found.extend(selecting_statements(what, &of, &partition.name));
        }
        found.push((format!("{what}, counted"), count_sql(&of, partition)));
    }
    found
}
