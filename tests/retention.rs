//! Retention of orders, prices and stock by a running server, on a folder of the schema before it. The fixture has two
//! tenants: orders of three days (`acme` has 12 in a sealed partition, `beta` 6 in the open one), 24 price events of a
//! product each, of which two are anomalies, and ten stock events each of two products.

use serde_json::{Value, json};

use crate::support::commerce::{ingested, order, problem, sales, search_all, verify};
use crate::support::{Folder, Server, wait_until, wait_until_moved};

fn aged(folder: &Folder) {
    let shard = rusqlite::Connection::open(folder.database(0)).expect("the shard opens");
    shard
        .execute_batch(
            "UPDATE partition_catalog SET sealed_at = '2024-01-01T00:00:00Z' WHERE sealed_at IS NOT NULL;
             UPDATE price_row SET received_us = 1;
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
    // Sales need the tables of the current version.
    server.wait_until_stored();
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
    wait_until_moved(&folder);
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
    // No other day has sales, and an answer without groups would hide them.
    let refused = problem(&server.get(exact), 410, "sales-dropped");
    let detail = refused["detail"].as_str().expect("a detail");
    assert!(detail.contains("3 days (UTC), the first 2026-03-01 and the last 2026-03-03"), "{detail}");
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
    let server = folder.serve(&[]);
    wait_until_moved(&folder);
    server.stop();
    aged(&folder);
    let server = folder.serve(&[FLAGS, &["--retention-orders-sums", "drop"]].concat());
    let counts = "group_by=day&fields=orders,units,revenue";
    // While the sums of a currency have left and those of another have not, the days are incomplete and have sales.
    let target = format!("/api/v1/tenants/acme/metrics/sales?{counts}");
    wait_until("sums to leave", || {
        let answer = server.get(&target);
        assert!([200, 410].contains(&answer.status), "{}", String::from_utf8_lossy(&answer.body));
        answer.status == 200 && answer.json()["groups"] == json!([])
    });
    let meta = sales(&server, "acme", counts)["meta"].take();
    assert_eq!(meta["complete_from"], json!("2026-03-04T00:00:00Z"));
    assert_eq!(meta["incomplete_days"], json!({"count": 3, "first": "2026-03-01", "last": "2026-03-03"}));
    let target = format!("/api/v1/tenants/acme/metrics/sales?{counts}&start_date=2026-03-01");
    problem(&server.get(&target), 410, "sales-dropped");
    assert!(!sales(&server, "beta", counts)["groups"].as_array().expect("groups").is_empty());
    server.stop();
    verify(&folder);
}

/// Returns an order of a tenant with a time, in a currency.
fn dated(number: usize, tenant: &str, ordered_at: &str, currency: &str) -> String {
    let mut order = order(number);
    order["tenant_id"] = json!(tenant);
    order["ordered_at"] = json!(ordered_at);
    order["currency"] = json!(currency);
    order["items"][0]["unit_price"] = json!(number);
    format!("{order}\n")
}

/// Each order is a partition. The policy follows.
const TWO_SHARDS: &[&str] = &["--shards", "2", "--order-partition-rows-max", "1", "--retention-orders-sums"];

/// Stores orders of `acme` in two shards and has retention delete the first ones, in order of arrival.
fn after_retention(folder: &Folder, first: &[&str], then: &[&str], policy: &str) -> Server {
    let flags = [TWO_SHARDS, &[policy]].concat();
    let server = folder.serve(&flags);
    let mut number = 0;
    let mut send = |key: &str, tenant: &str, times: &[&str]| {
        let lines: String = times
            .iter()
            .map(|time| {
                number += 1;
                dated(number, tenant, time, "USD")
            })
            .collect();
        ingested(&server, key, lines.as_bytes());
    };
    send("first", "acme", first);
    // Every shard has a later partition.
    send("mark", "mark", &["2026-03-01T12:00:00Z"; 16]);
    send("then", "acme", then);
    server.stop();
    for shard in 0..2 {
        let shard = rusqlite::Connection::open(folder.database(shard)).expect("the shard opens");
        let old = "UPDATE partition_catalog SET sealed_at = '2024-01-01T00:00:00Z' WHERE stream = 'sales_order' \
                   AND first_id < (SELECT min(o.id) FROM sales_order o JOIN tenant_row t ON t.id = o.tenant \
                   WHERE t.tenant_id = 'mark')";
        shard.execute(old, []).expect("the partitions become old");
        let left = "SELECT count(*) FROM partition WHERE stream = 'sales_order' AND sealed_at IS NULL AND rows > 0 \
                    AND first_id < (SELECT min(o.id) FROM sales_order o JOIN tenant_row t ON t.id = o.tenant \
                    WHERE t.tenant_id = 'mark')";
        let left: i64 = shard.query_row(left, [], |row| row.get(0)).expect("a number");
        assert_eq!(left, 0, "every old partition is sealed");
    }
    let server = folder.serve(&[&flags[..], &["--retention-orders", "1d"]].concat());
    let left = || search_all(&server, "acme", "fields=order_id").len();
    wait_until("the first orders to leave", || left() == then.len());
    // The sums of dropped orders are complete once their partitions are freed.
    wait_until("the partitions to be freed", || {
        let freed = |shard| {
            let shard = rusqlite::Connection::open(folder.database(shard)).expect("the shard opens");
            let sql = "SELECT count(*) FROM dropped_partition";
            shard.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number") == 0
        };
        (0..2).all(freed)
    });
    server
}

/// Returns the keys and the numbers of orders of an answer's groups.
fn keys(answer: &Value) -> Vec<(&str, i64)> {
    let groups = answer["groups"].as_array().expect("groups").iter();
    groups
        .map(|group| (group["key"].as_str().expect("a key"), group["orders"].as_i64().expect("a number")))
        .collect()
}

/// Returns the orders of `acme` on some days by the rows of all shards: day, number and total in minor units.
fn rows_by_day(folder: &Folder, days: [&str; 2]) -> Vec<(String, i64, i64)> {
    let mut found = std::collections::BTreeMap::new();
    for shard in 0..2 {
        let shard = rusqlite::Connection::open(folder.database(shard)).expect("the shard opens");
        let sql = "SELECT substr(ordered_at, 1, 10) AS day, count(*), sum(total) FROM orders \
                   WHERE tenant_id = 'acme' AND day BETWEEN ?1 AND ?2 GROUP BY day";
        let mut statement = shard.prepare(sql).expect("a statement");
        let mut rows = statement.query(days).expect("rows");
        while let Some(row) = rows.next().expect("a row") {
            let (count, total): (i64, i64) = (row.get(1).expect("a count"), row.get(2).expect("a total"));
            let day: &mut (i64, i64) = found.entry(row.get::<_, String>(0).expect("a day")).or_default();
            *day = (day.0 + count, day.1 + total);
        }
    }
    found.into_iter().map(|(day, (count, total))| (day, count, total)).collect()
}

const FAR: &str = "2099-01-01T12:00:00Z";
const COUNTS: &str = "group_by=day&fields=orders,units,revenue";

/// The times of orders that clients give need not follow their arrival.
#[test]
fn a_deleted_order_hides_its_own_day_alone() {
    let folder = Folder::new();
    let first = [FAR, "2026-03-05T08:00:00Z"];
    let then = [1, 2, 3, 4, 5, 6, 7, 5, 2].map(|day| format!("2026-03-0{day}T20:00:00Z"));
    let then = then.each_ref().map(String::as_str);
    let server = after_retention(&folder, &first, &then, "keep");
    let expected = |second, fifth: bool| {
        let days = [
            "2026-03-01",
            "2026-03-02",
            "2026-03-03",
            "2026-03-04",
            "2026-03-05",
            "2026-03-06",
            "2026-03-07",
        ];
        let mut all: Vec<_> = days.into_iter().zip([1, second, 1, 1, 3, 1, 1]).collect();
        if !fifth {
            all.remove(4);
        }
        all
    };
    let missing = json!({"count": 2, "first": "2026-03-05", "last": "2099-01-01"});
    let answer = sales(&server, "acme", "group_by=day");
    assert_eq!(keys(&answer), expected(2, false));
    let meta = &answer["meta"];
    assert_eq!(
        (&meta["incomplete_days"], &meta["complete_from"], &meta["precision"]),
        (&missing, &json!("2099-01-02T00:00:00Z"), &json!("exact"))
    );
    // The next answer is cached, and the new orders replace it.
    assert_eq!(sales(&server, "acme", "group_by=day")["meta"]["materialized"], json!(true));
    let new = dated(900, "acme", "2026-03-02T09:00:00Z", "USD")
        + &dated(901, "acme", "2026-03-05T09:00:00Z", "JPY");
    ingested(&server, "new", new.as_bytes());
    let answer = sales(&server, "acme", "group_by=day");
    assert_eq!(keys(&answer), expected(3, false));
    assert_eq!(answer["meta"]["incomplete_days"], missing);

    // Ranges without these days are exact.
    for days in [["2026-03-01", "2026-03-04"], ["2026-03-06", "2026-03-07"], ["2026-03-02", "2026-03-02"]] {
        let range = format!("group_by=day&start_date={}&end_date={}", days[0], days[1]);
        let answer = sales(&server, "acme", &range);
        assert!(answer["meta"].get("incomplete_days").is_none());
        let found: Vec<(String, i64, String)> = answer["groups"]
            .as_array()
            .expect("groups")
            .iter()
            .map(|group| {
                let text = |name: &str| group[name].as_str().expect("text").to_owned();
                (text("key"), group["orders"].as_i64().expect("a number"), text("revenue"))
            })
            .collect();
        let rows = rows_by_day(&folder, days).into_iter();
        let rows =
            rows.map(|(day, count, total)| (day, count, format!("{}.{:02}", total / 100, total % 100)));
        assert_eq!(found, rows.collect::<Vec<_>>());
    }
    // Ranges with one of them are refused, and the refusal names them.
    for (range, days) in [
        ("start_date=2026-03-04&end_date=2026-03-06", "orders of 2026-03-05 (UTC) were deleted"),
        ("from=2026-03-05T22:00:00Z&to=2026-03-06T00:00:00Z", "orders of 2026-03-05 (UTC) were deleted"),
        ("start_date=2026-03-06", "orders of 2099-01-01 (UTC) were deleted"),
        ("start_date=2020-01-01", "2 days (UTC), the first 2026-03-05 and the last 2099-01-01, were deleted"),
    ] {
        let refused = server.get(&format!("/api/v1/tenants/acme/metrics/sales?{range}"));
        let refused = problem(&refused, 410, "sales-dropped");
        let detail = refused["detail"].as_str().expect("a detail");
        assert!(detail.contains(days), "{range}: {detail}");
    }
    // Other groups do not count these days either. The days of a currency depend on its own orders.
    for (group_by, count) in [("product", 8), ("category", 8), ("hour", 8)] {
        let answer = sales(&server, "acme", &format!("group_by={group_by}"));
        assert_eq!(keys(&answer).iter().map(|(_, orders)| orders).sum::<i64>(), count, "{group_by}");
        assert_eq!(answer["meta"]["incomplete_days"], missing);
    }
    let yen = sales(&server, "acme", "group_by=day&currency=JPY");
    assert_eq!(keys(&yen), [("2026-03-05", 1)]);
    assert!(yen["meta"].get("incomplete_days").is_none());
    // A day in Tokyo is a part of two days (UTC).
    let tokyo = sales(&server, "acme", "group_by=day&tz=Asia/Tokyo");
    let days = ["2026-03-02", "2026-03-03", "2026-03-04", "2026-03-07", "2026-03-08"];
    assert_eq!(keys(&tokyo), days.into_iter().zip([2, 2, 1, 1, 1]).collect::<Vec<_>>());
    // The sums of all days are complete.
    for query in [COUNTS, "group_by=day&precision=approx", "group_by=category&precision=approx"] {
        let answer = sales(&server, "acme", query);
        assert_eq!(keys(&answer).iter().map(|(_, orders)| orders).sum::<i64>(), 13, "{query}");
        assert!(answer["meta"].get("incomplete_days").is_none());
    }
    server.stop();
    verify(&folder);
}

/// A day of another zone may be a part of a complete day (UTC) and of an incomplete one. It is incomplete, but its
/// sales are not all hidden.
#[test]
fn a_refusal_in_another_zone_does_not_deny_the_sales_of_complete_days() {
    let folder = Folder::new();
    let first = [FAR, "2026-03-02T08:00:00Z"];
    let then = ["2026-03-02T20:00:00Z", "2026-03-03T00:10:00Z", "2026-03-03T04:00:00Z"];
    let server = after_retention(&folder, &first, &then, "keep");
    assert_eq!(keys(&sales(&server, "acme", "group_by=day")), [("2026-03-03", 2)]);
    let detail = |query: &str| {
        let refused = server.get(&format!("/api/v1/tenants/acme/metrics/sales?{query}"));
        problem(&refused, 410, "sales-dropped")["detail"].as_str().expect("a detail").to_owned()
    };
    let days =
        "orders of 2 days (UTC), the first 2026-03-02 and the last 2099-01-01, were deleted by retention; ";
    let kolkata = detail("group_by=day&tz=Asia/Kolkata");
    let others = "every day of Asia/Kolkata that has sales overlaps such a day (UTC); with tz=UTC, such days alone are \
                  left out";
    assert!(kolkata.starts_with(&format!("{days}{others};")), "{kolkata}");
    // Sums are of hours (UTC), so an estimate in this zone requires the orders, too.
    assert!(kolkata.ends_with("except in a zone whose hours begin within those of UTC"), "{kolkata}");
    assert_eq!(detail("group_by=day&tz=Asia/Kolkata&precision=approx"), kolkata);
    let tokyo = detail("group_by=day&tz=Asia/Tokyo&to=2026-03-03T10:00:00Z");
    assert!(
        tokyo.contains("every day of Asia/Tokyo") && tokyo.ends_with("do not require these orders"),
        "{tokyo}"
    );
    let query = "group_by=day&tz=Asia/Tokyo&precision=approx";
    assert_eq!(keys(&sales(&server, "acme", query)).iter().map(|(_, orders)| orders).sum::<i64>(), 5);
    // The hour that begins at 05:00 overlaps the second of March (UTC), the one at 09:00 does not.
    let hours = sales(&server, "acme", "group_by=hour&tz=Asia/Kolkata");
    assert_eq!(hours["groups"].as_array().map(Vec::len), Some(1), "{hours}");
    let hour = detail("group_by=hour&tz=Asia/Kolkata&to=2026-03-03T01:00:00Z");
    assert!(hour.contains("every hour of Asia/Kolkata that has sales overlaps such a day (UTC)"), "{hour}");
    // There, no other day has sales.
    for query in ["group_by=day&to=2026-03-03", "group_by=product&to=2026-03-03"] {
        assert!(detail(query).contains("; no other day of the range has sales;"), "{query}");
    }
    server.stop();
    verify(&folder);
}

/// With `retention_orders_sums=drop`, a day without figures remains incomplete if new orders of it arrive, although
/// one shard alone has lost its figures.
#[test]
fn a_day_without_figures_remains_incomplete() {
    let folder = Folder::new();
    let first = [FAR, "2026-03-08T08:00:00Z", "2026-03-02T08:00:00Z"];
    let then = ["2026-03-01T20:00:00Z", "2026-03-02T20:00:00Z", "2026-03-09T20:00:00Z"];
    let server = after_retention(&folder, &first, &then, "drop");
    let missing = json!({"count": 2, "first": "2026-03-08", "last": "2099-01-01"});
    // The shards of its orders decide whether the figures of the second are deleted.
    let is_second_gone = |answer: &Value| answer["meta"]["incomplete_days"]["count"] == json!(3);
    let answer = sales(&server, "acme", COUNTS);
    let second = if is_second_gone(&answer) { None } else { Some(("2026-03-02", 2)) };
    let all: Vec<_> =
        [Some(("2026-03-01", 1)), second, Some(("2026-03-09", 1))].into_iter().flatten().collect();
    assert_eq!(keys(&answer), all);
    if second.is_some() {
        assert_eq!(answer["meta"]["incomplete_days"], missing);
    }
    // Both shards get new orders of the day.
    let new: String = (900..916).map(|number| dated(number, "acme", "2026-03-08T09:00:00Z", "USD")).collect();
    ingested(&server, "new", (new + &dated(950, "acme", "2026-03-09T09:00:00Z", "USD")).as_bytes());
    for shard in 0..2 {
        let shard = rusqlite::Connection::open(folder.database(shard)).expect("the shard opens");
        let sql = "SELECT count(*) FROM orders WHERE tenant_id = 'acme' AND ordered_at >= '2026-03-08' \
                   AND ordered_at < '2026-03-09'";
        assert!(shard.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number") > 0);
    }
    for query in [COUNTS, "group_by=day&precision=approx", "group_by=day"] {
        let answer = sales(&server, "acme", query);
        let days = keys(&answer);
        assert!(days.contains(&("2026-03-09", 2)) && days.contains(&("2026-03-01", 1)), "{query}: {days:?}");
        assert!(!days.iter().any(|(day, _)| *day == "2026-03-08"), "{query}: {days:?}");
        assert_eq!(answer["meta"]["incomplete_days"]["last"], json!("2099-01-01"), "{query}");
    }
    let target =
        format!("/api/v1/tenants/acme/metrics/sales?{COUNTS}&start_date=2026-03-08&end_date=2026-03-08");
    let refused = problem(&server.get(&target), 410, "sales-dropped");
    let detail = refused["detail"].as_str().expect("a detail");
    assert!(detail.contains("sales figures of 2026-03-08 (UTC) were deleted"), "{detail}");
    let range = format!("{COUNTS}&start_date=2026-03-09&end_date=2026-03-09");
    assert_eq!(keys(&sales(&server, "acme", &range)), [("2026-03-09", 2)]);
    let found = search_all(&server, "acme", "fields=order_id&start_date=2026-03-08&end_date=2026-03-08");
    assert_eq!(found.len(), 16, "a search finds the orders of the day");
    server.stop();
    verify(&folder);
}
