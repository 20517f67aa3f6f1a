//! Passes rows from the world to a sink, table by table, and counts them for the expected totals.

use super::error::GenError;
use super::orders::Orders;
use super::row::{Customer, Order, PriceSample, Product, Sink, StockEvent, Tenant};
use super::spec::Spec;
use super::truth::RowCounts;
use super::world::World;

/// The tables of a dataset that are generated one after the other. An order includes its items.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Table {
    Tenants,
    Customers,
    Products,
    Orders,
    PriceHistory,
    StockEvents,
}

impl Table {
    /// All tables, in the order they are generated.
    pub const ALL: [Table; 6] = [
        Table::Tenants,
        Table::Customers,
        Table::Products,
        Table::Orders,
        Table::PriceHistory,
        Table::StockEvents,
    ];
    /// The tables that a server stores.
    pub const STORED: [Table; 3] = [Table::Orders, Table::PriceHistory, Table::StockEvents];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Table::Tenants => "tenants",
            Table::Customers => "customers",
            Table::Products => "products",
            Table::Orders => "orders",
            Table::PriceHistory => "price_history",
            Table::StockEvents => "stock_events",
        }
    }

    /// Returns the table's number of rows.
    #[must_use]
    pub fn rows(self, spec: &Spec) -> u64 {
        let (tenants, products) = (u64::from(spec.tenants), u64::from(spec.products));
        match self {
            Table::Tenants => tenants,
            Table::Customers => tenants * u64::from(spec.customers),
            Table::Products => tenants * products,
            Table::Orders => tenants * spec.orders,
            Table::PriceHistory => tenants * products * spec.price_samples,
            Table::StockEvents => tenants * spec.stock_events,
        }
    }
}

/// Passes every row of a table to a sink, then ends the table. `row_done` is called after each row.
///
/// # Errors
/// Returns the sink's errors.
pub fn feed(
    world: &World,
    table: Table,
    sink: &mut dyn Sink,
    row_done: &mut dyn FnMut(),
) -> Result<(), GenError> {
    match table {
        Table::Tenants => world.tenants(sink, row_done)?,
        Table::Customers => world.customers(sink, row_done)?,
        Table::Products => world.products(sink, row_done)?,
        Table::Orders => {
            let mut orders = Orders::new(world);
            while let Some(order) = orders.next() {
                sink.order(&order)?;
                row_done();
            }
        }
        Table::PriceHistory => world.price_history(sink, row_done)?,
        Table::StockEvents => world.stock_events(sink, row_done)?,
    }
    sink.table_end()
}

/// A sink whose rows are also counted.
pub(super) struct CountedSink<'a> {
    pub(super) sink: &'a mut dyn Sink,
    pub(super) counts: &'a mut RowCounts,
}

impl Sink for CountedSink<'_> {
    fn tenant(&mut self, row: &Tenant<'_>) -> Result<(), GenError> {
        self.sink.tenant(row)
    }

    fn customer(&mut self, row: &Customer<'_>) -> Result<(), GenError> {
        self.sink.customer(row)
    }

    fn product(&mut self, row: &Product<'_>) -> Result<(), GenError> {
        self.sink.product(row)
    }

    fn order(&mut self, row: &Order<'_>) -> Result<(), GenError> {
        self.counts.order_items += row.items.len() as u64;
        self.sink.order(row)
    }

    fn price_sample(&mut self, row: &PriceSample<'_>) -> Result<(), GenError> {
        self.counts.price_sample(row);
        self.sink.price_sample(row)
    }

    fn stock_event(&mut self, row: &StockEvent<'_>) -> Result<(), GenError> {
        self.counts.stock_event(row);
        self.sink.stock_event(row)
    }

    fn table_end(&mut self) -> Result<(), GenError> {
        self.sink.table_end()
    }

    fn bytes(&self) -> u64 {
        self.sink.bytes()
    }
}
