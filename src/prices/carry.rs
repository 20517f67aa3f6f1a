//! Converts price events back to the records from which they were stored, to carry them into other shards. Each
//! record contains the verdict and, if there is one, the decision on the anomaly. The shard that receives the records
//! assigns new numbers to the changes, in order of arrival.

use rusqlite::{Connection, Row};

use super::history::{carry_history, price_of};
use super::read::finding;
use super::record::{Decision, Judged, PRICE_EVENT, PriceEventRow, Review};
use crate::base::prices::PriceRules;
use crate::shard::{Carried, ShardError};

/// Passes every price to `take`, followed by the price events, which determine whether each price is accepted.
pub(super) fn carry(
    connection: &Connection,
    take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
) -> Result<(), ShardError> {
    carry_history(connection, take)?;
    let sql = "SELECT t.tenant_id, e.product_id, e.event_id, e.observed_at_us, e.received_us, e.price, e.currency, \
               e.change_bp_max, e.score_milli_max, e.window_max, e.anomaly, a.baseline, a.change_bp, a.median, \
               a.mad, a.score_milli, a.compared, a.status, a.reviewed_us FROM price_event e \
               JOIN tenant_row t ON t.id = e.tenant LEFT JOIN price_anomaly a ON a.id = e.anomaly \
               ORDER BY e.received_us, e.tenant, e.product_id, e.event_id";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        take(Carried::Row(PRICE_EVENT, record(row)?))?;
    }
    Ok(())
}

fn record(row: &Row<'_>) -> Result<Vec<u8>, ShardError> {
    let anomaly = match row.get::<_, Option<i64>>(10)? {
        None => None,
        Some(_) => {
            let review = match (
                Decision::of_status(row.get_ref(17)?.as_str().map_err(rusqlite::Error::from)?),
                row.get::<_, Option<i64>>(18)?,
            ) {
                (Some(decision), Some(at_us)) => Some(Review { decision, at_us }),
                _ => None,
            };
            Some((finding(row, 11)?, review))
        }
    };
    let mut payload = Vec::new();
    PriceEventRow {
        row: price_of(row)?,
        rules: PriceRules { change_bp: row.get(7)?, score_milli: row.get(8)?, window: row.get(9)? },
        judged: Some(Judged { anomaly }),
    }
    .encode(&mut payload);
    Ok(payload)
}
