//! Moves the prices of schema versions before 16 into the appended table, in slices of upkeep.
//!
//! In: `price_row_v14`, with the key (tenant, product, time, event id), and `price_event_v14`, with the limits of price
//! events. Out: the same prices in `price_row`, those of a product in the order of their times. A price is in one of the
//! tables at each commit, and the earlier ones only lose rows: new prices of any product are appended.
//!
//! Until a product's prices are moved, duplicates are looked for in both tables, and accepted prices of both are compared.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::schema::create_views;
use super::series::{NewPrice, Rows, SeriesCache, Side};
use crate::base::clock;
use crate::base::keys::KeyHasher;
use crate::shard::ids::Ids;
use crate::shard::{Earlier, ShardError};

/// The number of rows that are moved between two checks of the clock.
const ROWS: i64 = if cfg!(test) { 3 } else { 64 };

/// The tables of earlier prices.
pub(super) static EARLIER: Earlier =
    Earlier { tables: &["price_row_v14", "price_event_v14"], what: "prices" };

/// Drops the empty tables of earlier prices, and makes the views read the other one alone.
pub(super) fn finish(connection: &Connection) -> Result<(), ShardError> {
    create_views(connection, false)?;
    EARLIER.drop_tables(connection)
}

/// Returns `true` if a product has prices that are not moved.
pub(super) fn has_prices(connection: &Connection, tenant: i64, product_id: &str) -> Result<bool, ShardError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM price_row_v14 WHERE tenant = ?1 AND product_id = ?2)";
    Ok(connection.prepare_cached(sql)?.query_row(params![tenant, product_id], |row| row.get(0))?)
}

/// A price: its time, its event id, and the price.
type Accepted = (i64, String, i64);

/// Returns the accepted prices that are not moved on one side of a time, nearest first.
pub(super) fn accepted(
    connection: &Connection,
    (tenant, product_id, currency): (i64, &str, &str),
    (at_us, event_id): (i64, &str),
    side: Side,
    limit: usize,
) -> Result<Vec<Accepted>, ShardError> {
    let sql = match side {
        Side::Before => {
            "SELECT observed_at_us, event_id, price FROM price_row_v14 INDEXED BY price_accepted WHERE tenant = ?1 \
             AND product_id = ?2 AND currency = ?3 AND accepted = 1 AND (observed_at_us, event_id) < (?4, ?5) \
             ORDER BY observed_at_us DESC, event_id DESC LIMIT ?6"
        }
        Side::After => {
            "SELECT observed_at_us, event_id, price FROM price_row_v14 INDEXED BY price_accepted WHERE tenant = ?1 \
             AND product_id = ?2 AND currency = ?3 AND accepted = 1 AND (observed_at_us, event_id) > (?4, ?5) \
             ORDER BY observed_at_us, event_id LIMIT ?6"
        }
    };
    let mut statement = connection.prepare_cached(sql)?;
    let values = params![tenant, product_id, currency, at_us, event_id, limit as i64];
    let rows = statement.query_map(values, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A price that is compared with those that are not moved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sought<'a> {
    pub(super) tenant: i64,
    pub(super) product_id: &'a str,
    pub(super) event_id: &'a str,
    pub(super) at_us: i64,
    pub(super) price: i64,
    pub(super) currency: &'a str,
}

/// Returns whether a price event that is not moved has the same content, if there is one with this id.
pub(super) fn stored(connection: &Connection, of: &Sought<'_>) -> Result<Option<bool>, ShardError> {
    let sql = "SELECT observed_at_us = ?4 AND price = ?5 AND currency = ?6 FROM price_event_v14 \
               WHERE tenant = ?1 AND product_id = ?2 AND event_id = ?3";
    let values = params![of.tenant, of.product_id, of.event_id, of.at_us, of.price, of.currency];
    Ok(connection.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()?)
}

/// Returns whether a price that is not moved has the same content, if there is one with this time and id.
pub(super) fn in_history(connection: &Connection, of: &Sought<'_>) -> Result<Option<bool>, ShardError> {
    let sql = "SELECT price = ?5 AND currency = ?6 FROM price_row_v14 \
               WHERE tenant = ?1 AND product_id = ?2 AND observed_at_us = ?4 AND event_id = ?3";
    let values = params![of.tenant, of.product_id, of.event_id, of.at_us, of.price, of.currency];
    Ok(connection.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()?)
}

/// Returns `true` if a price event that is not moved has the id.
pub(super) fn has_event(
    connection: &Connection,
    tenant_id: &str,
    product_id: &str,
    event_id: &str,
) -> Result<bool, ShardError> {
    if !EARLIER.is_pending(connection)? {
        return Ok(false);
    }
    let sql = "SELECT EXISTS (SELECT 1 FROM price_event_v14 WHERE tenant = (SELECT id FROM tenant_row \
               WHERE tenant_id = ?1) AND product_id = ?2 AND event_id = ?3)";
    let values = params![tenant_id, product_id, event_id];
    Ok(connection.prepare_cached(sql)?.query_row(values, |row| row.get(0))?)
}

/// Deletes a price that was loaded as history and is not moved, because its price event takes its place.
pub(super) fn take_history(connection: &Connection, of: &Sought<'_>) -> Result<(), ShardError> {
    delete_row(connection, of.tenant, of.product_id, of.at_us, of.event_id)
}

fn delete_row(
    connection: &Connection,
    tenant: i64,
    product_id: &str,
    at_us: i64,
    event_id: &str,
) -> Result<(), ShardError> {
    let sql = "DELETE FROM price_row_v14 WHERE tenant = ?1 AND product_id = ?2 AND observed_at_us = ?3 \
               AND event_id = ?4";
    connection.prepare_cached(sql)?.execute(params![tenant, product_id, at_us, event_id])?;
    Ok(())
}

/// Counts an approved price that is not moved as accepted.
pub(super) fn approve(
    connection: &Connection,
    (tenant, product_id): (i64, &str),
    (at_us, event_id): (i64, &str),
) -> Result<(), ShardError> {
    let sql = "UPDATE price_row_v14 SET accepted = 1 \
               WHERE tenant = ?1 AND product_id = ?2 AND observed_at_us = ?3 AND event_id = ?4";
    connection.prepare_cached(sql)?.execute(params![tenant, product_id, at_us, event_id])?;
    Ok(())
}

/// Runs one slice of about `budget`, in one transaction. Returns `true` at the end of the conversion.
pub(super) fn slice(
    rows: &mut Rows<'_>,
    connection: &mut Connection,
    budget: Duration,
) -> Result<bool, ShardError> {
    let Rows { keys, ids, series } = rows;
    let done = EARLIER.slice(connection, ids, budget, (), |transaction, ids, until_us, ()| {
        let mut is_done = false;
        while !is_done {
            is_done = move_rows(transaction, keys, ids, series)?;
            if clock::monotonic_us() >= until_us {
                break;
            }
        }
        // The numbers of rows change in the same transaction.
        series.save(transaction)?;
        if is_done {
            finish(transaction)?;
        }
        Ok((!is_done).then_some(()))
    });
    // Products are no longer as they were read.
    series.clear();
    Ok(done?.is_none())
}

/// A price to move.
struct Moved {
    tenant: i64,
    product_id: String,
    event_id: String,
    at_us: i64,
    price: i64,
    currency: String,
    received_us: i64,
    is_accepted: bool,
    tenant_id: String,
    rules: Option<(u32, u32, u16)>,
    anomaly: Option<i64>,
}

impl Moved {
    fn read(row: &Row<'_>) -> rusqlite::Result<Moved> {
        let rules = match row.get::<_, Option<u32>>(9)? {
            Some(change_bp) => Some((change_bp, row.get(10)?, row.get(11)?)),
            None => None,
        };
        Ok(Moved {
            tenant: row.get(0)?,
            product_id: row.get(1)?,
            event_id: row.get(2)?,
            at_us: row.get(3)?,
            price: row.get(4)?,
            currency: row.get(5)?,
            received_us: row.get(6)?,
            is_accepted: row.get(7)?,
            tenant_id: row.get(8)?,
            rules,
            anomaly: row.get(12)?,
        })
    }
}

/// The SQL that reads the next prices to move.
pub(super) const MOVE_SQL: &str = "SELECT p.tenant, p.product_id, p.event_id, p.observed_at_us, p.price, p.currency, \
    coalesce(e.received_us, p.received_us), p.accepted, t.tenant_id, e.change_bp_max, e.score_milli_max, e.window_max, e.anomaly \
    FROM price_row_v14 p CROSS JOIN tenant_row t ON t.id = p.tenant LEFT JOIN price_event_v14 e ON e.tenant = p.tenant \
    AND e.product_id = p.product_id AND e.event_id = p.event_id AND e.observed_at_us = p.observed_at_us \
    ORDER BY p.tenant, p.product_id, p.observed_at_us, p.event_id LIMIT ?1";

/// Moves the next prices. Returns `true` if there are no more.
fn move_rows(
    transaction: &Connection,
    keys: &KeyHasher,
    ids: &mut Ids,
    series: &mut SeriesCache,
) -> Result<bool, ShardError> {
    let rows: Vec<Moved> =
        transaction.prepare_cached(MOVE_SQL)?.query_map([ROWS], Moved::read)?.collect::<Result<_, _>>()?;
    for row in &rows {
        let id = ids.next_of_table();
        let price = NewPrice {
            id,
            event_id: &row.event_id,
            at_us: row.at_us,
            price: row.price,
            received_us: row.received_us,
            is_accepted: row.is_accepted,
            rules: row.rules,
            anomaly: row.anomaly,
        };
        series
            .find(transaction, (row.tenant, &row.product_id, &row.currency), true)?
            .append(transaction, &price)?;
        ids.stage(keys.hash_all([row.tenant_id.as_str(), &row.product_id, &row.event_id]), id);
        if let Some(anomaly) = row.anomaly {
            let sql = "UPDATE price_anomaly SET price_id = ?2 WHERE id = ?1";
            transaction.prepare_cached(sql)?.execute([anomaly, id])?;
        }
        if row.rules.is_some() {
            let sql = "DELETE FROM price_event_v14 WHERE tenant = ?1 AND product_id = ?2 AND event_id = ?3";
            transaction.prepare_cached(sql)?.execute(params![row.tenant, row.product_id, row.event_id])?;
        }
        delete_row(transaction, row.tenant, &row.product_id, row.at_us, &row.event_id)?;
    }
    Ok((rows.len() as i64) < ROWS)
}
