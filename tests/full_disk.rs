//! S3: a full disk is answered with 507, never stops health or recovery, and costs no acked event.
//!
//! The tests mount a small file system. Where that is not allowed, they report that they were skipped.

mod support;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use serde_json::Value;
use support::{Folder, Load, SmallDisk, command, stored, wait_until};

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

/// Writes to a file until there is no space for another byte.
fn fill(path: &Path) {
    let mut file = File::options().create(true).append(true).open(path).expect("a file");
    for bytes in [1 << 20, 4096, 1] {
        let block = vec![b'b'; bytes];
        while file.write_all(&block).is_ok() {}
    }
}

/// Verifies a folder. Returns the exit code, the text and the rows of the JSON.
fn verified(data: &Path, temporary: &Path) -> (Option<i32>, String, Vec<Value>) {
    let run = |flags: &[&str]| {
        let mut verify = command();
        verify.args(["verify", "--aggregates", "--stock"]).args(flags).arg("--data").arg(data);
        verify.env("SQLITE_TMPDIR", temporary).output().expect("it runs")
    };
    let (text, rows) = (run(&[]), run(&["--json"]));
    assert_eq!(text.status, rows.status);
    let rows = serde_json::from_slice(&rows.stdout).expect("an array");
    (text.status.code(), String::from_utf8(text.stdout).expect("text"), rows)
}

#[test]
fn an_intact_folder_on_a_full_disk_is_verified_or_not_but_never_damaged() {
    let folder = Folder::new();
    let Some(disk) = SmallDisk::mount(folder.beside("disk"), 160 << 20) else { return };
    let (data, weight) = (disk.path().join("data"), disk.path().join("ballast"));
    let mut load = command();
    load.args(["gen-dataset", "--preset", "tiny", "--scale", "30", "--shards", "1", "--force", "--load"]);
    let loaded = load.arg(&data).output().expect("it runs");
    assert!(loaded.status.success(), "{loaded:?}");
    let temporary = folder.beside("temporary");
    fs::create_dir(&temporary).expect("a folder");

    // As after a load or a server that a full disk has ended, the index of the WAL is there.
    let path = data.join("shard-00/shard.db");
    let open = rusqlite::Connection::open(&path).expect("the shard opens");
    open.query_row("SELECT count(*) FROM orders", [], |_| Ok(())).expect("a count");
    fill(&weight);
    let (code, text, rows) = verified(&data, &temporary);
    assert_eq!(code, Some(0), "{text}");
    assert!(rows.iter().all(|row| row["ok"] == true && row["checked"] == true), "{rows:?}");

    let output = command().args(["doctor", "--json", "--data"]).arg(&data).output().expect("it runs");
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let checks = said["checks"].as_array().expect("a list");
    for check in ["sync_latency", "temp_files"] {
        let found = checks.iter().find(|found| found["check"] == check).expect("the check");
        let remedy = found["remedy"].as_str().expect("a remedy");
        assert!(found["verdict"] == "fail" && remedy.starts_with("free some space"), "{found}");
    }

    // Elsewhere, there is no space for temporary files either.
    let (code, text, rows) = verified(&data, disk.path());
    assert_eq!(code, Some(1), "{text}");
    let failed: Vec<_> = rows.iter().filter(|row| row["ok"] == false).collect();
    let [row] = failed[..] else { panic!("{rows:?}") };
    assert_eq!(row["checked"], false);
    let why = row["problems"][0].as_str().expect("a reason");
    assert!(why.starts_with("there is no space for temporary files"), "{why}");
    assert!(row["path"].as_str().is_some_and(|path| path.ends_with("(aggregates)")), "{row}");
    assert!(text.contains("\nnot checked ") && text.contains(why) && !text.contains("DAMAGED"), "{text}");

    // Without the index of the WAL, a shard cannot be opened.
    drop(open);
    assert!(!path.with_extension("db-shm").exists(), "the last connection removes it");
    fill(&weight);
    let (code, text, rows) = verified(&data, &temporary);
    assert_eq!(code, Some(1), "{text}");
    let of_shard =
        rows.iter().filter(|row| row["path"].as_str().is_some_and(|path| path.contains("shard.db")));
    for row in of_shard {
        assert_eq!((&row["ok"], &row["checked"]), (&Value::Bool(false), &Value::Bool(false)), "{row}");
        let why = row["problems"][0].as_str().expect("a reason");
        assert!(why.starts_with("there is no space next to the database"), "{why}");
    }
    assert!(!text.contains("DAMAGED"), "{text}");
    fs::remove_file(&weight).expect("room is made");
    assert_eq!(verified(&data, disk.path()).0, Some(0));

    // What is damaged or missing is reported as such.
    let good = fs::read(&path).expect("the shard is read");
    let damaged = || {
        let (code, text, rows) = verified(&data, &temporary);
        assert_eq!(
            (code, &rows[0]["ok"], &rows[0]["checked"]),
            (Some(1), &Value::Bool(false), &Value::Bool(true))
        );
        assert!(text.starts_with("DAMAGED ") && !text.contains("not checked"), "{text}");
    };
    let mut bad = good.clone();
    bad[..4096].fill(0xA5);
    fs::write(&path, &bad).expect("the shard is spoilt");
    damaged();
    fs::write(&path, &good).expect("the shard is restored");
    let other = rusqlite::Connection::open(&path).expect("the shard opens");
    other.execute_batch("ALTER TABLE rejected_record RENAME TO other").expect("the table is renamed");
    drop(other);
    let (code, _, rows) = verified(&data, &temporary);
    assert_eq!(
        (code, &rows[0]["ok"], &rows[0]["checked"]),
        (Some(1), &Value::Bool(false), &Value::Bool(true))
    );
    fs::remove_file(&path).expect("the shard is removed");
    damaged();
}
