//! Converts prices back to the records from which they were stored, to carry them into other shards. The record of a
//! price event contains the verdict and, if there is one, the decision on the anomaly. The shard that receives the
//! records assigns new numbers to the changes, in order of arrival.

use rusqlite::{Connection, Row};

use super::convert::EARLIER;
use super::detect::Finding;
use super::history::price_of;
use super::read::finding;
use super::record::{Decision, Judged, PRICE, PRICE_EVENT, PriceEventRow, Review};
use crate::base::prices::PriceRules;
use crate::shard::{Carried, ShardError};

/// The verdict and the decision, after the columns of the price and its limits.
const ANOMALY: &str = "a.id, a.baseline, a.change_bp, a.median, a.mad, a.score_milli, a.compared, a.status, \
                       a.reviewed_us";

/// Passes every price to `take`, in order of arrival. Sorts the prices, in temporary files.
pub(super) fn carry(
    connection: &Connection,
    take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
) -> Result<(), ShardError> {
    if EARLIER.is_pending(connection)? {
        let sql = format!(
            "SELECT t.tenant_id, p.product_id, p.event_id, p.observed_at_us, \
             coalesce(e.received_us, p.received_us) AS received, p.price, p.currency, e.change_bp_max, \
             e.score_milli_max, e.window_max, {ANOMALY} FROM price_row_v14 p JOIN tenant_row t ON t.id = p.tenant \
             LEFT JOIN price_event_v14 e ON e.tenant = p.tenant AND e.product_id = p.product_id \
             AND e.event_id = p.event_id AND e.observed_at_us = p.observed_at_us \
             LEFT JOIN price_anomaly a ON a.id = e.anomaly \
             ORDER BY received, p.tenant, p.product_id, p.event_id"
        );
        carry_rows(connection, &sql, take)?;
    }
    let sql = format!(
        "SELECT t.tenant_id, s.product_id, r.event_id, r.observed_at_us, r.received_us, r.price, s.currency, \
         r.change_bp_max, r.score_milli_max, r.window_max, {ANOMALY} FROM price_row r \
         CROSS JOIN price_series s ON s.id = r.series CROSS JOIN tenant_row t ON t.id = s.tenant \
         LEFT JOIN price_anomaly a ON a.id = r.anomaly ORDER BY r.received_us, r.id"
    );
    carry_rows(connection, &sql, take)
}

fn carry_rows(
    connection: &Connection,
    sql: &str,
    take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
) -> Result<(), ShardError> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let mut payload = Vec::new();
        let kind = match row.get::<_, Option<u32>>(7)? {
            None => {
                price_of(row)?.encode(&mut payload);
                PRICE
            }
            Some(change_bp) => {
                let rules = PriceRules { change_bp, score_milli: row.get(8)?, window: row.get(9)? };
                let judged = Some(Judged { anomaly: anomaly(row)? });
                PriceEventRow { row: price_of(row)?, rules, judged }.encode(&mut payload);
                PRICE_EVENT
            }
        };
        take(Carried::Row(kind, payload))?;
    }
    Ok(())
}

fn anomaly(row: &Row<'_>) -> Result<Option<(Finding, Option<Review>)>, ShardError> {
    if row.get::<_, Option<i64>>(10)?.is_none() {
        return Ok(None);
    }
    let review = match (
        Decision::of_status(row.get_ref(17)?.as_str().map_err(rusqlite::Error::from)?),
        row.get::<_, Option<i64>>(18)?,
    ) {
        (Some(decision), Some(at_us)) => Some(Review { decision, at_us }),
        _ => None,
    };
    Ok(Some((finding(row, 11)?, review)))
}
