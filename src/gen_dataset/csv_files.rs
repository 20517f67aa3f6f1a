//! A dataset as CSV (RFC 4180): one file per table, with a header line. Order items have their own file.

use csv::{Terminator, Writer, WriterBuilder};

use super::currency::Currency;
use super::error::GenError;
use super::folder::{Draft, Folder};
use super::row::{Customer, Order, PriceSample, Product, Sink, StockChange, StockEvent, Tenant};
use super::text::{Clockface, push_number};

/// The seven files, in the order their tables are generated.
#[derive(Debug)]
pub(super) struct CsvFiles {
    tenants: Table,
    customers: Table,
    products: Table,
    orders: Table,
    items: Table,
    price_history: Table,
    stock_events: Table,
    clock: Clockface,
}

impl CsvFiles {
    pub(super) fn new(folder: &Folder) -> Result<CsvFiles, GenError> {
        let table = |name, head: &[&str]| Table::new(folder.file(name)?, head);
        let tenants = ["tenant_id", "name", "currency", "country", "time_zone"];
        let people = ["customer_id", "tenant_id", "name", "email", "country"];
        let things = ["product_id", "tenant_id", "name", "category", "unit_price", "currency"];
        let orders = [
            "order_id",
            "tenant_id",
            "customer_id",
            "customer_name",
            "customer_email",
            "status",
            "currency",
            "ordered_at",
        ];
        let items = ["order_id", "tenant_id", "line", "product_id", "category", "quantity", "unit_price"];
        let prices = ["event_id", "tenant_id", "product_id", "price", "currency", "observed_at"];
        let stock = ["event_id", "tenant_id", "product_id", "delta", "quantity", "occurred_at"];
        Ok(CsvFiles {
            tenants: table("tenants.csv", &tenants)?,
            customers: table("customers.csv", &people)?,
            products: table("products.csv", &things)?,
            orders: table("orders.csv", &orders)?,
            items: table("order_items.csv", &items)?,
            price_history: table("price_history.csv", &prices)?,
            stock_events: table("stock_events.csv", &stock)?,
            clock: Clockface::new(),
        })
    }

    pub(super) fn into_drafts(self) -> Result<Vec<Draft>, GenError> {
        let tables = [
            self.tenants,
            self.customers,
            self.products,
            self.orders,
            self.items,
            self.price_history,
            self.stock_events,
        ];
        tables.into_iter().map(Table::into_draft).collect()
    }
}

impl Sink for CsvFiles {
    fn tenant(&mut self, row: &Tenant<'_>) -> Result<(), GenError> {
        let of = row.currency;
        self.tenants.texts(&[row.tenant_id, row.name, of.code, of.country, of.time_zone])?.end()
    }

    fn customer(&mut self, row: &Customer<'_>) -> Result<(), GenError> {
        let text = [row.customer_id.as_str(), row.tenant_id, row.name, row.email, row.country];
        self.customers.texts(&text)?.end()
    }

    fn product(&mut self, row: &Product<'_>) -> Result<(), GenError> {
        let text = [row.product_id.as_str(), row.tenant_id, row.name, row.category];
        self.products.texts(&text)?.amount(row.currency, row.unit_price_minor)?;
        self.products.texts(&[row.currency.code])?.end()
    }

    fn order(&mut self, row: &Order<'_>) -> Result<(), GenError> {
        let text = [
            row.order_id.as_str(),
            row.tenant_id,
            row.customer_id.as_str(),
            row.customer_name,
            row.customer_email,
            row.status.as_str(),
            row.currency.code,
        ];
        self.orders.texts(&text)?.field(self.clock.text(row.ordered_at_ms))?.end()?;
        for (line, item) in (1_u32..).zip(row.items) {
            self.items.texts(&[row.order_id.as_str(), row.tenant_id])?.number(line)?;
            self.items.texts(&[item.product_id.as_str(), item.category])?.number(item.quantity)?;
            self.items.amount(row.currency, item.unit_price_minor)?.end()?;
        }
        Ok(())
    }

    fn price_sample(&mut self, row: &PriceSample<'_>) -> Result<(), GenError> {
        let text = [row.event_id.as_str(), row.tenant_id, row.product_id.as_str()];
        self.price_history.texts(&text)?.amount(row.currency, row.price_minor)?;
        self.price_history.texts(&[row.currency.code])?.field(self.clock.text(row.observed_at_ms))?.end()
    }

    fn stock_event(&mut self, row: &StockEvent<'_>) -> Result<(), GenError> {
        let text = [row.event_id.as_str(), row.tenant_id, row.product_id.as_str()];
        let table = self.stock_events.texts(&text)?;
        match row.change {
            StockChange::Delta(delta) => table.number(delta)?.field(b"")?,
            StockChange::Quantity(quantity) => table.field(b"")?.number(quantity)?,
        };
        self.stock_events.field(self.clock.text(row.occurred_at_ms))?.end()
    }

    fn table_end(&mut self) -> Result<(), GenError> {
        for table in [
            &mut self.tenants,
            &mut self.customers,
            &mut self.products,
            &mut self.orders,
            &mut self.items,
            &mut self.price_history,
            &mut self.stock_events,
        ] {
            table.writer.flush().map_err(|error| table.failed(error.into()))?;
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        let tables = [
            &self.tenants,
            &self.customers,
            &self.products,
            &self.orders,
            &self.items,
            &self.price_history,
            &self.stock_events,
        ];
        tables.into_iter().map(|table| table.writer.get_ref().bytes()).sum()
    }
}

/// One file. Its rows are written field by field.
#[derive(Debug)]
struct Table {
    writer: Writer<Draft>,
    scratch: Vec<u8>,
}

impl Table {
    fn new(draft: Draft, head: &[&str]) -> Result<Table, GenError> {
        let writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(draft);
        let mut table = Table { writer, scratch: Vec::new() };
        table.texts(head)?.end()?;
        Ok(table)
    }

    fn field(&mut self, bytes: &[u8]) -> Result<&mut Table, GenError> {
        match self.writer.write_field(bytes) {
            Ok(()) => Ok(self),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn texts(&mut self, texts: &[&str]) -> Result<&mut Table, GenError> {
        for text in texts {
            self.field(text.as_bytes())?;
        }
        Ok(self)
    }

    fn number(&mut self, number: impl itoa::Integer) -> Result<&mut Table, GenError> {
        self.scratch.clear();
        push_number(number, &mut self.scratch);
        self.scratched()
    }

    fn amount(&mut self, currency: Currency, minor: u64) -> Result<&mut Table, GenError> {
        self.scratch.clear();
        currency.push(minor, &mut self.scratch);
        self.scratched()
    }

    fn scratched(&mut self) -> Result<&mut Table, GenError> {
        match self.writer.write_field(&self.scratch) {
            Ok(()) => Ok(self),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Ends the current row.
    fn end(&mut self) -> Result<(), GenError> {
        self.writer.write_record(None::<&[u8]>).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: csv::Error) -> GenError {
        GenError::File { path: self.writer.get_ref().temporary().to_owned(), source: error.into() }
    }

    fn into_draft(self) -> Result<Draft, GenError> {
        let path = self.writer.get_ref().temporary().to_owned();
        self.writer.into_inner().map_err(|error| GenError::File { path, source: error.into_error() })
    }
}
