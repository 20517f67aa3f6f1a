//! Prices in order of arrival, in a running server, on a folder of the schema before them. The fixture has 96 price events
//! of three products of two tenants, some of which arrived late, anomalies that are open, approved and rejected, three
//! prices that were loaded as history, and the answers of the program that made it.

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::{Value, json};

use crate::support::commerce::verify;
use crate::support::{Folder, Server, rows_of, wait_until, wait_until_moved};

const ANSWERS: &str = include_str!("fixtures/folder-v14-prices/answers.json");

fn fixture() -> Value {
    serde_json::from_str(ANSWERS).expect("JSON")
}

fn list(name: &str) -> Vec<Vec<Value>> {
    serde_json::from_value(fixture()[name].clone()).expect("a list")
}

fn stored(folder: &Folder, sql: &str) -> Vec<Vec<Value>> {
    rows_of(&folder.data(), sql, |row| {
        let value = |at| {
            Ok(match row.get_ref(at)? {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(number) => json!(number),
                ValueRef::Real(number) => json!(number),
                other => json!(other.as_str().map_err(rusqlite::Error::from)?),
            })
        };
        (0..row.as_ref().column_count()).map(value).collect()
    })
}

const HISTORY: &str = "SELECT * FROM price_history ORDER BY 1, 2, 6, 3";
const ANOMALIES: &str = "SELECT * FROM price_anomalies ORDER BY 1";

/// Returns the status and the body of the response to a price event.
fn post(server: &Server, tenant: &str, product: &str, event: &Value) -> (u16, Value) {
    let target = format!("/api/v1/tenants/{tenant}/products/{product}/price-event");
    let answer = server.client().ask("POST", &target, &event.to_string()).expect("an answer");
    (answer.status, answer.json())
}

fn review(server: &Server, tenant: &str, anomaly: &str, decision: &str) -> u16 {
    let target = format!("/api/v1/tenants/{tenant}/price-anomalies/{anomaly}/review");
    let body = json!({"decision": decision}).to_string();
    server.client().ask("POST", &target, &body).expect("an answer").status
}

/// Sends every event and every decision again, and checks that each is known with its first answer.
#[track_caller]
fn check(server: &Server) {
    for event in list("events") {
        let [tenant, product, body, answer] = event.as_slice() else { panic!("an event of four") };
        let (tenant, product) = (tenant.as_str().expect("text"), product.as_str().expect("text"));
        let (status, again) = post(server, tenant, product, body);
        assert_eq!((status, &again["anomaly"]), (200, &answer["anomaly"]), "{body}: {again}");
        let mut other = body.clone();
        other["price"] = json!("1.00");
        if other["currency"] != "JPY" {
            assert_eq!(post(server, tenant, product, &other).0, 409, "{other}");
        }
    }
    for row in list("reviews") {
        let [tenant, anomaly, decision] =
            row.iter().map(|text| text.as_str().expect("text")).collect::<Vec<_>>()[..]
        else {
            panic!("a review of three")
        };
        assert_eq!(review(server, tenant, anomaly, decision), 200);
        let other = if decision == "approve" { "reject" } else { "approve" };
        assert_eq!(review(server, tenant, anomaly, other), 409);
    }
}

/// Checks that every list is as it was.
#[track_caller]
fn check_lists(server: &Server) {
    for (target, expected) in fixture()["lists"].as_object().expect("lists") {
        let mut found = server.get(target).json();
        if let Some(products) = found["products"].as_array_mut() {
            // It has a price that was loaded as history after the answers were recorded.
            products.retain(|product| product["product_id"] != "old");
        }
        assert_eq!(found["anomalies"], expected["anomalies"], "{target}");
        assert_eq!(found["products"], expected["products"], "{target}");
        assert_eq!(found["prices"], expected["prices"], "{target}");
    }
}

/// Lets a product have as many price events a second as a test sends.
const FLAGS: &[&str] = &["--price-events-per-second", "100000", "--product-events-per-second", "100000"];

/// Returns an event whose price is far from the others.
fn odd(event: &str) -> Value {
    json!({"event_id": event, "price": "99.00", "currency": "USD", "observed_at": "2026-03-01T00:00:00Z"})
}

#[test]
fn an_earlier_folder_moves_its_prices_while_it_is_served() {
    let folder = Folder::of_fixture("folder-v14-prices");
    assert_eq!(stored(&folder, HISTORY), list("history"));
    let mut server = folder.serve(FLAGS);
    check(&server);
    check_lists(&server);
    let (status, first) = post(&server, "acme", "tea", &odd("new-1"));
    assert_eq!((status, &first["anomaly"]["baseline"]), (201, &json!("20.10")), "{first}");
    // An anomaly of the version before is decided on, whether its price is moved or not.
    let open: Vec<Vec<Value>> =
        list("anomalies").into_iter().filter(|row| row.contains(&json!("open"))).collect();
    let name = |row: &Vec<Value>| {
        (row[1].as_str().expect("text").to_owned(), row[0].as_str().expect("text").to_owned())
    };
    let (tenant, anomaly) = name(&open[0]);
    assert_eq!(review(&server, &tenant, &anomaly, "approve"), 200);
    server.replace(|| folder.serve(FLAGS));
    check(&server);
    wait_until_moved(&folder);
    check(&server);
    let (status, again) = post(&server, "acme", "tea", &odd("new-1"));
    assert_eq!((status, &again["anomaly"]), (200, &first["anomaly"]));
    assert_eq!(review(&server, &tenant, &anomaly, "approve"), 200);
    assert_eq!(review(&server, &tenant, &anomaly, "reject"), 409);
    let (tenant, anomaly) = name(&open[1]);
    assert_eq!(review(&server, &tenant, &anomaly, "approve"), 200);
    server.stop();
    verify(&folder);
    let mut history = stored(&folder, HISTORY);
    history.retain(|row| row[2] != "new-1");
    assert_eq!(history, list("history"));

    // Shards that receive the prices answer in the same way.
    let output = folder.run(&["reshard", "--to", "3"]);
    assert!(output.status.success(), "{output:?}");
    let server = folder.serve(FLAGS);
    check(&server);
    assert_eq!(review(&server, &tenant, &anomaly, "reject"), 409);
    server.stop();
    verify(&folder);
    let copy = folder.beside("copy");
    let output = folder.run(&["backup", copy.to_str().expect("a path")]);
    assert!(output.status.success(), "{output:?}");
    let shards = ["shard-00", "shard-01", "shard-02"].map(|shard| copy.join(shard).join("shard.db"));
    let count = |path: &std::path::PathBuf| {
        let shard = Connection::open(path).expect("the copy opens");
        shard
            .query_row("SELECT count(*) FROM price_history", [], |row| row.get::<_, i64>(0))
            .expect("a number")
    };
    assert_eq!(shards.iter().map(count).sum::<i64>(), list("history").len() as i64 + 1);
}

/// Retention, which the version before had begun, goes on after the conversion. The newest prices stay.
#[test]
fn retention_of_an_earlier_folder_goes_on_once_its_prices_are_moved() {
    let folder = Folder::of_fixture("folder-v14-prices");
    let shard = Connection::open(folder.database(0)).expect("the shard opens");
    // The oldest price of a product has left, with its event.
    shard
        .execute_batch(
            "DELETE FROM price_event WHERE product_id = 'cup' AND observed_at_us = \
               (SELECT min(observed_at_us) FROM price_row WHERE product_id = 'cup' AND accepted);
             DELETE FROM price_row WHERE product_id = 'cup' AND observed_at_us = \
               (SELECT min(observed_at_us) FROM price_row WHERE product_id = 'cup' AND accepted);
             UPDATE price_row SET received_us = 1; UPDATE price_event SET received_us = 1;",
        )
        .expect("the prices become old");
    drop(shard);
    let server = folder.serve(&["--retention-prices", "1m", "--price-window", "5"]);
    // The window that was in force for each product and currency is 20.
    let expected = [("cup EUR", 20), ("old USD", 1), ("tea GBP", 3), ("tea JPY", 20), ("tea USD", 20)];
    let expected = expected.map(|(name, count)| (name.to_owned(), count));
    let sql = "SELECT s.product_id || ' ' || s.currency, sum(r.accepted) FROM price_row r \
               JOIN price_series s ON s.id = r.series GROUP BY 1 ORDER BY 1";
    wait_until_moved(&folder);
    wait_until("all old prices leave", || {
        rows_of(&folder.data(), sql, |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))) == expected
    });
    check_newest(&server);
    server.stop();
    verify(&folder);
}

#[track_caller]
fn check_newest(server: &Server) {
    let target = "/api/v1/tenants/acme/products/tea";
    assert_eq!(server.get(target).json()["prices"], fixture()["lists"][target]["prices"]);
}

/// A folder that upkeep has not finished: read, asked in SQL and resharded.
#[test]
fn a_folder_whose_prices_are_not_all_moved_is_read_and_resharded() {
    let folder = Folder::of_fixture("folder-v14-prices");
    let server = folder.serve(FLAGS);
    wait_until_moved(&folder);
    server.stop();
    let shard = Connection::open(folder.database(0)).expect("the shard opens");
    // The prices of one series go back, as if they were not moved yet, and the ids of the others stay.
    shard
        .execute_batch(
            "CREATE TABLE price_row_v14 (tenant INTEGER NOT NULL, product_id TEXT NOT NULL,
               observed_at_us INTEGER NOT NULL, event_id TEXT NOT NULL, price INTEGER NOT NULL,
               currency TEXT NOT NULL, received_us INTEGER NOT NULL, accepted INTEGER NOT NULL DEFAULT 1,
               PRIMARY KEY (tenant, product_id, observed_at_us, event_id)) WITHOUT ROWID;
             CREATE INDEX price_accepted ON price_row_v14
               (tenant, product_id, currency, observed_at_us, event_id, price) WHERE accepted = 1;
             CREATE TABLE price_event_v14 (tenant INTEGER NOT NULL, product_id TEXT NOT NULL,
               event_id TEXT NOT NULL, observed_at_us INTEGER NOT NULL, price INTEGER NOT NULL,
               currency TEXT NOT NULL, received_us INTEGER NOT NULL, change_bp_max INTEGER NOT NULL,
               score_milli_max INTEGER NOT NULL, window_max INTEGER NOT NULL, anomaly INTEGER,
               PRIMARY KEY (tenant, product_id, event_id)) WITHOUT ROWID;
             CREATE TEMP TABLE back AS SELECT * FROM price_series WHERE product_id = 'cup';
             INSERT INTO price_row_v14 SELECT s.tenant, s.product_id, r.observed_at_us, r.event_id, r.price, s.currency,
               r.received_us, r.accepted FROM price_row r JOIN back s ON s.id = r.series;
             INSERT INTO price_event_v14 SELECT s.tenant, s.product_id, r.event_id, r.observed_at_us, r.price,
               s.currency, r.received_us, r.change_bp_max, r.score_milli_max, r.window_max, r.anomaly
               FROM price_row r JOIN back s ON s.id = r.series WHERE r.window_max IS NOT NULL;
             DELETE FROM price_row WHERE series IN (SELECT id FROM back);
             DELETE FROM price_sorted WHERE series IN (SELECT id FROM back);
             UPDATE price_series SET last = 0, sorted = 0, accepted = NULL WHERE id IN (SELECT id FROM back);
             UPDATE price_anomaly SET price_id = NULL WHERE product_id = 'cup';
             DROP VIEW price_history; DROP VIEW price_row_all;
             CREATE VIEW price_row_all AS SELECT r.id, s.tenant, s.product_id, r.event_id, r.observed_at_us, r.price,
               s.currency, r.received_us, r.accepted FROM price_row r CROSS JOIN price_series s ON s.id = r.series
               UNION ALL SELECT 0, tenant, product_id, event_id, observed_at_us, price, currency, received_us, accepted
               FROM price_row_v14;
             CREATE VIEW price_history AS SELECT t.tenant_id, p.product_id, p.event_id, p.price, p.currency,
               strftime('%Y-%m-%dT%H:%M:%S', p.observed_at_us / 1000000, 'unixepoch') || '.000000Z' AS observed_at
               FROM price_row_all p JOIN tenant_row t ON t.id = p.tenant;",
        )
        .expect("the prices go back");
    drop(shard);
    assert_eq!(stored(&folder, ANOMALIES), list("anomalies"));
    verify(&folder);
    for (product, tenant) in [("tea", "acme"), ("cup", "acme"), ("tea", "beta"), ("old", "acme")] {
        let sql = format!(
            "SELECT count(*) AS n FROM price_history WHERE tenant_id = '{tenant}' AND product_id = '{product}'"
        );
        let output = folder.run(&["sql", "--format", "json", "-c", &sql]);
        let expected = list("history").iter().filter(|row| row[0] == tenant && row[1] == product).count();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(&format!("\"n\":{expected}")), "{product} of {tenant}: {said} {output:?}");
    }
    let output = folder.run(&["reshard", "--to", "2"]);
    assert!(output.status.success(), "{output:?}");
    let server = folder.serve(FLAGS);
    check(&server);
    check_lists(&server);
    server.stop();
    verify(&folder);
}
