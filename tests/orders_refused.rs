//! An ingest that stores nothing is refused with advice on what to send instead, and its key accepts the corrected
//! file. Parts of a form or an archive that were not read are named. Data that is packed twice is unpacked within the
//! limits of data that is packed once.

use crate::support::Folder;
use crate::support::commerce::{NDJSON, counts, ingest, ingested, problem, search_all};
use crate::support::oracle;
use crate::support::packing::{gzip, orders, zip, zstd};
use serde_json::{Value, json};

const MULTIPART: &str = "Content-Type: multipart/form-data; boundary=b\r\n";

/// Returns a form of parts, each with the text after `form-data`.
fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (disposition, bytes) in parts {
        body.extend_from_slice(
            format!("--b\r\nContent-Disposition: form-data{disposition}\r\n\r\n").as_bytes(),
        );
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b--\r\n");
    body
}

fn names(said: &Value) -> Vec<&str> {
    let skipped = said["skipped"].as_array().expect("what was skipped");
    skipped
        .iter()
        .map(|part| {
            assert!(part["reason"].as_str().is_some_and(|reason| reason.len() > 5), "{part}");
            part["name"].as_str().expect("a name")
        })
        .collect()
}

/// Name, headers, body, lines received, words of the advice, names of the skipped parts.
type Case = (&'static str, &'static str, Vec<u8>, u64, &'static str, Vec<&'static str>);

#[test]
fn a_body_without_an_order_is_refused_with_advice_and_leaves_its_key_free() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2"]);
    let sent = orders("acme", 40);
    let file = oracle::body(&sent);
    let pretty = {
        let list: Vec<Value> =
            sent.iter().map(|order| serde_json::from_str(&order.line()).expect("JSON")).collect();
        serde_json::to_string_pretty(&list).expect("JSON").into_bytes()
    };
    let array = format!(
        "[{}]\n",
        sent.iter().map(|order| order.line()).collect::<Vec<_>>().join(",").replace('\n', "")
    );
    let csv: &[u8] = b"order_id,tenant_id,status\n1,acme,paid\n2,acme,paid\n";
    let cases: Vec<Case> = vec![
        ("empty", NDJSON, vec![], 0, "no line", vec![]),
        ("blank", NDJSON, b"\n \r\n\n".to_vec(), 0, "no line", vec![]),
        ("gzip of nothing", "", gzip(b""), 0, "no line", vec![]),
        ("csv", "Content-Type: text/plain\r\n", csv.to_vec(), 3, "CSV", vec![]),
        ("pretty", "Content-Type: application/json\r\n", pretty, u64::MAX, "jq -c '.[]'", vec![]),
        ("array", "Content-Type: application/json\r\n", array.into_bytes(), 1, "jq -c '.[]'", vec![]),
        ("wrong", NDJSON, b"{\"order_id\":\"a\"}\n{}\n".to_vec(), 2, "none of the 2 lines", vec![]),
        ("field", MULTIPART, form(&[("; name=\"orders\"", &file)]), 0, "orders was skipped", vec!["orders"]),
        ("nameless", MULTIPART, form(&[("", &file)]), 0, "part 1 was skipped", vec!["part 1"]),
        ("csv in a zip", "", zip(&[("orders.csv", csv)]), 0, "orders.csv was skipped", vec!["orders.csv"]),
        ("no file", MULTIPART, form(&[]), 0, "no line", vec![]),
    ];
    for (what, headers, body, rows, advice, skipped) in cases {
        let key = format!("key-{}", what.replace(' ', "-"));
        for _ in 0..2 {
            let answer = ingest(server.address, &key, headers, &body).expect("the server answers");
            let said = problem(&answer, 422, "no-orders");
            let [received, inserted, duplicate, failed] = counts(&said);
            assert_eq!((inserted, duplicate, failed), (0, 0, received), "{what}: {said}");
            assert!(received == rows || rows == u64::MAX, "{what}: {said}");
            assert!(said["detail"].as_str().expect("a detail").contains(advice), "{what}: {said}");
            assert_eq!(
                said["errors"].as_array().expect("errors").len() as u64,
                received.min(1_000),
                "{what}"
            );
            assert_eq!(names(&said), skipped, "{what}");
        }
        // The corrected file, with the same key.
        let said = ingested(&server, &key, &file);
        assert_eq!(counts(&said)[3], 0, "{what}: {said}");
        assert_eq!(said["skipped"], json!([]), "{what}");
    }
    assert!(search_all(&server, "acme", "limit=1000") == oracle::rows(&sent));
    // An ingest of nothing but duplicates is not refused.
    assert_eq!(counts(&ingested(&server, "again", &file)), [40, 0, 40, 0]);
    server.stop();
}

#[test]
fn what_was_passed_over_stands_in_the_summary_and_in_its_replay() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1"]);
    let file = oracle::body(&orders("acme", 20));
    let archive = zip(&[("a.ndjson", &file), ("README.txt", b"hello"), ("__MACOSX/._a.ndjson", b"x")]);
    let body = form(&[
        ("; name=\"note\"", b"a text field"),
        ("; name=\"file\"; filename*=UTF-8''orders%20%C3%BC.ndjson", &file),
        ("; name=\"zip\"; filename=\"a.zip\"", &archive),
    ]);
    for replayed in [None, Some("true")] {
        let answer = ingest(server.address, "k", MULTIPART, &body).expect("the server answers");
        assert_eq!((answer.status, answer.header("Idempotent-Replayed")), (200, replayed), "{answer:?}");
        let said = answer.json();
        assert_eq!(counts(&said), [40, 20, 20, 0], "a part with filename* is a file: {said}");
        assert_eq!(names(&said), ["note", "README.txt", "__MACOSX/._a.ndjson"]);
        assert_eq!(said["skipped_truncated"], false);
    }
    let many: Vec<(String, &[u8])> = (0..150).map(|at| (format!("{at}.txt"), &b"x"[..])).collect();
    let many: Vec<(&str, &[u8])> =
        many.iter().map(|(name, bytes)| (name.as_str(), *bytes)).chain([("a.ndjson", &file[..])]).collect();
    let answer = ingest(server.address, "many", "", &zip(&many)).expect("the server answers");
    assert_eq!((names(&answer.json()).len(), &answer.json()["skipped_truncated"]), (100, &json!(true)));
    server.stop();
}

#[test]
fn what_is_packed_twice_is_unpacked_and_what_is_packed_three_times_is_refused() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2"]);
    let coded = format!("{NDJSON}Content-Encoding: gzip\r\n");
    type Pack<'p> = &'p dyn Fn(&[u8]) -> Vec<u8>;
    let twice: [(&str, &str, Pack<'_>); 7] = [
        ("gzip in gzip", "", &|file| gzip(&gzip(file))),
        ("a packed file with a coding", &coded, &|file| gzip(&gzip(file))),
        ("an archive with a coding", &coded, &|file| gzip(&zip(&[("a.ndjson", file), ("b.txt", b"no")]))),
        ("zstd in gzip", "", &|file| gzip(&zstd(file))),
        ("packed entries", "", &|file| {
            let at = file.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
            zip(&[("a.ndjson.gz", &gzip(&file[..at])), ("B.JSONL.ZST", &zstd(&file[at..]))])
        }),
        ("a packed entry by another name", "", &|file| zip(&[("a.ndjson", &gzip(file)), ("b.json", b"")])),
        ("a packed part", MULTIPART, &|file| form(&[("; filename=a", &gzip(&zstd(file)))])),
    ];
    for (what, headers, pack) in twice {
        let tenant = what.replace(' ', "-");
        let sent = orders(&tenant, 300);
        let answer =
            ingest(server.address, &tenant, headers, &pack(&oracle::body(&sent))).expect("an answer");
        assert_eq!(answer.status, 200, "{what}: {}", String::from_utf8_lossy(&answer.body));
        assert_eq!(counts(&answer.json()), [300, 300, 0, 0], "{what}");
        assert!(search_all(&server, &tenant, "limit=1000") == oracle::rows(&sent), "{what}: other rows");
    }
    let file = oracle::body(&orders("acme", 10));
    for (what, body) in
        [("gzip", gzip(&gzip(&gzip(&file)))), ("an archive", gzip(&zip(&[("a.ndjson.gz", &gzip(&file))])))]
    {
        let answer = ingest(server.address, "k", "", &body).expect("the server answers");
        let said = problem(&answer, 415, "unsupported-media-type");
        assert!(
            said["detail"].as_str().expect("a detail").contains("more than two levels of compression"),
            "{what}: {said}"
        );
    }
    // Several codings in the head are refused before the body is read.
    for coding in ["gzip, gzip", "deflate"] {
        let headers = format!("{NDJSON}Content-Encoding: {coding}\r\n");
        let answer = ingest(server.address, "k", &headers, &gzip(&file)).expect("the server answers");
        problem(&answer, 415, "unsupported-media-type");
    }
    // A bomb in a bomb is refused like a single one.
    let zeros = gzip(&vec![0; 100 << 20]);
    let bomb = gzip(&std::iter::repeat_n(zeros, 100).collect::<Vec<_>>().concat());
    problem(&ingest(server.address, "k", "", &bomb).expect("an answer"), 413, "payload-too-large");
    server.stop();
}

#[test]
fn a_form_whose_part_has_no_end_of_its_head_is_refused_while_it_comes() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1"]);
    let heads = [&b"no boundary"[..], b"--b\r\nContent-Disposition: form-data; filename=\""];
    for head in heads {
        let mut client = server.client();
        let request = format!(
            "POST /api/v1/ingest/orders HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: k\r\n{MULTIPART}\
             Transfer-Encoding: chunked\r\n\r\n{:x}\r\n",
            2 << 20
        );
        client.write(request.as_bytes()).expect("the server takes it");
        client.write(head).expect("the server takes it");
        // The server may already have refused the request with a reset.
        let _ = client.write(&vec![b'a'; 1 << 20]);
        let said = problem(&client.answer().expect("the server answers"), 400, "damaged-upload");
        let detail = said["detail"].as_str().expect("a detail");
        assert!(detail.contains("the head of a part exceeds"), "{said}");
    }
    // Bytes after the form do not belong to any part.
    let file = oracle::body(&orders("acme", 20));
    let body = [form(&[("; filename=a", &file)]), vec![b'a'; 1 << 20]].concat();
    let answer = ingest(server.address, "k", MULTIPART, &body).expect("the server answers");
    assert_eq!((answer.status, counts(&answer.json())), (200, [20, 20, 0, 0]));
    server.stop();
}
