//! The rows of clicks.

use rusqlite::Connection;

use super::portion::{Portion, ROW_BYTES, text};
use crate::clicks::CLICKS;
use crate::shard::ShardError;
use crate::ship::rows::ClickRow;

/// Returns the statement that reads a partition.
pub(super) fn sql(partition: &str) -> String {
    format!(
        "SELECT id, user_id, timestamp_us, received_us, metadata FROM {partition} WHERE id > ?1 AND id <= ?2 ORDER BY id"
    )
}

pub(super) fn read(snapshot: &Connection, portion: &mut Portion) -> Result<Vec<ClickRow>, ShardError> {
    let mut found = Vec::new();
    portion.read_stream(snapshot, &CLICKS, sql, |portion, row, _| {
        let click = ClickRow {
            id: row.get(0)?,
            user_id: row.get(1)?,
            timestamp_us: row.get(2)?,
            received_us: row.get(3)?,
            metadata: text(row, 4)?,
        };
        let (id, bytes) = (click.id, ROW_BYTES + click.metadata.len());
        found.push(click);
        Ok(portion.count(id, bytes))
    })?;
    Ok(found)
}
