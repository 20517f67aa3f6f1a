//! The rows of service events.

use rusqlite::Connection;

use super::portion::{Portion, ROW_BYTES, text};
use crate::events::EVENTS;
use crate::shard::ShardError;
use crate::ship::rows::EventRow;

/// Returns the statement that reads a partition.
pub(super) fn sql(partition: &str) -> String {
    format!(
        "SELECT id, tenant_id, event_id, source, event_type, timestamp_us, received_us, payload FROM {partition} \
         WHERE id > ?1 AND id <= ?2 ORDER BY id"
    )
}

pub(super) fn read(snapshot: &Connection, portion: &mut Portion) -> Result<Vec<EventRow>, ShardError> {
    let mut found = Vec::new();
    portion.read_stream(snapshot, &EVENTS, sql, |portion, row, _| {
        let event = EventRow {
            id: row.get(0)?,
            tenant_id: text(row, 1)?,
            event_id: text(row, 2)?,
            source: text(row, 3)?,
            event_type: text(row, 4)?,
            timestamp_us: row.get(5)?,
            received_us: row.get(6)?,
            payload: text(row, 7)?,
        };
        let texts = event.tenant_id.len()
            + event.event_id.len()
            + event.source.len()
            + event.event_type.len()
            + event.payload.len();
        let id = event.id;
        found.push(event);
        Ok(portion.count(id, ROW_BYTES + texts))
    })?;
    Ok(found)
}
