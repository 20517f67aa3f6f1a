//! Encodes rows as text: CSV (RFC 4180) and NDJSON.
//!
//! A spreadsheet may interpret a string from a client as a formula if it starts with `=`, `+`, `-`, `@`, a tab or a
//! carriage return, possibly after spaces and invisible characters. In CSV, such a cell is prefixed with an
//! apostrophe. Numbers and times come from the server and remain unchanged. A client that needs the exact strings
//! uses NDJSON or Parquet.

use super::body::{ExportFormat, ExportRows};
use super::columns::{Column, Kind};
use super::source::Batch;
use crate::base::money::write_decimal;
use crate::orders::{BatchItem, BatchOrder, OrderBatch};
use crate::shard::read::{RowBatch, write_line, write_rfc3339, write_string};

/// Characters that may start a formula in a spreadsheet. The last four are full-width.
const FORMULA: [char; 10] = ['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠'];

/// Returns `true` for invisible characters: soft hyphen, joiners, direction marks, byte order mark. A spreadsheet may
/// drop them, like spaces of any width, and interpret the rest.
fn is_unseen(sign: char) -> bool {
    matches!(sign, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(sign, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// Returns `true` if a spreadsheet may interpret a string as a formula.
fn may_be_formula(text: &str) -> bool {
    if text.as_bytes().first().is_none_or(u8::is_ascii_alphanumeric) {
        return false;
    }
    let seen = text.trim_start_matches(|sign: char| sign.is_whitespace() || is_unseen(sign));
    text.starts_with(FORMULA) || seen.starts_with(FORMULA)
}

/// A writer of one export's rows.
#[derive(Debug)]
pub(super) struct TextEncoder {
    tenant: String,
    is_json: bool,
    rows: ExportRows,
    /// Each column, with the bytes that precede its values.
    cells: Vec<(Column, Vec<u8>)>,
}

impl TextEncoder {
    pub(super) fn new(
        tenant: &str,
        format: ExportFormat,
        rows: ExportRows,
        columns: &[Column],
    ) -> TextEncoder {
        let is_json = format == ExportFormat::Ndjson;
        let lead = |(at, column): (usize, &Column)| {
            let lead = match (is_json, at) {
                (true, 0) => format!("{{\"{}\":", column.name()),
                (true, _) => format!(",\"{}\":", column.name()),
                (false, 0) => String::new(),
                (false, _) => ",".to_owned(),
            };
            (*column, lead.into_bytes())
        };
        let cells = columns.iter().enumerate().map(lead).collect();
        TextEncoder { tenant: tenant.to_owned(), is_json, rows, cells }
    }

    /// Appends the bytes that precede all rows.
    pub(super) fn head(&self, out: &mut Vec<u8>) {
        if self.is_json {
            return;
        }
        for (column, lead) in &self.cells {
            out.extend_from_slice(lead);
            out.extend_from_slice(column.name().as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }

    fn end(&self) -> &'static [u8] {
        if self.is_json { b"}\n" } else { b"\r\n" }
    }

    /// Appends a batch's rows and returns their number. Takes about 0.4 us a row.
    pub(super) fn rows(&self, batch: &Batch, out: &mut Vec<u8>) -> u64 {
        match batch {
            Batch::Orders(batch) if self.rows == ExportRows::Items => self.items(batch, out),
            Batch::Orders(batch) => self.orders(batch, out),
            Batch::Rows(batch) => self.copied(batch, out),
        }
    }

    /// Appends the rows of events or clicks.
    fn copied(&self, batch: &RowBatch, out: &mut Vec<u8>) -> u64 {
        for row in &batch.rows {
            for (column, lead) in &self.cells {
                out.extend_from_slice(lead);
                match column {
                    Column::EventId => self.text(batch.texts.get(row.event_id), out),
                    Column::TenantId => self.text(&self.tenant, out),
                    Column::Source => self.text(batch.texts.get(row.source), out),
                    Column::EventType => self.text(batch.texts.get(row.event_type), out),
                    Column::UserId => {
                        out.extend_from_slice(itoa::Buffer::new().format(row.user_id).as_bytes());
                    }
                    Column::Timestamp => self.time(row.timestamp_us, out),
                    Column::ReceivedAt => self.time(row.received_us, out),
                    _ if self.is_json => write_line(out, batch.texts.get(row.json).as_bytes()),
                    // Valid JSON is no formula: of the characters that begin one, it can only begin with the minus of
                    // a number.
                    _ => quoted(b"", batch.texts.get(row.json).as_bytes(), out),
                }
            }
            out.extend_from_slice(self.end());
        }
        batch.rows.len() as u64
    }

    fn orders(&self, batch: &OrderBatch, out: &mut Vec<u8>) -> u64 {
        let mut first = 0;
        for order in &batch.orders {
            let items = &batch.items[first..order.items_end as usize];
            first = order.items_end as usize;
            for (column, lead) in &self.cells {
                out.extend_from_slice(lead);
                self.of_order(*column, batch, order, items, out);
            }
            out.extend_from_slice(self.end());
        }
        batch.orders.len() as u64
    }

    /// Appends the item rows. The columns that an order's items have in common are rendered once and copied. So is
    /// each product of the batch.
    fn items(&self, batch: &OrderBatch, out: &mut Vec<u8>) -> u64 {
        let (mut common, mut ends) = (Vec::new(), Vec::new());
        let (mut products, mut product_ends) = (Vec::new(), vec![0]);
        for [id, category] in &batch.products {
            for span in [id, category] {
                self.text(batch.text(*span), &mut products);
                product_ends.push(products.len());
            }
        }
        let product = |item: &BatchItem, which: usize| {
            let at = item.product as usize * 2 + which;
            &products[product_ends[at]..product_ends[at + 1]]
        };
        let mut first = 0;
        for order in &batch.orders {
            common.clear();
            ends.clear();
            for (column, lead) in &self.cells {
                if !column.is_of_item() {
                    common.extend_from_slice(lead);
                    self.of_order(*column, batch, order, &[], &mut common);
                }
                ends.push(common.len());
            }
            for item in &batch.items[first..order.items_end as usize] {
                let mut copied = 0;
                let mut number = itoa::Buffer::new();
                for (at, (column, lead)) in self.cells.iter().enumerate() {
                    if !column.is_of_item() {
                        continue;
                    }
                    // Most columns of items follow one another, and a comma needs no copy of a slice.
                    if copied < ends[at] {
                        out.extend_from_slice(&common[copied..ends[at]]);
                        copied = ends[at];
                    }
                    match lead.as_slice() {
                        [comma] => out.push(*comma),
                        lead => out.extend_from_slice(lead),
                    }
                    match column {
                        Column::Line => out.extend_from_slice(number.format(item.line).as_bytes()),
                        Column::ProductId => out.extend_from_slice(product(item, 0)),
                        Column::Category => out.extend_from_slice(product(item, 1)),
                        Column::Quantity => out.extend_from_slice(number.format(item.quantity).as_bytes()),
                        Column::UnitPrice => self.money(item.unit_price, order, out),
                        _ => self.money(item.quantity.saturating_mul(item.unit_price), order, out),
                    }
                }
                out.extend_from_slice(&common[copied..]);
                out.extend_from_slice(self.end());
            }
            first = order.items_end as usize;
        }
        batch.items.len() as u64
    }

    fn of_order(
        &self,
        column: Column,
        batch: &OrderBatch,
        order: &BatchOrder,
        items: &[BatchItem],
        out: &mut Vec<u8>,
    ) {
        let customer = |which: usize| batch.text(batch.customers[order.customer as usize][which]);
        let mut number = itoa::Buffer::new();
        match column {
            Column::OrderId => self.text(batch.text(order.order_id), out),
            Column::TenantId => self.text(&self.tenant, out),
            Column::CustomerId => self.text(customer(0), out),
            Column::CustomerName => self.text(customer(1), out),
            Column::CustomerEmail => self.text(customer(2), out),
            Column::Status => self.word(order.status.as_str(), out),
            Column::Currency => self.word(order.currency.as_str(), out),
            Column::OrderedAt => self.time(order.ordered_at_us, out),
            Column::ReceivedAt => self.time(order.received_us, out),
            Column::Total => self.money(order.total, order, out),
            Column::Units => out.extend_from_slice(number.format(order.units).as_bytes()),
            Column::ItemCount => out.extend_from_slice(number.format(order.item_count).as_bytes()),
            Column::Items if self.is_json => write_items(batch, order, items, out),
            Column::Items => {
                let mut json = Vec::new();
                write_items(batch, order, items, &mut json);
                quoted(b"", &json, out);
            }
            // The other columns belong to other rows, so an order has no value for them.
            _ => debug_assert_ne!(column.kind(), Kind::Json),
        }
    }

    /// Writes a string from a client.
    fn text(&self, text: &str, out: &mut Vec<u8>) {
        if self.is_json {
            return write_string(out, text.as_bytes());
        }
        let guard: &[u8] = if may_be_formula(text) { b"'" } else { b"" };
        // Without an early end, many bytes are compared at once.
        let is_special = |byte: u8| matches!(byte, b'"' | b',' | b'\r' | b'\n');
        if text.bytes().fold(false, |found, byte| found | is_special(byte)) {
            return quoted(guard, text.as_bytes(), out);
        }
        out.extend_from_slice(guard);
        out.extend_from_slice(text.as_bytes());
    }

    /// Writes a value from the server, which needs no escaping.
    fn own(&self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let quote: &[u8] = if self.is_json { b"\"" } else { b"" };
        out.extend_from_slice(quote);
        write(out);
        out.extend_from_slice(quote);
    }

    fn word(&self, word: &str, out: &mut Vec<u8>) {
        self.own(out, |out| out.extend_from_slice(word.as_bytes()));
    }

    fn time(&self, us: i64, out: &mut Vec<u8>) {
        self.own(out, |out| write_rfc3339(out, us));
    }

    /// Writes an amount with all digits of the currency. In JSON, the amount is a string, as in the rest of the API,
    /// because clients would read a number as a float.
    fn money(&self, minor: i64, order: &BatchOrder, out: &mut Vec<u8>) {
        self.own(out, |out| write_decimal(minor, order.currency.digits(), out));
    }
}

/// Writes a quoted CSV cell. `guard` precedes the text and contains no quote.
fn quoted(guard: &[u8], text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(guard);
    for byte in text {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// Writes an order's items in the same format as a search.
pub(super) fn write_items(batch: &OrderBatch, order: &BatchOrder, items: &[BatchItem], out: &mut Vec<u8>) {
    let text = batch.texts.as_str().as_bytes();
    let mut number = itoa::Buffer::new();
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let [product_id, category] = batch.products[item.product as usize];
        out.extend_from_slice(b"{\"product_id\":");
        write_string(out, &text[product_id.range()]);
        out.extend_from_slice(b",\"category\":");
        write_string(out, &text[category.range()]);
        out.extend_from_slice(b",\"quantity\":");
        out.extend_from_slice(number.format(item.quantity).as_bytes());
        out.extend_from_slice(b",\"unit_price\":\"");
        write_decimal(item.unit_price, order.currency.digits(), out);
        out.extend_from_slice(b"\"}");
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_csv_is_quoted_where_it_must_be_and_never_a_formula() {
        let encoder = TextEncoder::new("t", ExportFormat::Csv, ExportRows::Orders, &[Column::OrderId]);
        for (text, cell) in [
            ("plain", "plain"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+1", "'=1+1"),
            ("+49", "'+49"),
            ("-5", "'-5"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\tx", "'\tx"),
            ("＝1", "'＝1"),
            ("＠x", "'＠x"),
            ("\u{feff}=1+1", "'\u{feff}=1+1"),
            ("\u{200b}=1", "'\u{200b}=1"),
            ("\u{a0}=1", "'\u{a0}=1"),
            ("\u{a0}\u{2060} \u{200d}@x", "'\u{a0}\u{2060} \u{200d}@x"),
            ("\u{202e}＝1", "'\u{202e}＝1"),
            (" +1", "' +1"),
            (" x=1", " x=1"),
            ("\u{feff}Ann", "\u{feff}Ann"),
            ("é=1", "é=1"),
            ("\rx", "\"'\rx\""),
            ("=HYPERLINK(\"x\",\"y\")", "\"'=HYPERLINK(\"\"x\"\",\"\"y\"\")\""),
            ("a=1", "a=1"),
            ("Ünï", "Ünï"),
        ] {
            let mut out = Vec::new();
            encoder.text(text, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), cell);
        }
    }
}
