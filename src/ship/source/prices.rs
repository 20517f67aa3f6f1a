//! The rows of prices. Those of an earlier schema version come when upkeep has moved them.

use rusqlite::Connection;

use super::names::Names;
use super::portion::{Next, Portion, ROW_BYTES, text};
use crate::shard::ShardError;
use crate::ship::rows::PriceRow;

pub(super) const SQL: &str = "SELECT id, series, event_id, observed_at_us, price, received_us, accepted FROM price_row \
                   WHERE id > ?1 AND id <= ?2 ORDER BY id";

pub(super) fn read(
    snapshot: &Connection,
    portion: &mut Portion,
    names: &mut Names<'_>,
) -> Result<Vec<PriceRow>, ShardError> {
    let mut found = Vec::new();
    portion.read_table(snapshot, SQL, |portion, row| -> Result<Next, ShardError> {
        let series = names.series(row.get(1)?)?;
        let price = PriceRow {
            id: row.get(0)?,
            tenant_id: series.0.to_string(),
            product_id: series.1.clone(),
            event_id: text(row, 2)?,
            price: row.get(4)?,
            currency: series.2.clone(),
            observed_at_us: row.get(3)?,
            received_us: row.get(5)?,
            is_accepted: row.get(6)?,
        };
        let texts = price.tenant_id.len() + price.product_id.len() + price.event_id.len();
        let id = price.id;
        found.push(price);
        Ok(portion.count(id, ROW_BYTES + texts))
    })?;
    Ok(found)
}
