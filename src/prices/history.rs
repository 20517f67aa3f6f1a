//! Prices loaded as history: their records, their rows, and the conversion in both directions.

use rusqlite::{Connection, Row, params};

use super::record::PRICE;
use crate::base::money::Currency;
use crate::base::observed::Observed;
use crate::shard::{Carried, Outcome, ShardError};

/// A product's price at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriceRow<'a> {
    pub observed: Observed<'a>,
    /// The price in minor units.
    pub price: i64,
    pub currency: Currency,
}

impl PriceRow<'_> {
    /// Appends the record's payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut code = [0; 3];
        code.copy_from_slice(self.currency.as_str().as_bytes());
        self.observed.encode(self.price, &code, out);
    }
}

/// Decodes a payload. Returns `None` if it is not a price record.
#[must_use]
pub fn decode_price(payload: &[u8]) -> Option<PriceRow<'_>> {
    let (observed, price, code) = Observed::decode(payload)?;
    let currency = Currency::parse(std::str::from_utf8(&code).ok()?)?;
    Some(PriceRow { observed, price, currency })
}

/// Stores a price unless it is already stored.
pub(super) fn store_history(
    connection: &Connection,
    tenant: i64,
    row: &PriceRow<'_>,
) -> Result<Outcome, ShardError> {
    let Observed { at_us, received_us, product_id, event_id, .. } = row.observed;
    let stored = connection
        .prepare_cached(
            "INSERT OR IGNORE INTO price_row (tenant, product_id, observed_at_us, event_id, price, currency, \
             received_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            tenant,
            product_id,
            at_us,
            event_id,
            row.price,
            row.currency.as_str(),
            received_us
        ])?;
    Ok(if stored > 0 { Outcome::Inserted } else { Outcome::Duplicate })
}

/// Passes all prices to `take` as the records from which they were stored.
pub(super) fn carry_history(
    connection: &Connection,
    take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
) -> Result<(), ShardError> {
    let sql = "SELECT t.tenant_id, p.product_id, p.event_id, p.observed_at_us, p.received_us, p.price, p.currency \
               FROM price_row p JOIN tenant_row t ON t.id = p.tenant";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let mut payload = Vec::new();
        price_of(row)?.encode(&mut payload);
        take(Carried::Row(PRICE, payload))?;
    }
    Ok(())
}

/// Reads a price from the columns tenant, product, event, observed_at_us, received_us, price, currency.
pub(super) fn price_of<'r>(row: &'r Row<'_>) -> Result<PriceRow<'r>, ShardError> {
    let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
    let observed = Observed {
        at_us: row.get(3)?,
        received_us: row.get(4)?,
        tenant_id: text(0)?,
        product_id: text(1)?,
        event_id: text(2)?,
    };
    Ok(PriceRow { observed, price: row.get(5)?, currency: currency_of(row, 6)? })
}

/// Reads a price's currency from the column at the index `at`.
pub(super) fn currency_of(row: &Row<'_>, at: usize) -> Result<Currency, ShardError> {
    Currency::parse(row.get_ref(at)?.as_str().map_err(rusqlite::Error::from)?)
        .ok_or_else(|| ShardError::Corrupt("a price has an unknown currency".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_reads_back_as_written_and_nothing_else_does() {
        let observed =
            Observed { at_us: -1, received_us: 2, tenant_id: "t", product_id: "pü", event_id: "e" };
        let price = PriceRow { observed, price: 1999, currency: Currency::parse("JPY").unwrap() };
        let mut bytes = Vec::new();
        price.encode(&mut bytes);
        assert_eq!(decode_price(&bytes), Some(price));
        assert!((0..bytes.len()).all(|cut| decode_price(&bytes[..cut]).is_none()));
        // A stock event is not a price.
        for tag in [b"dlt", b"qty"] {
            let mut bytes = Vec::new();
            observed.encode(7, tag, &mut bytes);
            assert_eq!(decode_price(&bytes), None);
        }
    }
}
