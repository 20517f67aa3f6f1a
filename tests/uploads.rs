//! Resumable uploads by tus 1.0.0: the protocol header by header, connections that are cut and servers that are
//! killed at any byte, and in the end every order once and a summary that is the file's.

mod support;
mod tus;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use firehose::base::clock;
use serde_json::json;
use sha1::Digest as _;
use support::{Answer, Chance, Folder, Server, cpus, wait_for, wait_until};
use tus::{PIECE, Packing, TUS, UPLOADS, Upload, ask, check_stored, offset_of, orders};

const TWO: &[&str] = &["--shards", "2"];

fn serve(folder: &Folder, flags: &[&str]) -> Server {
    folder.serve(&[TWO, &["--cores", &cpus(2)], flags].concat())
}

#[track_caller]
fn assert_problem(answer: &Answer, status: u16, slug: &str) {
    assert_eq!(answer.status, status, "{answer:?} {}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.json()["type"], format!("/docs/problems/{slug}"));
    assert_eq!(answer.header("tus-resumable"), Some("1.0.0"), "{answer:?}");
}

#[test]
fn an_upload_in_pieces_is_stored_and_summed_up() {
    let folder = Folder::new();
    let server = serve(&folder, &[]);
    let (lines, expected) = orders(2_000);
    let mut client = server.client();
    let metadata = format!("Upload-Metadata: filename {},is_confidential", STANDARD.encode("orders.ndjson"));
    let upload = Upload::create(&mut client, lines.len(), &[&metadata]);
    assert!(upload.path.starts_with(&format!("{UPLOADS}/")), "{}", upload.path);
    let mut at = 0;
    // Pieces end in the middle of lines.
    for piece in lines.chunks(lines.len() / 7 + 1) {
        let answer = upload.patch(&mut client, at, &[], piece).expect("it answers");
        assert_eq!(answer.status, 204, "{answer:?}");
        at += piece.len();
        assert_eq!(offset_of(&answer), at);
        assert_eq!(answer.header("upload-expires").is_some(), at < lines.len());
        let looked = upload.head(&mut client).expect("it answers");
        assert_eq!((looked.status, offset_of(&looked)), (200, at));
        assert_eq!(looked.header("upload-length"), Some(lines.len().to_string().as_str()));
        assert_eq!(looked.header("cache-control"), Some("no-store"));
        assert_eq!(looked.header("upload-metadata"), metadata.strip_prefix("Upload-Metadata: "));
        if at < lines.len() {
            let summary = upload.summary(&server);
            assert_eq!((&summary["state"], &summary["offset"]), (&json!("receiving"), &json!(at)));
            // What is reported is stored.
            let committed = summary["rows_committed"].as_u64().expect("a count");
            assert!(committed > 0 && committed < expected.inserted, "{summary}");
            let stored = tus::stored(&folder.data()).len() as u64;
            assert_eq!(stored, summary["rows_inserted"].as_u64().expect("a count"));
        }
    }
    expected.check(&upload.summary(&server), lines.len());
    assert_eq!(upload.summary(&server)["idempotency_key"], upload.id());
    // A client that lost the last answer finds that there is nothing left to do.
    let again = upload.patch(&mut client, lines.len(), &[], b"").expect("it answers");
    assert_eq!((again.status, offset_of(&again)), (204, lines.len()));
    let folder_of = folder.data().join("uploads").join(upload.id());
    assert!(folder_of.join("info.json").exists() && !folder_of.join("body").exists());
    server.stop();
    check_stored(&folder.data(), 2_000);
    let (code, said) = folder.run_json(&["verify", "--aggregates"]);
    assert_eq!(code, 0, "{said}");
    let server = serve(&folder, &[]);
    expected.check(&upload.summary(&server), lines.len());
}
