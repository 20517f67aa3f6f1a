//! Orders as a client sends them and reads them back: ingests by key, searches page by page, and sales.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::client::{Answer, Client};
use super::process::{Folder, Server, command};

pub const INGEST: &str = "/api/v1/ingest/orders/";
pub const NDJSON: &str = "Content-Type: application/x-ndjson\r\n";

/// Returns the head of an ingest. Each line of `headers` ends in CRLF.
pub fn ingest_head(key: &str, headers: &str, length: usize) -> String {
    format!(
        "POST {INGEST} HTTP/1.1\r\nHost: test\r\nIdempotency-Key: {key}\r\n{headers}Content-Length: {length}\r\n\r\n"
    )
}

/// Sends one ingest on its own connection.
pub fn ingest(address: SocketAddr, key: &str, headers: &str, body: &[u8]) -> io::Result<Answer> {
    let mut client = Client::connect(address)?;
    client.write(ingest_head(key, headers, body.len()).as_bytes())?;
    // The server may respond before it has read the whole body.
    let written = client.write(body);
    client.answer().map_err(|error| written.err().unwrap_or(error))
}

/// Sends an ingest that must be accepted, and returns its summary.
#[track_caller]
pub fn ingested(server: &Server, key: &str, body: &[u8]) -> Value {
    let answer = ingest(server.address, key, NDJSON, body).expect("the server answers");
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

/// Checks that the response is this refusal, and returns its body.
#[track_caller]
pub fn problem(answer: &Answer, status: u16, slug: &str) -> Value {
    let said = answer.json();
    assert_eq!(
        (answer.status, &said["type"]),
        (status, &Value::from(format!("/docs/problems/{slug}"))),
        "{said}"
    );
    said
}

/// Returns `rows_received`, `rows_inserted`, `rows_duplicate` and `rows_failed`.
#[track_caller]
pub fn counts(summary: &Value) -> [u64; 4] {
    ["rows_received", "rows_inserted", "rows_duplicate", "rows_failed"]
        .map(|name| summary[name].as_u64().unwrap_or_else(|| panic!("{name} in {summary}")))
}

/// Percent-encodes the bytes that a query cannot contain as they are.
pub fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._,".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

pub fn search_path(tenant: &str, query: &str) -> String {
    format!("/api/v1/tenants/{}/orders/search?{query}", encoded(tenant))
}

/// Returns the rows of one page of a search, and the cursor of the next page.
#[track_caller]
pub fn page_of(answer: &Answer) -> (Vec<Value>, Option<String>) {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let lines = answer.body.split_inclusive(|byte| *byte == b'\n');
    let mut rows: Vec<Value> =
        lines.map(|line| serde_json::from_slice(line).expect("a line of JSON")).collect();
    let end = rows.pop().expect("a last line");
    assert_eq!(end["_end"], true, "{end}");
    assert_eq!(end["rows"], rows.len(), "{end}");
    (rows, end["next_cursor"].as_str().map(str::to_owned))
}

/// Returns the rows of all pages of a search.
#[track_caller]
pub fn search_all(server: &Server, tenant: &str, query: &str) -> Vec<Value> {
    let (mut client, mut all, mut more) = (server.client(), Vec::new(), String::new());
    loop {
        let target = search_path(tenant, &format!("{query}{more}"));
        let (rows, cursor) = page_of(&client.get(&target).expect("the server answers"));
        all.extend(rows);
        let Some(cursor) = cursor else { return all };
        assert!(!all.is_empty(), "a cursor behind nothing");
        more = format!("&cursor={cursor}");
    }
}

/// Requests sales and returns the response.
#[track_caller]
pub fn sales(server: &Server, tenant: &str, query: &str) -> Value {
    let target = format!("/api/v1/tenants/{}/metrics/sales?{query}", encoded(tenant));
    let answer = server.get(&target);
    assert_eq!(answer.status, 200, "{target}: {}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

/// Sets the status of an order. Returns `true` if the status changed.
#[track_caller]
pub fn patch(client: &mut Client, tenant: &str, order: &str, status: &str) -> bool {
    let target = format!("/api/v1/tenants/{}/orders/{}", encoded(tenant), encoded(order));
    let body = format!("{{\"status\":\"{status}\"}}");
    let answer = client.ask("PATCH", &target, &body).expect("the server answers");
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let said = answer.json();
    assert_eq!((&said["order_id"], &said["status"]), (&Value::from(order), &Value::from(status)));
    said["changed"].as_bool().expect("a truth value")
}

/// Generates a dataset with these flags in addition to the fixed ones, and returns its path.
#[track_caller]
pub fn dataset(folder: &Folder, flags: &[&str]) -> PathBuf {
    let path = folder.beside("dataset");
    let words =
        ["gen-dataset", "--start", "2026-01-01", "--price-samples", "0", "--stock-events", "0", "--out"];
    let output = command().args(words).arg(&path).args(flags).output().expect("the program runs");
    assert!(output.status.success(), "{output:?}");
    path
}

#[track_caller]
pub fn truth(dataset: &Path) -> Value {
    let text = std::fs::read(dataset.join("truth.json")).expect("the truth is there");
    serde_json::from_slice(&text).expect("JSON")
}

/// Checks that `verify --aggregates` finds no fault.
#[track_caller]
pub fn verify(folder: &Folder) {
    let (code, said) = folder.run_json(&["verify", "--aggregates"]);
    assert_eq!(code, 0, "{said}");
}

/// Returns the order of a tenant with this number.
pub fn order(number: usize) -> Value {
    json!({
        "order_id": format!("o-{number}"), "tenant_id": "acme", "customer_id": format!("c-{}", number % 7),
        "customer_name": "Ann Smith", "customer_email": "ann@example.org", "status": "paid", "currency": "USD",
        "ordered_at": "2026-03-01T12:00:00Z",
        "items": [{"product_id": "p-1", "category": "x", "quantity": 1, "unit_price": "19.99"}],
    })
}

pub fn lines(orders: std::ops::Range<usize>) -> String {
    orders.map(|number| format!("{}\n", order(number))).collect()
}

/// Returns the folder of the only upload.
pub fn upload_folder(folder: &Folder) -> PathBuf {
    let mut found = fs::read_dir(folder.data().join("uploads")).expect("the folder is there");
    found.next().expect("an upload").expect("an entry").path()
}
