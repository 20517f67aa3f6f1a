//! Deletes old prices in slices, each with its anomaly and the changes of the anomaly.
//!
//! The newest accepted prices of a product in a currency stay, because later prices are compared with them: as many as
//! the window that was in force for the newest one, and at least one. The newest change of prices stays too, because
//! streams hold its number.
//!
//! A pass over all prices reads them in order of arrival. A price that stays although it is much older than most others
//! moves to the end of the table, because the ids of all prices after the oldest one are kept in memory. A pass over the
//! prices of one tenant reads its anomalies, then the accepted prices of each of its products by time.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::series::{NewPrice, Rows};
use crate::base::clock;
use crate::shard::{DropSlice, DroppedSlice, ShardError};

/// The number of prices read between two checks of the clock.
const ROWS: i64 = if cfg!(test) { 3 } else { 64 };
/// The number of accepted prices that stay if the newest one has no event, because it was loaded as history.
const HISTORY_WINDOW: i64 = 20;
/// The minimum number of prices that arrived after one that is appended anew.
const SPAN_MIN: i64 = if cfg!(test) { 20 } else { 1_000_000 };
/// The number of prices that arrived after one that is appended anew, as a multiple of those that are stored. Appending
/// therefore costs a fraction of storing new prices.
const SPAN_SHARE: i64 = 4;

/// The time and event id of a price.
type Key = (i64, String);

/// The progress of a pass.
#[derive(Debug, Default)]
pub(super) struct PricePass {
    at: Option<Progress>,
    /// The number of prices that the last pass over all has left.
    left: Option<i64>,
}

#[derive(Debug)]
enum Progress {
    /// Over all prices: the last row id that was read, the number of prices that stay, and the row id below which they are
    /// appended anew.
    All { after: i64, kept: i64, anew_below: i64 },
    /// Over the anomalies of a tenant that were not approved: time of arrival and id of the last one that was read.
    Anomalies { tenant: i64, after: (i64, String) },
    /// Over the accepted prices of a tenant.
    Accepted { tenant: i64, product_id: String, currency: String, within: Option<Within> },
}

/// The progress within a series.
#[derive(Debug)]
struct Within {
    series: i64,
    after: Key,
    /// The oldest of the prices that stay.
    oldest_kept: Key,
}

/// One price.
struct Price {
    id: i64,
    series: i64,
    key: Key,
    received_us: i64,
    is_accepted: bool,
    anomaly: Option<i64>,
}

impl Price {
    fn read(row: &Row<'_>) -> rusqlite::Result<Price> {
        Ok(Price {
            id: row.get(0)?,
            series: row.get(1)?,
            key: (row.get(2)?, row.get(3)?),
            received_us: row.get(4)?,
            is_accepted: row.get(5)?,
            anomaly: row.get(6)?,
        })
    }
}

/// The SQL that reads the next prices of a pass over all.
const ALL_SQL: &str = "SELECT id, series, observed_at_us, event_id, received_us, accepted, anomaly FROM price_row \
                       WHERE id > ?1 ORDER BY id LIMIT ?2";
/// The SQL that reads the next anomalies of a tenant that were not approved.
const ANOMALIES_SQL: &str = "SELECT created_us, anomaly_id, price_id FROM price_anomaly INDEXED BY price_anomaly_time \
    WHERE tenant = ?1 AND (created_us, anomaly_id) > (?2, ?3) AND created_us < ?4 AND status <> 'approved' \
    ORDER BY created_us, anomaly_id LIMIT ?5";
/// The SQL that finds the next series of a tenant.
const NEXT_SERIES_SQL: &str = "SELECT id, product_id, currency FROM price_series WHERE tenant = ?1 \
                               AND (product_id, currency) > (?2, ?3) ORDER BY product_id, currency LIMIT 1";
/// The SQL that reads the next accepted prices of a series.
const ACCEPTED_SQL: &str = "SELECT r.id, r.series, r.observed_at_us, r.event_id, r.received_us, r.accepted, r.anomaly \
    FROM price_sorted s CROSS JOIN price_row r ON r.id = s.id WHERE s.series = ?1 \
    AND (s.observed_at_us, s.event_id) > (?2, ?3) AND (s.observed_at_us, s.event_id) < (?4, ?5) \
    ORDER BY s.observed_at_us, s.event_id LIMIT ?6";
/// The SQL that finds the n-th newest accepted price.
const NEWEST_SQL: &str = "SELECT observed_at_us, event_id FROM price_sorted WHERE series = ?1 \
                          ORDER BY observed_at_us DESC, event_id DESC LIMIT 1 OFFSET ?2";

impl PricePass {
    /// Runs one slice.
    pub(super) fn slice(
        &mut self,
        transaction: &Connection,
        rows: &mut Rows<'_>,
        slice: DropSlice,
    ) -> Result<DroppedSlice, ShardError> {
        if slice.is_first {
            self.at = Some(self.first(rows, slice.tenant));
        }
        // Prices that arrived since the last slice may be newer.
        let mut oldest = HashMap::new();
        let mut of = Dropping { transaction, slice: &slice, done: DroppedSlice::default() };
        while let Some(at) = self.at.take() {
            self.at = match at {
                Progress::All { .. } => self.all(&mut of, rows, at, &mut oldest)?,
                Progress::Anomalies { tenant, after } => anomalies(&mut of, rows, tenant, after)?,
                Progress::Accepted { .. } => accepted(&mut of, rows, at)?,
            };
            if clock::monotonic_us() >= slice.until_us {
                break;
            }
        }
        Ok(DroppedSlice { is_done: self.at.is_none(), ..of.done })
    }

    fn first(&self, rows: &Rows<'_>, tenant: Option<i64>) -> Progress {
        match tenant {
            Some(tenant) => Progress::Anomalies { tenant, after: (i64::MIN, String::new()) },
            None => {
                let anew_below = match self.left {
                    Some(left) => rows.ids.next_of_table() - SPAN_MIN.max(left.saturating_mul(SPAN_SHARE)),
                    None => 0,
                };
                Progress::All { after: 0, kept: 0, anew_below }
            }
        }
    }

    fn all(
        &mut self,
        of: &mut Dropping<'_>,
        rows: &mut Rows<'_>,
        at: Progress,
        oldest: &mut HashMap<i64, Option<Key>>,
    ) -> Result<Option<Progress>, ShardError> {
        let Progress::All { mut after, mut kept, anew_below } = at else { return Ok(Some(at)) };
        let Dropping { transaction, slice, .. } = *of;
        let prices: Vec<Price> = transaction
            .prepare_cached(ALL_SQL)?
            .query_map([after, ROWS], Price::read)?
            .collect::<Result<_, _>>()?;
        for price in &prices {
            after = price.id;
            let mut stays = price.received_us >= slice.cutoff_us;
            if !stays && price.is_accepted {
                let oldest = match oldest.get(&price.series) {
                    Some(oldest) => oldest,
                    None => {
                        let found = oldest_kept(transaction, rows, price.series)?;
                        oldest.entry(price.series).or_insert(found)
                    }
                };
                stays = oldest.as_ref().is_none_or(|oldest| price.key >= *oldest);
            }
            if !stays && of.delete(rows, price)? {
                continue;
            }
            kept += 1;
            if price.id < anew_below {
                append_anew(transaction, rows, price)?;
            }
        }
        if (prices.len() as i64) < ROWS {
            self.left = Some(kept);
            return Ok(None);
        }
        Ok(Some(Progress::All { after, kept, anew_below }))
    }
}

/// Deletes some anomalies of a tenant that were not approved, with their prices.
fn anomalies(
    of: &mut Dropping<'_>,
    rows: &mut Rows<'_>,
    tenant: i64,
    mut after: (i64, String),
) -> Result<Option<Progress>, ShardError> {
    let Dropping { transaction, slice: DropSlice { cutoff_us, .. }, .. } = *of;
    let read = |row: &Row<'_>| Ok(((row.get(0)?, row.get(1)?), row.get(2)?));
    let found: Vec<((i64, String), Option<i64>)> = transaction
        .prepare_cached(ANOMALIES_SQL)?
        .query_map(params![tenant, after.0, after.1, cutoff_us, ROWS], read)?
        .collect::<Result<_, _>>()?;
    let is_done = (found.len() as i64) < ROWS;
    for (place, price_id) in found {
        after = place;
        let sql = "SELECT id, series, observed_at_us, event_id, received_us, accepted, anomaly FROM price_row \
                   WHERE id = ?1";
        let price = transaction.prepare_cached(sql)?.query_row([price_id], Price::read).optional()?;
        let old = price.filter(|price| price.received_us < *cutoff_us && !price.is_accepted);
        if let Some(price) = old {
            of.delete(rows, &price)?;
        }
    }
    let (product_id, currency) = (String::new(), String::new());
    Ok(Some(match is_done {
        true => Progress::Accepted { tenant, product_id, currency, within: None },
        false => Progress::Anomalies { tenant, after },
    }))
}

/// Deletes some accepted prices of a tenant.
fn accepted(
    of: &mut Dropping<'_>,
    rows: &mut Rows<'_>,
    at: Progress,
) -> Result<Option<Progress>, ShardError> {
    let Progress::Accepted { tenant, product_id, currency, within } = at else { return Ok(Some(at)) };
    let Dropping { transaction, slice: DropSlice { cutoff_us, .. }, .. } = *of;
    let Some(mut within) = within else {
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let values = params![tenant, product_id, currency];
        let next: Option<(i64, String, String)> =
            transaction.prepare_cached(NEXT_SERIES_SQL)?.query_row(values, read).optional()?;
        let Some((series, product_id, currency)) = next else { return Ok(None) };
        let within = oldest_kept(transaction, rows, series)?.map(|oldest_kept| Within {
            series,
            after: (i64::MIN, String::new()),
            oldest_kept,
        });
        return Ok(Some(Progress::Accepted { tenant, product_id, currency, within }));
    };
    let ((after_us, after_id), (oldest_us, oldest_id)) = (&within.after, &within.oldest_kept);
    let values = params![within.series, after_us, after_id, oldest_us, oldest_id, ROWS];
    let prices: Vec<Price> = transaction
        .prepare_cached(ACCEPTED_SQL)?
        .query_map(values, Price::read)?
        .collect::<Result<_, _>>()?;
    let is_done = (prices.len() as i64) < ROWS;
    for price in prices {
        if price.received_us < *cutoff_us {
            of.delete(rows, &price)?;
        }
        within.after = price.key;
    }
    let within = (!is_done).then_some(within);
    Ok(Some(Progress::Accepted { tenant, product_id, currency, within }))
}

/// Returns the time and id of the oldest accepted price of a series that stays, or `None` if all stay. Adds all prices of
/// the series to the index.
fn oldest_kept(
    transaction: &Connection,
    rows: &mut Rows<'_>,
    series: i64,
) -> Result<Option<Key>, ShardError> {
    let of = rows.series.find_by_id(transaction, series, false)?;
    of.sort(transaction)?;
    let Some(newest) = of.newest() else { return Ok(None) };
    let sql = "SELECT window_max FROM price_row WHERE id = ?1";
    let window: Option<Option<i64>> =
        transaction.prepare_cached(sql)?.query_row([newest], |row| row.get(0)).optional()?;
    let at = window.flatten().unwrap_or(HISTORY_WINDOW).max(1) - 1;
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    Ok(transaction.prepare_cached(NEWEST_SQL)?.query_row([series, at], read).optional()?)
}

/// The SQL that finds the last change of an anomaly, and the newest change of prices.
const LAST_CHANGE_SQL: &str = "SELECT max(seq), (SELECT max(seq) FROM change INDEXED BY change_price \
    WHERE kind IN ('anomaly', 'review')) FROM change INDEXED BY change_price_anomaly \
    WHERE kind IN ('anomaly', 'review') AND ref = ?1";
const DELETE_CHANGES_SQL: &str =
    "DELETE FROM change INDEXED BY change_price_anomaly WHERE kind IN ('anomaly', 'review') AND ref = ?1";

/// The transaction and the counts of one slice.
struct Dropping<'d> {
    transaction: &'d Connection,
    slice: &'d DropSlice,
    done: DroppedSlice,
}

impl Dropping<'_> {
    /// Deletes a price and what belongs to it. Returns `false` if its anomaly has the newest change, or if a sink holds it.
    fn delete(&mut self, rows: &mut Rows<'_>, price: &Price) -> Result<bool, ShardError> {
        let Dropping { transaction, slice, done } = self;
        let mut change = 0;
        if let Some(anomaly) = price.anomaly {
            let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
            let (last, newest): (Option<i64>, Option<i64>) =
                transaction.prepare_cached(LAST_CHANGE_SQL)?.query_row([anomaly], read)?;
            if last.is_some() && last == newest {
                return Ok(false);
            }
            change = last.unwrap_or_default();
            if !done.may_leave(slice, price.id, change) {
                return Ok(false);
            }
            let sql = "INSERT INTO price_change_dropped (tenant, change) \
                   SELECT tenant, ?2 FROM price_anomaly WHERE id = ?1 \
                   ON CONFLICT (tenant) DO UPDATE SET change = max(change, excluded.change)";
            transaction.prepare_cached(sql)?.execute(params![anomaly, change])?;
            transaction.prepare_cached(DELETE_CHANGES_SQL)?.execute([anomaly])?;
            transaction.prepare_cached("DELETE FROM price_anomaly WHERE id = ?1")?.execute([anomaly])?;
        } else if !done.may_leave(slice, price.id, 0) {
            return Ok(false);
        }
        done.deleted(slice, price.id, change);
        let series = rows.series.find_by_id(transaction, price.series, false)?;
        series.delete(transaction, (price.key.0, &price.key.1), price.id)?;
        Ok(true)
    }
}

/// Moves a price to the end of its table.
fn append_anew(transaction: &Connection, rows: &mut Rows<'_>, price: &Price) -> Result<(), ShardError> {
    let sql = "SELECT r.price, r.change_bp_max, r.score_milli_max, r.window_max, t.tenant_id, s.product_id \
               FROM price_row r CROSS JOIN price_series s ON s.id = r.series \
               CROSS JOIN tenant_row t ON t.id = s.tenant WHERE r.id = ?1";
    let read = |row: &Row<'_>| {
        let rules = match row.get::<_, Option<u32>>(1)? {
            Some(change_bp) => Some((change_bp, row.get(2)?, row.get(3)?)),
            None => None,
        };
        Ok((row.get(0)?, rules, row.get(4)?, row.get(5)?))
    };
    let (amount, rules, tenant_id, product_id): (i64, _, String, String) =
        transaction.prepare_cached(sql)?.query_row([price.id], read)?;
    let id = rows.ids.next_of_table();
    let (at_us, event_id) = (price.key.0, price.key.1.as_str());
    let anew = NewPrice {
        id,
        event_id,
        at_us,
        price: amount,
        received_us: price.received_us,
        is_accepted: price.is_accepted,
        rules,
        anomaly: price.anomaly,
    };
    let series = rows.series.find_by_id(transaction, price.series, false)?;
    series.delete(transaction, (at_us, event_id), price.id)?;
    series.append(transaction, &anew)?;
    if let Some(anomaly) = price.anomaly {
        let sql = "UPDATE price_anomaly SET price_id = ?2 WHERE id = ?1";
        transaction.prepare_cached(sql)?.execute([anomaly, id])?;
    }
    rows.ids.stage(rows.keys.hash_all([tenant_id.as_str(), &product_id, event_id]), id);
    Ok(())
}

/// Returns the statements of passes, for checking query plans.
pub(super) fn statements() -> Vec<(String, String)> {
    [
        ("prices in order of arrival, for retention", ALL_SQL),
        ("anomalies of a tenant, for retention", ANOMALIES_SQL),
        ("the next product of a tenant, for retention", NEXT_SERIES_SQL),
        ("accepted prices of a product, for retention", ACCEPTED_SQL),
        ("the oldest accepted price that stays", NEWEST_SQL),
        ("changes of an anomaly, for retention", LAST_CHANGE_SQL),
        ("deletion of the changes of an anomaly", DELETE_CHANGES_SQL),
    ]
    .map(|(name, sql)| (name.to_owned(), sql.to_owned()))
    .into()
}
