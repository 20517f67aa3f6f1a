//! The borrowed rows of a dataset, and the interface of their consumers.

use super::currency::Currency;
use super::error::GenError;
use crate::orders::OrderStatus;

/// A short ASCII id without heap memory: `ord-1-00000042`. 32 bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Id {
    text: [u8; Id::BYTES_MAX],
    length: u8,
}

impl Id {
    /// The longest id: a word, a tenant of 10 digits, a number of 12.
    const BYTES_MAX: usize = 31;

    /// Creates an id from a prefix and a number of at least `width` digits.
    pub(super) fn new(prefix: &str, number: u64, width: usize) -> Id {
        let mut id = Id { text: [0; Id::BYTES_MAX], length: 0 };
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(number).as_bytes();
        id.push(prefix.as_bytes());
        id.push(&b"0000000000000000"[..width.saturating_sub(digits.len()).min(16)]);
        id.push(digits);
        id
    }

    fn push(&mut self, more: &[u8]) {
        let start = usize::from(self.length);
        self.text[start..start + more.len()].copy_from_slice(more);
        self.length += more.len() as u8;
    }

    /// Returns the text as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // It consists of a str's bytes and digits.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

/// One line of an order.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    pub product_id: Id,
    /// From 0; `product_id` counts from 1.
    pub product: u32,
    pub category: &'static str,
    /// Its index in the list of categories, below 32.
    pub category_index: u8,
    /// 1 to 5.
    pub quantity: u32,
    pub unit_price_minor: u64,
}

/// One order with its items. Orders are sorted by `ordered_at_ms`, tenants mixed.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// From 0; `tenant_id` counts from 1.
    pub tenant: u32,
    pub tenant_id: &'a str,
    pub order_id: Id,
    /// From 0 within the tenant; `customer_id` counts from 1.
    pub customer: u32,
    pub customer_id: Id,
    pub customer_name: &'a str,
    pub customer_email: &'a str,
    pub status: OrderStatus,
    pub currency: Currency,
    /// Milliseconds since 1970 UTC.
    pub ordered_at_ms: i64,
    /// 1 to 100. A product may occur more than once.
    pub items: &'a [Item],
}

impl Order<'_> {
    /// Returns the order's total in minor units.
    #[must_use]
    pub fn total_minor(&self) -> u64 {
        self.items.iter().map(|item| u64::from(item.quantity) * item.unit_price_minor).sum()
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Customer<'a> {
    pub tenant_id: &'a str,
    pub customer_id: Id,
    pub name: &'a str,
    pub email: &'a str,
    /// Two letters (ISO 3166).
    pub country: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub struct Product<'a> {
    pub tenant_id: &'a str,
    pub product_id: Id,
    pub name: &'a str,
    pub category: &'static str,
    pub unit_price_minor: u64,
    pub currency: Currency,
}

/// A price of a product at some time, sorted by time like the orders.
#[derive(Clone, Copy, Debug)]
pub struct PriceSample<'a> {
    pub event_id: Id,
    pub tenant_id: &'a str,
    pub product_id: Id,
    pub price_minor: u64,
    pub currency: Currency,
    pub observed_at_ms: i64,
}

/// The content of a stock event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StockChange {
    /// The quantity added or, if negative, removed.
    Delta(i32),
    /// The counted quantity.
    Quantity(u32),
}

/// A change of a product's stock, sorted by time like the orders.
#[derive(Clone, Copy, Debug)]
pub struct StockEvent<'a> {
    pub event_id: Id,
    pub tenant_id: &'a str,
    pub product_id: Id,
    pub change: StockChange,
    pub occurred_at_ms: i64,
}

/// Accepts rows, table by table. A sink ignores the tables whose methods it does not override, so a loader of orders
/// needs one method.
///
/// # Errors
/// The reason why a row was not accepted. Generation stops there. A foreign sink wraps its own errors in
/// [`GenError::Sink`].
pub trait Sink {
    fn customer(&mut self, _row: &Customer<'_>) -> Result<(), GenError> {
        Ok(())
    }

    fn product(&mut self, _row: &Product<'_>) -> Result<(), GenError> {
        Ok(())
    }

    fn order(&mut self, row: &Order<'_>) -> Result<(), GenError>;

    fn price_sample(&mut self, _row: &PriceSample<'_>) -> Result<(), GenError> {
        Ok(())
    }

    fn stock_event(&mut self, _row: &StockEvent<'_>) -> Result<(), GenError> {
        Ok(())
    }

    /// Called after the last row of each table, to flush buffered rows.
    fn table_end(&mut self) -> Result<(), GenError> {
        Ok(())
    }

    /// Returns the bytes written or sent so far, for the figures at the end.
    fn bytes(&self) -> u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_padded_and_grow() {
        assert_eq!(Id::new("prod-", 1, 5).as_str(), "prod-00001");
        assert_eq!(Id::new("prod-", 100_000, 5).as_str(), "prod-100000");
        assert_eq!(Id::new("ord-4294967295-", 10_000_000_000, 8).as_str(), "ord-4294967295-10000000000");
    }
}
