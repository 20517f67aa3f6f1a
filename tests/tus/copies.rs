//! Backups of a server that receives uploads. In the copy the uploads continue, nothing is lost, and nothing is
//! stored twice.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::Digest as _;

use super::{Expected, PIECE, Packing, TUS, Upload, check_stored, offset_of, orders, serve, stored};
use crate::support::{Folder, Server, cpus, wait_until};

const ORDERS: usize = 3_000;

#[track_caller]
fn backup(folder: &Folder, name: &str) -> PathBuf {
    let dest = folder.beside(name);
    let output = folder.run(&["backup", dest.to_str().expect("a path of UTF-8")]);
    assert!(output.status.success(), "{output:?}");
    dest
}

/// Starts a server on a copy, with the copy's number of shards.
#[track_caller]
fn serve_copy(folder: &Folder, copy: &Path) -> Server {
    folder.serve_on(copy, &["--cores", &cpus(2)])
}

/// Continues an upload from the copy's offset to the end, and checks everything.
#[track_caller]
fn check_to_the_end(folder: &Folder, copy: &Path, upload: &Upload, body: &[u8], expected: Expected) {
    let server = serve_copy(folder, copy);
    let mut client = server.client();
    let at = upload.offset(&mut client);
    let answer = upload.patch(&mut client, at, &[], &body[at..]).expect("it answers");
    assert_eq!((answer.status, offset_of(&answer)), (204, body.len()), "{answer:?}");
    expected.check(&upload.summary(&server), body.len());
    server.stop();
    check_stored(copy, ORDERS);
}

#[test]
fn an_upload_goes_on_in_a_backup_made_between_two_pieces() {
    for packing in Packing::ALL {
        let (folder, (lines, expected)) = (Folder::new(), orders(ORDERS));
        let body = packing.pack(&lines);
        let half = body.len() / 2;
        let server = serve(&folder, &[]);
        let mut client = server.client();
        let upload = Upload::create(&mut client, body.len(), &["Idempotency-Key: night"]);
        assert_eq!(upload.patch(&mut client, 0, &[], &body[..half]).expect("it answers").status, 204);
        let early = backup(&folder, "early");
        assert_eq!(upload.patch(&mut client, half, &[], &body[half..]).expect("it answers").status, 204);
        expected.check(&upload.summary(&server), body.len());
        let late = backup(&folder, "late");
        server.stop();

        // A promise from before the copy was made also applies in the copy.
        let server = serve_copy(&folder, &late);
        expected.check(&upload.summary(&server), body.len());
        server.stop();
        let server = serve_copy(&folder, &early);
        assert_eq!(upload.offset(&mut server.client()), half, "{packing:?}");
        let told = upload.summary(&server)["rows_inserted"].as_u64().expect("a count");
        assert_eq!(stored(&early).len() as u64, told, "{packing:?}");
        server.stop();

        // The state if the upload ended between the copy of its files and the copy of the shards.
        let uploads = folder.beside("uploads-of-early");
        fs::rename(late.join("uploads"), folder.beside("uploads-of-late")).expect("it moves");
        copy_tree(&early.join("uploads"), &uploads);
        fs::rename(&uploads, late.join("uploads")).expect("it moves");
        for copy in [&early, &late] {
            check_to_the_end(&folder, copy, &upload, &body, expected);
        }
    }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a new folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let to = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_tree(&path, &to);
        } else {
            fs::copy(&path, &to).expect("it is copied");
        }
    }
}

#[test]
fn backups_made_while_pieces_come_lose_nothing_and_repeat_nothing() {
    const PIECES: usize = 40;
    let (folder, (lines, expected)) = (Folder::new(), orders(ORDERS));
    let server = serve(&folder, &[]);
    // Every shard has its tables after this.
    server.wait_until_stored();
    let uploads: Vec<_> = Packing::ALL[..2]
        .iter()
        .map(|packing| packing.pack(&lines))
        .map(|body| (Upload::create(&mut server.client(), body.len(), &[]), body))
        .collect();
    let is_over = AtomicBool::new(false);
    let copies: Vec<PathBuf> = std::thread::scope(|scope| {
        let send = || {
            let mut client = server.client();
            for piece in 0..PIECES {
                for (upload, body) in &uploads {
                    let cut = |piece: usize| body.len() * piece / PIECES;
                    let (from, to) = (cut(piece), cut(piece + 1));
                    let answer = upload.patch(&mut client, from, &[], &body[from..to]).expect("it answers");
                    assert_eq!((answer.status, offset_of(&answer)), (204, to), "{answer:?}");
                }
            }
            is_over.store(true, Ordering::Relaxed);
        };
        let sender = scope.spawn(send);
        let mut copies = Vec::new();
        while !is_over.load(Ordering::Relaxed) && !sender.is_finished() {
            copies.push(backup(&folder, &format!("copy-{}", copies.len())));
        }
        copies
    });
    for (upload, body) in &uploads {
        let summary = upload.summary(&server);
        assert_eq!(summary["state"], "finished");
        assert_eq!(summary["length"], body.len());
    }
    server.stop();
    assert!(!copies.is_empty());
    for copy in &copies {
        let server = serve_copy(&folder, copy);
        for (upload, body) in &uploads {
            let mut client = server.client();
            let at = upload.offset(&mut client);
            let answer = upload.patch(&mut client, at, &[], &body[at..]).expect("it answers");
            assert_eq!((answer.status, offset_of(&answer)), (204, body.len()), "{answer:?}");
        }
        // Both uploads contain the same orders, so each line is inserted by only one of them.
        let count = |name: &str| -> u64 {
            let told = |(upload, _): &(Upload, _)| upload.summary(&server)[name].as_u64().expect("a count");
            uploads.iter().map(told).sum()
        };
        assert_eq!(count("rows_inserted"), expected.inserted);
        assert_eq!(count("rows_duplicate"), 2 * expected.duplicate + expected.inserted);
        assert_eq!(count("rows_failed"), 2 * expected.failed);
        server.stop();
        check_stored(copy, ORDERS);
    }
}

#[test]
fn what_waits_for_its_checksum_is_not_in_a_backup() {
    let (folder, (lines, expected)) = (Folder::new(), orders(ORDERS));
    let server = serve(&folder, &[]);
    let mut client = server.client();
    let upload = Upload::create(&mut client, lines.len(), &[]);
    let (third, half) = (lines.len() / 3, lines.len() / 2);
    assert_eq!(upload.patch(&mut client, 0, &[], &lines[..third]).expect("it answers").status, 204);
    let checksum = format!("Upload-Checksum: sha1 {}", STANDARD.encode(sha1::Sha1::digest(&lines[third..])));
    let offset = format!("Upload-Offset: {third}");
    let head = super::head("PATCH", &upload.path, &[TUS, PIECE, &offset, &checksum], lines.len() - third);
    client.write(&head).and_then(|()| client.write(&vec![b'x'; half - third])).expect("it is sent");
    upload.wait_for_bytes(&folder, half);
    let copy = backup(&folder, "copy");
    drop(client);
    wait_until("the piece to be dropped", || upload.offset(&mut server.client()) == third);
    server.stop();
    let server = serve_copy(&folder, &copy);
    assert_eq!(upload.offset(&mut server.client()), third);
    server.stop();
    check_to_the_end(&folder, &copy, &upload, &lines, expected);
}
