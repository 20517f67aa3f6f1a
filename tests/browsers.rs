//! What a browser's pages may do to this server, and the host names under which it answers: on both lanes, on the
//! operators' port, behind proxies, and in a real browser.

#[path = "browsers/chromium.rs"]
mod chromium;
#[path = "browsers/proxies.rs"]
mod proxies;
mod support;

use firehose::http::Method;
use firehose::server;
use support::commerce::problem;
use support::{Answer, Client, Folder, Server, event};

const FOREIGN: &str = "https://evil.example";
const LISTED: &str = "https://console.example";
const EVENTS: [&str; 3] = ["/event", "/events", "/events/bulk"];

/// Returns a path that matches the template.
fn path(template: &str) -> String {
    let filled = template.split('/').map(|part| match part {
        "{user_id}" => "7",
        "{file..}" => "main.js",
        "{receipt}" => "0-64",
        part if part.starts_with('{') => "x",
        part => part,
    });
    filled.collect::<Vec<_>>().join("/")
}

/// Returns the method and target of every operation that the server answers.
fn operations() -> Vec<(String, String)> {
    let word = |method: Method| format!("{method:?}").to_uppercase();
    let mut all: Vec<_> =
        server::operations().map(|(template, method, _)| (word(method), path(template))).collect();
    all.push(("GET".to_owned(), "/metrics?tenant_id=acme&bucket_size=day".to_owned()));
    all.push(("GET".to_owned(), "/nowhere".to_owned()));
    all.push(("PUT".to_owned(), "/event".to_owned()));
    all
}

fn appends(method: &str, target: &str) -> bool {
    method == "POST" && EVENTS.contains(&target)
}

/// Sends a request with these header lines on a new connection, to the executor or to the listener.
#[track_caller]
fn ask(server: &Server, executor: bool, method: &str, target: &str, lines: &[&str], body: &str) -> Answer {
    on(&mut connect(server, executor), method, target, lines, body)
}

/// Opens a connection whose next request the executor serves, or the listener.
#[track_caller]
fn connect(server: &Server, executor: bool) -> Client {
    let mut client = server.client();
    if executor {
        assert_eq!(on(&mut client, "GET", "/nowhere", &[], "").status, 404);
    }
    client
}

#[track_caller]
fn on(client: &mut Client, method: &str, target: &str, lines: &[&str], body: &str) -> Answer {
    let mut head = format!("{method} {target} HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
    if !lines.iter().any(|line| line.starts_with("Host:")) {
        head += "Host: localhost\r\n";
    }
    lines.iter().for_each(|line| head += &format!("{line}\r\n"));
    client.write(format!("{head}\r\n{body}").as_bytes()).expect("it is sent");
    match method {
        "HEAD" => client.answer_head().expect("it answers"),
        _ => client.answer().expect("it answers"),
    }
}

fn cors_lines(answer: &Answer) -> Vec<&str> {
    let is_cors = |name: &str| name.to_ascii_lowercase().starts_with("access-control-");
    answer.headers.iter().filter(|(name, _)| is_cors(name)).map(|(name, _)| name.as_str()).collect()
}

#[test]
fn b1_a_page_of_another_origin_posts_events_and_does_nothing_else() {
    let folder = Folder::new();
    let server = folder.serve(&[]);
    for executor in [false, true] {
        for (method, target) in operations() {
            for origin in [FOREIGN, "null", "http://localhost:1", ""] {
                let what = format!("{method} {target} of {origin:?}, executor {executor}");
                let lines = [format!("Origin: {origin}")];
                let answer = ask(&server, executor, &method, &target, &[&lines[0]], "");
                if appends(&method, &target) {
                    assert_eq!(answer.status, 400, "{what}: the body is empty");
                    assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("*"), "{what}");
                    continue;
                }
                assert_eq!(cors_lines(&answer), Vec::<&str>::new(), "{what}");
                if method == "OPTIONS" {
                    assert_eq!(answer.status, 204, "{what}");
                } else {
                    assert_eq!(answer.status, 403, "{what}: {answer:?}");
                }
                if !matches!(method.as_str(), "OPTIONS" | "HEAD") {
                    assert_eq!(answer.json()["type"], "/docs/problems/foreign-origin", "{what}");
                }
            }
            // Only browsers send an `Origin`; a request without one is not refused.
            let answer = ask(&server, executor, &method, &target, &[], "");
            assert_ne!(answer.status, 403, "{method} {target}");
            let own = ["Host: 127.0.0.1:8000", "Origin: http://127.0.0.1:8000"];
            assert_ne!(ask(&server, executor, &method, &target, &own, "").status, 403, "{method} {target}");
        }
        // The refused body is consumed, and the connection stays open.
        let mut client = connect(&server, executor);
        let foreign = format!("Origin: {FOREIGN}");
        let targets = ["/api/v1/tenants/acme/stock/bulk_update", "/clicks/users/7", "/receipts/0-64"];
        for (method, target) in ["PUT", "DELETE", "POST"].iter().zip(targets) {
            assert_eq!(on(&mut client, method, target, &[&foreign], "{\"updates\":[]}").status, 403);
            assert_eq!(on(&mut client, "POST", "/event", &[&foreign], &event(1)).status, 202);
        }
    }
    server.stop();
}

#[test]
fn an_event_of_any_page_is_taken_and_its_answer_can_be_read() {
    let folder = Folder::new();
    let server = folder.serve(&["--cors-origins", LISTED]);
    let one = r#"{"event_id":"e","tenant_id":"t","source":"w","event_type":"c","timestamp":"2024-01-15T10:30:00Z","payload":{}}"#;
    for executor in [false, true] {
        for origin in [FOREIGN, "null", LISTED] {
            for (target, body, good) in [
                ("/event", event(1), &[202][..]),
                ("/event", "{".to_owned(), &[400]),
                ("/event?ack=disk", event(2), &[202]),
                ("/events", one.to_owned(), &[200, 201]),
                ("/events/bulk", one.to_owned(), &[200]),
            ] {
                let what = format!("{target} of {origin}, executor {executor}");
                let lines = ["Host: any.name.example".to_owned(), format!("Origin: {origin}")];
                let lines = lines.each_ref().map(String::as_str);
                let answer = ask(&server, executor, "POST", target, &lines, &body);
                assert!(good.contains(&answer.status), "{what}: {answer:?}");
                assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("*"), "{what}");
                assert_eq!(answer.header("Access-Control-Allow-Credentials"), None, "{what}");
                let exposed = answer.header("Access-Control-Expose-Headers").expect("a list");
                for name in ["Retry-After", "Firehose-Ack", "Firehose-Receipt"] {
                    assert!(exposed.contains(name), "{name} of {what}: {exposed}");
                }
            }
        }
    }
    server.stop();
}

#[test]
fn a_preflight_of_events_lets_tracing_headers_pass() {
    let folder = Folder::new();
    let server = folder.serve(&[]);
    let traced = "content-type,traceparent,tracestate,baggage,sentry-trace,x-requested-with,x-of-tomorrow";
    for executor in [false, true] {
        for target in EVENTS {
            let lines = [
                "Host: any.name.example".to_owned(),
                format!("Origin: {FOREIGN}"),
                "Access-Control-Request-Method: POST".to_owned(),
                format!("Access-Control-Request-Headers: {traced}"),
            ];
            let lines = lines.each_ref().map(String::as_str);
            let answer = ask(&server, executor, "OPTIONS", target, &lines, "");
            assert_eq!(answer.status, 204, "{target}: {answer:?}");
            assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("*"), "{target}");
            assert_eq!(answer.header("Access-Control-Allow-Headers"), Some(traced), "{target}");
            assert_eq!(answer.header("Access-Control-Allow-Methods"), Some("POST, OPTIONS"), "{target}");
            let seconds = answer.header("Access-Control-Max-Age").and_then(|text| text.parse::<u32>().ok());
            assert!(seconds > Some(0), "{target}");
        }
    }
    server.stop();
}

#[test]
fn a_listed_origin_may_ask_for_everything_and_caches_keep_pages_apart() {
    let folder = Folder::new();
    let server = folder.serve(&["--cors-origins", &format!("https://other.example,{LISTED}")]);
    let listed = format!("Origin: {LISTED}");
    for executor in [false, true] {
        for (method, target) in operations() {
            let what = format!("{method} {target}, executor {executor}");
            let wanted = "Access-Control-Request-Headers: authorization,x-any";
            let answer = ask(&server, executor, &method, &target, &[&listed, wanted], "");
            assert_ne!(answer.status, 403, "{what}");
            let allowed = answer.header("Access-Control-Allow-Origin");
            if appends(&method, &target) {
                assert_eq!(allowed, Some("*"), "{what}");
                continue;
            }
            assert_eq!(allowed, Some(LISTED), "{what}: {answer:?}");
            let vary = |answer: &Answer| {
                let lines = answer.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("vary"));
                lines.map(|(_, value)| value.as_str()).any(|value| value == "Origin")
            };
            assert!(vary(&answer), "{what}: {answer:?}");
            let exposed = answer.header("Access-Control-Expose-Headers").expect("a list");
            assert!(exposed.contains("Upload-Offset") && exposed.contains("ETag"), "{what}");
            if method == "OPTIONS" {
                assert_eq!(answer.header("Access-Control-Allow-Headers"), Some("authorization,x-any"));
            }
            // A request without an `Origin` gets the same `Vary`. Otherwise a cache would serve one page's response to
            // another.
            let answer = ask(&server, executor, &method, &target, &[], "");
            assert!(cors_lines(&answer).is_empty() && vary(&answer), "{what}: {answer:?}");
        }
        let preflight = |target| {
            ask(&server, executor, "OPTIONS", target, &[&listed, "Access-Control-Request-Method: PATCH"], "")
        };
        let answer = preflight("/api/v1/tenants/acme/orders/o-1");
        assert_eq!(answer.header("Access-Control-Allow-Methods"), Some("GET, HEAD, PATCH, OPTIONS"));
        assert_eq!(
            preflight("/events").header("Access-Control-Allow-Methods"),
            Some("GET, HEAD, POST, OPTIONS")
        );
    }
    server.stop();
}

/// Returns `true` if the server answers the operation under every host name.
fn is_open_to_every_name(method: &str, target: &str) -> bool {
    let is_probe = ["/health", "/livez", "/ready", "/readyz", "/metrics"].contains(&target);
    appends(method, target) || method == "GET" && is_probe
}

#[test]
fn b1_without_keys_a_name_that_could_be_anybodys_is_misdirected() {
    let folder = Folder::new();
    let server = folder.serve(&["--allowed-hosts", "collector", "--public-url", "https://events.example"]);
    for executor in [false, true] {
        for (method, target) in operations() {
            let what = format!("{method} {target}, executor {executor}");
            for host in ["evil.example", "127.0.0.1.evil.example:8000", "events.example:8000", ""] {
                let host = format!("Host: {host}");
                let answer = ask(&server, executor, &method, &target, &[&host], "");
                let expected = !is_open_to_every_name(&method, &target);
                assert_eq!(answer.status == 421, expected, "{what}, {host}: {answer:?}");
                if expected && method != "HEAD" {
                    assert_eq!(answer.json()["type"], "/docs/problems/misdirected-request", "{what}");
                }
            }
            for host in [
                "127.0.0.1",
                "10.0.0.7:8000",
                "[::1]:8000",
                "LOCALHOST:1",
                "a.localhost",
                "collector:8000",
                "events.example",
                "events.example:443",
            ] {
                let answer = ask(&server, executor, &method, &target, &[&format!("Host: {host}")], "");
                assert!(!matches!(answer.status, 421 | 403), "{what}, {host}: {answer:?}");
            }
        }
        for target in EVENTS {
            assert_eq!(ask(&server, executor, "OPTIONS", target, &["Host: evil.example"], "").status, 204);
        }
        // An attacker's name that resolves to this server: the page has the same origin as the server it calls.
        let rebound = ["Host: evil.example", "Origin: http://evil.example"];
        assert_eq!(ask(&server, executor, "DELETE", "/clicks/users/7", &rebound, "").status, 421);
        let mut old = server.client();
        old.write(b"GET /receipts/9-64 HTTP/1.0\r\n\r\n").expect("it is sent");
        assert_eq!(old.answer().expect("it answers").status, 404, "no browser says no name");
    }
    server.stop();
    // With keys, the key decides.
    let (code, _) = folder.run_json(&["key", "create", "--scope", "read"]);
    assert_eq!(code, 0);
    let server = folder.serve(&["--allowed-hosts", "none"]);
    for executor in [false, true] {
        let answer = ask(&server, executor, "GET", "/clicks", &["Host: evil.example"], "");
        assert_eq!(answer.status, 401, "{answer:?}");
        let foreign = ["Host: evil.example", "Origin: https://evil.example.other"];
        assert_eq!(ask(&server, executor, "GET", "/clicks", &foreign, "").status, 403);
    }
    server.stop();
}

#[test]
fn the_operators_port_answers_no_foreign_page_and_no_foreign_name() {
    let folder = Folder::new();
    let server = folder.serve(&["--ops-listen", "127.0.0.1:0", "--allowed-hosts", "ops.internal"]);
    server.wait_until_status("healthy");
    let ops = server.ops.expect("it listens");
    let ask = |target: &str, lines: &[&str]| {
        on(&mut Client::connect(ops).expect("it takes connections"), "GET", target, lines, "")
    };
    // `Content-Length: 0` does not count as a body.
    for target in ["/metrics", "/health", "/ready", "/livez", "/readyz"] {
        assert_eq!(ask(target, &["Host: prometheus.scrapes.example"]).status, 200, "{target}");
        assert_eq!(ask(target, &["Host: localhost", "Origin: https://evil.example"]).status, 403, "{target}");
    }
    for target in ["/debug/flamegraph?seconds=x", "/nowhere"] {
        // Both ports link to the same problem page.
        for (lines, status, slug) in [
            (&["Host: evil.example"][..], 421, "misdirected-request"),
            (&["Host: localhost", "Origin: null"], 403, "foreign-origin"),
        ] {
            problem(&ask(target, lines), status, slug);
        }
        assert_eq!(ask(target, &["Host: evil.example"]).status, 421, "{target}");
        assert_eq!(ask(target, &["Host: localhost", "Origin: null"]).status, 403, "{target}");
        for host in ["127.0.0.1:9100", "ops.internal:9100", "localhost"] {
            assert!(matches!(ask(target, &[&format!("Host: {host}")]).status, 400 | 404), "{target} {host}");
        }
    }
    server.stop();
}

#[test]
fn in_a_container_or_on_a_lan_clicks_and_scrapes_need_no_setting() {
    let folder = Folder::new();
    let server = folder.serve(&["--insecure", "--allowed-hosts", "none"]);
    server.wait_until_status("healthy");
    for host in ["firehose:8000", "collector.lan", "192.168.1.20:8000"] {
        let host = format!("Host: {host}");
        for executor in [false, true] {
            let click = event(1);
            let status =
                |method, target, body: &str| ask(&server, executor, method, target, &[&host], body).status;
            assert_eq!(status("POST", "/event", &click), 202, "{host}");
            for target in ["/metrics", "/health", "/livez", "/readyz"] {
                assert_eq!(status("GET", target, ""), 200, "{host} {target}");
            }
            let is_address = host.contains("192.168");
            assert_eq!(status("GET", "/clicks", ""), if is_address { 200 } else { 421 }, "{host}");
        }
    }
    server.stop();
}

#[test]
fn an_address_may_post_so_often_and_no_more_on_both_lanes() {
    let folder = Folder::new();
    let flags = ["--rate-per-address", "5", "--trusted-proxies", "127.0.0.1,10.0.0.0/8"];
    let server = folder.serve(&flags);
    let one = r#"{"event_id":"e","tenant_id":"t","source":"w","event_type":"c","timestamp":"2024-01-15T10:30:00Z","payload":{}}"#;
    let posts = |executor: bool, target: &str, client: &str, count: usize| -> Vec<Answer> {
        let line = format!("X-Forwarded-For: 203.0.113.77, {client}, 10.1.2.3");
        let body = if target == "/event" { event(1) } else { one.to_owned() };
        (0..count).map(|_| ask(&server, executor, "POST", target, &[&line], &body)).collect()
    };
    for (executor, target, client) in [
        (false, "/event", "198.51.100.1"),
        (true, "/event", "198.51.100.2"),
        (true, "/events", "198.51.100.3"),
        (true, "/events/bulk", "2001:db8::1"),
    ] {
        let answers = posts(executor, target, client, 40);
        let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
        assert!(answers[..5].iter().all(|answer| answer.status < 300), "{target} {client}: {:?}", answers[0]);
        assert!(!refused.is_empty(), "{target} {client}");
        for answer in refused {
            assert_eq!(answer.json()["type"], "/docs/problems/rate-limited");
            assert_eq!(answer.header("RateLimit-Policy"), Some("\"address\";q=5;w=1"));
            assert_eq!(answer.header("Retry-After"), Some("1"));
            let limit = answer.header("RateLimit").expect("it says where it stands");
            assert!(limit.starts_with("\"address\";r=") && limit.ends_with(";t=1"), "{limit}");
        }
    }
    // Other clients are not limited, and only posted events count.
    assert_eq!(posts(false, "/event", "198.51.100.9", 1)[0].status, 202);
    for executor in [false, true] {
        for (method, target) in [("OPTIONS", "/event"), ("GET", "/health"), ("GET", "/clicks")] {
            for _ in 0..20 {
                assert!(ask(&server, executor, method, target, &[], "").status < 300, "{method} {target}");
            }
        }
    }
    server.stop();
    // An address that is not a trusted proxy is counted as itself, whatever it forwards. The limit is off by default.
    let server = folder.serve(&["--rate-per-address", "5"]);
    let names = (0..40).map(|client| format!("X-Forwarded-For: 198.51.100.{client}"));
    let statuses: Vec<_> =
        names.map(|line| ask(&server, false, "POST", "/event", &[&line], &event(1)).status).collect();
    assert!(statuses.contains(&429), "{statuses:?}");
    server.stop();
    let server = folder.serve(&[]);
    for _ in 0..200 {
        assert_eq!(ask(&server, false, "POST", "/event", &[], &event(1)).status, 202);
    }
    server.stop();
}
