//! Ranges of a file and conditional requests, as RFC 9110 defines them.

use super::*;
use crate::support::Folder;

#[test]
fn a_part_is_the_part_that_was_asked_for() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2"]);
    ingest(&server, &orders("t", 300, &mut Chance::seeded(3)));
    let export = done(&server, &begin(&server, "t", &json!({"format": "csv"})));
    let whole = download(&server, &export);
    let size = whole.len();
    let get = |headers: &str| {
        let mut reading = Reading::begin(&server, &export, headers);
        let body = reading.rest().expect("a clean end");
        (reading, body)
    };
    let (reading, _) = get("");
    let etag = reading.header("etag").expect("a validator").to_owned();
    assert!(etag.starts_with('"'), "a strong one");
    assert_eq!(reading.header("accept-ranges"), Some("bytes"));
    assert_eq!(reading.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    let named = reading.header("content-disposition").expect("a name").to_owned();
    assert!(named.starts_with("attachment; filename=\"orders-") && named.ends_with(".csv\""), "{named}");
    let digest = reading.header("repr-digest").expect("a digest").to_owned();
    assert!(digest.starts_with("sha-256=:") && digest.ends_with(":"), "{digest}");
    for (headers, status, from, to) in [
        ("Range: bytes=0-0\r\n".to_owned(), 206, 0, 1),
        ("Range: bytes=10-19\r\n".to_owned(), 206, 10, 20),
        (format!("Range: bytes={}-\r\n", size - 5), 206, size - 5, size),
        ("Range: bytes=-7\r\n".to_owned(), 206, size - 7, size),
        (format!("Range: bytes=5-{}\r\n", size * 2), 206, 5, size),
        (format!("Range: bytes=0-\r\nIf-Range: {etag}\r\n"), 206, 0, size),
        ("Range: bytes=10-19\r\nIf-Range: \"other\"\r\n".to_owned(), 200, 0, size),
        (format!("Range: bytes=10-19\r\nIf-Range: W/{etag}\r\n"), 200, 0, size),
        ("Range: bytes=0-1,4-5\r\n".to_owned(), 200, 0, size),
        ("Range: bytes=9-1\r\n".to_owned(), 200, 0, size),
        ("Range: rows=0-1\r\n".to_owned(), 200, 0, size),
        ("If-None-Match: \"other\"\r\n".to_owned(), 200, 0, size),
        (format!("If-Match: {etag}\r\n"), 200, 0, size),
    ] {
        let (reading, body) = get(&headers);
        assert_eq!((reading.status, &body[..]), (status, &whole[from..to]), "{headers}");
        assert_eq!(reading.header("repr-digest"), Some(digest.as_str()), "{headers}: of the whole file");
        let range = (status == 206).then(|| format!("bytes {from}-{}/{size}", to - 1));
        assert_eq!(reading.header("content-range"), range.as_deref(), "{headers}");
    }
    for (headers, status) in [
        (format!("Range: bytes={size}-\r\n"), 416),
        ("Range: bytes=-0\r\n".to_owned(), 416),
        (format!("If-None-Match: \"x\", W/{etag}\r\n"), 304),
        ("If-None-Match: *\r\n".to_owned(), 304),
        ("If-Match: \"other\"\r\n".to_owned(), 412),
    ] {
        let (reading, body) = get(&headers);
        assert_eq!(reading.status, status, "{headers}");
        let range = (status == 416).then(|| format!("bytes */{size}"));
        assert_eq!(reading.header("content-range"), range.as_deref());
        assert_eq!(body.is_empty(), status == 304);
    }
    let mut client = server.client();
    let target = export["download_url"].as_str().expect("a path");
    client
        .write(format!("HEAD {target} HTTP/1.1\r\nHost: t\r\nRange: bytes=0-1\r\n\r\n").as_bytes())
        .expect("sent");
    let head = client.answer_head().expect("a head");
    assert_eq!(head.status, 200, "a range is for GET");
    assert_eq!(head.header("content-length"), Some(size.to_string().as_str()));
    assert_eq!(
        (head.header("etag"), head.header("repr-digest")),
        (Some(etag.as_str()), Some(digest.as_str()))
    );
    assert_eq!(client.get(target).expect("the connection goes on").body, whole);
    server.stop();
}
