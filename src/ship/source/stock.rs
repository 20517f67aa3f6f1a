//! The rows of stock events. Those of an earlier schema version come when upkeep has moved them.

use rusqlite::Connection;

use super::names::Names;
use super::portion::{Next, Portion, ROW_BYTES, text};
use crate::shard::ShardError;
use crate::ship::rows::StockRow;
use crate::stock::StockMode;

/// The stored code of events that happened elsewhere and were carried in.
const HISTORY_CODE: u8 = 4;

pub(super) const SQL: &str = "SELECT id, product, event_id, version, mode, kind, number, stock, occurred_at_us, received_us \
                   FROM stock_event WHERE id > ?1 AND id <= ?2 ORDER BY id";

pub(super) fn read(
    snapshot: &Connection,
    portion: &mut Portion,
    names: &mut Names<'_>,
) -> Result<Vec<StockRow>, ShardError> {
    let mut found = Vec::new();
    portion.read_table(snapshot, SQL, |portion, row| -> Result<Next, ShardError> {
        let level = names.level(row.get(1)?)?;
        let event = StockRow {
            id: row.get(0)?,
            tenant_id: level.0.to_string(),
            product_id: level.1.clone(),
            event_id: text(row, 2)?,
            version: row.get(3)?,
            mode: mode_text(row.get(4)?)?,
            kind: text(row, 5)?,
            number: row.get(6)?,
            stock: row.get(7)?,
            occurred_at_us: row.get(8)?,
            received_us: row.get(9)?,
        };
        let texts = event.tenant_id.len() + event.product_id.len() + event.event_id.len() + event.kind.len();
        let id = event.id;
        found.push(event);
        Ok(portion.count(id, ROW_BYTES + texts))
    })?;
    Ok(found)
}

fn mode_text(code: u8) -> Result<&'static str, ShardError> {
    match StockMode::from_code(code) {
        Some(mode) => Ok(mode.as_str()),
        None if code == HISTORY_CODE => Ok("history"),
        None => Err(ShardError::Corrupt(format!("a stock event has the unknown mode {code}"))),
    }
}
