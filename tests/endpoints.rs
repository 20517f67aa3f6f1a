//! The table of endpoints against the running server: every row answers OPTIONS, 405 with the right `Allow`, and 401
//! or 403 as declared. `/openapi.json` describes every row.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::packing::gzip;
use crate::support::{Answer, Client, Folder, Server};
use firehose::http::Method;
use firehose::server;
use firehose::tenants::{Need, Scope};
use serde_json::Value;

/// Returns a path that matches the template.
fn path(template: &str) -> String {
    let segment = |part: &'static str, value: &str| (part, value.to_owned());
    [
        segment("{tenant}", "acme"),
        segment("{product}", "p"),
        segment("{order}", "o-1"),
        segment("{anomaly}", &"0".repeat(32)),
        segment("{export}", &"0".repeat(32)),
        segment("{upload}", "0-1"),
        segment("{erasure}", "00"),
        segment("{customer}", "c"),
        segment("{user_id}", "7"),
        segment("{receipt}", "0-64"),
        segment("{slug}", "not-json"),
        segment("{file..}", "icon.svg"),
    ]
    .iter()
    .fold(template.to_owned(), |path, (part, value)| path.replace(part, value))
}

fn word(method: Method) -> String {
    format!("{method:?}").to_uppercase()
}

/// Returns the methods that each path accepts according to its rows, with HEAD wherever there is GET.
fn methods() -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut methods: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (path, method, _) in server::operations() {
        let of = methods.entry(path).or_default();
        of.extend([word(method), "OPTIONS".to_owned()]);
        if method == Method::Get {
            of.insert("HEAD".to_owned());
        }
    }
    // If the more specific of two rows lacks a method, the other row answers it.
    for (near, far) in [
        ("orders/search", "orders/{order}"),
        ("stock/bulk_update", "stock/{product}"),
        ("customers/erase", "customers/{customer}"),
    ] {
        let full = |rest: &str| format!("/api/v1/tenants/{{tenant}}/{rest}");
        let more = methods[full(far).as_str()].clone();
        let (_, of) = methods.iter_mut().find(|(path, _)| **path == full(near)).expect("a row");
        of.extend(more);
    }
    let more = methods["/docs/{file..}"].clone();
    methods.get_mut("/docs/problems/{slug}").expect("a row").extend(more);
    methods
}

#[track_caller]
fn ask(client: &mut Client, method: &str, target: &str, key: Option<&str>) -> Answer {
    let key = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    let request = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{key}Content-Length: 0\r\n\r\n");
    client.write(request.as_bytes()).expect("the server takes it");
    if method == "HEAD" { client.answer_head() } else { client.answer() }.expect("the server answers")
}

fn listed(answer: &Answer, header: &str) -> BTreeSet<String> {
    answer.header(header).unwrap_or_default().split(", ").map(str::to_owned).collect()
}

#[test]
fn every_row_answers_options_and_says_what_it_takes() {
    let folder = Folder::new();
    let server = folder.serve(&["--cors-origins", "https://console.example"]);
    let mut asked = 0;
    for (template, allowed) in methods() {
        let target = path(template);
        let mut client = server.client();
        let answer = ask(&mut client, "OPTIONS", &target, None);
        assert_eq!((answer.status, listed(&answer, "Allow")), (204, allowed.clone()), "{target}");
        // The same list as a page of a listed origin receives it.
        let preflight =
            format!("OPTIONS {target} HTTP/1.1\r\nHost: test\r\nOrigin: https://console.example\r\n\r\n");
        client.write(preflight.as_bytes()).expect("the server takes it");
        let answer = client.answer().expect("the server answers");
        assert_eq!(listed(&answer, "Access-Control-Allow-Methods"), allowed, "{target}");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"] {
            if !allowed.contains(method) {
                let answer = ask(&mut server.client(), method, &target, None);
                assert_eq!(
                    (answer.status, listed(&answer, "Allow")),
                    (405, allowed.clone()),
                    "{method} {target}"
                );
                asked += 1;
            }
        }
    }
    assert!(asked > 150, "{asked}");
    server.stop();
}

#[test]
fn every_row_asks_for_the_key_it_says() {
    let folder = Folder::new();
    assert!(folder.run(&["tenant", "add", "acme"]).status.success());
    let key = |words: &[&str]| {
        let (code, made) = folder.run_json(&[&["key", "create"], words].concat());
        assert_eq!(code, 0, "{made}");
        made["key"].as_str().expect("a key").to_owned()
    };
    let all: Vec<(Scope, String)> =
        Scope::ALL.iter().map(|scope| (*scope, key(&["--scope", scope.name()]))).collect();
    let bound: Vec<(Scope, String)> = Scope::ALL
        .iter()
        .map(|scope| (*scope, key(&["--scope", scope.name(), "--tenant", "acme"])))
        .collect();
    let server = folder.serve(&[]);
    // A request without the needed key is refused before any other error is reported. With the key it is not refused.
    let refused = |answer: &Answer| matches!(answer.status, 401 | 403);
    for (template, method, need) in server::operations() {
        let (method, mut target) = (word(method), path(template));
        if method == "OPTIONS" {
            continue;
        }
        if template == "/metrics" && need == Need::Scope(Scope::Read) {
            target += "?tenant_id=acme&bucket_size=day";
        }
        let ask = |key: Option<&str>| ask(&mut server.client(), &method, &target, key);
        let (scopes, wants_all) = match need {
            Need::Nothing => {
                assert!(!refused(&ask(None)), "{method} {target}");
                continue;
            }
            Need::Scope(scope) => (vec![scope], false),
            Need::Either(one, other) => (vec![one, other], false),
            Need::AllTenants(scope) => (vec![scope], true),
        };
        assert_eq!(ask(None).status, 401, "{method} {target}");
        assert_eq!(ask(Some("fh_0_0")).status, 401, "{method} {target}");
        for (keys, is_bound) in [(&all, false), (&bound, true)] {
            for (has, key) in keys {
                let answer = ask(Some(key));
                let may = (scopes.contains(has) || *has == Scope::Admin) && !(is_bound && wants_all);
                assert_eq!(answer.status == 403, !may, "{method} {target} with {has:?}: {answer:?}");
                assert_ne!(answer.status, 401, "{method} {target} with {has:?}");
            }
        }
    }
    server.stop();
}

#[test]
fn the_document_that_is_served_names_every_row() {
    let folder = Folder::new();
    let server = folder.serve(&[]);
    let document: Value = server.client().get("/openapi.json").expect("an answer").json();
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().expect("methods");
            methods.keys().map(|method| (path.clone(), method.to_uppercase())).collect::<Vec<_>>()
        })
        .collect();
    let rows: BTreeSet<(String, String)> =
        server::operations().map(|(path, method, _)| (path.replace("..}", "}"), word(method))).collect();
    assert_eq!(described, rows);
    server.stop();
}

/// An operation with a JSON body.
struct JsonOperation {
    method: String,
    target: String,
    /// Set if the body may also be lines of JSON.
    has_lines: bool,
}

/// Returns every operation whose body is a JSON document, as described. The description of an operation that is added
/// later adds it here.
fn json_operations(document: &Value) -> Vec<JsonOperation> {
    let mut found = Vec::new();
    for (template, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            let content = &operation["requestBody"]["content"];
            let is_json = content.get("application/json").is_some();
            let refusals =
                [("400", "empty-body"), ("400", "not-json"), ("400", "not-utf8"), ("422", "too-deep")];
            for (status, slug) in refusals {
                let examples =
                    &operation["responses"][status]["content"]["application/problem+json"]["examples"];
                assert_eq!(examples.get(slug).is_some(), is_json, "{method} {template}: {slug}");
            }
            if is_json {
                let has_lines = content.get("application/x-ndjson").is_some();
                found.push(JsonOperation {
                    method: method.to_uppercase(),
                    target: path(template),
                    has_lines,
                });
            }
        }
    }
    found
}

#[track_caller]
fn send(server: &Server, operation: &JsonOperation, headers: &str, body: &[u8]) -> Answer {
    let JsonOperation { method, target, .. } = operation;
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n{headers}\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut client = server.client();
    client.write(&[head.as_bytes(), body].concat()).expect("the server takes it");
    client.answer().expect("the server answers")
}

/// Returns the last segment of a problem's type.
fn slug(answer: &Answer) -> String {
    let said = answer.json();
    said["type"].as_str().expect("a type").rsplit('/').next().unwrap_or_default().to_owned()
}

/// A client that reads the type of a problem must not depend on the endpoint: what is not JSON is 400, JSON that is too
/// deep is 422, and so is JSON with other content, which then has a fault with a pointer.
#[test]
fn a_body_that_is_not_json_has_the_same_answer_at_every_endpoint() {
    let folder = Folder::new();
    let server = folder.serve(&[]);
    let document: Value = server.client().get("/openapi.json").expect("an answer").json();
    let operations = json_operations(&document);
    assert!(operations.len() >= 11, "{}", operations.len());
    let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    let (deep, deepest) = (nested(5_000), nested(127));
    let lone = r#"{"\ud800":1,"a":"\ud800","status":"\ud800","decision":"\ud800","customers":["\ud800"],
        "format":"\ud800","filters":{"product_id":["\ud800"]},"updates":["\ud800"],"mode":"\ud800","events":["\ud800"],
        "price":"\ud800","user_id":"\ud800"}"#
        .replace(['\n', ' '], "");
    for operation in &operations {
        let name = format!("{} {}", operation.method, operation.target);
        let refused = |headers: &str, body: &[u8], status: u16, expected: &str| {
            let answer = send(&server, operation, headers, body);
            let what = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            assert_eq!((answer.status, &*slug(&answer)), (status, expected), "{name}: {what}");
        };
        refused("", b"", 400, "empty-body");
        refused("", b"\xef\xbb\xbf", 400, "empty-body");
        for body in ["x", " ", "{", "[1,]", "{'a':1}", "NaN", "\"\\x\""] {
            refused("", body.as_bytes(), 400, "not-json");
        }
        for body in [&b"{} x"[..], b"{}{}"] {
            refused("", body, 400, "not-json");
        }
        refused("", b"{\"a\":\"\xff\"}", 400, "not-utf8");
        refused("", b"[\"\xff\"]", 400, "not-utf8");
        refused("", deep.as_bytes(), 422, "too-deep");
        // Lines are split before they are parsed.
        if !operation.has_lines {
            refused("", &deep.as_bytes()[..3_000], 422, "too-deep");
        }
        refused("Content-Encoding: gzip\r\n", &gzip(b"x"), 400, "not-json");
        refused("Content-Encoding: gzip\r\n", b"{}", 400, "bad-encoding");
        refused("Content-Encoding: br\r\n", b"{}", 415, "unsupported-encoding");
        for body in ["[]", "null", "5", "\"\\ud800\"", "{}", "\u{feff}{}", &deepest, &lone] {
            let answer = send(&server, operation, "", body.as_bytes());
            let said = answer.json();
            let what = &body[..body.len().min(40)];
            assert_eq!(answer.status, 422, "{name}: {what}: {said}");
            assert!(!["too-deep", "not-json"].contains(&&*slug(&answer)), "{name}: {what}: {said}");
            let errors = said["errors"].as_array().unwrap_or_else(|| panic!("{name}: {what}: {said}"));
            assert!(!errors.is_empty(), "{name}: {what}: {said}");
            let is_told = |error: &Value| error["pointer"].is_string() && error["code"].is_string();
            assert!(errors.iter().all(is_told), "{name}: {what}: {said}");
            let is_object = body.trim_start_matches('\u{feff}').starts_with('{');
            let is_no_object = |error: &Value| error["code"] == "not_an_object" && error["pointer"] == "";
            let of_body = |error: &Value| error.get("index").is_none() && is_no_object(error);
            assert_eq!(errors.iter().any(of_body), !is_object, "{name}: {what}: {said}");
        }
        let packed = send(&server, operation, "Content-Encoding: gzip\r\n", &gzip(b"{}"));
        let plain = send(&server, operation, "", b"{}");
        assert_eq!(
            (packed.status, &packed.json()["errors"]),
            (plain.status, &plain.json()["errors"]),
            "{name}"
        );
    }
    // Nothing was stored, and no request has ended the server.
    assert_eq!(server.client().get("/health").expect("an answer").json()["total_received"], 0);
    server.stop();
}
