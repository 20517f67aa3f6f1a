//! The documentation page sends its examples as they are, so the server accepts every one of them.

use serde_json::Value;

use crate::support::{Folder, Server};

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
                let status = send(&server, method, path, content_type, &content["example"]);
                let is_unknown = status == 404 && path.contains(MADE_BY_THE_SERVER);
                assert!((200..300).contains(&status) || is_unknown, "{method} {path}: {status}");
                sent += 1;
            }
        }
    }
    assert!(sent >= 10, "the document has {sent} bodies");
    server.stop();
}

/// Sends an example and returns the status of the response.
fn send(server: &Server, method: &str, path: &str, content_type: &str, example: &Value) -> u16 {
    let mut target = path.to_owned();
    for (name, value) in NAMES {
        target = target.replace(&format!("{{{name}}}"), value);
    }
    assert!(!target.contains('{'), "no value for a parameter of {target}");
    let body = example.to_string();
    let head = format!(
        "{} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nIdempotency-Key: documented\r\n\
         Content-Length: {}\r\n\r\n",
        method.to_uppercase(),
        body.len()
    );
    let mut client = server.client();
    client.write((head + &body).as_bytes()).expect("the request is sent");
    let answer = client.answer().expect("a response");
    if answer.status >= 400 {
        eprintln!("{method} {target} {body}\n{}", String::from_utf8_lossy(&answer.body));
    }
    answer.status
}
