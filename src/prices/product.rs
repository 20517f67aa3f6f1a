//! Reads a product's current prices and its open anomalies.

use rusqlite::{Connection, OptionalExtension as _, params};

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
    "SELECT product_id FROM price_row WHERE tenant = ?1 AND product_id >= ?2 ORDER BY product_id LIMIT 1";
const NEWEST_SQL: &str = "SELECT price, currency, observed_at_us FROM price_row INDEXED BY price_accepted \
                          WHERE tenant = ?1 AND product_id = ?2 AND currency < ?3 AND accepted = 1 \
                          ORDER BY currency DESC, observed_at_us DESC, event_id DESC LIMIT 1";
const ANOMALIES_SQL: &str = "SELECT anomaly_id, status = 'open' FROM price_anomaly INDEXED BY price_anomaly_product \
                             WHERE tenant = ?1 AND product_id = ?2 ORDER BY created_us DESC, anomaly_id DESC LIMIT ?3";

/// Returns at most `limit` products that have prices, from a product id on, in the order of the ids' bytes. Each costs
/// two seeks, and one for each currency.
pub fn priced_products(
    connection: &Connection,
    tenant: i64,
    from: &str,
    limit: usize,
) -> Result<Vec<(String, Vec<NewestPrice>)>, ShardError> {
    let mut next = connection.prepare_cached(NEXT_SQL)?;
    let (mut found, mut from) = (Vec::new(), from.to_owned());
    while found.len() < limit {
        let product_id = next.query_row(params![tenant, from], |row| row.get::<_, String>(0)).optional()?;
        let Some(product_id) = product_id else { break };
        let prices = newest_prices(connection, tenant, &product_id)?;
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
) -> Result<Vec<NewestPrice>, ShardError> {
    let mut statement = connection.prepare_cached(NEWEST_SQL)?;
    // Every code precedes this.
    let mut before = "~".to_owned();
    let mut found = Vec::new();
    loop {
        let mut rows = statement.query(params![tenant, product_id, before])?;
        let Some(row) = rows.next()? else { break };
        let currency = currency_of(row, 1)?;
        found.push(NewestPrice { currency, observed_us: row.get(2)?, price: row.get(0)? });
        before = currency.to_string();
    }
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

/// Returns every statement of this file, with its name, for checking query plans.
#[must_use]
pub fn price_statements() -> Vec<(String, String)> {
    vec![
        ("the next product with prices".to_owned(), NEXT_SQL.to_owned()),
        ("the newest accepted price of a product".to_owned(), NEWEST_SQL.to_owned()),
        ("anomalies of a product, newest first".to_owned(), ANOMALIES_SQL.to_owned()),
    ]
}
