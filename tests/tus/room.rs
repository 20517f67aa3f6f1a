//! Room: declared lengths have a limit together, and a full disk stops an upload without harm to it.

use std::fs::{self, File};
use std::io::Write as _;

use super::{TUS, UPLOADS, Upload, ask, assert_problem, check_stored, offset_of, orders, serve};
use crate::support::{Folder, SmallDisk, wait_until};

#[test]
fn declared_lengths_have_a_limit_together() {
    let folder = Folder::new();
    let flags = ["--uploads-bytes-max", "1MiB"];
    let mut server = serve(&folder, &flags);
    let first = Upload::create(&mut server.client(), 600_000, &[]);
    let refused = |server: &crate::support::Server| {
        let lines = [TUS, "Upload-Length: 600000"];
        let answer = ask(&mut server.client(), "POST", UPLOADS, &lines, b"").expect("it answers");
        assert_problem(&answer, 507, "no-room-for-upload");
        assert!(answer.header("retry-after").is_some());
    };
    refused(&server);
    server.kill();
    server = serve(&folder, &flags);
    refused(&server);
    let mut client = server.client();
    let small = Upload::create(&mut client, 400_000, &[]);
    // What is finished takes no room.
    let blank = vec![b'\n'; 400_000];
    assert_eq!(small.patch(&mut client, 0, &[], &blank).expect("it answers").status, 204);
    Upload::create(&mut client, 400_000, &[]);
    refused(&server);
    assert_eq!(ask(&mut client, "DELETE", &first.path, &[TUS], b"").expect("it answers").status, 204);
    Upload::create(&mut client, 600_000, &[]);
}

const DISK_BYTES: u64 = 48 << 20;

#[test]
fn a_full_disk_stops_an_upload_that_goes_on_when_there_is_room() {
    let folder = Folder::new();
    let Some(disk) = SmallDisk::mount(folder.beside("disk"), DISK_BYTES) else { return };
    let (data, ballast) = (disk.path().join("data"), disk.path().join("ballast"));
    let flags = ["--shards", "2", "--segment-bytes", "1MiB", "--checkpoint-interval", "200ms"];
    let more = ["--checkpoint-wal-bytes", "1MiB", "--disk-reserve", "0"];
    let server = folder.serve_on(&data, &[&flags[..], &more].concat());
    // Blank lines take room in the body only.
    let (lines, expected) = orders(500);
    let mut body = lines.clone();
    body.resize(lines.len() + (6 << 20), b'\n');
    let upload = Upload::create(&mut server.client(), body.len(), &[]);
    let mut weight = File::create(&ballast).expect("the ballast is made");
    let block = vec![b'b'; 1 << 18];
    while weight.write_all(&block).is_ok() {}
    weight.set_len(weight.metadata().expect("its length").len() - (3 << 20)).expect("some room");
    let mut client = server.client();
    let answer = upload.patch(&mut client, 0, &[], &body).expect("it answers");
    assert_problem(&answer, 507, "no-room-for-upload");
    server.health();
    drop(weight);
    fs::remove_file(&ballast).expect("room is made");
    let mut client = server.client();
    let mut at = 0;
    wait_until("the upload to go on", || {
        let looked = upload.head(&mut client).expect("it answers");
        if looked.status == 200 {
            at = offset_of(&looked);
        }
        looked.status == 200
    });
    assert!(at > 0 && at < body.len(), "{at}: what had room is there");
    wait_until("the rest to be taken", || {
        let mut client = server.client();
        let at = upload.offset(&mut client);
        let answer = upload.patch(&mut client, at, &[], &body[at..]).expect("it answers");
        answer.status == 204
    });
    expected.check(&upload.summary(&server), body.len());
    server.wait_until_stored();
    server.stop();
    check_stored(&data, 500);
}
