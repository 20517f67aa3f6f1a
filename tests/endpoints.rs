//! The table of endpoints against the running server: every row answers OPTIONS, 405 with the right `Allow`, and 401
//! or 403 as declared. `/openapi.json` describes every row.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Answer, Client, Folder};
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
