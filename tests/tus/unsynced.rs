//! W5 after a power cut: bytes of an upload that nothing confirms are not trusted, and a broken upload delays no
//! other.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use serde_json::json;

use super::{PIECE, TUS, Upload, ask, head};
use crate::support::commerce::{ingested, lines, search_all, upload_folder};
use crate::support::{Answer, Folder, wait_for};

fn uploads(folder: &Folder) -> usize {
    fs::read_dir(folder.data().join("uploads")).map_or(0, Iterator::count)
}

fn offset(answer: &Answer) -> usize {
    answer.header("upload-offset").and_then(|offset| offset.parse().ok()).expect("an offset")
}

#[test]
fn w5_the_unsynced_end_of_an_upload_is_not_trusted_after_a_start() {
    let folder = Folder::new();
    let mut server = folder.serve(&[]);
    let file = lines(0..100);
    let (first, second) = (8_000, 24_000);
    assert!(file.len() > second);
    let mut client = server.client();
    let upload = Upload::create(&mut client, file.len(), &[]);
    let body = upload_folder(&folder).join("body");
    let sent =
        ask(&mut client, "PATCH", &upload.path, &[TUS, PIECE, "Upload-Offset: 0"], &file.as_bytes()[..first]);
    assert_eq!(sent.expect("the server answers").status, 204);
    // A longer piece that arrives only in part.
    let lines = [TUS, PIECE, &format!("Upload-Offset: {first}")];
    client.write(&head("PATCH", &upload.path, &lines, file.len() - first)).expect("it is taken");
    client.write(&file.as_bytes()[first..second]).expect("it is taken");
    wait_for("the bytes to arrive", || (fs::metadata(&body).ok()?.len() == second as u64).then_some(()));
    server.replace(|| {
        // The length is on the disk, the bytes are not.
        let file = File::options().write(true).open(&body).expect("the body is there");
        file.write_all_at(&vec![0; second - first], first as u64).expect("it is written");
        folder.serve(&[])
    });
    let mut client = server.client();
    let looked = ask(&mut client, "HEAD", &upload.path, &[TUS], b"").expect("the server answers");
    assert_eq!((looked.status, offset(&looked)), (200, first));
    let lines = [TUS, PIECE, &format!("Upload-Offset: {first}")];
    let sent = ask(&mut client, "PATCH", &upload.path, &lines, &file.as_bytes()[first..]);
    assert_eq!(sent.expect("the server answers").status, 204);
    assert_eq!(client.get(&upload.path).expect("an answer").json()["rows_inserted"], 100);
    assert_eq!(search_all(&server, "acme", "limit=1000").len(), 100);
}

#[test]
fn w5_bytes_in_front_of_a_checkpoint_that_are_not_what_came_are_sent_again() {
    // A synced body may have lost bytes as well, because of an earlier sync that failed.
    for level in ["os", "disk"] {
        begin_again(level);
    }
}

fn begin_again(level: &str) {
    let folder = Folder::new();
    let mut server = folder.serve(&[]);
    let file = lines(0..60);
    let half = file.len() / 2;
    let mut client = server.client();
    let upload = Upload::create(&mut client, file.len(), &[]);
    let body = upload_folder(&folder).join("body");
    let target = format!("{}?ack={level}", upload.path);
    let sent =
        ask(&mut client, "PATCH", &target, &[TUS, PIECE, "Upload-Offset: 0"], &file.as_bytes()[..half]);
    assert_eq!(sent.expect("the server answers").status, 204);
    server.replace(|| {
        let file = File::options().write(true).open(&body).expect("the body is there");
        file.write_all_at(&[0; 512], 4_096).expect("it is written");
        folder.serve(&[])
    });
    let mut client = server.client();
    let looked = ask(&mut client, "HEAD", &upload.path, &[TUS], b"").expect("the server answers");
    assert_eq!((looked.status, offset(&looked)), (200, 0), "{level}");
    let sent = ask(&mut client, "PATCH", &upload.path, &[TUS, PIECE, "Upload-Offset: 0"], file.as_bytes());
    assert_eq!(sent.expect("the server answers").status, 204);
    let summary = client.get(&upload.path).expect("an answer").json();
    assert_eq!((&summary["rows_inserted"], &summary["rows_received"]), (&json!(60), &json!(60)));
    assert_eq!(search_all(&server, "acme", "limit=1000").len(), 60);
}

#[test]
fn an_upload_whose_info_is_empty_is_set_aside_and_holds_up_nobody() {
    let folder = Folder::new();
    let mut server = folder.serve(&["--upload-expiry", "2s"]);
    ingested(&server, "k", lines(0..10).as_bytes());
    let mut client = server.client();
    let upload = Upload::create(&mut client, 1_000, &[]);
    let broken = upload_folder(&folder);
    server.replace(|| {
        File::create(broken.join("info.json")).expect("it is emptied");
        folder.serve(&["--upload-expiry", "2s"])
    });
    assert!(!broken.exists() && uploads(&folder) == 1, "it is set aside");
    let mut client = server.client();
    let looked = ask(&mut client, "HEAD", &upload.path, &[TUS], b"").expect("the server answers");
    assert_eq!(looked.status, 404);
    // An upload that is created now expires.
    let _ = Upload::create(&mut client, 1_000, &[]);
    wait_for("both to go", || (uploads(&folder) == 0).then_some(()));
    let erased = client.ask("DELETE", "/api/v1/tenants/acme/customers/c-1", "").expect("the server answers");
    assert_eq!(erased.status, 200, "{}", String::from_utf8_lossy(&erased.body));
}

#[test]
fn an_erasure_takes_an_upload_whose_info_breaks_while_it_is_served() {
    let folder = Folder::new();
    let server = folder.serve(&[]);
    ingested(&server, "k", lines(0..10).as_bytes());
    let mut client = server.client();
    let _ = Upload::create(&mut client, 1_000, &[]);
    fs::write(upload_folder(&folder).join("info.json"), "{").expect("it is broken");
    let erased = client.ask("DELETE", "/api/v1/tenants/acme/customers/c-1", "").expect("the server answers");
    assert_eq!(erased.status, 200, "{}", String::from_utf8_lossy(&erased.body));
    assert_eq!(uploads(&folder), 0, "nobody can say whose it was");
}
