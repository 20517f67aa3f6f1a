//! `firehose gen-dataset --post` survives a server that refuses requests for a while, and reports what it refuses.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::thread::JoinHandle;

use crate::support::datasets::{generate, generated, said};
use serde_json::json;

/// The server's reaction to one request.
#[derive(Clone, Copy)]
enum Turn {
    /// Counts the rows and reports all as inserted.
    Store,
    /// Reads the whole request and closes without a response.
    Hang,
    /// Refuses with this status and `Retry-After: 0`.
    Refuse(u16),
    /// Counts the rows and reports the first as failed.
    Fail,
}

/// Sends only orders, because the server answers no other request.
const ORDERS: &str = "--preset tiny --price-samples 0 --stock-events 0";

/// One request as the server received it, with its body decoded.
struct Seen {
    head: HashMap<String, String>,
    start: String,
    body: Vec<u8>,
}

/// Starts a server that follows the turns, one request per connection, and returns what it received.
fn serve(turns: Vec<Turn>) -> (String, JoinHandle<Vec<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let serving = std::thread::spawn(move || {
        turns
            .into_iter()
            .map(|turn| {
                loop {
                    let (stream, _) = listener.accept().expect("a connection");
                    if let Some(seen) = answer(stream, turn) {
                        break seen;
                    }
                }
            })
            .collect()
    });
    (url, serving)
}

/// Returns the request, or `None` if it is not about rows.
fn answer(mut stream: TcpStream, turn: Turn) -> Option<Seen> {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let line = |reader: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    };
    let start = line(&mut reader);
    let mut head = HashMap::new();
    loop {
        let field = line(&mut reader);
        let Some((name, value)) = field.split_once(": ") else { break };
        head.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    if start == "GET /health HTTP/1.1" {
        // An old server does not report its disk.
        write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}")
            .expect("an answer");
        return None;
    }
    assert_eq!(head["transfer-encoding"], "chunked");
    // A large body is sent once the server wants it.
    assert_eq!(head["expect"], "100-continue");
    write!(stream, "HTTP/1.1 100 Continue\r\n\r\n").expect("the client waits");
    let mut coded = Vec::new();
    loop {
        let length = usize::from_str_radix(&line(&mut reader), 16).expect("a chunk's length");
        let start = coded.len();
        coded.resize(start + length, 0);
        reader.read_exact(&mut coded[start..]).expect("a chunk");
        assert_eq!(line(&mut reader), "");
        if length == 0 {
            break;
        }
    }
    let mut body = coded;
    if head.get("content-encoding").is_some_and(|coding| coding == "gzip") {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).expect("gzip");
        body = plain;
    }
    let rows = body.iter().filter(|byte| **byte == b'\n').count();
    let (status, text) = match turn {
        Turn::Hang => return Some(Seen { head, start, body }),
        Turn::Store => {
            let text = json!({"rows_received": rows, "rows_inserted": rows, "rows_duplicate": 0,
                "rows_failed": 0, "processing_time": 0.1, "errors": []});
            (200, text)
        }
        Turn::Fail => {
            let text = json!({"rows_received": rows, "rows_inserted": rows - 1, "rows_duplicate": 0,
                "rows_failed": 1, "errors": [{"line": 1, "code": "invalid_price"}]});
            (200, text)
        }
        Turn::Refuse(status) => (status, json!({"title": "No", "detail": "not now, not ever"})),
    };
    let text = text.to_string();
    write!(
        stream,
        "HTTP/1.1 {status} Whatever\r\nRetry-After: 0\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )
    .expect("an answer");
    Some(Seen { head, start, body })
}

fn post(flags: &str, turns: Vec<Turn>) -> (Output, Vec<Seen>) {
    let (url, serving) = serve(turns);
    let output = generate(&format!("{ORDERS} --post {url} {flags}"));
    let seen = serving.join().expect("the server's thread");
    (output, seen)
}

#[test]
fn posting_tries_again_under_the_same_key_and_sends_the_orders_of_the_file() {
    let turns = vec![
        Turn::Store,
        Turn::Refuse(503),
        Turn::Hang,
        Turn::Refuse(409),
        Turn::Store,
        Turn::Refuse(429),
        Turn::Store,
    ];
    let (output, seen) = post("--chunk 400 --key secret-1", turns);
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output)
            .contains("3 chunks, 4 retries: 1000 orders sent, 1000 inserted, 0 duplicates, 0 failed"),
        "{}",
        said(&output)
    );
    let mut keys = Vec::new();
    for request in &seen {
        assert_eq!(request.start, "POST /api/v1/ingest/orders/ HTTP/1.1");
        assert_eq!(request.head["content-type"], "application/x-ndjson");
        assert_eq!(request.head["authorization"], "Bearer secret-1");
        keys.push(request.head["idempotency-key"].as_str());
    }
    let stem = keys[0].strip_suffix("-1").expect("the first chunk");
    assert!(stem.starts_with("gen-1-") && stem.len() == "gen-1-".len() + 16, "{stem}");
    let numbers = keys.iter().map(|key| key[stem.len() + 1..].to_owned()).collect::<Vec<_>>();
    assert_eq!(numbers, ["1", "2", "2", "2", "2", "3", "3"]);
    assert!(seen[1].body == seen[4].body, "a second try has the same bytes");
    let sent: Vec<u8> = [0, 4, 6].iter().flat_map(|at: &usize| seen[*at].body.clone()).collect();
    let dir = generated(ORDERS);
    assert!(sent == fs::read(dir.path().join("orders.ndjson")).expect("the orders"));
}

#[test]
fn posting_packed_sends_the_same_orders_under_other_keys() {
    let (plain, plain_seen) = post("", vec![Turn::Store]);
    let (packed, packed_seen) = post("--gzip", vec![Turn::Store]);
    assert!(plain.status.success() && packed.status.success());
    assert_eq!(packed_seen[0].head["content-encoding"], "gzip");
    assert!(plain_seen[0].body == packed_seen[0].body);
    assert_ne!(plain_seen[0].head["idempotency-key"], packed_seen[0].head["idempotency-key"]);
    assert!(!plain_seen[0].head.contains_key("authorization"));
}

#[test]
fn failed_rows_and_refusals_fail_the_command_and_say_why() {
    let (output, _) = post("--chunk 500", vec![Turn::Fail, Turn::Store]);
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(text.contains("999 inserted, 0 duplicates, 1 failed"), "{text}");
    assert!(text.contains("1 of 1000 orders failed") && text.contains("invalid_price"), "{text}");

    let (output, seen) = post("", vec![Turn::Refuse(403)]);
    assert_eq!((output.status.code(), seen.len()), (Some(1), 1));
    assert!(said(&output).contains("status 403: not now, not ever"), "{}", said(&output));

    let (output, seen) = post("", (0..10).map(|_| Turn::Refuse(503)).collect());
    assert_eq!((output.status.code(), seen.len()), (Some(1), 10));
    assert!(said(&output).contains("gave up after 10 attempts"), "{}", said(&output));
}
