//! S3: a full disk is answered with 507, never stops health or recovery, and costs no acked event.
//!
//! The tests mount a small file system. Where that is not allowed, they report that they were skipped.

mod support;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use support::{Folder, Load, SmallDisk, stored, wait_until};

const DISK_BYTES: u64 = 40 << 20;

/// Creates a file that occupies space until it is removed.
fn ballast(path: &Path, bytes: u64) {
    let mut file = File::create(path).expect("the ballast is made");
    let block = vec![b'b'; 1 << 20];
    for _ in 0..bytes >> 20 {
        file.write_all(&block).expect("there is room for the ballast");
    }
}

fn fill_and_recover(more_flags: &[&str], ready_says: &str) {
    let folder = Folder::new();
    let Some(disk) = SmallDisk::mount(folder.beside("disk"), DISK_BYTES) else { return };
    let (data, weight) = (disk.path().join("data"), disk.path().join("ballast"));
    let small = [
        "--shards",
        "2",
        "--segment-bytes",
        "1MiB",
        "--checkpoint-interval",
        "200ms",
        "--checkpoint-wal-bytes",
        "1MiB",
        "--ops-listen",
        "127.0.0.1:0",
    ];
    // What fits next to the ballast must fit three times without it: in the journal, the WAL and the database.
    ballast(&weight, DISK_BYTES / 10 * 7);
    let server = folder.serve_on(&data, &[&small, more_flags].concat());

    let load = Load::start_padded(server.address, 4, 4, 1, 4_000);
    wait_until("the disk to be full", || load.refused() > 100);
    // Both listeners answer, even if the disk is full.
    let mut ops = support::Client::connect(server.ops.expect("ops listens")).expect("ops answers");
    assert_eq!(ops.get("/health").expect("an answer").status, 200);
    server.health();
    if !ready_says.is_empty() {
        wait_until("ready to say so", || {
            let ready = server.get("/ready");
            ready.status == 503
                && ready.json()["checks"]["disk"]["reason"]
                    .as_str()
                    .is_some_and(|said| said.contains(ready_says))
        });
    }
    let refused = load.refused();
    wait_until("more refusals", || load.refused() > refused + 100);
    let mut all = load.stop();

    fs::remove_file(&weight).expect("room is made");
    let mut client = server.client();
    wait_until("events to be taken again", || {
        let number = all.next();
        all.sent.insert(number);
        let answer = client.post(number).expect("an answer");
        match answer.header("Firehose-Receipt") {
            Some(receipt) => all.acked.insert(number, receipt.to_owned()).is_none(),
            None => all.refused.insert(number, answer.status).is_some(),
        }
    });
    (0..200).for_each(|_| _ = all.post(&mut client));
    let others: Vec<_> = all.refused.values().filter(|status| **status != 507).collect();
    assert!(others.is_empty(), "refused otherwise than by 507: {others:?}");
    let health = server.wait_until_stored();
    assert_eq!(server.get("/ready").status, 200);
    server.stop();
    let stored = stored(&data);
    all.check(&stored);
    assert_eq!(health["database_events"], stored.len());
}

#[test]
fn s3_a_full_disk_answers_507_and_recovers_when_there_is_room() {
    fill_and_recover(&["--disk-reserve", "4MiB"], "disk_reserve");
}

#[test]
fn a_disk_full_to_the_last_byte_loses_no_acked_event() {
    fill_and_recover(&["--disk-reserve", "0"], "");
}

#[test]
fn a_disk_full_to_the_last_byte_loses_no_event_acked_as_on_disk() {
    fill_and_recover(&["--disk-reserve", "0", "--ack", "disk"], "");
}
