//! A query parameter or a header has the same meaning on every route, and edge cases are answered correctly: unusual
//! dates, sums beyond 64 bits, empty fields, weights of media types, a byte order mark.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use crate::support::commerce::{counts, encoded, ingested, page_of, problem, sales, search_path, verify};
use crate::support::{Client, Folder, Server, cpus, wait_for};
use firehose::base::clock;
use firehose::event::parse_rfc3339;
use serde_json::{Value, json};

/// Returns an order of one item.
fn order(id: &str, at: &str, price: &str) -> String {
    json!({
        "order_id": id, "tenant_id": "t", "customer_id": format!("c-{id}"), "customer_name": "Smith & Sons",
        "customer_email": "", "status": "paid", "currency": "USD", "ordered_at": at,
        "items": [{"product_id": "p", "category": "k", "quantity": 1, "unit_price": price}],
    })
    .to_string()
        + "\n"
}

fn serve(folder: &Folder) -> Server {
    folder.serve(&["--shards", "1", "--cores", &cpus(1)])
}

const ODD_TIMES: [&str; 6] = [
    "0000-01-01T00:30:00Z",
    "0001-01-01T00:00:00Z",
    "1970-01-01T00:00:00Z",
    "2003-05-05T05:05:05Z",
    "2026-03-01T12:00:00Z",
    "9999-12-30T21:59:59Z",
];

fn groups(answer: &Value) -> &Vec<Value> {
    answer["groups"].as_array().expect("groups")
}

#[test]
fn sales_count_the_groups_that_hold_sales_not_the_span_between_them() {
    let folder = Folder::new();
    let server = serve(&folder);
    let body: String =
        ODD_TIMES.iter().enumerate().map(|(n, at)| order(&format!("o{n}"), at, "1.00")).collect();
    assert_eq!(counts(&ingested(&server, "odd", body.as_bytes())), [6, 6, 0, 0]);
    let ranges = [
        ("", 6),
        ("&end_date=9999-12-30", 6),
        ("&end_date=9999-12-31", 6),
        ("&start_date=0000-01-01", 6),
        ("&to=9999-12-31T23:59:59Z", 6),
        ("&from=0000-01-01T00:00:00%2B14:00&to=9999-12-31T23:59:59-12:00", 6),
        ("&start_date=1970-01-01&end_date=9999-12-29", 3),
        ("&from=1970-01-01T00:00:00Z&to=2026-03-01T12:00:00Z", 2),
        ("&from=1970-01-01T00:00:01Z&to=2026-03-01T12:00:01Z", 2),
        ("&from=9999-12-31T00:00:00Z", 0),
        ("&from=9999-12-31T00:00:00Z&to=9999-12-31T23:00:00Z", 0),
    ];
    for (range, wanted) in ranges {
        for by in ["hour", "day", "category", "product"] {
            for how in ["precision=exact", "precision=approx", "precision=exact&fields=orders"] {
                let said = sales(&server, "t", &format!("group_by={by}&{how}{range}"));
                let orders: i64 = groups(&said).iter().filter_map(|group| group["orders"].as_i64()).sum();
                assert_eq!(orders, wanted, "{by} {how} {range}: {said}");
                if matches!(by, "hour" | "day") {
                    assert_eq!(groups(&said).len() as i64, wanted, "{by} {how} {range}: {said}");
                }
            }
        }
    }
    // Every key is a day or a time of RFC 3339, whatever the zone makes of the first and the last possible day.
    for zone in
        ["UTC", "America/New_York", "Europe/Berlin", "Asia/Tokyo", "Asia/Kolkata", "Pacific/Kiritimati"]
    {
        for how in ["precision=exact", "precision=approx"] {
            let said = sales(&server, "t", &format!("group_by=hour&{how}&tz={zone}"));
            let starts: Vec<i64> = groups(&said)
                .iter()
                .map(|group| {
                    let key = group["key"].as_str().expect("a key");
                    firehose::event::parse_rfc3339_bound(key.as_bytes())
                        .unwrap_or_else(|error| panic!("{zone}: {key}: {error}"))
                })
                .collect();
            assert_eq!(starts.len(), 6, "{said}");
            for (start, at) in starts.iter().zip(ODD_TIMES) {
                let at = parse_rfc3339(at.as_bytes()).expect("a time");
                assert!((0..3_600_000_000).contains(&(at - start)), "{zone} {at}: {said}");
            }
            let said = sales(&server, "t", &format!("group_by=day&{how}&tz={zone}"));
            assert_eq!(groups(&said).len(), 6, "{said}");
            for group in groups(&said) {
                let key = group["key"].as_str().expect("a key");
                let is_day = key.len() == 10 && key.bytes().take(4).all(|digit| digit.is_ascii_digit());
                assert!(is_day, "{zone}: {key}");
            }
        }
    }
    // A search finds all of them in the order of their times. A time that cannot be rendered is refused at ingest.
    for range in ["", "from=0000-01-01&to=9999-12-31", "start_date=0000-01-01&end_date=9999-12-31"] {
        let (rows, _) = page_of(&server.get(&search_path("t", range)));
        assert_eq!(rows.len(), 6, "{range}");
        for row in rows {
            assert!(parse_rfc3339(row["ordered_at"].as_str().expect("a time").as_bytes()).is_ok(), "{row}");
        }
    }
    let mut body = order("x", "0000-01-01T00:00:00+05:00", "1.00");
    body += &order("y", "2020-01-01T00:00:00Z", "1.00");
    let said = ingested(&server, "before", body.as_bytes());
    assert_eq!((counts(&said)[3], &said["errors"][0]["code"]), (1, &json!("out_of_range")));
}

/// The largest amount that fits into 64 bits.
const MOST: &str = "92233720368547758.07";

#[test]
fn money_sums_are_exact_or_the_order_is_refused_with_amount_out_of_range() {
    let folder = Folder::new();
    let server = serve(&folder);
    let first_day = "2026-03-01T12:00:00Z";
    let three: String = ["a", "b", "c"].iter().map(|id| order(id, first_day, MOST)).collect();
    let said = ingested(&server, "three", three.as_bytes());
    assert_eq!(counts(&said), [3, 1, 0, 2]);
    let told: Vec<_> =
        said["errors"].as_array().unwrap().iter().map(|error| (&error["line"], &error["code"])).collect();
    let refused = json!("amount_out_of_range");
    assert_eq!(told, [(&json!(2), &refused), (&json!(3), &refused)], "{said}");
    // Another day has its own sum; the sum of both needs more than 64 bits.
    assert_eq!(
        counts(&ingested(&server, "next", order("d", "2026-03-02T00:00:00Z", MOST).as_bytes())),
        [1, 1, 0, 0]
    );
    let revenue = |by: &str, how: &str| -> Vec<(String, String)> {
        let said = sales(&server, "t", &format!("group_by={by}&{how}"));
        let text = |group: &Value, name: &str| group[name].as_str().expect("a text").to_owned();
        groups(&said).iter().map(|group| (text(group, "key"), text(group, "revenue"))).collect()
    };
    let pair = |key: &str, revenue: &str| (key.to_owned(), revenue.to_owned());
    for how in ["precision=exact", "precision=approx", "fields=revenue"] {
        assert_eq!(revenue("day", how), [pair("2026-03-01", MOST), pair("2026-03-02", MOST)], "{how}");
        for (by, key) in [("product", "p"), ("category", "k")] {
            assert_eq!(revenue(by, how), [pair(key, "184467440737095516.14")], "{how}");
        }
    }
    let mut client = server.client();
    let mut patch = |id: &str, change: Value| {
        let target = format!("/api/v1/tenants/t/orders/{id}");
        client.ask("PATCH", &target, &change.to_string()).expect("an answer")
    };
    let mut status = |id: &str, status: &str| patch(id, json!({"status": status}));
    assert_eq!(status("a", "cancelled").status, 200);
    for how in ["precision=exact", "precision=approx", "fields=revenue"] {
        assert_eq!(revenue("day", how), [pair("2026-03-02", MOST)], "{how}");
        assert_eq!(revenue("product", how), [pair("p", MOST)], "{how}");
    }
    // The amount fits again, until another order uses it up.
    assert_eq!(counts(&ingested(&server, "again", order("b", first_day, MOST).as_bytes())), [1, 1, 0, 0]);
    let said = status("a", "paid");
    assert_eq!(problem(&said, 422, "invalid-status")["errors"][0]["code"], "amount_out_of_range");
    assert_eq!(server.get("/api/v1/tenants/t/orders/a").json()["status"], "cancelled");
    // A refused change does not count as the latest one, so an earlier one applies.
    let ahead = clock::rfc3339(clock::unix_us() + 3_600_000_000);
    assert_eq!(patch("a", json!({"status": "paid", "occurred_at": ahead})).status, 422);
    let mut status = |id: &str, status: &str| patch(id, json!({"status": status}));
    let said = status("a", "refunded");
    assert_eq!((said.status, said.json()["changed"].as_bool()), (200, Some(true)), "{said:?}");
    assert_eq!(status("b", "refunded").status, 200);
    assert_eq!(status("a", "paid").status, 200);
    assert_eq!(revenue("day", "precision=approx"), [pair("2026-03-01", MOST), pair("2026-03-02", MOST)]);
    server.stop();
    verify(&folder);
}

/// The routes with a range of times, each with its other required parameters.
const RANGED: [&str; 7] = [
    "/events?tenant_id=t",
    "/clicks?",
    "/metrics?tenant_id=t&bucket_size=day",
    "/api/v1/tenants/t/orders/search?",
    "/api/v1/tenants/t/metrics/sales?",
    "/api/v1/tenants/t/events/summary?",
    "/api/v1/tenants/t/events/unique?by=payload.a",
];

#[test]
fn a_stretch_of_time_is_asked_for_alike_on_every_route_and_an_empty_bound_is_refused() {
    let folder = Folder::new();
    let server = serve(&folder);
    for route in RANGED {
        for (query, status) in [
            ("from=2026-03-01&to=2026-03-02", 200),
            ("from=2026-03-01%2012:00:00Z&to=2026-03-01t13:00:00z", 200),
            ("start_date=2026-03-01&end_date=2026-03-01&tz=Europe/Berlin", 200),
            ("start_date=2026-03-01T08:00:00&end_date=2026-03-01T09:00:00&tz=Europe/Berlin", 200),
            ("from=&to=&start_date=&end_date=&tz=&", 400),
            ("tz=Asia/Tokyo&", 200),
            ("from=&start_date=2026-03-01", 400),
            ("from=9999-12-31T00:00:00Z&to=9999-12-31T23:59:59Z", 200),
            ("start_date=0000-01-01&end_date=9999-12-31&tz=Asia/Tokyo", 200),
            ("from=2026-03-01&start_date=2026-03-01", 400),
            ("to=2026-03-01&end_date=2026-03-01", 400),
            ("from=2026-03-01T08:00:00", 400),
            ("start_date=2026-03-02&end_date=2026-03-01", 400),
            ("from=2026-03-01&to=2026-03-01", 400),
            ("tz=Mars", 400),
        ] {
            let target = format!("{route}&{query}");
            let answer = server.get(&target);
            assert_eq!(answer.status, status, "{target}: {}", String::from_utf8_lossy(&answer.body));
        }
    }
    for target in [
        "/events?tenant_id=t&source=&event_type=&order=&page=&page_size=&cursor=",
        "/clicks?user_id=&page=&cursor=",
        "/api/v1/tenants/t/orders/search?order_id=&customer_id=&product_id=&category=&currency=&min_total=&max_total=&status=&q=&fields=&cursor=",
        "/api/v1/tenants/t/orders/search?min_price=&max_price=&limit=",
        "/api/v1/tenants/t/metrics/sales?group_by=&precision=&currency=&fields=",
        "/api/v1/tenants/t/price-anomalies?status=&since=&limit=&cursor=",
    ] {
        // Every empty parameter is named.
        let said = problem(&server.get(target), 400, "bad-parameter");
        let errors = said["errors"].as_array().expect("the errors are listed");
        let empty = target.split(['?', '&']).filter_map(|pair| pair.strip_suffix('='));
        let named: Vec<(&str, &str)> = empty.map(|name| (name, "empty_value")).collect();
        let text = |error: &Value, member: &str| error[member].as_str().unwrap_or_default().to_owned();
        let listed: Vec<(String, String)> =
            errors.iter().map(|error| (text(error, "parameter"), text(error, "code"))).collect();
        let listed: Vec<(&str, &str)> = listed.iter().map(|(name, code)| (&**name, &**code)).collect();
        assert_eq!(listed, named, "{target}");
    }
    // The order is found by its time in the given zone, and by its words in any spelling of the query.
    ingested(&server, "k", order("o", "2026-03-01T23:30:00Z", "1.00").as_bytes());
    let found = |query: &str| page_of(&server.get(&search_path("t", query))).0.len();
    assert_eq!(found("start_date=2026-03-02&end_date=2026-03-02&tz=Europe/Berlin"), 1);
    assert_eq!(found("start_date=2026-03-02&end_date=2026-03-02"), 0);
    for q in ["smith & sons", "- SMITH *", "Smith &"] {
        assert_eq!(found(&format!("q={}", encoded(q))), 1, "{q}");
    }
}

#[test]
fn a_path_that_is_not_percent_encoded_is_400_on_both_lanes() {
    let folder = Folder::new();
    let server = serve(&folder);
    for path in
        ["/health%zz", "/event%", "/%", "/%4", "/%4g", "/api/v1/tenants/%zz/orders/search", "/docs/%%41"]
    {
        for first in [None, Some("/docs")] {
            let mut client = server.client();
            if let Some(first) = first {
                assert_eq!(client.get(first).expect("an answer").status, 200);
            }
            let answer = client.get(path).expect("an answer");
            assert_eq!(answer.status, 400, "{path} behind {first:?}");
            assert_eq!(answer.header("connection"), Some("close"), "{path}");
        }
    }
    assert_eq!(server.get("/%68ealth").status, 404);
    assert_eq!(server.get("/api/v1/tenants/%C3%BC/orders/search").status, 200);
}

#[test]
fn the_weights_of_accept_decide_on_every_route() {
    let folder = Folder::new();
    let server = serve(&folder);
    let (lines, one) = ("application/x-ndjson", "application/json");
    let (text, open) = ("text/plain", "application/openmetrics-text");
    let media = |target: &str, accept: &str| {
        let answer = server.client().get_as(target, accept).expect("an answer");
        let media = answer.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
        (answer.status, media.trim().to_owned())
    };
    let (search, events) = ("/api/v1/tenants/t/orders/search", "/events?tenant_id=t");
    for (target, accept, wanted) in [
        (search, "*/*", lines),
        (search, "application/json", one),
        (search, "application/json;q=0.1, application/x-ndjson;q=0.9", lines),
        (search, "application/x-ndjson;q=0.1, application/json;q=0.9", one),
        (search, "application/x-ndjson;q=0, */*", one),
        (search, "application/json;q=0", lines),
        (events, "*/*", one),
        (events, "application/x-ndjson", lines),
        (events, "application/x-ndjson;q=0, application/json", one),
        (events, "application/x-ndjson;q=0.2, application/json;q=0.8", one),
        (events, "application/json;q=0, */*;q=0.1", lines),
        ("/metrics", "*/*", text),
        ("/metrics", "application/openmetrics-text;version=1.0.0;q=0.5, text/plain;q=0.4", open),
        ("/metrics", "application/openmetrics-text;q=0.4, text/plain;q=0.5", text),
        ("/", "text/html, */*;q=0.8", "text/html"),
        ("/", "text/html;q=0.2, application/json", ""),
    ] {
        assert_eq!(media(target, accept).1, wanted, "{target} for {accept}");
    }
    let anomalies = "/api/v1/tenants/t/price-anomalies";
    assert_eq!(media(anomalies, "text/event-stream;q=0, application/json").1, one);
    assert_eq!(media(anomalies, "text/event-stream;q=0.1, application/json").1, one);
    // A stream does not end, so only its head is read.
    for query in ["", "?"] {
        let mut client = server.client();
        let head =
            format!("GET {anomalies}{query} HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n\r\n");
        client.write(head.as_bytes()).expect("sent");
        let answer = client.answer_head().expect("an answer");
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some("text/event-stream")),
            "{query}"
        );
    }
    for name in ["last_event_id", "lastEventId", "lastEventID", "Last-Event-ID", "evs_last_event_id"] {
        let target = format!("{anomalies}?{name}=none");
        let answer = server.client().get_as(&target, "text/event-stream").expect("an answer");
        assert_eq!((answer.status, &answer.json()["errors"][0]["code"]), (400, &json!("invalid_event_id")));
    }
}

#[test]
fn a_byte_order_mark_before_a_body_is_skipped() {
    let folder = Folder::new();
    let server = serve(&folder);
    ingested(&server, "k", order("o", "2026-03-01T12:00:00Z", "1.00").as_bytes());
    let event = |id: &str| {
        format!(
            r#"{{"event_id":"{id}","tenant_id":"t","source":"s","event_type":"e","timestamp":"2024-01-15T10:30:00Z","payload":{{}}}}"#
        )
    };
    let stock = r#"{"mode":"last_write_wins","updates":[{"event_id":"e","product_id":"p","quantity":1,"occurred_at":"2024-01-15T10:30:00Z"}]}"#;
    let price = r#"{"event_id":"e","price":"1.00","currency":"USD","observed_at":"2024-01-15T10:30:00Z"}"#;
    let lines = format!("{}\n{}\n", event("l1"), event("l2"));
    let bodies: [(&str, &str, &str, String, u16); 8] = [
        ("POST", "/event", one(), crate::support::event(1), 202),
        ("POST", "/events", one(), event("a"), 201),
        ("POST", "/events/bulk", one(), format!("{{\"events\":[{}]}}", event("b")), 200),
        ("POST", "/events/bulk", "application/x-ndjson", lines, 200),
        ("PUT", "/api/v1/tenants/t/stock/bulk_update", one(), stock.to_owned(), 200),
        ("POST", "/api/v1/tenants/t/products/p/price-event", one(), price.to_owned(), 201),
        ("PATCH", "/api/v1/tenants/t/orders/o", one(), r#"{"status":"shipped"}"#.to_owned(), 200),
        ("POST", "/api/v1/tenants/t/reports/export", one(), r#"{"format":"csv"}"#.to_owned(), 201),
    ];
    let ask = |client: &mut Client, method: &str, target: &str, headers: &str, body: &[u8]| {
        let length = body.len();
        let head =
            format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{headers}Content-Length: {length}\r\n\r\n");
        client.write(head.as_bytes()).expect("sent");
        client.write(body).expect("sent");
        client.answer().expect("an answer")
    };
    for (method, target, media, body, status) in &bodies {
        let marked = [b"\xef\xbb\xbf", body.as_bytes()].concat();
        let headers = format!("Content-Type: {media}\r\n");
        let answer = ask(&mut server.client(), method, target, &headers, &marked);
        assert_eq!(answer.status, *status, "{target}: {}", String::from_utf8_lossy(&answer.body));
    }
    // With a content coding, and on a connection that has left the hot lane.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed
        .write_all(b"\xef\xbb\xbf")
        .and_then(|()| packed.write_all(crate::support::event(2).as_bytes()))
        .expect("packed");
    let packed = packed.finish().expect("packed");
    let mut client = server.client();
    for _ in 0..2 {
        assert_eq!(ask(&mut client, "POST", "/event", "Content-Encoding: gzip\r\n", &packed).status, 202);
        assert_eq!(client.get("/docs").expect("an answer").status, 200);
    }
}

const fn one() -> &'static str {
    "application/json"
}

#[test]
fn the_metrics_page_keeps_the_rules_that_promtool_checks() {
    let folder = Folder::new();
    let server = serve(&folder);
    for number in 0..10 {
        assert_eq!(server.client().post(number).expect("an answer").status, 202);
    }
    // Durations of transactions are published once a second.
    let count = "firehose_db_statement_duration_seconds_count{shard=\"0\"} ";
    let page = wait_for("durations", || {
        let page = String::from_utf8(server.get("/metrics").body).expect("text");
        page.lines().any(|line| line.starts_with(count)).then_some(page)
    });
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut helps = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            assert!(kinds.insert(name, kind).is_none(), "{name} twice");
        } else if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '))
        {
            assert!(!help.trim().is_empty() && helps.insert(name, help).is_none(), "{name}");
        } else {
            let name = line.split(['{', ' ']).next().expect("a name");
            let base = |suffix| name.strip_suffix(suffix).filter(|base| kinds.contains_key(base));
            let family = ["_bucket", "_sum", "_count"].into_iter().find_map(base).unwrap_or(name);
            let kind = *kinds.get(family).unwrap_or_else(|| panic!("{line} has no type"));
            assert!(helps.contains_key(family), "{family} has no help");
            let is_bucket = line.contains("{le=\"") || line.contains(",le=\"");
            assert_eq!(is_bucket, name.ends_with("_bucket") && kind == "histogram", "{line}");
            assert_eq!(line.contains("quantile=\""), name == family && kind == "summary", "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            let is_reserved = ["_bucket", "_sum", "_count"].iter().any(|suffix| family.ends_with(suffix));
            assert!(!is_reserved && !family.contains(':') && !family.contains("__"), "{line}");
            let units = ["_milliseconds", "_ms", "_us", "_minutes", "_kilobytes", "_kb", "_percent"];
            assert!(!units.iter().any(|unit| family.ends_with(unit)), "{family} is in no base unit");
            assert!(!family.contains(&format!("_{kind}")), "{family} names its type");
        }
    }
    assert_eq!(kinds.get("firehose_db_statement_duration_seconds"), Some(&"summary"));
}

#[test]
fn the_flame_graph_of_an_idle_server_is_a_picture_and_other_refusals_have_a_type() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1", "--cores", &cpus(1), "--ops-listen", "127.0.0.1:0"]);
    let mut ops = Client::connect(server.ops.expect("ops listens")).expect("it answers");
    let answer = ops.get("/debug/flamegraph?seconds=1&hz=1").expect("an answer");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("image/svg+xml")));
    let answer = ops.get("/debug/flamegraph?seconds=0").expect("an answer");
    let kind = problem(&answer, 400, "bad-parameter")["type"].as_str().expect("a type").to_owned();
    assert_eq!(server.get(&kind).status, 200, "the type leads to a page");
    problem(&ops.get("/nowhere").expect("an answer"), 404, "not-found");
}

#[test]
fn the_operators_pages_are_compressed_for_scrapers_that_ask() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1", "--cores", &cpus(1), "--ops-listen", "127.0.0.1:0"]);
    let mut ops = Client::connect(server.ops.expect("ops listens")).expect("it answers");
    let mut scrape = |coding: &str| {
        let head = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: {coding}\r\n\r\n");
        ops.write(head.as_bytes()).expect("the request is sent");
        let answer = ops.answer().expect("a response");
        assert_eq!((answer.status, answer.header("vary")), (200, Some("Accept-Encoding")));
        answer
    };
    let (plain, packed) = (scrape("gzip;q=0"), scrape("gzip"));
    assert_eq!((plain.header("content-encoding"), packed.header("content-encoding")), (None, Some("gzip")));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_string(&mut text).expect("gzip of UTF-8");
    assert!(packed.body.len() * 4 < text.len(), "{} bytes of {}", packed.body.len(), text.len());
    let families = |text: &str| text.lines().filter(|line| line.starts_with("# TYPE")).count();
    assert_eq!(families(&text), families(std::str::from_utf8(&plain.body).expect("UTF-8")));
    let health = ops.get("/health").expect("a response");
    assert_eq!((health.status, health.header("vary")), (200, None), "a short page stays as it is");
}

#[test]
fn health_counts_events_and_orders_and_nothing_else() {
    let folder = Folder::new();
    let mut server = serve(&folder);
    let mut client = server.client();
    assert_eq!(client.post(1).expect("an answer").status, 202);
    ingested(&server, "k", order("o", "2026-03-01T12:00:00Z", "1.00").as_bytes());
    let stock = r#"{"mode":"last_write_wins","updates":[{"event_id":"e","product_id":"p","quantity":1,"occurred_at":"2024-01-15T10:30:00Z"}]}"#;
    assert_eq!(
        client.ask("PUT", "/api/v1/tenants/t/stock/bulk_update", stock).expect("an answer").status,
        200
    );
    let price = r#"{"event_id":"e","price":"1.00","currency":"USD","observed_at":"2024-01-15T10:30:00Z"}"#;
    let target = "/api/v1/tenants/t/products/p/price-event";
    assert_eq!(client.ask("POST", target, price).expect("an answer").status, 201);
    assert!(crate::support::commerce::patch(&mut client, "t", "o", "shipped"));
    let two = |server: &Server| {
        let health = server.wait_until_stored();
        for name in ["total_received", "total_processed", "database_events"] {
            assert_eq!(health[name], 2, "{name}: {health}");
        }
    };
    two(&server);
    server.replace(|| serve(&folder));
    two(&server);
}

/// Sends a GET with these header lines.
fn got(server: &Server, target: &str, headers: &str) -> crate::support::Answer {
    let mut client = server.client();
    client
        .write(format!("GET {target} HTTP/1.1\r\nHost: test\r\n{headers}\r\n").as_bytes())
        .expect("it is sent");
    client.answer().expect("the server answers")
}

#[test]
fn answers_over_a_kilobyte_are_compressed_where_the_client_asks() {
    let folder = Folder::new();
    let server = serve(&folder);
    let body: String = (0..3_000).map(|n| order(&format!("o{n}"), "2026-03-01T12:00:00Z", "1.00")).collect();
    assert_eq!(counts(&ingested(&server, "many", body.as_bytes())), [3_000, 3_000, 0, 0]);
    let search = search_path("t", "");
    let export = {
        let exports = "/api/v1/tenants/t/reports/export";
        let said = server.client().ask("POST", exports, r#"{"format":"ndjson"}"#).expect("an answer").json();
        let url = said["url"].as_str().expect("a path").to_owned();
        wait_for("the export", || (server.get(&url).json()["state"] == "done").then_some(()));
        format!("{url}/download")
    };
    let unpack = |answer: &crate::support::Answer| match answer.header("Content-Encoding") {
        Some("gzip") => {
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(&answer.body[..])
                .read_to_end(&mut unpacked)
                .expect("a whole stream");
            unpacked
        }
        Some("zstd") => zstd::decode_all(&answer.body[..]).expect("a whole frame"),
        coding => {
            assert_eq!(coding, None);
            answer.body.clone()
        }
    };
    let lines = "Accept: application/x-ndjson\r\n";
    for (target, accept, wanted) in [
        // Rows that are read while they are sent, pages, and a document in the binary.
        (search.as_str(), lines, true),
        (&search_path("t", "limit=100"), "", true),
        (&search_path("t", "limit=5"), "", true),
        ("/openapi.json", "", true),
        // A response that is too short, and a file whose ranges and digest refer to its bytes.
        ("/ready", "", false),
        (export.as_str(), "", false),
    ] {
        let plain = got(&server, target, accept);
        assert_eq!((plain.status, plain.header("Content-Encoding")), (200, None), "{target}");
        let varies = |answer: &crate::support::Answer| {
            answer.headers.iter().any(|(name, value)| {
                name.eq_ignore_ascii_case("vary") && value.eq_ignore_ascii_case("accept-encoding")
            })
        };
        assert_eq!(varies(&plain), wanted, "{target}: caches know");
        for (codings, coding) in [
            ("gzip", Some("gzip")),
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("gzip;q=1.0, zstd;q=0.5", Some("gzip")),
            ("gzip;q=0, *;q=0.1", Some("zstd")),
            ("br, identity", None),
            ("gzip;q=0", None),
        ] {
            let answer = got(&server, target, &format!("{accept}Accept-Encoding: {codings}\r\n"));
            let coding = coding.filter(|_| wanted);
            assert_eq!(answer.header("Content-Encoding"), coding, "{target}: {codings}");
            assert_eq!(varies(&answer), wanted, "{target}: {codings}");
            let unpacked = unpack(&answer);
            // Only the cursors differ.
            let is_equal =
                |(one, other): (&u8, &u8)| one == other || one.is_ascii_alphanumeric() || b"-_".contains(one);
            assert_eq!(unpacked.len(), plain.body.len(), "{target}: {codings}");
            assert!(unpacked.iter().zip(&plain.body).all(is_equal), "{target}: {codings}");
            assert!(coding.is_none() || answer.body.len() * 2 < plain.body.len(), "{target}: {codings}");
        }
    }
    server.stop();
}
