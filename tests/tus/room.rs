//! Space: received bytes have a limit in total and for each tenant, and a full disk stops an upload without damage to
//! it.

use std::fs::{self, File};
use std::io::Write as _;

use super::{TUS, UPLOADS, Upload, ask, assert_problem, check_stored, offset_of, orders, serve};
use crate::support::{Folder, SmallDisk, wait_until};

#[test]
fn bytes_that_were_received_have_a_limit_together() {
    let folder = Folder::new();
    let flags = ["--uploads-bytes-max", "1MiB"];
    let mut server = serve(&folder, &flags);
    let mut client = server.client();
    let blank = vec![b'\n'; 600_000];
    // The declared lengths take no space.
    let first = Upload::create(&mut client, 1_000_000, &[]);
    let second = Upload::create(&mut client, 600_000, &[]);
    assert_eq!(first.patch(&mut client, 0, &[], &blank).expect("it answers").status, 204);
    let refused = |server: &crate::support::Server| {
        let (mut client, mut sender) = (server.client(), server.client());
        let at = second.offset(&mut client);
        let answer = second.patch(&mut sender, at, &[], &blank[at..]).expect("it answers");
        assert_problem(&answer, 507, "no-room-for-upload");
        assert!(answer.header("retry-after").is_some());
        second.offset(&mut client)
    };
    let at = refused(&server);
    assert!(at > 300_000 && at < 600_000, "{at}: what had room is kept");
    server.kill();
    server = serve(&folder, &flags);
    assert!(refused(&server) >= at);
    let mut client = server.client();
    assert_eq!(ask(&mut client, "DELETE", &first.path, &[TUS], b"").expect("it answers").status, 204);
    // The space of the deleted upload is free for the other one. An ended upload takes none.
    let at = second.offset(&mut client);
    assert_eq!(second.patch(&mut client, at, &[], &blank[at..]).expect("it answers").status, 204);
    let third = Upload::create(&mut client, 1_000_000, &[]);
    assert_eq!(third.patch(&mut client, 0, &[], &vec![b'\n'; 900_000]).expect("it answers").status, 204);
}

#[test]
fn one_tenant_does_not_shut_uploads_for_the_others() {
    let folder = Folder::new();
    for tenant in ["greedy", "acme"] {
        assert!(folder.run(&["tenant", "add", tenant]).status.success());
    }
    let key = |tenant: &str| -> String {
        let (code, made) = folder.run_json(&["key", "create", "--tenant", tenant, "--scope", "manage"]);
        assert_eq!(code, 0, "{made}");
        format!("X-API-Key: {}", made["key"].as_str().expect("a text"))
    };
    let (greedy, acme) = (key("greedy"), key("acme"));
    let server = serve(&folder, &["--uploads-bytes-max", "4MiB"]);
    let mut client = server.client();
    let blank = vec![b'\n'; 3 << 20];
    let fill = |client: &mut crate::support::Client, key: &str| {
        let upload = Upload::create(client, 4 << 20, &[key]);
        let answer = upload.patch(&mut server.client(), 0, &[key], &blank).expect("it answers");
        let looked = ask(client, "HEAD", &upload.path, &[TUS, key], b"").expect("it answers");
        (answer.status, offset_of(&looked))
    };
    let (status, at) = fill(&mut client, &greedy);
    assert!(status == 507 && at <= 2 << 20, "{status}: {at} of 4 MiB");
    // The greedy tenant creates many uploads of a large declared length.
    let length = format!("Upload-Length: {}", 4 << 20);
    let mut refused = 0;
    for _ in 0..100 {
        let made = ask(&mut client, "POST", UPLOADS, &[TUS, &length, &greedy], b"").expect("it answers");
        assert!(matches!(made.status, 201 | 507), "{made:?}");
        refused += u32::from(made.status == 507);
    }
    assert!(refused > 50, "{refused}");
    let (lines, _) = orders(50);
    let upload = Upload::create(&mut client, lines.len(), &[&acme]);
    assert_eq!(upload.patch(&mut client, 0, &[&acme], &lines).expect("it answers").status, 204);
    let (status, at) = fill(&mut client, &acme);
    assert!(status == 507 && at > 512 << 10, "{status}: {at} of 4 MiB");
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
    // Blank lines take space in the body only.
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
