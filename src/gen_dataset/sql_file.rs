//! A dataset as one SQL script that `sqlite3` reads: tables, then rows in large statements.
//!
//! Amounts are integers in minor units (`unit_price_minor`), so that a `SUM` is exact.

use super::error::GenError;
use super::folder::{Draft, Folder};
use super::row::{Customer, Order, PriceSample, Product, Sink, StockChange, StockEvent, Tenant};
use super::text::{Clockface, push_number};

/// The number of rows per INSERT.
const ROWS_MAX: u32 = 500;

const TABLES: &str = "\
CREATE TABLE tenants (tenant_id TEXT NOT NULL, name TEXT NOT NULL, currency TEXT NOT NULL, \
country TEXT NOT NULL, time_zone TEXT NOT NULL, PRIMARY KEY (tenant_id)) WITHOUT ROWID;
CREATE TABLE customers (tenant_id TEXT NOT NULL, customer_id TEXT NOT NULL, name TEXT NOT NULL, \
email TEXT NOT NULL, country TEXT NOT NULL, PRIMARY KEY (tenant_id, customer_id)) WITHOUT ROWID;
CREATE TABLE products (tenant_id TEXT NOT NULL, product_id TEXT NOT NULL, name TEXT NOT NULL, \
category TEXT NOT NULL, unit_price_minor INTEGER NOT NULL, currency TEXT NOT NULL, \
PRIMARY KEY (tenant_id, product_id)) WITHOUT ROWID;
CREATE TABLE orders (tenant_id TEXT NOT NULL, order_id TEXT NOT NULL, customer_id TEXT NOT NULL, \
customer_name TEXT NOT NULL, customer_email TEXT NOT NULL, status TEXT NOT NULL, currency TEXT NOT NULL, \
ordered_at TEXT NOT NULL, PRIMARY KEY (tenant_id, order_id)) WITHOUT ROWID;
CREATE TABLE order_items (tenant_id TEXT NOT NULL, order_id TEXT NOT NULL, line INTEGER NOT NULL, \
product_id TEXT NOT NULL, category TEXT NOT NULL, quantity INTEGER NOT NULL, \
unit_price_minor INTEGER NOT NULL, PRIMARY KEY (tenant_id, order_id, line)) WITHOUT ROWID;
CREATE TABLE price_history (tenant_id TEXT NOT NULL, event_id TEXT NOT NULL, product_id TEXT NOT NULL, \
price_minor INTEGER NOT NULL, currency TEXT NOT NULL, observed_at TEXT NOT NULL, \
PRIMARY KEY (tenant_id, event_id)) WITHOUT ROWID;
CREATE TABLE stock_events (tenant_id TEXT NOT NULL, event_id TEXT NOT NULL, product_id TEXT NOT NULL, \
delta INTEGER, quantity INTEGER, occurred_at TEXT NOT NULL, \
PRIMARY KEY (tenant_id, event_id)) WITHOUT ROWID;
";

/// The script. Each table is one transaction.
#[derive(Debug)]
pub(super) struct SqlFile {
    draft: Draft,
    /// The rows of the current table. Order items are collected separately.
    rows: Statement,
    items: Statement,
    is_open: bool,
    clock: Clockface,
}

impl SqlFile {
    pub(super) fn new(folder: &Folder) -> Result<SqlFile, GenError> {
        let mut draft = folder.file("dataset.sql")?;
        draft.buffer().extend_from_slice(TABLES.as_bytes());
        Ok(SqlFile {
            draft,
            rows: Statement::default(),
            items: Statement::default(),
            is_open: false,
            clock: Clockface::new(),
        })
    }

    pub(super) fn into_drafts(self) -> Vec<Draft> {
        vec![self.draft]
    }

    /// Ends a row, and writes the statements that are full.
    fn row_done(&mut self) -> Result<(), GenError> {
        if self.rows.rows >= ROWS_MAX || self.items.rows >= ROWS_MAX {
            self.write_statements();
        }
        self.draft.row_done()
    }

    fn write_statements(&mut self) {
        if self.rows.rows > 0 && !self.is_open {
            self.is_open = true;
            self.draft.buffer().extend_from_slice(b"BEGIN;\n");
        }
        self.rows.write_to(self.draft.buffer());
        self.items.write_to(self.draft.buffer());
    }
}

impl Sink for SqlFile {
    fn tenant(&mut self, row: &Tenant<'_>) -> Result<(), GenError> {
        let of = row.currency;
        self.rows.row("tenants").texts(&[row.tenant_id, row.name, of.code, of.country, of.time_zone]);
        self.row_done()
    }

    fn customer(&mut self, row: &Customer<'_>) -> Result<(), GenError> {
        let text = [row.tenant_id, row.customer_id.as_str(), row.name, row.email, row.country];
        self.rows.row("customers").texts(&text);
        self.row_done()
    }

    fn product(&mut self, row: &Product<'_>) -> Result<(), GenError> {
        let text = [row.tenant_id, row.product_id.as_str(), row.name, row.category];
        self.rows.row("products").texts(&text).number(row.unit_price_minor).texts(&[row.currency.code]);
        self.row_done()
    }

    fn order(&mut self, row: &Order<'_>) -> Result<(), GenError> {
        let text = [
            row.tenant_id,
            row.order_id.as_str(),
            row.customer_id.as_str(),
            row.customer_name,
            row.customer_email,
            row.status.as_str(),
            row.currency.code,
        ];
        self.rows.row("orders").texts(&text).plain(self.clock.text(row.ordered_at_ms));
        for (line, item) in (1_u32..).zip(row.items) {
            self.items
                .row("order_items")
                .texts(&[row.tenant_id, row.order_id.as_str()])
                .number(line)
                .texts(&[item.product_id.as_str(), item.category])
                .number(item.quantity)
                .number(item.unit_price_minor);
        }
        self.row_done()
    }

    fn price_sample(&mut self, row: &PriceSample<'_>) -> Result<(), GenError> {
        self.rows
            .row("price_history")
            .texts(&[row.tenant_id, row.event_id.as_str(), row.product_id.as_str()])
            .number(row.price_minor)
            .texts(&[row.currency.code])
            .plain(self.clock.text(row.observed_at_ms));
        self.row_done()
    }

    fn stock_event(&mut self, row: &StockEvent<'_>) -> Result<(), GenError> {
        let text = [row.tenant_id, row.event_id.as_str(), row.product_id.as_str()];
        let values = self.rows.row("stock_events").texts(&text);
        match row.change {
            StockChange::Delta(delta) => values.number(delta).null(),
            StockChange::Quantity(quantity) => values.null().number(quantity),
        };
        values.plain(self.clock.text(row.occurred_at_ms));
        self.row_done()
    }

    fn table_end(&mut self) -> Result<(), GenError> {
        self.write_statements();
        if std::mem::take(&mut self.is_open) {
            self.draft.buffer().extend_from_slice(b"COMMIT;\n");
        }
        self.draft.row_done()
    }

    fn bytes(&self) -> u64 {
        self.draft.bytes()
    }
}

/// A growing INSERT: `INSERT INTO t VALUES\n(…,…),\n(…,…)`.
#[derive(Debug, Default)]
struct Statement {
    text: Vec<u8>,
    rows: u32,
    /// Set if the open row already has a value.
    has_value: bool,
}

impl Statement {
    /// Opens the next row and closes the previous one.
    fn row(&mut self, table: &str) -> &mut Statement {
        if self.rows == 0 {
            self.text.extend_from_slice(b"INSERT INTO ");
            self.text.extend_from_slice(table.as_bytes());
            self.text.extend_from_slice(b" VALUES\n(");
        } else {
            self.text.extend_from_slice(b"),\n(");
        }
        self.rows += 1;
        self.has_value = false;
        self
    }

    fn comma(&mut self) {
        if std::mem::replace(&mut self.has_value, true) {
            self.text.push(b',');
        }
    }

    /// Appends quoted strings, with inner quotes doubled.
    fn texts(&mut self, texts: &[&str]) -> &mut Statement {
        for text in texts {
            self.comma();
            self.text.push(b'\'');
            for (index, part) in text.split('\'').enumerate() {
                if index > 0 {
                    self.text.extend_from_slice(b"''");
                }
                self.text.extend_from_slice(part.as_bytes());
            }
            self.text.push(b'\'');
        }
        self
    }

    /// Appends a quoted string that contains no quotes.
    fn plain(&mut self, text: &[u8]) -> &mut Statement {
        self.comma();
        self.text.push(b'\'');
        self.text.extend_from_slice(text);
        self.text.push(b'\'');
        self
    }

    fn number(&mut self, number: impl itoa::Integer) -> &mut Statement {
        self.comma();
        push_number(number, &mut self.text);
        self
    }

    fn null(&mut self) -> &mut Statement {
        self.comma();
        self.text.extend_from_slice(b"NULL");
        self
    }

    /// Closes the statement and moves it to `out`. Writes nothing if it has no rows.
    fn write_to(&mut self, out: &mut Vec<u8>) {
        if self.rows > 0 {
            out.extend_from_slice(&self.text);
            out.extend_from_slice(b");\n");
        }
        self.text.clear();
        self.rows = 0;
    }
}
