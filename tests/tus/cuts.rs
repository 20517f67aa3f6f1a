//! Cut connections and killed servers, at any byte. The reported offset remains valid, and the bytes after it
//! complete the file.

use std::time::Duration;

use firehose::base::clock;

use super::{Packing, Upload, assert_problem, check_stored, offset_of, orders, serve};
use crate::support::{Chance, Client, Folder, Server, wait_until};

const ORDERS: usize = 6_000;

/// Sends the rest, from the offset that the server reports to the end.
#[track_caller]
fn to_the_end(server: &Server, upload: &Upload, body: &[u8]) {
    let mut client = server.client();
    let at = upload.offset(&mut client);
    let answer = upload.patch(&mut client, at, &[], &body[at..]).expect("it answers");
    assert_eq!((answer.status, offset_of(&answer)), (204, body.len()), "{answer:?}");
}

#[test]
fn w5_connections_cut_at_any_byte_cost_nothing_that_arrived() {
    let mut chance = Chance::new();
    for packing in Packing::ALL {
        let (folder, (lines, expected)) = (Folder::new(), orders(ORDERS));
        let body = packing.pack(&lines);
        let server = serve(&folder, &[]);
        let upload = Upload::create(&mut server.client(), body.len(), &[]);
        let mut reported = 0;
        for _ in 0..6 {
            let sent = reported + chance.below((body.len() - reported) as u64 / 3) as usize;
            let mut client = server.client();
            upload
                .patch_cut(&mut client, reported, body.len() - reported, &body[reported..sent])
                .expect("it is sent");
            drop(client);
            upload.wait_for_bytes(&folder, sent);
            let at = upload.offset(&mut server.client());
            assert_eq!(at, sent, "{packing:?}: everything that arrived is kept");
            reported = at;
        }
        to_the_end(&server, &upload, &body);
        expected.check(&upload.summary(&server), body.len());
        server.stop();
        check_stored(&folder.data(), ORDERS);
    }
}

#[test]
fn w5_servers_killed_at_any_byte_keep_what_they_reported() {
    let mut chance = Chance::new();
    for packing in Packing::ALL {
        let (folder, (lines, expected)) = (Folder::new(), orders(ORDERS));
        let body = packing.pack(&lines);
        let mut server = serve(&folder, &[]);
        let upload = Upload::create(&mut server.client(), body.len(), &[]);
        let mut reported = 0;
        for round in 0..4 {
            // A piece whose response is a promise, and one during which the server is killed.
            let whole = reported + chance.below((body.len() - reported) as u64 / 4) as usize;
            let mut client = server.client();
            let answer =
                upload.patch(&mut client, reported, &[], &body[reported..whole]).expect("it answers");
            assert_eq!((answer.status, offset_of(&answer)), (204, whole), "{packing:?}");
            let sent = whole + chance.below((body.len() - whole) as u64 / 2) as usize;
            upload.patch_cut(&mut client, whole, body.len() - whole, &body[whole..sent]).expect("it is sent");
            if round % 2 == 0 {
                upload.wait_for_bytes(&folder, sent);
            }
            clock::pause(Duration::from_millis(chance.below(60)));
            server.kill();
            server = serve(&folder, &[]);
            reported = upload.offset(&mut server.client());
            assert!((whole..=sent).contains(&reported), "{packing:?}: {reported} in {whole}..={sent}");
            // The rows up to the reported offset are stored. More rows of the cut piece may be stored, and they
            // arrive again.
            let summary = upload.summary(&server);
            assert_eq!(summary["offset"], reported);
            let told = summary["rows_inserted"].as_u64().expect("a count");
            // The kill may have come before a shard had its tables.
            server.wait_until_stored();
            let stored = super::stored(&folder.data()).len() as u64;
            assert!(stored >= told, "{packing:?}: {stored} stored, {told} reported");
        }
        to_the_end(&server, &upload, &body);
        expected.check(&upload.summary(&server), body.len());
        server.stop();
        check_stored(&folder.data(), ORDERS);
        let (code, said) = folder.run_json(&["verify", "--aggregates"]);
        assert_eq!(code, 0, "{said}");
    }
}

#[test]
fn a_server_killed_behind_the_last_byte_takes_up_at_its_checkpoint_and_finishes() {
    let (folder, (lines, expected)) = (Folder::new(), orders(ORDERS));
    let mut server = serve(&folder, &[]);
    let upload = Upload::create(&mut server.client(), lines.len(), &[]);
    let mut client = server.client();
    upload.patch_cut(&mut client, 0, lines.len(), &lines).expect("it is sent");
    let file = folder.data().join("uploads").join(upload.id()).join("body");
    // If the file is gone, the upload was faster than this test.
    wait_until("the bytes to arrive", || {
        std::fs::metadata(&file).map_or(true, |file| file.len() as usize == lines.len())
    });
    server.kill();
    server = serve(&folder, &[]);
    // The bytes after the checkpoint are not trusted, whatever the file contains.
    assert!(upload.offset(&mut server.client()) <= lines.len());
    to_the_end(&server, &upload, &lines);
    expected.check(&upload.summary(&server), lines.len());
    server.stop();
    check_stored(&folder.data(), ORDERS);
}

#[test]
fn one_request_at_a_time_works_on_an_upload() {
    let (folder, (lines, expected)) = (Folder::new(), orders(1_000));
    let server = serve(&folder, &[]);
    let upload = Upload::create(&mut server.client(), lines.len(), &[]);
    // A request that continues to send is not disturbed.
    let mut busy = server.client();
    let slow = 40 * 50;
    upload.patch_cut(&mut busy, 0, slow, &lines[..50]).expect("it is sent");
    upload.wait_for_bytes(&folder, 50);
    let (address, path) = (server.address, upload.clone());
    let second = std::thread::spawn(move || {
        let mut client = Client::connect(address).expect("it connects");
        path.patch(&mut client, 0, &[], b"\n").expect("it answers")
    });
    for piece in lines[50..slow].chunks(50) {
        clock::pause(Duration::from_millis(100));
        busy.write(piece).expect("it is sent");
    }
    let second = second.join().expect("no panic");
    assert_problem(&second, 423, "upload-locked");
    assert_eq!(second.header("retry-after"), Some("1"));
    let first = busy.answer().expect("it answers");
    assert_eq!((first.status, offset_of(&first)), (204, slow));
    // A request that pauses makes way and keeps the bytes that it sent.
    let mut resting = server.client();
    upload.patch_cut(&mut resting, slow, lines.len() - slow, &lines[slow..slow + 700]).expect("it is sent");
    upload.wait_for_bytes(&folder, slow + 700);
    assert_eq!(upload.offset(&mut server.client()), slow + 700);
    assert_problem(&resting.answer().expect("it answers"), 423, "upload-locked");
    // Of many simultaneous requests, one is first.
    let at = slow + 700;
    let storm: Vec<_> = (0..8)
        .map(|_| {
            let (address, upload, rest) = (server.address, upload.clone(), lines[at..].to_vec());
            std::thread::spawn(move || {
                let mut client = Client::connect(address).expect("it connects");
                upload.patch(&mut client, at, &[], &rest).expect("it answers").status
            })
        })
        .collect();
    let mut statuses: Vec<_> = storm.into_iter().map(|one| one.join().expect("no panic")).collect();
    statuses.sort_unstable();
    assert_eq!(statuses[0], 204);
    assert!(statuses[1..].iter().all(|status| matches!(status, 409 | 423)), "{statuses:?}");
    expected.check(&upload.summary(&server), lines.len());
    check_stored(&folder.data(), 1_000);
}

#[test]
fn a_piece_may_take_as_long_as_it_goes_on() {
    let (folder, (lines, expected)) = (Folder::new(), orders(200));
    let server = serve(&folder, &["--body-timeout", "1s"]);
    let upload = Upload::create(&mut server.client(), lines.len(), &[]);
    let mut client = server.client();
    let half = lines.len() / 2;
    upload.patch_cut(&mut client, 0, half, b"").expect("it is sent");
    for piece in lines[..half].chunks(half / 8 + 1) {
        clock::pause(Duration::from_millis(300));
        client.write(piece).expect("it is sent");
    }
    assert_eq!(client.answer().expect("it answers").status, 204);
    // A request that pauses longer than the limit is ended and keeps the bytes that it sent.
    upload.patch_cut(&mut client, half, lines.len() - half, &lines[half..half + 99]).expect("it is sent");
    assert_problem(&client.answer().expect("it answers"), 408, "request-timeout");
    to_the_end(&server, &upload, &lines);
    expected.check(&upload.summary(&server), lines.len());
}
