//! W1, P1 and T1: prices, reviews and stock, acked at `disk`.

use serde_json::{Value, json};

use super::orders::TENANT;
use super::quiet::quiet;
use crate::support::{Answer, Server};

fn target(rest: &str) -> String {
    format!("/api/v1/tenants/{TENANT}/{rest}")
}

#[track_caller]
fn price(server: &Server, query: &str, id: &str, price: &str) -> Answer {
    let body = format!(
        r#"{{"event_id":"{id}","price":"{price}","currency":"USD","observed_at":"2026-01-02T00:00:00Z"}}"#
    );
    let target = target(&format!("products/p/price-event{query}"));
    server.client().ask("POST", &target, &body).expect("the server answers")
}

/// Creates an anomaly and returns its id.
#[track_caller]
fn anomaly(server: &Server) -> String {
    assert_eq!(price(server, "", "base", "10.00").status, 201);
    let odd = price(server, "", "odd", "20.00");
    assert_eq!(odd.status, 201, "{odd:?}");
    odd.json()["anomaly"]["id"].as_str().expect("it is out of line").to_owned()
}

#[track_caller]
fn stock(server: &Server, query: &str, event: &str, quantity: i64) {
    let body = json!({"mode": "last_write_wins", "updates": [
        {"event_id": event, "product_id": "p", "quantity": quantity, "occurred_at": "2026-03-01T12:00:00Z"},
        {"event_id": event, "product_id": "q", "quantity": quantity, "occurred_at": "2026-03-01T12:00:00Z"},
    ]});
    let target = target(&format!("stock/bulk_update{query}"));
    let answer = server.client().ask("PUT", &target, &body.to_string()).expect("the server answers");
    assert_eq!((answer.status, &answer.json()["applied"]), (200, &json!(2)), "{answer:?}");
}

#[test]
fn w1_a_price() {
    quiet(
        |_| {},
        |server, way, ()| {
            let answer = price(server, way.query, "one", "10.00");
            assert_eq!(answer.status, 201, "{answer:?}");
            answer.json()
        },
        |after, said| {
            after.server.wait_until_stored();
            // A repeated event always gets the first response again.
            let again = price(&after.server, "", "one", "10.00");
            assert_eq!((again.status, &again.json()), (200, said));
        },
    );
}

#[test]
fn w1_a_review() {
    quiet(
        anomaly,
        |server, way, id| {
            let path = target(&format!("price-anomalies/{id}/review{}", way.query));
            let answer =
                server.client().ask("POST", &path, r#"{"decision":"approve"}"#).expect("the server answers");
            assert_eq!(answer.status, 200, "{answer:?}");
            id.clone()
        },
        |after, id| {
            after.server.wait_until_stored();
            let list = after.server.get(&target("price-anomalies")).json();
            let found =
                list["anomalies"].as_array().expect("a list").iter().find(|found| found["id"] == **id);
            let status = found.map(|found| found["status"].clone());
            assert_eq!(status, Some(Value::from("approved")), "{list}");
        },
    );
}

#[test]
fn w1_stock() {
    quiet(
        |server| stock(server, "", "first", 1),
        |server, way, ()| stock(server, way.query, "second", 2),
        |after, ()| {
            after.server.wait_until_stored();
            for product in ["p", "q"] {
                let level = after.server.get(&target(&format!("stock/{product}")));
                assert_eq!((level.status, &level.json()["quantity"]), (200, &json!(2)), "{level:?}");
            }
        },
    );
}
