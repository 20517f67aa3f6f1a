//! Prices loaded as history: their records, and the price in a row.

use rusqlite::Row;

use crate::base::money::Currency;
use crate::base::observed::Observed;
use crate::shard::ShardError;

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
