//! A dataset as NDJSON: one file per table. An order contains its items.

use super::error::GenError;
use super::folder::{Draft, Folder};
use super::row::{Customer, Order, PriceSample, Product, Sink, StockEvent, Tenant};
use super::text::{self, Clockface};

/// The six files, in the order their tables are generated.
#[derive(Debug)]
pub(super) struct NdjsonFiles {
    tenants: Draft,
    customers: Draft,
    products: Draft,
    orders: Draft,
    price_history: Draft,
    stock_events: Draft,
    clock: Clockface,
}

impl NdjsonFiles {
    pub(super) fn new(folder: &Folder) -> Result<NdjsonFiles, GenError> {
        Ok(NdjsonFiles {
            tenants: folder.file("tenants.ndjson")?,
            customers: folder.file("customers.ndjson")?,
            products: folder.file("products.ndjson")?,
            orders: folder.file("orders.ndjson")?,
            price_history: folder.file("price_history.ndjson")?,
            stock_events: folder.file("stock_events.ndjson")?,
            clock: Clockface::new(),
        })
    }

    pub(super) fn into_drafts(self) -> Vec<Draft> {
        vec![self.tenants, self.customers, self.products, self.orders, self.price_history, self.stock_events]
    }
}

impl Sink for NdjsonFiles {
    fn tenant(&mut self, row: &Tenant<'_>) -> Result<(), GenError> {
        text::push_tenant(row, self.tenants.buffer());
        self.tenants.row_done()
    }

    fn customer(&mut self, row: &Customer<'_>) -> Result<(), GenError> {
        text::push_customer(row, self.customers.buffer());
        self.customers.row_done()
    }

    fn product(&mut self, row: &Product<'_>) -> Result<(), GenError> {
        text::push_product(row, self.products.buffer());
        self.products.row_done()
    }

    fn order(&mut self, row: &Order<'_>) -> Result<(), GenError> {
        text::push_order(row, &mut self.clock, self.orders.buffer());
        self.orders.row_done()
    }

    fn price_sample(&mut self, row: &PriceSample<'_>) -> Result<(), GenError> {
        text::push_price_sample(row, &mut self.clock, self.price_history.buffer());
        self.price_history.row_done()
    }

    fn stock_event(&mut self, row: &StockEvent<'_>) -> Result<(), GenError> {
        text::push_stock_event(row, &mut self.clock, self.stock_events.buffer());
        self.stock_events.row_done()
    }

    fn bytes(&self) -> u64 {
        let files = [
            &self.tenants,
            &self.customers,
            &self.products,
            &self.orders,
            &self.price_history,
            &self.stock_events,
        ];
        files.into_iter().map(Draft::bytes).sum()
    }
}
