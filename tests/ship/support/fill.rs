//! Rows of every kind, as clients send them.

use serde_json::{Value, json};

use crate::support::commerce::{NDJSON, ingest};
use crate::support::{Client, Server};

/// Sends a request that must succeed, and returns the body of its response.
#[track_caller]
pub(crate) fn send(client: &mut Client, method: &str, target: &str, body: &Value) -> Value {
    let answer = client.ask(method, target, &body.to_string()).expect("the server answers");
    let said = String::from_utf8_lossy(&answer.body).into_owned();
    assert!((200..300).contains(&answer.status), "{method} {target}: {} {said}", answer.status);
    serde_json::from_str(&said).unwrap_or(Value::Null)
}

pub(crate) fn event(tenant: &str, number: u64) -> Value {
    json!({
        "event_id": format!("e-{number}"), "tenant_id": tenant, "source": "web", "event_type": "view",
        "timestamp": "2026-03-01T12:00:00Z", "payload": {"n": number, "of": tenant},
    })
}

/// Sends rows of every kind that are numbered from `first` on: clicks, events, orders with status changes, stock,
/// prices, an anomaly and a review. The tenant is part of every name.
#[track_caller]
pub(crate) fn fill(server: &Server, tenant: &str, first: u64, count: u64) {
    let mut client = server.client();
    for number in first..first + count {
        assert_eq!(client.post(number).expect("an answer").status, 202);
    }
    let events: Vec<Value> = (first..first + count).map(|number| event(tenant, number)).collect();
    send(&mut client, "POST", "/events/bulk", &json!({"events": events}));
    orders(server, tenant, first, count);
    let path = format!("/api/v1/tenants/{tenant}");
    for number in first..first + count.div_ceil(4) {
        let status = ["shipped", "cancelled", "refunded"][number as usize % 3];
        let status = json!({"status": status});
        send(&mut client, "PATCH", &format!("{path}/orders/o-{number}"), &status);
    }
    let updates: Vec<Value> = (first..first + count)
        .map(|number| {
            json!({"event_id": format!("s-{number}"), "product_id": format!("p-{}", number % 5), "delta": 3,
                "occurred_at": "2026-03-01T12:00:00Z"})
        })
        .collect();
    send(
        &mut client,
        "PUT",
        &format!("{path}/stock/bulk_update"),
        &json!({"mode": "merge", "updates": updates}),
    );
    prices(server, tenant, first);
}

/// Sends orders, two lines each, of five customers.
#[track_caller]
pub(crate) fn orders(server: &Server, tenant: &str, first: u64, count: u64) {
    let line = |number: u64| {
        let customer = number % 5;
        let order = json!({
            "order_id": format!("o-{number}"), "tenant_id": tenant, "customer_id": format!("c-{customer}-{tenant}"),
            "customer_name": format!("Name {customer}"), "customer_email": format!("c{customer}@{tenant}.example"),
            "status": "paid", "currency": "USD", "ordered_at": "2026-03-01T12:00:00Z",
            "items": [
                {"product_id": format!("p-{}", number % 5), "category": "x", "quantity": 2, "unit_price": "19.99"},
                {"product_id": "q", "category": "y", "quantity": 1, "unit_price": "0.01"},
            ],
        });
        format!("{order}\n")
    };
    let body: String = (first..first + count).map(line).collect();
    let answer = ingest(server.address, &format!("{tenant}-{first}"), NDJSON, body.as_bytes());
    let answer = answer.expect("the server answers");
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
}

/// Sends five prices of a product of its own, the last of which is out of line, and approves it.
#[track_caller]
fn prices(server: &Server, tenant: &str, first: u64) {
    let (mut client, path) = (server.client(), format!("/api/v1/tenants/{tenant}"));
    for (number, price) in ["10.00", "10.10", "10.20", "10.05", "99.00"].iter().enumerate() {
        let price = json!({"event_id": format!("p-{first}-{number}"), "price": price, "currency": "USD",
            "observed_at": format!("2026-03-0{}T12:00:00Z", number + 1)});
        let said = send(&mut client, "POST", &format!("{path}/products/lamp-{first}/price-event"), &price);
        if let Some(anomaly) = said["anomaly"]["id"].as_str().filter(|_| first % 2 == 1) {
            let review = format!("{path}/price-anomalies/{anomaly}/review");
            send(&mut client, "POST", &review, &json!({"decision": "approve"}));
        }
    }
}
