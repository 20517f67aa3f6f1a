//! The documentation page sends its examples as they are, so the server accepts every one of them. With a member twice,
//! it refuses every one by the name of the member, or takes the last value where the document says so.

use serde_json::{Value, json};

use crate::support::{Answer, Folder, Server};

/// What the parameters of a path are replaced with. The rows exist by the time they are named, but for those of
/// [`MADE_BY_THE_SERVER`].
const NAMES: &[(&str, &str)] = &[
    ("tenant", "acme"),
    ("order", "o-1001"),
    ("product", "p-1"),
    ("customer", "c-7"),
    ("anomaly", "0-00000000000000000001"),
];

/// Parameters whose values only the server can make up. A request for one that does not exist may be answered with 404.
const MADE_BY_THE_SERVER: &str = "{anomaly}";

/// Content types whose examples a client can send without a form or a file.
const WRITTEN: &[&str] = &["application/json", "application/x-ndjson"];

#[test]
fn every_documented_body_has_an_example_that_is_accepted() {
    let folder = Folder::new();
    let server = folder.serve(&[]);
    let document = server.get("/openapi.json").json();
    let mut sent = 0;
    // Orders exist before their status is changed.
    for method in ["post", "put", "patch"] {
        for (path, operations) in document["paths"].as_object().expect("paths") {
            let Some(contents) = operations[method]["requestBody"]["content"].as_object() else { continue };
            for (content_type, content) in contents {
                if !WRITTEN.contains(&content_type.as_str()) {
                    continue;
                }
                assert!(!content["example"].is_null(), "{method} {path} has no example as {content_type}");
                let status =
                    send(&server, method, path, content_type, &content["example"].to_string()).status;
                let is_unknown = status == 404 && path.contains(MADE_BY_THE_SERVER);
                assert!((200..300).contains(&status) || is_unknown, "{method} {path}: {status}");
                sent += 1;
            }
        }
    }
    assert!(sent >= 10, "the document has {sent} bodies");
    server.stop();
}

/// The bodies in which the last of two members with one name counts. Their descriptions say so.
const LAST_COUNTS: &[&str] = &["/event", "/events", "/events/bulk"];

/// Returns an object as text in which a member is written twice, the second time with escapes.
fn with_twice(object: &Value, name: &str) -> String {
    let escaped: String = name.chars().map(|letter| format!("\\u{:04x}", u32::from(letter))).collect();
    let text = object.to_string();
    format!("{},\"{escaped}\":{}}}", text.strip_suffix('}').expect("an object"), object[name])
}

#[test]
fn every_documented_body_with_a_repeated_member_is_refused_by_its_name() {
    let folder = Folder::new();
    let server = folder.serve(&[]);
    let document = server.get("/openapi.json").json();
    let mut sent = 0;
    let mut refuses = |method: &str, path: &str, content_type: &str, body: &str, pointer: &str| {
        let answer = send(&server, method, path, content_type, body);
        if LAST_COUNTS.contains(&path) {
            assert!((200..300).contains(&answer.status), "{method} {path} {body}: {}", answer.status);
        } else {
            assert_eq!(answer.status, 422, "{method} {path} {body}");
            let said = answer.json();
            let errors = said["errors"].as_array().expect("the errors are listed");
            let is_named = errors.iter().any(|error| {
                let is_repeated = error["code"] == "repeated" || error["code"] == "repeated_key";
                is_repeated && error["pointer"] == pointer
            });
            assert!(is_named, "{method} {path} {body}: {said}");
        }
        sent += 1;
    };
    for method in ["post", "put", "patch"] {
        for (path, operations) in document["paths"].as_object().expect("paths") {
            let Some(contents) = operations[method]["requestBody"]["content"].as_object() else { continue };
            for (content_type, content) in
                contents.iter().filter(|(name, _)| WRITTEN.contains(&name.as_str()))
            {
                let example = &content["example"];
                for name in example.as_object().expect("an object").keys() {
                    refuses(method, path, content_type, &with_twice(example, name), &format!("/{name}"));
                }
            }
        }
    }
    // The objects within bodies.
    let tenant = |rest: &str| format!("/api/v1/tenants/{{tenant}}/{rest}");
    let (orders, stock, export) =
        ("/api/v1/ingest/orders", tenant("stock/bulk_update"), tenant("reports/export"));
    let content = &document["paths"][orders]["post"]["requestBody"]["content"]["application/x-ndjson"];
    let order = &content["example"];
    for name in order["items"][0].as_object().expect("an item").keys() {
        let item = with_twice(&order["items"][0], name);
        let body = order.to_string().replacen(&order["items"][0].to_string(), &item, 1);
        refuses("post", orders, "application/x-ndjson", &body, &format!("/items/0/{name}"));
    }
    let row = json!({"event_id": "e", "product_id": "p", "quantity": 1, "expected_version": 0,
        "occurred_at": "2026-03-01T12:00:00Z"});
    for name in row.as_object().expect("a row").keys() {
        let body = format!("{{\"mode\":\"reject\",\"updates\":[{}]}}", with_twice(&row, name));
        refuses("put", &stock, "application/json", &body, &format!("/{name}"));
    }
    let filters = with_twice(&json!({"status": ["paid"]}), "status");
    let body = format!("{{\"format\":\"csv\",\"filters\":{filters}}}");
    refuses("post", &export, "application/json", &body, "/filters/status");
    assert!(sent >= 50, "{sent} bodies were sent");
    server.stop();
}

/// Sends a body and returns the response.
fn send(server: &Server, method: &str, path: &str, content_type: &str, body: &str) -> Answer {
    let mut target = path.to_owned();
    for (name, value) in NAMES {
        target = target.replace(&format!("{{{name}}}"), value);
    }
    assert!(!target.contains('{'), "no value for a parameter of {target}");
    let head = format!(
        "{} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nIdempotency-Key: documented\r\n\
         Content-Length: {}\r\n\r\n",
        method.to_uppercase(),
        body.len()
    );
    let mut client = server.client();
    client.write((head + body).as_bytes()).expect("the request is sent");
    let answer = client.answer().expect("a response");
    if answer.status >= 400 {
        eprintln!("{method} {target} {body}\n{}", String::from_utf8_lossy(&answer.body));
    }
    answer
}
