//! X1: an export that was begun exists after the cut, and one that was finished is the same file.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::orders::{TENANT, ids, ingest, orders};
use super::quiet::quiet;
use crate::support::{Server, wait_for};

const ORDERS: usize = 120;

/// Begins an export and returns its path.
#[track_caller]
fn begin(server: &Server, query: &str) -> String {
    let target = format!("/api/v1/tenants/{TENANT}/reports/export{query}");
    let wish = json!({"format": "ndjson", "fields": ["order_id"]}).to_string();
    let answer = server.client().ask("POST", &target, &wish).expect("the server answers");
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
