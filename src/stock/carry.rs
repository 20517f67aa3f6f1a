//! Converts every change of every product back to the record from which it was stored, to carry it into another
//! shard. If the records are applied there in this order, they result in the same levels, versions and answers.

use rusqlite::Connection;

use super::convert::{self, EARLIER};
use super::decide::Mode;
use super::history::{Applied, Order, changes};
use super::mode::StockMode;
use super::record::{
    DroppedEvent, STOCK, STOCK_DROPPED, STOCK_UPDATE, StockDroppedRow, StockRow, StockUpdateRow,
    encode_stock_update,
};
use crate::base::keys::KeyHasher;
use crate::base::observed::Observed;
use crate::shard::{Carried, ShardError};

/// Passes the changes of every product to `take`, in order of their arrival.
pub(super) fn carry(
    connection: &Connection,
    keys: &KeyHasher,
    take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
) -> Result<(), ShardError> {
    carry_dropped(connection, keys, take)?;
    changes(connection, Order::Arrival, &mut |change| match change.mode {
        Mode::Asked(mode) => take(Carried::Row(STOCK_UPDATE, update(change, mode))),
        Mode::History => change.events().into_iter().try_for_each(|event| {
            let observed = Observed {
                at_us: event.occurred_us,
                received_us: change.received_us,
                tenant_id: &change.tenant_id,
                product_id: &change.product_id,
                event_id: event.event_id,
            };
            let mut payload = Vec::new();
            StockRow { observed, change: event.change }.encode(&mut payload);
            take(Carried::Row(STOCK, payload))
        }),
    })
}

/// The number of deleted events in one record.
const EVENTS_PER_RECORD: usize = if cfg!(test) { 2 } else { 1_000 };

/// Passes what remains of deleted events to `take`, before the other events of their products. Events that retention of
/// an earlier version had only begun to delete are among them.
fn carry_dropped(
    connection: &Connection,
    keys: &KeyHasher,
    take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
) -> Result<(), ShardError> {
    let sql = "SELECT b.product, t.tenant_id, l.product_id, b.quantity, b.version, b.newest_us, b.newest_event_id, \
               l.updated_us FROM stock_base b JOIN stock_level l ON l.id = b.product \
               JOIN tenant_row t ON t.id = l.tenant ORDER BY b.product";
    let is_converting = EARLIER.is_pending(connection)?;
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
        let mut dropped = StockDroppedRow {
            tenant_id: text(1)?,
            product_id: text(2)?,
            quantity: row.get(3)?,
            version: row.get(4)?,
            newest_us: row.get(5)?,
            newest_event_id: text(6)?,
            updated_us: row.get(7)?,
            events: Vec::new(),
        };
        let mut give = |dropped: &mut StockDroppedRow<'_>| {
            let mut payload = Vec::new();
            dropped.encode(&mut payload);
            dropped.events.clear();
            take(Carried::Row(STOCK_DROPPED, payload))
        };
        let sql =
            "SELECT event, content, version, stock FROM stock_dropped WHERE product = ?1 ORDER BY event";
        let mut statement = connection.prepare_cached(sql)?;
        let mut events = statement.query([row.get::<_, i64>(0)?])?;
        while let Some(event) = events.next()? {
            let (content, version, stock) = (event.get(1)?, event.get(2)?, event.get(3)?);
            dropped.events.push(DroppedEvent { event: event.get(0)?, content, version, stock });
            if dropped.events.len() == EVENTS_PER_RECORD {
                give(&mut dropped)?;
            }
        }
        if is_converting {
            let (product, version) = (row.get(0)?, dropped.version);
            let names = [dropped.tenant_id, dropped.product_id];
            convert::begun(connection, keys, (product, version), names, &mut |event| {
                dropped.events.push(event);
                if dropped.events.len() == EVENTS_PER_RECORD { give(&mut dropped) } else { Ok(()) }
            })?;
        }
        if !dropped.events.is_empty() {
            give(&mut dropped)?;
        }
    }
    Ok(())
}

fn update(change: &Applied, mode: StockMode) -> Vec<u8> {
    let row = StockUpdateRow {
        received_us: change.received_us,
        request: 0,
        place: 0,
        mode,
        expected_version: change.version - 1,
        tenant_id: &change.tenant_id,
        product_id: &change.product_id,
        events: change.events(),
    };
    let mut payload = Vec::new();
    encode_stock_update(&row, &mut payload);
    payload
}
