//! Retention by tenant in a running server, on a folder of the schema before it. The fixture has two tenants, `acme` and
//! `beta`. Each has 18 events and 18 orders, a third of them in the open partitions and the others in two sealed ones that
//! both tenants use, eight prices of a product, of which a window of five is in force, and eight stock events each of two
//! products.

use serde_json::{Value, json};

use crate::support::commerce::{sales, search_all, verify};

use crate::support::{Folder, Server, command, rows_of, wait_until, wait_until_moved};

/// Makes the rows old, except for those of the open partitions.
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

/// Returns everything that is stored of a tenant, row for row.
fn rows_of_tenant(folder: &Folder, tenant: &str) -> Vec<Vec<String>> {
    let of = format!("(SELECT id FROM tenant_row WHERE tenant_id = '{tenant}')");
    let by_name = ["service_event", "bucket_minute", "bucket_hour", "bucket_day"];
    let by_number = [
        "sales_order",
        "sales_item",
        "customer_row",
        "product_row",
        "category_row",
        "sales_hour",
        "sales_day",
        "sales_category",
        "dropped_sales_day",
        "sales_gone",
        "price_series",
        "stock_level",
    ];
    let by_name = by_name.map(|table| format!("SELECT * FROM {table} WHERE tenant_id = '{tenant}'"));
    let by_number = by_number.map(|table| format!("SELECT * FROM {table} WHERE tenant = {of}"));
    let stock = format!(
        "SELECT * FROM stock_event WHERE product IN (SELECT id FROM stock_level WHERE tenant = {of})"
    );
    let prices =
        format!("SELECT * FROM price_row WHERE series IN (SELECT id FROM price_series WHERE tenant = {of})");
    let read = |sql: &String| {
        let row = |row: &rusqlite::Row<'_>| {
            let columns = row.as_ref().column_count();
            (0..columns).map(|at| Ok(format!("{:?}", row.get_ref(at)?))).collect::<Result<Vec<_>, _>>()
        };
        let mut found: Vec<String> =
            rows_of(&folder.data(), sql, row).into_iter().map(|row| row.join(", ")).collect();
        found.sort();
        found
    };
    by_name.iter().chain(&by_number).chain([&stock, &prices]).map(read).collect()
}

fn events(server: &Server, tenant: &str) -> Vec<Value> {
    let page = server.get(&format!("/events?tenant_id={tenant}&page_size=100")).json();
    page["events"].as_array().expect("events").clone()
}

fn stock_again(server: &Server, event: u32) -> Value {
    let update = json!({"mode": "merge", "updates": [{
        "event_id": format!("s-{event}-p-1"), "product_id": "p-1", "delta": event + 1,
        "occurred_at": format!("2026-03-01T0{event}:00:00Z"),
    }]});
    let target = "/api/v1/tenants/acme/stock/bulk_update";
    server.client().ask("PUT", target, &update.to_string()).expect("an answer").json()["products"][0].take()
}

fn dropped(server: &Server, kind: &str) -> f64 {
    let metric = format!(r#"firehose_shard_dropped_rows_total{{shard="0",kind="{kind}",reason="tenant"}} "#);
    let page = String::from_utf8_lossy(&server.get("/metrics").body).into_owned();
    let line = page.lines().find_map(|line| line.strip_prefix(&metric)).expect("the metric is there");
    line.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn rows_of_a_tenant_leave_while_the_server_runs_and_those_of_others_stay() {
    let folder = Folder::of_fixture("folder-v7");
    let server = folder.serve(&[]);
    wait_until_moved(&folder);
    server.stop();
    verify(&folder);
    let before = rows_of_tenant(&folder, "beta");
    aged(&folder);
    let aged_beta = rows_of_tenant(&folder, "beta");
    assert_eq!((before.len(), aged_beta[0].len(), aged_beta[4].len()), (aged_beta.len(), 18, 18));

    let mut server = folder.serve(&[]);
    let first = stock_again(&server, 2);
    let by_day = "group_by=day&precision=approx";
    let (acme, beta) = (sales(&server, "acme", by_day), sales(&server, "beta", by_day));
    assert_eq!(
        (events(&server, "acme").len(), search_all(&server, "acme", "fields=order_id").len()),
        (18, 18)
    );
    // The running server learns of the tenant and of its ages, and is killed with work left to do.
    let (code, said) = folder.run_json(&["tenant", "add", "acme", "--retention-events", "30d"]);
    assert_eq!((code, &said["retention_events"], &said["retention_stock"]), (0, &json!("30d"), &Value::Null));
    wait_until("events to leave", || events(&server, "acme").len() == 6);
    assert_eq!(search_all(&server, "acme", "fields=order_id").len(), 18, "orders have no age yet");
    let ages = ["--retention-orders", "400d", "--retention-prices", "30d", "--retention-stock", "30d"];
    assert_eq!(folder.run_json(&[&["tenant", "set", "acme"], &ages[..]].concat()).0, 0);
    server.replace(|| folder.serve(&[]));
    wait_until("orders to leave", || search_all(&server, "acme", "fields=order_id").len() == 6);
    wait_until("prices to leave", || dropped(&server, "price_row") == 3.0);
    wait_until("stock events to leave", || dropped(&server, "stock_event") == 16.0);
    assert_eq!((dropped(&server, "service_event"), dropped(&server, "sales_order")), (12.0, 12.0));
    assert_eq!(
        (events(&server, "beta").len(), search_all(&server, "beta", "fields=order_id").len()),
        (18, 18)
    );
    let left = server.logged("retention dropped rows").expect("it is logged");
    assert_eq!((&left["tenant"], &left["reason"]), (&json!("acme"), &json!("tenant")));

    // Sums, levels and known stock events stay. The id of an event is free again.
    assert_eq!(sales(&server, "acme", by_day)["groups"], acme["groups"]);
    assert_eq!(sales(&server, "beta", by_day)["groups"], beta["groups"]);
    assert_eq!(stock_again(&server, 2), first);
    let event = |n: u32| {
        let tenant = ["acme", "beta"][n as usize % 2];
        let event = json!({
            "event_id": format!("ev-{n}"), "tenant_id": tenant, "source": "web", "event_type": "view",
            "timestamp": "2026-03-01T00:00:00Z", "payload": {},
        });
        server.client().ask("POST", "/events", &event.to_string()).expect("an answer").status
    };
    assert_eq!((event(0), event(1)), (201, 200), "a new event, and a known id");
    server.stop();
    verify(&folder);
    assert_eq!(folder.run_json(&["verify", "--stock"]).0, 0);
    assert_eq!(rows_of_tenant(&folder, "beta"), aged_beta);
    let sql = "SELECT kind, upto_id FROM retention_tenant WHERE tenant_id = 'acme' ORDER BY kind";
    let marks: Vec<(String, i64)> = rows_of(&folder.data(), sql, |row| Ok((row.get(0)?, row.get(1)?)));
    assert_eq!(marks, [("sales_order".to_owned(), 24), ("service_event".to_owned(), 24)]);
}

#[test]
fn the_ages_of_a_tenant_are_listed_and_one_that_the_server_undercuts_is_reported() {
    let folder = Folder::new();
    let run = |words: &[&str]| {
        let mut program = command();
        program.args(words).arg("--data").arg(folder.data());
        let output = program.env("FIREHOSE_RETENTION_ORDERS", "30d").output().expect("the program runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, said, noted) =
        run(&["tenant", "add", "acme", "--retention-orders", "20d", "--retention-stock", "1m"]);
    assert_eq!((code, noted.as_str()), (Some(0), ""));
    assert!(said.contains("retention orders=20d,stock=1m"), "{said}");
    let (code, _, noted) = run(&["tenant", "set", "acme", "--retention-orders", "60d"]);
    assert_eq!(code, Some(0));
    assert!(noted.contains("retention_orders=60d has no effect") && noted.contains("is 30d"), "{noted}");
    let (_, said, noted) =
        run(&["tenant", "set", "acme", "--retention-stock", "off", "--requests-per-second", "5"]);
    assert!(said.contains("5 requests/s") && said.contains("retention orders=60d\n"), "{said}");
    assert!(noted.contains("retention_orders"), "{noted}");
    let (code, _, noted) = run(&["tenant", "set", "acme", "--retention-events", "59s"]);
    assert!(code == Some(2) && noted.contains("1m"), "{noted}");
    assert_eq!(run(&["tenant", "set", "beta", "--retention-events", "1d"]).0, Some(1), "it was never added");
    // A tenant is not added if its ages cannot be stored with it.
    assert_eq!(run(&["tenant", "add", "acme", "--retention-events", "1d"]).0, Some(1));
    let (_, listed, _) = run(&["tenant", "list"]);
    assert!(listed.lines().any(|line| line.ends_with("orders=60d  acme")), "{listed}");
    let (_, listed) = folder.run_json(&["tenant", "list"]);
    let ages =
        ["events", "orders", "prices", "stock"].map(|kind| listed[0][format!("retention_{kind}")].clone());
    assert_eq!(ages, [Value::Null, json!("60d"), Value::Null, Value::Null]);
}
