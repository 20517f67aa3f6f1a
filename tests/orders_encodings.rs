//! The result of an ingest does not depend on how its orders are packed. A body that is too large, cut short or
//! invalid is refused with the counts of the orders stored so far, and costs the server nothing.

use std::fs;
use std::time::Duration;

use crate::support::commerce::{NDJSON, counts, ingest, ingest_head, ingested, problem, search_all, verify};
use crate::support::oracle::{self, Order};
use crate::support::packing::{gzip, orders, zip, zstd};
use crate::support::{Client, Folder, Server, cpus};
use firehose::base::clock;
use serde_json::{Value, json};

const ORDERS: u64 = 600;
const MULTIPART: &str = "Content-Type: multipart/form-data; boundary=\"a b'c\"\r\n";

/// Returns a form that contains these files and a field that is not a file.
fn form(files: &[&[u8]]) -> Vec<u8> {
    let mut body = b"--a b'c\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nnot orders\n".to_vec();
    for (at, file) in files.iter().enumerate() {
        let head = format!(
            "\r\n--a b'c\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{at}.ndjson\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(file);
    }
    body.extend_from_slice(b"\r\n--a b'c--\r\nan epilogue");
    body
}

fn chunked(client: &mut Client, key: &str, body: &[u8], step: usize) {
    let head = format!(
        "POST /api/v1/ingest/orders HTTP/1.1\r\nHost: test\r\nIdempotency-Key: {key}\r\n{NDJSON}Transfer-Encoding: chunked\r\n\r\n"
    );
    client.write(head.as_bytes()).expect("the server takes it");
    for chunk in body.chunks(step) {
        let framed = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
        client.write(&framed).expect("the server takes it");
    }
    client.write(b"0\r\n\r\n").expect("the server takes it");
}

#[test]
fn every_packing_brings_the_same_orders() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
    let halves = |file: &[u8]| {
        let at = file.iter().take(file.len() / 2).rposition(|byte| *byte == b'\n').expect("a line end") + 1;
        (file[..at].to_vec(), file[at..].to_vec())
    };
    type Pack<'p> = &'p dyn Fn(&[u8]) -> Vec<u8>;
    let type_of = |name: &str| format!("Content-Type: {name}\r\n");
    let cases: [(&str, String, Pack<'_>); 14] = [
        ("plain", NDJSON.to_owned(), &|file| file.to_vec()),
        ("plain bytes", type_of("application/octet-stream"), &|file| file.to_vec()),
        ("no type", String::new(), &|file| file.to_vec()),
        ("no last line end", NDJSON.to_owned(), &|file| file[..file.len() - 1].to_vec()),
        ("CR LF and blanks", NDJSON.to_owned(), &|file| {
            String::from_utf8_lossy(file).replace('\n', "\r\n\r\n").into_bytes()
        }),
        ("gzip", type_of("application/gzip"), &gzip),
        ("gzip as a coding", format!("{NDJSON}Content-Encoding: gzip\r\n"), &gzip),
        ("gzip members", type_of("application/octet-stream"), &|file| {
            // Cut anywhere, also within a line.
            file.chunks(10_007).map(gzip).collect::<Vec<_>>().concat()
        }),
        ("zstd", type_of("application/octet-stream"), &zstd),
        ("zstd frames", type_of("application/zstd"), &|file| {
            file.chunks(10_007).map(zstd).collect::<Vec<_>>().concat()
        }),
        ("zip", type_of("application/zip"), &|file| {
            let (first, second) = halves(file);
            zip(&[
                ("a/1.ndjson", &first),
                ("README.txt", b"{\"no\":\"order\"}\n"),
                ("a/2.ndjson", &second),
                ("empty.ndjson", b""),
            ])
        }),
        ("a form", MULTIPART.to_owned(), &|file| {
            let (first, second) = halves(file);
            form(&[&first, &second])
        }),
        ("a packed form", MULTIPART.to_owned(), &|file| {
            let (first, second) = halves(file);
            form(&[&gzip(&first), &zip(&[("2.ndjson", &second)])])
        }),
        ("a form without its last line end", MULTIPART.to_owned(), &|file| {
            let (first, second) = halves(file);
            form(&[&first[..first.len() - 1], &zstd(&second)])
        }),
    ];
    for (tenant, headers, pack) in cases {
        let sent = orders(tenant, ORDERS);
        let key = tenant.replace(' ', "-");
        let answer = ingest(server.address, &key, &headers, &pack(&oracle::body(&sent))).expect("an answer");
        assert_eq!(answer.status, 200, "{tenant}: {}", String::from_utf8_lossy(&answer.body));
        assert_eq!(counts(&answer.json()), [ORDERS, ORDERS, 0, 0], "{tenant}");
        assert!(search_all(&server, tenant, "limit=1000") == oracle::rows(&sent), "{tenant}: other rows");
    }
    // The chunks of HTTP do not affect the result.
    let sent = orders("chunked", ORDERS);
    for (key, step) in [("all", 1 << 20), ("large", 9_001), ("small", 61)] {
        let mut client = server.client();
        chunked(&mut client, key, &oracle::body(&sent), step);
        let said = client.answer().expect("the server answers").json();
        assert_eq!(counts(&said)[0], ORDERS, "{said}");
        assert_eq!(counts(&said)[usize::from(key != "all") + 1], ORDERS, "{said}");
        assert_eq!(client.get("/health").expect("the connection goes on").status, 200);
    }
    assert!(search_all(&server, "chunked", "limit=1000") == oracle::rows(&sent));
    let mut client = server.client();
    let body = oracle::body(&sent);
    client
        .write(ingest_head("expect", &format!("{NDJSON}Expect: 100-continue\r\n"), body.len()).as_bytes())
        .expect("taken");
    assert_eq!(client.answer().expect("the server asks for the body").status, 100);
    client.write(&body).expect("the server takes it");
    assert_eq!(counts(&client.answer().expect("the server answers").json()), [ORDERS, 0, ORDERS, 0]);
    let answer = ingest(server.address, "empty", NDJSON, b"").expect("the server answers");
    assert_eq!(counts(&problem(&answer, 422, "no-orders")), [0; 4]);
    server.stop();
    verify(&folder);
}

/// Returns the peak of the resident memory, in bytes.
fn peak_bytes(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
}

#[test]
fn u1_a_bomb_is_refused_and_memory_stays_flat() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1"]);
    let good = orders("acme", 50);
    let file = oracle::body(&good);
    assert_eq!(counts(&ingested(&server, "before", &file)), [50, 50, 0, 0]);
    let before = peak_bytes(&server);
    // 10 GB of zeros each, after valid lines where the format allows it.
    let zeros = vec![0; 100_000_000];
    let again = |packed: Vec<u8>| std::iter::repeat_n(packed, 100).collect::<Vec<_>>().concat();
    let (gzips, zstds) = (again(gzip(&zeros)), again(zstd(&zeros)));
    let one_entry = zip(&[("bomb.ndjson", &zeros)]);
    let bombs = [
        ("gzip", "", [gzip(&file), gzips.clone()].concat()),
        ("zstd", "", [zstd(&file), zstds].concat()),
        ("zip", "", one_entry),
        ("form", MULTIPART, form(&[&file, &gzips])),
    ];
    for (key, headers, bomb) in &bombs {
        let answer = ingest(server.address, key, headers, bomb).expect("the server answers");
        let said = problem(&answer, 413, "payload-too-large");
        assert_eq!(answer.header("Connection"), Some("close"), "{key}");
        // The lines before the zeros were accepted and are counted. The zeros are at most one line, which is too long.
        let wanted = if *key == "zip" { 0 } else { 50 };
        assert_eq!(said["rows_duplicate"], wanted, "{key}: {said}");
    }
    let grown = peak_bytes(&server).saturating_sub(before);
    assert!(grown < 48 << 20, "memory grew by {grown} bytes");
    assert_eq!(search_all(&server, "acme", "").len(), 50);
    server.stop();
}

#[test]
fn u1_a_damaged_upload_says_how_far_it_came_and_can_be_sent_again() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2"]);
    let count = 3_000;
    let file = oracle::body(&orders("acme", count));
    let whole = gzip(&file);
    let middle = whole.len() / 2;
    let short = whole[..middle].to_vec();
    let (mut last, mut inserted_before) = (0, 0);
    let cases = [
        ("cut short", "", short.clone()),
        ("a cut form", MULTIPART, form(&[&short])),
        ("a form without an end", MULTIPART, form(&[&file])[..file.len()].to_vec()),
        ("a cut zip", "", zip(&[("a.ndjson", &file)])[..middle].to_vec()),
    ];
    for (what, headers, body) in cases {
        let answer = ingest(server.address, "k", headers, &body).expect("the server answers");
        let said = problem(&answer, 400, "damaged-upload");
        let [received, inserted, duplicate, failed] = counts(&said);
        assert!(received > 0 && received < count && failed <= 1, "{what}: {said}");
        // All attempts have the same key, so rows of an earlier attempt are recognised as the ingest's own.
        assert_eq!((inserted, duplicate), (received - failed, 0), "{what}: {said}");
        (last, inserted_before) = (received, inserted_before.max(inserted));
    }
    assert!(last > 0);
    let stored = search_all(&server, "acme", "limit=5000&fields=order_id").len() as u64;
    assert_eq!(stored, inserted_before);
    assert_eq!(counts(&ingested(&server, "k", &file)), [count, count, 0, 0]);

    // A flipped bit in the middle: the text after it is different, until the checksum shows the damage.
    let mut broken = gzip(&oracle::body(&orders("beta", count)));
    broken[middle] ^= 0x10;
    let answer = ingest(server.address, "b", "", &broken).expect("the server answers");
    let said = problem(&answer, 400, "damaged-upload");
    let [received, inserted, duplicate, failed] = counts(&said);
    assert!(received > 0 && inserted + duplicate + failed == received, "{said}");

    // A body that ends before its declared length: half of a plain file.
    let mut client = server.client();
    client.write(ingest_head("half", NDJSON, file.len()).as_bytes()).expect("the server takes it");
    client.write(&file[..file.len() / 2]).expect("the server takes it");
    client.end().expect("our direction ends");
    let answer = client.answer().expect("the server answers");
    let said = problem(&answer, 400, "bad-request");
    assert!(counts(&said)[2] > 0, "{said}");

    for (headers, status, slug) in [
        ("Content-Type: image/png\r\n", 415, "unsupported-media-type"),
        ("Content-Type: multipart/form-data\r\n", 400, "damaged-upload"),
        ("Content-Encoding: br\r\n", 415, "unsupported-media-type"),
    ] {
        problem(&ingest(server.address, "x", headers, b"{}\n").expect("an answer"), status, slug);
    }
    server.stop();
    verify(&folder);
}

#[test]
fn a_broken_form_is_refused_before_it_has_come() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1"]);
    let mut broken = gzip(&oracle::body(&orders("acme", 200)));
    let end = broken.len();
    broken[end - 6] ^= 1;
    let body = form(&[&broken, b""]);
    let mut client = server.client();
    client
        .write(ingest_head("k", MULTIPART, body.len() + (1 << 30)).as_bytes())
        .expect("the server takes it");
    client.write(&body).expect("the server takes it");
    let said = problem(&client.answer().expect("an answer before the end"), 400, "damaged-upload");
    let [received, inserted, ..] = counts(&said);
    assert!(received > 100 && inserted == received, "{said}");
    server.stop();
}

#[test]
fn each_wrong_line_is_told_by_its_number_and_its_place() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2"]);
    let order = |id: u64| Order {
        currency: "USD".to_owned(),
        status: "paid".to_owned(),
        ..orders("acme", 20)[id as usize].clone()
    };
    let with = |id: u64, pointer: &str, value: Value| {
        let mut line: Value = serde_json::from_str(&order(id).line()).expect("JSON");
        *line.pointer_mut(pointer).expect("a place") = value;
        format!("{line}\n").into_bytes()
    };
    let without = |id: u64, name: &str| {
        let mut line: Value = serde_json::from_str(&order(id).line()).expect("JSON");
        line.as_object_mut().expect("an object").remove(name);
        format!("{line}\n").into_bytes()
    };
    let good = |id: u64| order(id).line().into_bytes();
    let line_bytes_max = firehose::unpack::Limits::default().line_bytes_max;
    let long = |bytes: usize| {
        let line = order(15).line();
        let padding = " ".repeat(bytes - line.len() + 1);
        format!("{}{padding}\n", line.trim_end()).into_bytes()
    };
    /// Code, pointer and order id of an invalid line's error.
    type Wrong = Option<(&'static str, &'static str, Option<u64>)>;
    let lines: Vec<(Vec<u8>, Wrong)> = vec![
        (good(0), None),
        (b"{\"order_id\":\n".to_vec(), Some(("not_json", "", None))),
        (
            with(1, "/items/0/unit_price", json!("1.999")),
            Some(("too_many_digits", "/items/0/unit_price", Some(1))),
        ),
        (without(2, "customer_id"), Some(("missing_field", "/customer_id", Some(2)))),
        (b"  \n".to_vec(), None),
        (with(3, "/status", json!("lost")), Some(("unknown_status", "/status", Some(3)))),
        (with(4, "/currency", json!("XYZ")), Some(("unknown_currency", "/currency", Some(4)))),
        (
            with(5, "/ordered_at", json!("2026-01-01T00:00:00")),
            Some(("invalid_timestamp", "/ordered_at", Some(5))),
        ),
        (with(6, "/items", json!([])), Some(("empty_items", "/items", Some(6)))),
        (good(0), None),
        (with(0, "/customer_id", json!("another")), Some(("conflict", "/order_id", Some(0)))),
        (b"[1,2]\n".to_vec(), Some(("not_an_object", "", None))),
        (b"\xff\xfe\n".to_vec(), Some(("not_utf8", "", None))),
        (long(line_bytes_max + 1), Some(("too_large", "", None))),
        (long(line_bytes_max), None),
        (
            with(7, "/customer_email", json!("no address")),
            Some(("invalid_email", "/customer_email", Some(7))),
        ),
        (with(8, "/items/0/quantity", json!(0)), Some(("out_of_range", "/items/0/quantity", Some(8)))),
        (with(9, "/tenant_id", json!(7)), Some(("invalid_type", "/tenant_id", Some(9)))),
        (good(10), None),
    ];
    let body: Vec<u8> = lines.iter().flat_map(|(line, _)| line.clone()).collect();
    let wrong = lines.iter().filter(|(_, wrong)| wrong.is_some()).count() as u64;
    let told: Vec<Value> = lines
        .iter()
        .zip(1_u64..)
        .filter_map(|((_, wrong), line)| {
            let (code, pointer, id) = wrong.as_ref()?;
            Some(json!({"line": line, "code": code, "pointer": pointer, "order_id": id.map(|id| format!("order-{id}"))}))
        })
        .collect();
    let shown = |said: &Value| -> Vec<Value> {
        let errors = said["errors"].as_array().expect("errors");
        errors
            .iter()
            .map(|error| {
                assert!(error["detail"].as_str().is_some_and(|text| text.len() > 5), "{error}");
                json!({"line": error["line"], "code": error["code"], "pointer": error["pointer"], "order_id": error["order_id"]})
            })
            .collect()
    };
    let said = ingested(&server, "k", &body);
    assert_eq!(shown(&said), told);
    // The conflict is counted as a duplicate.
    assert_eq!(counts(&said), [wrong + 4, 3, 2, wrong - 1]);
    // Lines are numbered across all files of an upload.
    let first = [good(0), good(10)].concat();
    let answer =
        ingest(server.address, "form", MULTIPART, &form(&[&first, &gzip(&body)])).expect("an answer");
    let moved: Vec<Value> = told
        .iter()
        .cloned()
        .map(|mut error| {
            error["line"] = json!(error["line"].as_u64().expect("a line") + 2);
            error
        })
        .collect();
    assert_eq!(shown(&answer.json()), moved);
    server.stop();
}

#[test]
fn rows_of_another_tenant_fail_one_by_one() {
    let folder = Folder::new();
    assert!(folder.run(&["tenant", "add", "acme"]).status.success());
    let (code, made) = folder.run_json(&["key", "create", "--tenant", "acme", "--scope", "manage"]);
    assert_eq!(code, 0, "{made}");
    let key = made["key"].as_str().expect("a key");
    let server = folder.serve(&["--shards", "2"]);
    let (own, other) = (orders("acme", 30), orders("beta", 30));
    let mixed: Vec<&Order> = own.iter().zip(&other).flat_map(|(one, two)| [one, two]).collect();
    let headers = format!("{NDJSON}Authorization: Bearer {key}\r\n");
    let answer = ingest(server.address, "k", &headers, &oracle::body(mixed)).expect("the server answers");
    let said = answer.json();
    assert_eq!(counts(&said), [60, 30, 0, 30], "{said}");
    for (at, error) in said["errors"].as_array().expect("errors").iter().enumerate() {
        assert_eq!(error["line"], 2 * at + 2);
        assert_eq!((&error["code"], &error["pointer"]), (&json!("wrong_tenant"), &json!("/tenant_id")));
    }
    let absent = ingest(server.address, "k", NDJSON, b"").expect("the server answers");
    assert_eq!(absent.status, 401);
    server.stop();
}

/// An upload has no time limit as a whole: the body's limit ends it only if it makes no progress.
#[test]
fn an_upload_may_take_long_but_not_stand_still() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1", "--body-timeout", "1s"]);
    let file = oracle::body(&orders("acme", 4_000));
    let mut client = server.client();
    client.write(ingest_head("slow", NDJSON, file.len()).as_bytes()).expect("the server takes it");
    let (first, rest) = file.split_at(file.len() / 2);
    client.write(first).expect("the server takes it");
    // Longer than the limit, but the bytes that have arrived extended it.
    clock::pause(Duration::from_millis(1_300));
    client.write(rest).expect("the server takes it");
    let said = client.answer().expect("the server answers").json();
    assert_eq!(counts(&said), [4_000, 4_000, 0, 0], "{said}");

    let mut client = server.client();
    client.write(ingest_head("still", NDJSON, file.len()).as_bytes()).expect("the server takes it");
    client.write(&file[..20_000]).expect("the server takes it");
    let said = problem(&client.answer().expect("the server answers"), 408, "request-timeout");
    assert!(counts(&said)[2] > 0, "{said}");
    server.stop();
}
