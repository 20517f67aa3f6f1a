//! Passes rows from the world to a sink, table by table, and adds the orders to the expected totals.

use super::error::GenError;
use super::orders::Orders;
use super::row::{Customer, Order, PriceSample, Product, Sink, StockEvent};
use super::spec::Spec;
use super::truth::Truth;
use super::world::World;

/// The tables of a dataset. An order includes its items.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Table {
    Customers,
    Products,
    Orders,
    PriceSamples,
    StockEvents,
}

impl Table {
    /// All tables, in the order they are generated.
    pub const ALL: [Table; 5] =
        [Table::Customers, Table::Products, Table::Orders, Table::PriceSamples, Table::StockEvents];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Table::Customers => "customers",
            Table::Products => "products",
            Table::Orders => "orders",
            Table::PriceSamples => "price_samples",
            Table::StockEvents => "stock_events",
        }
    }

    /// Returns the table's number of rows.
    #[must_use]
    pub fn rows(self, spec: &Spec) -> u64 {
        match self {
            Table::Customers => spec.customers,
            Table::Products => u64::from(spec.tenants) * u64::from(spec.products),
            Table::Orders => spec.orders,
            Table::PriceSamples => spec.price_samples,
            Table::StockEvents => spec.stock_events,
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
        Table::Customers => world.customers(sink, row_done)?,
        Table::Products => world.products(sink, row_done)?,
        Table::Orders => {
            let mut orders = Orders::new(world);
            while let Some(order) = orders.next() {
                sink.order(&order)?;
                row_done();
            }
        }
        Table::PriceSamples => world.price_samples(sink, row_done)?,
        Table::StockEvents => world.stock_events(sink, row_done)?,
    }
    sink.table_end()
}

/// A sink whose orders are also added to the expected totals.
pub(super) struct CountedSink<'a> {
    pub(super) sink: &'a mut dyn Sink,
    pub(super) truth: &'a mut Truth,
}

impl Sink for CountedSink<'_> {
    fn customer(&mut self, row: &Customer<'_>) -> Result<(), GenError> {
        self.sink.customer(row)
    }

    fn product(&mut self, row: &Product<'_>) -> Result<(), GenError> {
        self.sink.product(row)
    }

    fn order(&mut self, row: &Order<'_>) -> Result<(), GenError> {
        self.truth.add(row);
        self.sink.order(row)
    }

    fn price_sample(&mut self, row: &PriceSample<'_>) -> Result<(), GenError> {
        self.sink.price_sample(row)
    }

    fn stock_event(&mut self, row: &StockEvent<'_>) -> Result<(), GenError> {
        self.sink.stock_event(row)
    }

    fn table_end(&mut self) -> Result<(), GenError> {
        self.sink.table_end()
    }

    fn bytes(&self) -> u64 {
        self.sink.bytes()
    }
}
