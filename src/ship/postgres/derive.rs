//! Levels of stock and newest prices, derived from the rows of their streams.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::connect::Session;
use super::error::Failure;
use super::places::Origin;
use crate::ship::rows::{AnomalyRow, PriceRow, StockRow};

/// Returns a time as the client library sends it, from microseconds since 1970.
pub(super) fn time(us: i64) -> SystemTime {
    let distance = Duration::from_micros(us.unsigned_abs());
    let time = if us < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    time.unwrap_or(UNIX_EPOCH)
}

/// Sets the levels of products to what their newest changes left. In a later epoch, versions may be lower: its file was
/// restored from a backup.
pub(super) async fn stock(session: &Session, origin: &Origin, rows: &[StockRow]) -> Result<(), Failure> {
    let mut newest: BTreeMap<(&str, &str), &StockRow> = BTreeMap::new();
    for row in rows {
        let known = newest.entry((&row.tenant_id, &row.product_id)).or_insert(row);
        if row.version >= known.version {
            *known = row;
        }
    }
    let of = |text: fn(&StockRow) -> &str| newest.values().map(|row| text(row)).collect::<Vec<&str>>();
    let number = |number: fn(&StockRow) -> i64| newest.values().map(|row| number(row)).collect::<Vec<i64>>();
    let times: Vec<SystemTime> = newest.values().map(|row| time(row.received_us)).collect();
    let sql = "INSERT INTO fh.stock AS t (tenant_id, product_id, quantity, version, updated_at, node, epoch) \
        SELECT tenant_id, product_id, quantity, version, updated_at, $6, $7 \
        FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::timestamptz[]) \
          AS n (tenant_id, product_id, quantity, version, updated_at) ORDER BY tenant_id, product_id \
        ON CONFLICT (tenant_id, product_id) DO UPDATE SET quantity = EXCLUDED.quantity, \
          version = EXCLUDED.version, updated_at = EXCLUDED.updated_at, node = EXCLUDED.node, \
          epoch = EXCLUDED.epoch \
        WHERE (t.epoch, t.version) < (EXCLUDED.epoch, EXCLUDED.version)";
    let sql = session.prepare(sql).await?;
    let (tenants, products) = (of(|row| &row.tenant_id), of(|row| &row.product_id));
    let (levels, versions) = (number(|row| row.stock), number(|row| row.version));
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
        [&tenants, &products, &levels, &versions, &times, &origin.node, &origin.epoch];
    session.client.execute(&sql, &values).await?;
    Ok(())
}

/// An accepted price.
#[derive(Clone, Copy, Debug)]
pub(super) struct Price<'a> {
    tenant_id: &'a str,
    product_id: &'a str,
    currency: &'a str,
    price: i64,
    observed_at_us: i64,
    event_id: &'a str,
}

impl<'a> Price<'a> {
    pub(super) fn of(row: &'a PriceRow) -> Price<'a> {
        Price {
            tenant_id: &row.tenant_id,
            product_id: &row.product_id,
            currency: &row.currency,
            price: row.price,
            observed_at_us: row.observed_at_us,
            event_id: &row.event_id,
        }
    }

    pub(super) fn of_anomaly(row: &'a AnomalyRow) -> Price<'a> {
        Price {
            tenant_id: &row.tenant_id,
            product_id: &row.product_id,
            currency: &row.currency,
            price: row.price,
            observed_at_us: row.observed_at_us,
            event_id: &row.event_id,
        }
    }
}

/// Sets the newest prices of products: by time, then by event id.
pub(super) async fn prices<'a>(
    session: &Session,
    rows: impl Iterator<Item = Price<'a>>,
) -> Result<(), Failure> {
    let mut newest: BTreeMap<(&str, &str, &str), Price<'a>> = BTreeMap::new();
    for row in rows {
        let known = newest.entry((row.tenant_id, row.product_id, row.currency)).or_insert(row);
        if (row.observed_at_us, row.event_id) >= (known.observed_at_us, known.event_id) {
            *known = row;
        }
    }
    if newest.is_empty() {
        return Ok(());
    }
    let of = |text: fn(&Price<'a>) -> &'a str| newest.values().map(text).collect::<Vec<&str>>();
    let tenants = of(|row| row.tenant_id);
    let products = of(|row| row.product_id);
    let currencies = of(|row| row.currency);
    let events = of(|row| row.event_id);
    let amounts: Vec<i64> = newest.values().map(|row| row.price).collect();
    let times: Vec<SystemTime> = newest.values().map(|row| time(row.observed_at_us)).collect();
    let sql = "INSERT INTO fh.prices AS t (tenant_id, product_id, currency, price, observed_at, event_id) \
        SELECT tenant_id, product_id, currency, price, observed_at, event_id \
        FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::timestamptz[], $6::text[]) \
          AS n (tenant_id, product_id, currency, price, observed_at, event_id) \
        ORDER BY tenant_id, product_id, currency \
        ON CONFLICT (tenant_id, product_id, currency) DO UPDATE SET price = EXCLUDED.price, \
          observed_at = EXCLUDED.observed_at, event_id = EXCLUDED.event_id \
        WHERE t.observed_at < EXCLUDED.observed_at OR t.observed_at = EXCLUDED.observed_at \
          AND t.event_id COLLATE \"C\" <= EXCLUDED.event_id COLLATE \"C\"";
    let sql = session.prepare(sql).await?;
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
        [&tenants, &products, &currencies, &amounts, &times, &events];
    session.client.execute(&sql, &values).await?;
    Ok(())
}
