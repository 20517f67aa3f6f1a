//! T1: stock over HTTP. A product's updates are applied together or not at all, independently of other products, and
//! each event once, whatever is sent, how often, to how many shards, and whatever happens to the server.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};

use crate::support::commerce::{encoded, problem};
use crate::support::{
    Answer, Chance, Client, Folder, Server, SmallDisk, cpus, hold_lock, rows_of, wait_until,
};
use firehose::base::clock;
use serde_json::{Value, json};

fn target(tenant: &str, rest: &str) -> String {
    format!("/api/v1/tenants/{}/stock/{rest}", encoded(tenant))
}

fn put(client: &mut Client, tenant: &str, body: &str) -> io::Result<Answer> {
    client.ask("PUT", &target(tenant, "bulk_update"), body)
}

#[track_caller]
fn asked(client: &mut Client, mode: &str, updates: Value) -> (u16, Value) {
    let body = json!({"mode": mode, "updates": updates}).to_string();
    let answer = put(client, "acme", &body).expect("the server answers");
    (answer.status, answer.json())
}

/// Returns an update that sets a quantity at a time in seconds.
fn set(event: &str, product: &str, quantity: i64, at_s: i64) -> Value {
    json!({"event_id": event, "product_id": product, "quantity": quantity,
           "occurred_at": clock::rfc3339(at_s * 1_000_000)})
}

fn add(event: &str, product: &str, delta: i64) -> Value {
    json!({"event_id": event, "product_id": product, "delta": delta, "occurred_at": "2026-03-01T12:00:00+01:00"})
}

fn expecting(mut update: Value, version: i64) -> Value {
    update["expected_version"] = json!(version);
    update
}

/// Returns the result, code, quantity and version of every product.
fn results(said: &Value) -> Vec<(String, String, i64, i64)> {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let number = |row: &Value, name: &str| row[name].as_i64().unwrap_or(-1);
    let rows = said["products"].as_array().expect("products").iter();
    rows.map(|row| (text(row, "result"), text(row, "code"), number(row, "quantity"), number(row, "version")))
        .collect()
}

fn is(result: &str, code: &str, quantity: i64, version: i64) -> (String, String, i64, i64) {
    (result.to_owned(), code.to_owned(), quantity, version)
}

/// Returns the quantity and version of a product, if it has any.
#[track_caller]
fn level(server: &Server, tenant: &str, product: &str) -> Option<(i64, i64)> {
    let answer = server.get(&target(tenant, &encoded(product)));
    if answer.status == 404 {
        problem(&answer, 404, "no-such-stock");
        return None;
    }
    let said = answer.json();
    assert_eq!((answer.status, &said["product_id"]), (200, &Value::from(product)));
    Some((said["quantity"].as_i64().expect("a quantity"), said["version"].as_i64().expect("a version")))
}

#[track_caller]
fn verify(folder: &Folder) -> u64 {
    let (code, said) = folder.run_json(&["verify", "--stock"]);
    assert_eq!(code, 0, "{said}");
    said.as_array().expect("a list").iter().filter_map(|checked| checked["events"].as_u64()).sum()
}

#[test]
fn t1_every_mode_does_what_it_says() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
    let mut client = server.client();
    let client = &mut client;
    assert_eq!(level(&server, "acme", "p"), None);

    // The newest update applies in any order of arrival. At equal times the greater id applies, and within one request
    // the newest update.
    let (status, said) =
        asked(client, "last_write_wins", json!([set("b", "p", 20, 20), set("a", "q", 1, 1)]));
    assert_eq!((status, results(&said)), (200, vec![is("applied", "", 20, 1), is("applied", "", 1, 1)]));
    let (status, said) = asked(client, "last_write_wins", json!([set("a", "p", 10, 10)]));
    assert_eq!((status, results(&said)), (200, vec![is("applied", "superseded", 20, 2)]));
    let more = json!([set("c", "p", 21, 20), set("e", "p", 15, 15), set("d", "p", 30, 20)]);
    assert_eq!(results(&asked(client, "last_write_wins", more.clone()).1), [is("applied", "", 30, 3)]);

    // Deltas add up, but not below zero. All deltas of a product apply or none, independently of other products.
    let deltas = json!([
        add("m1", "p", -5),
        add("n1", "q", -9),
        add("m2", "p", 2),
        add("n2", "q", 3),
        add("o", "r", 4)
    ]);
    let (status, said) = asked(client, "merge", deltas);
    let expected =
        [is("applied", "", 27, 4), is("rejected", "negative_stock", 1, 1), is("applied", "", 4, 1)];
    assert_eq!((status, results(&said)), (200, expected.to_vec()));
    assert_eq!((&said["applied"], &said["failed"]), (&json!(2), &json!(1)));
    assert_eq!(level(&server, "acme", "q"), Some((1, 1)));

    // An update applies only to the current version. A conflict reports the current quantity and version.
    let (status, said) = asked(client, "reject", json!([expecting(set("x1", "p", 7, 1), 3)]));
    assert_eq!((status, results(&said)), (409, vec![is("conflict", "stale_version", 27, 4)]));
    assert_eq!((&said["applied"], &said["failed"]), (&json!(0), &json!(1)));
    let both = json!([expecting(set("x2", "p", 7, 1), 4), expecting(add("x3", "p", 5), 3)]);
    assert_eq!(results(&asked(client, "reject", both).1), [is("conflict", "stale_version", 27, 4)]);
    let both = json!([expecting(set("x2", "p", 7, 1), 4), expecting(add("x3", "p", 5), 4)]);
    assert_eq!(results(&asked(client, "reject", both.clone()).1), [is("applied", "", 12, 5)]);
    let new = json!([expecting(set("y", "new", 7, 1), 0), expecting(add("y", "newer", -1), 0)]);
    let expected = vec![is("applied", "", 7, 1), is("rejected", "negative_stock", 0, 0)];
    assert_eq!(results(&asked(client, "reject", new).1), expected);
    assert_eq!(level(&server, "acme", "newer"), None);

    // A repeated request gets its first response, with the quantity and version of that time.
    let (status, said) = asked(client, "last_write_wins", more);
    assert_eq!((status, results(&said)), (200, vec![is("duplicate", "", 30, 3)]));
    assert_eq!((&said["applied"], &said["duplicates"], &said["failed"]), (&json!(0), &json!(1), &json!(0)));
    assert_eq!(results(&asked(client, "reject", both).1), [is("duplicate", "", 12, 5)]);
    // A rejected event may be sent again.
    assert_eq!(results(&asked(client, "merge", json!([add("n2", "q", 3)])).1), [is("applied", "", 4, 2)]);
    for (mode, update, code) in [
        ("last_write_wins", set("b", "p", 21, 20), "event_id_reused"),
        ("last_write_wins", set("b", "p", 20, 21), "event_id_reused"),
        ("merge", add("b", "p", 20), "event_id_reused"),
    ] {
        let (status, said) = asked(client, mode, json!([update]));
        assert_eq!((status, results(&said)), (409, vec![is("conflict", code, 12, 5)]));
    }
    let (status, said) = asked(client, "merge", json!([add("m1", "p", -5), add("m9", "p", 1)]));
    assert_eq!((status, results(&said)), (409, vec![is("conflict", "partly_seen", 12, 5)]));
    // The same id of another product is another event; the same row twice is one event.
    let (_, said) = asked(client, "merge", json!([add("m1", "r", 1), add("m1", "r", 1)]));
    assert_eq!(results(&said), [is("applied", "", 5, 2)]);

    // A product is read with its version, and not sent again to a client that has this version.
    let path = target("acme", "p");
    let answer = client.get(&path).expect("an answer");
    assert_eq!(answer.header("ETag"), Some("\"5\""));
    let at = answer.json()["updated_at"].as_str().expect("a time").to_owned();
    assert!(at.parse::<jiff::Timestamp>().is_ok() && at.ends_with('Z'), "{at}");
    for (tag, status) in [("\"5\"", 304), ("\"4\"", 200)] {
        client
            .write(format!("GET {path} HTTP/1.1\r\nHost: t\r\nIf-None-Match: {tag}\r\n\r\n").as_bytes())
            .expect("the server takes it");
        let answer = client.answer().expect("an answer");
        assert_eq!((answer.status, answer.header("ETag")), (status, Some("\"5\"")), "{tag}");
    }
    client.write(format!("HEAD {path} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes()).expect("the server takes it");
    assert_eq!(client.answer_head().expect("an answer").status, 200);
    server.stop();
    assert_eq!(verify(&folder), 14);
    let stock =
        rows_of(&folder.data(), "SELECT tenant_id, product_id, quantity, version FROM stock", |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, i64>(2)?,
                row.get::<_, i64>(3)?,
            ))
        });
    assert!(stock.contains(&("acme".to_owned(), "p".to_owned(), 12, 5)), "{stock:?}");
}

#[test]
fn wrong_updates_fail_their_product_only_and_are_named() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2"]);
    let mut client = server.client();
    let updates = json!([
        add("a", "good", 1),
        set("b", "bad", 1, 1),
        add("c", "good", 1),
        {"event_id": "d", "delta": 1, "occurred_at": "2026-03-01T12:00:00Z"},
        add("e", "bad", 1),
        add("f", "", 1),
        add("g", "twice", 1), add("g", "twice", 2),
        7,
        add("h", "other", 1),
    ]);
    let (status, said) = asked(&mut client, "merge", updates);
    assert_eq!(status, 200, "{said}");
    let row = |row: &Value| {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        (text("product_id"), text("result"), text("code"), text("pointer"))
    };
    let told: Vec<_> = said["products"].as_array().expect("products").iter().map(row).collect();
    let is = |id: &str, result: &str, code: &str, pointer: &str| {
        (id.to_owned(), result.to_owned(), code.to_owned(), pointer.to_owned())
    };
    assert_eq!(
        told,
        [
            is("good", "applied", "", ""),
            is("bad", "rejected", "needs_delta", "/updates/1/quantity"),
            is("", "rejected", "missing_field", "/updates/3/product_id"),
            is("", "rejected", "empty", "/updates/5/product_id"),
            is("twice", "rejected", "event_id_reused", "/updates/7/event_id"),
            is("", "rejected", "not_an_object", "/updates/8"),
            is("other", "applied", "", ""),
        ]
    );
    assert_eq!((&said["applied"], &said["failed"]), (&json!(2), &json!(5)));
    assert_eq!(level(&server, "acme", "good"), Some((2, 1)));
    assert_eq!(level(&server, "acme", "bad"), None);

    // Only invalid updates; too many; an invalid request.
    let body = json!({"mode": "merge", "updates": [set("b", "bad", 1, 1), 7]}).to_string();
    let said = problem(&put(&mut client, "acme", &body).expect("an answer"), 422, "invalid-stock-update");
    let errors: Vec<_> =
        said["errors"].as_array().expect("errors").iter().map(|error| &error["index"]).collect();
    assert_eq!((errors, &said["errors"][0]["pointer"]), (vec![&json!(0), &json!(1)], &json!("/quantity")));
    let many: Vec<_> = (0..10_001).map(|n| add(&format!("e{n}"), "many", 1)).collect();
    let body = json!({"mode": "merge", "updates": many}).to_string();
    problem(&put(&mut client, "acme", &body).expect("an answer"), 413, "too-many-updates");
    assert_eq!(level(&server, "acme", "many"), None);
    for (body, status, slug) in [
        ("", 400, "empty-body"),
        ("{\"mode\":", 400, "not-json"),
        ("{\"mode\":\"merge\",\"updates\":[]}", 422, "invalid-stock-update"),
        ("{\"mode\":\"max\",\"updates\":[{}]}", 422, "invalid-stock-update"),
        ("[]", 422, "invalid-stock-update"),
    ] {
        problem(&put(&mut client, "acme", body).expect("an answer"), status, slug);
    }
    let answer = client.ask("POST", &target("acme", "bulk_update"), "{}").expect("an answer");
    assert_eq!((answer.status, answer.header("Allow")), (405, Some("GET, HEAD, PUT, OPTIONS")));
    let answer = put(&mut client, "a\u{1}", "{}").expect("an answer");
    assert_eq!(answer.status, 404);
}

#[test]
fn ten_thousand_updates_of_half_as_many_products_at_once() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "4", "--cores", &cpus(2)]);
    let (mut client, padding) = (server.client(), "x".repeat(60));
    let updates: Vec<_> = (0..10_000)
        .map(|n| set(&format!("{padding}-{n}"), &format!("p-{}", n % 5_000), n, 1_000 + n))
        .collect();
    let body = json!({"mode": "last_write_wins", "updates": updates}).to_string();
    assert!(body.len() > 1_200_000, "{}", body.len());
    let first = put(&mut client, "acme", &body).expect("an answer");
    // On a slow machine, some of the updates are committed later.
    assert!(matches!(first.status, 200 | 202), "{first:?}");
    server.wait_until_stored();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(body.as_bytes()).expect("memory takes it");
    let packed = gzip.finish().expect("memory takes it");
    let head = format!(
        "PUT {} HTTP/1.1\r\nHost: t\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        target("acme", "bulk_update"),
        packed.len()
    );
    client.write(&[head.as_bytes(), &packed].concat()).expect("the server takes it");
    let again = client.answer().expect("an answer").json();
    assert_eq!(again["products"].as_array().map(Vec::len), Some(5_000));
    assert_eq!((&again["duplicates"], &again["failed"]), (&json!(5_000), &json!(0)));
    assert_eq!(
        (&again["products"][7]["product_id"], &again["products"][7]["quantity"]),
        (&json!("p-7"), &json!(5_007))
    );
    assert_eq!(level(&server, "acme", "p-4999"), Some((9_999, 1)));

    // All updates of one product become one change; then more than fit into a record.
    let one: Vec<_> = (0..10_000).map(|n| add(&format!("d{n}"), "one", 1)).collect();
    let body = json!({"mode": "merge", "updates": one}).to_string();
    let answer = put(&mut client, "acme", &body).expect("an answer");
    assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    server.wait_until_stored();
    assert_eq!(level(&server, "acme", "one"), Some((10_000, 1)));
    let long = "y".repeat(150);
    let one: Vec<_> = (0..10_000).map(|n| add(&format!("{long}{n}"), "long", 1)).collect();
    let body = json!({"mode": "merge", "updates": one}).to_string();
    let said = problem(&put(&mut client, "acme", &body).expect("an answer"), 422, "invalid-stock-update");
    assert_eq!(said["errors"][0]["code"], "too_large");
    // Beyond the limit of a body.
    let body = format!("{{\"updates\":[],\"x\":\"{}\"}}", "x".repeat(21 << 20));
    let head = Client::request("PUT", &target("acme", "bulk_update"), &body);
    // The response may arrive before the body is sent.
    let mut other = server.client();
    let written = other.write(head.as_bytes());
    let answer = other.answer().unwrap_or_else(|error| panic!("{error}, {written:?}"));
    problem(&answer, 413, "payload-too-large");
    server.stop();
    assert_eq!(verify(&folder), 20_000);
}

#[test]
fn what_is_pending_is_safe_and_told_when_it_is_asked_again() {
    let folder = Folder::new();
    let flags = ["--shards", "2", "--cores", &cpus(2), "--commit-wait", "100ms"];
    let server = folder.serve(&flags);
    server.wait_until_stored();
    let locks = [hold_lock(&folder.database(0)), hold_lock(&folder.database(1))];
    let updates: Vec<_> = (0..20).map(|n| add(&format!("e{n}"), &format!("p-{}", n % 10), n)).collect();
    let (status, said) = asked(&mut server.client(), "merge", json!(updates));
    assert_eq!((status, &said["pending"], &said["applied"]), (202, &json!(10), &json!(0)));
    assert!(results(&said).iter().all(|(result, ..)| result == "pending"), "{said}");
    // None of the updates is in a database yet.
    server.kill();
    drop(locks);
    let server = folder.serve(&flags);
    server.wait_until_stored();
    let (status, said) = asked(&mut server.client(), "merge", json!(updates));
    assert_eq!((status, &said["duplicates"]), (200, &json!(10)), "{said}");
    for n in 0..10 {
        assert_eq!(level(&server, "acme", &format!("p-{n}")), Some((10 + 2 * n, 1)));
    }
    server.stop();
    assert_eq!(verify(&folder), 20);
}

#[test]
fn one_shard_that_is_locked_holds_up_its_own_products_only() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2), "--commit-wait", "300ms"]);
    server.wait_until_stored();
    let lock = hold_lock(&folder.database(1));
    let updates: Vec<_> = (0..40).map(|n| set("e", &format!("p-{n}"), n, 1)).collect();
    let mut client = server.client();
    let (status, said) = asked(&mut client, "last_write_wins", json!(updates));
    let number = |name: &str| said[name].as_u64().expect("a number");
    assert!(status == 202 && number("applied") > 0 && number("pending") > 0, "{said}");
    assert_eq!(number("applied") + number("pending"), 40);
    drop(lock);
    server.wait_until_stored();
    let (status, said) = asked(&mut client, "last_write_wins", json!(updates));
    assert_eq!((status, &said["duplicates"]), (200, &json!(40)));
}

/// Everything is small, so that products, events and versions often coincide.
fn random(chance: &mut Chance) -> (&'static str, String) {
    let mode = ["last_write_wins", "merge", "reject"][chance.below(3) as usize];
    let updates: Vec<Value> = (0..1 + chance.below(12))
        .map(|_| {
            let product = format!("p-{}", chance.below(9));
            let (event, number) = (format!("e{}", chance.below(60)), chance.below(50) as i64);
            let is_delta = mode == "merge" || mode == "reject" && chance.below(2) == 0;
            let update = match is_delta {
                true => add(&event, &product, number - 25),
                false => set(&event, &product, number, chance.below(9) as i64),
            };
            // Some updates are invalid.
            match chance.below(30) {
                0 => set("", &product, 1, 1),
                _ => expecting(update, chance.below(6) as i64),
            }
        })
        .collect();
    let tenant = ["acme", "beta & co"][chance.below(2) as usize];
    (tenant, json!({"mode": mode, "updates": updates}).to_string())
}

#[test]
fn r1_n_shards_answer_as_one_and_reshard_and_backup_keep_it() {
    let layouts = [("1", 1), ("3", 2), ("8", 2)];
    let folders = layouts.map(|_| Folder::new());
    let servers: Vec<Server> = layouts
        .iter()
        .zip(&folders)
        .map(|((shards, cores), folder)| folder.serve(&["--shards", shards, "--cores", &cpus(*cores)]))
        .collect();
    let mut clients: Vec<Client> = servers.iter().map(Server::client).collect();
    let mut chance = Chance::new();
    let mut results: BTreeMap<u16, u64> = BTreeMap::new();
    for _ in 0..150 {
        let (tenant, body) = random(&mut chance);
        let mut answers: Vec<(u16, Value)> = Vec::new();
        for client in &mut clients {
            let answer = put(client, tenant, &body).expect("the server answers");
            let mut said = answer.json();
            said["instance"] = Value::Null;
            answers.push((answer.status, said));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{body}: {answers:#?}");
        *results.entry(answers[0].0).or_default() += 1;
    }
    assert!(results.contains_key(&200) && results.contains_key(&409), "{results:?}");
    let all = |server: &Server| -> Vec<_> {
        let tenants = ["acme", "beta & co"].into_iter();
        tenants.flat_map(|tenant| (0..9).map(move |n| level(server, tenant, &format!("p-{n}")))).collect()
    };
    let levels = all(&servers[0]);
    assert!(levels.iter().flatten().count() > 10, "{levels:?}");
    assert!(servers.iter().all(|server| all(server) == levels));
    // A backup of one moment, while the server runs.
    let copy = folders[1].beside("copy");
    let done = folders[1].run(&["backup", copy.to_str().expect("a name")]);
    assert!(done.status.success(), "{done:?}");
    servers.into_iter().for_each(|server| drop(server.stop()));
    let events: Vec<u64> = folders.iter().map(verify).collect();
    assert!(events.iter().all(|count| *count == events[0] && *count > 0), "{events:?}");

    let server = folders[1].serve_on(&copy, &[]);
    assert_eq!(all(&server), levels);
    server.stop();
    let done = folders[2].run(&["reshard", "--to", "3"]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(verify(&folders[2]), events[0]);
    let server = folders[2].serve(&[]);
    assert_eq!(all(&server), levels);
    // Events are recognised there as well.
    let (tenant, body) = random(&mut chance);
    let again = [folders[0].serve(&[]), server].map(|server| {
        let answer = put(&mut server.client(), tenant, &body).expect("an answer");
        let mut said = answer.json();
        said["instance"] = Value::Null;
        (answer.status, said)
    });
    assert_eq!(again[0], again[1]);
}

#[test]
fn what_a_dataset_says_of_stock_is_history_that_counts() {
    let folder = Folder::new();
    let files = folder.beside("dataset");
    let words = [
        "gen-dataset",
        "--preset",
        "tiny",
        "--orders",
        "0",
        "--price-samples",
        "0",
        "--stock-events",
        "3000",
    ];
    let mut command = crate::support::command();
    command.args(words).arg("--out").arg(&files).arg("--load").arg(folder.data());
    let done = command.output().expect("the program runs");
    assert!(done.status.success(), "{done:?}");
    // A product's events are in order of time: a count is the quantity, a delta its change.
    let mut levels: BTreeMap<(String, String), (i64, i64)> = BTreeMap::new();
    for line in fs::read_to_string(files.join("stock_events.ndjson")).expect("the events").lines() {
        let event: Value = serde_json::from_str(line).expect("JSON");
        let text = |name: &str| event[name].as_str().expect("a text").to_owned();
        let level = levels.entry((text("tenant_id"), text("product_id"))).or_default();
        level.0 =
            event["quantity"].as_i64().unwrap_or_else(|| level.0 + event["delta"].as_i64().expect("a delta"));
        level.1 += 1;
    }
    assert!(levels.values().any(|(quantity, _)| *quantity > 0) && levels.len() > 10, "{}", levels.len());
    assert_eq!(verify(&folder), 3_000);
    let server = folder.serve(&[]);
    for ((tenant, product), expected) in &levels {
        assert_eq!(level(&server, tenant, product).as_ref(), Some(expected), "{tenant} {product}");
    }
    // New updates continue from these levels.
    let ((tenant, product), (quantity, version)) = levels.first_key_value().expect("a product");
    let body = json!({"mode": "merge", "updates": [add("late", product, 7)]}).to_string();
    let said = put(&mut server.client(), tenant, &body).expect("an answer").json();
    assert_eq!(results(&said), [is("applied", "", quantity + 7, version + 1)]);
    server.stop();
    assert_eq!(verify(&folder), 3_001);
}

#[test]
fn without_room_nothing_is_taken_and_afterwards_everything() {
    let folder = Folder::new();
    let Some(disk) = SmallDisk::mount(folder.beside("disk"), 48 << 20) else { return };
    let (data, ballast) = (disk.path().join("data"), disk.path().join("ballast"));
    let flags = ["--shards", "1", "--segment-bytes", "1MiB", "--disk-reserve", "6MiB"];
    let server = folder.serve_on(&data, &flags);
    let mut client = server.client();
    assert_eq!(asked(&mut client, "merge", json!([add("e0", "p", 1)])).0, 200);
    let mut file = File::create(&ballast).expect("the ballast is made");
    let block = vec![b'b'; 64 << 10];
    while file.write_all(&block).is_ok() {}
    let mut taken = 1;
    wait_until("the reserve to be noticed", || {
        let body = json!({"mode": "merge", "updates": [add(&format!("e{taken}"), "p", 1)]}).to_string();
        let answer = put(&mut client, "acme", &body).expect("the server answers");
        if answer.status == 507 {
            problem(&answer, 507, "journal-full");
            assert!(answer.header("Retry-After").is_some());
            return true;
        }
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
        taken += 1;
        false
    });
    drop(file);
    fs::remove_file(&ballast).expect("it is there");
    wait_until("room to be noticed", || {
        let body = json!({"mode": "merge", "updates": [add(&format!("e{taken}"), "p", 1)]}).to_string();
        matches!(put(&mut client, "acme", &body).expect("the server answers").status, 200 | 202)
    });
    server.wait_until_stored();
    assert_eq!(level(&server, "acme", "p").map(|(quantity, _)| quantity), Some(taken + 1));
}

#[test]
fn a_shard_that_falls_behind_is_given_no_more() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1", "--commit-wait", "50ms", "--journal-high-water", "1MiB"]);
    server.wait_until_stored();
    let lock = hold_lock(&folder.database(0));
    let (mut client, mut taken) = (server.client(), 0_i64);
    wait_until("the high-water mark", || {
        let updates: Vec<_> = (0..1_000).map(|n| add(&format!("e{taken}-{n}"), "p", 1)).collect();
        let body = json!({"mode": "merge", "updates": updates}).to_string();
        let answer = put(&mut client, "acme", &body).expect("the server answers");
        if answer.status == 429 {
            problem(&answer, 429, "queue-full");
            assert!(answer.header("Retry-After").is_some());
            return true;
        }
        assert_eq!(answer.status, 202, "{answer:?}");
        taken += 1;
        false
    });
    drop(lock);
    server.wait_until_stored();
    assert_eq!(level(&server, "acme", "p"), Some((taken * 1_000, taken)));
}
