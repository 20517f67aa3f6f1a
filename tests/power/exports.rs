//! X1: an export that was begun exists after the cut, and one that was finished is the same file.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::events::{post, service_event, service_events};
use super::orders::{TENANT, ids, ingest, orders, statuses};
use super::quiet::quiet;
use crate::support::{Server, wait_for};

const ORDERS: usize = 120;

/// Begins an export and returns its path.
#[track_caller]
fn begin(server: &Server, query: &str) -> String {
    begin_of(server, query, &json!({"format": "ndjson", "fields": ["order_id"]}))
}

#[track_caller]
fn begin_of(server: &Server, query: &str, wish: &Value) -> String {
    let target = format!("/api/v1/tenants/{TENANT}/reports/export{query}");
    let answer = server.client().ask("POST", &target, &wish.to_string()).expect("the server answers");
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.header("location").expect("a location").to_owned()
}

/// Waits for the end of the export. Returns the server's description of it, and its bytes.
#[track_caller]
fn done(server: &Server, export: &str) -> (Value, Vec<u8>) {
    let said = wait_for("the export to end", || {
        let answer = server.get(export);
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        Some(answer.json()).filter(|said| said["state"] != "queued" && said["state"] != "running")
    });
    assert_eq!(said["state"], "done", "{said}");
    let download = server.get(said["download_url"].as_str().expect("a path"));
    assert_eq!(download.status, 200, "{download:?}");
    let hex = Sha256::digest(&download.body).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(said["digest"], format!("sha-256:{hex}"), "{said}");
    (said, download.body)
}

fn prepare(server: &Server) {
    ingest(server, "k", "", &orders(0..ORDERS));
}

#[test]
fn x1_an_export_that_was_begun() {
    quiet(
        prepare,
        |server, way, ()| begin(server, way.query),
        |after, export| {
            let (_, bytes) = done(&after.server, export);
            let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let id = |line: &[u8]| serde_json::from_slice::<Value>(line).expect("JSON")["order_id"].clone();
            let mut found: Vec<_> = lines.map(id).collect();
            found.sort_by_key(ToString::to_string);
            assert_eq!(found, ids(&orders(0..ORDERS)));
        },
    );
}

#[test]
fn x1_an_export_that_was_finished() {
    quiet(
        prepare,
        |server, way, ()| {
            let export = begin(server, way.query);
            let (said, bytes) = done(server, &export);
            (export, said["digest"].clone(), bytes)
        },
        |after, (export, digest, bytes)| {
            let (said, again) = done(&after.server, export);
            assert_eq!((&said["digest"], &again), (digest, bytes), "what was given out never changes");
        },
    );
}

/// Events at `os`, and statuses, become durable with the export that contains them. Otherwise, others could get their
/// row ids after the cut, and an export would wait for rows that no longer exist.
#[test]
fn x1_an_export_does_not_outlive_its_events() {
    let sent: Vec<_> = (0..20).map(|number| format!("e-{number:02}")).collect();
    quiet(
        |_| {},
        |server, way, ()| {
            sent.iter().for_each(|id| post(server, "/events", &service_event(id)));
            let export = begin_of(server, way.query, &json!({"format": "ndjson", "rows": "events"}));
            let (said, _) = done(server, &export);
            assert_eq!(said["rows"], sent.len(), "{said}");
            export
        },
        |after, export| {
            after.server.wait_until_stored();
            assert_eq!(service_events(&after.server), sent);
            assert_eq!(done(&after.server, export).0["rows"], sent.len());
        },
    );
}

#[test]
fn x1_an_export_does_not_outlive_its_statuses() {
    quiet(
        prepare,
        |server, way, ()| {
            let order = &orders(0..1)[0].id;
            let target = format!("/api/v1/tenants/{TENANT}/orders/{order}");
            let answer = server.client().ask("PATCH", &target, r#"{"status":"shipped"}"#).expect("an answer");
            assert_eq!(answer.status, 200, "{answer:?}");
            let wish = json!({"format": "ndjson", "fields": ["order_id", "status"]});
            let (_, bytes) = done(server, &begin_of(server, way.query, &wish));
            let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let order_of = |line: &[u8]| serde_json::from_slice::<Value>(line).expect("JSON");
            lines.map(order_of).collect::<Vec<_>>()
        },
        |after, exported| {
            after.server.wait_until_stored();
            let stored = statuses(&after.server);
            assert!(exported.iter().any(|order| order["status"] == "shipped"), "{exported:?}");
            for order in exported {
                let id = order["order_id"].as_str().expect("an id");
                assert_eq!(order["status"], stored[id], "{id}");
            }
        },
    );
}
