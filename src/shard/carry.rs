//! Rows of one shard as the records they came from, for carrying them into other shards.

use rusqlite::Connection;

use super::click::{CLICK_KIND, encode_header};
use super::error::ShardError;
use super::file::Shard;
use super::partition;
use super::service_event::{SERVICE_EVENT_KIND, ServiceEventRow};
use super::stream::Stream;
use crate::base::ids::{LaneId, Sequence};

/// One row (or rejected record): its kind and payload as a journal would hold them.
pub type Carried = (u8, Vec<u8>);

/// Everything a shard stores, in a fixed order: clicks, idempotent events, rejected records, orders, stock, those who
/// are kept out; each in order of arrival. Calls `take` with batches of at most `rows_max`.
pub fn carry<E: From<ShardError>>(
    connection: &Connection,
    rows_max: usize,
    take: &mut dyn FnMut(&[Carried]) -> Result<(), E>,
) -> Result<(), E> {
    let mut batch: Vec<Carried> = Vec::with_capacity(rows_max);
    let mut queries = Vec::new();
    for stream in [Stream::Click, Stream::ServiceEvent] {
        for name in partition::names(connection, stream)? {
            queries.push((Some(stream), format!("SELECT {} FROM {name} ORDER BY id", stream.columns())));
        }
    }
    queries.push((None, "SELECT kind, payload FROM rejected_record ORDER BY lane, sequence".to_owned()));
    for (stream, sql) in queries {
        let mut statement = connection.prepare(&sql).map_err(ShardError::from)?;
        let mut rows = statement.query([]).map_err(ShardError::from)?;
        while let Some(row) = rows.next().map_err(ShardError::from)? {
            batch.push(record(stream, row)?);
            if batch.len() >= rows_max {
                take(&batch)?;
                batch.clear();
            }
        }
    }
    let mut push = |record| {
        batch.push(record);
        if batch.len() >= rows_max {
            take(&batch)?;
            batch.clear();
        }
        Ok(())
    };
    super::orders::carry_orders::<E>(connection, &mut push)?;
    super::stock::carry_stock::<E>(connection, &mut push)?;
    super::people::forgotten::carry::<E>(connection, &mut push)?;
    if batch.is_empty() { Ok(()) } else { take(&batch) }
}

fn record(stream: Option<Stream>, row: &rusqlite::Row<'_>) -> Result<Carried, ShardError> {
    let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
    Ok(match stream {
        Some(Stream::Click) => {
            let header = encode_header(row.get(1)?, row.get(2)?, row.get(3)?);
            (CLICK_KIND, [&header, text(4)?.as_bytes()].concat())
        }
        Some(Stream::ServiceEvent) => {
            let mut payload = Vec::new();
            ServiceEventRow {
                tenant_id: text(1)?,
                event_id: text(2)?,
                source: text(3)?,
                event_type: text(4)?,
                timestamp_us: row.get(5)?,
                received_us: row.get(6)?,
                payload: text(7)?,
            }
            .encode(&mut payload);
            (SERVICE_EVENT_KIND, payload)
        }
        // Orders are carried by their own kind of rows.
        Some(Stream::Order) | None => (row.get(0)?, row.get(1)?),
    })
}

impl Shard {
    /// After everything was carried in: the lane's position becomes the number of records that are here, so
    /// that what is received is again what is stored and pending.
    pub fn number_from(&mut self, lane: LaneId) -> Result<(), ShardError> {
        let records = self.rows + self.service_events + self.order_count + self.rejected;
        self.connection.execute(
            "UPDATE journal_position SET sequence = ?2 WHERE lane = ?1",
            rusqlite::params![lane.0, records as i64],
        )?;
        self.positions = super::apply::Positions::load(&self.connection)?;
        debug_assert_eq!(self.position(lane), Sequence(records));
        Ok(())
    }
}
