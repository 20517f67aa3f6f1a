//! Files are read back with the Parquet library's own reader.

use bytes::Bytes;
use parquet::basic::{Encoding, PageType};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use proptest::prelude::*;

use super::*;
use crate::base::money::Currency;
use crate::orders::{BatchItem, BatchOrder, OrderBatch, OrderStatus};
use crate::shard::read::{CopiedRow, RowBatch};

/// An order: customer, status, currency, time, and the product, quantity and price of each item.
type Order = (u8, u8, usize, i64, Vec<(u8, i64, i64)>);

fn order(currencies: usize) -> impl Strategy<Value = Order> {
    let price = prop_oneof![8 => 0..2_000_i64, 1 => Just(i64::MAX), 1 => 1 << 20..1_i64 << 40];
    let items = prop::collection::vec((0..20_u8, 1..9_i64, price), 1..6);
    let time = prop_oneof![3 => 0..90_i64, 1 => any::<i64>()];
    (0..40_u8, 1..7_u8, 0..currencies, time, items)
}

/// Builds batches of at most `size` orders. Names are added in the order of the rows, or otherwise twice and backwards,
/// as steps may read them.
fn batches(orders: &[Order], size: usize, in_order: bool) -> Vec<Batch> {
    let name = |number: u8| match number {
        0 => [String::new(), "\u{10ffff}".repeat(40), "=1".to_owned()],
        number => [
            format!("c{}", number % 9),
            format!("Name {number} {}", "\u{e9}".repeat(40)),
            format!("{number}@example.org"),
        ],
    };
    let product = |number: u8| [format!("p{number}"), format!("category {}", number % 4)];
    let mut first = 0;
    let of = |orders: &[Order]| {
        let mut batch = OrderBatch::default();
        let numbers: Vec<u8> =
            if in_order { (0..40).collect() } else { (0..40).rev().chain((0..40).rev()).collect() };
        for number in &numbers {
            batch.customers.push(name(*number).map(|text| batch.texts.keep(&text)));
            batch.products.push(product(*number).map(|text| batch.texts.keep(&text)));
        }
        let place = |number: u8, at: usize| {
            let mut places = (0_u32..).zip(&numbers).filter(|(_, known)| **known == number);
            places.nth(if in_order { 0 } else { at % 2 }).unwrap().0
        };
        for (at, (customer, status, currency, ordered_at_us, items)) in orders.iter().enumerate() {
            first += 1;
            for (line, (product, quantity, unit_price)) in (1..).zip(items) {
                let product = place(*product, at);
                batch.items.push(BatchItem { line, product, quantity: *quantity, unit_price: *unit_price });
            }
            batch.orders.push(BatchOrder {
                order_id: batch.texts.keep(&format!("order {first}")),
                customer: place(*customer, at),
                status: OrderStatus::from_code(*status).unwrap(),
                currency: Currency::parse(["USD", "EUR", "JPY", "KWD"][*currency]).unwrap(),
                ordered_at_us: *ordered_at_us,
                received_us: 7,
                total: items.iter().map(|item| item.2).fold(0, i64::wrapping_add),
                units: items.iter().map(|item| item.1).sum(),
                item_count: items.len() as i64,
                items_end: batch.items.len() as u32,
            });
        }
        Batch::Orders(batch)
    };
    orders.chunks(size).map(of).collect()
}

/// Encodes a file, as an export does.
fn file(rows: ExportRows, columns: &[Column], compression: Compression, batches: Vec<Batch>) -> Vec<u8> {
    let mut encoder = ParquetEncoder::new("acme", rows, columns, compression).unwrap();
    let (mut file, mut beside) = (Vec::new(), Vec::new());
    ParquetEncoder::head(&mut file);
    let mut end_group = |encoder: &mut ParquetEncoder, file: &mut Vec<u8>| {
        while encoder.next_column().unwrap() {}
        let offset = file.len() as u64;
        beside.extend(encoder.end_group(offset, file).unwrap().1);
    };
    for mut batch in batches {
        if encoder.encode(&mut batch) {
            end_group(&mut encoder, &mut file);
        }
    }
    if encoder.has_rows() {
        end_group(&mut encoder, &mut file);
    }
    file.extend(encoder.end(&beside).unwrap());
    file
}

/// A value of any type, which sorts as the type does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Text(Vec<u8>),
    Number(i128),
}

fn value(field: &Field) -> Value {
    match field {
        Field::Str(text) => Value::Text(text.as_bytes().to_vec()),
        Field::Long(number) | Field::TimestampMicros(number) => Value::Number((*number).into()),
        Field::Decimal(decimal) => Value::Number(i128::from_be_bytes(decimal.data().try_into().unwrap())),
        other => panic!("{other:?}"),
    }
}

fn bound(column: Column, bytes: &[u8]) -> Value {
    match column.kind() {
        Kind::Text | Kind::Json => Value::Text(bytes.to_vec()),
        Kind::Count | Kind::Time => Value::Number(i64::from_le_bytes(bytes.try_into().unwrap()).into()),
        Kind::Money => Value::Number(i128::from_be_bytes(bytes.try_into().unwrap())),
    }
}

/// Returns the rows of a file. Checks the statistics of each column of each group, and the encodings it lists.
fn read(file: Vec<u8>, columns: &[Column]) -> Vec<Vec<Value>> {
    let reader = SerializedFileReader::new(Bytes::from(file)).unwrap();
    let mut rows = Vec::new();
    for at in 0..reader.num_row_groups() {
        let group = reader.get_row_group(at).unwrap();
        let of_group = group.get_row_iter(None).unwrap();
        let of_group: Vec<Vec<Value>> = of_group
            .map(|row| row.unwrap().get_column_iter().map(|(_, field)| value(field)).collect())
            .collect();
        assert_eq!(group.metadata().num_rows(), of_group.len() as i64);
        for (place, column) in columns.iter().enumerate() {
            let chunk = group.metadata().column(place);
            let statistics = chunk.statistics().unwrap();
            assert_eq!((chunk.num_values(), statistics.null_count_opt()), (of_group.len() as i64, Some(0)));
            let values = || of_group.iter().map(|row| &row[place]);
            let (least, greatest) = (values().min().unwrap(), values().max().unwrap());
            let low = bound(*column, statistics.min_bytes_opt().unwrap());
            let high = bound(*column, statistics.max_bytes_opt().unwrap());
            assert!(low <= *least && high >= *greatest, "{column:?}: {low:?} {high:?}");
            assert_eq!(
                (low == *least, high == *greatest),
                (statistics.min_is_exact(), statistics.max_is_exact())
            );
            let pages: Vec<_> = group.get_column_page_reader(place).unwrap().map(Result::unwrap).collect();
            let has_dictionary = pages[0].page_type() == PageType::DICTIONARY_PAGE;
            assert_eq!(chunk.dictionary_page_offset().is_some(), has_dictionary);
            assert_eq!(
                chunk.encodings().any(|encoding| encoding == Encoding::RLE_DICTIONARY),
                has_dictionary
            );
            for page in &pages[usize::from(has_dictionary)..] {
                assert_eq!(page.encoding() == Encoding::RLE_DICTIONARY, has_dictionary);
            }
        }
        rows.extend(of_group);
    }
    rows
}

/// Returns the values that the rows of these batches have.
fn expected(rows: ExportRows, columns: &[Column], batches: &[Batch]) -> Vec<Vec<Value>> {
    let mut found = Vec::new();
    for batch in batches {
        let Batch::Orders(batch) = batch else { panic!("no orders") };
        for (order, items) in batch.orders_with_items() {
            let of_row = |item: Option<&BatchItem>| {
                columns.iter().map(|column| of_order(*column, batch, order, item, items)).collect::<Vec<_>>()
            };
            match rows {
                ExportRows::Items => found.extend(items.iter().map(|item| of_row(Some(item)))),
                _ => found.push(of_row(None)),
            }
        }
    }
    found
}

fn of_order(
    column: Column,
    batch: &OrderBatch,
    order: &BatchOrder,
    item: Option<&BatchItem>,
    items: &[BatchItem],
) -> Value {
    let text = |text: &str| Value::Text(text.as_bytes().to_vec());
    let customer = |which: usize| text(batch.text(batch.customers[order.customer as usize][which]));
    let product = |which: usize| text(batch.text(batch.products[item.unwrap().product as usize][which]));
    let number = |number: i64| Value::Number(number.into());
    let money =
        |minor: i64| Value::Number(i128::from(minor) * 10_i128.pow(4 - u32::from(order.currency.digits())));
    match column {
        Column::OrderId => text(batch.text(order.order_id)),
        Column::CustomerId => customer(0),
        Column::CustomerName => customer(1),
        Column::CustomerEmail => customer(2),
        Column::Status => text(order.status.as_str()),
        Column::Currency => text(order.currency.as_str()),
        Column::OrderedAt => number(order.ordered_at_us),
        Column::ReceivedAt => number(order.received_us),
        Column::Total => money(order.total),
        Column::Units => number(order.units),
        Column::ItemCount => number(order.item_count),
        Column::Items => {
            let mut json = Vec::new();
            crate::exports::text::write_items(batch, order, items, &mut json);
            Value::Text(json)
        }
        Column::Line => number(item.unwrap().line.into()),
        Column::ProductId => product(0),
        Column::Category => product(1),
        Column::Quantity => number(item.unwrap().quantity),
        Column::UnitPrice => money(item.unwrap().unit_price),
        Column::Amount => money(item.unwrap().quantity.saturating_mul(item.unwrap().unit_price)),
        _ => text("acme"),
    }
}

const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Zstd];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn x1_a_file_has_the_rows_and_their_bounds_and_depends_on_nothing_else(
        orders in prop_oneof![
            prop::collection::vec(order(1), 1..400),
            prop::collection::vec(order(4), 1..60),
            prop::collection::vec(order(2), 1_500..1_600),
        ],
        size in 1..700_usize,
        compression in (0..COMPRESSIONS.len()).prop_map(|at| COMPRESSIONS[at]),
    ) {
        for rows in [ExportRows::Items, ExportRows::Orders] {
            let columns: Vec<Column> = Column::of(&[rows]).collect();
            let made = file(rows, &columns, compression, batches(&orders, size, true));
            let found = read(made.clone(), &columns);
            prop_assert!(found == expected(rows, &columns, &batches(&orders, size, true)));
            // The order in which steps read names changes nothing.
            prop_assert!(made == file(rows, &columns, compression, batches(&orders, size, false)));
        }
    }
}

#[test]
fn copied_rows_are_read_back_with_pages_of_a_megabyte() {
    let mut batch = RowBatch::default();
    for number in 0..1_400_i64 {
        let json = format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(2_000));
        batch.rows.push(CopiedRow {
            user_id: number % 5 - 2,
            timestamp_us: -number,
            received_us: 9,
            event_id: batch.texts.keep(&format!("e{number}")),
            source: batch.texts.keep(["web", "app"][number as usize % 2]),
            event_type: batch.texts.keep(""),
            json: batch.texts.keep(&json),
        });
    }
    for (rows, at) in [(ExportRows::Events, 5), (ExportRows::Clicks, 2)] {
        let columns: Vec<Column> = Column::of(&[rows]).collect();
        for compression in COMPRESSIONS {
            let made = file(
                rows,
                &columns,
                compression,
                vec![Batch::Rows(batch.clone()), Batch::Rows(batch.clone())],
            );
            let reader = SerializedFileReader::new(Bytes::from(made.clone())).unwrap();
            assert_eq!(reader.num_row_groups(), 1);
            let pages = reader.get_row_group(0).unwrap().get_column_page_reader(at).unwrap().count();
            assert_eq!(pages, 6, "{rows:?}");
            let found = read(made, &columns);
            assert_eq!(found.len(), 2_800);
            let row = &batch.rows[1];
            let text = |span| Value::Text(batch.texts.get(span).as_bytes().to_vec());
            let expected = match rows {
                ExportRows::Events => vec![
                    text(row.event_id),
                    Value::Text(b"acme".to_vec()),
                    text(row.source),
                    text(row.event_type),
                    Value::Number(-1),
                    text(row.json),
                    Value::Number(9),
                ],
                _ => vec![Value::Number(-1), Value::Number(-1), text(row.json), Value::Number(9)],
            };
            assert_eq!((&found[1], &found[1_401]), (&expected, &expected));
        }
    }
}
