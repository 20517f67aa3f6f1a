//! One column of a row group: its values in row order, their dictionary and bounds, and the pages.
//!
//! An order's columns are the same in all of its item rows, and names repeat in a batch. Both are looked up once and
//! repeated as indexes, and the bounds of strings are those of the dictionary.

use std::io;

use parquet::basic::Compression as Codec;
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::schema::types::ColumnDescPtr;

use super::SCALE;
use super::chunk::{ChunkWriter, PAGE_BYTES, PagePacker};
use super::dictionary::{Number, NumberDictionary, Repeats, TextDictionary, head};
use crate::base::money::Currency;
use crate::exports::body::{Compression, ExportRows};
use crate::exports::columns::{Column, Kind};
use crate::exports::source::Batch;
use crate::exports::text::write_items;
use crate::orders::{BatchItem, BatchOrder, OrderBatch, OrderStatus};
use crate::shard::read::CopiedRow;

/// Bounds of strings are shortened to this many bytes.
const BOUND_BYTES: usize = 64;
/// The bytes of an amount in a page.
const AMOUNT_BYTES: usize = 16;

/// The column of a chunk: its type and its codec.
pub(super) struct ChunkColumn {
    pub(super) column: Column,
    pub(super) description: ColumnDescPtr,
    pub(super) codec: Codec,
}

/// An encoder of columns, with the memory that they share.
#[derive(Debug)]
pub(super) struct ColumnEncoder {
    rows: ExportRows,
    tenant: String,
    packer: PagePacker,
    page: Vec<u8>,
    texts: TextDictionary,
    counts: Vec<i64>,
    amounts: Vec<i128>,
    count_dictionary: NumberDictionary<i64>,
    amount_dictionary: NumberDictionary<i128>,
    /// The number of rows of each order in the group that has some.
    order_rows: Vec<u32>,
}

impl ColumnEncoder {
    pub(super) fn new(tenant: &str, rows: ExportRows, compression: Compression) -> ColumnEncoder {
        ColumnEncoder {
            rows,
            tenant: tenant.to_owned(),
            packer: PagePacker::new(compression),
            page: Vec::new(),
            texts: TextDictionary::default(),
            counts: Vec::new(),
            amounts: Vec::new(),
            count_dictionary: NumberDictionary::default(),
            amount_dictionary: NumberDictionary::default(),
            order_rows: Vec::new(),
        }
    }

    /// Begins a group. All its columns follow.
    pub(super) fn begin_group(&mut self, group: &[Batch]) {
        self.packer.begin_group();
        self.order_rows.clear();
        for batch in group {
            let Batch::Orders(batch) = batch else { continue };
            let rows = batch.orders_with_items().map(|(_, items)| rows_of(self.rows, items) as u32);
            self.order_rows.extend(rows.filter(|rows| *rows > 0));
        }
    }

    /// Encodes a column of a group. Takes 2 to 20 ns a row, and the time to compress it. `sink` is empty memory.
    ///
    /// # Errors
    /// Returns the errors of the compressor and of the Parquet library. None are expected.
    pub(super) fn encode(
        &mut self,
        of: ChunkColumn,
        group: &[Batch],
        sink: Vec<u8>,
    ) -> io::Result<(Vec<u8>, ColumnChunkMetaData)> {
        self.page.clear();
        match of.column.kind() {
            Kind::Json => self.unique(of, group, sink),
            Kind::Text => match (of.column, self.rows) {
                (Column::EventId, _) | (Column::OrderId, ExportRows::Orders) => self.unique(of, group, sink),
                _ => self.named(of, group, sink),
            },
            Kind::Count | Kind::Time => {
                let mut values = std::mem::take(&mut self.counts);
                collect_counts(of.column, self.rows, group, &mut values);
                let write = |value: i64, page: &mut Vec<u8>| page.extend_from_slice(&value.to_le_bytes());
                let pages = (ChunkWriter::new(sink, &mut self.packer), &mut self.page);
                let repeats = repeats(of.column, self.rows, &self.order_rows);
                let (chunk, (least, greatest)) =
                    write_numbers(pages, &values, repeats, &mut self.count_dictionary, 8, write)?;
                self.counts = values;
                let statistics = statistics(least, greatest).with_backwards_compatible_min_max(true);
                chunk.end(of.description, of.codec, Statistics::Int64(statistics), None)
            }
            Kind::Money => self.money(of, group, sink),
        }
    }

    /// Encodes amounts, in ten-thousandths. If all currencies have the same number of digits, the dictionary is of
    /// minor units, which are closer together.
    fn money(
        &mut self,
        of: ChunkColumn,
        group: &[Batch],
        sink: Vec<u8>,
    ) -> io::Result<(Vec<u8>, ColumnChunkMetaData)> {
        let unit = common_unit(group);
        let repeats = repeats(of.column, self.rows, &self.order_rows);
        let pages = (ChunkWriter::new(sink, &mut self.packer), &mut self.page);
        let (chunk, bounds) = if let Some(unit) = unit {
            let mut values = std::mem::take(&mut self.counts);
            collect_minor(of.column, self.rows, group, &mut values, |minor, _| minor);
            let write = |minor: i64, page: &mut Vec<u8>| {
                page.extend_from_slice(&(i128::from(minor) * unit).to_be_bytes());
            };
            let (chunk, (least, greatest)) =
                write_numbers(pages, &values, repeats, &mut self.count_dictionary, AMOUNT_BYTES, write)?;
            self.counts = values;
            (chunk, (i128::from(least) * unit, i128::from(greatest) * unit))
        } else {
            let mut values = std::mem::take(&mut self.amounts);
            collect_minor(of.column, self.rows, group, &mut values, |minor, currency| {
                i128::from(minor) * unit_of(currency)
            });
            let write = |amount: i128, page: &mut Vec<u8>| page.extend_from_slice(&amount.to_be_bytes());
            let (chunk, bounds) =
                write_numbers(pages, &values, repeats, &mut self.amount_dictionary, AMOUNT_BYTES, write)?;
            self.amounts = values;
            (chunk, bounds)
        };
        let bytes = |amount: i128| FixedLenByteArray::from(amount.to_be_bytes().to_vec());
        let statistics = statistics(bytes(bounds.0), bytes(bounds.1)).with_backwards_compatible_min_max(true);
        chunk.end(of.description, of.codec, Statistics::FixedLenByteArray(statistics), None)
    }

    /// Encodes strings that repeat.
    fn named(
        &mut self,
        of: ChunkColumn,
        group: &[Batch],
        sink: Vec<u8>,
    ) -> io::Result<(Vec<u8>, ColumnChunkMetaData)> {
        let texts = &mut self.texts;
        texts.clear();
        for batch in group {
            match batch {
                Batch::Orders(batch) => add_order_texts(of.column, (self.rows, &self.tenant), batch, texts),
                Batch::Rows(batch) => {
                    for row in &batch.rows {
                        let index = match of.column {
                            Column::Source => texts.index(batch.texts.get(row.source)),
                            Column::EventType => texts.index(batch.texts.get(row.event_type)),
                            _ => texts.index(&self.tenant),
                        };
                        texts.append(index, 1);
                    }
                }
            }
        }
        let repeats = repeats(of.column, self.rows, &self.order_rows);
        let rows = repeats.rows(texts.indexes());
        let text_bytes = texts.plain_bytes() - 4 * rows;
        let statistics = texts.bounds().map_or_else(
            || text_statistics(None, None),
            |(least, greatest)| text_statistics(Some(least), Some(greatest)),
        );
        let mut chunk = ChunkWriter::new(sink, &mut self.packer);
        if texts.is_smaller(repeats) {
            let entries = texts.len();
            repeats.write(texts.indexes(), entries, &mut self.page);
            chunk.dictionary(texts.page(), entries)?;
            chunk.data(&mut self.page, rows)?;
        } else {
            let mut pages = PlainPages { chunk: &mut chunk, page: &mut self.page, values: 0 };
            repeats.each(texts.indexes(), |index| {
                pages.put(|page| page.extend_from_slice(texts.encoded(*index)))
            })?;
            pages.end()?;
        }
        chunk.end(of.description, of.codec, statistics, Some(text_bytes))
    }

    /// Encodes strings that hardly repeat.
    fn unique(
        &mut self,
        of: ChunkColumn,
        group: &[Batch],
        sink: Vec<u8>,
    ) -> io::Result<(Vec<u8>, ColumnChunkMetaData)> {
        let mut chunk = ChunkWriter::new(sink, &mut self.packer);
        let mut pages = PlainPages { chunk: &mut chunk, page: &mut self.page, values: 0 };
        let (mut bounds, mut text_bytes, mut json) = (TextBounds::default(), 0, Vec::new());
        let mut put = |text: &[u8]| {
            bounds.add(text);
            text_bytes += text.len();
            pages.put(|page| {
                page.extend_from_slice(&(text.len() as u32).to_le_bytes());
                page.extend_from_slice(text);
            })
        };
        for batch in group {
            match batch {
                Batch::Orders(batch) => {
                    for (order, items) in batch.orders_with_items() {
                        if of.column == Column::OrderId {
                            put(batch.text(order.order_id).as_bytes())?;
                            continue;
                        }
                        json.clear();
                        write_items(batch, order, items, &mut json);
                        put(&json)?;
                    }
                }
                Batch::Rows(batch) => {
                    for row in &batch.rows {
                        let span = if of.column == Column::EventId { row.event_id } else { row.json };
                        put(batch.texts.get(span).as_bytes())?;
                    }
                }
            }
        }
        pages.end()?;
        let statistics = text_statistics(bounds.least.as_deref(), bounds.greatest.as_deref());
        chunk.end(of.description, of.codec, statistics, Some(text_bytes))
    }
}

/// Adds the rows of a batch of orders, or of their items.
fn add_order_texts(
    column: Column,
    (rows, tenant): (ExportRows, &str),
    batch: &OrderBatch,
    texts: &mut TextDictionary,
) {
    let text = |span| batch.text(span);
    let which = match column {
        Column::CustomerName | Column::Category => 1,
        Column::CustomerEmail => 2,
        _ => 0,
    };
    if matches!(column, Column::ProductId | Column::Category) {
        texts.begin_batch(batch.products.len());
        for item in &batch.items {
            let product = || text(batch.products[item.product as usize][which]);
            let index = texts.at_place(item.product, product);
            texts.append(index, 1);
        }
        return;
    }
    let mut of_tenant = None;
    // Statuses have places too: their codes.
    let places = if column == Column::Status { OrderStatus::ALL.len() + 1 } else { batch.customers.len() };
    texts.begin_batch(places);
    let mut last: Option<(Currency, u32)> = None;
    for (order, items) in batch.orders_with_items() {
        let count = rows_of(rows, items);
        if count == 0 {
            continue;
        }
        let index = match column {
            Column::OrderId => texts.add(text(order.order_id)),
            Column::CustomerId | Column::CustomerName | Column::CustomerEmail => {
                let customer = || text(batch.customers[order.customer as usize][which]);
                texts.at_place(order.customer, customer)
            }
            Column::Status => texts.at_place(order.status.code().into(), || order.status.as_str()),
            Column::Currency => match last {
                Some((currency, index)) if currency == order.currency => index,
                _ => {
                    let index = texts.index(order.currency.as_str());
                    last = Some((order.currency, index));
                    index
                }
            },
            _ => *of_tenant.get_or_insert_with(|| texts.index(tenant)),
        };
        texts.append(index, count);
    }
}

/// Returns the number of an order's rows.
fn rows_of(rows: ExportRows, items: &[BatchItem]) -> usize {
    if rows == ExportRows::Items { items.len() } else { 1 }
}

/// Returns how often each value of a column repeats.
fn repeats(column: Column, rows: ExportRows, order_rows: &[u32]) -> Repeats<'_> {
    let are_of_orders = rows == ExportRows::Items && !column.is_of_item();
    if are_of_orders { Repeats::Times(order_rows) } else { Repeats::Once }
}

/// Collects one number for each order that has rows, or for each item or copied row.
struct Rows<'g, N> {
    rows: ExportRows,
    group: &'g [Batch],
    values: &'g mut Vec<N>,
}

impl<N: Copy> Rows<'_, N> {
    fn of_orders(self, number: impl Fn(&BatchOrder) -> N) {
        for batch in self.group {
            let Batch::Orders(batch) = batch else { continue };
            let orders = batch.orders_with_items().filter(|(_, items)| rows_of(self.rows, items) > 0);
            self.values.extend(orders.map(|(order, _)| number(order)));
        }
    }

    fn of_items(self, number: impl Fn(&BatchOrder, &BatchItem) -> N) {
        for batch in self.group {
            let Batch::Orders(batch) = batch else { continue };
            for (order, items) in batch.orders_with_items() {
                self.values.extend(items.iter().map(|item| number(order, item)));
            }
        }
    }

    fn of_copied(self, number: impl Fn(&CopiedRow) -> N) {
        for batch in self.group {
            let Batch::Rows(batch) = batch else { continue };
            self.values.extend(batch.rows.iter().map(&number));
        }
    }
}

fn collect_counts(column: Column, rows: ExportRows, group: &[Batch], values: &mut Vec<i64>) {
    values.clear();
    let all = Rows { rows, group, values };
    match (column, rows.are_of_orders()) {
        (Column::Units, _) => all.of_orders(|order| order.units),
        (Column::ItemCount, _) => all.of_orders(|order| order.item_count),
        (Column::OrderedAt, _) => all.of_orders(|order| order.ordered_at_us),
        (Column::ReceivedAt, true) => all.of_orders(|order| order.received_us),
        (Column::Line, _) => all.of_items(|_, item| i64::from(item.line)),
        (Column::Quantity, _) => all.of_items(|_, item| item.quantity),
        (Column::UserId, _) => all.of_copied(|row| row.user_id),
        (Column::Timestamp, _) => all.of_copied(|row| row.timestamp_us),
        _ => all.of_copied(|row| row.received_us),
    }
}

/// Returns the ten-thousandths of a currency's minor unit.
fn unit_of(currency: Currency) -> i128 {
    const UNITS: [i128; SCALE as usize + 1] = [10_000, 1_000, 100, 10, 1];
    UNITS[usize::from(currency.digits())]
}

/// Returns the ten-thousandths of the minor unit if it is the same for all orders.
fn common_unit(group: &[Batch]) -> Option<i128> {
    let mut orders = group.iter().flat_map(|batch| match batch {
        Batch::Orders(batch) => batch.orders.as_slice(),
        Batch::Rows(_) => &[],
    });
    let unit = unit_of(orders.next()?.currency);
    orders.all(|order| unit_of(order.currency) == unit).then_some(unit)
}

/// Collects the numbers of amounts in minor units.
fn collect_minor<N: Copy>(
    column: Column,
    rows: ExportRows,
    group: &[Batch],
    values: &mut Vec<N>,
    number: impl Fn(i64, Currency) -> N,
) {
    values.clear();
    let all = Rows { rows, group, values };
    match column {
        Column::Total => all.of_orders(|order| number(order.total, order.currency)),
        Column::UnitPrice => all.of_items(|order, item| number(item.unit_price, order.currency)),
        _ => {
            all.of_items(|order, item| number(item.quantity.saturating_mul(item.unit_price), order.currency));
        }
    }
}

/// Writes numbers of `bytes` bytes, with the dictionary if that is smaller. Returns their bounds.
fn write_numbers<'p, N: Number>(
    (mut chunk, page): (ChunkWriter<'p>, &mut Vec<u8>),
    values: &[N],
    repeats: Repeats<'_>,
    dictionary: &mut NumberDictionary<N>,
    bytes: usize,
    write: impl Fn(N, &mut Vec<u8>),
) -> io::Result<(ChunkWriter<'p>, (N, N))> {
    let first = values.first().copied().unwrap_or_default();
    let wider = |(least, greatest): (N, N), value: &N| (least.min(*value), greatest.max(*value));
    let bounds = values.iter().fold((first, first), wider);
    dictionary.fill(values, bounds);
    if dictionary.is_smaller(repeats, bytes) {
        let (entries, indexes) = (dictionary.entries(), dictionary.indexes());
        entries.iter().for_each(|value| write(*value, page));
        chunk.dictionary(page, entries.len())?;
        repeats.write(indexes, entries.len(), page);
        chunk.data(page, repeats.rows(indexes))?;
    } else {
        let mut pages = PlainPages { chunk: &mut chunk, page, values: 0 };
        repeats.each(values, |value| pages.put(|page| write(*value, page)))?;
        pages.end()?;
    }
    Ok((chunk, bounds))
}

/// Pages of values without a dictionary.
struct PlainPages<'w, 'p> {
    chunk: &'w mut ChunkWriter<'p>,
    page: &'w mut Vec<u8>,
    values: usize,
}

impl PlainPages<'_, '_> {
    fn put(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        write(self.page);
        self.values += 1;
        if self.page.len() >= PAGE_BYTES { self.end() } else { Ok(()) }
    }

    fn end(&mut self) -> io::Result<()> {
        if self.values == 0 {
            return Ok(());
        }
        self.chunk.data(self.page, std::mem::take(&mut self.values))
    }
}

/// The least and the greatest of strings that are in no dictionary.
#[derive(Default)]
struct TextBounds {
    low: u64,
    high: u64,
    least: Option<Vec<u8>>,
    greatest: Option<Vec<u8>>,
}

impl TextBounds {
    fn add(&mut self, text: &[u8]) {
        let head = head(text);
        if head <= self.low && self.least.as_deref().is_none_or(|least| text < least) || self.least.is_none()
        {
            (self.low, self.least) = (head, Some(text.to_vec()));
        }
        if head >= self.high && self.greatest.as_deref().is_none_or(|greatest| text > greatest) {
            (self.high, self.greatest) = (head, Some(text.to_vec()));
        }
    }
}

/// Returns statistics of a column that is never null.
fn statistics<T>(least: T, greatest: T) -> ValueStatistics<T> {
    ValueStatistics::new(Some(least), Some(greatest), None, Some(0), false)
}

/// Returns statistics of strings. Long bounds are shortened: the lower one to a prefix, the upper one to the next
/// string after all those with its prefix.
fn text_statistics(least: Option<&[u8]>, greatest: Option<&[u8]>) -> Statistics {
    let bytes = |text: Vec<u8>| ByteArray::from(text);
    let prefix = |text: &[u8]| {
        let text = str::from_utf8(text).ok()?;
        (0..=BOUND_BYTES).rfind(|end| text.is_char_boundary(*end)).map(|end| text[..end].to_owned())
    };
    let short = |text: &&[u8]| text.len() <= BOUND_BYTES;
    let low = least.filter(|least| !short(least)).and_then(prefix);
    let high =
        greatest.filter(|greatest| !short(greatest)).and_then(prefix).and_then(|text| next_text(&text));
    let (is_low_exact, is_high_exact) = (low.is_none(), high.is_none());
    let low = low.map(String::into_bytes).or_else(|| least.map(<[u8]>::to_vec));
    let high = high.map(String::into_bytes).or_else(|| greatest.map(<[u8]>::to_vec));
    let (is_low_exact, is_high_exact) = (is_low_exact && low.is_some(), is_high_exact && high.is_some());
    let statistics = ValueStatistics::new(low.map(bytes), high.map(bytes), None, Some(0), false);
    Statistics::ByteArray(statistics.with_min_is_exact(is_low_exact).with_max_is_exact(is_high_exact))
}

/// Returns a string after all those that begin with this one, if there is one: the last character that has a next one
/// is replaced by it, and the rest is left out.
fn next_text(text: &str) -> Option<String> {
    text.char_indices().rev().find_map(|(at, last)| {
        let next = (last as u32 + 1..=char::MAX as u32).find_map(char::from_u32)?;
        Some([&text[..at], next.encode_utf8(&mut [0; 4])].concat())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_bounds_are_shortened_and_still_hold() {
        let of = |texts: &[&str]| {
            let mut bounds = TextBounds::default();
            texts.iter().for_each(|text| bounds.add(text.as_bytes()));
            match text_statistics(bounds.least.as_deref(), bounds.greatest.as_deref()) {
                Statistics::ByteArray(found) => found,
                found => panic!("{found:?}"),
            }
        };
        let short = of(&["b", "", "aaaaaaaaaa", "aaaaaaaab"]);
        assert_eq!((short.min_bytes_opt(), short.max_bytes_opt()), (Some(&b""[..]), Some(&b"b"[..])));
        assert!(short.min_is_exact() && short.max_is_exact() && short.null_count_opt() == Some(0));
        for last in ["z", "\u{e9}", "\u{d7ff}", "\u{10ffff}"] {
            let text = format!("{}{}", "k".repeat(62), last.repeat(9));
            let long = of(&[&text]);
            let (low, high) = (long.min_bytes_opt().unwrap(), long.max_bytes_opt().unwrap());
            assert!(low < text.as_bytes() && high > text.as_bytes(), "{last}");
            assert!(low.len() <= BOUND_BYTES && high.len() <= BOUND_BYTES + 1, "{last}");
            assert!(str::from_utf8(low).is_ok() && str::from_utf8(high).is_ok(), "{last}");
            assert!(!long.min_is_exact() && !long.max_is_exact(), "{last}");
        }
        // There is no string after this one.
        let last = "\u{10ffff}".repeat(30);
        let found = of(&[&last]);
        assert_eq!((found.max_bytes_opt(), found.max_is_exact()), (Some(last.as_bytes()), true));
        assert_eq!(of(&[]).min_bytes_opt(), None);
    }
}
