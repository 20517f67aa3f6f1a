//! Keys and quotas on the real server: every endpoint on both lanes, rotation, revocation while it runs, limits and
//! their headers, and no public address without a key.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::support::{Answer, Client, Folder, Server, command, event, wait_until};
use firehose::base::clock;
use serde_json::Value;

const CHALLENGE: &str = "Bearer realm=\"firehose\"";

/// Creates a key and returns its text and its id.
#[track_caller]
fn key(folder: &Folder, words: &[&str]) -> (String, String) {
    let (code, made) = folder.run_json(&[&["key", "create"], words].concat());
    assert_eq!(code, 0, "{made}");
    let text = |name: &str| made[name].as_str().expect("a text").to_owned();
    (text("key"), text("id"))
}

#[track_caller]
fn run(folder: &Folder, words: &[&str]) -> String {
    let output = folder.run(words);
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[track_caller]
fn ask(client: &mut Client, method: &str, target: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: test\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    client.write(request.as_bytes()).expect("the server takes it");
    client.answer().expect("the server answers")
}

fn bearer(key: &str) -> String {
    format!("Authorization: Bearer {key}\r\n")
}

/// Opens a connection whose next request the executor serves.
#[track_caller]
fn on_executor(server: &Server) -> Client {
    let mut client = server.client();
    assert_eq!(client.get("/docs").expect("an answer").status, 200);
    client
}

/// Returns the status of a HEAD, whose response has a length but no body.
#[track_caller]
fn head(server: &Server, target: &str, headers: &str) -> u16 {
    let mut stream = TcpStream::connect(server.address).expect("the server takes connections");
    let request = format!("HEAD {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).expect("the server takes it");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server answers and closes");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

fn service_event(tenant: &str, id: &str) -> String {
    format!(
        r#"{{"event_id":"{id}","tenant_id":"{tenant}","source":"web","event_type":"click","timestamp":"2024-01-15T10:30:00Z","payload":{{}}}}"#
    )
}

#[track_caller]
fn assert_problem(answer: &Answer, status: u16, slug: &str, what: &str) {
    assert_eq!(answer.status, status, "{what}: {answer:?}");
    assert_eq!(answer.json()["type"], format!("/docs/problems/{slug}"), "{what}");
    let challenge = answer.header("WWW-Authenticate");
    assert_eq!(challenge.is_some(), status == 401, "{what}");
    assert!(challenge.is_none_or(|challenge| challenge.starts_with(CHALLENGE)), "{what}");
}

/// A request and what it needs: a scope, and whether a key of one tenant is enough.
struct Asked {
    method: &'static str,
    target: &'static str,
    body: String,
    scope: &'static str,
    one_tenant: bool,
    good: &'static [u16],
}

fn everything() -> Vec<Asked> {
    let asked = |method, target, body: &str, scope, one_tenant, good| Asked {
        method,
        target,
        body: body.to_owned(),
        scope,
        one_tenant,
        good,
    };
    let bulk = format!(r#"{{"events":[{}]}}"#, service_event("a", "bulk"));
    let buckets = "/metrics?tenant_id=a&bucket_size=day";
    let stock = r#"{"mode":"merge","updates":[{"event_id":"s","product_id":"p","delta":1,"occurred_at":"2026-01-01T00:00:00Z"}]}"#;
    let price = r#"{"event_id":"e","price":1,"currency":"USD","observed_at":"2026-01-01T00:00:00Z"}"#;
    vec![
        asked("POST", "/event", &event(1), "write", true, &[202]),
        asked("POST", "/events", &service_event("a", "one"), "write", true, &[200, 201]),
        asked("POST", "/events/bulk", &bulk, "write", true, &[200]),
        asked("GET", "/events?tenant_id=a", "", "read", true, &[200]),
        asked("GET", buckets, "", "read", true, &[200]),
        asked("POST", "/api/v1/tenants/a/products/p/price-event", price, "manage", true, &[200, 201]),
        asked("PATCH", "/api/v1/tenants/a/orders/none", r#"{"status":"paid"}"#, "manage", true, &[404]),
        asked("PUT", "/api/v1/tenants/a/stock/bulk_update", stock, "manage", true, &[200]),
        asked("GET", "/api/v1/tenants/a/price-anomalies", "", "read", true, &[200]),
        asked("GET", "/clicks", "", "read", false, &[200]),
        asked("GET", "/metrics", "", "read", false, &[200]),
    ]
}

#[test]
fn k1_every_endpoint_wants_its_key_on_both_lanes() {
    let folder = Folder::new();
    for tenant in ["a", "b"] {
        run(&folder, &["tenant", "add", tenant]);
    }
    let (write_a, _) = key(&folder, &["--tenant", "a", "--scope", "write"]);
    let (read_a, _) = key(&folder, &["--tenant", "a", "--scope", "read"]);
    let (read_b, _) = key(&folder, &["--tenant", "b", "--scope", "read"]);
    let (write_b, _) = key(&folder, &["--tenant", "b", "--scope", "write"]);
    let (manage_a, _) = key(&folder, &["--tenant", "a", "--scope", "manage"]);
    let (manage_b, _) = key(&folder, &["--tenant", "b", "--scope", "manage"]);
    let (admin, _) = key(&folder, &["--scope", "admin"]);
    let (revoked, id) = key(&folder, &["--scope", "admin"]);
    run(&folder, &["key", "revoke", &id]);
    let (expiring, _) = key(&folder, &["--scope", "admin", "--expires", "1s"]);
    let server = folder.serve(&[]);
    clock::pause(Duration::from_millis(1_100));
    let wrong = format!("{}{}", &admin[..20], &read_a[20..]);
    let unknown = format!("fh_0123456789abcdef_{}", &admin[20..]);

    for asked in everything() {
        for executor in [false, true] {
            let what = format!("{} {}, executor {executor}", asked.method, asked.target);
            let connect = || if executor { on_executor(&server) } else { server.client() };
            let (own, other, off_scope) = match asked.scope {
                "write" => (&write_a, &write_b, &read_a),
                // A key that a public page may contain.
                "manage" => (&manage_a, &manage_b, &write_a),
                _ => (&read_a, &read_b, &write_a),
            };
            let say = |headers: &str| ask(&mut connect(), asked.method, asked.target, headers, &asked.body);
            let absent = say("");
            assert_problem(&absent, 401, "unauthorized", &what);
            assert_eq!(absent.header("WWW-Authenticate"), Some(CHALLENGE), "{what}");
            let mut details = Vec::new();
            for key in [&wrong, &unknown, "fh_", &revoked, &expiring] {
                let answer = say(&bearer(key));
                assert_problem(&answer, 401, "unauthorized", &what);
                details.push(answer.json()["detail"].as_str().expect("a text").to_owned());
            }
            assert!(details[0] == details[1] && details[1] == details[2], "{details:?}");
            assert!(details[3].contains("revoked") && details[4].contains("expired"), "{details:?}");

            let denied = say(&bearer(off_scope));
            assert_problem(&denied, 403, "forbidden", &what);
            assert!(denied.json()["detail"].as_str().is_some_and(|said| said.contains(asked.scope)));
            if asked.target == "/event" {
                // A click belongs to no tenant, so any key with the scope `write` may send it.
                assert_eq!(say(&bearer(other)).status, 202);
            } else if asked.target == "/events/bulk" {
                let answer = say(&bearer(other));
                assert_problem(&answer, 422, "invalid-events", &what);
                assert_eq!(answer.json()["errors"][0]["code"], "wrong_tenant", "{answer:?}");
            } else {
                assert_problem(&say(&bearer(other)), 403, "forbidden", &what);
            }
            if !asked.one_tenant {
                assert_problem(&say(&bearer(own)), 403, "forbidden", &what);
            }
            let right = if asked.one_tenant { own } else { &admin };
            for key in [right, &admin] {
                let answer = say(&bearer(key));
                assert!(asked.good.contains(&answer.status), "{what}: {answer:?}");
                let answer = say(&format!("X-API-Key: {key}\r\n"));
                assert!(asked.good.contains(&answer.status), "{what}: {answer:?}");
            }
            if asked.method == "GET" {
                assert_eq!(head(&server, asked.target, ""), 401, "{what}");
                assert_eq!(head(&server, asked.target, &bearer(off_scope)), 403, "{what}");
                assert_eq!(head(&server, asked.target, &bearer(right)), 200, "{what}");
            }
        }
    }
    // The log contains no secret, whatever was refused.
    let log = server.stop().log;
    for key in [&write_a, &admin, &revoked, &wrong] {
        assert!(!log.contains(&key[20..]), "a secret is in the log");
    }
}

#[test]
fn what_is_open_stays_open_and_a_refusal_keeps_the_connection() {
    let folder = Folder::new();
    let (admin, _) = key(&folder, &["--scope", "admin"]);
    let server = folder.serve(&[]);
    server.wait_until_stored();
    for executor in [false, true] {
        let mut client = if executor { on_executor(&server) } else { server.client() };
        for target in ["/health", "/ready", "/livez"] {
            assert_eq!(ask(&mut client, "GET", target, "", "").status, 200, "{target}");
        }
        assert_eq!(ask(&mut client, "GET", "/receipts/9-64", "", "").status, 404);
        let receipt = ask(&mut client, "POST", "/event", &bearer(&admin), &event(1));
        let receipt = receipt.header("Firehose-Receipt").expect("it was taken").to_owned();
        assert_eq!(ask(&mut client, "GET", &format!("/receipts/{receipt}"), "", "").status, 200);
        // The refused body is consumed, and the next request is understood.
        for body in [event(1), "not json".to_owned(), "x".repeat(60_000)] {
            assert_eq!(ask(&mut client, "POST", "/event", "", &body).status, 401);
            let chunked = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
            let head = "POST /event HTTP/1.1\r\nHost: test\r\n";
            client.write(format!("{head}{chunked}").as_bytes()).expect("it is taken");
            assert_eq!(client.answer().expect("an answer").status, 401);
        }
        let target = "/event?api_key=";
        assert_eq!(ask(&mut client, "POST", &format!("{target}{admin}"), "", &event(1)).status, 401);
        for target in ["/event", "/events", "/events/bulk", "/clicks", "/metrics"] {
            assert_eq!(ask(&mut client, "OPTIONS", target, "", "").status, 204, "{target}");
        }
        for target in ["/docs", "/openapi.json", "/docs/problems/unauthorized"] {
            assert_eq!(ask(&mut client, "GET", target, "", "").status, 200, "{target}");
        }
        assert_eq!(ask(&mut client, "GET", "/", "", "").status, 303);
        assert_eq!(ask(&mut client, "GET", "/nowhere", "", "").status, 404);
        assert_eq!(ask(&mut client, "DELETE", "/events", "", "").status, 405);
        // A body that is too large is refused regardless of the key.
        let huge = "Content-Length: 99999999\r\n\r\n";
        client.write(format!("POST /event HTTP/1.1\r\nHost: test\r\n{huge}").as_bytes()).expect("taken");
        assert_eq!(client.answer().expect("an answer").status, 413);
    }
    server.stop();
}

#[test]
fn a_key_may_be_written_in_every_usual_way_and_in_no_other() {
    let folder = Folder::new();
    let (good, _) = key(&folder, &["--scope", "write"]);
    let (other, _) = key(&folder, &["--scope", "write"]);
    let server = folder.serve(&[]);
    for executor in [false, true] {
        for (headers, status) in [
            (format!("authorization: bearer {good}\r\n"), 202),
            (format!("AUTHORIZATION: BEARER   {good}\r\n"), 202),
            (format!("x-api-key:{good}\r\n"), 202),
            (format!("X-Api-Key:  {good}  \r\n"), 202),
            (format!("Authorization: Bearer {good}\r\nX-API-Key: {good}\r\n"), 202),
            (format!("Authorization: Basic dTpw\r\nX-API-Key: {good}\r\n"), 202),
            (format!("Authorization: Bearer {good}\r\nX-API-Key: {other}\r\n"), 401),
            (format!("X-API-Key: {good}\r\nX-API-Key: {other}\r\n"), 401),
            (format!("Authorization: {good}\r\n"), 401),
            (format!("Authorization: Token {good}\r\n"), 401),
            (format!("Authorization: Bearer {good} x\r\n"), 401),
            (format!("Authorization: Bearer {}\r\n", good.to_uppercase()), 401),
            ("Authorization: Bearer\r\n".to_owned(), 401),
            ("X-API-Key:\r\n".to_owned(), 401),
            (format!("X-API-Key: {good}\u{e9}\r\n"), 401),
            (format!("Cookie: key={good}\r\n"), 401),
            (format!("X-API-Key: {}\r\n", "f".repeat(20_000)), 401),
            (format!("X-API-Key: {}\r\n", "f".repeat(100_000)), 431),
        ] {
            let mut client = if executor { on_executor(&server) } else { server.client() };
            let what = &headers[..headers.len().min(90)];
            let answer = ask(&mut client, "POST", "/event", &headers, &event(7));
            assert_eq!(answer.status, status, "executor {executor}, {what:?}: {answer:?}");
        }
    }
    server.stop();
}

#[test]
fn k1_rows_of_another_tenant_are_rejected_one_by_one() {
    let folder = Folder::new();
    run(&folder, &["tenant", "add", "a"]);
    let (write, _) = key(&folder, &["--tenant", "a", "--scope", "write"]);
    let (read, _) = key(&folder, &["--scope", "read"]);
    let server = folder.serve(&[]);
    let mut client = server.client();
    let rows = [service_event("a", "1"), service_event("b", "2"), service_event("a", "3")];
    let body = format!(r#"{{"events":[{}]}}"#, rows.join(","));
    let answer = ask(&mut client, "POST", "/events/bulk", &bearer(&write), &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let said = answer.json();
    assert_eq!((&said["inserted"], &said["rejected"]), (&Value::from(2), &Value::from(1)), "{said}");
    let row = &said["results"][0];
    assert_eq!((&row["index"], &row["code"]), (&Value::from(1), &Value::from("wrong_tenant")), "{said}");
    assert_eq!(row["pointer"], "/tenant_id");
    for (tenant, count) in [("a", 2), ("b", 0)] {
        let target = format!("/events?tenant_id={tenant}");
        let page = ask(&mut client, "GET", &target, &bearer(&read), "").json();
        assert_eq!(page["total"], count, "{tenant}");
    }
    server.stop();
}

#[test]
fn keys_are_made_rotated_and_ended_while_the_server_runs() {
    let folder = Folder::new();
    let server = folder.serve(&["--cores", &crate::support::cpus(2)]);
    let status = |key: Option<&str>| {
        let headers = key.map(bearer).unwrap_or_default();
        ask(&mut server.client(), "POST", "/event", &headers, &event(1)).status
    };
    assert_eq!(status(None), 202, "without keys everybody may");
    let (old, old_id) = key(&folder, &["--scope", "write", "--label", "old"]);
    wait_until("the first key to count", || status(None) == 401);
    assert_eq!(status(Some(&old)), 202);

    // The new key is valid immediately, the old one for a few more seconds.
    let (new, _) = key(&folder, &["--scope", "write", "--label", "new"]);
    run(&folder, &["key", "revoke", &old_id, "--in", "4s"]);
    let (_, keys) = folder.run_json(&["key", "list"]);
    assert_eq!((&keys[0]["state"], &keys[1]["state"]), (&"revoking".into(), &"active".into()), "{keys}");
    wait_until("the new key to count", || status(Some(&new)) == 202);
    assert_eq!(status(Some(&old)), 202, "they overlap");
    wait_until("the old key to end", || status(Some(&old)) == 401);
    assert_eq!(status(Some(&new)), 202);

    // A client on an open connection is refused as well.
    let mut connected = server.client();
    assert_eq!(ask(&mut connected, "POST", "/event", &bearer(&new), &event(1)).status, 202);
    let (_, keys) = folder.run_json(&["key", "list"]);
    let id = keys[1]["id"].as_str().expect("an id");
    run(&folder, &["key", "revoke", id]);
    let since = clock::now();
    wait_until("the key to end", || {
        ask(&mut connected, "POST", "/event", &bearer(&new), &event(1)).status == 401
    });
    // The server promises two seconds; a busy machine gets twice as much.
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
    assert_eq!(status(None), 401, "the last key's end opens nothing");
    server.stop();
    let (_, keys) = folder.run_json(&["key", "list"]);
    assert!(keys[0]["last_used_at"].is_string() && keys[1]["last_used_at"].is_string(), "{keys}");
    assert_eq!((&keys[0]["state"], &keys[0]["label"]), (&"revoked".into(), &"old".into()));
    let listed = run(&folder, &["key", "list"]);
    assert!(listed.contains(&old_id) && !listed.contains(&old[20..]), "{listed}");
}

#[test]
fn commands_say_what_they_did_and_what_is_wrong() {
    let folder = Folder::new();
    assert_eq!(folder.run_json(&["key", "list"]), (0, Value::Array(Vec::new())));
    assert!(!folder.data().exists(), "looking makes nothing");
    let made = folder.run(&["key", "create", "--scope", "read,write"]);
    // Stdout contains only the key, for scripts; stderr contains the notes for people.
    let (said, aside) = (String::from_utf8_lossy(&made.stdout), String::from_utf8_lossy(&made.stderr));
    assert!(said.starts_with("fh_") && said.trim_end().len() == 63, "{said}");
    assert!(aside.contains("shown only once"), "{aside}");
    // One key may have several scopes, in either spelling. Only a key that can do nothing but append is for public
    // pages.
    for (words, scopes, public) in [
        (&["--scope", "manage,write"][..], "write,manage", false),
        (&["--scope", "read", "--scope", "write", "--scope", "read"], "write,read", false),
        (&["--scope", "write"], "write", true),
        (&["--scope", "admin"], "admin", false),
    ] {
        let (code, made) = folder.run_json(&[&["key", "create"], words].concat());
        assert_eq!(code, 0, "{made}");
        assert_eq!((&made["scopes"], &made["public"]), (&scopes.into(), &public.into()), "{made}");
        let (_, listed) = folder.run_json(&["key", "list"]);
        let row =
            listed.as_array().expect("keys").iter().find(|row| row["id"] == made["id"]).expect("it is there");
        assert_eq!((&row["scopes"], &row["public"]), (&scopes.into(), &public.into()), "{row}");
        let shown = run(&folder, &["key", "list"]);
        let line =
            shown.lines().find(|line| line.starts_with(made["id"].as_str().expect("an id"))).expect("a line");
        assert_eq!(line.contains("forbidden"), !public, "{shown}");
    }
    let said = run(&folder, &["tenant", "add", "a", "--requests-per-second", "100"]);
    assert!(said.contains("100 requests/s, unlimited bytes/s"), "{said}");
    run(&folder, &["tenant", "set", "a", "--bytes-per-second", "1000", "--burst-seconds", "5"]);
    let (_, tenants) = folder.run_json(&["tenant", "list"]);
    let a = &tenants[0];
    assert_eq!((&a["tenant"], &a["requests_per_second"]), (&"a".into(), &Value::from(100)), "{tenants}");
    assert_eq!((&a["bytes_per_second"], &a["burst_seconds"]), (&Value::from(1000), &Value::from(5)));
    run(&folder, &["tenant", "set", "a", "--requests-per-second", "off"]);
    assert!(run(&folder, &["tenant", "list"]).contains("unlimited"));
    for (words, code, named) in [
        (&["tenant", "add", "a"][..], 1, "tenant set"),
        (&["tenant", "set", "b", "--requests-per-second", "1"], 1, "\"b\""),
        (&["key", "create", "--tenant", "b", "--scope", "read"], 1, "tenant add"),
        (&["key", "revoke", "0123456789abcdef"], 1, "key list"),
        (&["key", "create", "--scope", "everything"], 2, "write, manage, read and admin"),
        (&["key", "create"], 2, "--scope"),
        (&["key", "create", "--scope", "read", "--expires", "2001-01-01"], 2, "time in the future"),
        (&["tenant", "add", "c", "--requests-per-second", "0"], 2, "off"),
    ] {
        let output = folder.run(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        assert!(said.contains(named), "{words:?}: {said}");
    }
    // A folder that contains only keys is still a new one, and a backup contains the keys too.
    let server = folder.serve(&[]);
    assert_eq!(ask(&mut server.client(), "POST", "/event", "", &event(1)).status, 401);
    server.wait_until_stored();
    let copy = folder.beside("copy");
    run(&folder, &["backup", copy.to_str().expect("a name")]);
    server.stop();
    let copied = folder.serve_on(&copy, &[]);
    assert_eq!(ask(&mut copied.client(), "POST", "/event", "", &event(1)).status, 401);
    copied.stop();
}

#[test]
fn a_limit_is_kept_over_all_cores_and_says_where_it_stands() {
    const PER_S: u64 = 200;
    let folder = Folder::new();
    run(&folder, &["tenant", "add", "a", "--requests-per-second", &PER_S.to_string()]);
    run(&folder, &["tenant", "add", "b", "--bytes-per-second", "1000"]);
    let (a, _) = key(&folder, &["--tenant", "a", "--scope", "write"]);
    let (b, _) = key(&folder, &["--tenant", "b", "--scope", "write"]);
    let (free, _) = key(&folder, &["--scope", "write"]);
    let server = folder.serve(&["--cores", &crate::support::cpus(2)]);

    let since = clock::now();
    let ends = since + Duration::from_secs(2);
    let mut admitted = 0;
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..4)
            .map(|at| {
                let (server, headers) = (&server, bearer(&a));
                scope.spawn(move || {
                    // Both lanes of both cores spend one budget.
                    let mut client = if at % 2 == 0 { server.client() } else { on_executor(server) };
                    let mut admitted = 0;
                    while clock::now() < ends {
                        let answer = ask(&mut client, "POST", "/event", &headers, &event(1));
                        match answer.status {
                            202 => admitted += 1,
                            _ => assert_limited(&answer, &format!("\"requests\";q={PER_S};w=1")),
                        }
                    }
                    admitted
                })
            })
            .collect();
        for sender in senders {
            admitted += sender.join().expect("it does not panic");
        }
    });
    // A full bucket, and what was added since.
    let due = PER_S as f64 * (1.0 + since.elapsed().as_secs_f64());
    let error = admitted as f64 / due - 1.0;
    assert!(error < 0.05 && error > -0.15, "{admitted} of {due}");

    // Other clients are not limited.
    let mut client = server.client();
    for _ in 0..300 {
        assert_eq!(ask(&mut client, "POST", "/event", &bearer(&free), &event(1)).status, 202);
    }
    let padded = crate::support::event_with(1, 500);
    for executor in [false, true] {
        let mut client = if executor { on_executor(&server) } else { server.client() };
        wait_until("the bytes to be there", || {
            ask(&mut client, "POST", "/event", &bearer(&b), &padded).status == 202
        });
        let over = (0..3).map(|_| ask(&mut client, "POST", "/event", &bearer(&b), &padded));
        let over: Vec<_> = over.filter(|answer| answer.status != 202).collect();
        assert!(!over.is_empty());
        over.iter().for_each(|answer| assert_limited(answer, "\"bytes\";q=1000;qu=\"content-bytes\";w=1"));
    }
    server.stop();
}

#[test]
fn a_body_that_nobody_wants_is_charged_however_it_is_framed() {
    let folder = Folder::new();
    run(&folder, &["tenant", "add", "a", "--bytes-per-second", "1", "--burst-seconds", "3000"]);
    let (a, _) = key(&folder, &["--tenant", "a", "--scope", "read"]);
    let server = folder.serve(&[]);
    let mut client = server.client();
    let head = format!("GET /events?tenant_id=a HTTP/1.1\r\nHost: test\r\n{}", bearer(&a));
    let body = "x".repeat(900);
    let mut left = Vec::new();
    for framed in [
        format!("Content-Length: 900\r\n\r\n{body}"),
        format!("Transfer-Encoding: chunked\r\n\r\n384\r\n{body}\r\n0\r\n\r\n"),
        "\r\n".to_owned(),
    ] {
        client.write(format!("{head}{framed}").as_bytes()).expect("the server takes it");
        let answer = client.answer().expect("the server answers");
        assert_eq!(answer.status, 200, "{answer:?}");
        let said = answer.header("RateLimit").expect("it says where it stands");
        let number = said.split("r=").nth(1).and_then(|rest| rest.split(';').next()?.parse::<u64>().ok());
        left.push(number.expect("a number"));
    }
    // A few bytes are added meanwhile.
    assert!((2_100..2_200).contains(&left[0]) && (1_200..1_300).contains(&left[1]), "{left:?}");
    assert!((1_200..1_300).contains(&left[2]), "{left:?}");
    server.stop();
}

#[track_caller]
fn assert_limited(answer: &Answer, policy: &str) {
    assert_problem(answer, 429, "rate-limited", policy);
    assert_eq!(answer.header("RateLimit-Policy"), Some(policy));
    assert_eq!(answer.header("Retry-After"), Some("1"), "{answer:?}");
    let name = policy.split(';').next().expect("a name");
    let limit = answer.header("RateLimit").expect("it says where it stands");
    assert!(limit.starts_with(&format!("{name};r=")) && limit.ends_with(";t=1"), "{limit}");
}

#[test]
fn every_answer_to_a_charged_request_says_where_the_quotas_stand() {
    const POLICY: &str = "\"requests\";q=300;w=300, \"bytes\";q=3000;qu=\"content-bytes\";w=300";
    let folder = Folder::new();
    let limits = ["--requests-per-second", "1", "--bytes-per-second", "10", "--burst-seconds", "300"];
    run(&folder, &[&["tenant", "add", "a"], &limits[..]].concat());
    run(&folder, &["tenant", "add", "b", "--requests-per-second", "1", "--burst-seconds", "3"]);
    run(&folder, &["tenant", "add", "free"]);
    let (a, _) = key(&folder, &["--tenant", "a", "--scope", "write,read", "--scope", "manage"]);
    let (free, _) = key(&folder, &["--tenant", "free", "--scope", "write"]);
    let (every, _) = key(&folder, &["--scope", "admin"]);
    let server = folder.serve(&[]);
    server.wait_until_stored();
    let mut client = server.client();

    // The remaining requests and bytes in responses of every kind.
    let mut left: Vec<[u64; 2]> = Vec::new();
    let (one, bulk) = (service_event("a", "1"), format!("{{\"events\":[{}]}}", service_event("a", "2")));
    let ingest = "Content-Type: application/x-ndjson\r\nIdempotency-Key: k\r\n";
    let tus = "Tus-Resumable: 1.0.0\r\nUpload-Length: 10\r\n";
    for (method, target, headers, body, status) in [
        ("POST", "/events", "", one.as_str(), 201),
        ("POST", "/events", "", one.as_str(), 200),
        ("POST", "/events", "", "{}", 422),
        ("POST", "/events/bulk", "", &bulk, 200),
        ("GET", "/events?tenant_id=a", "", "", 200),
        ("GET", "/events?tenant_id=a", "Accept: application/x-ndjson\r\n", "", 200),
        ("GET", "/events?tenant_id=b", "", "", 403),
        ("GET", "/metrics?tenant_id=a&bucket_size=day", "", "", 200),
        ("GET", "/api/v1/tenants/a/orders/search", "", "", 200),
        ("GET", "/api/v1/tenants/a/metrics/sales?group_by=day", "", "", 200),
        ("GET", "/api/v1/tenants/a/reports/export", "", "", 200),
        ("PATCH", "/api/v1/tenants/a/orders/none", "", "{\"status\":\"paid\"}", 404),
        ("POST", "/api/v1/ingest/orders", ingest, "{}\n", 422),
        ("POST", "/api/v1/ingest/orders/uploads", tus, "", 201),
    ] {
        let headers = format!("{headers}{}", bearer(&a));
        let answer = ask(&mut client, method, target, &headers, body);
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
        assert_eq!(answer.header("RateLimit-Policy"), Some(POLICY), "{method} {target}");
        let said = answer.header("RateLimit").expect("it says where it stands");
        let numbers: Vec<u64> = said
            .split(|other: char| !other.is_ascii_digit())
            .filter_map(|digits| digits.parse().ok())
            .collect();
        let [requests, requests_s, bytes, bytes_s] = numbers[..] else { panic!("{said}") };
        let expected = format!("\"requests\";r={requests};t={requests_s}, \"bytes\";r={bytes};t={bytes_s}");
        assert_eq!(said, expected);
        // One request and ten bytes are added per second, so this is the time until the used ones are restored.
        assert!((300..=301).contains(&(requests + requests_s)), "{said}");
        assert!((3_000..=3_010).contains(&(bytes + bytes_s * 10)), "{said}");
        left.push([requests, bytes]);
    }
    let asked = left.len() as u64;
    let last = left.last().expect("there were some")[0];
    assert!((300 - asked..300 - asked + 10).contains(&last), "a few come back meanwhile: {left:?}");
    assert!(left[0][1] < 3_010 - one.len() as u64, "{left:?}");

    let told = |answer: &Answer| {
        let both = (answer.header("RateLimit-Policy").is_some(), answer.header("RateLimit").is_some());
        assert_eq!(both.0, both.1, "{answer:?}");
        both.0
    };
    // If the key is bound to no tenant, the tenant in the path is charged. A refused request reports its own limit.
    let search = "/api/v1/tenants/b/orders/search";
    let answers: Vec<Answer> = (0..6).map(|_| ask(&mut client, "GET", search, &bearer(&every), "")).collect();
    assert_eq!(answers[0].header("RateLimit-Policy"), Some("\"requests\";q=3;w=3"), "{:?}", answers[0]);
    assert!(answers.iter().all(told));
    assert_limited(&answers[5], "\"requests\";q=3;w=3");
    // Without a quota, and if nothing is charged, there are no such headers. Clicks never have them, on either lane.
    for (method, target, headers, body) in [
        ("POST", "/events", bearer(&free), service_event("free", "1")),
        ("POST", "/events", bearer(&every), service_event("a", "3")),
        ("GET", "/events?tenant_id=a", String::new(), String::new()),
        ("OPTIONS", "/events", bearer(&a), String::new()),
        ("GET", "/health", bearer(&a), String::new()),
        ("POST", "/event", bearer(&a), event(1)),
    ] {
        for client in [&mut server.client(), &mut on_executor(&server)] {
            let answer = ask(client, method, target, &headers, &body);
            assert!(!told(&answer), "{method} {target}: {answer:?}");
        }
    }
    server.stop();
}

/// Starts a server on an address that others can reach.
fn public(folder: &Folder, log: &str, flags: &[&str]) -> Child {
    let mut serve = command();
    serve.arg("serve").arg("--data").arg(folder.data());
    serve
        .args(["--listen", "0.0.0.0:0", "--ops-listen", "off", "--cores", &crate::support::cpus(1)])
        .args(flags);
    let log = File::create(folder.beside(log)).expect("a log");
    serve.args(["--log-format", "json"]).stderr(log).stdout(Stdio::null()).spawn().expect("it starts")
}

#[test]
fn a_public_address_is_served_with_keys_only_or_when_told_to() {
    let folder = Folder::new();
    let ends = |mut server: Child, log: &str| {
        let code = server.wait().expect("it ends").code();
        let said = std::fs::read_to_string(folder.beside(log)).expect("a log");
        assert_eq!(code, Some(78), "{said}");
        for way_out in ["firehose key create", "--insecure", "0.0.0.0"] {
            assert!(said.contains(way_out), "{said}");
        }
    };
    let serves = |mut server: Child, log: &str| {
        wait_until("the server to serve", || {
            assert!(server.try_wait().expect("it can be asked").is_none(), "it ended: {log}");
            let said = std::fs::read_to_string(folder.beside(log)).expect("a log");
            said.contains("\"serving\"")
        });
        // This test started the child itself.
        server.kill().and_then(|()| server.wait()).expect("it ends");
    };
    ends(public(&folder, "log-a", &[]), "log-a");
    assert!(!folder.data().exists(), "nothing is made for a start that is refused");
    serves(public(&folder, "log-b", &["--insecure"]), "log-b");
    let (_, id) = key(&folder, &["--scope", "write"]);
    serves(public(&folder, "log-c", &[]), "log-c");
    run(&folder, &["key", "revoke", &id]);
    ends(public(&folder, "log-d", &[]), "log-d");
    // A file that cannot be read is not treated as one without keys.
    std::fs::write(folder.data().join("tenants.db"), "no database").expect("it is written");
    let ended = folder.refused(&["--shards", "1"]);
    assert_eq!(ended.code, Some(78), "{}", ended.log);
    assert!(ended.log.contains("tenants.db"), "{}", ended.log);
}
