//! Stock events in order of arrival, in a running server, on a folder of the schema before them. The fixture has a
//! hundred events of three products of two tenants, seven prices, and the answers of the program that made it.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::commerce::verify;
use crate::support::{Client, Folder, Server, rows_of, wait_until};

/// Returns the requests that were applied, by tenant, each with the products of its response.
fn answers() -> Vec<(String, Value, Value)> {
    let fixture: Value =
        serde_json::from_str(include_str!("fixtures/folder-v11-stock/answers.json")).expect("JSON");
    serde_json::from_value(fixture["answers"].clone()).expect("answers")
}

/// Returns the rows of the view `stock_events` as the program before read them.
fn events() -> Vec<Vec<Value>> {
    let fixture: Value =
        serde_json::from_str(include_str!("fixtures/folder-v11-stock/answers.json")).expect("JSON");
    serde_json::from_value(fixture["events"].clone()).expect("events")
}

/// A response waits for its commit, however slow the machine is.
const FLAGS: &[&str] = &["--commit-wait", "60s"];

fn stored(folder: &Folder) -> Vec<Vec<Value>> {
    let sql = "SELECT * FROM stock_events ORDER BY 1, 2, 7, 6, 3";
    rows_of(&folder.data(), sql, |row| {
        let value = |at| {
            Ok(match row.get_ref(at)? {
                rusqlite::types::ValueRef::Integer(number) => json!(number),
                other => json!(other.as_str().map_err(rusqlite::Error::from)?),
            })
        };
        (0..row.as_ref().column_count()).map(value).collect()
    })
}

fn put(client: &mut Client, tenant: &str, body: &Value) -> Value {
    let target = format!("/api/v1/tenants/{tenant}/stock/bulk_update");
    client.ask("PUT", &target, &body.to_string()).expect("an answer").json()
}

/// Sends every request again, and checks that it is known with the result of its first time.
#[track_caller]
fn check(server: &Server) {
    for (tenant, request, mut products) in answers() {
        for product in products.as_array_mut().expect("products") {
            product["result"] = json!("duplicate");
            product.as_object_mut().expect("a product").remove("code");
        }
        assert_eq!(put(&mut server.client(), &tenant, &request)["products"], products, "{request}");
    }
}

fn is_moved(folder: &Folder) -> bool {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'stock_event_v11'";
    let count: i64 = rows_of(&folder.data(), sql, |row| row.get::<_, i64>(0)).into_iter().sum();
    let version: i64 =
        rows_of(&folder.data(), "PRAGMA user_version", |row| row.get::<_, i64>(0)).into_iter().sum();
    count == 0 && version >= 13
}

fn one(event: &str, product: &str) -> Value {
    let update =
        json!({"event_id": event, "product_id": product, "delta": 1, "occurred_at": "2026-05-01T00:00:00Z"});
    json!({"mode": "merge", "updates": [update]})
}

#[track_caller]
fn verify_stock(folder: &Folder) {
    let (code, said) = folder.run_json(&["verify", "--stock"]);
    assert_eq!(code, 0, "{said}");
    verify(folder);
}

#[test]
fn an_earlier_folder_moves_its_stock_events_while_it_is_served() {
    let folder = Folder::of_fixture("folder-v11-stock");
    assert_eq!(stored(&folder), events());
    let mut server = folder.serve(FLAGS);
    check(&server);
    let answer = put(&mut server.client(), "acme", &one("new-1", "tea"));
    assert_eq!(answer["products"][0]["result"], "applied", "{answer}");
    server.replace(|| folder.serve(FLAGS));
    check(&server);
    wait_until("the events are moved", || is_moved(&folder));
    check(&server);
    let again = put(&mut server.client(), "acme", &one("new-1", "tea"));
    assert_eq!(again["products"][0]["result"], "duplicate", "{again}");
    assert_eq!(again["products"][0]["version"], answer["products"][0]["version"]);
    server.stop();
    let mut expected = stored(&folder);
    expected.retain(|row| row[2] != "new-1");
    assert_eq!(expected, events());
    verify_stock(&folder);
    // The row ids of a product rise with its versions.
    let sql = "SELECT count(*) FROM stock_event a JOIN stock_event b ON a.product = b.product \
               AND a.id < b.id AND a.version > b.version";
    assert_eq!(rows_of(&folder.data(), sql, |row| row.get::<_, i64>(0)), [0]);

    // Shards that receive the events answer in the same way.
    let output = folder.run(&["reshard", "--to", "3"]);
    assert!(output.status.success(), "{output:?}");
    let server = folder.serve(FLAGS);
    check(&server);
    server.stop();
    verify_stock(&folder);
    let copy = folder.beside("copy");
    let output = folder.run(&["backup", copy.to_str().expect("a path")]);
    assert!(output.status.success(), "{output:?}");
    let shards = ["shard-00", "shard-01", "shard-02"].map(|shard| copy.join(shard).join("shard.db"));
    let count = |path: &std::path::PathBuf| {
        let shard = Connection::open(path).expect("the copy opens");
        shard
            .query_row("SELECT count(*) FROM stock_events", [], |row| row.get::<_, i64>(0))
            .expect("a number")
    };
    assert_eq!(shards.iter().map(count).sum::<i64>(), events().len() as i64 + 1);
}

/// The conversion is in the state that the migration leaves, with a part of the events moved.
#[test]
fn a_folder_whose_events_are_not_all_moved_is_read_and_resharded() {
    let folder = Folder::of_fixture("folder-v11-stock");
    let server = folder.serve(FLAGS);
    wait_until("the events are moved", || is_moved(&folder));
    server.stop();
    let shard = Connection::open(folder.database(0)).expect("the shard opens");
    // The events of one product go back, as if they were not moved yet, and the ids of the others stay.
    shard
        .execute_batch(
            "CREATE TABLE stock_event_v11 (product INTEGER NOT NULL, event_id TEXT NOT NULL, version INTEGER NOT NULL,
               mode INTEGER NOT NULL, kind TEXT NOT NULL, number INTEGER NOT NULL, stock INTEGER NOT NULL,
               occurred_at_us INTEGER NOT NULL, received_us INTEGER NOT NULL, PRIMARY KEY (product, event_id))
               WITHOUT ROWID;
             INSERT INTO stock_event_v11 SELECT product, event_id, version, mode, kind, number, stock, occurred_at_us,
               received_us FROM stock_event WHERE product = 1;
             DELETE FROM stock_event WHERE product = 1;
             UPDATE stock_level SET event = NULL WHERE id = 1;
             DROP VIEW stock_event_all;
             CREATE VIEW stock_event_all AS SELECT id, product, event_id, version, mode, kind, number, stock,
               occurred_at_us, received_us FROM stock_event UNION ALL SELECT 0, * FROM stock_event_v11;",
        )
        .expect("the events go back");
    drop(shard);
    assert_eq!(stored(&folder), events());
    verify_stock(&folder);
    for (product, tenant) in [("tea", "acme"), ("cup", "acme"), ("tea", "beta")] {
        let sql = format!(
            "SELECT count(*) AS n FROM stock_events WHERE tenant_id = '{tenant}' AND product_id = '{product}'"
        );
        let output = folder.run(&["sql", "--format", "json", "-c", &sql]);
        let expected = events().iter().filter(|row| row[0] == tenant && row[1] == product).count();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(&format!("\"n\":{expected}")), "{product} of {tenant}: {said} {output:?}");
    }
    let output = folder.run(&["reshard", "--to", "2"]);
    assert!(output.status.success(), "{output:?}");
    let server = folder.serve(FLAGS);
    check(&server);
    server.stop();
    verify_stock(&folder);
}
