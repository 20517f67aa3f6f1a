//! The rows of a shard that are not shipped: their number by stream, and the time of the oldest.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _};

use crate::clicks::CLICKS;
use crate::events::EVENTS;
use crate::orders::ORDERS;
use crate::shard::{ShardError, Stream, partition, read};
use crate::ship::rows::ShipStream;
use crate::ship::sink::Places;

/// The rows of one stream that are not shipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unshipped {
    /// The number of row ids behind the place. Deleted rows are included until the place has passed them.
    pub rows: u64,
    /// The time at which the oldest row behind the place was received, in microseconds since 1970.
    pub oldest_us: Option<i64>,
}

/// The rows of one shard that are not shipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub streams: BTreeMap<ShipStream, Unshipped>,
    /// `true` if rows of an earlier schema version have no row id yet.
    pub has_unmoved: bool,
}

impl Seen {
    /// Returns `true` if everything is shipped.
    #[must_use]
    pub fn has_nothing(&self) -> bool {
        !self.has_unmoved && self.streams.values().all(|unshipped| unshipped.rows == 0)
    }
}

pub(super) fn seen(snapshot: &Connection, places: &Places) -> Result<Seen, ShardError> {
    let mut streams = BTreeMap::new();
    for stream in ShipStream::ALL {
        let place = places.get(&stream).copied().unwrap_or_default();
        let newest = newest(snapshot, stream, false)?;
        let rows = newest.saturating_sub(place).max(0).unsigned_abs();
        let oldest_us = if rows > 0 { oldest(snapshot, stream, place)? } else { None };
        streams.insert(stream, Unshipped { rows, oldest_us });
    }
    let sql =
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name IN ('stock_event_v11', 'price_row_v14'))";
    let has_unmoved = snapshot.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(Seen { streams, has_unmoved })
}

fn stream_of(stream: ShipStream) -> Option<&'static Stream> {
    match stream {
        ShipStream::Clicks => Some(&CLICKS),
        ShipStream::Events => Some(&EVENTS),
        ShipStream::Orders => Some(&ORDERS),
        ShipStream::StockEvents | ShipStream::Prices | ShipStream::Changes => None,
    }
}

/// Returns the greatest row id of a stream. With `deleted`, it includes stock events and prices that were deleted, which
/// reads every product.
pub(super) fn newest(snapshot: &Connection, stream: ShipStream, deleted: bool) -> Result<i64, ShardError> {
    let sql = match (stream, deleted) {
        (ShipStream::StockEvents, false) => "SELECT coalesce(max(id), 0) FROM stock_event",
        (ShipStream::StockEvents, true) => "SELECT coalesce(max(event), 0) FROM stock_level",
        (ShipStream::Prices, false) => "SELECT coalesce(max(id), 0) FROM price_row",
        (ShipStream::Prices, true) => "SELECT coalesce(max(last), 0) FROM price_series",
        (ShipStream::Changes, _) => "SELECT coalesce(max(seq), 0) FROM change",
        (ShipStream::Clicks, _) => return read::pin(snapshot, &CLICKS),
        (ShipStream::Events, _) => return read::pin(snapshot, &EVENTS),
        (ShipStream::Orders, _) => return read::pin(snapshot, &ORDERS),
    };
    Ok(snapshot.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// Returns when the first row after a place was received.
fn oldest(snapshot: &Connection, stream: ShipStream, place: i64) -> Result<Option<i64>, ShardError> {
    let first = |sql: &str| -> Result<Option<i64>, ShardError> {
        Ok(snapshot.prepare_cached(sql)?.query_row([place], |row| row.get(0)).optional()?)
    };
    let Some(of) = stream_of(stream) else {
        return first(match stream {
            ShipStream::StockEvents => {
                "SELECT received_us FROM stock_event WHERE id > ?1 ORDER BY id LIMIT 1"
            }
            ShipStream::Prices => "SELECT received_us FROM price_row WHERE id > ?1 ORDER BY id LIMIT 1",
            _ => "SELECT at_us FROM change WHERE seq > ?1 ORDER BY seq LIMIT 1",
        });
    };
    let firsts = partition::firsts(snapshot, of)?;
    let from = firsts.partition_point(|(first, _)| *first <= place + 1).saturating_sub(1);
    for (_, name) in &firsts[from..] {
        let found = first(&format!("SELECT received_us FROM {name} WHERE id > ?1 ORDER BY id LIMIT 1"))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
