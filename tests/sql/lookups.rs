//! Many ids at once cost a number of statements that does not depend on the ids.

use serde_json::{Value, json};

use super::{filled, piped};
use crate::support::{Chance, Folder, command};

/// The work of a statement in the shards.
#[derive(Debug)]
struct Stats {
    statements: u64,
    rows: u64,
    copied: u64,
}

/// Returns the first row of a statement, and what it asked for.
#[track_caller]
fn counted(folder: &Folder, sql: &str) -> (Value, Stats) {
    let output = piped(&folder.data(), &["--format", "ndjson"], &format!(".stats on\n{sql};\n"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{sql}: {said}");
    let number = |name: &str| {
        let (_, rest) = said.split_once(name).unwrap_or_else(|| panic!("{said}"));
        let digits = rest.split(|sign: char| !sign.is_ascii_digit()).next().unwrap_or_default();
        digits.parse().expect("a number")
    };
    let (statements, rows, copied) = (number("statements: "), number("rows: "), number("copied views: "));
    let first = output.stdout.split(|byte| *byte == b'\n').next().unwrap_or_default();
    (serde_json::from_slice(first).expect("an object"), Stats { statements, rows, copied })
}

/// The preset `small`: 50,000 orders with 149,574 items, in open partitions of two shards.
fn small() -> Folder {
    let folder = Folder::new();
    let output = command()
        .args(["gen-dataset", "--preset", "small", "--shards", "2", "--load"])
        .arg(folder.data())
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{output:?}");
    folder
}

#[test]
fn ten_thousand_ids_take_as_many_statements_as_a_few() {
    let folder = small();
    let ids = "SELECT order_id FROM orders WHERE tenant_id = 'tenant_1' LIMIT 10000";
    for (sql, rows) in [
        ("SELECT count(*) AS n FROM orders WHERE tenant_id = 'tenant_1' AND order_id IN (IDS)", 10_000),
        ("SELECT count(*) AS n FROM orders WHERE order_id IN (IDS)", 10_000),
        (
            "SELECT count(*) AS n FROM orders WHERE tenant_id IN ('tenant_1', 'tenant_2') AND order_id IN (IDS)",
            10_000,
        ),
        (
            "SELECT count(DISTINCT order_id) AS n FROM order_items WHERE tenant_id = 'tenant_1' AND order_id IN (IDS)",
            30_000,
        ),
        ("SELECT count(DISTINCT order_id) AS n FROM order_items WHERE order_id IN (IDS)", 30_000),
    ] {
        let (found, stats) = counted(&folder, &sql.replace("IDS", ids));
        assert_eq!(found, json!({"n": 10_000}), "{sql}");
        // The list itself is another 10,000 rows. An order has three items on average.
        let is_few = stats.statements < 100 && stats.rows <= 10_000 + rows * 11 / 10 && stats.copied == 0;
        assert!(is_few, "{sql}: {stats:?}");
    }
    let customers = "SELECT customer_id FROM customers WHERE tenant_id = 'tenant_1'";
    for (view, id) in [("orders", "customer_id"), ("customers", "customer_id")] {
        let sql = format!(
            "SELECT count(DISTINCT {id}) > 4000 AS many FROM {view} WHERE tenant_id = 'tenant_1' AND {id} IN ({customers})"
        );
        let (found, stats) = counted(&folder, &sql);
        assert_eq!(found, json!({"many": 1}), "{sql}");
        assert!(stats.statements < 100, "{sql}: {stats:?}");
    }
    let sql = "SELECT count(*) AS n FROM products WHERE tenant_id = 'tenant_1' AND product_id IN (SELECT product_id FROM products)";
    let (_, stats) = counted(&folder, sql);
    assert!(stats.statements < 100, "{sql}: {stats:?}");
}

#[test]
fn a_join_without_an_index_reads_the_view_once() {
    let folder = small();
    let join = "SELECT count(*) AS n FROM (SELECT order_id FROM orders WHERE tenant_id = 'tenant_1' LIMIT 5000) o \
                JOIN order_items i ON i.order_id = o.order_id";
    let (found, stats) = counted(&folder, join);
    assert!(found["n"].as_u64() > Some(5_000), "{found}");
    // SQLite or the view itself makes an index of it.
    assert!(stats.copied <= 1 && stats.statements < 1_000 && stats.rows < 400_000, "{stats:?}");
    let join = "SELECT count(*) AS n FROM orders o JOIN order_items i ON i.tenant_id = o.tenant_id AND i.order_id = o.order_id";
    let (found, stats) = counted(&folder, join);
    assert_eq!(found, json!({"n": 149_574}));
    assert!(stats.copied == 1 && stats.statements < 50_000, "{stats:?}");
    // A search by row id is as fast as one in a copy.
    let join =
        "SELECT count(*) AS n FROM orders o JOIN order_items i ON i.shard = o.shard AND i.order_row = o.id";
    let (found, stats) = counted(&folder, join);
    assert_eq!((found, stats.copied), (json!({"n": 149_574}), 0));
}

#[test]
fn many_event_ids_and_ids_in_payloads_are_found_in_batches() {
    let (folder, mut chance) = (Folder::new(), Chance::new());
    filled(&folder, &mut chance, 3).stop();
    let few = "SELECT count(*) > 0 AS some FROM service_events WHERE tenant_id = 'acme' AND event_id IN \
               (SELECT event_id FROM service_events WHERE tenant_id = 'acme' LIMIT 3)";
    let (found, with_few) = counted(&folder, few);
    assert_eq!(found, json!({"some": 1}));
    let (_, with_all) = counted(&folder, &few.replace(" LIMIT 3", ""));
    // Statements for the partitions that have the ids, and not for the ids.
    assert!(with_all.statements <= with_few.statements + 40, "{with_few:?} {with_all:?}");
    let join =
        "SELECT count(*) > 0 AS some FROM service_events e JOIN orders o ON o.items = e.payload ->> '$.n'";
    let (found, stats) = counted(&folder, join);
    assert_eq!(found, json!({"some": 1}));
    assert!(stats.copied == 1 && stats.statements < 5_000, "{stats:?}");
}
