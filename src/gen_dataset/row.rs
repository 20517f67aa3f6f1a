//! The borrowed rows of a dataset, and the interface for their consumers.

use super::currency::Currency;
use super::error::GenError;
use crate::orders::OrderStatus;

/// A short ASCII id such as `ord-1-00000042`. It takes 32 bytes and no heap memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Id {
    text: [u8; Id::BYTES_MAX],
    length: u8,
}

impl Id {
    /// The length of the longest id: a word, a tenant number with 10 digits, and a row number with 12 digits.
    const BYTES_MAX: usize = 31;

    /// Creates an id from a prefix and a number with at least `width` digits.
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

    /// Returns the id as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }

    /// Returns the id as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // The id consists of the bytes of a `str` and of digits, so it is valid UTF-8.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

/// One line of an order.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    pub product_id: Id,
    /// The product's number, from 0. `product_id` counts from 1.
    pub product: u32,
    pub category: &'static str,
    /// The category's index in the list of categories, below 32.
    pub category_index: u8,
    /// The quantity, 1 to 5.
    pub quantity: u32,
    pub unit_price_minor: u64,
}

/// One order with its items. Orders are sorted by `ordered_at_ms`, with the tenants mixed.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The tenant's number, from 0. `tenant_id` counts from 1.
    pub tenant: u32,
    pub tenant_id: &'a str,
    pub order_id: Id,
    /// The customer's number within the tenant, from 0. `customer_id` counts from 1.
    pub customer: u32,
    pub customer_id: Id,
    pub customer_name: &'a str,
    pub customer_email: &'a str,
    pub status: OrderStatus,
    pub currency: Currency,
    /// The time of the order, in milliseconds since 1970 UTC.
    pub ordered_at_ms: i64,
    /// 1 to 100 items. A product may occur more than once.
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
pub struct Tenant<'a> {
    pub tenant_id: &'a str,
    pub name: &'a str,
    /// The currency of the tenant's prices, with its country and time zone.
    pub currency: Currency,
}

#[derive(Clone, Copy, Debug)]
pub struct Customer<'a> {
    pub tenant_id: &'a str,
    pub customer_id: Id,
    pub name: &'a str,
    pub email: &'a str,
    /// The country code: two letters (ISO 3166).
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

/// A product's price at some time. Price samples are sorted by tenant, product and time.
#[derive(Clone, Copy, Debug)]
pub struct PriceSample<'a> {
    /// The tenant's number, from 0.
    pub tenant: u32,
    /// The product's number, from 0.
    pub product: u32,
    pub event_id: Id,
    pub tenant_id: &'a str,
    pub product_id: Id,
    pub price_minor: u64,
    pub currency: Currency,
    pub observed_at_ms: i64,
}

/// What a stock event changes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StockChange {
    /// The quantity added or, if negative, removed.
    Delta(i32),
    /// The counted quantity.
    Quantity(u32),
}

/// A change in a product's stock. Stock events are sorted by tenant, product and time.
#[derive(Clone, Copy, Debug)]
pub struct StockEvent<'a> {
    /// The tenant's number, from 0.
    pub tenant: u32,
    /// The product's number, from 0.
    pub product: u32,
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
/// Returns the reason why a row was not accepted. Generation stops at that row. A sink outside this crate wraps its
/// own errors in [`GenError::Sink`].
pub trait Sink {
    fn tenant(&mut self, _row: &Tenant<'_>) -> Result<(), GenError> {
        Ok(())
    }

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

    /// Flushes buffered rows. It is called after the last row of each table.
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
        assert_eq!(Id::new("prod-", 1, 6).as_str(), "prod-000001");
        assert_eq!(Id::new("prod-", 1_000_000, 6).as_str(), "prod-1000000");
        assert_eq!(Id::new("ord-4294967295-", 10_000_000_000, 8).as_str(), "ord-4294967295-10000000000");
    }
}
