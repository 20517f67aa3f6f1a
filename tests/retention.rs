//! Retention of orders, prices and stock by a running server, on a folder of the schema before it. The fixture has two
//! tenants: orders of three days (`acme` has 12 in a sealed partition, `beta` 6 in the open one), 24 price events of a
//! product each, of which two are anomalies, and ten stock events each of two products.

use serde_json::{Value, json};

use crate::support::commerce::{problem, sales, search_all, verify};
use crate::support::{Folder, Server, wait_until};

fn aged(folder: &Folder) {
    let shard = rusqlite::Connection::open(folder.database(0)).expect("the shard opens");
    shard
        .execute_batch(
            "UPDATE partition SET sealed_at = '2024-01-01T00:00:00Z' WHERE sealed_at IS NOT NULL;
             UPDATE price_row SET received_us = 1; UPDATE price_event SET received_us = 1;
             UPDATE stock_event SET received_us = 1;",
        )
        .expect("the rows become old");
}

fn get(server: &Server, target: &str) -> Value {
    server.get(target).json()
}

fn anomalies(server: &Server, tenant: &str) -> usize {
    let found = get(server, &format!("/api/v1/tenants/{tenant}/price-anomalies"));
    found["anomalies"].as_array().expect("anomalies").len()
}

fn stock_again(server: &Server) -> Value {
    let update = json!({"mode": "merge", "updates": [{
        "event_id": "s-3-p-1", "product_id": "p-1", "delta": 3, "occurred_at": "2026-03-01T03:00:00Z",
    }]});
    let target = "/api/v1/tenants/acme/stock/bulk_update";
    server.client().ask("PUT", target, &update.to_string()).expect("an answer").json()["products"][0].take()
}

/// Returns the kinds of the events that a stream sends, and its last id: without an id, until the first id, otherwise
/// until the first anomaly.
fn stream(server: &Server, last_id: Option<&str>) -> (Vec<String>, String) {
    let mut client = server.client();
    let last = last_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    let request = format!(
        "GET /api/v1/tenants/acme/price-anomalies HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n{last}\r\n"
    );
    client.write(request.as_bytes()).expect("it is sent");
    assert_eq!(client.answer_head().expect("an answer").status, 200);
    let mut text = String::new();
    let done = |text: &str| text.ends_with("\n\n") && (last_id.is_none() || text.contains("event: anomaly"));
    while !done(&text) {
        text.push_str(&String::from_utf8(client.chunk().expect("more")).expect("text"));
    }
    let kinds = text.lines().filter_map(|line| line.strip_prefix("event: ").map(str::to_owned)).collect();
    let id = text.lines().rev().find_map(|line| line.strip_prefix("id: ")).expect("an id");
    (kinds, id.to_owned())
}

const FLAGS: &[&str] = &["--retention-orders", "1m", "--retention-prices", "1m", "--retention-stock", "1m"];

#[test]
fn orders_prices_and_stock_leave_and_what_was_promised_stays() {
    let folder = Folder::of_fixture("folder-v6");
    let server = folder.serve(&[]);
    let counts = "group_by=day&fields=orders,units,revenue";
    let before = sales(&server, "acme", counts)["groups"].take();
    let estimated = sales(&server, "acme", "group_by=day&precision=approx")["groups"].take();
    assert_eq!(search_all(&server, "acme", "fields=order_id").len(), 12);
    assert_eq!((anomalies(&server, "acme"), anomalies(&server, "beta")), (2, 2));
    let first = stock_again(&server);
    assert_eq!(
        (&first["result"], &first["quantity"], &first["version"]),
        (&json!("duplicate"), &json!(12), &json!(4))
    );
    // Two more changes follow this position.
    let (_, present) = stream(&server, None);
    for event in ["odd", "odder"] {
        let price = json!({
            "event_id": event, "price": "30.00", "currency": "USD", "observed_at": "2026-03-02T00:00:00Z",
        });
        let target = "/api/v1/tenants/acme/products/p-1/price-event";
        let answer = server.client().ask("POST", target, &price.to_string()).expect("an answer");
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    server.stop();
    verify(&folder);
    aged(&folder);

    let server = folder.serve(FLAGS);
    wait_until("orders to leave", || search_all(&server, "acme", "fields=order_id").is_empty());
    wait_until("prices to leave", || anomalies(&server, "acme") == 1);
    let metric = r#"firehose_shard_dropped_rows_total{shard="0",kind="stock_event",reason="age"} 40"#;
    wait_until("stock events to leave", || {
        String::from_utf8_lossy(&server.get("/metrics").body).lines().any(|line| line.starts_with(metric))
    });
    assert_eq!(search_all(&server, "beta", "fields=order_id").len(), 6, "the open partition was just sealed");
    // That of acme has the newest change.
    assert_eq!(anomalies(&server, "beta"), 0);

    // Sums remain. What requires the rows is refused, or begins behind them.
    assert_eq!(sales(&server, "acme", counts)["groups"], before);
    assert_eq!(sales(&server, "acme", "group_by=day&precision=approx")["groups"], estimated);
    let exact = "/api/v1/tenants/acme/metrics/sales?group_by=day";
    let refused = problem(&server.get(&format!("{exact}&start_date=2026-03-02")), 410, "sales-dropped");
    let detail = refused["detail"].as_str().expect("a detail");
    assert!(detail.contains("2026-03-04T00:00:00Z"), "{detail}");
    let open = get(&server, exact);
    assert_eq!(
        (&open["groups"], &open["meta"]["complete_from"]),
        (&json!([]), &json!("2026-03-04T00:00:00Z"))
    );
    assert_eq!(sales(&server, "acme", "group_by=day&start_date=2026-03-04")["groups"], json!([]));
    assert!(sales(&server, "beta", "group_by=day")["meta"].get("complete_from").is_none());

    let level = get(&server, "/api/v1/tenants/acme/stock/p-1");
    assert_eq!((&level["quantity"], &level["version"]), (&json!(30), &json!(10)));
    assert_eq!(stock_again(&server), first, "a repetition gets the first answer");
    let (kinds, _) = stream(&server, Some(&present));
    assert_eq!(kinds, ["dropped", "anomaly"], "a gap is reported");
    server.stop();
    verify(&folder);
    assert_eq!(folder.run_json(&["verify", "--stock"]).0, 0);
    let (_, shards) = folder.run_json(&["shards"]);
    let dropped = shards[0]["dropped"].as_array().expect("what was dropped");
    let kinds: Vec<_> = dropped.iter().map(|rows| (rows["kind"].as_str(), rows["rows"].as_u64())).collect();
    assert!(kinds.contains(&(Some("sales_order"), Some(12))), "{kinds:?}");

    // Other shards have the same sums and know the same events.
    assert!(folder.run(&["reshard", "--to", "2"]).status.success());
    verify(&folder);
    assert_eq!(folder.run_json(&["verify", "--stock"]).0, 0);
    let server = folder.serve(&[]);
    assert_eq!(sales(&server, "acme", counts)["groups"], before);
    problem(&server.get(&format!("{exact}&start_date=2026-03-02")), 410, "sales-dropped");
    assert_eq!(stock_again(&server), first);
    server.stop();
}

/// With `retention_orders_sums=drop`, the figures of a day leave with its last order.
#[test]
fn sums_leave_if_the_setting_says_so() {
    let folder = Folder::of_fixture("folder-v6");
    folder.serve(&[]).stop();
    aged(&folder);
    let server = folder.serve(&[FLAGS, &["--retention-orders-sums", "drop"]].concat());
    let counts = "group_by=day&fields=orders,units,revenue";
    wait_until("sums to leave", || sales(&server, "acme", counts)["groups"] == json!([]));
    let complete = &sales(&server, "acme", counts)["meta"]["complete_from"];
    assert_eq!(complete, &json!("2026-03-04T00:00:00Z"));
    let target = format!("/api/v1/tenants/acme/metrics/sales?{counts}&start_date=2026-03-01");
    problem(&server.get(&target), 410, "sales-dropped");
    assert!(!sales(&server, "beta", counts)["groups"].as_array().expect("groups").is_empty());
    server.stop();
    verify(&folder);
}
