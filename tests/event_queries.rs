//! Summaries of events and numbers of distinct values on the real server: hostile payloads, and what is refused.

use crate::support::commerce::problem;
use crate::support::{Folder, cpus};
use serde_json::{Value, json};

const EVENTS: &str = "/api/v1/tenants/acme/events";

fn event(id: usize, payload: &str) -> String {
    format!(
        r#"{{"event_id":"e{id}","tenant_id":"acme","source":"web","event_type":"click","timestamp":"2024-01-15T10:30:00Z","payload":{payload}}}"#
    )
}

#[test]
fn hostile_payloads_are_compared_by_type_and_content() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
    let deep = format!("{{\"v\":{}{}}}", "[".repeat(125), "]".repeat(125));
    let huge = format!("{{\"v\":1{}}}", "0".repeat(5_000));
    let payloads = [
        r#"{"v":1}"#,
        r#"{"v":1.0}"#,
        r#"{"v":10e-1}"#,
        r#"{"v":"1"}"#,
        r#"{"v":null}"#,
        r#"{"v":2,"v":1}"#,
        r#"{"\u0076":1}"#,
        r#"{"v":"\ud800"}"#,
        r#"{"v":"\ufffd"}"#,
        r#"{"v":1e999999}"#,
        r#"{"v":10e999998}"#,
        r#"{"v":{"b":[1],"a":"\u0041"}}"#,
        r#"{ "v" : { "a":"A", "b" : [ 1.0 ] } }"#,
        r#"{"v":[]}"#,
        r#"{"w":{"v":1},"a.b":{"v":[7,{"v":8}]}}"#,
        r#"{}"#,
        &deep,
        &huge,
    ];
    let rows: Vec<_> = payloads.iter().enumerate().map(|(id, payload)| event(id, payload)).collect();
    let mut client = server.client();
    let body = rows.join("\n");
    let said = client.post_as("/events/bulk", "application/x-ndjson", &body).expect("an answer").json();
    assert_eq!(said["inserted"], rows.len(), "{said}");
    let mut unique = |by: &str| {
        let answer = client.get(&format!("{EVENTS}/unique?by={by}")).expect("an answer");
        assert_eq!(answer.status, 200, "{by}: {answer:?}");
        let said = answer.json();
        assert_eq!((&said["by"], &said["events"]), (&json!(by), &json!(rows.len())), "{said}");
        assert_eq!(said["meta"]["method"]["count"], "set of 128-bit hashes");
        assert_eq!(said["meta"]["error_bounds"], json!({}));
        assert!(said["meta"]["rows_scanned"].as_u64() > Some(0));
        [&said["count"], &said["missing"]].map(|number| number.as_u64().expect("a number"))
    };
    // 1, "1", null, two surrogates, 1e999999, the object, [], the deep array, and the huge number.
    assert_eq!(unique("payload.v"), [10, 2]);
    assert_eq!(unique("payload.w.v"), [1, 17]);
    assert_eq!(unique("/payload/a.b/v/1/v"), [1, 17]);
    assert_eq!(unique("payload.v.b"), [1, 16]);
    assert_eq!(unique(&format!("payload.v{}", ".0".repeat(30))), [1, 17]);
    assert_eq!(unique("source"), [1, 0]);
    let said = server.get(&format!("{EVENTS}/summary")).json();
    let group = json!({"key": "click", "count": rows.len(), "first_at": "2024-01-15T10:30:00Z",
        "last_at": "2024-01-15T10:30:00Z"});
    assert_eq!((&said["groups"], &said["meta"]["preaggregated"]), (&json!([group]), &json!(true)));
    let nothing = server.get("/api/v1/tenants/other/events/summary?group_by=day").json();
    assert_eq!((&nothing["groups"], &nothing["total"]["count"]), (&json!([]), &json!(0)));
    assert_eq!(nothing["total"]["first_at"], Value::Null);
    server.stop();
}

#[test]
fn what_cannot_be_counted_is_refused_with_what_can() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
    let long = format!("payload.{}", "a".repeat(600));
    let many = format!("payload{}", ".a".repeat(33));
    for (target, name, code) in [
        ("summary?group_by=week", "group_by", "unknown_value"),
        ("summary?source=%00", "source", "invalid_text"),
        ("unique", "by", "missing_parameter"),
        ("unique?by=", "by", "empty_value"),
        ("unique?by=tenant_id", "by", "unknown_value"),
        ("unique?by=payload", "by", "unknown_value"),
        ("unique?by=payload.", "by", "unknown_value"),
        ("unique?by=payload..a", "by", "unknown_value"),
        ("unique?by=/payload/~2", "by", "unknown_value"),
        ("unique?by=/other/a", "by", "unknown_value"),
        (&format!("unique?by={long}"), "by", "unknown_value"),
        (&format!("unique?by={many}"), "by", "unknown_value"),
        ("unique?by=source&by=source", "by", "repeated"),
    ] {
        let said = problem(&server.get(&format!("{EVENTS}/{target}")), 400, "bad-parameter");
        let error = &said["errors"][0];
        assert_eq!((&error["parameter"], &error["code"]), (&json!(name), &json!(code)), "{target}: {said}");
    }
    let said = problem(&server.get(&format!("{EVENTS}/unique?by=user")), 400, "bad-parameter");
    assert!(said["errors"][0]["detail"].as_str().is_some_and(|detail| detail.contains("payload.user.id")));
    assert_eq!(server.get(&format!("{EVENTS}/unique?by=payload.%C3%BC.0&tz=Europe/Berlin")).status, 200);
    server.stop();
}
