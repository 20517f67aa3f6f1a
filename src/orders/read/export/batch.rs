//! A batch of orders for an export: one text for all strings, and offsets into it.

use crate::base::money::Currency;
use crate::orders::status::OrderStatus;
use crate::shard::read::{Span, Texts};

/// The approximate length of an item's numbers as text, in bytes.
const ITEM_DIGITS: usize = 64;

/// One order of a batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchOrder {
    pub order_id: Span,
    /// Index into the batch's customers.
    pub customer: u32,
    pub status: OrderStatus,
    pub currency: Currency,
    pub ordered_at_us: i64,
    pub received_us: i64,
    /// The total in minor units of the currency.
    pub total: i64,
    pub units: i64,
    pub item_count: i64,
    /// The end of the order's items in the batch's items. They start where the previous order's items end.
    pub items_end: u32,
}

/// One line of an order.
#[derive(Clone, Copy, Debug)]
pub struct BatchItem {
    /// The line number, counted from 1 within its order.
    pub line: u32,
    /// Index into the batch's products.
    pub product: u32,
    pub quantity: i64,
    /// The price in minor units of the order's currency.
    pub unit_price: i64,
}

/// Orders with all exported data. Each order takes a few hundred bytes.
#[derive(Clone, Debug, Default)]
pub struct OrderBatch {
    pub orders: Vec<BatchOrder>,
    pub items: Vec<BatchItem>,
    /// Id, name and e-mail address.
    pub customers: Vec<[Span; 3]>,
    /// Id and category.
    pub products: Vec<[Span; 2]>,
    pub texts: Texts,
}

impl OrderBatch {
    /// Empties the batch and keeps its memory for reuse.
    pub fn clear(&mut self) {
        self.orders.clear();
        self.items.clear();
        self.customers.clear();
        self.products.clear();
        self.texts.clear();
    }

    /// Returns the orders, each with its items.
    pub fn orders_with_items(&self) -> impl Iterator<Item = (&BatchOrder, &[BatchItem])> {
        let mut first = 0;
        self.orders.iter().map(move |order| {
            let items = first..order.items_end as usize;
            first = items.end;
            (order, &self.items[items])
        })
    }

    /// Returns the byte length of the order's strings: its id and its customer.
    #[must_use]
    pub fn order_bytes(&self, order: &BatchOrder) -> usize {
        let customer = self.customers[order.customer as usize];
        order.order_id.range().len() + customer.iter().map(|span| span.range().len()).sum::<usize>()
    }

    /// Returns the byte length of an item's strings, plus the digits of its numbers.
    #[must_use]
    pub fn item_bytes(&self, item: &BatchItem) -> usize {
        let product = self.products[item.product as usize];
        ITEM_DIGITS + product.iter().map(|span| span.range().len()).sum::<usize>()
    }

    #[must_use]
    pub fn text(&self, span: Span) -> &str {
        self.texts.get(span)
    }

    /// Returns orders `o-N` of one item each, for tests.
    #[cfg(test)]
    pub(crate) fn numbered(numbers: impl IntoIterator<Item = u64>, status: OrderStatus) -> OrderBatch {
        let mut batch = OrderBatch::default();
        let customer = ["c", "Ann", "ann@example.org"].map(|text| batch.keep(text));
        let product = ["p", "garden"].map(|text| batch.keep(text));
        batch.customers.push(customer);
        batch.products.push(product);
        for number in numbers {
            let order_id = batch.keep(&format!("o-{number}"));
            batch.items.push(BatchItem { line: 1, product: 0, quantity: 2, unit_price: 50 });
            batch.orders.push(BatchOrder {
                order_id,
                customer: 0,
                status,
                currency: Currency::parse("USD").unwrap(),
                ordered_at_us: 1_700_000_000_000_000 + number as i64,
                received_us: 0,
                total: 100,
                units: 2,
                item_count: 1,
                items_end: batch.items.len() as u32,
            });
        }
        batch
    }

    pub(super) fn keep(&mut self, text: &str) -> Span {
        self.texts.keep(text)
    }
}

/// The limits on a batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchBounds {
    pub orders: usize,
    /// The number of items at which a batch ends. The order that reaches it is still included, so a batch may contain
    /// up to 1,023 more.
    pub items: usize,
    pub with_items: bool,
}

impl BatchBounds {
    /// Returns `true` if the batch has reached a limit. Only the batch's rows decide this, never the time.
    #[must_use]
    pub fn is_full(&self, batch: &OrderBatch) -> bool {
        batch.orders.len() >= self.orders || batch.items.len() >= self.items
    }
}
