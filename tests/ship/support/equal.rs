//! The rows of shards and of the target, compared one by one.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::postgres::Postgres;
use crate::support::{Folder, wait_until};

/// A table: the same rows from a shard and from the target, each as a JSON array.
struct Pair {
    table: &'static str,
    shard: &'static str,
    target: &'static str,
}

/// A time as the shards' views write it.
macro_rules! time {
    ($column:literal) => {
        concat!("to_char(", $column, " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
    };
}

const PAIRS: &[Pair] = &[
    Pair {
        table: "clicks",
        shard: "SELECT json_array(id, user_id, timestamp, created_at, metadata) FROM events",
        target: concat!(
            "SELECT json_build_array(id, user_id, ",
            time!("occurred_at"),
            ", ",
            time!("received_at"),
            ", coalesce(metadata::text, metadata_raw)) FROM fh.clicks"
        ),
    },
    Pair {
        table: "events",
        shard: "SELECT json_array(id, tenant_id, event_id, source, event_type, timestamp, created_at, payload) \
                FROM service_events",
        target: concat!(
            "SELECT json_build_array(id, tenant_id, event_id, source, event_type, ",
            time!("occurred_at"),
            ", ",
            time!("received_at"),
            ", coalesce(payload::text, payload_raw)) FROM fh.events"
        ),
    },
    Pair {
        table: "orders",
        shard: "SELECT json_array(id, tenant_id, order_id, customer_id, customer_name, customer_email, status, \
                currency, total, ordered_at, received_at) FROM orders",
        target: concat!(
            "SELECT json_build_array(id, tenant_id, order_id, customer_id, customer_name, customer_email, status, \
             currency, total, ",
            time!("ordered_at"),
            ", ",
            time!("received_at"),
            ") FROM fh.orders"
        ),
    },
    Pair {
        table: "order_items",
        shard: "SELECT json_array(tenant_id, order_id, line, product_id, category, quantity, unit_price) \
                FROM order_items",
        target: "SELECT json_build_array(tenant_id, order_id, line, product_id, category, quantity, unit_price) \
                 FROM fh.order_items",
    },
    Pair {
        table: "stock_events",
        shard: "SELECT json_array(tenant_id, product_id, event_id, kind, number, occurred_at, version, mode, stock) \
                FROM stock_events",
        target: concat!(
            "SELECT json_build_array(tenant_id, product_id, event_id, kind, number, ",
            time!("occurred_at"),
            ", version, mode, stock) FROM fh.stock_events"
        ),
    },
    Pair {
        table: "stock",
        shard: "SELECT json_array(tenant_id, product_id, quantity, version) FROM stock WHERE version > 0",
        target: "SELECT json_build_array(tenant_id, product_id, quantity, version) FROM fh.stock",
    },
    Pair {
        table: "price_history",
        shard: "SELECT json_array(p.tenant_id, p.product_id, p.event_id, p.price, p.currency, p.observed_at, \
                coalesce((SELECT a.status = 'approved' FROM price_anomalies a WHERE a.tenant_id = p.tenant_id \
                AND a.product_id = p.product_id AND a.event_id = p.event_id), 1)) FROM price_history p",
        target: concat!(
            "SELECT json_build_array(tenant_id, product_id, event_id, price, currency, ",
            time!("observed_at"),
            ", is_accepted::int) FROM fh.price_history"
        ),
    },
    Pair {
        table: "price_anomalies",
        shard: "SELECT json_array(tenant_id, product_id, event_id, price, currency, baseline, status, \
                reviewed_at) FROM price_anomalies",
        target: concat!(
            "SELECT json_build_array(tenant_id, product_id, event_id, price, currency, baseline, status, ",
            time!("reviewed_at"),
            ") FROM fh.price_anomalies"
        ),
    },
];

/// Returns a row whose JSON texts are values, so that spaces and the order of keys do not count.
fn parsed(row: &str) -> String {
    let mut row: Value = serde_json::from_str(row).unwrap_or_else(|error| panic!("{error} in {row}"));
    for column in row.as_array_mut().expect("an array") {
        let inner = column.as_str().filter(|text| text.starts_with(['{', '[']));
        if let Some(inner) = inner.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
            *column = inner;
        }
    }
    row.to_string()
}

fn of_shards(folder: &Folder, sql: &str) -> Vec<String> {
    let mut rows = Vec::new();
    for entry in fs::read_dir(folder.data()).expect("the data folder is there") {
        let database = entry.expect("an entry").path().join("shard.db");
        if database.exists() {
            rows.extend(of_shard(&database, sql));
        }
    }
    rows
}

fn of_shard(database: &Path, sql: &str) -> Vec<String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags).expect("the shard opens");
    let mut statement = connection.prepare(sql).expect("the view is there");
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).expect("the rows are read");
    rows.map(|row| parsed(&row.expect("a row"))).collect()
}

fn of_target(postgres: &Postgres, sql: &str) -> Vec<String> {
    postgres.ask(sql).lines().map(parsed).collect()
}

/// Returns the names of the tables that differ, with examples.
fn differences(folders: &[&Folder], postgres: &Postgres) -> Vec<String> {
    let mut found = Vec::new();
    for pair in PAIRS {
        let mut ours: Vec<String> = folders.iter().flat_map(|folder| of_shards(folder, pair.shard)).collect();
        let mut theirs = of_target(postgres, pair.target);
        ours.sort_unstable();
        theirs.sort_unstable();
        if ours != theirs {
            let missing: Vec<_> =
                ours.iter().filter(|row| theirs.binary_search(row).is_err()).take(3).collect();
            let more: Vec<_> = theirs.iter().filter(|row| ours.binary_search(row).is_err()).take(3).collect();
            found.push(format!(
                "{}: {} rows here, {} in the target; missing {missing:?}, foreign {more:?}",
                pair.table,
                ours.len(),
                theirs.len()
            ));
        }
    }
    found
}

/// Checks that every table of the target has exactly the rows of these folders.
#[track_caller]
pub(crate) fn assert_equal(folders: &[&Folder], postgres: &Postgres) {
    let found = differences(folders, postgres);
    assert!(found.is_empty(), "{}", found.join("\n"));
    for table in ["rejected", "twice"] {
        assert_eq!(postgres.ask(&format!("SELECT count(*) FROM fh.{table}")), "0", "{table}");
    }
}

/// Returns `true` if some table of the target differs.
pub(crate) fn differs(folders: &[&Folder], postgres: &Postgres) -> bool {
    !differences(folders, postgres).is_empty()
}

/// Waits until a query of the target has this answer. The target may be away, or without tables.
#[track_caller]
pub(crate) fn wait_for_answer(postgres: &Postgres, sql: &str, answer: &str) {
    wait_until(&format!("{sql}: {answer}"), || postgres.try_ask(sql).is_some_and(|found| found == answer));
}

/// Returns the number of rows of a table of the target.
pub(crate) fn count(postgres: &Postgres, table: &str) -> u64 {
    postgres
        .try_ask(&format!("SELECT count(*) FROM fh.{table}"))
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}
