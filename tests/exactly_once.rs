//! W2: after any crash or damage, the journal and the database together contain every row once.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::support::{Folder, Load, Report, Server, copied, hold_lock, stored, stored_in};

/// One shard, and no checkpoint unless the test asks for one.
const NO_CHECKPOINT: &[&str] = &[
    "--shards",
    "1",
    "--checkpoint-interval",
    "1h",
    "--checkpoint-wal-bytes",
    "1GiB",
    "--checkpoint-bytes",
    "1GiB",
];

/// Lengths of the headers of a journal segment and of each of its records.
const SEGMENT_HEADER_BYTES: usize = 64;
const RECORD_HEADER_BYTES: usize = 17;

/// Returns the offset and length of each record of a segment.
fn records(segment: &[u8]) -> Vec<(usize, usize)> {
    let (mut at, mut found) = (SEGMENT_HEADER_BYTES, Vec::new());
    while let Some(length) = segment.get(at + 4..at + 8) {
        let payload = u32::from_le_bytes(length.try_into().expect("four bytes"));
        let bytes = RECORD_HEADER_BYTES + payload as usize;
        found.push((at, bytes));
        at += bytes;
    }
    assert_eq!(at, segment.len(), "the segment ends with a record");
    found
}

fn flip_bit(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).expect("the file opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("the byte is there");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("the byte is written");
}

fn cut(path: &Path, bytes: u64) {
    let file = File::options().write(true).open(path).expect("the file opens");
    let length = file.metadata().expect("it has a length").len();
    file.set_len(length - bytes).expect("the file is cut");
}

/// Posts `count` events one after the other.
fn post(server: &Server, report: &mut Report, count: usize) {
    let mut client = server.client();
    for _ in 0..count {
        report.post(&mut client);
    }
}

/// Kills a server that has these events in its journal and none of them in its database.
fn killed_with_backlog(folder: &Folder, count: usize) -> Report {
    let mut report = Report::default();
    let server = folder.serve(NO_CHECKPOINT);
    server.wait_until_stored();
    let lock = hold_lock(&folder.database(0));
    post(&server, &mut report, count);
    server.kill();
    drop(lock);
    assert_eq!(stored(&folder.data()), [0; 0]);
    report
}

#[test]
fn w2_a_kill_between_commit_and_checkpoint_repeats_no_row() {
    let (folder, mut all) = (Folder::new(), Report::default());
    for round in 0..4 {
        let server = folder.serve(NO_CHECKPOINT);
        let load = Load::start(server.address, 2, 4, all.next());
        crate::support::wait_until("some acks", || load.acked() >= 200);
        all.add(load.stop());
        server.wait_until_stored();
        let killed = server.kill();
        assert!(!killed.log.contains("is damaged"), "round {round}: {}", killed.log);
        // A start that finds nothing to do stores nothing twice either.
        folder.serve(NO_CHECKPOINT).kill();
    }
    let server = folder.serve(NO_CHECKPOINT);
    let health = server.wait_until_stored();
    assert_eq!(health["total_received"], all.acked.len());
    server.stop();
    all.check_all_accepted(&stored(&folder.data()));
}

#[test]
fn a_torn_tail_is_cut_and_said_and_costs_the_torn_record_only() {
    let folder = Folder::new();
    let mut all = killed_with_backlog(&folder, 50);
    cut(&folder.newest_segment(0, "hot"), 5);
    let server = folder.serve(NO_CHECKPOINT);
    let cut = server.logged("removed incomplete records").expect("a torn tail is said");
    assert_eq!((cut["shard"].as_u64(), cut["lane"].as_str()), (Some(0), Some("hot")));
    assert_eq!(server.wait_until_stored()["database_events"], 49);
    let torn = all.acked.remove(&50).expect("the last one");
    // The next event gets its place in the journal.
    assert_eq!(all.post(&mut server.client()), torn);
    server.wait_until_stored();
    server.stop();
    all.sent.remove(&50);
    all.check(&stored(&folder.data()));
    let (code, said) = folder.run_json(&["verify"]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn w1_half_a_record_behind_the_tail_costs_nothing() {
    let folder = Folder::new();
    let mut all = killed_with_backlog(&folder, 20);
    let segment = folder.newest_segment(0, "hot");
    let bytes = fs::read(&segment).expect("the segment is read");
    let (at, length) = records(&bytes)[7];
    let file = File::options().write(true).open(&segment).expect("the segment opens");
    file.write_all_at(&bytes[at..at + length / 2], bytes.len() as u64).expect("half a record is written");
    let server = folder.serve(NO_CHECKPOINT);
    assert!(server.logged("removed incomplete records").is_some(), "{}", server.log());
    post(&server, &mut all, 5);
    assert_eq!(server.wait_until_stored()["database_events"], 25);
    server.stop();
    all.check_all_accepted(&stored(&folder.data()));
}

/// The database is ahead of a journal that lost its tail: new events get sequences that the database has not seen.
#[test]
fn w1_a_tail_torn_behind_the_database_costs_nothing() {
    let (folder, mut all) = (Folder::new(), Report::default());
    let server = folder.serve(NO_CHECKPOINT);
    post(&server, &mut all, 30);
    server.wait_until_stored();
    server.kill();
    cut(&folder.newest_segment(0, "hot"), 150);
    for _ in 0..2 {
        let server = folder.serve(NO_CHECKPOINT);
        post(&server, &mut all, 10);
        server.wait_until_stored();
        server.kill();
    }
    folder.serve(NO_CHECKPOINT).stop();
    all.check_all_accepted(&stored(&folder.data()));
}

#[test]
fn w1_a_flipped_bit_in_the_wal_is_replayed_from_the_journal() {
    let (folder, mut all) = (Folder::new(), Report::default());
    let server = folder.serve(NO_CHECKPOINT);
    let wal = folder.shard(0).join("shard.db-wal");
    let wal_bytes = || fs::metadata(&wal).expect("the commits are in the WAL").len();
    // The creation of the file is most of its WAL.
    post(&server, &mut all, 20);
    server.wait_until_stored();
    let first = wal_bytes();
    for _ in 1..12 {
        post(&server, &mut all, 20);
        server.wait_until_stored();
    }
    server.kill();
    flip_bit(&wal, first + (wal_bytes() - first) * 2 / 3);
    let seen = stored_in(&copied(&folder.database(0), &folder.beside("copy"))).len();
    assert!(seen < 240, "the flip took the later commits: {seen} rows of 240 are left");
    for _ in 0..2 {
        let server = folder.serve(NO_CHECKPOINT);
        let health = server.wait_until_stored();
        assert_eq!(health["database_events"], 240);
        server.kill();
    }
    let server = folder.serve(NO_CHECKPOINT);
    post(&server, &mut all, 10);
    server.wait_until_stored();
    server.stop();
    all.check_all_accepted(&stored(&folder.data()));
}

/// Returns `true` if the last checkpoint was complete: the database file alone is sound.
fn is_copied(folder: &Folder) -> bool {
    let record = fs::read(folder.shard(0).join("shard.db-pass")).expect("a record of checkpoints");
    record[8] == 1
}

/// The journal still contains everything that no complete checkpoint has copied, whatever was deleted. A file that is
/// being copied needs its WAL (`src/ingest/write/tests/passes.rs`), so the test removes that of a complete one.
#[test]
fn w1_a_lost_wal_is_replayed_from_the_journal() {
    let flags = [
        "--shards",
        "1",
        "--segment-bytes",
        "1MiB",
        "--checkpoint-interval",
        "50ms",
        "--checkpoint-wal-bytes",
        "64KiB",
    ];
    let (folder, mut all) = (Folder::new(), Report::default());
    let mut lost = 0;
    while lost < 3 {
        let server = folder.serve(&flags);
        let load = Load::start_padded(server.address, 2, 4, all.next(), 2_000);
        let oldest = crate::support::wait_for("a segment", || folder.segments(0, "hot").into_iter().next());
        crate::support::wait_until("segments to come and go", || !oldest.exists());
        server.kill();
        all.add(load.ended());
        if !is_copied(&folder) {
            continue;
        }
        lost += 1;
        let wal = folder.shard(0).join("shard.db-wal");
        fs::remove_file(&wal).expect("the WAL is removed");
        let carried_over = stored_in(&copied(&folder.database(0), &folder.beside("copy"))).len();
        assert!(0 < carried_over, "the checkpoints have put rows into the database file");
    }
    let server = folder.serve(&flags);
    server.wait_until_stored();
    server.stop();
    all.check(&stored(&folder.data()));
}

#[test]
fn a_damaged_record_costs_itself_only_and_is_named() {
    let folder = Folder::new();
    let mut all = killed_with_backlog(&folder, 100);
    let segment = folder.newest_segment(0, "hot");
    let (at, bytes) = records(&fs::read(&segment).expect("the segment is read"))[41];
    flip_bit(&segment, (at + bytes - 3) as u64);

    let (code, said) = folder.run_json(&["verify"]);
    assert_eq!(code, 1, "{said}");
    let problems: Vec<String> = said
        .as_array()
        .expect("a list")
        .iter()
        .filter(|checked| checked["ok"] == false)
        .map(|checked| checked["problems"].to_string())
        .collect();
    let name = segment.to_str().expect("a name");
    assert_eq!(problems.len(), 1, "{said}");
    assert!(problems[0].contains(name) && problems[0].contains("1 records lost from 42"), "{problems:?}");

    let server = folder.serve(NO_CHECKPOINT);
    let logged = server.logged("the journal is damaged").expect("damage is said");
    assert!(logged.to_string().contains(name), "{logged}");
    post(&server, &mut all, 5);
    let health = server.wait_until_stored();
    assert_eq!(health["total_received"], 105);
    assert_eq!(health["database_events"], 104);
    server.stop();
    assert!(all.acked.remove(&42).is_some());
    all.sent.remove(&42);
    all.check_all_accepted(&stored(&folder.data()));
    let kept = folder.shard(0).join("hot/quarantine").join(segment.file_name().expect("a name"));
    assert!(kept.exists(), "the damaged segment is kept in {}", kept.display());
}
