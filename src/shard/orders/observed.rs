//! Prices that were observed and what happened to stock, by product and time: records, rows, and back.

use rusqlite::{Connection, Row, params};

use super::super::carry::Carried;
use super::super::error::ShardError;
use super::super::service_event::Outcome;
use crate::base::kinds::Kind;
use crate::base::money::Currency;

/// Who observed what, where: the part both have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed<'a> {
    pub at_us: i64,
    pub received_us: i64,
    /// At most 255 bytes each.
    pub tenant_id: &'a str,
    pub product_id: &'a str,
    pub event_id: &'a str,
}

/// A price of a product at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriceRow<'a> {
    pub observed: Observed<'a>,
    /// Minor units.
    pub price: i64,
    pub currency: Currency,
}

/// What happened to the stock of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StockRow<'a> {
    pub observed: Observed<'a>,
    pub change: StockChange,
}

/// What a stock event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StockChange {
    /// So many came in or, below zero, went out.
    Delta(i64),
    /// So many are there.
    Quantity(i64),
}

impl StockChange {
    /// As the tables have it.
    pub(in crate::shard) fn parts(self) -> (&'static str, i64) {
        match self {
            StockChange::Delta(number) => ("delta", number),
            StockChange::Quantity(number) => ("quantity", number),
        }
    }

    /// `None` for an unknown kind.
    pub(in crate::shard) fn from_parts(kind: &str, number: i64) -> Option<StockChange> {
        [StockChange::Delta(number), StockChange::Quantity(number)]
            .into_iter()
            .find(|change| change.parts().0 == kind)
    }
}

fn encode(observed: &Observed<'_>, number: i64, tag: &[u8; 3], out: &mut Vec<u8>) {
    for number in [observed.at_us, observed.received_us, number] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(tag);
    out.push(observed.tenant_id.len() as u8);
    out.push(observed.product_id.len() as u8);
    for text in [observed.tenant_id, observed.product_id, observed.event_id] {
        out.extend_from_slice(text.as_bytes());
    }
}

fn decode(payload: &[u8]) -> Option<(Observed<'_>, i64, [u8; 3])> {
    let (numbers, rest) = payload.split_first_chunk::<24>()?;
    let ([a, b, c, tenant, product], texts) = rest.split_first_chunk::<5>()?;
    let texts = std::str::from_utf8(texts).ok()?;
    let (tenant_id, texts) = texts.split_at_checked(usize::from(*tenant))?;
    let (product_id, event_id) = texts.split_at_checked(usize::from(*product))?;
    let (words, _) = numbers.as_chunks::<8>();
    let [at_us, received_us, number] = [0, 1, 2].map(|at| i64::from_le_bytes(words[at]));
    let is_named = ![tenant_id, product_id, event_id].iter().any(|text| text.is_empty());
    let observed = Observed { at_us, received_us, tenant_id, product_id, event_id };
    is_named.then_some((observed, number, [*a, *b, *c]))
}

impl PriceRow<'_> {
    /// Appends the record's payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut code = [0; 3];
        code.copy_from_slice(self.currency.as_str().as_bytes());
        encode(&self.observed, self.price, &code, out);
    }
}

/// `None` where the payload is no such record.
#[must_use]
pub fn decode_price(payload: &[u8]) -> Option<PriceRow<'_>> {
    let (observed, price, code) = decode(payload)?;
    let currency = Currency::parse(std::str::from_utf8(&code).ok()?)?;
    Some(PriceRow { observed, price, currency })
}

impl StockRow<'_> {
    /// Appends the record's payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (tag, number) = match self.change {
            StockChange::Delta(number) => (b"dlt", number),
            StockChange::Quantity(number) => (b"qty", number),
        };
        encode(&self.observed, number, tag, out);
    }
}

/// `None` where the payload is no such record.
#[must_use]
pub fn decode_stock(payload: &[u8]) -> Option<StockRow<'_>> {
    let (observed, number, tag) = decode(payload)?;
    let change = match &tag {
        b"dlt" => StockChange::Delta(number),
        b"qty" => StockChange::Quantity(number),
        _ => return None,
    };
    Some(StockRow { observed, change })
}

/// The tables as schema version 3 had them, with their views; stock has others since (`shard/stock`).
pub(super) fn tables_sql(time_sql: fn(&str) -> String) -> String {
    format!(
        "
CREATE TABLE price_row (
  -- Observed prices, by product and time.
  tenant INTEGER NOT NULL,          -- tenant_row.id
  product_id TEXT NOT NULL,
  observed_at_us INTEGER NOT NULL,  -- microseconds since 1970 UTC
  event_id TEXT NOT NULL,
  price INTEGER NOT NULL,           -- minor units
  currency TEXT NOT NULL,
  received_us INTEGER NOT NULL,
  PRIMARY KEY (tenant, product_id, observed_at_us, event_id)
) WITHOUT ROWID;
CREATE TABLE stock_row (
  -- What happened to stock, by product and time.
  tenant INTEGER NOT NULL,
  product_id TEXT NOT NULL,
  occurred_at_us INTEGER NOT NULL,
  event_id TEXT NOT NULL,
  kind TEXT NOT NULL,               -- 'delta': so many came in or went out; 'quantity': so many are there
  number INTEGER NOT NULL,
  received_us INTEGER NOT NULL,
  PRIMARY KEY (tenant, product_id, occurred_at_us, event_id)
) WITHOUT ROWID;
CREATE VIEW price_history AS
SELECT t.tenant_id, p.product_id, p.event_id, p.price, p.currency, {} AS observed_at
FROM price_row p JOIN tenant_row t ON t.id = p.tenant;
CREATE VIEW stock_events AS
SELECT t.tenant_id, s.product_id, s.event_id, s.kind, s.number, {} AS occurred_at
FROM stock_row s JOIN tenant_row t ON t.id = s.tenant;
",
        time_sql("p.observed_at_us"),
        time_sql("s.occurred_at_us"),
    )
}

/// Stores a price unless it is there.
pub(super) fn store_price(
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

/// All prices as the records they came from.
pub(super) fn carry<E: From<ShardError>>(
    connection: &Connection,
    take: &mut dyn FnMut(Carried) -> Result<(), E>,
) -> Result<(), E> {
    let sql = "SELECT t.tenant_id, p.product_id, p.event_id, p.observed_at_us, p.received_us, p.price, p.currency \
               FROM price_row p JOIN tenant_row t ON t.id = p.tenant";
    let mut statement = connection.prepare(sql).map_err(ShardError::from)?;
    let mut rows = statement.query([]).map_err(ShardError::from)?;
    while let Some(row) = rows.next().map_err(ShardError::from)? {
        let mut payload = Vec::new();
        price_of(row)?.encode(&mut payload);
        take(Carried::Row(Kind::Price, payload))?;
    }
    Ok(())
}

/// From columns tenant, product, event, observed_at_us, received_us, price, currency.
pub(in crate::shard) fn price_of<'r>(row: &'r Row<'_>) -> Result<PriceRow<'r>, ShardError> {
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

/// A price's currency, from the column at a place.
pub(in crate::shard) fn currency_of(row: &Row<'_>, at: usize) -> Result<Currency, ShardError> {
    Currency::parse(row.get_ref(at)?.as_str().map_err(rusqlite::Error::from)?)
        .ok_or_else(|| ShardError::Corrupt("a price has an unknown currency".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_read_back_as_written_and_nothing_else_does() {
        let observed =
            Observed { at_us: -1, received_us: 2, tenant_id: "t", product_id: "pü", event_id: "e" };
        let price = PriceRow { observed, price: 1999, currency: Currency::parse("JPY").unwrap() };
        let mut bytes = Vec::new();
        price.encode(&mut bytes);
        assert_eq!(decode_price(&bytes), Some(price));
        assert_eq!(decode_stock(&bytes), None);
        assert!((0..bytes.len()).all(|cut| decode_price(&bytes[..cut]).is_none()));
        for change in [StockChange::Delta(-3), StockChange::Quantity(7)] {
            let stock = StockRow { observed, change };
            let mut bytes = Vec::new();
            stock.encode(&mut bytes);
            assert_eq!(decode_stock(&bytes), Some(stock));
            assert_eq!(decode_price(&bytes), None);
        }
    }
}
