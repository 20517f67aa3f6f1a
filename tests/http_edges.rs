//! The rules of HTTP on the wire, on both lanes: every case of one table, then cases that need several requests or
//! several packets.

#[path = "edges/mod.rs"]
mod edges;

use edges::{
    After, Case, Client, EVENT, LANES, Lane, Reply, Server, cases, eventually, plain, post, post_chunked,
};

/// Sends a case, checks that the connection ends or stays as the case expects, and returns the response.
fn run(server: &Server, lane: Lane, case: &Case) -> Reply {
    let mut client = server.connect(lane);
    // If the server refuses a peer early, it may close before everything is sent.
    let sent = client.try_send(&case.bytes);
    assert!(sent.as_ref().is_ok() || case.after == After::Closes, "{sent:?}");
    let to_head = case.bytes.starts_with(b"HEAD ");
    let reply = client.try_reply(to_head).unwrap_or_else(|error| panic!("no answer: {error}"));
    assert_eq!(reply.status, case.status, "{}", String::from_utf8_lossy(&reply.body));
    if !to_head {
        let slug = if case.status >= 400 { reply.slug() } else { String::new() };
        assert_eq!(slug, case.slug);
        assert!(!String::from_utf8_lossy(&reply.body).contains("unechoed"), "the payload is echoed");
    }
    match case.after {
        After::Stays => {
            assert!(!reply.says_close(), "{reply:?}");
            let next = client.ask(&plain("GET", "/health", &["X-Request-Id: next"]));
            assert_eq!((next.status, next.header("x-request-id")), (200, Some("next")));
        }
        After::Closes => {
            assert!(reply.says_close(), "{reply:?}");
            client.expect_end();
        }
    }
    reply
}

#[test]
fn every_case_of_the_table_gets_the_same_answer_on_both_lanes() {
    run_table(&[]);
}

#[test]
fn every_case_of_the_table_gets_the_same_answer_on_both_lanes_without_io_uring() {
    run_table(&["--runtime", "epoll"]);
}

/// On a connection without an earlier response, the socket may not take the first one at once.
#[test]
fn a_refusal_before_the_body_arrives_although_nothing_was_sent_before_it() {
    for runtime in ["auto", "epoll"] {
        let mut server = Server::start(&["--runtime", runtime, "--events-bytes-max", "8KiB"]);
        for _ in 0..8 {
            let mut client = server.connect(Lane::Hot);
            client.send(b"POST /events HTTP/1.1\r\nHost: t\r\nContent-Length: 140000\r\n\r\n");
            let reply = client.reply();
            assert_eq!((reply.status, reply.slug().as_str()), (413, "payload-too-large"), "{runtime}");
            client.expect_end();
        }
        server.assert_well();
    }
}

#[test]
fn an_invalid_place_is_refused_after_the_body_was_read() {
    let mut server = Server::start(&[]);
    for path in ["/api/v1/tenants//stock/bulk_update", "/api/v1/tenants/acme/products/%00/price-event"] {
        let method = if path.contains("stock") { "PUT" } else { "POST" };
        let mut client = server.connect(Lane::Hot);
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: t\r\nContent-Length: 7\r\n\r\n").as_bytes());
        // A server that answers before the body would have done so by now.
        firehose::base::clock::pause(std::time::Duration::from_millis(100));
        client.send(br#"{"a":1}"#);
        let reply = client.reply();
        assert_eq!((reply.status, reply.says_close()), (404, false), "{path}");
        assert_eq!(client.ask(&plain("GET", "/health", &[])).status, 200, "{path}");
    }
    server.assert_well();
}

fn run_table(flags: &[&str]) {
    let mut server = Server::start(flags);
    let mut wrong = Vec::new();
    for case in cases() {
        let outcome = std::panic::catch_unwind(|| {
            let [hot, executor] = LANES.map(|lane| {
                std::panic::catch_unwind(|| run(&server, lane, &case))
                    .unwrap_or_else(|_| panic!("on {lane:?}"))
            });
            // The values of the metrics and of the health change between two responses; their shape does not.
            assert_eq!(hot.essence(), executor.essence());
        });
        if outcome.is_err() {
            wrong.push(case.name);
        }
    }
    assert!(wrong.is_empty(), "{} of the table: {wrong:#?}", wrong.len());
    server.assert_well();
}

/// Returns requests of many kinds, each with its expected status and a name for its response.
fn mixed(count: usize) -> Vec<(Vec<u8>, u16, String)> {
    (0..count)
        .map(|at| {
            let id = format!("r{at}");
            let line = format!("X-Request-Id: {id}");
            let lines = [line.as_str()];
            let (bytes, status) = match at % 8 {
                0 => (post("/event", &lines, EVENT.as_bytes()), 202),
                1 => (plain("GET", "/receipts/0-0", &lines), 404),
                2 => (post_chunked("/event?ack=os", &lines, EVENT.as_bytes(), 5), 202),
                3 => (post("/event", &lines, b"{}"), 422),
                4 => (post("/health", &lines, b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n"), 405),
                5 => (plain("OPTIONS", "/event", &lines), 204),
                6 => (post_chunked("/receipts/1", &lines, b"0\r\n\r\nGET / HTTP/1.1", 4), 405),
                _ => (plain("GET", "/ready", &lines), 200),
            };
            (bytes, status, id)
        })
        .collect()
}

fn expect_answers(client: &mut Client, requests: &[(Vec<u8>, u16, String)]) {
    for (_, status, id) in requests {
        let reply = client.reply();
        assert_eq!((reply.header("x-request-id"), reply.status), (Some(id.as_str()), *status), "{reply:?}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_however_they_are_packed() {
    let mut server = Server::start(&[]);
    for lane in LANES {
        let mut client = server.connect(lane);
        let requests = mixed(200);
        let bytes: Vec<u8> = requests.iter().flat_map(|(bytes, ..)| bytes.clone()).collect();
        client.send(&bytes);
        expect_answers(&mut client, &requests);

        let requests = mixed(8);
        let bytes: Vec<u8> = requests.iter().flat_map(|(bytes, ..)| bytes.clone()).collect();
        for byte in &bytes {
            client.send(&[*byte]);
        }
        expect_answers(&mut client, &requests);

        // Cuts the bytes in two at every position. The second part follows after the complete requests of the first
        // part are answered, so that the server really sees the cut.
        for cut in 0..=bytes.len() {
            client.send(&bytes[..cut]);
            let mut end = 0;
            let whole = requests.iter().take_while(|(bytes, ..)| {
                end += bytes.len();
                end <= cut
            });
            let whole = whole.count();
            expect_answers(&mut client, &requests[..whole]);
            client.send(&bytes[cut..]);
            expect_answers(&mut client, &requests[whole..]);
        }
        client.finish();
        client.expect_end();
    }
    server.assert_well();
}

#[test]
fn the_hand_over_to_the_executor_loses_and_reorders_nothing() {
    let mut server = Server::start(&[]);
    let mut requests = mixed(40);
    requests.insert(20, (plain("GET", "/nowhere", &["X-Request-Id: over"]), 404, "over".to_owned()));
    requests.push((
        plain("GET", "/receipts/x", &["X-Request-Id: last", "Connection: close"]),
        404,
        "last".to_owned(),
    ));
    let bytes: Vec<u8> = requests.iter().flat_map(|(bytes, ..)| bytes.clone()).collect();
    for step in [1, 100, 1000, bytes.len()] {
        let mut client = server.connect(Lane::Hot);
        for piece in bytes.chunks(step) {
            client.send(piece);
        }
        expect_answers(&mut client, &requests);
        client.expect_end();
    }
    server.assert_well();
}

#[test]
fn a_waiting_client_is_invited_once_and_only_to_a_body_that_is_wanted() {
    let server = Server::start(&[]);
    for lane in LANES {
        let mut client = server.connect(lane);
        for chunked in [false, true] {
            let whole = match chunked {
                true => post_chunked("/event", &["Expect: 100-Continue"], EVENT.as_bytes(), 10),
                false => post("/event", &["Expect: 100-Continue"], EVENT.as_bytes()),
            };
            let head = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
            client.send(&whole[..head]);
            client.expect_invitation();
            client.send(&whole[head..]);
            let reply = client.reply();
            assert_eq!((reply.status, reply.continues), (202, 0), "{lane:?}");
        }
        let mut client = server.connect(lane);
        let head =
            "POST /event HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 300000\r\n\r\n";
        let reply = client.ask(head.as_bytes());
        assert_eq!((reply.status, reply.continues), (413, 0), "{lane:?}");
        client.expect_end();
        for (request, status) in [("PUT /event", 405), ("PUT /nope/", 404), ("POST /nope", 404)] {
            let mut client = server.connect(lane);
            let lines = "Host: t\r\nExpect: 100-continue\r\nContent-Length: 300000000";
            let reply = client.ask(format!("{request} HTTP/1.1\r\n{lines}\r\n\r\n").as_bytes());
            assert_eq!((reply.status, reply.continues), (status, 0), "{lane:?} {request}");
            client.expect_end();
        }
        let mut client = server.connect(lane);
        let reply = client.ask(b"POST /event HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n");
        assert_eq!((reply.status, reply.continues), (400, 0), "{lane:?}");
    }
}

#[test]
fn a_refusal_arrives_although_the_body_was_not_read() {
    let server = Server::start(&[]);
    for lane in LANES {
        for length in ["Content-Length: 8000000", "Transfer-Encoding: chunked"] {
            let mut client = server.connect(lane);
            let lines = "X-Request-Id: big\r\nOrigin: https://a.example";
            let head = format!("POST /event HTTP/1.1\r\nHost: t\r\n{lines}\r\n{length}\r\n\r\n7a1200\r\n");
            client.send(head.as_bytes());
            // The client only writes, until it has sent everything or the connection is cut.
            let _ = client.try_send(&vec![b'x'; 8_000_000]);
            let reply = client.reply();
            assert_eq!(
                (reply.status, reply.slug().as_str()),
                (413, "payload-too-large"),
                "{lane:?} {length}"
            );
            assert_eq!(reply.header("x-request-id"), Some("big"), "{lane:?} {length}");
            assert!(reply.header("access-control-expose-headers").is_some(), "{lane:?} {length}");
            assert!(reply.json()["detail"].as_str().unwrap().contains("262144"));
        }
    }
}

#[test]
fn a_client_that_sends_all_of_its_body_first_sees_the_refusal() {
    let server = Server::start(&[]);
    // The server drains a megabyte: nothing fails while it is sent, and the response can be read afterwards.
    let body = vec![b'x'; 1 << 20];
    let refused: [(&str, &str, u16); 5] = [
        ("POST /event", "", 413),
        ("POST /api/v1/ingest/orders", "", 400),
        ("POST /api/v1/ingest/orders", "Idempotency-Key: k\r\nContent-Type: image/png\r\n", 415),
        ("POST /api/v1/ingest/orders/uploads", "Tus-Resumable: 1.0.0\r\nUpload-Length: x\r\n", 400),
        ("PATCH /api/v1/ingest/orders/uploads/0", "", 412),
    ];
    for lane in LANES {
        for (start, headers, status) in refused {
            let mut client = server.connect(lane);
            let head =
                format!("{start} HTTP/1.1\r\nHost: t\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
            client.send(head.as_bytes());
            for piece in body.chunks(64 << 10) {
                client.send(piece);
            }
            assert_eq!(client.reply().status, status, "{lane:?} {start} {headers}");
            client.expect_end();
        }
    }
}

#[test]
fn a_client_that_ends_its_direction_still_gets_its_answers() {
    let server = Server::start(&[]);
    for lane in LANES {
        let mut client = server.connect(lane);
        let requests = mixed(30);
        client.send(&requests.iter().flat_map(|(bytes, ..)| bytes.clone()).collect::<Vec<u8>>());
        client.send(&post("/event?ack=disk", &["X-Request-Id: disk"], EVENT.as_bytes()));
        client.finish();
        expect_answers(&mut client, &requests);
        let last = client.reply();
        assert_eq!((last.status, last.header("firehose-ack")), (202, Some("disk")), "{lane:?}");
        client.expect_end();
    }
}

#[test]
fn every_byte_in_a_target_or_a_header_gets_the_same_verdict_on_both_lanes() {
    let server = Server::start(&[]);
    let shapes: [(&str, &str); 6] = [
        ("GET /health", " HTTP/1.1\r\nHost: t\r\n\r\n"),
        ("GET /health?", " HTTP/1.1\r\nHost: t\r\n\r\n"),
        ("GET http://t", "/health HTTP/1.1\r\nHost: t\r\n\r\n"),
        ("GET", " /health HTTP/1.1\r\nHost: t\r\n\r\n"),
        ("GET /health HTTP/1.1\r\nHost: t\r\nA", ": b\r\n\r\n"),
        ("GET /health HTTP/1.1\r\nHost: t\r\nX-Request-Id: a", "\r\n\r\n"),
    ];
    for (before, after) in shapes {
        for byte in 0..=255u8 {
            let bytes = [before.as_bytes(), &[byte], after.as_bytes()].concat();
            let [hot, executor] = LANES.map(|lane| {
                let mut client = server.connect(lane);
                // The server closes unless the request is incomplete: a lone CR or LF may wait for more bytes.
                client.send(&bytes);
                client.finish();
                client.try_reply(false).ok().map(|reply| {
                    let taken_over =
                        reply.header("x-request-id").filter(|id| id.starts_with('a') && id.len() == 2);
                    let taken_over = taken_over.map(str::to_owned);
                    let slug = if reply.status >= 400 { reply.slug() } else { String::new() };
                    (reply.status, slug, taken_over)
                })
            });
            assert_eq!(hot, executor, "{before:?} {byte:#x} {after:?}");
        }
    }
}

#[test]
fn a_head_request_is_answered_as_get_without_the_body() {
    let server = Server::start(&[]);
    for lane in LANES {
        for path in [
            "/health",
            "/livez",
            "/ready",
            "/openapi.json",
            "/docs/problems/not-json",
            "/docs/",
            "/nowhere",
            "/event",
        ] {
            let mut client = server.connect(lane);
            let get = client.ask(&plain("GET", path, &[]));
            client.send(&plain("HEAD", path, &[]));
            let head = client.reply_to_head();
            assert_eq!((head.status, &head.essence().1), (get.status, &get.essence().1), "{lane:?} {path}");
            // The uptime in the health and the request id in a problem may differ in length.
            if get.status == 200 && path != "/health" && path != "/livez" {
                assert_eq!(head.header("content-length"), get.header("content-length"), "{lane:?} {path}");
            }
            // No byte of a body follows the head.
            assert_eq!(client.ask(&plain("GET", "/ready", &[])).status, 200);
        }
    }
}

#[test]
fn a_request_id_is_taken_over_where_it_is_harmless() {
    let server = Server::start(&[]);
    let longest = "x".repeat(200);
    for lane in LANES {
        let mut client = server.connect(lane);
        let mut ask = |value: &[u8]| {
            let request = [b"GET /health HTTP/1.1\r\nHost: t\r\nX-Request-Id: ", value, b"\r\n\r\n"].concat();
            client.ask(&request).header("x-request-id").unwrap().to_owned()
        };
        let mut made = std::collections::HashSet::new();
        for id in ["a", "7f3c-\"<script>\"", longest.as_str()] {
            assert_eq!(ask(id.as_bytes()), id, "{lane:?}");
        }
        let too_long = "x".repeat(201);
        for hostile in [&b""[..], b"a b", b"a\tb", b"\xc3\xa9", b"\xff", too_long.as_bytes()] {
            assert!(made.insert(ask(hostile)), "{lane:?} {hostile:?}");
        }
        assert!(made.iter().all(|id| id.len() == 16), "{made:?}");
        assert_eq!(ask(b"a\r\nX-Request-Id: b"), "b", "{lane:?}");
        assert_eq!(ask(b"a\r\nX-Request-Id: b c"), "a", "{lane:?}");
    }
}

#[test]
fn scripts_of_any_origin_may_post_and_read_the_answer() {
    let server = Server::start(&[]);
    for lane in LANES {
        let mut client = server.connect(lane);
        let reply = client.ask(&plain(
            "OPTIONS",
            "/event",
            &["Origin: https://a.example", "Access-Control-Request-Method: POST"],
        ));
        assert_eq!((reply.status, reply.body.len()), (204, 0));
        assert_eq!(reply.header("access-control-allow-methods"), Some("POST, OPTIONS"));
        assert!(reply.header("access-control-allow-headers").unwrap().contains("Content-Type"));
        assert!(reply.header("access-control-max-age").unwrap().parse::<u32>().unwrap() > 0);
        for (request, status) in [
            (post("/event", &["Origin: null"], EVENT.as_bytes()), 202),
            (post("/event", &["Origin: https://a.example"], b"{"), 400),
        ] {
            let reply = client.ask(&request);
            assert_eq!((reply.status, reply.header("access-control-allow-origin")), (status, Some("*")));
            let exposed = reply.header("access-control-expose-headers").unwrap();
            assert!(exposed.contains("Firehose-Receipt") && exposed.contains("Retry-After"), "{exposed}");
        }
        let reply = client.ask(&plain("PUT", "/event", &["Origin: https://a.example"]));
        assert_eq!((reply.status, reply.slug().as_str()), (403, "foreign-origin"));
        let reply = client.ask(&plain("PUT", "/event", &[]));
        assert_eq!((reply.status, reply.header("allow")), (405, Some("POST, OPTIONS")));
    }
}

#[test]
fn scripts_of_a_listed_origin_may_send_and_read_what_each_endpoint_works_with() {
    let server = Server::start(&["--cors-origins", "https://a.example"]);
    let words = |list: Option<&str>| -> Vec<String> {
        list.unwrap_or_default().split(',').map(|word| word.trim().to_ascii_lowercase()).collect()
    };
    let all =
        ["content-type", "content-encoding", "x-request-id", "authorization", "x-api-key", "idempotency-key"];
    let tus = [
        "tus-resumable",
        "upload-length",
        "upload-offset",
        "upload-metadata",
        "upload-checksum",
        "upload-defer-length",
    ];
    for (path, methods, more) in [
        ("/event", "POST, OPTIONS", &[][..]),
        ("/events", "GET, HEAD, POST, OPTIONS", &[]),
        ("/events/bulk", "POST, OPTIONS", &[]),
        ("/clicks", "GET, HEAD, OPTIONS", &[]),
        ("/metrics", "GET, HEAD, OPTIONS", &[]),
        ("/receipts/0-65", "GET, HEAD, OPTIONS", &[]),
        ("/api/v1/ingest/orders", "POST, OPTIONS", &[]),
        ("/api/v1/ingest/orders/uploads", "POST, OPTIONS", &tus),
        ("/api/v1/ingest/orders/uploads/x", "GET, HEAD, PATCH, DELETE, OPTIONS", &tus),
        ("/api/v1/tenants/t/orders/search", "GET, HEAD, PATCH, OPTIONS", &[]),
        ("/api/v1/tenants/t/orders/o", "GET, HEAD, PATCH, OPTIONS", &[]),
        ("/api/v1/tenants/t/metrics/sales", "GET, HEAD, OPTIONS", &[]),
        ("/api/v1/tenants/t/reports/export", "GET, HEAD, POST, OPTIONS", &[]),
        ("/api/v1/tenants/t/reports/export/x", "GET, HEAD, DELETE, OPTIONS", &[]),
        ("/api/v1/tenants/t/reports/export/x/download", "GET, HEAD, OPTIONS", &["range", "if-range"]),
    ] {
        for lane in LANES {
            let mut client = server.connect(lane);
            let wanted = [&all[..], more].concat().join(",");
            let wanted = format!("Access-Control-Request-Headers: {wanted}");
            let lines = ["Origin: https://a.example", "Access-Control-Request-Method: POST", &wanted];
            let reply = client.ask(&plain("OPTIONS", path, &lines));
            assert_eq!(reply.status, 204, "{path}");
            assert_eq!(reply.header("access-control-allow-methods"), Some(methods), "{path}");
            assert_eq!(reply.header("access-control-allow-origin"), Some("https://a.example"), "{path}");
            let allowed = words(reply.header("access-control-allow-headers"));
            for name in all.iter().chain(more) {
                assert!(allowed.iter().any(|allowed| allowed == name), "{name} on {path}: {allowed:?}");
            }
            let exposed = words(reply.header("access-control-expose-headers"));
            for name in [
                "firehose-ack",
                "firehose-receipt",
                "x-request-id",
                "idempotent-replayed",
                "retry-after",
                "ratelimit",
                "ratelimit-policy",
                "www-authenticate",
                "allow",
                "location",
                "etag",
                "accept-ranges",
                "content-range",
                "content-disposition",
                "repr-digest",
                "tus-resumable",
                "tus-version",
                "tus-extension",
                "tus-max-size",
                "upload-offset",
                "upload-length",
                "upload-expires",
            ] {
                assert!(exposed.iter().any(|exposed| exposed == name), "{name}: {exposed:?}");
            }
        }
    }
}

#[test]
fn every_problem_a_client_meets_is_explained_under_its_type() {
    let server = Server::start(&[]);
    let mut client = server.connect(Lane::Hot);
    let mut slugs: Vec<_> =
        cases().into_iter().map(|case| case.slug).filter(|slug| !slug.is_empty()).collect();
    slugs.sort_unstable();
    slugs.dedup();
    assert!(slugs.len() > 15, "{slugs:?}");
    for slug in slugs {
        let page = client.ask(&plain("GET", &format!("/docs/problems/{slug}"), &[]));
        assert_eq!(page.status, 200, "{slug}");
        assert!(String::from_utf8(page.body).unwrap().contains(slug));
    }
    assert_eq!(client.ask(&plain("GET", "/docs/problems/none", &[])).status, 404);
}

#[test]
fn a_receipt_leads_to_its_event_on_whichever_lane_it_was_given() {
    let server = Server::start(&[]);
    for lane in LANES {
        for (target, level) in [
            ("/event", "os"),
            ("/event?ack=os", "os"),
            ("/event?ack=disk", "disk"),
            ("/event?ac%6b=disk", "disk"),
        ] {
            let mut client = server.connect(lane);
            let reply = client.ask(&post(target, &[], EVENT.as_bytes()));
            assert_eq!((reply.status, reply.header("firehose-ack")), (202, Some(level)), "{lane:?}");
            let receipt = reply.header("firehose-receipt").unwrap().to_owned();
            // Even numbers are of the hot lanes' journals: the case really ran where it says.
            let number: u64 = receipt.split_once('-').unwrap().1.parse().unwrap();
            assert_eq!(number.is_multiple_of(2), lane == Lane::Hot, "{receipt}");
            eventually("the event is stored", || {
                let state = client.ask(&plain("GET", &format!("/receipts/{receipt}"), &[])).json();
                assert!(state["state"] == "stored" || state["state"] == "pending", "{state}");
                (state["state"] == "stored").then_some(())
            });
            let ahead = format!("/receipts/{}-{}", receipt.split_once('-').unwrap().0, number + 64 * 1000);
            assert_eq!(client.ask(&plain("GET", &ahead, &[])).status, 404);
        }
    }
}
