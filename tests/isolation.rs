//! R2: with two tenants on one server, no endpoint with any key of one tenant shows, counts or changes anything of the
//! other. A tenant that sends a hundred times its limit takes nothing from the other.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::commerce::{NDJSON, counts, encoded, ingest, verify};
use crate::support::oracle::{self, Item, Order, STATUSES};
use crate::support::{Answer, Chance, Client, Folder, Server, cpus};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use firehose::base::clock;
use firehose::server;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

const OWN: &str = "alpha";
const OTHER: &str = "bravo";

/// A tenant's keys and orders.
struct Tenant {
    read: String,
    write: String,
    orders: Vec<Order>,
}

#[track_caller]
fn key(folder: &Folder, words: &[&str]) -> String {
    let (code, made) = folder.run_json(&[&["key", "create"], words].concat());
    assert_eq!(code, 0, "{made}");
    made["key"].as_str().expect("a key").to_owned()
}

/// Creates a tenant. Its order ids equal those of the other tenant, and every name contains the tenant.
fn tenant(folder: &Folder, name: &str, count: u64) -> Tenant {
    assert!(folder.run(&["tenant", "add", name]).status.success());
    let mut chance = Chance::new();
    let order = |id: u64| Order {
        customer: format!("{name}-c{}", id % 9),
        name: format!("Kim {name}"),
        email: format!("kim@{name}.example"),
        items: vec![Item {
            product: format!("{name}-p{}", id % 5),
            category: format!("{name} goods"),
            quantity: 1,
            price: 100,
        }],
        ..Order::random(&mut chance, name, id)
    };
    let orders = (0..count).map(order).collect();
    let keys = ["read", "write,manage"].map(|scope| key(folder, &["--tenant", name, "--scope", scope]));
    let [read, write] = keys;
    Tenant { read, write, orders }
}

fn bearer(key: &str) -> String {
    format!("Authorization: Bearer {key}\r\n")
}

#[track_caller]
fn ask(client: &mut Client, method: &str, target: &str, key: &str, body: &str) -> Answer {
    let (bearer, length) = (bearer(key), body.len());
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{bearer}Content-Length: {length}\r\n\r\n{body}");
    client.write(request.as_bytes()).expect("the server takes it");
    client.answer().unwrap_or_else(|error| panic!("{method} {target}: {error}"))
}

fn event(tenant: &str, id: &str) -> String {
    json!({"event_id": id, "tenant_id": tenant, "source": format!("{tenant} web"), "event_type": "click",
           "timestamp": "2026-03-01T10:00:00Z", "payload": {"of": tenant}})
    .to_string()
}

/// Returns an update of a product that both tenants have.
fn stock_update(id: &str, quantity: u64) -> String {
    json!({"mode": "last_write_wins", "updates": [{"event_id": id, "product_id": "p", "quantity": quantity,
           "occurred_at": "2026-03-01T10:00:00Z"}]})
    .to_string()
}

#[track_caller]
fn send(server: &Server, tenant: &Tenant, key: &str) -> Answer {
    let headers = format!("{NDJSON}{}", bearer(&tenant.write));
    ingest(server.address, key, &headers, &oracle::body(&tenant.orders)).expect("the server answers")
}

/// Returns everything that a tenant sees of itself.
fn seen(server: &Server, name: &str, tenant: &Tenant) -> Vec<Vec<u8>> {
    let mut client = server.client();
    let mut targets = vec![
        format!("/api/v1/tenants/{name}/orders/search?limit=100000"),
        format!("/events?tenant_id={name}"),
        format!("/metrics?tenant_id={name}&bucket_size=hour"),
        format!("/api/v1/tenants/{name}/events/summary?group_by=source"),
        format!("/api/v1/tenants/{name}/stock/p"),
        format!("/api/v1/tenants/{name}/stock"),
        format!("/api/v1/tenants/{name}/products"),
        format!("/api/v1/tenants/{name}/products/p"),
        format!("/api/v1/tenants/{name}/products/{name}-p1"),
    ];
    targets.extend(
        ["day", "hour", "category", "product"]
            .map(|by| format!("/api/v1/tenants/{name}/metrics/sales?group_by={by}")),
    );
    let mut told = Vec::new();
    for target in targets {
        let answer = ask(&mut client, "GET", &target, &tenant.read, "");
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        // Sales contain the time of their computation, so only the groups are compared.
        let groups =
            serde_json::from_slice::<Value>(&answer.body).ok().and_then(|said| said.get("groups").cloned());
        told.push(groups.map_or(answer.body, |groups| groups.to_string().into_bytes()));
    }
    told
}

fn names_other(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).to_lowercase().contains(OTHER)
}

/// Paths that are not endpoints.
const NO_ENDPOINT: &str = "none";

/// Returns the attempts to reach the other tenant through an endpoint: method, target and body.
fn attempts(path: &str, other: &Tenant) -> Vec<(&'static str, String, String)> {
    let get = |target: String| ("GET", target, String::new());
    let below = |tenant: &str, rest: &str| format!("/api/v1/tenants/{tenant}/{rest}");
    // The same name in several spellings.
    let spellings = [
        OTHER.to_owned(),
        format!("%62{}", &OTHER[1..]),
        format!("{OWN}%2F..%2F{OTHER}"),
        format!("{OTHER}%00"),
    ];
    let each = |rest: &str| spellings.iter().map(|name| below(name, rest)).collect::<Vec<_>>();
    match path {
        "/api/v1/tenants/{tenant}/orders/search" => {
            each("orders/search?limit=5").into_iter().map(get).collect()
        }
        "/api/v1/tenants/{tenant}/events/summary" => {
            each("events/summary?group_by=source").into_iter().map(get).collect()
        }
        "/api/v1/tenants/{tenant}/events/unique" => {
            each("events/unique?by=payload.of").into_iter().map(get).collect()
        }
        "/api/v1/tenants/{tenant}/metrics/sales" => {
            each("metrics/sales?group_by=product").into_iter().map(get).collect()
        }
        "/api/v1/tenants/{tenant}/orders/{order}" => [&other.orders[0].id, "none", "search"]
            .iter()
            .flat_map(|order| each(&format!("orders/{order}")))
            .flat_map(|target| ["GET", "PATCH"].map(|method| (method, target.clone())))
            .map(|(method, target)| (method, target, "{\"status\":\"refunded\"}".to_owned()))
            .collect(),
        "/api/v1/tenants/{tenant}/stock/bulk_update" => each("stock/bulk_update")
            .into_iter()
            .map(|target| ("PUT", target, stock_update("from-alpha", 7)))
            .collect(),
        "/api/v1/tenants/{tenant}/stock/{product}" => each("stock/p").into_iter().map(get).collect(),
        "/api/v1/tenants/{tenant}/stock" => {
            ["stock", "stock?below=1000000&limit=5"].into_iter().flat_map(each).map(get).collect()
        }
        "/api/v1/tenants/{tenant}/products" => {
            ["products", "products?prefix=b"].into_iter().flat_map(each).map(get).collect()
        }
        "/api/v1/tenants/{tenant}/products/{product}" => ["p", &format!("{OTHER}-p1")]
            .iter()
            .flat_map(|product| each(&format!("products/{product}")))
            .map(get)
            .collect(),
        "/api/v1/tenants/{tenant}/reports/export" => ["GET", "POST"]
            .iter()
            .flat_map(|method| each("reports/export").into_iter().map(move |target| (*method, target)))
            .flat_map(|(method, target)| {
                ["orders", "events"]
                    .map(|rows| (method, target.clone(), json!({"format": "csv", "rows": rows}).to_string()))
            })
            .collect(),
        "/api/v1/reports/export" => ["GET", "POST"]
            .map(|method| (method, path.to_owned(), json!({"format": "csv"}).to_string()))
            .into(),
        "/api/v1/reports/export/{export}" => ["GET", "DELETE"]
            .map(|method| (method, format!("/api/v1/reports/export/{:032x}", 7), String::new()))
            .into(),
        "/api/v1/reports/export/{export}/download" => {
            vec![get(format!("/api/v1/reports/export/{:032x}/download", 7))]
        }
        "/api/v1/tenants/{tenant}/reports/export/{export}" => ["GET", "DELETE"]
            .iter()
            .flat_map(|method| {
                each(&format!("reports/export/{:032x}", 7)).into_iter().map(move |to| (*method, to))
            })
            .map(|(method, target)| (method, target, String::new()))
            .collect(),
        "/api/v1/tenants/{tenant}/reports/export/{export}/download" => {
            each(&format!("reports/export/{:032x}/download", 7)).into_iter().map(get).collect()
        }
        "/events" => vec![
            get(format!("/events?tenant_id={OTHER}")),
            get(format!("/events?tenant_id=%62{}", &OTHER[1..])),
            get(format!("/events?tenant_id={OTHER}&tenant_id={OWN}")),
            ("POST", "/events".to_owned(), event(OTHER, "from-alpha")),
        ],
        "/events/bulk" => {
            vec![("POST", "/events/bulk".to_owned(), format!("{{\"events\":[{}]}}", event(OTHER, "bulk")))]
        }
        "/metrics" => vec![
            get(format!("/metrics?tenant_id={OTHER}&bucket_size=day")),
            get(format!("/metrics?tenant_id={OTHER}&bucket_size=day&tenant_id={OWN}")),
            get("/metrics".to_owned()),
        ],
        "/dashboard/state" => vec![get("/dashboard/state".to_owned())],
        "/clicks" => vec![get("/clicks".to_owned())],
        "/api/v1/tenants/{tenant}/customers/{customer}" => ["erase", "pseudonymise"]
            .iter()
            .flat_map(|mode| each(&format!("customers/{}?mode={mode}", other.orders[0].customer)))
            .map(|target| ("DELETE", target, String::new()))
            .chain(
                each(&format!("customers/{}", other.orders[0].customer))
                    .into_iter()
                    .map(|target| ("GET", target, String::new())),
            )
            .collect(),
        "/api/v1/tenants/{tenant}/customers/{customer}/export" => {
            each(&format!("customers/{}/export", other.orders[0].customer)).into_iter().map(get).collect()
        }
        "/api/v1/tenants/{tenant}/customers/erase" => each("customers/erase")
            .into_iter()
            .map(|target| {
                let body =
                    format!("{{\"mode\":\"erase\",\"customers\":[{:?},\"x\"]}}", other.orders[0].customer);
                ("POST", target, body)
            })
            .collect(),
        "/api/v1/tenants/{tenant}/erasures/{erasure}" => each("erasures/00").into_iter().map(get).collect(),
        "/clicks/users/{user_id}" => vec![("DELETE", "/clicks/users/1".to_owned(), String::new())],
        "/clicks/erasures/{erasure}" => vec![get("/clicks/erasures/00".to_owned())],
        "/api/v1/ingest/orders" => vec![("POST", "/api/v1/ingest/orders".to_owned(), String::new())],
        "/api/v1/ingest/orders/uploads" => vec![
            get("/api/v1/ingest/orders/uploads".to_owned()),
            ("DELETE", "/api/v1/ingest/orders/uploads".to_owned(), String::new()),
        ],
        "/api/v1/ingest/orders/uploads/{upload}" => ["GET", "PATCH", "DELETE"]
            .map(|method| (method, "/api/v1/ingest/orders/uploads/0-1".to_owned(), String::new()))
            .into(),
        "/api/v1/tenants/{tenant}/products/{product}/price-event" => each("products/p/price-event")
            .into_iter()
            .map(|target| {
                let body =
                    r#"{"event_id":"e","price":1,"currency":"USD","observed_at":"2026-01-01T00:00:00Z"}"#;
                ("POST", target, body.to_owned())
            })
            .collect(),
        "/api/v1/tenants/{tenant}/price-anomalies" => each("price-anomalies").into_iter().map(get).collect(),
        "/api/v1/tenants/{tenant}/products/{product}/price-anomalies" => {
            each("products/p/price-anomalies").into_iter().map(get).collect()
        }
        "/api/v1/tenants/{tenant}/price-anomalies/{anomaly}/review"
        | "/api/v1/tenants/{tenant}/products/{product}/price-anomalies/{anomaly}/review" => {
            [&"0".repeat(32), "none"]
                .iter()
                .flat_map(|anomaly| {
                    ["", "products/p/"].map(|product| format!("{product}price-anomalies/{anomaly}/review"))
                })
                .flat_map(|rest| each(&rest))
                .map(|target| ("POST", target, "{\"decision\":\"approve\"}".to_owned()))
                .collect()
        }
        // These belong to no tenant and answer the same with and without a key.
        "/event"
        | "/receipts/{receipt}"
        | "/health"
        | "/livez"
        | "/ready"
        | "/readyz"
        | "/openapi.json"
        | "/docs"
        | "/docs/{file..}"
        | "/docs/problems/{slug}"
        | "/dashboard/{file..}"
        | "/favicon.ico"
        | "/" => Vec::new(),
        NO_ENDPOINT => ["orders/search/", "orders", "", "reports/exports", "stock", "customers/c"]
            .into_iter()
            .flat_map(|rest| {
                ["GET", "POST", "PUT", "DELETE"].map(|method| (method, below(OTHER, rest), String::new()))
            })
            .collect(),
        other => panic!("{other}: what is tried of another tenant's there?"),
    }
}

#[test]
fn r2_no_endpoint_shows_or_changes_what_is_anothers() {
    let folder = Folder::new();
    let (own, other) = (tenant(&folder, OWN, 60), tenant(&folder, OTHER, 700));
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2), "--order-partition-rows-max", "90"]);
    let mut client = server.client();
    for tenant in [&own, &other] {
        let count = tenant.orders.len() as u64;
        // Both tenants use the same idempotency key, and each has its own ingest.
        assert_eq!(counts(&send(&server, tenant, "same").json()), [count, count, 0, 0]);
    }
    for (name, tenant, count) in [(OWN, &own, 5), (OTHER, &other, 40)] {
        // Both tenants use the same product and event ids, and each has its own.
        let target = format!("/api/v1/tenants/{name}/stock/bulk_update");
        let answer = ask(&mut client, "PUT", &target, &tenant.write, &stock_update("same", count));
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
        for id in 0..count {
            let answer = ask(&mut client, "POST", "/events", &tenant.write, &event(name, &format!("e{id}")));
            assert!(matches!(answer.status, 201 | 202), "{answer:?}");
        }
    }
    server.wait_until_stored();
    let before = seen(&server, OTHER, &other);
    assert_eq!(
        before.iter().filter(|told| names_other(told)).count(),
        8,
        "rows, events, buckets, a summary, two figures by name, products, a product"
    );

    let mut refusals = BTreeSet::new();
    let paths: BTreeSet<&str> = server::operations().map(|(path, ..)| path).chain([NO_ENDPOINT]).collect();
    for path in paths {
        for (method, target, body) in attempts(path, &other) {
            for key in [&own.read, &own.write] {
                let answer = ask(&mut server.client(), method, &target, key, &body);
                assert!(answer.status >= 400, "{method} {target}: {answer:?}");
                // The response repeats the request at most.
                let mut said = answer.json();
                said["instance"] = Value::Null;
                assert!(!names_other(said.to_string().as_bytes()), "{method} {target}: {said}");
                if answer.status == 403 {
                    refusals.insert((path, said["detail"].as_str().unwrap_or_default().to_owned()));
                }
            }
        }
    }
    // A refusal does not depend on whether the tenant, order or row exists.
    for target in
        [format!("/api/v1/tenants/{OTHER}/orders/order-1"), "/api/v1/tenants/none/orders/order-1".to_owned()]
    {
        let mut said = ask(&mut client, "PATCH", &target, &own.write, "{\"status\":\"paid\"}").json();
        said["instance"] = Value::Null;
        refusals.insert(("patch", said.to_string()));
    }
    assert_eq!(refusals.iter().filter(|(route, _)| *route == "patch").count(), 1, "{refusals:?}");

    // An ingest that contains the other tenant's orders, and status changes of own orders whose ids the other also
    // has.
    let mixed: Vec<Order> = other.orders.iter().take(20).cloned().collect();
    let headers = format!("{NDJSON}{}", bearer(&own.write));
    let said = ingest(server.address, "mixed", &headers, &oracle::body(&mixed)).expect("an answer").json();
    assert_eq!(counts(&said), [20, 0, 0, 20], "{said}");
    let beyond = &other.orders[other.orders.len() - 1].id;
    let target = format!("/api/v1/tenants/{OWN}/orders/{beyond}");
    assert_eq!(ask(&mut client, "PATCH", &target, &own.write, "{\"status\":\"paid\"}").status, 404);
    let mut chance = Chance::new();
    for order in &own.orders {
        let target = format!("/api/v1/tenants/{OWN}/orders/{}", order.id);
        let body = format!("{{\"status\":\"{}\"}}", STATUSES[chance.below(6) as usize]);
        assert_eq!(ask(&mut client, "PATCH", &target, &own.write, &body).status, 200);
    }
    // Every row of the other tenant is unchanged.
    assert!(seen(&server, OTHER, &other) == before, "something of the other's has changed");
    server.stop();
    verify(&folder);
}

#[test]
fn r2_answers_about_ones_own_say_nothing_about_the_other() {
    let folder = Folder::new();
    let (own, other) = (tenant(&folder, OWN, 60), tenant(&folder, OTHER, 700));
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2), "--order-partition-rows-max", "90"]);
    // The other tenant sends first, so its rows precede the own rows everywhere.
    let mut client = server.client();
    for (name, tenant) in [(OTHER, &other), (OWN, &own)] {
        assert_eq!(send(&server, tenant, "k").status, 200);
        for (product, count) in [("p", 3), ("q", 4)] {
            let target = format!("/api/v1/tenants/{name}/stock/bulk_update");
            let update = stock_update("same", count).replace("\"p\"", &format!("\"{product}\""));
            assert_eq!(ask(&mut client, "PUT", &target, &tenant.write, &update).status, 200);
        }
    }
    let mut get = |target: &str| {
        let answer = ask(&mut client, "GET", target, &own.read, "");
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        assert!(!names_other(&answer.body), "{target}: {}", String::from_utf8_lossy(&answer.body));
        answer
    };
    let listed = get(&format!("/api/v1/tenants/{OWN}/products?limit=100")).json();
    assert_eq!(listed["rows"], 7, "{listed}");
    let rows = |answer: &Answer| answer.body.iter().filter(|byte| **byte == b'\n').count() - 1;
    let search = |query: &str| format!("/api/v1/tenants/{OWN}/orders/search?{query}");
    assert_eq!(rows(&get(&search("limit=100000"))), 60);
    // Names of the other tenant, and the terms that the index uses for tenants.
    for query in ["q=", "q=tenant1", "q=tenant2", "q=kim&product_id=", "q=tenant*", "product_id=", "q=kim%20"]
    {
        let answer = get(&search(&format!(
            "{query}{}",
            if query.ends_with(['=', '0']) { encoded(OTHER) + "-p1" } else { String::new() }
        )));
        assert_eq!(rows(&answer), 0, "{query}");
    }
    assert_eq!(rows(&get(&search("q=kim"))), 60);
    for by in ["day", "hour", "category", "product"] {
        for precision in ["exact", "approx"] {
            let said =
                get(&format!("/api/v1/tenants/{OWN}/metrics/sales?group_by={by}&precision={precision}"))
                    .json();
            let groups = oracle::sales(&own.orders, by, &jiff::tz::TimeZone::UTC, (None, None));
            assert_eq!(said["groups"].as_array().expect("groups").len(), groups.len());
            // The number of scanned rows counts own rows only.
            assert!(said["meta"]["rows_scanned"].as_u64().expect("a count") <= 60, "{said}");
        }
    }
    // A cursor reveals neither its pins, which count the rows of all tenants, nor whether they have moved.
    let cursor_of = |answer: &Answer| {
        let end =
            answer.body.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).expect("a last line");
        let end: Value = serde_json::from_slice(end).expect("JSON");
        end["next_cursor"].as_str().expect("a cursor").to_owned()
    };
    let cursors = [cursor_of(&get(&search("limit=5"))), cursor_of(&get(&search("limit=5")))];
    assert_ne!(cursors[0], cursors[1]);
    let pins = pins(&folder.data());
    assert!(pins.iter().all(|pin| *pin > 300), "{pins:?}");
    for cursor in &cursors {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).expect("base64");
        for pin in &pins {
            assert!(
                !bytes.windows(8).any(|window| window == pin.to_le_bytes() || window == pin.to_be_bytes())
            );
        }
        assert!(!names_other(&bytes));
    }
    // The other tenant cannot continue with the cursor either.
    let list_cursor = |list: &str| {
        let said = get(&format!("/api/v1/tenants/{OWN}/{list}?limit=1")).json();
        format!("{list}?limit=1&cursor={}", said["next_cursor"].as_str().expect("a cursor"))
    };
    let lists = ["products", "stock"].map(list_cursor);
    let search_cursor = format!("orders/search?limit=5&cursor={}", cursors[0]);
    let continued = lists.iter().chain([&search_cursor]).flat_map(|target| [(OWN, target), (OTHER, target)]);
    for (name, target) in continued {
        let target = format!("/api/v1/tenants/{name}/{target}");
        let answer = ask(&mut server.client(), "GET", &target, &other.read, "");
        assert_eq!(answer.status, if name == OWN { 403 } else { 400 }, "{answer:?}");
    }
    server.stop();
}

/// Returns the highest row number of an order in every shard.
fn pins(data: &Path) -> Vec<i64> {
    let shards = ["shard-00", "shard-01"].map(|shard| data.join(shard).join("shard.db"));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let pin = |path| {
        let connection = Connection::open_with_flags(path, flags).expect("the shard opens");
        connection.query_row("SELECT max(id) FROM orders", [], |row| row.get(0)).expect("a number")
    };
    shards.into_iter().map(pin).collect()
}

#[test]
fn a_tenant_far_over_its_limit_takes_nothing_from_the_other() {
    const LIMIT: u64 = 5;
    const FACTOR: u64 = 100;
    let folder = Folder::new();
    let (own, other) = (tenant(&folder, OWN, 20), tenant(&folder, OTHER, 20));
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
    for tenant in [&own, &other] {
        assert_eq!(send(&server, tenant, "k").status, 200);
    }
    let rate = LIMIT.to_string();
    assert!(folder.run(&["tenant", "set", OWN, "--requests-per-second", &rate]).status.success());
    let target = |name: &str| format!("/api/v1/tenants/{name}/orders/search?limit=3");
    crate::support::wait_until("the limit to hold", || {
        ask(&mut server.client(), "GET", &target(OWN), &own.read, "").status == 429
    });

    let started = clock::now();
    let (mut taken, mut refused) = (0, 0);
    let mut flood = [server.client(), server.client(), server.client(), server.client()];
    let mut quiet = server.client();
    for number in 0..LIMIT * FACTOR {
        let client = &mut flood[number as usize % 4];
        let answer = match number % 3 {
            0 => ask(
                client,
                "PATCH",
                &format!("/api/v1/tenants/{OWN}/orders/order-1"),
                &own.write,
                "{\"status\":\"paid\"}",
            ),
            _ => ask(client, "GET", &target(OWN), &own.read, ""),
        };
        match answer.status {
            200 => taken += 1,
            429 => {
                refused += 1;
                assert_eq!(answer.header("RateLimit-Policy"), Some("\"requests\";q=5;w=1"), "{answer:?}");
                assert!(
                    answer.header("RateLimit").is_some_and(|said| said.starts_with("\"requests\";r=0;t=")),
                    "{answer:?}"
                );
                assert!(
                    answer
                        .header("Retry-After")
                        .is_some_and(|said| said.parse::<u64>().is_ok_and(|wait| wait >= 1))
                );
                assert_eq!(answer.json()["type"], "/docs/problems/rate-limited");
            }
            _ => panic!("{answer:?}"),
        }
        if number % 5 == 0 {
            let answer = ask(&mut quiet, "GET", &target(OTHER), &other.read, "");
            assert_eq!(answer.status, 200, "the other pays for it: {answer:?}");
            assert!(answer.header("RateLimit").is_none());
        }
    }
    // The full bucket, what was added since, and one lease of each core.
    let allowed = LIMIT as f64 * (2.0 + started.elapsed().as_secs_f64()) + 2.0;
    assert!(f64::from(taken) <= allowed, "{taken} were taken where {allowed} may be");
    assert!(refused > 0 && taken + refused == (LIMIT * FACTOR) as i32);
    server.stop();
}

#[test]
fn an_upload_of_the_other_is_none_for_anybody_else() {
    let folder = Folder::new();
    let (own, other) = (tenant(&folder, OWN, 5), tenant(&folder, OTHER, 50));
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
    let body = oracle::body(&other.orders);
    let uploads = "/api/v1/ingest/orders/uploads";
    let say = |client: &mut Client, method: &str, target: &str, key: &str, lines: &str, body: &[u8]| {
        let (bearer, length) = (bearer(key), body.len());
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: test\r\nTus-Resumable: 1.0.0\r\n{bearer}{lines}Content-Length: {length}\r\n\r\n"
        );
        client.write(&[head.as_bytes(), body].concat()).expect("the server takes it");
        client.answer().expect("the server answers")
    };
    let mut client = server.client();
    let length = format!("Upload-Length: {}\r\n", body.len());
    let made = say(&mut client, "POST", uploads, &other.write, &length, b"");
    assert_eq!(made.status, 201, "{made:?}");
    let location = made.header("Location").expect("it is somewhere");
    let target = &location[location.find(uploads).expect("a path")..];
    let patch = "Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\n";
    for target in [target, &format!("{uploads}/none")] {
        for key in [&own.read, &own.write, &other.read] {
            for (method, lines, bytes) in
                [("GET", "", &b""[..]), ("PATCH", patch, &body), ("DELETE", "", b"")]
            {
                let answer = say(&mut server.client(), method, target, key, lines, bytes);
                // A reading key of the same tenant sees the upload's state and cannot change it.
                let is_seen = *key == other.read && method == "GET" && !target.ends_with("none");
                let wanted = match method {
                    _ if is_seen => 200,
                    "GET" => 404,
                    _ if *key == own.write => 404,
                    _ => 403,
                };
                assert_eq!(answer.status, wanted, "{method} {target}: {answer:?}");
                assert!(is_seen || !names_other(&answer.body), "{answer:?}");
            }
        }
    }
    // The upload is still complete and still at its beginning.
    let answer = say(&mut client, "PATCH", target, &other.write, patch, &body);
    assert_eq!(answer.status, 204, "{answer:?}");
    let summary = say(&mut client, "GET", target, &other.write, "", b"").json();
    assert_eq!(counts(&summary), [50, 50, 0, 0], "{summary}");
    server.stop();
}

/// Only the upload waits for its tenant's byte limit; other requests do not wait.
#[test]
fn an_upload_that_waits_for_its_bytes_holds_up_nobody_else() {
    let folder = Folder::new();
    let (own, other) = (tenant(&folder, OWN, 200), tenant(&folder, OTHER, 20));
    let server = folder.serve(&["--shards", "1"]);
    assert_eq!(send(&server, &other, "k").status, 200);
    let bytes = oracle::body(&own.orders).len();
    // The upload needs a few seconds at this rate.
    let rate = (bytes / 3).to_string();
    assert!(folder.run(&["tenant", "set", OWN, "--bytes-per-second", &rate]).status.success());
    let target = format!("/api/v1/tenants/{OTHER}/orders/search?limit=3");
    crate::support::wait_until("the limit to hold", || {
        let row = "x".repeat(bytes / 3 + 1);
        ask(&mut server.client(), "POST", "/events", &own.write, &row).status == 429
    });
    let (address, reads) = (server.address, bearer(&own.write));
    let body = oracle::body(&own.orders);
    let uploading = std::thread::spawn(move || {
        ingest(address, "slow", &format!("{NDJSON}{reads}"), &body).expect("an answer")
    });
    let mut quiet = server.client();
    let mut asked = 0;
    while !uploading.is_finished() {
        let answer = ask(&mut quiet, "GET", &target, &other.read, "");
        assert_eq!(answer.status, 200, "{answer:?}");
        asked += 1;
    }
    assert!(asked > 10, "there was time to ask, {asked} times");
    let answer = uploading.join().expect("no panic");
    assert_eq!(counts(&answer.json()), [200, 200, 0, 0]);
    server.stop();
}
