//! Every change of every product as the record it came from, for carrying it into another shard: taken there in
//! this order it comes to the same levels, versions and answers.

use rusqlite::Connection;

use super::super::carry::Carried;
use super::super::error::ShardError;
use super::super::orders::{Observed, StockRow};
use super::decide::Mode;
use super::history::{Applied, changes};
use super::record::{StockUpdateRow, encode_stock_update};
use crate::base::kinds::Kind;
use crate::base::stock_mode::StockMode;

/// The changes of every product, in order.
pub(in crate::shard) fn carry_stock<E: From<ShardError>>(
    connection: &Connection,
    take: &mut dyn FnMut(Carried) -> Result<(), E>,
) -> Result<(), E> {
    changes(connection, &mut |change| match change.mode {
        Mode::Asked(mode) => take(Carried::Row(Kind::StockUpdate, update(change, mode))),
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
            take(Carried::Row(Kind::Stock, payload))
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
