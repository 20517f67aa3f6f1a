//! Sketches of sums that an earlier version stored are read, added to and verified. The fixture has orders of one tenant:
//! 630 of 600 customers on the first day, and 40 of 40 customers on the second. From 512 customers on, a sketch has
//! another form since.

use serde_json::{Value, json};

use crate::support::commerce::{ingested, order, sales, verify};
use crate::support::{Folder, Server};

/// Returns the customers of each day: estimated, and exact.
fn customers(server: &Server) -> [Vec<u64>; 2] {
    ["approx", "exact"].map(|precision| {
        let days = sales(server, "acme", &format!("group_by=day&precision={precision}"))["groups"].take();
        let days = days.as_array().expect("groups").iter();
        days.map(|day| day["unique_customers"].as_u64().expect("a number")).collect()
    })
}

/// Returns the first byte of every sketch of customers, which is its form.
fn forms(folder: &Folder, table: &str) -> Vec<u8> {
    let shard = rusqlite::Connection::open(folder.database(0)).expect("the shard opens");
    let sql = format!("SELECT substr(customers, 1, 1) FROM {table} ORDER BY start_us");
    let mut statement = shard.prepare(&sql).expect("a statement");
    let forms = statement.query_map([], |row| Ok(row.get::<_, Vec<u8>>(0)?[0])).expect("rows");
    forms.map(|form| form.expect("a row")).collect()
}

#[test]
fn sums_of_an_earlier_version_are_read_and_added_to() {
    const TABLES: [&str; 3] = ["sales_day", "sales_hour", "sales_category"];
    let folder = Folder::of_fixture("folder-v8");
    assert_eq!(TABLES.map(|table| forms(&folder, table)), [[1, 1]; 3]);
    let server = folder.serve(&[]);
    assert_eq!(customers(&server), [[600, 40]; 2]);
    let more = |number: usize, at: &str| -> Value {
        let mut order = order(number);
        order["customer_id"] = json!(format!("new-{number}"));
        order["ordered_at"] = json!(at);
        order
    };
    let more = [
        more(5_000, "2026-03-01T12:30:00Z"),
        more(5_001, "2026-03-02T12:30:00Z"),
        more(5_002, "2026-03-02T12:40:00Z"),
    ];
    let body: String = more.iter().map(|order| format!("{order}\n")).collect();
    assert_eq!(ingested(&server, "more", body.as_bytes())["rows_inserted"], 3);
    assert_eq!(customers(&server), [[601, 42]; 2]);
    server.stop();
    assert_eq!(TABLES.map(|table| forms(&folder, table)), [[4, 1]; 3]);
    verify(&folder);
}
