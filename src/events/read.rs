//! Reads one tenant's events in order of (timestamp, event id).

use rusqlite::types::Value;
use rusqlite::{Connection, Row};

use super::buckets::edge_sql;
use super::count::{count, count_sql, uncounted_sql};
use super::schema::EVENTS;
use crate::base::limits::{TIME_US_MAX, TIME_US_MIN};
use crate::shard::read::{
    CopiedRow, Position, RowBatch, Selected, Source, TimeRange, selecting_statements, statements, write_line,
    write_rfc3339, write_string,
};
use crate::shard::{PartitionInfo, ShardError, Stream};

/// All rows are read by id if this factor times the selected events reaches their number.
const MOST: u64 = 3;

/// A selection of events: one tenant's events, optionally only those from one source or of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFilter {
    pub tenant_id: String,
    pub source: Option<String>,
    pub event_type: Option<String>,
}

impl EventFilter {
    /// Returns the tenant, and the source and the type if only one is selected.
    pub(super) fn names(&self) -> (&str, Option<&str>, Option<&str>) {
        (&self.tenant_id, self.source.as_deref(), self.event_type.as_deref())
    }
}

impl Source for EventFilter {
    fn stream(&self) -> &'static Stream {
        &EVENTS
    }

    fn reads_keys_first(&self) -> bool {
        self.source.is_some() || self.event_type.is_some()
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
        let rest = if keys_only { "" } else { ", received_us, payload" };
        let sql = format!(
            "SELECT id, timestamp_us, event_id, source, event_type{rest} FROM {name} INDEXED BY {name}_order \
             WHERE tenant_id = ?1 AND (timestamp_us, event_id) {compare} (?2, ?3) AND {bound}?4 AND id <= ?5 \
             ORDER BY timestamp_us {order}, event_id {order}"
        );
        let values = vec![
            self.tenant_id.clone().into(),
            position.timestamp_us.into(),
            position.event_id.clone().into(),
            range.edge().into(),
            pin.into(),
        ];
        (sql, values)
    }

    fn unordered_sql(
        &self,
        range: &TimeRange,
        partition: &PartitionInfo,
        pin: i64,
        position: &Position,
    ) -> Result<(String, Vec<Value>), ShardError> {
        let (compare, bound, order) = range.sql("timestamp_us");
        let sql = format!(
            "SELECT id, timestamp_us, event_id, source, event_type FROM {} NOT INDEXED \
             WHERE tenant_id = ?1 AND (timestamp_us, event_id) {compare} (?2, ?3) AND {bound}?4 AND id <= ?5 \
             AND (?6 IS NULL OR source = ?6) AND (?7 IS NULL OR event_type = ?7) \
             ORDER BY timestamp_us {order}, event_id {order}",
            partition.name
        );
        let text = |text: &Option<String>| text.clone().map_or(Value::Null, Value::Text);
        let values = vec![
            self.tenant_id.clone().into(),
            position.timestamp_us.into(),
            position.event_id.clone().into(),
            range.edge().into(),
            pin.into(),
            text(&self.source),
            text(&self.event_type),
        ];
        Ok((sql, values))
    }

    fn key(&self, row: &Row<'_>) -> Result<Position, ShardError> {
        Ok(Position { timestamp_us: row.get(1)?, user_id: 0, event_id: row.get(2)?, id: row.get(0)? })
    }

    fn takes(&self, row: &Row<'_>) -> Result<bool, ShardError> {
        for (wanted, column) in [(&self.source, 3), (&self.event_type, 4)] {
            if let Some(wanted) = wanted
                && row.get_ref(column)?.as_bytes().map_err(rusqlite::Error::from)? != wanted.as_bytes()
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn render(&self, row: &Row<'_>, key: &Position, out: &mut Vec<u8>) -> Result<(), ShardError> {
        let text = |at: usize| row.get_ref(at)?.as_bytes().map_err(rusqlite::Error::from);
        event(out, &self.tenant_id, key, [text(3)?, text(4)?], row.get(5)?, text(6)?);
        Ok(())
    }

    fn render_by_id(
        &self,
        connection: &Connection,
        partition: &str,
        row: &Row<'_>,
        key: &Position,
        out: &mut Vec<u8>,
    ) -> Result<(), ShardError> {
        let names =
            [3, 4].map(|at| row.get_ref(at).ok().and_then(|name| name.as_bytes().ok()).unwrap_or_default());
        let sql = format!("SELECT received_us, payload FROM {partition} WHERE id = ?1");
        let mut statement = connection.prepare_cached(&sql)?;
        statement.query_row([key.id], |found| {
            let payload = found.get_ref(1)?.as_bytes().map_err(rusqlite::Error::from)?;
            event(out, &self.tenant_id, key, names, found.get(0)?, payload);
            Ok(())
        })?;
        Ok(())
    }
}

impl Selected for EventFilter {
    fn is_most(
        &self,
        connection: &Connection,
        range: &TimeRange,
        infos: &[PartitionInfo],
    ) -> Result<bool, ShardError> {
        let own = count(
            connection,
            self,
            (range.from_us.unwrap_or(TIME_US_MIN), range.to_us.unwrap_or(TIME_US_MAX + 1)),
        )?;
        let stored: u64 = infos.iter().map(|info| info.rows).sum();
        Ok(own.unsigned_abs().saturating_mul(MOST) >= stored)
    }

    fn scan_sql(&self, range: &TimeRange, partition: &str, after: i64, upto: i64) -> (String, Vec<Value>) {
        let sql = format!(
            "SELECT id, timestamp_us, event_id, source, event_type FROM {partition} NOT INDEXED \
             WHERE id > ?1 AND id <= ?2 AND tenant_id = ?3 AND timestamp_us >= ?4 AND timestamp_us < ?5 \
             ORDER BY id"
        );
        let (from, to) = (range.from_us.unwrap_or(i64::MIN), range.to_us.unwrap_or(i64::MAX));
        (sql, vec![after.into(), upto.into(), self.tenant_id.clone().into(), from.into(), to.into()])
    }

    fn copy_sql(partition: &str) -> String {
        format!(
            "SELECT id, tenant_id, timestamp_us, received_us, event_id, source, event_type, payload \
             FROM {partition} NOT INDEXED WHERE id >= ?1 AND id <= ?2 ORDER BY id"
        )
    }

    fn copy(&self, row: &Row<'_>, batch: &mut RowBatch) -> Result<bool, ShardError> {
        let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
        if text(1)? != self.tenant_id {
            return Ok(false);
        }
        let mut keep = |at: usize| text(at).map(|text| batch.texts.keep(text));
        let copied = CopiedRow {
            user_id: 0,
            timestamp_us: row.get(2)?,
            received_us: row.get(3)?,
            event_id: keep(4)?,
            source: keep(5)?,
            event_type: keep(6)?,
            json: keep(7)?,
        };
        batch.rows.push(copied);
        Ok(true)
    }
}

fn event(
    out: &mut Vec<u8>,
    tenant_id: &str,
    key: &Position,
    [source, event_type]: [&[u8]; 2],
    received_us: i64,
    payload: &[u8],
) {
    out.extend_from_slice(b"{\"event_id\":");
    write_string(out, key.event_id.as_bytes());
    out.extend_from_slice(b",\"tenant_id\":");
    write_string(out, tenant_id.as_bytes());
    out.extend_from_slice(b",\"source\":");
    write_string(out, source);
    out.extend_from_slice(b",\"event_type\":");
    write_string(out, event_type);
    out.extend_from_slice(b",\"timestamp\":\"");
    write_rfc3339(out, key.timestamp_us);
    out.extend_from_slice(b"\",\"payload\":");
    write_line(out, payload);
    out.extend_from_slice(b",\"received_at\":\"");
    write_rfc3339(out, received_us);
    out.extend_from_slice(b"\"}\n");
}

pub(super) fn payload_sql(partition: &str) -> String {
    format!("SELECT payload FROM {partition} WHERE id = ?1")
}

/// Returns every SQL statement that can read events from a partition, with its name, to check the query plans.
#[must_use]
pub fn event_statements(partition: &PartitionInfo) -> Vec<(String, String)> {
    let of = EventFilter { tenant_id: "t".to_owned(), source: None, event_type: None };
    let mut found = statements("events", &of, partition);
    found.extend(selecting_statements("events", &of, &partition.name));
    found.push(("events, counted".to_owned(), count_sql(partition)));
    found.push(("events, what buckets lack".to_owned(), uncounted_sql(partition)));
    found.push(("events, a payload".to_owned(), payload_sql(&partition.name)));
    let [first, last] = edge_sql(&partition.name);
    found.push(("events, the earliest of a bucket".to_owned(), first));
    found.push(("events, the latest of a bucket".to_owned(), last));
    found
}
