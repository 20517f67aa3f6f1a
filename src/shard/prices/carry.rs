//! Price events as the records they came from, with the verdict on each and what was said to it, for carrying them
//! into other shards. Changes get new numbers there, in the order of arrival.

use rusqlite::{Connection, Row};

use super::super::carry::Carried;
use super::super::error::ShardError;
use super::super::orders::price_of;
use super::read::finding;
use super::record::{Decision, Judged, PriceEventRow, Review};
use crate::base::kinds::Kind;
use crate::base::prices::PriceRules;

/// Every price event. Their prices are carried with the other prices, ahead of them.
pub(in crate::shard) fn carry<E: From<ShardError>>(
    connection: &Connection,
    take: &mut dyn FnMut(Carried) -> Result<(), E>,
) -> Result<(), E> {
    let sql = "SELECT t.tenant_id, e.product_id, e.event_id, e.observed_at_us, e.received_us, e.price, e.currency, \
               e.change_bp_max, e.score_milli_max, e.window_max, e.anomaly, a.baseline, a.change_bp, a.median, \
               a.mad, a.score_milli, a.compared, a.status, a.reviewed_us FROM price_event e \
               JOIN tenant_row t ON t.id = e.tenant LEFT JOIN price_anomaly a ON a.id = e.anomaly \
               ORDER BY e.received_us, e.tenant, e.product_id, e.event_id";
    let mut statement = connection.prepare(sql).map_err(ShardError::from)?;
    let mut rows = statement.query([]).map_err(ShardError::from)?;
    while let Some(row) = rows.next().map_err(ShardError::from)? {
        take(Carried::Row(Kind::PriceEvent, record(row)?))?;
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
