//! The Parquet file in other programs: DuckDB and Arrow read the intended types and sums.
//!
//! Both are installed from PyPI into `target/` on first use. Without python3, venv or a network, the test reports
//! this and compares nothing.

use std::process::Command;

use super::*;
use crate::support::{Folder, python, skip};

const PACKAGES: [&str; 2] = ["duckdb==2.0.0", "pyarrow==26.0.1"];

/// Prints, with each of the two programs, the types of the columns, and then the number of rows and the sum of the
/// amounts for each currency.
const PROGRAM: &str = r#"
import sys, duckdb, pyarrow.parquet, pyarrow.compute
path = sys.argv[1]
rows = f"read_parquet('{path}')"
print("duckdb", *(f"{r[0]}:{r[1]}" for r in duckdb.sql(f"DESCRIBE SELECT * FROM {rows}").fetchall()), sep="|")
sums = f"SELECT currency, count(*)::VARCHAR, sum(amount)::VARCHAR, sum(quantity)::VARCHAR, epoch_us(max(ordered_at))::VARCHAR FROM {rows} GROUP BY 1 ORDER BY 1"
for row in duckdb.sql(sums).fetchall():
    print("duckdb", *row, sep="|")
# DuckDB omits row groups by their bounds and dictionaries. The answers are those of its own copy of the rows.
duckdb.sql(f"CREATE TABLE held AS SELECT * FROM {rows}")
for column in duckdb.sql("SELECT * FROM held").columns:
    for value in duckdb.sql(f"SELECT unnest(quantile_disc({column}, [0.0, 0.3, 0.7, 1.0])::VARCHAR[]) FROM held").fetchall():
        for comparison in "<", "=", ">":
            condition = f"{column} {comparison} CAST(? AS {duckdb.sql(f'SELECT typeof(any_value({column})) FROM held').fetchall()[0][0]})"
            of = [duckdb.execute(f"SELECT count(*) FROM {source} WHERE {condition}", value).fetchall() for source in (rows, "held")]
            assert of[0] == of[1], (column, value, comparison, of)
table = pyarrow.parquet.read_table(path)
for group in range(pyarrow.parquet.ParquetFile(path).num_row_groups):
    part = pyarrow.parquet.ParquetFile(path).read_row_group(group)
    for at, column in enumerate(part.column_names):
        bounds = pyarrow.parquet.ParquetFile(path).metadata.row_group(group).column(at).statistics
        values = part[column].to_pylist()
        assert (bounds.null_count, bounds.min, bounds.max) == (0, min(values), max(values)), (column, bounds)
print("arrow", *(f"{f.name}:{f.type}" for f in table.schema), sep="|")
for currency in sorted(set(table["currency"].to_pylist())):
    own = table.filter(pyarrow.compute.equal(table["currency"], currency))
    last = pyarrow.compute.max(own["ordered_at"]).cast("int64").as_py()
    print("arrow", currency, own.num_rows, pyarrow.compute.sum(own["amount"]).as_py(), pyarrow.compute.sum(own["quantity"]).as_py(), last, sep="|")
"#;

#[test]
fn duckdb_and_arrow_read_types_and_sums() {
    let python = match python(&PACKAGES, "import duckdb, pyarrow.parquet") {
        Ok(python) => python,
        Err(reason) => return skip(&format!("DuckDB and Arrow are not to be had: {reason}")),
    };
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2"]);
    let own = orders("t", 900, &mut Chance::seeded(11));
    ingest(&server, &own);
    let mut expected = Vec::new();
    for currency in ["JPY", "KWD", "USD"] {
        let of: Vec<&Order> = own.iter().filter(|order| order.currency == currency).collect();
        let items = || of.iter().flat_map(|order| &order.items);
        let scale = match currency {
            "JPY" => 10_000,
            "KWD" => 10,
            _ => 100,
        };
        let sum = items().map(|item| i128::from(item.quantity * item.price)).sum::<i128>() * scale;
        let last = of.iter().map(|order| order.at_us).max().expect("there are some");
        expected.push(format!(
            "{currency}|{}|{}.{:04}|{}|{last}",
            items().count(),
            sum / 10_000,
            sum % 10_000,
            items().map(|item| item.quantity).sum::<i64>()
        ));
    }
    for compression in ["none", "gzip", "zstd"] {
        let wish = json!({"format": "parquet", "rows": "items", "compression": compression,
            "fields": ["order_id", "currency", "ordered_at", "quantity", "amount"]});
        let file = folder.beside(&format!("{compression}.parquet"));
        std::fs::write(&file, made(&server, "t", &wish)).expect("a file");
        let output = Command::new(&python).args(["-c", PROGRAM]).arg(&file).output().expect("python runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).expect("text");
        let mut lines = said.lines();
        for (who, types) in [
            (
                "duckdb",
                "order_id:VARCHAR|currency:VARCHAR|ordered_at:TIMESTAMP WITH TIME ZONE|quantity:BIGINT|amount:DECIMAL(38,4)",
            ),
            (
                "arrow",
                "order_id:string|currency:string|ordered_at:timestamp[us, tz=UTC]|quantity:int64|amount:decimal128(38, 4)",
            ),
        ] {
            assert_eq!(lines.next(), Some(format!("{who}|{types}").as_str()));
            for sums in &expected {
                assert_eq!(lines.next(), Some(format!("{who}|{sums}").as_str()), "{compression}");
            }
        }
    }
    server.stop();
}

/// Prints, with each of the two programs, the types of the columns, and then the number of rows, the last time, and the
/// sum of a number in the JSON.
const STREAM_PROGRAM: &str = r#"
import sys, json, duckdb, pyarrow.parquet, pyarrow.compute
path, column = sys.argv[1:]
rows = f"read_parquet('{path}')"
print("duckdb", *(f"{r[0]}:{r[1]}" for r in duckdb.sql(f"DESCRIBE SELECT * FROM {rows}").fetchall()), sep="|")
print("duckdb", *duckdb.sql(f"SELECT count(*), epoch_us(max(timestamp)), sum(({column}->>'n')::BIGINT)::BIGINT FROM {rows}").fetchall()[0], sep="|")
table = pyarrow.parquet.read_table(path)
print("arrow", *(f"{f.name}:{f.type}" for f in table.schema), sep="|")
last = pyarrow.compute.max(table["timestamp"]).cast("int64").as_py()
print("arrow", table.num_rows, last, sum(json.loads(text)["n"] for text in table[column].to_pylist()), sep="|")
"#;

#[test]
fn duckdb_and_arrow_read_events_and_clicks() {
    let python = match python(&PACKAGES, "import duckdb, pyarrow.parquet") {
        Ok(python) => python,
        Err(reason) => return skip(&format!("DuckDB and Arrow are not to be had: {reason}")),
    };
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2"]);
    let numbered = |number: u64| format!("{{\"n\":{number}}}");
    streams::send(&server, &(0..2_500).map(|n| streams::event("t", n, &numbered(n))).collect::<Vec<_>>());
    streams::click(&server, 0..1_200, numbered);
    for (tenant, wish, target, columns, count) in [
        ("t", json!({"format": "parquet", "rows": "events"}), "/events?tenant_id=t", "payload", 2_500_u64),
        ("", json!({"format": "parquet", "compression": "zstd"}), "/clicks?", "metadata", 1_200),
    ] {
        let file = folder.beside(&format!("{columns}.parquet"));
        std::fs::write(&file, made(&server, tenant, &wish)).expect("a file");
        let output = Command::new(&python)
            .args(["-c", STREAM_PROGRAM])
            .arg(&file)
            .arg(columns)
            .output()
            .expect("python runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let last =
            server.get(&format!("{target}&order=desc&page_size=1")).json()["events"][0]["timestamp"].clone();
        let last = firehose::event::parse_rfc3339(last.as_str().expect("a time").as_bytes()).expect("a time");
        let sums = format!("{count}|{last}|{}", count * (count - 1) / 2);
        let types = |text: &str, time: &str, integer: &str| match tenant {
            "" => format!("user_id:{integer}|timestamp:{time}|metadata:{text}|received_at:{time}"),
            _ => format!(
                "event_id:{text}|tenant_id:{text}|source:{text}|event_type:{text}|timestamp:{time}|payload:{text}\
                 |received_at:{time}"
            ),
        };
        let expected = format!(
            "duckdb|{}\nduckdb|{sums}\narrow|{}\narrow|{sums}\n",
            types("VARCHAR", "TIMESTAMP WITH TIME ZONE", "BIGINT"),
            types("string", "timestamp[us, tz=UTC]", "int64")
        );
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }
    server.stop();
}
