//! The table of single requests: the bytes, the response, and the state of the connection afterwards. It applies to
//! both lanes.

use std::io::Write;

use super::{EVENT, plain, post, post_chunked};

/// The state of the connection after the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Stays,
    Closes,
}

pub struct Case {
    pub name: String,
    pub bytes: Vec<u8>,
    pub status: u16,
    /// The name of the problem. Empty if the response is not a problem.
    pub slug: &'static str,
    pub after: After,
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    smuggling(&mut cases);
    targets(&mut cases);
    limits(&mut cases);
    bodies(&mut cases);
    codings(&mut cases);
    methods(&mut cases);
    persistence(&mut cases);
    cases
}

fn add(
    cases: &mut Vec<Case>,
    name: &str,
    bytes: impl Into<Vec<u8>>,
    status: u16,
    slug: &'static str,
    after: After,
) {
    cases.push(Case { name: name.to_owned(), bytes: bytes.into(), status, slug, after });
}

/// Adds a request that is refused as invalid HTTP: 400, and the connection closes.
fn bad(cases: &mut Vec<Case>, name: &str, bytes: impl Into<Vec<u8>>) {
    add(cases, name, bytes, 400, "bad-request", After::Closes);
}

fn good(cases: &mut Vec<Case>, name: &str, bytes: impl Into<Vec<u8>>, status: u16) {
    add(cases, name, bytes, status, "", After::Stays);
}

/// Adds requests that two servers could read differently (RFC 9112 §11.2), and bytes that are not HTTP/1 at all.
fn smuggling(cases: &mut Vec<Case>) {
    // The bytes after the head look like a request. They must never be answered as one.
    let hidden = "GET /health HTTP/1.1\r\nHost: t\r\n\r\n";
    let with = |lines: &str| format!("POST /event HTTP/1.1\r\nHost: t\r\n{lines}\r\n\r\n{hidden}");
    for (name, lines) in [
        ("length and chunked", "Content-Length: 5\r\nTransfer-Encoding: chunked"),
        ("chunked and length", "Transfer-Encoding: chunked\r\nContent-Length: 5"),
        ("two equal lengths", "Content-Length: 5\r\nContent-Length: 5"),
        ("two different lengths", "Content-Length: 5\r\nContent-Length: 6"),
        ("a list of lengths", "Content-Length: 5, 5"),
        ("a length with a plus", "Content-Length: +5"),
        ("a negative length", "Content-Length: -5"),
        ("a hexadecimal length", "Content-Length: 0x5"),
        ("an empty length", "Content-Length:"),
        ("a length with a blank inside", "Content-Length: 5 5"),
        ("a length with an underscore", "Content-Length: 1_0"),
        ("a fractional length", "Content-Length: 5.0"),
        ("a length above 64 bits", "Content-Length: 18446744073709551616"),
        ("the longest 64-bit length", "Content-Length: 18446744073709551615"),
        ("chunked before another coding", "Transfer-Encoding: chunked, identity"),
        ("an identity transfer coding", "Transfer-Encoding: identity"),
        ("a misspelt chunked", "Transfer-Encoding: xchunked"),
        ("a quoted chunked", "Transfer-Encoding: \"chunked\""),
        ("chunked with a parameter", "Transfer-Encoding: chunked;q=1"),
        ("chunked twice in two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        ("chunked, then identity, in two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        ("an empty transfer coding", "Transfer-Encoding:"),
        ("a vertical tab before chunked", "Transfer-Encoding: \x0bchunked"),
        ("a blank before the colon", "Content-Length : 5"),
        ("a tab before the colon", "Transfer-Encoding\t: chunked"),
        ("a folded line", "A: b\r\n Content-Length: 5"),
        ("a folded line with a tab", "A: b\r\n\tTransfer-Encoding: chunked"),
        ("a bare line feed", "A: b\nContent-Length: 5"),
        ("a bare carriage return", "A: b\rContent-Length: 5"),
        ("a NUL in a value", "A: b\0c"),
        ("a NUL in a name", "A\0: b"),
        ("an empty name", ": b"),
        ("a line without a colon", "Content-Length 5"),
        ("a control character in a value", "A: b\x01"),
        ("a DEL in a value", "A: b\x7f"),
        ("a second Host", "Host: other"),
        ("a list of chunked", "Transfer-Encoding: chunked, chunked"),
    ] {
        match name {
            "a list of chunked" => {
                add(cases, name, with(lines), 501, "unsupported-transfer-coding", After::Closes);
            }
            _ => bad(cases, name, with(lines)),
        }
    }
    add(
        cases,
        "gzip under chunked",
        with("Transfer-Encoding: gzip, chunked"),
        501,
        "unsupported-transfer-coding",
        After::Closes,
    );
    bad(cases, "the first header folded", format!("GET /health HTTP/1.1\r\n Host: t\r\n\r\n{hidden}"));
    bad(cases, "no Host", "GET /health HTTP/1.1\r\n\r\n");
    bad(cases, "a Host with a path", "GET /health HTTP/1.1\r\nHost: a/b\r\n\r\n");
    bad(cases, "a list of Hosts", "GET /health HTTP/1.1\r\nHost: a, b\r\n\r\n");
    bad(cases, "a Host with a user", "GET /health HTTP/1.1\r\nHost: a@b\r\n\r\n");
    bad(cases, "chunked in HTTP/1.0", "POST /event HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    bad(cases, "bare line feeds throughout", "GET /health HTTP/1.1\nHost: t\n\n");
    bad(cases, "a head that ends in a bare line feed", "GET /health HTTP/1.1\r\nHost: t\r\n\n");
    bad(cases, "a bare line feed first", "\nGET /health HTTP/1.1\r\nHost: t\r\n\r\n");
    bad(cases, "a TLS ClientHello", &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x5a\x0d\x0a\x0d"[..]);
    bad(cases, "a NUL first", &b"\0\0\0\0"[..]);
    bad(cases, "SOCKS5", &b"\x05\x01\x00"[..]);
    add(
        cases,
        "an HTTP/2 preface",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        505,
        "unsupported-version",
        After::Closes,
    );
    add(
        cases,
        "HTTP/3.0",
        "GET /health HTTP/3.0\r\nHost: t\r\n\r\n",
        505,
        "unsupported-version",
        After::Closes,
    );
    add(
        cases,
        "HTTP/0.9 with a version",
        "GET /health HTTP/0.9\r\nHost: t\r\n\r\n",
        505,
        "unsupported-version",
        After::Closes,
    );
    add(
        cases,
        "an unknown expectation",
        post("/event", &["Expect: 200-ok"], EVENT.as_bytes()),
        417,
        "expectation-failed",
        After::Closes,
    );
}

fn targets(cases: &mut Vec<Case>) {
    for (name, line) in [
        ("a blank in the target", "GET /hea lth HTTP/1.1"),
        ("two blanks before the version", "GET /health  HTTP/1.1"),
        ("two blanks before the target", "GET  /health HTTP/1.1"),
        ("a tab in the request line", "GET\t/health HTTP/1.1"),
        ("a blank before the method", " GET /health HTTP/1.1"),
        ("a blank behind the version", "GET /health HTTP/1.1 "),
        ("no version", "GET /health"),
        ("an empty target", "GET  HTTP/1.1"),
        ("an authority as the target", "GET example.org:80 HTTP/1.1"),
        ("CONNECT", "CONNECT example.org:80 HTTP/1.1"),
        ("another scheme", "GET ftp://t/health HTTP/1.1"),
        ("a scheme without a host", "GET http:///health HTTP/1.1"),
        ("a broken host in the target", "GET http://[::1/health HTTP/1.1"),
        ("an asterisk without OPTIONS", "GET * HTTP/1.1"),
        ("a NUL in the target", "GET /hea\0lth HTTP/1.1"),
        ("a bracket that is no method", "G[T /health HTTP/1.1"),
    ] {
        bad(cases, name, format!("{line}\r\nHost: t\r\n\r\n"));
    }
    good(cases, "an absolute target", plain("GET", "http://t/health", &[]), 200);
    good(cases, "an absolute target to an event", post("http://t/event", &[], EVENT.as_bytes()), 202);
    good(cases, "an absolute target without a path", plain("GET", "http://t?", &[]), 303);
    let request = plain("GET", "http://t?x", &[]);
    add(cases, "an absolute target with a query only", request, 400, "bad-parameter", After::Stays);
    good(cases, "an empty line first", [b"\r\n\r\n".to_vec(), plain("GET", "/health", &[])].concat(), 200);
    good(cases, "an empty query", plain("GET", "/health?", &[]), 200);
    let request = plain("GET", "/health?a=b&%20=?", &[]);
    add(cases, "a query", request, 400, "bad-parameter", After::Stays);
    good(cases, "a fragment", plain("GET", "/health#top", &[]), 200);
    good(cases, "a trailing slash", plain("GET", "/health/", &[]), 200);
    good(cases, "a trailing slash behind an event", post("/event/", &[], EVENT.as_bytes()), 202);
    good(cases, "an event with a query", post("/event?ack=disk&", &[], EVENT.as_bytes()), 202);
    let request = post("/event?source=a", &[], EVENT.as_bytes());
    add(cases, "an event with another query", request, 400, "bad-parameter", After::Stays);
    for path in
        ["/eventz", "/event/x", "//event", "/EVENT", "/%65vent", "/../event", "/.refused", "/health;a"]
    {
        add(cases, path, plain("GET", path, &[]), 404, "not-found", After::Stays);
    }
    for path in [
        "/receipts/",
        "/receipts/x",
        "/receipts/0-0",
        "/receipts/9-64",
        "/receipts/0-99999999999999999999",
        "/receipts/-1",
    ] {
        let slug = if path == "/receipts/" { "not-found" } else { "not-a-receipt" };
        add(cases, path, plain("GET", path, &[]), 404, slug, After::Stays);
    }
    add(
        cases,
        "an unknown ack",
        post("/event?ack=memory", &[], EVENT.as_bytes()),
        400,
        "bad-parameter",
        After::Stays,
    );
    for (name, target) in [
        ("an empty ack", "/event?ack="),
        ("an ack without a value", "/event?ack"),
        ("two acks", "/event?ack=disk&ack=disk"),
        ("an unknown parameter", "/event?akc=disk"),
        ("an unknown parameter beside a known one", "/event?ack=os&_=1"),
    ] {
        let request = post(target, &[], EVENT.as_bytes());
        add(cases, name, request, 400, "bad-parameter", After::Stays);
    }
    let marked = [b"\xef\xbb\xbf", EVENT.as_bytes()].concat();
    good(cases, "a byte order mark", post("/event", &[], &marked), 202);
    for path in ["/health%zz", "/event%", "/%4g", "/%%41"] {
        add(cases, path, plain("GET", path, &[]), 400, "bad-request", After::Closes);
    }
}

fn limits(cases: &mut Vec<Case>) {
    let target = |bytes: usize| plain("GET", &format!("/health?{}", "a".repeat(bytes - 8)), &[]);
    // It is read, and the parameter is unknown.
    add(cases, "the longest target", target(8192), 400, "bad-parameter", After::Stays);
    add(cases, "a target too long", target(8193), 414, "uri-too-long", After::Closes);
    let to_head = |bytes: &[u8]| [b"HEAD", &bytes[3..]].concat();
    add(cases, "HEAD with a target too long", to_head(&target(8193)), 414, "uri-too-long", After::Closes);
    let without_host = "HEAD /health HTTP/1.1\r\n\r\n";
    add(cases, "HEAD without a host", without_host, 400, "bad-request", After::Closes);
    add(cases, "a target far too long", target(31_000), 414, "uri-too-long", After::Closes);
    add(cases, "a target longer than a head", target(100_000), 414, "uri-too-long", After::Closes);
    let head = |bytes: usize| {
        let fixed = plain("GET", "/health", &["A: "]).len();
        plain("GET", "/health", &[&format!("A: {}", "a".repeat(bytes - fixed))])
    };
    good(cases, "the largest head", head(32 * 1024), 200);
    add(cases, "a head too large", head(32 * 1024 + 1), 431, "head-too-large", After::Closes);
    add(cases, "a head far too large", head(300 * 1024), 431, "head-too-large", After::Closes);
    let many = |count: usize| plain("GET", "/health", &vec!["A: b"; count - 1]);
    good(cases, "the most headers", many(100), 200);
    add(cases, "a header too many", many(101), 431, "head-too-large", After::Closes);
    add(cases, "headers far too many", many(4000), 431, "head-too-large", After::Closes);

    let event = |bytes: usize| {
        let fixed = r#"{"user_id":1,"timestamp":"2024-01-14T10:30:00Z","metadata":""}"#.len();
        let filler = "a".repeat(bytes - fixed);
        format!(r#"{{"user_id":1,"timestamp":"2024-01-14T10:30:00Z","metadata":"{filler}"}}"#).into_bytes()
    };
    let most = 256 * 1024;
    good(cases, "the largest event", post("/event", &[], &event(most)), 202);
    good(cases, "the largest event in chunks", post_chunked("/event", &[], &event(most), 5000), 202);
    good(cases, "the largest event, compressed", gzip("/event", &event(most)), 202);
    for (name, bytes) in [
        ("an event too large", post("/event", &[], &event(most + 1))),
        ("an event too large in chunks", post_chunked("/event", &[], &event(most + 1), 5000)),
        (
            "a length too large, and no body",
            b"POST /event HTTP/1.1\r\nHost: t\r\nContent-Length: 9000000000\r\n\r\n".to_vec(),
        ),
        (
            "one chunk too large",
            b"POST /event HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n"
                .iter()
                .copied()
                .chain(vec![b'x'; most + 2000])
                .collect(),
        ),
    ] {
        add(cases, name, bytes, 413, "payload-too-large", After::Closes);
    }
    let as_method = |method: &str, request: Vec<u8>| [method.as_bytes(), &request[4..]].concat();
    for (path, status, slug) in [
        ("/nowhere", 404, "not-found"),
        ("/event", 405, "method-not-allowed"),
        ("/events", 405, "method-not-allowed"),
        ("/health", 405, "method-not-allowed"),
        ("/api/v1/ingest/orders", 405, "method-not-allowed"),
    ] {
        let large = event((8 << 20) + most);
        for (name, body, after) in [
            ("a large body", post(path, &[], &large), After::Closes),
            ("a large body in chunks", post_chunked(path, &[], &large, 5000), After::Closes),
            ("a body", post(path, &[], &event(100)), After::Stays),
            ("a body in chunks", post_chunked(path, &[], &event(100), 7), After::Stays),
        ] {
            let name = format!("{name}, put to {path}");
            add(cases, &name, as_method("PUT", body), status, slug, after);
        }
    }
    let large = event(most + 1);
    for (name, path, status, slug) in [
        ("a large body where none is read", "/nowhere", 404, "not-found"),
        ("a large body to a path that is only read", "/health", 405, "method-not-allowed"),
    ] {
        add(cases, name, post(path, &[], &large), status, slug, After::Closes);
    }
    add(
        cases,
        "an event too large, compressed",
        gzip("/event", &event(most + 1)),
        413,
        "payload-too-large",
        After::Stays,
    );
    add(cases, "a bomb", gzip("/event", &vec![b' '; 32 << 20]), 413, "payload-too-large", After::Stays);
    let bomb = zstd::bulk::compress(&vec![b' '; 32 << 20], 3).unwrap();
    add(
        cases,
        "a zstd bomb",
        post("/event", &["Content-Encoding: zstd"], &bomb),
        413,
        "payload-too-large",
        After::Stays,
    );
}

fn bodies(cases: &mut Vec<Case>) {
    let event = EVENT.as_bytes();
    let chunked =
        |body: &str| format!("POST /event HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let size = event.len();
    for step in [1, 2, 7, size] {
        good(cases, &format!("chunks of {step}"), post_chunked("/event", &[], event, step), 202);
    }
    for (name, body) in [
        ("a chunk extension", format!("{size:x};a=b;c=\"d\"\r\n{EVENT}\r\n0;e\r\n\r\n")),
        ("blanks before an extension", format!("{size:x} \t;a\r\n{EVENT}\r\n0\r\n\r\n")),
        ("trailers", format!("{size:x}\r\n{EVENT}\r\n0\r\nA: b\r\nContent-Length: 3\r\nHost: x\r\n\r\n")),
        ("an upper-case size with zeros", format!("000{size:X}\r\n{EVENT}\r\n000\r\n\r\n")),
    ] {
        good(cases, name, chunked(&body), 202);
    }
    for (name, body) in [
        ("a chunk without a size", format!("\r\n{EVENT}\r\n0\r\n\r\n")),
        ("a chunk size with a sign", format!("+{size:x}\r\n{EVENT}\r\n0\r\n\r\n")),
        ("a hexadecimal prefix", format!("0x{size:x}\r\n{EVENT}\r\n0\r\n\r\n")),
        ("a blank before the size", format!(" {size:x}\r\n{EVENT}\r\n0\r\n\r\n")),
        ("text behind the size", format!("{size:x} abc\r\n{EVENT}\r\n0\r\n\r\n")),
        ("a size line that ends in a bare line feed", format!("{size:x}\n{EVENT}\r\n0\r\n\r\n")),
        ("a bare line feed in an extension", format!("{size:x};a\nb\r\n{EVENT}\r\n0\r\n\r\n")),
        ("a size line that ends in a bare carriage return", format!("{size:x}\r{EVENT}\r\n0\r\n\r\n")),
        ("a chunk longer than its size", format!("{size:x}\r\n{EVENT}x\r\n0\r\n\r\n")),
        ("a chunk that ends in a bare line feed", format!("{size:x}\r\n{EVENT}\n0\r\n\r\n")),
        ("a chunk size above 64 bits", "1ffffffffffffffff\r\nx".to_owned()),
        ("a size of nothing but zeros", "0".repeat(20_000)),
        ("an endless extension", format!("{size:x};{}", "a".repeat(20_000))),
        ("extensions without end", format!("1;{}\r\nx\r\n", "a".repeat(3000)).repeat(4)),
        ("a folded trailer", format!("{size:x}\r\n{EVENT}\r\n0\r\nA: b\r\n c\r\n\r\n")),
        ("a trailer without a colon", format!("{size:x}\r\n{EVENT}\r\n0\r\nabc\r\n\r\n")),
        ("a trailer with a blank before the colon", format!("{size:x}\r\n{EVENT}\r\n0\r\nA : b\r\n\r\n")),
        ("a trailer with a NUL", format!("{size:x}\r\n{EVENT}\r\n0\r\nA: \0\r\n\r\n")),
        ("endless trailers", format!("{size:x}\r\n{EVENT}\r\n0\r\n{}", "A: b\r\n".repeat(5000))),
    ] {
        bad(cases, name, chunked(&body));
        // The same body, sent to an endpoint that does not read it.
        bad(
            cases,
            &format!("{name}, to another endpoint"),
            chunked(&body).replace("POST /event", "POST /health"),
        );
    }
    for (name, body, status, slug) in [
        ("no body", "", 400, "empty-body"),
        ("no JSON", "{\"user_id\":unechoed-1,}", 400, "not-json"),
        ("two values", "{} {}", 400, "not-json"),
        ("no object", "[1,2]", 422, "invalid-event"),
        (
            "wrong fields",
            r#"{"user_id":"unechoed-2","timestamp":"unechoed-3","metadata":1}"#,
            422,
            "invalid-event",
        ),
    ] {
        add(cases, name, post("/event", &[], body.as_bytes()), status, slug, After::Stays);
    }
    add(cases, "no UTF-8", post("/event", &[], b"{\"a\":\"\xff\xfe\"}"), 400, "not-utf8", After::Stays);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    add(cases, "too deep", post("/event", &[], deep.as_bytes()), 422, "too-deep", After::Stays);
    good(
        cases,
        "a body behind GET",
        [plain("GET", "/health", &["Content-Length: 3"]), b"abc".to_vec()].concat(),
        200,
    );
    good(
        cases,
        "chunks behind GET",
        [
            plain("GET", "/health", &["Transfer-Encoding: chunked"]),
            b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".to_vec(),
        ]
        .concat(),
        200,
    );
    add(cases, "chunks to nowhere", post_chunked("/nowhere", &[], event, 3), 404, "not-found", After::Stays);
    good(
        cases,
        "a beacon",
        post("/event", &["Content-Type: text/plain;charset=UTF-8", "Origin: https://a.example"], event),
        202,
    );
}

fn codings(cases: &mut Vec<Case>) {
    let event = EVENT.as_bytes();
    let level = flate2::Compression::default();
    let encoded = |name: &str, body: &[u8]| post("/event", &[&format!("Content-Encoding: {name}")], body);
    let gzip_body = gzip_bytes(event);
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), level);
    zlib.write_all(event).unwrap();
    let zlib = zlib.finish().unwrap();
    let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), level);
    raw.write_all(event).unwrap();
    let raw = raw.finish().unwrap();
    let zstd = zstd::bulk::compress(event, 3).unwrap();
    for (name, coding, body) in [
        ("gzip", "gzip", &gzip_body[..]),
        ("an old name of gzip", "X-GZip", &gzip_body),
        ("two gzip members", "gzip", &[gzip_bytes(&event[..9]), gzip_bytes(&event[9..])].concat()),
        ("deflate", "deflate", &zlib),
        ("raw deflate", "deflate", &raw),
        ("zstd", "zstd", &zstd),
        ("identity", "identity", event),
        ("an empty coding", "", event),
    ] {
        good(cases, name, encoded(coding, body), 202);
    }
    for (name, coding, body) in [
        ("gzip that is zstd", "gzip", &zstd[..]),
        ("zstd that is plain", "zstd", event),
        ("deflate that is plain", "deflate", event),
        ("gzip cut short", "gzip", &gzip_body[..gzip_body.len() - 1]),
        ("zstd cut short", "zstd", &zstd[..zstd.len() - 1]),
        ("deflate cut short", "deflate", &zlib[..zlib.len() - 1]),
        ("gzip of nothing", "gzip", b""),
        ("gzip and rubbish", "gzip", &[&gzip_body[..], b"rubbish"].concat()),
    ] {
        add(cases, name, encoded(coding, body), 400, "bad-encoding", After::Stays);
    }
    for coding in ["br", "gzip, gzip", "gzip,zstd", "compress", "gzip;q=1"] {
        add(cases, coding, encoded(coding, &gzip_body), 415, "unsupported-encoding", After::Stays);
    }
    let twice =
        post("/event", &["Content-Encoding: gzip", "Content-Encoding: gzip"], &gzip_bytes(&gzip_body));
    add(cases, "gzip in two lines", twice, 415, "unsupported-encoding", After::Stays);
    let inner = gzip_bytes(&gzip_body);
    add(cases, "gzip in gzip said once", encoded("gzip", &inner), 400, "not-utf8", After::Stays);
    good(cases, "gzip in chunks", post_chunked("/event", &["Content-Encoding: gzip"], &gzip_body, 3), 202);
}

fn methods(cases: &mut Vec<Case>) {
    for (method, path) in [
        ("GET", "/event"),
        ("HEAD", "/event"),
        ("PUT", "/event"),
        ("get", "/health"),
        ("POST", "/health"),
        ("DELETE", "/receipts/0-65"),
        ("POST", "/metrics"),
        ("PATCH", "/docs"),
        ("CONNECT", "/event"),
        ("TRACE", "/"),
        ("PRI", "/openapi.json"),
    ] {
        add(
            cases,
            &format!("{method} {path}"),
            plain(method, path, &[]),
            405,
            "method-not-allowed",
            After::Stays,
        );
    }
    for path in ["/event", "/health", "/receipts/0-65", "/metrics", "/nowhere", "*"] {
        let lines = [
            "Origin: https://a.example",
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: content-type",
        ];
        good(cases, &format!("OPTIONS {path}"), plain("OPTIONS", path, &lines), 204);
    }
    for path in
        ["/health", "/livez", "/ready", "/readyz", "/openapi.json", "/metrics", "/docs/problems/not-json"]
    {
        good(cases, &format!("GET {path}"), plain("GET", path, &[]), 200);
        good(cases, &format!("HEAD {path}"), plain("HEAD", path, &[]), 200);
    }
    add(cases, "HEAD of nothing", plain("HEAD", "/nowhere", &[]), 404, "not-found", After::Stays);
    good(
        cases,
        "an upgrade nobody speaks",
        plain(
            "GET",
            "/health",
            &[
                "Connection: Upgrade, HTTP2-Settings",
                "Upgrade: h2c",
                "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
            ],
        ),
        200,
    );
}

fn persistence(cases: &mut Vec<Case>) {
    let event = EVENT.as_bytes();
    add(cases, "a wish to close", post("/event", &["Connection: close"], event), 202, "", After::Closes);
    add(
        cases,
        "a wish to close in a list",
        plain("GET", "/health", &["Connection: te, Close"]),
        200,
        "",
        After::Closes,
    );
    add(
        cases,
        "both wishes",
        plain("GET", "/health", &["Connection: close", "Connection: keep-alive"]),
        200,
        "",
        After::Closes,
    );
    add(cases, "HTTP/1.0", "GET /health HTTP/1.0\r\n\r\n", 200, "", After::Closes);
    add(cases, "HTTP/1.0 with a Host", "GET /health HTTP/1.0\r\nHost: t\r\n\r\n", 200, "", After::Closes);
    good(cases, "HTTP/1.0 that stays", "GET /health HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 200);
    let old = format!(
        "POST /event HTTP/1.0\r\nContent-Length: {}\r\nConnection: keep-alive\r\n\r\n{EVENT}",
        event.len()
    );
    good(cases, "an event in HTTP/1.0 that stays", old, 202);
    add(
        cases,
        "an error that closes when asked",
        plain("GET", "/nowhere", &["Connection: close"]),
        404,
        "not-found",
        After::Closes,
    );
    let much = [plain("GET", "/health", &["Connection: close"]), vec![b'x'; 200_000]].concat();
    add(cases, "rubbish behind the last request", much, 200, "", After::Closes);
}

fn gzip_bytes(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn gzip(target: &str, body: &[u8]) -> Vec<u8> {
    post(target, &["Content-Encoding: gzip"], &gzip_bytes(body))
}
