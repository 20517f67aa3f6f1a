//! Reads a product's current prices and its open anomalies.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::convert::EARLIER;
use super::history::currency_of;
use crate::base::money::Currency;
use crate::query::successor;
use crate::shard::{ShardError, tenant_number};

/// The maximum number of open anomalies whose ids are returned.
const OPEN_IDS_MAX: usize = 20;
/// The maximum number of anomalies of a product, newest first, among which the open ones are counted: about 10 ms. No
/// index contains a product's open anomalies only.
const ANOMALIES_READ_MAX: usize = 10_000;

/// The newest accepted price in one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewestPrice {
    pub currency: Currency,
    pub observed_us: i64,
    /// In minor units.
    pub price: i64,
}

/// A product's open anomalies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenAnomalies {
    pub count: u64,
    /// The newest ones.
    pub ids: Vec<String>,
    /// If true, older anomalies were not counted.
    pub is_truncated: bool,
}

const NEXT_SQL: &str =
    "SELECT product_id FROM price_series WHERE tenant = ?1 AND product_id >= ?2 ORDER BY product_id LIMIT 1";
const NEWEST_SQL: &str = "SELECT r.price, s.currency, r.observed_at_us, r.event_id FROM price_series s \
                          CROSS JOIN price_row r ON r.id = s.accepted WHERE s.tenant = ?1 AND s.product_id = ?2";
/// The same of prices that upkeep has yet to move, in one currency.
const EARLIER_SQL: &str = "SELECT price, currency, observed_at_us, event_id FROM price_row_v14 \
                           INDEXED BY price_accepted WHERE tenant = ?1 AND product_id = ?2 AND currency < ?3 \
                           AND accepted = 1 ORDER BY currency DESC, observed_at_us DESC, event_id DESC LIMIT 1";
const ANOMALIES_SQL: &str = "SELECT anomaly_id, status = 'open' FROM price_anomaly INDEXED BY price_anomaly_product \
                             WHERE tenant = ?1 AND product_id = ?2 ORDER BY created_us DESC, anomaly_id DESC LIMIT ?3";

/// Returns at most `limit` products that have prices, from a product id on, in the order of the ids' bytes. Each costs
/// two seeks, and two for each currency.
pub fn priced_products(
    connection: &Connection,
    tenant: i64,
    from: &str,
    limit: usize,
) -> Result<Vec<(String, Vec<NewestPrice>)>, ShardError> {
    let mut next = connection.prepare_cached(NEXT_SQL)?;
    let is_converting = EARLIER.is_pending(connection)?;
    let (mut found, mut from) = (Vec::new(), from.to_owned());
    while found.len() < limit {
        let product_id = next.query_row(params![tenant, from], |row| row.get::<_, String>(0)).optional()?;
        let Some(product_id) = product_id else { break };
        let prices = newest_prices(connection, tenant, &product_id, is_converting)?;
        from = successor(&product_id);
        found.push((product_id, prices));
    }
    Ok(found)
}

/// Returns the newest accepted price in each currency, newest first.
fn newest_prices(
    connection: &Connection,
    tenant: i64,
    product_id: &str,
    is_converting: bool,
) -> Result<Vec<NewestPrice>, ShardError> {
    let read = |row: &Row<'_>| -> Result<(NewestPrice, String), ShardError> {
        let currency = currency_of(row, 1)?;
        Ok((NewestPrice { currency, observed_us: row.get(2)?, price: row.get(0)? }, row.get(3)?))
    };
    let mut found: Vec<(NewestPrice, String)> = Vec::new();
    let mut statement = connection.prepare_cached(NEWEST_SQL)?;
    let mut rows = statement.query(params![tenant, product_id])?;
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    if is_converting {
        let mut statement = connection.prepare_cached(EARLIER_SQL)?;
        // Every code precedes this.
        let mut before = "~".to_owned();
        loop {
            let mut rows = statement.query(params![tenant, product_id, before])?;
            let Some(row) = rows.next()? else { break };
            let earlier = read(row)?;
            before = earlier.0.currency.to_string();
            match found.iter_mut().find(|(known, _)| known.currency == earlier.0.currency) {
                Some(known) if (known.0.observed_us, &known.1) < (earlier.0.observed_us, &earlier.1) => {
                    *known = earlier;
                }
                Some(_) => {}
                None => found.push(earlier),
            }
        }
    }
    let mut found: Vec<NewestPrice> = found.into_iter().map(|(price, _)| price).collect();
    found.sort_by(|one, other| {
        (other.observed_us, one.currency.as_str()).cmp(&(one.observed_us, other.currency.as_str()))
    });
    Ok(found)
}

/// Returns a product's open anomalies.
pub fn open_anomalies(
    connection: &Connection,
    tenant_id: &str,
    product_id: &str,
) -> Result<OpenAnomalies, ShardError> {
    let mut open = OpenAnomalies::default();
    let Some(tenant) = tenant_number(connection, tenant_id)? else { return Ok(open) };
    let mut statement = connection.prepare_cached(ANOMALIES_SQL)?;
    let mut rows = statement.query(params![tenant, product_id, (ANOMALIES_READ_MAX + 1) as i64])?;
    let mut read = 0;
    while let Some(row) = rows.next()? {
        if read == ANOMALIES_READ_MAX {
            open.is_truncated = true;
            break;
        }
        read += 1;
        if row.get(1)? {
            open.count += 1;
            if open.ids.len() < OPEN_IDS_MAX {
                open.ids.push(row.get(0)?);
            }
        }
    }
    Ok(open)
}

/// Returns the statements that read or delete prices, with their names, for checking query plans.
#[must_use]
pub fn price_statements() -> Vec<(String, String)> {
    let mut statements = vec![
        ("the next product with prices".to_owned(), NEXT_SQL.to_owned()),
        ("the newest accepted price of a product".to_owned(), NEWEST_SQL.to_owned()),
        ("anomalies of a product, newest first".to_owned(), ANOMALIES_SQL.to_owned()),
    ];
    statements.extend(super::series::statements());
    statements.extend(super::dropped::statements());
    statements.extend(super::read::statements());
    statements
}
