//! Price events on the real server: each is stored once and always gets its first response. Also reviews, lists,
//! signatures, limits, and a stream of changes that misses none and repeats none, over cores, shards, kills and slow
//! readers.

use std::collections::BTreeSet;

use crate::support::commerce::problem;
use crate::support::{Answer, Client, Folder, Server, cpus, hold_lock, wait_for, wait_until};
use serde_json::{Value, json};

fn target(tenant: &str, product: &str) -> String {
    format!("/api/v1/tenants/{tenant}/products/{product}/price-event")
}

fn event(id: &str, price: &str, day: u32) -> String {
    format!(
        r#"{{"event_id":"{id}","price":"{price}","currency":"USD","observed_at":"2026-01-{day:02}T00:00:00Z"}}"#
    )
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

#[track_caller]
fn post(client: &mut Client, tenant: &str, product: &str, body: &str) -> Answer {
    ask(client, "POST", &target(tenant, product), "", body)
}

/// Posts an event that is new and returns its anomaly.
#[track_caller]
fn recorded(client: &mut Client, tenant: &str, product: &str, body: &str) -> Value {
    let answer = post(client, tenant, product, body);
    assert_eq!(answer.status, 201, "{answer:?}");
    let said = answer.json();
    assert_eq!(said["status"], "recorded");
    said["anomaly"].clone()
}

/// Posts a first price of 10.00 if `first` is 0, then `count` anomalies. Returns their ids in the order of the events.
#[track_caller]
fn anomalies(client: &mut Client, tenant: &str, product: &str, first: u32, count: u32) -> Vec<String> {
    if first == 0 {
        assert!(recorded(client, tenant, product, &event("base", "10.00", 1)).is_null());
    }
    (first..first + count)
        .map(|number| {
            let anomaly = recorded(client, tenant, product, &event(&format!("odd-{number}"), "20.00", 2));
            anomaly["id"].as_str().expect("it is out of line").to_owned()
        })
        .collect()
}

/// Reads every anomaly of a list, page by page.
#[track_caller]
fn listed(server: &Server, path: &str, limit: usize) -> Vec<Value> {
    let (mut client, mut found, mut cursor) = (server.client(), Vec::new(), None::<String>);
    loop {
        let cursor_part = cursor.as_ref().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let separator = if path.contains('?') { '&' } else { '?' };
        let answer = client.get(&format!("{path}{separator}limit={limit}{cursor_part}")).expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = answer.json();
        let anomalies = page["anomalies"].as_array().expect("a list").clone();
        assert!(anomalies.len() <= limit);
        found.extend(anomalies);
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return found,
        }
    }
}

fn names(anomalies: &[Value]) -> BTreeSet<String> {
    anomalies.iter().map(|anomaly| anomaly["id"].as_str().expect("an id").to_owned()).collect()
}

#[track_caller]
fn review(server: &Server, path: &str, decision: &str) -> Answer {
    let body = format!(r#"{{"decision":"{decision}"}}"#);
    server.client().ask("POST", path, &body).expect("the server answers")
}

/// A reader of a stream of changes.
struct Reader {
    client: Client,
    unread: String,
    last_id: String,
    lagged: usize,
}

/// A received event: its kind and its anomaly.
type Event = (String, Value);

impl Reader {
    #[track_caller]
    fn open(client: Client, path: &str, last_id: Option<&str>) -> Reader {
        let last = last_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        Reader::open_with(client, path, &last)
    }

    #[track_caller]
    fn open_with(client: Client, path: &str, headers: &str) -> Reader {
        let mut reader = Reader { client, unread: String::new(), last_id: String::new(), lagged: 0 };
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n{headers}\r\n");
        reader.client.write(request.as_bytes()).expect("the server takes it");
        let head = reader.client.answer_head().expect("the server answers");
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        reader
    }

    /// Returns the next block of lines; `None` at a clean end.
    fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.unread.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.unread = rest;
                return Some(block);
            }
            let chunk = self.client.chunk().expect("the stream goes on or ends cleanly");
            if chunk.is_empty() {
                assert_eq!(self.unread, "", "it ends between events");
                return None;
            }
            self.unread.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }

    /// Waits for the stream's first id. Every later commit is delivered.
    fn begun(mut self) -> Reader {
        while self.last_id.is_empty() {
            let block = self.block().expect("the stream goes on");
            self.note(&block);
        }
        self
    }

    fn note(&mut self, block: &str) -> Option<Event> {
        let (mut kind, mut data) = (String::new(), None);
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("id", id)) => self.last_id = id.to_owned(),
                Some(("event", name)) => kind = name.to_owned(),
                Some(("data", text)) => data = Some(serde_json::from_str(text).expect("JSON")),
                _ => {}
            }
        }
        if kind == "lagged" {
            self.lagged += 1;
            return None;
        }
        data.map(|data| (kind, data))
    }

    /// Returns the next event; `None` at the end.
    fn next(&mut self) -> Option<Event> {
        loop {
            let block = self.block()?;
            if let Some(event) = self.note(&block) {
                return Some(event);
            }
        }
    }

    /// Returns the ids of the next `count` anomalies.
    #[track_caller]
    fn take(&mut self, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| {
                let (kind, anomaly) = self.next().expect("the stream goes on");
                assert_eq!((kind.as_str(), &anomaly["status"]), ("anomaly", &json!("open")));
                anomaly["id"].as_str().expect("an id").to_owned()
            })
            .collect()
    }
}

#[test]
fn p1_an_event_is_stored_once_and_answered_alike_for_ever() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2"]);
    let mut client = server.client();
    assert!(recorded(&mut client, "t", "p", &event("e1", "10.00", 1)).is_null());
    let first = post(&mut client, "t", "p", &event("e2", "15.00", 2));
    let anomaly = &first.json()["anomaly"];
    assert_eq!(
        (&anomaly["change_percent"], &anomaly["baseline"], &anomaly["threshold_percent"], &anomaly["status"]),
        (&json!(50), &json!("10.00"), &json!(20), &json!("open"))
    );
    let again = |client: &mut Client| {
        let again = post(client, "t", "p", &event("e2", "15", 2));
        assert_eq!((again.status, again.header("Idempotent-Replayed")), (200, Some("true")));
        assert_eq!(again.body, first.body);
    };
    again(&mut client);
    for other in
        [event("e2", "15.01", 2), event("e2", "15.00", 3), event("e2", "15.00", 2).replace("USD", "EUR")]
    {
        problem(&post(&mut client, "t", "p", &other), 409, "price-event-conflict");
    }
    // The same id of another product or tenant is another event.
    assert!(recorded(&mut client, "t", "q", &event("e2", "15.00", 2)).is_null());
    assert!(recorded(&mut client, "u", "p", &event("e2", "15.00", 2)).is_null());
    // A header may replace the id; an id in the body has precedence.
    let bare = event("e3", "10.00", 3).replace(r#""event_id":"e3","#, "");
    let with = |client: &mut Client, headers: &str, body: &str| {
        ask(client, "POST", &target("t", "p"), headers, body)
    };
    problem(&with(&mut client, "", &bare), 422, "invalid-event");
    assert_eq!(with(&mut client, "Idempotency-Key: \"e3\"\r\n", &bare).status, 201);
    assert_eq!(with(&mut client, "webhook-id: e3\r\n", &bare).status, 200);
    assert_eq!(with(&mut client, "webhook-id: x\r\nIdempotency-Key: e3\r\n", &bare).status, 200);
    assert_eq!(with(&mut client, "Idempotency-Key: x\r\n", &event("e3", "10.00", 3)).status, 200);
    let anomaly_id = anomaly["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/v1/tenants/t/price-anomalies/{anomaly_id}/review");
    assert_eq!(review(&server, &path, "approve").status, 200);
    again(&mut client);
    server.kill();
    let server = folder.serve(&[]);
    again(&mut server.client());
    server.stop();
    let output = folder.run(&["verify", "--aggregates"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_key_stands_for_one_event_of_its_product() {
    let folder = Folder::new();
    let mut server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
    let post = |server: &Server, product: &str, header: &str, id: Option<&str>| {
        let id = id.map_or(String::new(), |id| format!("\"event_id\":\"{id}\","));
        let body = format!(
            "{{{id}\"price\":\"10.00\",\"currency\":\"USD\",\"observed_at\":\"2026-03-01T12:00:00Z\"}}"
        );
        let answer = ask(&mut server.client(), "POST", &target("acme", product), header, &body);
        if answer.status == 409 {
            problem(&answer, 409, "price-event-conflict");
        }
        answer.status
    };
    for key in ["Idempotency-Key: k\r\n", "webhook-id: m\r\n"] {
        let product = &key[..3];
        assert_eq!(post(&server, product, key, Some("a")), 201);
        assert_eq!(post(&server, product, key, Some("a")), 200);
        assert_eq!(post(&server, product, key, Some("b")), 409, "{key}");
        assert_eq!(post(&server, product, key, None), 409, "it would stand for itself: {key}");
        server.kill();
        server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
        server.wait_until_stored();
        assert_eq!(post(&server, product, key, Some("b")), 409, "{key}");
        // Without the key, or with another key, it is another event. So is an event of another product.
        assert_eq!(post(&server, product, "", Some("b")), 201);
        assert_eq!(post(&server, product, "Idempotency-Key: other\r\n", Some("c")), 201);
        assert_eq!(post(&server, &format!("not-{product}"), key, Some("b")), 201);
    }
    // A key that is also used as the id of an event.
    assert_eq!(post(&server, "p", "Idempotency-Key: x\r\n", None), 201);
    assert_eq!(post(&server, "p", "Idempotency-Key: x\r\n", Some("y")), 409);
    assert_eq!(post(&server, "p", "Idempotency-Key: x\r\n", Some("x")), 200);
    server.stop();
}

#[test]
fn what_is_no_price_event_is_told_and_nothing_is_stored() {
    let folder = Folder::new();
    let server = folder.serve(&[]);
    let mut client = server.client();
    for (body, status, slug) in [
        ("", 400, "empty-body"),
        ("{", 400, "not-json"),
        ("[]", 422, "invalid-event"),
        (
            r#"{"event_id":"e","price":-1,"currency":"USD","observed_at":"2026-01-01T00:00:00Z"}"#,
            422,
            "invalid-event",
        ),
        (
            r#"{"event_id":"e","price":1.001,"currency":"USD","observed_at":"2026-01-01T00:00:00Z"}"#,
            422,
            "invalid-event",
        ),
        (
            r#"{"event_id":"e","price":1,"currency":"XXX","observed_at":"2026-01-01T00:00:00Z"}"#,
            422,
            "invalid-event",
        ),
        (
            r#"{"event_id":"e","price":1,"currency":"USD","observed_at":"9999-01-01T00:00:00Z"}"#,
            422,
            "invalid-event",
        ),
    ] {
        problem(&post(&mut client, "t", "p", body), status, slug);
    }
    problem(
        &post(&mut client, "t", "p", &format!("{}{}", "[".repeat(129), "]".repeat(129))),
        422,
        "too-deep",
    );
    let said = problem(&post(&mut client, "t", "p", "{}"), 422, "invalid-event");
    assert_eq!(said["errors"].as_array().map(Vec::len), Some(3));
    problem(&post(&mut client, "t", &"x".repeat(201), &event("e", "1", 1)), 404, "not-found");
    problem(&post(&mut client, "t", "%00", &event("e", "1", 1)), 404, "not-found");
    problem(&client.get(&target("t", "p")).expect("an answer"), 405, "method-not-allowed");
    problem(
        &client.get("/api/v1/tenants/t/price-anomalies?limit=0").expect("an answer"),
        400,
        "bad-parameter",
    );
    problem(
        &client.get("/api/v1/tenants/t/price-anomalies?cursor=x").expect("an answer"),
        400,
        "bad-parameter",
    );
    let id = "0".repeat(32);
    for (path, body, status, slug) in [
        (format!("price-anomalies/{id}/review"), "{}", 422, "invalid-review"),
        (format!("price-anomalies/{id}/review"), r#"{"decision":"approve"}"#, 404, "no-such-anomaly"),
        ("price-anomalies/x/review".to_owned(), r#"{"decision":"approve"}"#, 404, "no-such-anomaly"),
    ] {
        let answer = client.ask("POST", &format!("/api/v1/tenants/t/{path}"), body).expect("an answer");
        problem(&answer, status, slug);
    }
    assert_eq!(listed(&server, "/api/v1/tenants/t/price-anomalies", 5), Vec::<Value>::new());
    // The id is still free.
    assert_eq!(post(&mut client, "t", "p", &event("e", "1", 1)).status, 201);
}

#[test]
fn lists_are_whole_newest_first_and_one_tenants_alone() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "3", "--cores", &cpus(2)]);
    let mut client = server.client();
    let mut all = Vec::new();
    for product in 0..6 {
        all.extend(anomalies(&mut client, "t", &format!("p{product}"), 0, 3));
    }
    let other = anomalies(&mut client, "u", "p0", 0, 2);
    let of_t = "/api/v1/tenants/t/price-anomalies";
    for limit in [1, 4, 100] {
        let found = listed(&server, of_t, limit);
        let times: Vec<_> =
            found.iter().map(|anomaly| anomaly["created_at"].as_str().expect("a time")).collect();
        assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
        assert_eq!((found.len(), names(&found)), (18, all.iter().cloned().collect()));
    }
    assert_eq!(
        names(&listed(&server, "/api/v1/tenants/u/price-anomalies", 1)),
        other.iter().cloned().collect()
    );
    let of_product = listed(&server, "/api/v1/tenants/t/products/p3/price-anomalies", 2);
    assert_eq!(names(&of_product), all[9..12].iter().cloned().collect());
    // A cursor belongs to its query.
    let page = client.get(&format!("{of_t}?limit=1")).expect("an answer").json();
    let cursor = page["next_cursor"].as_str().expect("there are more");
    for path in [
        format!("/api/v1/tenants/u/price-anomalies?cursor={cursor}"),
        format!("{of_t}?status=open&cursor={cursor}"),
        format!("/api/v1/tenants/t/products/p3/price-anomalies?cursor={cursor}"),
    ] {
        problem(&client.get(&path).expect("an answer"), 400, "bad-parameter");
    }
    let newest = &listed(&server, of_t, 100)[0];
    let since = newest["created_at"].as_str().expect("a time");
    let found = listed(&server, &format!("{of_t}?since={since}"), 10);
    assert!(found.contains(newest) && found.len() < 18);

    // An anomaly is reviewed once, and only by its tenant.
    let path = |tenant: &str, id: &str| format!("/api/v1/tenants/{tenant}/price-anomalies/{id}/review");
    problem(&review(&server, &path("u", &all[0]), "approve"), 404, "no-such-anomaly");
    let below =
        |product: &str| format!("/api/v1/tenants/t/products/{product}/price-anomalies/{}/review", all[0]);
    problem(&review(&server, &below("p1"), "approve"), 404, "no-such-anomaly");
    let approved = review(&server, &below("p0"), "approve");
    assert_eq!((approved.status, &approved.json()["status"]), (200, &json!("approved")));
    let again = review(&server, &path("t", &all[0]), "approve");
    assert_eq!((again.status, &again.body), (200, &approved.body));
    problem(&review(&server, &path("t", &all[0]), "reject"), 409, "already-reviewed");
    assert_eq!(review(&server, &path("t", &all[1]), "reject").json()["status"], "rejected");
    for (status, count) in [("open", 16), ("approved", 1), ("rejected", 1)] {
        assert_eq!(listed(&server, &format!("{of_t}?status={status}"), 5).len(), count, "{status}");
    }
    // The approved price is now the accepted one; the rejected price is not.
    assert!(recorded(&mut client, "t", "p0", &event("next", "21.00", 3)).is_null());
    assert_eq!(recorded(&mut client, "t", "p1", &event("next", "21.00", 3))["baseline"], "10.00");
    server.stop();
}

#[test]
fn one_shard_and_many_answer_alike() {
    let mut answers = Vec::new();
    for shards in ["1", "3"] {
        let folder = Folder::new();
        let server = folder.serve(&["--shards", shards]);
        let mut client = server.client();
        let mut said = Vec::new();
        let without = |mut value: Value| {
            // Ids differ between folders, and arrival times between runs.
            for name in ["id", "created_at", "reviewed_at"] {
                if let Some(found) = value.get_mut(name) {
                    *found = Value::Null;
                }
            }
            value
        };
        for step in 0..120_u32 {
            let product = format!("p{}", step * 7 % 5);
            let price = format!("{}.{:02}", 10 + (step * 13) % 9, step % 100);
            let body = event(&format!("e{}", step % 90), &price, 1 + (step * 11) % 28);
            let answer = post(&mut client, "t", &product, &body);
            let kind = answer.json().get("type").cloned();
            said.push((answer.status, kind, without(answer.json()["anomaly"].clone())));
        }
        let mut list: Vec<String> = listed(&server, "/api/v1/tenants/t/price-anomalies", 7)
            .into_iter()
            .map(|anomaly| without(anomaly).to_string())
            .collect();
        list.sort();
        assert!(list.len() > 10 && list.len() < 110, "{}", list.len());
        answers.push((said, list));
        server.stop();
    }
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn signed_price_events_are_their_senders() {
    use firehose::base::clock;
    use firehose::tenants::WebhookSecret;
    let folder = Folder::new();
    let run = |words: &[&str]| {
        let (code, said) = folder.run_json(words);
        assert_eq!(code, 0, "{said}");
        said
    };
    run(&["tenant", "add", "t"]);
    let secret =
        |said: &Value| WebhookSecret::parse(said["secret"].as_str().expect("a secret")).expect("one");
    let first = run(&["tenant", "secret", "add", "t"]);
    let (old, old_id) = (secret(&first), first["id"].as_str().expect("an id").to_owned());
    let server = folder.serve(&[]);
    let mut client = server.client();
    let now_s = || clock::unix_us() / 1_000_000;
    let headers = |id: &str, at: i64, signature: &str| {
        format!("webhook-id: {id}\r\nwebhook-timestamp: {at}\r\nwebhook-signature: {signature}\r\n")
    };
    let send = |client: &mut Client, headers: &str, body: &str| {
        ask(client, "POST", &target("t", "p"), headers, body)
    };
    let body = event("e1", "10.00", 1);
    let at = now_s();
    let good = headers("m1", at, &old.sign("m1", at, body.as_bytes()));
    assert_eq!(send(&mut client, &good, &body).status, 201);
    // Another tenant needs no signature.
    assert_eq!(post(&mut client, "u", "p", &body).status, 201);
    let bad = old.sign("m1", at, b"another body");
    let old_time = at - 400;
    for (headers, says) in [
        (String::new(), "is missing"),
        (headers("m1", at, &bad), "no signature matches"),
        (headers("m2", at, &old.sign("m1", at, body.as_bytes())), "no signature matches"),
        (headers("m1", at, "v1a,xxxx"), "no signature of the form"),
        (headers("m1", old_time, &old.sign("m1", old_time, body.as_bytes())), "five minutes old"),
    ] {
        let answer = send(&mut client, &headers, &event("e9", "10.00", 1));
        let answer = if says.contains("old") { send(&mut client, &headers, &body) } else { answer };
        let said = problem(&answer, 401, "bad-signature");
        assert!(said["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{said}");
        assert!(answer.header("WWW-Authenticate").is_some());
    }
    // A changed body with the same meaning.
    problem(&send(&mut client, &good, &body.replace("10.00", "10.0")), 401, "bad-signature");

    // Only the signed header replaces the id: another key does not make it another event.
    let bare = event("", "10.00", 3).replace(r#""event_id":"","#, "");
    let signed = headers("m3", at, &old.sign("m3", at, bare.as_bytes()));
    for (key, status) in [("", 201), ("Idempotency-Key: another\r\n", 200)] {
        assert_eq!(send(&mut client, &format!("{key}{signed}"), &bare).status, status, "{key}");
    }

    // During a rotation both secrets are valid, then only the new one. The server notices within two seconds.
    let new = secret(&run(&["tenant", "secret", "add", "t"]));
    let mut number = 1;
    let mut signed = |client: &mut Client, by: &WebhookSecret, also: &str| {
        number += 1;
        let (id, body, at) = (format!("m{number}"), event(&format!("r{number}"), "10.00", 1), now_s());
        let signature = format!("{}{also}", by.sign(&id, at, body.as_bytes()));
        send(client, &headers(&id, at, &signature), &body).status
    };
    wait_until("the new secret to hold", || signed(&mut client, &new, "") == 201);
    assert_eq!(signed(&mut client, &old, " v1,AAAA"), 201);
    run(&["tenant", "secret", "revoke", &old_id]);
    wait_until("the old secret to end", || signed(&mut client, &old, "") == 401);
    assert_eq!(signed(&mut client, &new, ""), 201);
    let listed = run(&["tenant", "secret", "list"]);
    let states: Vec<_> = listed.as_array().expect("a list").iter().map(|row| row["state"].clone()).collect();
    assert_eq!(states, ["revoked", "active"]);
    assert!(!listed.to_string().contains("whsec_"));
    run(&["tenant", "secret", "clear", "t"]);
    wait_until("no secret to be left", || {
        post(&mut client, "t", "p", &event("free", "10.00", 1)).status != 401
    });
    server.stop();
}

#[test]
fn products_and_tenants_have_limits_of_their_own() {
    let folder = Folder::new();
    let (code, said) = folder.run_json(&["tenant", "add", "small"]);
    assert_eq!(code, 0, "{said}");
    let words = ["tenant", "prices", "small", "--events-per-second", "1", "--change-percent", "80"];
    let (code, said) = folder.run_json(&words);
    assert_eq!((code, &said["change_percent"], &said["score"]), (0, &json!(80.0), &Value::Null), "{said}");
    let flags = ["--product-events-per-second", "1", "--shards", "2", "--cores"];
    let server = folder.serve(&[&flags[..], &[&cpus(2)]].concat());
    // The limit is one per second, so one of two consecutive events is refused sooner or later.
    let refused = |tenant: &str, product: &dyn Fn(u32) -> String| {
        let mut number = 0;
        wait_for("a limit to be met", || {
            number += 1;
            let id = format!("e{number}");
            // New connections, so any core may serve them.
            let answer = post(&mut server.client(), tenant, &product(number), &event(&id, "10.00", 1));
            assert!(matches!(answer.status, 201 | 429), "{answer:?}");
            (answer.status == 429).then_some(answer)
        })
    };
    let of_product = refused("t", &|_| "p".to_owned());
    problem(&of_product, 429, "rate-limited");
    assert_eq!(of_product.header("Retry-After"), Some("1"));
    assert_eq!(of_product.header("RateLimit-Policy"), Some("\"product-price-events\";q=1;w=1"));
    assert_eq!(of_product.header("RateLimit"), Some("\"product-price-events\";r=0;t=1"));
    // The limit does not affect another product of the tenant.
    assert_eq!(post(&mut server.client(), "t", "q", &event("e", "10.00", 1)).status, 201);
    let of_tenant = refused("small", &|number| format!("p{number}"));
    assert_eq!(of_tenant.header("RateLimit-Policy"), Some("\"price-events\";q=1;w=1"));
    // A refused event is not stored, and its id is free. The limit of 80 % is the tenant's own.
    let stored = |body: &str| {
        wait_for("room for one", || {
            let answer = post(&mut server.client(), "small", "own", body);
            (answer.status != 429).then_some(answer)
        })
    };
    assert_eq!(stored(&event("a", "10.00", 1)).status, 201);
    assert!(stored(&event("b", "17.90", 2)).json()["anomaly"].is_null());
    assert_eq!(stored(&event("c", "40.00", 3)).json()["anomaly"]["threshold_percent"], 80);
    server.stop();
}

#[test]
fn p2_a_stream_on_any_core_gets_what_any_core_takes_once() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
    let path = "/api/v1/tenants/t/price-anomalies";
    let open = |path: &str| Reader::open(server.client(), path, None).begun();
    let mut readers: Vec<Reader> = (0..6).map(|_| open(path)).collect();
    let mut of_product = open("/api/v1/tenants/t/products/p1/price-anomalies");
    let mut of_other = open("/api/v1/tenants/u/price-anomalies");
    let mut sent = Vec::new();
    for product in 0..5 {
        // New connections, so any core may serve them.
        sent.extend(anomalies(&mut server.client(), "t", &format!("p{product}"), 0, 4));
    }
    let others = anomalies(&mut server.client(), "u", "p1", 0, 1);
    let expected: BTreeSet<String> = sent.iter().cloned().collect();
    for reader in &mut readers {
        let got = reader.take(sent.len());
        assert_eq!(got.iter().cloned().collect::<BTreeSet<_>>(), expected);
        // The events of one product arrive in their order.
        let of_p0: Vec<_> = got.iter().filter(|id| sent[..4].contains(id)).collect();
        assert_eq!(of_p0, sent[..4].iter().collect::<Vec<_>>());
    }
    assert_eq!(of_product.take(4), sent[4..8]);
    assert_eq!(of_other.take(1), others);
    // A decision follows its anomaly, and every reader receives it next.
    let review_path = format!("{path}/{}/review", sent[5]);
    assert_eq!(review(&server, &review_path, "reject").status, 200);
    for reader in readers.iter_mut().chain([&mut of_product]) {
        let (kind, anomaly) = reader.next().expect("it goes on");
        assert_eq!(
            (kind.as_str(), &anomaly["id"], &anomaly["status"]),
            ("review", &json!(sent[5]), &json!("rejected"))
        );
        assert!(anomaly["reviewed_at"].is_string());
    }
    // A HEAD starts no stream, and a stream accepts no filter of a list.
    let mut client = server.client();
    client
        .write(format!("HEAD {path} HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n\r\n").as_bytes())
        .expect("the server takes it");
    assert_eq!(client.answer_head().expect("an answer").status, 200);
    problem(
        &server.client().get_as(&format!("{path}?status=open"), "text/event-stream").expect("an answer"),
        400,
        "bad-parameter",
    );
    // The server stops although streams are open, and they end cleanly.
    server.signal("TERM");
    for reader in readers.iter_mut().chain([&mut of_product, &mut of_other]) {
        assert_eq!(reader.next(), None);
    }
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn p2_a_stream_goes_on_behind_its_last_id_whatever_happened_between() {
    let folder = Folder::new();
    let flags = |cores: usize| ["--shards".to_owned(), "3".to_owned(), "--cores".to_owned(), cpus(cores)];
    let serve = |cores: usize| {
        let flags = flags(cores);
        folder.serve(&flags.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let path = "/api/v1/tenants/t/price-anomalies";
    let mut server = serve(2);
    let mut sent = Vec::new();
    // Anomalies before the stream was opened are not delivered.
    for product in 0..4 {
        anomalies(&mut server.client(), "t", &format!("p{product}"), 0, 1);
    }
    let reader = Reader::open(server.client(), path, None).begun();
    // A stream can also be resumed from its first id.
    let (mut last_id, mut got) = (reader.last_id.clone(), Vec::new());
    drop(reader);
    for turn in 0..4_u32 {
        for product in 0..4 {
            let first = 1 + turn * 5;
            let mut client = server.client();
            sent.extend(anomalies(&mut client, "t", &format!("p{product}"), first, 5));
            anomalies(&mut client, "u", &format!("p{product}"), if turn == 0 { 0 } else { turn * 2 }, 2);
        }
        // Each reader reads a part, then the server dies; the last one reads the rest.
        let mut reader = Reader::open(server.client(), path, Some(&last_id));
        let wanted = if turn == 3 { sent.len() - got.len() } else { 9 };
        got.extend(reader.take(wanted));
        last_id = reader.last_id.clone();
        if turn < 3 {
            server.kill();
            server = serve(1 + turn as usize % 2);
        }
    }
    assert_eq!(got.len(), sent.len());
    assert_eq!(got.iter().collect::<BTreeSet<_>>(), sent.iter().collect::<BTreeSet<_>>());
    // The query string also accepts the id, and later changes are live.
    let mut reader = Reader::open(server.client(), &format!("{path}?last_event_id={last_id}"), None).begun();
    let more = anomalies(&mut server.client(), "t", "p0", 100, 1);
    assert_eq!(reader.take(1), more);
    // An id is valid only for its tenant and this folder.
    let twice = format!("{last_id}\r\nLast-Event-ID: {last_id}");
    for (path, id) in
        [("/api/v1/tenants/u/price-anomalies", last_id.as_str()), (path, "x"), (path, "AAAA"), (path, &twice)]
    {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\nLast-Event-ID: {id}\r\n\r\n"
        );
        let mut client = server.client();
        client.write(request.as_bytes()).expect("the server takes it");
        problem(&client.answer().expect("an answer"), 400, "bad-parameter");
    }
    drop(reader);
    server.stop();
}

#[test]
fn p2_a_slow_reader_is_told_and_then_gets_everything() {
    let folder = Folder::new();
    let server =
        folder.serve(&["--shards", "2", "--product-events-per-second", "1000000", "--write-timeout", "1h"]);
    let path = "/api/v1/tenants/t/price-anomalies";
    // A receive window that is full after a few events, so that the rest waits in the server.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    socket.connect(&server.address.into()).expect("the server takes connections");
    let mut slow = Reader::open(Client::of(socket.into()), path, None).begun();
    let mut client = server.client();
    let (mut sent, mut number) = (Vec::new(), 0);
    let has_lagged = || {
        let page = String::from_utf8_lossy(&server.get("/metrics").body).into_owned();
        let line = page
            .lines()
            .find(|line| line.starts_with("firehose_streams_lagged_total") && line.contains("executor"));
        let count = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        count.expect("the page has it") > 0.0
    };
    assert!(!has_lagged());
    // Enough to fill the ring and then the kernel's buffers.
    while number < 9_000 {
        sent.extend(anomalies(&mut client, "t", "p", number, 500));
        number += 500;
    }
    let got = slow.take(sent.len());
    assert_eq!(got, sent);
    assert!(slow.lagged > 0 && has_lagged(), "{}", slow.lagged);
    // The reader follows the live changes again.
    let more = anomalies(&mut client, "t", "p", number, 1);
    assert_eq!(slow.take(1), more);
    drop(slow);
    server.stop();
}

#[test]
fn p2_a_stream_of_one_product_comes_back_behind_what_others_had() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(1)]);
    let path = "/api/v1/tenants/t/price-anomalies";
    let of_product = "/api/v1/tenants/t/products/quiet/price-anomalies";
    let mut reader = Reader::open(server.client(), of_product, None).begun();
    let first_id = reader.last_id.clone();
    anomalies(&mut server.client(), "t", "p", 0, 20);
    // The comment that follows every quarter of a minute contains a newer id.
    while reader.last_id == first_id {
        let block = reader.block().expect("the stream goes on");
        assert_eq!(reader.note(&block), None, "{block}");
    }
    // An id is valid for all streams of its tenant: a stream of all products shows how far this one has read.
    let mut reader = Reader::open(server.client(), path, Some(&reader.last_id));
    let own = anomalies(&mut server.client(), "t", "quiet", 0, 1);
    // The comment may have arrived while the anomalies were still being delivered.
    let again = std::iter::repeat_with(|| reader.take(1)).take_while(|got| *got != own).count();
    assert!(again < 20, "{again}");
    drop(reader);
    server.stop();
}

#[test]
fn a_stream_ends_with_the_key_it_was_opened_with() {
    let folder = Folder::new();
    let server = folder.serve(&["--cores", &cpus(1)]);
    let path = "/api/v1/tenants/t/price-anomalies";
    // The stream was opened while no key was needed.
    let mut of_nobody = Reader::open(server.client(), path, None).begun();
    let key = || {
        let (code, made) = folder.run_json(&["key", "create", "--scope", "admin"]);
        assert_eq!(code, 0, "{made}");
        let text = |name: &str| made[name].as_str().expect("a text").to_owned();
        (format!("X-API-Key: {}\r\n", text("key")), text("id"))
    };
    let (first, first_id) = key();
    // The server checks its keys once a second.
    assert_eq!(of_nobody.next(), None);
    let (second, _) = key();
    wait_until("the second key to hold", || {
        ask(&mut server.client(), "GET", path, &second, "").status == 200
    });
    let open = |key: &str| Reader::open_with(server.client(), path, key).begun();
    let (mut ends, mut goes_on) = (open(&first), open(&second));
    let (code, said) = folder.run_json(&["key", "revoke", &first_id]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(ends.next(), None);
    let sent = ["10.00", "20.00"].map(|price| {
        let body = event(price, price, 1);
        ask(&mut server.client(), "POST", &target("t", "p"), &second, &body).json()["anomaly"]["id"].clone()
    });
    assert_eq!(goes_on.take(1), [sent[1].as_str().expect("an id")]);
    drop(goes_on);
    server.stop();
}

#[test]
fn replays_that_are_cut_off_hold_up_no_other() {
    let folder = Folder::new();
    let server =
        folder.serve(&["--shards", "2", "--cores", &cpus(1), "--product-events-per-second", "1000000"]);
    let path = "/api/v1/tenants/t/price-anomalies";
    let first_id = Reader::open(server.client(), path, None).begun().last_id;
    let mut client = server.client();
    let mut sent: BTreeSet<String> = BTreeSet::new();
    for product in ["p", "q"] {
        sent.extend(anomalies(&mut client, "t", product, 0, 1_000));
    }
    // Many more replays than may run at once. Each client leaves most of it unread, which resets the connection while
    // the server reads and writes.
    for _ in 0..60 {
        let mut reader = Reader::open(server.client(), path, Some(&first_id)).begun();
        reader.take(1);
    }
    let mut reader = Reader::open(server.client(), path, Some(&first_id));
    assert_eq!(reader.take(sent.len()).into_iter().collect::<BTreeSet<_>>(), sent);
    drop(reader);
    server.stop();
}

#[test]
fn a_shard_that_does_not_commit_is_202_and_the_answer_comes_later() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1", "--commit-wait", "50ms"]);
    let mut client = server.client();
    assert!(recorded(&mut client, "t", "p", &event("e1", "10.00", 1)).is_null());
    server.wait_until_stored();
    let held = hold_lock(&folder.database(0));
    let answer = post(&mut client, "t", "p", &event("e2", "20.00", 2));
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.json(), json!({"status": "accepted", "event_id": "e2"}));
    assert_eq!(answer.header("Firehose-Ack"), Some("os"));
    drop(held);
    server.wait_until_stored();
    let again = post(&mut client, "t", "p", &event("e2", "20.00", 2));
    assert_eq!((again.status, &again.json()["anomaly"]["baseline"]), (200, &json!("10.00")));
    server.stop();
}

#[test]
fn a_key_whose_shard_is_behind_stands_for_one_event() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--commit-wait", "50ms"]);
    let mut client = server.client();
    let warm = |client: &mut Client, key: u32| {
        let header = format!("Idempotency-Key: warm-{key}\r\n");
        ask(client, "POST", &target("t", "warm"), &header, &event(&format!("warm-e-{key}"), "1.00", 1))
    };
    // Waits until both shards have been read.
    for key in 0..16 {
        wait_until("the shards to be there", || matches!(warm(&mut client, key).status, 200 | 201));
    }
    server.wait_until_stored();
    let held = hold_lock(&folder.database(0));
    // A product of the shard that is not locked.
    let product = (0..64)
        .map(|number| format!("p{number}"))
        .find(|product| post(&mut client, "t", product, &event("e", "1.00", 1)).status == 201);
    let target = target("t", &product.expect("one of them is there"));
    let mut send = |key: u32, id: &str| {
        ask(&mut client, "POST", &target, &format!("Idempotency-Key: k{key}\r\n"), &event(id, "1.00", 1))
    };
    for key in 0..16 {
        let answer = send(key, &format!("first-{key}"));
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    // The locked shard contains half of the keys.
    for key in 0..16 {
        let answer = send(key, &format!("second-{key}"));
        assert_eq!(answer.status, 409, "{answer:?}");
    }
    drop(held);
    server.wait_until_stored();
    for key in 0..16 {
        assert_eq!(send(key, &format!("second-{key}")).status, 409);
        wait_until("the key to be free", || send(key, &format!("first-{key}")).status == 200);
    }
    server.stop();
}

#[test]
fn another_number_of_shards_keeps_events_anomalies_and_decisions() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2"]);
    let mut client = server.client();
    let path = "/api/v1/tenants/t/price-anomalies";
    let mut ids = Vec::new();
    for product in 0..5 {
        ids.extend(anomalies(&mut client, "t", &format!("p{product}"), 0, 2));
    }
    assert_eq!(review(&server, &format!("{path}/{}/review", ids[0]), "approve").status, 200);
    assert_eq!(review(&server, &format!("{path}/{}/review", ids[3]), "reject").status, 200);
    let sorted = |server: &Server| {
        let mut all: Vec<String> = listed(server, path, 3).iter().map(Value::to_string).collect();
        all.sort();
        all
    };
    let before = sorted(&server);
    let first = post(&mut client, "t", "p2", &event("odd-0", "20.00", 2));
    let last_id = Reader::open(server.client(), path, None).begun().last_id;
    server.stop();
    let output = folder.run(&["reshard", "--to", "3"]);
    assert!(output.status.success(), "{output:?}");
    std::fs::remove_dir_all(folder.data().join("before-reshard")).expect("the old shards are kept");
    let server = folder.serve(&[]);
    assert_eq!(sorted(&server), before);
    let mut client = server.client();
    let again = post(&mut client, "t", "p2", &event("odd-0", "20.00", 2));
    assert_eq!((again.status, &again.body), (200, &first.body));
    problem(&post(&mut client, "t", "p2", &event("odd-0", "21.00", 2)), 409, "price-event-conflict");
    problem(&review(&server, &format!("{path}/{}/review", ids[0]), "reject"), 409, "already-reviewed");
    // The numbers begin again, so an old id is refused instead of misread.
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\nLast-Event-ID: {last_id}\r\n\r\n"
    );
    client.write(request.as_bytes()).expect("the server takes it");
    problem(&client.answer().expect("an answer"), 400, "bad-parameter");
    // New prices are compared with the accepted ones.
    assert!(recorded(&mut client, "t", "p0", &event("after", "20.50", 20)).is_null());
    assert_eq!(recorded(&mut client, "t", "p1", &event("after", "20.50", 20))["baseline"], "10.00");
    let before = sorted(&server);
    server.stop();
    let output = folder.run(&["reshard", "--to", "1"]);
    assert!(output.status.success(), "{output:?}");
    let server = folder.serve(&[]);
    assert_eq!(sorted(&server), before);
    server.stop();
    let output = folder.run(&["verify", "--aggregates"]);
    assert!(output.status.success(), "{output:?}");
}
