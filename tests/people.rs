//! E1: after an erasure, no file of the data folder contains the person, whatever was running. No other person's data
//! changes, and every figure equals a recount.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::commerce::{NDJSON, counts, ingest, ingested, problem, sales, search_all, verify};
use crate::support::oracle::{self, Item, Order};
use crate::support::{Client, Folder, Server, cpus, rows_of, wait_for, wait_until};
use rusqlite::types::Value as Cell;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

pub(crate) const TENANT: &str = "acme";
pub(crate) const ID: &str = "cust-Zq7x9";
pub(crate) const NAMES: [&str; 2] = ["Zaphodius Beeblebroxley", "Z. Beeblebroxley"];
pub(crate) const EMAIL: &str = "zaphodius@heartofgold.example";
/// Texts that would show the person in a file, in any spelling.
const TRACES: [&str; 5] = ["Zq7x9", "aphodius", "eeblebrox", "heartofgold", "zq7x9"];
pub(crate) const ORDERS: usize = 260;

pub(crate) fn serve(folder: &Folder) -> Server {
    folder.serve(&[
        "--shards",
        "2",
        "--cores",
        &cpus(2),
        "--order-partition-rows-max",
        "60",
        "--partition-rows-max",
        "50",
    ])
}

/// Opens a reader of each shard, with a snapshot.
pub(crate) fn readers(folder: &Folder) -> Vec<Connection> {
    let open = |index| {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let reader = Connection::open_with_flags(folder.database(index), flags).expect("the shard opens");
        reader.execute_batch("BEGIN; SELECT count(*) FROM erasure;").expect("a snapshot");
        reader
    };
    (0..2).map(open).collect()
}

/// Returns orders of one tenant. Every seventh is the person's, under one of two names.
pub(crate) fn orders(tenant: &str) -> Vec<Order> {
    let order = |number: usize| {
        let is_theirs = number % 7 == 3;
        let other = number % 11;
        Order {
            tenant: tenant.to_owned(),
            id: format!("{tenant}-o-{number}"),
            customer: if is_theirs { ID.to_owned() } else { format!("c-{other}") },
            name: if is_theirs { NAMES[number % 2].to_owned() } else { format!("Ann Number{other}") },
            email: if is_theirs { EMAIL.to_owned() } else { format!("ann{other}@example.org") },
            status: oracle::STATUSES[number % 6].to_owned(),
            currency: if number.is_multiple_of(5) { "JPY" } else { "USD" }.to_owned(),
            at_us: 1_772_366_400_000_000 + number as i64 * 3_000_000_000,
            items: (0..1 + number % 3)
                .map(|line| Item {
                    product: format!("p-{}", (number + line) % 9),
                    category: format!("g-{}", (number + line) % 3),
                    quantity: 1 + (number % 4) as i64,
                    price: 1_999,
                })
                .collect(),
        }
    };
    (0..ORDERS).map(order).collect()
}

pub(crate) fn is_theirs(order: &&Order) -> bool {
    order.customer == ID
}

pub(crate) fn others(orders: &[Order]) -> Vec<Order> {
    orders.iter().filter(|order| !is_theirs(order)).cloned().collect()
}

fn event(number: usize, payload: &Value) -> String {
    json!({
        "event_id": format!("e-{number}"), "tenant_id": TENANT, "source": "web", "event_type": "view",
        "timestamp": format!("2026-03-01T10:{:02}:00Z", number % 60), "payload": payload,
    })
    .to_string()
}

/// Returns events. Every fifth mentions the person in some form.
fn events() -> Vec<String> {
    let payload = |number: usize| match number % 25 {
        0 => json!({"customer": {"id": ID, "name": NAMES[0]}}),
        5 => json!({"mail": EMAIL.to_ascii_uppercase()}),
        10 => json!({"note": format!("call {ID}, again")}),
        15 => json!({"to": [EMAIL]}),
        20 => json!({ID: 1}),
        other => json!({"customer": {"id": format!("c-{other}")}, "name": "Ann"}),
    };
    (0..170).map(|number| event(number, &payload(number))).collect()
}

#[track_caller]
pub(crate) fn post(client: &mut Client, target: &str, body: &str) -> Value {
    let answer = client.ask("POST", target, body).expect("the server answers");
    assert!(answer.status < 300, "{} {}", answer.status, String::from_utf8_lossy(&answer.body));
    answer.json()
}

/// Fills shards, partitions and journals with orders and events, and returns the orders of [`TENANT`].
pub(crate) fn fill(server: &Server) -> Vec<Order> {
    let all = orders(TENANT);
    assert_eq!(counts(&ingested(server, "first", &oracle::body(&all))), [ORDERS as u64, ORDERS as u64, 0, 0]);
    // Conflicts: the kept response contains their ids.
    let mut other: Vec<Order> = all.iter().filter(is_theirs).take(3).cloned().collect();
    other.iter_mut().for_each(|order| order.items[0].price += 1);
    assert_eq!(counts(&ingested(server, "conflicts", &oracle::body(&other))), [3, 0, 3, 0]);
    let mut client = server.client();
    for event in events() {
        post(&mut client, "/events", &event);
    }
    server.wait_until_stored();
    // A full partition is sealed when more rows arrive, and the conflicts may not have reached every shard.
    ingested(server, "sealing", &oracle::body(&others(&orders("gamma"))));
    server.wait_until_stored();
    all
}

pub(crate) fn walk(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

/// Returns the files of the data folder that show the person.
pub(crate) fn traces(folder: &Folder) -> Vec<String> {
    let mut files = Vec::new();
    walk(&folder.data(), &mut files);
    assert!(files.len() > 4);
    let mut found = Vec::new();
    for path in files {
        // A file that is removed meanwhile shows nothing.
        let Ok(bytes) = fs::read(&path) else { continue };
        let lower = bytes.to_ascii_lowercase();
        for trace in TRACES {
            let trace = trace.to_ascii_lowercase();
            if memchr::memmem::find(&lower, trace.as_bytes()).is_some() {
                found.push(format!("{trace} in {}", path.display()));
            }
        }
    }
    found
}

pub(crate) fn customer(tenant: &str, mode: &str) -> String {
    format!("/api/v1/tenants/{tenant}/customers/{ID}?mode={mode}")
}

#[track_caller]
pub(crate) fn erased(server: &Server, target: &str) -> Value {
    let answer = server.client().ask("DELETE", target, "").expect("the server answers");
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

pub(crate) fn sum(certificate: &Value, name: &str) -> u64 {
    let shards = certificate["shards"].as_array().expect("shards");
    shards.iter().map(|shard| shard[name].as_u64().unwrap_or_else(|| panic!("{name} in {shard}"))).sum()
}

/// Returns all rows that do not concern the person, as the sqlite3 shell reads them.
fn rows_of_others(data: &Path) -> Vec<Vec<Cell>> {
    let mut found = Vec::new();
    for sql in [
        format!("SELECT * FROM orders WHERE customer_id NOT IN ('{ID}') AND customer_id NOT LIKE 'anon-%' ORDER BY id"),
        "SELECT i.* FROM order_items i JOIN orders o ON o.id = i.order_row WHERE o.customer_id LIKE 'c-%' ORDER BY 1, 2"
            .to_owned(),
        "SELECT * FROM customers WHERE customer_id LIKE 'c-%' ORDER BY 1, 2, 3, 4".to_owned(),
        "SELECT * FROM service_events WHERE payload LIKE '%\"Ann\"%' ORDER BY id".to_owned(),
        "SELECT * FROM products ORDER BY 1, 2, 3".to_owned(),
    ] {
        let cells = |row: &rusqlite::Row<'_>| {
            (0..row.as_ref().column_count()).map(|at| row.get(at)).collect::<Result<Vec<Cell>, _>>()
        };
        found.extend(rows_of(data, &sql, cells));
    }
    found
}

#[track_caller]
fn figures(server: &Server, tenant: &str, precision: &str) -> Value {
    let by =
        |by: &str| sales(server, tenant, &format!("group_by={by}&precision={precision}"))["groups"].clone();
    json!([by("day"), by("hour"), by("product"), by("category")])
}

/// Checks that nothing of the person is left, and that all other data is as before.
#[track_caller]
fn check_erased(folder: &Folder, server: &Server, all: &[Order], before: &[Vec<Cell>]) {
    assert_eq!(traces(folder), Vec::<String>::new());
    let left = others(all);
    assert_eq!(search_all(server, TENANT, "limit=100"), oracle::rows(&left));
    for word in ["Zaphodius", "zaph", "heartofgold", "Beeblebroxley"] {
        assert_eq!(search_all(server, TENANT, &format!("q={word}")), Vec::<Value>::new());
    }
    assert_eq!(
        search_all(server, TENANT, "q=Number4").len(),
        left.iter().filter(|o| o.customer == "c-4").count()
    );
    let zone = jiff::tz::TimeZone::UTC;
    for by in ["day", "hour", "product", "category"] {
        let groups = sales(server, TENANT, &format!("group_by={by}"))["groups"].clone();
        assert_eq!(groups, json!(oracle::sales(&left, by, &zone, (None, None))), "{by}");
    }
    assert_eq!(rows_of_others(&folder.data()), before);
    // Rows were removed from the middle of every partition, and an export misses none of the others.
    for status in [None, Some("paid")] {
        let is_wanted = |order: &&Order| status.is_none_or(|status| order.status == status);
        let wanted: BTreeSet<String> = left.iter().filter(is_wanted).map(|order| order.id.clone()).collect();
        let filters = status.map_or(json!({}), |status| json!({"status": [status]}));
        assert_eq!(exported(server, &json!({"format": "ndjson", "filters": filters})), wanted);
    }
}

/// Returns the ids of the orders in a new export.
pub(crate) fn exported(server: &Server, wish: &Value) -> BTreeSet<String> {
    let exports = format!("/api/v1/tenants/{TENANT}/reports/export");
    let export = post(&mut server.client(), &exports, &wish.to_string());
    let answer = server.get(export["download_url"].as_str().expect("a path"));
    assert_eq!(answer.status, 200, "{answer:?}");
    let text = String::from_utf8(answer.body).expect("text");
    let ids = text.lines().map(|line| {
        let row: Value = serde_json::from_str(line).expect("a line of JSON");
        row["order_id"].as_str().expect("an id").to_owned()
    });
    ids.collect()
}

#[test]
fn e1_an_erased_customer_is_in_no_file_and_does_not_come_back() {
    let folder = Folder::new();
    let server = serve(&folder);
    let all = fill(&server);
    let theirs = all.iter().filter(is_theirs).count();
    // Unfinished uploads: one with lines of the person, a packed one whose content is unknown, and one with lines of
    // others only.
    let mut client = server.client();
    let plain = upload(&mut client, &oracle::body(all.iter().filter(is_theirs).take(2)), 90_000);
    let foreign = upload(&mut client, &oracle::body(&others(&all)[..2]), 90_000);
    let mut export = |tenant: &str, filters: Value| {
        let exports = format!("/api/v1/tenants/{tenant}/reports/export");
        let wish = json!({"format": "ndjson", "compression": "zstd", "filters": filters});
        let id = post(&mut client, &exports, &wish.to_string())["id"].clone();
        let export = format!("{exports}/{}", id.as_str().expect("an id"));
        wait_until("the export to be done", || server.get(&export).json()["state"] == "done");
        export
    };
    let (their_export, foreign_export) = (export(TENANT, json!({})), export("beta", json!({})));
    let others_export = export(TENANT, json!({"q": "Number4"}));
    let before = rows_of_others(&folder.data());
    assert!(traces(&folder).len() > 6, "{:?}", traces(&folder));
    wait_until("a sealed partition to have its lists", || {
        rows_of(
            &folder.data(),
            "SELECT count(*) FROM partition WHERE stream = 'sales_order' AND indexed_at > ''",
            |row| row.get::<_, i64>(0),
        )
        .iter()
        .all(|sealed| *sealed > 0)
    });

    let certificate = erased(&server, &customer(TENANT, "erase"));
    assert_eq!(sum(&certificate, "orders"), theirs as u64, "{certificate}");
    assert_eq!(sum(&certificate, "events"), events().len() as u64 / 5, "{certificate}");
    assert!(sum(&certificate, "customers") >= 2 && sum(&certificate, "words") >= 2, "{certificate}");
    assert!(sum(&certificate, "items") >= theirs as u64 && sum(&certificate, "pages") > 0, "{certificate}");
    assert!(sum(&certificate, "journals") >= 2 && sum(&certificate, "ingest_answers") > 0, "{certificate}");
    assert_eq!(certificate["uploads_removed"], 1, "{certificate}");
    assert_eq!(certificate["exports_removed"], 1, "{certificate}");
    let told = server.get(&their_export).json();
    assert_eq!(told["state"], "erased", "{told}");
    let gone = problem(&server.get(&format!("{their_export}/download")), 410, "export-gone");
    assert!(
        gone["detail"].as_str().is_some_and(|detail| detail.contains("a person who was erased")),
        "{gone}"
    );
    assert_eq!(server.get(&others_export).json()["state"], "done", "it does not tell of them");
    assert_eq!(server.get(&foreign_export).status, 200);
    assert!(certificate["digest"].as_str().is_some_and(|digest| digest.len() == 8 + 64), "{certificate}");
    check_erased(&folder, &server, &all, &before);
    assert_eq!(client.get(&plain).expect("an answer").status, 404);
    assert_eq!(client.get(&foreign).expect("an answer").status, 200);

    // A later request returns the same certificate. Another tenant's path does not reach it.
    let id = certificate["id"].as_str().expect("an id");
    let told = server.get(&format!("/api/v1/tenants/{TENANT}/erasures/{id}")).json();
    assert_eq!((&told["state"], &told["certificate"]), (&json!("finished"), &certificate));
    problem(&server.get(&format!("/api/v1/tenants/beta/erasures/{id}")), 404, "no-such-erasure");
    problem(&server.get(&format!("/clicks/erasures/{id}")), 404, "no-such-erasure");
    // A second erasure finds nothing.
    let again = erased(&server, &customer(TENANT, "erase"));
    assert_eq!(
        (sum(&again, "orders"), sum(&again, "events"), sum(&again, "customers")),
        (0, 0, 0),
        "{again}"
    );
    assert_ne!(again["id"], certificate["id"]);

    // The person's rows are suppressed when they are sent again: with the same key, with another one, and as single
    // events.
    let replayed = ingest(server.address, "first", NDJSON, &oracle::body(&all)).expect("an answer");
    assert_eq!((replayed.status, replayed.header("idempotent-replayed")), (200, Some("true")));
    let summary = ingested(&server, "second", &oracle::body(&all));
    let kept = (ORDERS - theirs) as u64;
    assert_eq!(counts(&summary), [ORDERS as u64, 0, kept, theirs as u64]);
    assert!(summary["errors"].as_array().is_some_and(|errors| {
        errors.iter().all(|error| error["code"] == "suppressed" && error["order_id"].is_null())
    }));
    for event in events() {
        assert_eq!(post(&mut client, "/events", &event)["status"], "duplicate");
    }
    let new = Order { id: "new".to_owned(), ..all[3].clone() };
    assert_eq!(counts(&ingested(&server, "third", &oracle::body([&new]))), [1, 0, 0, 1]);
    // The journals contain the rows for a while; an erasure removes them.
    erased(&server, &customer(TENANT, "erase"));
    check_erased(&folder, &server, &all, &before);
    server.stop();
    verify(&folder);

    // A restart still recognises them, even if the memory of ids is rebuilt from the rows.
    for index in 0..2 {
        let connection = Connection::open(folder.database(index)).expect("the shard opens");
        connection.execute_batch("DELETE FROM order_id_recent; DELETE FROM id_recent;").expect("ids go");
    }
    let server = serve(&folder);
    let summary = ingested(&server, "fourth", &oracle::body(&all));
    assert_eq!(counts(&summary), [ORDERS as u64, 0, kept, theirs as u64]);
    let more: Vec<Order> = (0..150).map(|n| Order { id: format!("more-{n}"), ..all[0].clone() }).collect();
    assert_eq!(counts(&ingested(&server, "more", &oracle::body(&more)))[1], 150);
    server.stop();
    verify(&folder);
}

/// Starts an upload of `length` bytes and sends these.
pub(crate) fn upload(client: &mut Client, bytes: &[u8], length: usize) -> String {
    let head = format!(
        "POST /api/v1/ingest/orders/uploads HTTP/1.1\r\nHost: test\r\nTus-Resumable: 1.0.0\r\nUpload-Length: {length}\r\n\
         Content-Type: application/offset+octet-stream\r\nContent-Length: {}\r\n\r\n",
        bytes.len()
    );
    client.write(head.as_bytes()).expect("it is sent");
    client.write(bytes).expect("it is sent");
    let answer = client.answer().expect("an answer");
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    answer.header("location").expect("a location").to_owned()
}

#[test]
fn e1_an_erasure_goes_on_after_a_kill() {
    let folder = Folder::new();
    let server = serve(&folder);
    let all = fill(&server);
    let before = rows_of_others(&folder.data());
    let ids = || rows_of(&folder.data(), "SELECT id FROM erasure", |row| row.get::<_, String>(0));
    // An open reader prevents the truncation of the WAL, so the erasure cannot finish.
    let readers = readers(&folder);
    let mut client = server.client();
    client.write(Client::request("DELETE", &customer(TENANT, "erase"), "").as_bytes()).expect("it is sent");
    // Once every shard has the erasure's order, the server is killed repeatedly, at any step.
    wait_until("both shards to know of it", || ids().len() == 2);
    server.kill();
    for _ in 0..3 {
        let server = serve(&folder);
        let seen = || rows_of(&folder.data(), "SELECT step FROM erasure", |row| row.get::<_, String>(0));
        wait_until("it to go on", || seen().iter().any(|step| step != "waiting"));
        server.kill();
    }
    let server = serve(&folder);
    let target = format!("/api/v1/tenants/{TENANT}/erasures/{}", ids()[0]);
    assert_eq!(server.get(&target).json()["state"], "running");
    // An export of the tenant waits for the erasure; exports of other tenants do not wait.
    let export = |tenant: &str| {
        let exports = format!("/api/v1/tenants/{tenant}/reports/export");
        let said = post(&mut server.client(), &exports, r#"{"format":"ndjson"}"#);
        said["url"].as_str().expect("a path").to_owned()
    };
    let waiting = [export(TENANT), export(TENANT)];
    let other = export("beta");
    wait_until("the other's export to be done", || server.get(&other).json()["state"] == "done");
    for export in &waiting {
        assert_eq!(server.get(export).json()["state"], "queued");
    }
    // The subject is stored masked, together with the secret of its mask.
    let sql = "SELECT subject FROM erasure WHERE subject IS NOT NULL";
    let subjects: Vec<Vec<u8>> = rows_of(&folder.data(), sql, |row| row.get(0));
    assert!(!subjects.is_empty());
    // This comes last: a process that closes a file releases all its locks on it, including those of the readers.
    assert!(!traces(&folder).is_empty());
    drop(readers);
    let told = wait_for("the erasure to be finished", || {
        Some(server.get(&target).json()).filter(|told| told["state"] == "finished")
    });
    assert_eq!(sum(&told["certificate"], "orders"), all.iter().filter(is_theirs).count() as u64, "{told}");
    for export in &waiting {
        wait_until("the export to be done", || server.get(export).json()["state"] == "done");
        assert_eq!(server.get(export).json()["rows"], others(&all).len());
    }
    let mut files = Vec::new();
    walk(&folder.data(), &mut files);
    for (path, subject) in files.iter().flat_map(|path| subjects.iter().map(move |subject| (path, subject))) {
        let bytes = fs::read(path).unwrap_or_default();
        let is_in = |part: &[u8]| memchr::memmem::find(&bytes, part).is_some();
        assert!(!subject.chunks_exact(8).any(is_in), "who it was is in {}", path.display());
    }
    check_erased(&folder, &server, &all, &before);
    server.stop();
    verify(&folder);
}

#[test]
fn e1_what_comes_again_leaves_the_journals_too() {
    let folder = Folder::new();
    let server = serve(&folder);
    let all = fill(&server);
    erased(&server, &customer(TENANT, "erase"));
    assert_eq!(traces(&folder), Vec::<String>::new());
    let again = |server: &Server, key: &str| {
        let theirs = all.iter().filter(is_theirs).count() as u64;
        assert_eq!(counts(&ingested(server, key, &oracle::body(&all)))[3], theirs);
        for event in events() {
            assert_eq!(post(&mut server.client(), "/events", &event)["status"], "duplicate");
        }
        server.wait_until_stored();
    };
    // One record, so that the minute begins after it.
    let one = all.iter().find(is_theirs).expect("an order of theirs");
    assert_eq!(counts(&ingested(&server, "second", &oracle::body([one]))), [1, 0, 0, 1]);
    wait_until("the journals to be begun again", || traces(&folder).is_empty());
    // Within the same minute the record stays for a while; a clean stop removes it.
    again(&server, "third");
    server.stop();
    assert_eq!(traces(&folder), Vec::<String>::new());
    // After a kill, the next start removes it.
    let server = serve(&folder);
    again(&server, "fourth");
    server.kill();
    let server = serve(&folder);
    wait_until("the journals to be begun again", || traces(&folder).is_empty());
    server.stop();
    verify(&folder);
}

#[test]
fn e1_a_pseudonym_keeps_every_figure() {
    let folder = Folder::new();
    let server = serve(&folder);
    let all = fill(&server);
    let theirs = all.iter().filter(is_theirs).count();
    let before = rows_of_others(&folder.data());
    let (exact, approx) = (figures(&server, TENANT, "exact"), figures(&server, TENANT, "approx"));
    let counted =
        |server: &Server| server.get(&format!("/metrics?tenant_id={TENANT}&bucket_size=minute")).json();
    let buckets = counted(&server);

    let certificate = erased(&server, &customer(TENANT, "pseudonymise"));
    assert_eq!(sum(&certificate, "orders"), theirs as u64, "{certificate}");
    assert_eq!(traces(&folder), Vec::<String>::new());
    assert_eq!(rows_of_others(&folder.data()), before);
    assert_eq!(figures(&server, TENANT, "exact"), exact);
    let estimated = |figures: &Value| -> Vec<(Value, Value, Value)> {
        let groups = figures.as_array().expect("four").iter().flat_map(|by| by.as_array().expect("groups"));
        groups
            .map(|group| {
                (group["orders"].clone(), group["revenue"].clone(), group["unique_customers"].clone())
            })
            .collect()
    };
    assert_eq!(estimated(&figures(&server, TENANT, "approx")), estimated(&approx));
    assert_eq!(counted(&server), buckets);
    let rows = search_all(&server, TENANT, "limit=100");
    let tokens: BTreeSet<&str> = rows
        .iter()
        .filter_map(|row| row["customer_id"].as_str())
        .filter(|id| id.starts_with("anon-"))
        .collect();
    assert_eq!((rows.len(), tokens.len()), (ORDERS, 1));
    assert_eq!(search_all(&server, TENANT, "q=zaphodius"), Vec::<Value>::new());
    let token = (*tokens.first().expect("a token")).to_owned();

    // Rows that are sent again are recognised. New rows get the token, so the number of customers stays one.
    let summary = ingested(&server, "second", &oracle::body(&all));
    assert_eq!(counts(&summary), [ORDERS as u64, 0, ORDERS as u64, 0]);
    let new = Order { id: "new".to_owned(), ..all[3].clone() };
    assert_eq!(counts(&ingested(&server, "third", &oracle::body([&new]))), [1, 1, 0, 0]);
    let again = erased(&server, &customer(TENANT, "pseudonymise"));
    assert_eq!(sum(&again, "orders"), 0, "{again}");
    assert_eq!(traces(&folder), Vec::<String>::new());
    let by_token = |rows: &[Value]| rows.iter().filter(|row| row["customer_id"] == token.as_str()).count();
    assert_eq!(by_token(&search_all(&server, TENANT, "limit=1000")), theirs + 1);

    // A later erasure also removes the token's orders.
    let certificate = erased(&server, &customer(TENANT, "erase"));
    assert_eq!(sum(&certificate, "orders"), theirs as u64 + 1, "{certificate}");
    assert_eq!(by_token(&search_all(&server, TENANT, "limit=1000")), 0);
    server.stop();
    verify(&folder);
}

#[test]
fn e1_another_tenants_customer_of_the_same_id_stays_and_a_reshard_carries_the_list() {
    let folder = Folder::new();
    let server = serve(&folder);
    let all = fill(&server);
    let beta = orders("beta");
    ingested(&server, "beta", &oracle::body(&beta));
    server.wait_until_stored();
    let figures_before = figures(&server, "beta", "approx");
    let theirs = all.iter().filter(is_theirs).count();
    assert_eq!(sum(&erased(&server, &customer(TENANT, "erase")), "orders"), theirs as u64);
    assert_eq!(search_all(&server, "beta", "limit=100"), oracle::rows(&beta));
    assert_eq!(figures(&server, "beta", "approx"), figures_before);
    assert!(!search_all(&server, "beta", "q=zaphodius").is_empty());
    assert_eq!(search_all(&server, TENANT, "q=zaphodius"), Vec::<Value>::new());
    server.stop();
    let copy = folder.beside("copy");
    let output = folder.run(&["backup", copy.to_str().expect("a path")]);
    assert!(output.status.success(), "{output:?}");
    let output = folder.run(&["reshard", "--to", "3"]);
    assert!(output.status.success(), "{output:?}");
    for (data, flags) in [(folder.data(), &["--shards", "3"][..]), (copy, &["--shards", "2"])] {
        let server = folder.serve_on(&data, flags);
        let summary = ingested(&server, "after", &oracle::body(&all));
        assert_eq!(counts(&summary), [ORDERS as u64, 0, (ORDERS - theirs) as u64, theirs as u64]);
        let mut client = server.client();
        for event in events() {
            assert_eq!(post(&mut client, "/events", &event)["status"], "duplicate");
        }
        assert_eq!(search_all(&server, "beta", "limit=100"), oracle::rows(&beta));
        // An erasure is refused while the shards from before the reshard are still kept next to the new ones.
        let answer = server.client().ask("DELETE", &customer("beta", "erase"), "").expect("an answer");
        if data == folder.data() {
            let said = problem(&answer, 409, "erasure-blocked");
            assert!(
                said["detail"].as_str().is_some_and(|detail| detail.contains("before-reshard")),
                "{said}"
            );
            assert_eq!(search_all(&server, "beta", "limit=100").len(), ORDERS);
        } else {
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        server.stop();
    }
    verify(&folder);
}

#[test]
fn e1_a_users_clicks_go_from_open_and_sealed_partitions() {
    const USER: i64 = 7_700_123;
    let folder = Folder::new();
    let server = serve(&folder);
    let mut client = server.client();
    let click = |number: u64| {
        let (user, said) = if number % 9 == 4 { (USER, "Zq7x9") } else { (number as i64, "nobody") };
        json!({"user_id": user, "timestamp": "2026-03-01T10:00:00Z", "metadata": {"n": number, "said": said}})
            .to_string()
    };
    let mut theirs = 0;
    for number in 0..420 {
        theirs += u64::from(number % 9 == 4);
        post(&mut client, "/event", &click(number));
        if number % 70 == 0 {
            server.wait_until_stored();
        }
    }
    server.wait_until_stored();
    let partitions = |sql: &str| rows_of(&folder.data(), sql, |row| row.get::<_, i64>(0)).iter().sum::<i64>();
    wait_until("a sealed partition to have its index", || {
        partitions(
            "SELECT count(*) FROM partition WHERE stream = 'click' AND sealed_at > '' AND indexed_at > ''",
        ) > 1
    });
    let others = "SELECT id, user_id, metadata FROM events WHERE user_id < 7700000 ORDER BY id";
    let read = |row: &rusqlite::Row<'_>| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
    };
    let before = rows_of(&folder.data(), others, read);

    let certificate = erased(&server, &format!("/clicks/users/{USER}"));
    assert_eq!(
        (sum(&certificate, "clicks"), &certificate["subject"]),
        (theirs, &json!("user")),
        "{certificate}"
    );
    assert_eq!(traces(&folder), Vec::<String>::new());
    assert_eq!(rows_of(&folder.data(), others, read), before);
    let page = server.get(&format!("/clicks?user_id={USER}")).json();
    assert_eq!(
        (&page["total"], page["events"].as_array().or(page["clicks"].as_array()).map(Vec::len)),
        (&json!(0), Some(0))
    );
    let told = server.get(&format!("/clicks/erasures/{}", certificate["id"].as_str().expect("an id"))).json();
    assert_eq!(told["certificate"], certificate);
    problem(&server.client().ask("DELETE", "/clicks/users/x", "").expect("an answer"), 404, "not-found");
    // Ids continue, and the user may send new clicks, which are kept.
    for number in 420..480 {
        post(&mut client, "/event", &click(number));
    }
    server.wait_until_stored();
    assert_eq!(partitions("SELECT count(*) FROM events"), 480 - theirs as i64);
    server.stop();
    verify(&folder);
    let server = serve(&folder);
    post(&mut server.client(), "/event", &click(481));
    server.wait_until_stored();
    server.stop();
    verify(&folder);
}

#[test]
fn only_an_admin_of_the_tenant_erases() {
    let folder = Folder::new();
    for tenant in [TENANT, "beta"] {
        assert!(folder.run(&["tenant", "add", tenant]).status.success());
    }
    let key = |words: &[&str]| {
        let (code, made) = folder.run_json(&[&["key", "create"], words].concat());
        assert_eq!(code, 0, "{made}");
        format!("Authorization: Bearer {}\r\n", made["key"].as_str().expect("a key"))
    };
    let write = key(&["--tenant", TENANT, "--scope", "write,read"]);
    let foreign = key(&["--tenant", "beta", "--scope", "admin"]);
    let admin = key(&["--tenant", TENANT, "--scope", "admin"]);
    let all = key(&["--scope", "admin"]);
    let server = serve(&folder);
    let ask = |target: &str, key: &str| {
        let mut client = server.client();
        let request = format!("DELETE {target} HTTP/1.1\r\nHost: test\r\n{key}Content-Length: 0\r\n\r\n");
        client.write(request.as_bytes()).expect("it is sent");
        client.answer().expect("an answer").status
    };
    let target = customer(TENANT, "erase");
    assert_eq!(
        [&String::new(), &write, &foreign, &admin, &all].map(|key| ask(&target, key)),
        [401, 403, 403, 200, 200]
    );
    assert_eq!([&write, &admin, &all].map(|key| ask("/clicks/users/5", key)), [403, 403, 200]);
    assert_eq!(ask(&customer(TENANT, "hide"), &admin), 400);
    server.stop();
}
