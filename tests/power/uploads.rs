//! W5: the rows that a reported `Upload-Offset` covers are stored, and the upload continues from there or later.

use std::io;

use super::After;
use super::orders::{ids, orders, stored_orders};
use super::quiet::{Way, quiet};
use crate::support::oracle::body;
use crate::support::{Answer, Client, Server};

pub(super) const UPLOADS: &str = "/api/v1/ingest/orders/uploads";
const ORDERS: usize = 40;

#[track_caller]
pub(super) fn ask(server: &Server, method: &str, target: &str, lines: &str, body: &[u8]) -> Answer {
    asked(&mut server.client(), method, target, lines, body).expect("the server answers")
}

pub(super) fn asked(
    client: &mut Client,
    method: &str,
    target: &str,
    lines: &str,
    body: &[u8],
) -> io::Result<Answer> {
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: test\r\nTus-Resumable: 1.0.0\r\n{lines}Content-Length: {}\r\n\r\n",
        body.len()
    );
    client.write(head.as_bytes()).and_then(|()| client.write(body))?;
    if method == "HEAD" { client.answer_head() } else { client.answer() }
}

/// Returns all lines of the upload.
pub(super) fn lines() -> Vec<u8> {
    body(&orders(0..ORDERS))
}

#[track_caller]
pub(super) fn create(server: &Server, query: &str) -> String {
    let length = format!("Upload-Length: {}\r\n", lines().len());
    let answer = ask(server, "POST", &format!("{UPLOADS}{query}"), &length, b"");
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.header("location").expect("a location").to_owned()
}

/// Sends the bytes up to `end` and returns the offset that is reported then.
#[track_caller]
pub(super) fn send(server: &Server, upload: &str, query: &str, from: usize, end: usize) -> usize {
    let head = format!("Content-Type: application/offset+octet-stream\r\nUpload-Offset: {from}\r\n");
    let path = upload.split('?').next().unwrap_or(upload);
    let answer = ask(server, "PATCH", &format!("{path}{query}"), &head, &lines()[from..end]);
    assert_eq!(answer.status, 204, "{answer:?} {}", String::from_utf8_lossy(&answer.body));
    offset(&answer)
}

#[track_caller]
pub(super) fn offset(answer: &Answer) -> usize {
    let offset = answer.header("upload-offset").unwrap_or_else(|| panic!("no offset in {answer:?}"));
    offset.parse().expect("a number")
}

/// Checks that the upload exists, that the rows of at least `reported` bytes are stored, and that the rest completes
/// it.
#[track_caller]
fn check(after: &After, upload: &str, reported: usize) {
    after.server.wait_until_stored();
    let whole = lines()[..reported].iter().filter(|byte| **byte == b'\n').count();
    let stored = stored_orders(after);
    let missing: Vec<_> = ids(&orders(0..whole)).into_iter().filter(|id| !stored.contains(id)).collect();
    assert!(
        missing.is_empty(),
        "{reported} bytes were reported, and of {whole} orders are missing: {missing:?}"
    );
    let head = ask(&after.server, "HEAD", upload, "", b"");
    assert_eq!(head.status, 200, "{head:?}");
    let from = offset(&head);
    assert!(from >= reported, "{reported} bytes were reported, and {from} are there");
    if from < lines().len() {
        assert_eq!(send(&after.server, upload, "", from, lines().len()), lines().len());
    }
    let summary = after.server.get(upload).json();
    assert_eq!((&summary["state"], &summary["rows_failed"]), (&"finished".into(), &0.into()), "{summary}");
    after.server.wait_until_stored();
    assert_eq!(stored_orders(after), ids(&orders(0..ORDERS)));
}

#[test]
fn w5_an_upload_that_was_created() {
    quiet(|_| {}, |server, way, ()| create(server, way.query), |after, upload| check(after, upload, 0));
}

#[test]
fn w5_a_piece_of_an_upload() {
    let half = lines().len() / 2;
    quiet(
        |_| {},
        |server, Way { query, .. }, ()| {
            let upload = create(server, query);
            let reported = send(server, &upload, query, 0, half);
            (upload, reported)
        },
        |after, (upload, reported)| check(after, upload, *reported),
    );
}

#[test]
fn w5_an_upload_of_several_pieces_that_finished() {
    let length = lines().len();
    quiet(
        |_| {},
        |server, Way { query, .. }, ()| {
            let upload = create(server, query);
            let mut from = 0;
            for end in [length / 3, length / 2, length] {
                from = send(server, &upload, query, from, end);
            }
            (upload, from)
        },
        |after, (upload, reported)| check(after, upload, *reported),
    );
}

/// The first piece has long been on the disk.
#[test]
fn w5_an_upload_that_was_resumed() {
    let length = lines().len();
    quiet(
        |server| {
            let upload = create(server, "");
            send(server, &upload, "", 0, length / 3);
            upload
        },
        |server, Way { query, .. }, upload| {
            let from = offset(&ask(server, "HEAD", upload, "", b""));
            let reported = send(server, upload, query, from, length / 2);
            (upload.clone(), reported)
        },
        |after, (upload, reported)| check(after, upload, *reported),
    );
}
