//! The number of sales per day, from the sums, and the days of which retention has deleted something.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, Rows, params};

use super::day_runs::DayRuns;
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
    currencies_by(connection, CURRENCY_SQL, of, tenant)
}

/// Returns the requested currency, or every one, with SQL that returns the next one.
fn currencies_by(
    connection: &Connection,
    sql: &str,
    of: &SalesFilter,
    tenant: i64,
) -> Result<Vec<Currency>, ShardError> {
    if let Some(currency) = of.currency {
        return Ok(vec![currency]);
    }
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

/// Returns the days of `[from, to)` without sums, because retention has deleted them. Returns at most `limit` days.
pub fn days_without_sums(
    connection: &Connection,
    of: &SalesFilter,
    (from_us, to_us): (i64, i64),
    limit: i64,
) -> Result<DayRuns, ShardError> {
    let Some(tenant) = tenant_number(connection, &of.tenant_id)? else { return Ok(DayRuns::default()) };
    let mut statement = connection.prepare_cached(GONE_SQL)?;
    pushed(statement.query(params![tenant, day_of(from_us), to_us, limit])?)
}

/// Returns the days of `[from, to)` with sales whose rows retention has deleted, except days without sums. Returns at
/// most `limit` days for each currency and dropped partition.
pub fn days_without_rows(
    connection: &Connection,
    of: &SalesFilter,
    (from_us, to_us): (i64, i64),
    limit: i64,
) -> Result<DayRuns, ShardError> {
    let Some(tenant) = tenant_number(connection, &of.tenant_id)? else { return Ok(DayRuns::default()) };
    let from_us = day_of(from_us);
    let mut days = DayRuns::default();
    for currency in currencies_by(connection, DROPPED_CURRENCY_SQL, of, tenant)? {
        let mut statement = connection.prepare_cached(DROPPED_SQL)?;
        let rows = statement.query(params![tenant, currency.as_str(), from_us, to_us, limit])?;
        days = days.union(&pushed(rows)?);
    }
    // These orders have left, and their sums are not in the table yet.
    let only = of.currency.map(|currency| currency.as_str().to_owned());
    for table in unfreed(connection)? {
        let mut statement = connection.prepare_cached(&unfreed_sql(&table))?;
        let (mut found, mut at) = (DayRuns::default(), from_us);
        for _ in 0..limit {
            let next = statement.query_row(params![tenant, at, to_us, only], |row| row.get(0)).optional()?;
            let Some(next) = next else { break };
            found.push(day_of(next));
            at = day_of(next) + BucketSize::Day.us();
        }
        days = days.union(&found);
    }
    Ok(days)
}

/// Collects days in ascending order.
fn pushed(mut rows: Rows<'_>) -> Result<DayRuns, ShardError> {
    let mut days = DayRuns::default();
    while let Some(row) = rows.next()? {
        days.push(row.get(0)?);
    }
    Ok(days)
}

pub(super) const GONE_SQL: &str = "SELECT start_us FROM sales_gone WHERE tenant = ?1 AND start_us >= ?2 \
                                   AND start_us < ?3 ORDER BY start_us LIMIT ?4";
pub(super) const DROPPED_CURRENCY_SQL: &str =
    "SELECT min(currency) FROM dropped_sales_day WHERE tenant = ?1 AND currency > ?2";
pub(super) const DROPPED_SQL: &str = "SELECT start_us FROM dropped_sales_day WHERE tenant = ?1 AND currency = ?2 \
                                      AND start_us >= ?3 AND start_us < ?4 ORDER BY start_us LIMIT ?5";

/// Returns the SQL that finds the first sale of a period in a partition that is not freed yet.
pub(super) fn unfreed_sql(table: &str) -> String {
    format!(
        "SELECT ordered_at_us FROM {table} INDEXED BY {table}_time WHERE tenant = ?1 AND ordered_at_us >= ?2 \
         AND ordered_at_us < ?3 AND status <= 4 AND (?4 IS NULL OR currency = ?4) ORDER BY ordered_at_us LIMIT 1"
    )
}

pub(super) const DAYS_SQL: &str = "SELECT start_us, orders FROM sales_day WHERE tenant = ?1 AND currency = ?2 \
                        AND start_us >= ?3 AND start_us < ?4 ORDER BY start_us";
