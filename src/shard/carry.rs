//! Rows of one shard as the records they came from, for carrying them into other shards.

use rusqlite::Connection;

use super::click::encode_header;
use super::error::ShardError;
use super::file::Shard;
use super::orders::{Observed, decode_ingest, decode_order, decode_price, decode_status, decode_stock};
use super::partition;
use super::prices::{decode_price_event, decode_price_review};
use super::service_event::{ServiceEventRow, decode_service_event};
use super::stock::decode_stock_update;
use super::stream::Stream;
use crate::base::ids::{LaneId, Sequence};
use crate::base::keys::{KeyHash, KeyHasher};
use crate::base::kinds::Kind;

/// One row or one rejected record, with its payload as a journal would hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// What a good record of this kind became.
    Row(Kind, Vec<u8>),
    /// A record of `rejected_record`, with its number: that may be no kind.
    Rejected(u8, Vec<u8>),
}

impl Carried {
    /// The number of its kind.
    #[must_use]
    pub fn number(&self) -> u8 {
        match self {
            Carried::Row(kind, _) => kind.number(),
            Carried::Rejected(number, _) => *number,
        }
    }

    #[must_use]
    pub fn payload(&self) -> &[u8] {
        match self {
            Carried::Row(_, payload) | Carried::Rejected(_, payload) => payload,
        }
    }

    /// Whether it adds one to the counts of the shard that takes it: clicks, events, orders and rejected records
    /// together. Every rejected record does, also of a kind whose rows do not.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        match self {
            Carried::Row(kind, _) => kind.is_counted(),
            Carried::Rejected(..) => true,
        }
    }
}

/// The key that names the shard of a good record; `None` where the kind has no key, or the record is none of it.
#[must_use]
pub fn key_of(keys: &KeyHasher, kind: Kind, payload: &[u8]) -> Option<KeyHash> {
    // A product's history is in one shard.
    let place = |observed: &Observed<'_>| keys.hash(observed.tenant_id, observed.product_id);
    match kind {
        Kind::Click | Kind::Erasure => None,
        Kind::ServiceEvent => decode_service_event(payload).map(|row| keys.hash(row.tenant_id, row.event_id)),
        Kind::Order => decode_order(payload).map(|row| keys.hash(row.tenant_id, row.order_id)),
        Kind::OrderStatus => decode_status(payload).map(|row| keys.hash(row.tenant_id, row.order_id)),
        Kind::Ingest => decode_ingest(payload).map(|row| keys.hash(row.scope, row.key)),
        Kind::Price => decode_price(payload).map(|row| place(&row.observed)),
        Kind::Stock => decode_stock(payload).map(|row| place(&row.observed)),
        Kind::PriceEvent => decode_price_event(payload).map(|event| place(&event.row.observed)),
        Kind::PriceReview => decode_price_review(payload).map(|row| row.anomaly.place()),
        Kind::StockUpdate => decode_stock_update(payload).map(|row| keys.hash(row.tenant_id, row.product_id)),
    }
}

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
            Carried::Row(Kind::Click, [&header, text(4)?.as_bytes()].concat())
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
            Carried::Row(Kind::ServiceEvent, payload)
        }
        // Orders are carried by their own kind of rows.
        Some(Stream::Order) | None => Carried::Rejected(row.get(0)?, row.get(1)?),
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
        // The records that were copied beside them are in no journal of the new numbers.
        self.connection.execute("UPDATE total SET value = 0 WHERE name = ?1", [super::apply::BESIDE])?;
        self.beside = 0;
        self.positions = super::apply::Positions::load(&self.connection)?;
        debug_assert_eq!(self.position(lane), Sequence(records));
        Ok(())
    }
}
