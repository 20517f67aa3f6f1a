//! The content of the files: the same rows as a search, in every format and with every compression.

use std::collections::BTreeMap;
use std::io::Read as _;

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::RowAccessor as _;
use serde_json::{Value, json};

use super::*;
use crate::support::Folder;
use crate::support::commerce::search_all;

pub(super) fn unpacked(bytes: Vec<u8>, compression: &str) -> Vec<u8> {
    let mut plain = Vec::new();
    match compression {
        "none" => return bytes,
        "gzip" => _ = flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain).expect("gzip"),
        _ => _ = zstd::Decoder::new(&bytes[..]).expect("zstd").read_to_end(&mut plain).expect("zstd"),
    }
    plain
}

/// Rows of text columns, with the text that a line of NDJSON contains.
pub(super) type Rows = Vec<Vec<String>>;

pub(super) fn sorted(mut rows: Rows) -> Rows {
    rows.sort();
    rows
}

const ORDER: [&str; 11] = [
    "order_id",
    "tenant_id",
    "customer_id",
    "customer_name",
    "customer_email",
    "status",
    "currency",
    "ordered_at",
    "total",
    "units",
    "item_count",
];
const ITEM: [&str; 6] = ["line", "product_id", "category", "quantity", "unit_price", "amount"];

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Returns the rows of a search as rows of an export.
fn expected(found: &[Value], orders: &BTreeMap<String, &Order>, of_items: bool) -> Rows {
    let mut rows = Vec::new();
    for row in found {
        let items = row["items"].as_array().expect("items");
        let mut of_order: Vec<String> = ORDER[..10].iter().map(|name| text(&row[*name])).collect();
        of_order.push(items.len().to_string());
        if !of_items {
            rows.push(of_order);
            continue;
        }
        let order = orders[row["order_id"].as_str().expect("an id")];
        for (at, item) in order.items.iter().enumerate() {
            let amount = crate::support::oracle::decimal(item.quantity * item.price, &order.currency);
            let shown = &items[at];
            let mut all = of_order.clone();
            all.push((at + 1).to_string());
            all.extend(ITEM[1..5].iter().map(|name| text(&shown[*name])));
            all.push(amount);
            rows.push(all);
        }
    }
    sorted(rows)
}

pub(super) fn guarded(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if is_formula { format!("'{text}") } else { text.to_owned() }
}

pub(super) fn csv_rows(bytes: &[u8], columns: &[&str]) -> Rows {
    assert!(bytes.ends_with(b"\r\n"));
    let mut reader = csv::Reader::from_reader(bytes);
    assert_eq!(reader.headers().expect("a header"), columns);
    sorted(reader.records().map(|row| row.expect("a row").iter().map(str::to_owned).collect()).collect())
}

fn json_rows(bytes: &[u8], columns: &[&str]) -> Rows {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let row = |line: &[u8]| {
        let value: Value = serde_json::from_slice(line).expect("a line of JSON");
        assert_eq!(value.as_object().expect("an object").len(), columns.len());
        columns.iter().map(|name| text(&value[*name])).collect()
    };
    sorted(lines.map(row).collect())
}

fn parquet_rows(bytes: Vec<u8>, columns: &[&str]) -> (Rows, usize) {
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).expect("a Parquet file");
    let schema = reader.metadata().file_metadata().schema_descr();
    assert_eq!(schema.columns().iter().map(|column| column.name()).collect::<Vec<_>>(), columns);
    for group in reader.metadata().row_groups() {
        assert!(group.columns().iter().all(|column| column.statistics().is_some()), "statistics everywhere");
    }
    let currency = columns.iter().position(|name| *name == "currency").expect("a currency");
    let mut rows = Vec::new();
    for row in reader.get_row_iter(None).expect("rows") {
        let row = row.expect("a row");
        let code = row.get_string(currency).expect("a currency").clone();
        let digits = match code.as_str() {
            "JPY" => 0,
            "KWD" => 3,
            _ => 2,
        };
        let value = |(at, name): (usize, &&str)| match *name {
            "ordered_at" => crate::support::oracle::rfc3339(row.get_timestamp_micros(at).expect("a time")),
            "total" | "unit_price" | "amount" => {
                let decimal = row.get_decimal(at).expect("money");
                assert_eq!((decimal.precision(), decimal.scale()), (38, 4));
                let bytes: [u8; 16] = decimal.data().try_into().expect("16 bytes");
                let minor = i128::from_be_bytes(bytes) / 10_i128.pow(4 - digits);
                crate::support::oracle::decimal(minor as i64, &code)
            }
            "units" | "item_count" | "line" | "quantity" => row.get_long(at).expect("a count").to_string(),
            _ => row.get_string(at).expect("a text").clone(),
        };
        rows.push(columns.iter().enumerate().map(value).collect());
    }
    (sorted(rows), reader.metadata().num_row_groups())
}

#[test]
fn every_format_and_packing_tells_what_a_search_tells() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "3", "--order-partition-rows-max", "400"]);
    let mut chance = Chance::new();
    let mut own = orders("a b", 1_300, &mut chance);
    // The order ids of a tenant are unique.
    own.iter_mut().enumerate().for_each(|(at, order)| order.id = format!("{}{at}", ["", "=", "-"][at % 3]));
    ingest(&server, &own);
    ingest(&server, &orders("other", 700, &mut chance));
    let by_id: BTreeMap<String, &Order> = own.iter().map(|order| (order.id.clone(), order)).collect();
    let one_order = format!("order_id={}", encoded(&own[7].id));
    let cases = [
        (json!({}), ""),
        (
            json!({"from": "2026-02-01T00:00:00Z", "to": "2026-02-20T00:00:00Z"}),
            "from=2026-02-01T00:00:00Z&to=2026-02-20T00:00:00Z",
        ),
        (
            json!({"status": ["paid", "refunded"], "min_total": "5.5", "max_total": 100_000}),
            "status=paid,refunded&min_total=5.5&max_total=100000",
        ),
        (json!({"q": "ann smi*"}), "q=ann+smi*"),
        (json!({"q": "nobody"}), "q=nobody"),
        (json!({"customer_id": "c-7"}), "customer_id=c-7"),
        (json!({"order_id": own[7].id}), &one_order),
        (
            json!({"currency": "KWD", "category": "garden", "min_price": 5, "max_price": "120.5"}),
            "currency=KWD&category=garden&min_price=5&max_price=120.5",
        ),
    ];
    for (number, (filters, query)) in cases.iter().enumerate() {
        let found = search_all(&server, "a b", &format!("limit=500&{query}"));
        assert_eq!(found.is_empty(), query.contains("nobody"), "{query}");
        for (format, compression) in ["csv", "ndjson", "parquet"]
            .iter()
            .flat_map(|format| ["none", "gzip", "zstd"].map(|compression| (*format, compression)))
        {
            // The first filters use every compression, the others one each.
            if number > 0 && compression != ["none", "gzip", "zstd"][number % 3] {
                continue;
            }
            for of_items in [false, true] {
                let columns: Vec<&str> =
                    ORDER.into_iter().chain(if of_items { &ITEM[..] } else { &[] }.iter().copied()).collect();
                let rows_are = if of_items { "items" } else { "orders" };
                let wish = json!({"format": format, "compression": compression, "rows": rows_are,
                    "filters": filters, "fields": columns});
                let export = done(&server, &begin(&server, "a b", &wish));
                let bytes = download(&server, &export);
                let mut expected = expected(&found, &by_id, of_items);
                assert_eq!(export["rows"], expected.len(), "{export}");
                let rows = match format {
                    "csv" => {
                        for cell in expected.iter_mut().flatten() {
                            // Of these columns, only texts begin with such a character.
                            *cell = guarded(cell);
                        }
                        expected.sort();
                        csv_rows(&unpacked(bytes, compression), &columns)
                    }
                    "ndjson" => json_rows(&unpacked(bytes, compression), &columns),
                    _ => parquet_rows(bytes, &columns).0,
                };
                assert!(rows == expected, "{wish}: {} rows, not {}", rows.len(), expected.len());
            }
        }
    }
    // Without `fields`, a line of NDJSON equals a line of a search.
    let lines = made(&server, "a b", &json!({"format": "ndjson"}));
    let mut lines: Vec<&[u8]> = lines.split_inclusive(|byte| *byte == b'\n').collect();
    let search = server.get("/api/v1/tenants/a%20b/orders/search?limit=100000");
    let mut found: Vec<&[u8]> = search.body.split_inclusive(|byte| *byte == b'\n').collect();
    assert!(found.pop().is_some_and(|end| end.starts_with(b"{\"_end\"")));
    lines.sort_unstable();
    found.sort_unstable();
    assert!(lines == found);
    // A filter with a product id that a query string cannot express.
    let wish = json!({"format": "ndjson", "filters": {"product_id": ["p,7", "none"]}});
    let lines = made(&server, "a b", &wish);
    let expected = own.iter().filter(|order| order.items.iter().any(|item| item.product == "p,7")).count();
    assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), expected);
    assert_eq!(
        made(&server, "nobody", &json!({"format": "csv", "fields": ["total", "order_id"]})),
        b"total,order_id\r\n"
    );
    server.stop();
}
