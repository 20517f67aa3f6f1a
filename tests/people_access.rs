//! E1: the right of access. An export of a customer contains everything that an erasure of the customer then removes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::people::{EMAIL, ID, TENANT, customer, erased, fill, is_theirs, post, serve, sum, traces, upload};
use crate::support::commerce::{problem, verify};
use crate::support::oracle;
use crate::support::{Client, Folder, Server, wait_until};

/// A place of an export, and how many of its rows a certificate counts.
const COUNTED: [(&str, &str); 9] = [
    ("orders", "orders"),
    ("items", "items"),
    ("customers", "customers"),
    ("events", "events"),
    ("rejected_records", "rejected_records"),
    ("ingest_answers", "ingest_answers"),
    ("quarantined_segments", "quarantined_segments"),
    ("uploads", "uploads_removed"),
    ("exports", "exports_removed"),
];

fn path(tenant: &str, rest: &str) -> String {
    format!("/api/v1/tenants/{tenant}/customers/{ID}{rest}")
}

/// Returns the lines of an export without the last, and the number of rows by place that the last reports.
#[track_caller]
fn export_of(server: &Server, target: &str) -> (Vec<Value>, BTreeMap<String, u64>) {
    let answer = server.get(target);
    assert_eq!(answer.status, 200, "{answer:?}");
    let text = String::from_utf8(answer.body).expect("UTF-8");
    let mut lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let end = lines.pop().expect("an end");
    assert_eq!((&end["_end"], &end["rows"]), (&json!(true), &json!(lines.len())), "{end}");
    (lines, held(&end))
}

fn held(answer: &Value) -> BTreeMap<String, u64> {
    let held = answer["held"].as_array().expect("places").iter();
    held.map(|one| {
        (one["place"].as_str().expect("a name").to_owned(), one["rows"].as_u64().expect("a number"))
    })
    .collect()
}

/// Puts the person into every place, and returns the number of their orders. The server is restarted in between.
fn planted(folder: &Folder) -> (Server, usize) {
    let server = serve(folder);
    let all = fill(&server);
    server.stop();
    // A record that could not be stored, and a damaged segment.
    let connection = Connection::open(folder.database(1)).expect("the shard opens");
    let sql = "INSERT INTO rejected_record (lane, sequence, kind, payload, reason) VALUES (1, 900000, 3, ?1, 'not an order')";
    for bytes in [format!("\u{1}{ID}").into_bytes(), b"somebody else".to_vec()] {
        connection.execute(&sql.replace("900000", &format!("9000{}", bytes.len())), [bytes]).expect("a row");
    }
    let sql = "UPDATE commit_page SET value = value + 2 WHERE kind = 1 AND name = 'rejected_records'";
    connection.execute(sql, []).expect("the total");
    drop(connection);
    let quarantine = folder.shard(0).join("keyed/quarantine");
    fs::create_dir_all(&quarantine).expect("a folder");
    fs::write(quarantine.join(format!("{:020}.seg", 1)), format!("damaged {EMAIL} bytes")).expect("a file");
    fs::write(quarantine.join(format!("{:020}.seg", 2)), "damaged bytes of others").expect("a file");
    let server = serve(folder);
    let mut client = server.client();
    // Unfinished uploads: two lines of the person, lines of others only, and a packed one that nobody can search.
    upload(&mut client, &oracle::body(all.iter().filter(is_theirs).take(2)), 90_000);
    upload(&mut client, &oracle::body(all.iter().filter(|order| !is_theirs(order)).take(2)), 90_000);
    upload(&mut client, b"\x1f\x8b\x08\x00\x00\x00\x00\x00", 90_000);
    for (rows, filters) in [
        ("orders", json!({})),
        ("orders", json!({"q": EMAIL})),
        ("orders", json!({"q": "Number4"})),
        ("events", json!({})),
        ("events", json!({"event_type": "none"})),
    ] {
        let exports = format!("/api/v1/tenants/{TENANT}/reports/export");
        let wish = json!({"format": "ndjson", "rows": rows, "filters": filters});
        let url = post(&mut client, &exports, &wish.to_string())["url"].clone();
        wait_until("the export to be done", || {
            server.get(url.as_str().expect("a path")).json()["state"] == "done"
        });
    }
    // Remains in the journal for a while.
    let event = json!({
        "event_id": "last", "tenant_id": TENANT, "source": "web", "event_type": "view",
        "timestamp": "2026-03-01T10:00:00Z", "payload": {"mail": EMAIL},
    });
    post(&mut client, "/events", &event.to_string());
    server.wait_until_stored();
    (server, all.iter().filter(is_theirs).count())
}

#[test]
fn e1_an_export_of_a_customer_contains_what_an_erasure_removes() {
    let folder = Folder::new();
    let (server, theirs) = planted(&folder);
    let (lines, counts) = export_of(&server, &path(TENANT, "/export"));
    let of = |place: &str| lines.iter().filter(|line| line["place"] == place).collect::<Vec<_>>();
    for (place, rows) in counts.iter().filter(|(place, _)| *place != "items") {
        assert_eq!(of(place).len() as u64, *rows, "{place}");
    }
    let items: usize = of("orders").iter().map(|order| order["items"].as_array().expect("items").len()).sum();
    assert_eq!((counts["items"], of("orders").len()), (items as u64, theirs));
    for order in of("orders") {
        assert_eq!((&order["customer_id"], &order["customer_email"]), (&json!(ID), &json!(EMAIL)), "{order}");
        assert!(order["status"].is_string() && order["received_at"].is_string(), "{order}");
    }
    assert_eq!(
        of("upload_lines").iter().map(|line| line["line"].as_u64()).collect::<Vec<_>>(),
        [Some(1), Some(2)]
    );
    assert!(of("upload_lines").iter().all(|line| line["row"]["customer_id"] == ID));
    assert_eq!(of("uploads").iter().filter(|line| line["match"] == "possible").count(), 1);
    let rejected = of("rejected_records");
    assert_eq!((&rejected[0]["reason"], &rejected[0]["match"]), (&json!("not an order"), &json!("possible")));
    assert!(rejected[0]["record"]["base64"].is_string(), "{}", rejected[0]);
    assert!(of("journals").iter().any(|line| line["record"]["event_id"] == "last"), "{:?}", of("journals"));
    assert!(of("events").iter().any(|line| line["payload"]["mail"] == EMAIL));

    // Exports name the orders or the events of the customer that they contain.
    let exported =
        |name: &str| of("exports").iter().filter_map(|line| line[name].as_u64()).collect::<Vec<_>>();
    assert_eq!((exported("orders"), of("exports").len()), (vec![theirs as u64], 3), "{:?}", of("exports"));
    // One event arrived after the exports.
    assert_eq!(exported("events"), [counts["events"] - 1]);

    // The customer's own page counts the same.
    let page = server.get(&path(TENANT, "")).json();
    assert_eq!((held(&page), &page["unfinished"]), (counts.clone(), &json!([])));
    assert_eq!(
        (&page["id"], &page["emails"], &page["suppressed"]),
        (&json!(ID), &json!([EMAIL]), &Value::Null)
    );
    assert_eq!(page["names"].as_array().map(Vec::len), Some(2), "{page}");
    // Another tenant's customer of this id, and an unknown customer, are held nowhere but in what may be anyone's.
    for other in [path("beta", ""), path(TENANT, "").replace(ID, "nobody")] {
        let answer = server.get(&other);
        assert!(!String::from_utf8_lossy(&answer.body).contains("aphodius"), "{answer:?}");
    }

    let certificate = erased(&server, &customer(TENANT, "erase"));
    for (place, count) in COUNTED {
        let removed = certificate[count].as_u64().unwrap_or_else(|| sum(&certificate, count));
        assert_eq!(counts.get(place).copied().unwrap_or(0), removed, "{place}: {certificate}");
        assert!(removed > 0, "the test does not reach {place}");
    }
    let known: Vec<&str> =
        COUNTED.iter().map(|(place, _)| *place).chain(["journals", "upload_lines"]).collect();
    assert!(counts.keys().all(|place| known.contains(&place.as_str())), "{counts:?}");
    assert!(sum(&certificate, "journals") > 0 && counts["journals"] > 0);
    assert_eq!(traces(&folder), Vec::<String>::new());

    // Nothing is left but the refusal of later records.
    let page = server.get(&path(TENANT, "")).json();
    assert_eq!((&page["suppressed"], &page["held"]), (&json!("erase"), &json!([])), "{page}");
    assert_eq!((&page["names"], &page["emails"]), (&json!([]), &json!([])));
    assert_eq!(export_of(&server, &path(TENANT, "/export")), (Vec::new(), BTreeMap::new()));
    problem(&server.get(&path(TENANT, "").replace(ID, "nobody")), 404, "not-found");
    problem(&server.get(&path("beta", "")), 404, "not-found");
    server.stop();
    verify(&folder);
}

#[test]
fn e1_a_pseudonymised_customer_is_not_linked_to_the_pseudonym() {
    let folder = Folder::new();
    let server = serve(&folder);
    fill(&server);
    erased(&server, &customer(TENANT, "pseudonymise"));
    let page = server.get(&path(TENANT, ""));
    let told = page.json();
    assert_eq!((&told["suppressed"], &told["held"]), (&json!("pseudonymise"), &json!([])), "{told}");
    let (lines, _) = export_of(&server, &path(TENANT, "/export"));
    assert_eq!(lines, Vec::<Value>::new());
    assert!(!String::from_utf8_lossy(&page.body).contains("anon-"));
    server.stop();
}

/// A client must not take a part of an export for the whole.
#[test]
fn e1_an_export_that_an_erasure_overtakes_has_no_clean_end() {
    let folder = Folder::new();
    let server = serve(&folder);
    let mut client = server.client();
    let big = "x".repeat(60_000);
    for bulk in 0..6 {
        let events: Vec<Value> = (0..60)
            .map(|number| {
                json!({
                    "event_id": format!("{bulk}-{number}"), "tenant_id": TENANT, "source": "web",
                    "event_type": "view", "timestamp": "2026-03-01T10:00:00Z",
                    "payload": {"of": ID, "pad": big},
                })
            })
            .collect();
        assert_eq!(post(&mut client, "/events/bulk", &json!({"events": events}).to_string())["inserted"], 60);
    }
    server.wait_until_stored();
    let mut stream = TcpStream::connect(server.address).expect("a connection");
    let request = Client::request("GET", &path(TENANT, "/export"), "");
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut bytes = vec![0; 1_000];
    stream.read_exact(&mut bytes).expect("the response begins");
    assert!(bytes.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&bytes));
    assert_eq!(sum(&erased(&server, &customer(TENANT, "erase")), "events"), 360);
    // An aborted response may also end as an error of the connection.
    let _ = stream.read_to_end(&mut bytes);
    assert!(bytes.len() < 360 * big.len(), "the client read faster than the server erased");
    assert!(!bytes.ends_with(b"0\r\n\r\n") && memchr::memmem::find(&bytes, b"\"_end\"").is_none());
    server.stop();
}

/// An erasure removes what may be anyone's. A key of one tenant does not see it.
#[test]
fn r2_an_export_does_not_show_another_tenants_data() {
    let folder = Folder::new();
    let (server, _) = planted(&folder);
    server.stop();
    for tenant in [TENANT, "beta"] {
        assert!(folder.run(&["tenant", "add", tenant]).status.success());
    }
    let (code, made) = folder.run_json(&["key", "create", "--tenant", TENANT, "--scope", "admin"]);
    assert_eq!(code, 0, "{made}");
    let key = made["key"].as_str().expect("a key");
    let server = serve(&folder);
    let mut client = server.client();
    let target = path(TENANT, "/export");
    let head = format!("GET {target} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {key}\r\n\r\n");
    client.write(head.as_bytes()).expect("it is sent");
    let answer = client.answer().expect("an answer");
    let text = String::from_utf8(answer.body).expect("UTF-8");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |place: &str| lines.iter().filter(|line| line["place"] == place).collect::<Vec<_>>();
    // The uploads and ingests were sent without a key, which is one for all tenants.
    for place in ["rejected_records", "uploads", "ingest_answers"] {
        assert!(
            !of(place).is_empty() && of(place).iter().all(|line| line["withheld"].is_string()),
            "{place}"
        );
    }
    assert!(of("orders").iter().all(|order| order["tenant_id"] == TENANT));
    assert!(of("upload_lines").iter().all(|line| line["row"]["tenant_id"] == TENANT));
    server.stop();
}
