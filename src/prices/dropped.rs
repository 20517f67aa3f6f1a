//! Deletes old prices in slices, each with its event, its anomaly and the changes of the anomaly.
//!
//! The newest accepted prices of a product in a currency stay, because later prices are compared with them: as many as
//! the window that was in force for the newest one, and at least one. The newest change of a shard stays too, so that
//! change numbers only increase.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::base::clock;
use crate::shard::{DropSlice, ShardError};

/// The number of prices read between two checks of the clock.
const ROWS: i64 = if cfg!(test) { 3 } else { 64 };
/// The number of accepted prices that stay if the newest one has no event, because it was loaded as history.
const HISTORY_WINDOW: i64 = 20;

/// The key of a price: tenant, product, time and event.
type Key = (i64, String, i64, String);

/// The prices of a tenant's product in a currency.
type PricesOf = (i64, String, String);

/// Where a pass over all prices is.
#[derive(Debug, Default)]
pub(super) struct PricePass {
    after: Key,
    /// The product and currency whose prices were checked last, and the oldest of the accepted prices that stay. All
    /// stay if it is `None`.
    oldest_kept: Option<(PricesOf, Option<(i64, String)>)>,
}

/// One price.
struct Price {
    key: Key,
    currency: String,
    received_us: i64,
    is_accepted: bool,
}

impl PricePass {
    /// Runs one slice. Returns the number of deleted prices, and `true` at the end of the pass.
    pub(super) fn slice(
        &mut self,
        transaction: &Connection,
        slice: DropSlice,
    ) -> Result<(u64, bool), ShardError> {
        if slice.is_first {
            let tenant = slice.tenant.unwrap_or(i64::MIN);
            *self = PricePass { after: (tenant, String::new(), i64::MIN, String::new()), oldest_kept: None };
        }
        // Prices that arrived since the last slice may be newer.
        self.oldest_kept = None;
        let mut deleted = 0;
        loop {
            let mut prices = self.read(transaction)?;
            if let Some(tenant) = slice.tenant {
                prices.retain(|price| price.key.0 == tenant);
            }
            for price in &prices {
                if price.received_us < slice.cutoff_us && !self.stays(transaction, price)? {
                    deleted += u64::from(delete(transaction, price)?);
                }
            }
            let is_done = (prices.len() as i64) < ROWS;
            if let Some(last) = prices.into_iter().next_back() {
                self.after = last.key;
            }
            if is_done || clock::monotonic_us() >= slice.until_us {
                return Ok((deleted, is_done));
            }
        }
    }

    fn read(&self, transaction: &Connection) -> Result<Vec<Price>, ShardError> {
        let (tenant, product_id, observed_us, event_id) = &self.after;
        let mut statement = transaction.prepare_cached(READ_SQL)?;
        let rows = statement.query_map(params![tenant, product_id, observed_us, event_id, ROWS], |row| {
            Ok(Price {
                key: (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?),
                currency: row.get(4)?,
                received_us: row.get(5)?,
                is_accepted: row.get(6)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Returns `true` if later prices are compared with this one.
    fn stays(&mut self, transaction: &Connection, price: &Price) -> Result<bool, ShardError> {
        if !price.is_accepted {
            return Ok(false);
        }
        let (tenant, product_id, observed_us, event_id) = &price.key;
        let of = (*tenant, product_id.clone(), price.currency.clone());
        let oldest = match &self.oldest_kept {
            Some((known, oldest)) if *known == of => oldest,
            _ => &self.oldest_kept.insert((of.clone(), oldest_kept(transaction, &of)?)).1,
        };
        let key = (*observed_us, event_id.as_str());
        Ok(oldest.as_ref().is_none_or(|(oldest_us, oldest_id)| key >= (*oldest_us, oldest_id.as_str())))
    }
}

/// The SQL that reads the next prices of a pass.
const READ_SQL: &str = "SELECT tenant, product_id, observed_at_us, event_id, currency, received_us, \
    accepted FROM price_row WHERE (tenant, product_id, observed_at_us, event_id) > (?1, ?2, ?3, ?4) \
    ORDER BY tenant, product_id, observed_at_us, event_id LIMIT ?5";

/// The SQL that finds the n-th newest accepted price.
const NEWEST_SQL: &str = "SELECT observed_at_us, event_id FROM price_row INDEXED BY price_accepted \
    WHERE tenant = ?1 AND product_id = ?2 AND currency = ?3 AND accepted = 1 \
    ORDER BY observed_at_us DESC, event_id DESC LIMIT 1 OFFSET ?4";

/// Returns the time and id of the oldest accepted price that stays, or `None` if all stay.
fn oldest_kept(
    transaction: &Connection,
    (tenant, product_id, currency): &PricesOf,
) -> Result<Option<(i64, String)>, ShardError> {
    let accepted = |at: i64| -> Result<Option<(i64, String)>, ShardError> {
        let values = params![tenant, product_id, currency, at];
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        Ok(transaction.prepare_cached(NEWEST_SQL)?.query_row(values, read).optional()?)
    };
    let Some((_, newest)) = accepted(0)? else { return Ok(None) };
    let sql = "SELECT window_max FROM price_event WHERE tenant = ?1 AND product_id = ?2 AND event_id = ?3";
    let window: Option<i64> = transaction
        .prepare_cached(sql)?
        .query_row(params![tenant, product_id, newest], |row| row.get(0))
        .optional()?;
    accepted(window.unwrap_or(HISTORY_WINDOW).max(1) - 1)
}

/// Deletes a price and what belongs to it. Returns `false` if its anomaly has the newest change.
fn delete(transaction: &Connection, price: &Price) -> Result<bool, ShardError> {
    let (tenant, product_id, observed_us, event_id) = &price.key;
    let key = params![tenant, product_id, event_id, observed_us];
    let sql = "SELECT anomaly FROM price_event WHERE tenant = ?1 AND product_id = ?2 AND event_id = ?3 \
               AND observed_at_us = ?4";
    let event: Option<Option<i64>> =
        transaction.prepare_cached(sql)?.query_row(key, |row| row.get(0)).optional()?;
    if let Some(Some(anomaly)) = event {
        let sql = "SELECT max(change), (SELECT max(change) FROM price_change) FROM price_change \
                   INDEXED BY price_change_anomaly WHERE anomaly = ?1";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (last, newest): (Option<i64>, Option<i64>) =
            transaction.prepare_cached(sql)?.query_row([anomaly], read)?;
        if last.is_some() && last == newest {
            return Ok(false);
        }
        let sql = "INSERT INTO price_change_dropped (tenant, change) VALUES (?1, ?2) \
                   ON CONFLICT (tenant) DO UPDATE SET change = max(change, excluded.change)";
        transaction.prepare_cached(sql)?.execute(params![tenant, last.unwrap_or_default()])?;
        let sql = "DELETE FROM price_change WHERE anomaly = ?1";
        transaction.prepare_cached(sql)?.execute([anomaly])?;
        transaction.prepare_cached("DELETE FROM price_anomaly WHERE id = ?1")?.execute([anomaly])?;
    }
    if event.is_some() {
        let sql = "DELETE FROM price_event WHERE tenant = ?1 AND product_id = ?2 AND event_id = ?3";
        transaction.prepare_cached(sql)?.execute(params![tenant, product_id, event_id])?;
    }
    let sql = "DELETE FROM price_row WHERE tenant = ?1 AND product_id = ?2 AND event_id = ?3 \
               AND observed_at_us = ?4";
    transaction.prepare_cached(sql)?.execute(key)?;
    Ok(true)
}
