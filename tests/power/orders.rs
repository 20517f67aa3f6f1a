//! W1: orders and their statuses, acked at `disk`.

use std::collections::BTreeMap;

use super::After;
use super::quiet::{Way, quiet};
use crate::support::commerce::{NDJSON, counts, ingest_head, search_all};
use crate::support::oracle::{Item, Order, body};
use crate::support::{Answer, Server, rows_of};

pub(super) const TENANT: &str = "acme";

/// Returns the orders of one tenant with these numbers.
pub(super) fn orders(numbers: std::ops::Range<usize>) -> Vec<Order> {
    let order = |number: usize| Order {
        tenant: TENANT.to_owned(),
        id: format!("o-{number:05}"),
        customer: format!("c-{}", number % 11),
        name: format!("Ann Number{}", number % 11),
        email: format!("ann{}@example.org", number % 11),
        status: "paid".to_owned(),
        currency: "USD".to_owned(),
        at_us: 1_772_366_400_000_000 + number as i64 * 1_000_000,
        items: vec![Item {
            product: format!("p-{}", number % 9),
            category: format!("g-{}", number % 3),
            quantity: 1 + (number % 4) as i64,
            price: 1_999,
        }],
    };
    numbers.map(order).collect()
}

pub(super) fn ids(orders: &[Order]) -> Vec<String> {
    orders.iter().map(|order| order.id.clone()).collect()
}

/// Sends one ingest. The query may request an ack level.
#[track_caller]
pub(super) fn ingest(server: &Server, key: &str, query: &str, orders: &[Order]) -> Answer {
    let body = body(orders);
    let head = ingest_head(key, NDJSON, body.len()).replacen(
        "/ingest/orders/ ",
        &format!("/ingest/orders/{query} "),
        1,
    );
    let mut client = server.client();
    client.write(head.as_bytes()).and_then(|()| client.write(&body)).expect("it is sent");
    let answer = client.answer().expect("the server answers");
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer
}

/// Returns the ids of all orders, as the sqlite3 shell sees them, sorted. Fails if one occurs twice.
#[track_caller]
pub(super) fn stored_orders(after: &After) -> Vec<String> {
    let mut found = rows_of(&after.data, "SELECT order_id FROM orders", |row| row.get::<_, String>(0));
    found.sort();
    let count = found.len();
    found.dedup();
    assert_eq!(found.len(), count, "an order is there twice");
    found
}

#[track_caller]
fn patch(server: &Server, order: &str, query: &str, status: &str) {
    let target = format!("/api/v1/tenants/{TENANT}/orders/{order}{query}");
    let body = format!("{{\"status\":\"{status}\"}}");
    let answer = server.client().ask("PATCH", &target, &body).expect("the server answers");
    assert_eq!((answer.status, &answer.json()["changed"]), (200, &true.into()), "{answer:?}");
}

/// Returns the status of every order, as a search shows it.
#[track_caller]
pub(super) fn statuses(server: &Server) -> BTreeMap<String, String> {
    let text = |row: &serde_json::Value, name: &str| row[name].as_str().expect("a text").to_owned();
    let rows = search_all(server, TENANT, "limit=1000");
    rows.iter().map(|row| (text(row, "order_id"), text(row, "status"))).collect()
}

#[test]
fn w1_an_ingest_of_orders() {
    let all = orders(0..30);
    quiet(
        |_| {},
        |server, way, ()| assert_eq!(counts(&ingest(server, "k", way.query, &all).json()), [30, 30, 0, 0]),
        |after, ()| {
            after.server.wait_until_stored();
            assert_eq!(stored_orders(after), ids(&all));
            // The summary belongs to a response that was sent, so it exists as well.
            let replayed = ingest(&after.server, "k", "", &all);
            assert_eq!(replayed.header("idempotent-replayed"), Some("true"), "{replayed:?}");
            assert_eq!(counts(&replayed.json()), [30, 30, 0, 0]);
        },
    );
}

#[test]
fn w1_an_ingest_after_another() {
    let all = orders(0..60);
    quiet(
        |server| _ = ingest(server, "first", "", &all[..30]),
        |server, way, ()| _ = ingest(server, "second", way.query, &all[30..]),
        |after, ()| {
            after.server.wait_until_stored();
            assert_eq!(stored_orders(after), ids(&all));
        },
    );
}

/// A replay returns the first response and promises it at its own level.
#[test]
fn w1_a_replay_of_an_ingest() {
    let all = orders(0..30);
    quiet(
        |_| {},
        |server, Way { query, .. }, ()| {
            // The first ingest may promise less.
            ingest(server, "k", "", &all);
            let replayed = ingest(server, "k", query, &all);
            assert_eq!(replayed.header("idempotent-replayed"), Some("true"), "{replayed:?}");
        },
        |after, ()| {
            after.server.wait_until_stored();
            assert_eq!(stored_orders(after), ids(&all));
        },
    );
}

#[test]
fn w1_a_new_status() {
    quiet(
        |server| _ = ingest(server, "k", "", &orders(0..10)),
        |server, way, ()| patch(server, "o-00003", way.query, "shipped"),
        |after, ()| {
            after.server.wait_until_stored();
            assert_eq!(statuses(&after.server)["o-00003"], "shipped");
        },
    );
}
