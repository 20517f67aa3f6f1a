//! The number of sales per day, from the sums.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::schema::unfreed;
use crate::base::bucket_size::BucketSize;
use crate::base::money::Currency;
use crate::shard::{ShardError, tenant_number};

/// The selected sales.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SalesFilter {
    pub tenant_id: String,
    pub currency: Option<Currency>,
}

pub(super) const CURRENCY_SQL: &str =
    "SELECT min(currency) FROM sales_day WHERE tenant = ?1 AND currency > ?2";

/// Returns the currencies in which a tenant has sales, or only the requested one. Takes one seek per currency.
pub fn currencies(
    connection: &Connection,
    of: &SalesFilter,
    tenant: i64,
) -> Result<Vec<Currency>, ShardError> {
    if let Some(currency) = of.currency {
        return Ok(vec![currency]);
    }
    currencies_by(connection, CURRENCY_SQL, tenant)
}

/// Returns every currency, with SQL that returns the next one.
fn currencies_by(connection: &Connection, sql: &str, tenant: i64) -> Result<Vec<Currency>, ShardError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = Vec::new();
    let mut last = String::new();
    loop {
        let next: Option<String> = statement.query_row(params![tenant, last], |row| row.get(0))?;
        let Some(next) = next else { return Ok(found) };
        found.extend(Currency::parse(&next));
        last = next;
    }
}

/// Returns the start of the day that contains the given time. Saturates for the earliest day, which starts before
/// `i64::MIN`.
pub fn day_of(us: i64) -> i64 {
    us.saturating_sub(us.rem_euclid(BucketSize::Day.us()))
}

/// Returns the number of sales per day as (start, orders), in ascending order of the start. A bound of `None` is
/// open.
pub fn sales_days(
    connection: &Connection,
    of: &SalesFilter,
    (from_us, to_us): (Option<i64>, Option<i64>),
) -> Result<Vec<(i64, i64)>, ShardError> {
    let Some(tenant) = tenant_number(connection, &of.tenant_id)? else { return Ok(Vec::new()) };
    let mut days: BTreeMap<i64, i64> = BTreeMap::new();
    // The first day is the one that contains `from_us`, and is counted from its start.
    let from_us = from_us.map_or(i64::MIN, day_of);
    let to_us = to_us.unwrap_or(i64::MAX);
    for currency in currencies(connection, of, tenant)? {
        let mut statement = connection.prepare_cached(DAYS_SQL)?;
        let mut rows = statement.query(params![tenant, currency.as_str(), from_us, to_us])?;
        while let Some(row) = rows.next()? {
            *days.entry(row.get(0)?).or_default() += row.get::<_, i64>(1)?;
        }
    }
    Ok(days.into_iter().collect())
}

/// Returns the end of the last day in `[from, to)` with sales that retention has dropped. With `of_rows`, these are the
/// days with orders that have no rows any more, otherwise the days whose sums are deleted.
pub fn dropped_until(
    connection: &Connection,
    of: &SalesFilter,
    (from_us, to_us): (i64, i64),
    of_rows: bool,
) -> Result<Option<i64>, ShardError> {
    let Some(tenant) = tenant_number(connection, &of.tenant_id)? else { return Ok(None) };
    let from_us = day_of(from_us);
    let mut last: Option<i64> =
        connection.prepare_cached(GONE_SQL)?.query_row(params![tenant, from_us, to_us], |row| row.get(0))?;
    if of_rows {
        for currency in currencies_by(connection, DROPPED_CURRENCY_SQL, tenant)? {
            if of.currency.is_none_or(|only| only == currency) {
                let day = params![tenant, currency.as_str(), from_us, to_us];
                last = last.max(connection.prepare_cached(DROPPED_SQL)?.query_row(day, |row| row.get(0))?);
            }
        }
        // These orders have left, and their sums are not in the table yet.
        for table in unfreed(connection)? {
            let sql = unfreed_sql(&table);
            let time: Option<i64> = connection
                .prepare_cached(&sql)?
                .query_row(params![tenant, from_us, to_us], |row| row.get(0))?;
            last = last.max(time.map(day_of));
        }
    }
    Ok(last.map(|start_us| start_us.saturating_add(BucketSize::Day.us())))
}

pub(super) const GONE_SQL: &str =
    "SELECT max(start_us) FROM sales_gone WHERE tenant = ?1 AND start_us >= ?2 AND start_us < ?3";
pub(super) const DROPPED_CURRENCY_SQL: &str =
    "SELECT min(currency) FROM dropped_sales_day WHERE tenant = ?1 AND currency > ?2";
pub(super) const DROPPED_SQL: &str = "SELECT max(start_us) FROM dropped_sales_day WHERE tenant = ?1 \
                                      AND currency = ?2 AND start_us >= ?3 AND start_us < ?4";

pub(super) fn unfreed_sql(table: &str) -> String {
    format!(
        "SELECT max(ordered_at_us) FROM {table} INDEXED BY {table}_time WHERE tenant = ?1 \
         AND ordered_at_us >= ?2 AND ordered_at_us < ?3"
    )
}

pub(super) const DAYS_SQL: &str = "SELECT start_us, orders FROM sales_day WHERE tenant = ?1 AND currency = ?2 \
                        AND start_us >= ?3 AND start_us < ?4 ORDER BY start_us";
