//! Converts every change of every product back to the record from which it was stored, to carry it into another
//! shard. If the records are applied there in this order, they result in the same levels, versions and answers.

use rusqlite::Connection;

use super::decide::Mode;
use super::history::{Applied, changes};
use super::mode::StockMode;
use super::record::{STOCK, STOCK_UPDATE, StockRow, StockUpdateRow, encode_stock_update};
use crate::base::observed::Observed;
use crate::shard::{Carried, ShardError};

/// Passes the changes of every product to `take`, in order of their versions.
pub(super) fn carry(
    connection: &Connection,
    take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
) -> Result<(), ShardError> {
    changes(connection, &mut |change| match change.mode {
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
