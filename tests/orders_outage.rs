//! S3 for orders: an ingest waits for a locked shard, or reports after its patience that the outcome is unknown.
//! Meanwhile all reads continue. A full disk costs no order.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use crate::support::commerce::{
    NDJSON, counts, ingest, ingested, problem, sales, search_all, search_path, verify,
};
use crate::support::oracle::{self, Order};
use crate::support::{Chance, Client, Folder, SmallDisk, command, cpus, hold_lock, wait_until};
use serde_json::Value;

fn orders(first: u64, count: u64) -> Vec<Order> {
    let mut chance = Chance::seeded(first + 1);
    (first..first + count).map(|id| Order::random(&mut chance, "acme", id)).collect()
}

#[test]
fn s3_an_ingest_waits_for_a_locked_shard_and_reads_go_on() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
    let (before, later) = (orders(0, 300), orders(300, 6_000));
    assert_eq!(counts(&ingested(&server, "before", &oracle::body(&before))), [300, 300, 0, 0]);
    let figures = sales(&server, "acme", "group_by=day");

    let mut drill = command();
    drill.args(["drill", "lock", "--seconds", "3", "--data"]).arg(folder.data());
    let mut drill = drill.stdout(Stdio::piped()).spawn().expect("the drill starts");
    let mut said = BufReader::new(drill.stdout.take().expect("its words")).lines();
    let mut next = || said.next().expect("a line").expect("text");
    assert_eq!(next(), "2 shards locked for 3 s");
    let address = server.address;
    let body = oracle::body(&later);
    let ingesting = std::thread::spawn(move || ingest(address, "later", NDJSON, &body));
    wait_until("the lock to be noticed", || server.health()["status"] == "degraded");
    // None of the new orders is visible yet, and the earlier ones are read as usual.
    let mut reads = 0;
    while drill.try_wait().expect("it can be asked").is_none() {
        let answer = server.get(&search_path("acme", "limit=1000"));
        let answered = sales(&server, "acme", "group_by=day");
        if drill.try_wait().expect("it can be asked").is_some() {
            break;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answered["groups"], figures["groups"]);
        assert!(!ingesting.is_finished(), "an ingest is finished that cannot be");
        reads += 1;
    }
    assert!(reads > 0, "there was time to read");
    assert_eq!(next(), "unlocked");
    let answer = ingesting.join().expect("no panic").expect("the server answers");
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(counts(&answer.json()), [6_000, 6_000, 0, 0]);
    let all: Vec<_> = before.iter().chain(&later).collect();
    assert!(search_all(&server, "acme", "limit=5000") == oracle::rows(all));
    server.stop();
    verify(&folder);
}

#[test]
fn an_ingest_whose_shard_stays_locked_says_that_it_does_not_know() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
    server.wait_until_stored();
    let body = oracle::body(&orders(0, 400));
    let lock = hold_lock(&folder.database(1));
    let answer = ingest(server.address, "k", NDJSON, &body).expect("the server answers");
    let said = answer.json();
    assert_eq!(
        (answer.status, &said["type"]),
        (503, &Value::from("/docs/problems/outcome-unknown")),
        "{said}"
    );
    assert!(answer.header("Retry-After").is_some());
    let [received, inserted, duplicate, failed] = counts(&said);
    assert!(inserted < 400 && received == inserted && duplicate + failed == 0, "{said}");
    drop(lock);
    // The rows were in the journal, and the key still identifies them.
    assert_eq!(counts(&ingested(&server, "k", &body)), [400, 400, 0, 0]);
    assert_eq!(search_all(&server, "acme", "limit=1000&fields=order_id").len(), 400);
    server.stop();
    verify(&folder);
}

#[test]
fn an_ingest_over_the_high_water_mark_is_told_to_come_back() {
    let folder = Folder::new();
    let flags = ["--shards", "1", "--commit-wait", "50ms", "--journal-high-water", "256KiB"];
    let server = folder.serve(&flags);
    server.wait_until_stored();
    let body = oracle::body(&orders(0, 4_000));
    assert!(body.len() > 1 << 20);
    let lock = hold_lock(&folder.database(0));
    // A change of a status waits for its commit as long as an ingest that nothing hurries.
    let mut patient = server.client();
    let target = "/api/v1/tenants/acme/orders/order-0";
    let request = Client::request("PATCH", target, r#"{"status":"shipped"}"#);
    patient.write(request.as_bytes()).expect("it is sent");
    wait_until("the change is in the journal", || server.health()["queue_size"] != 0);
    let patient = std::thread::spawn(move || patient.answer().expect("an answer").status);
    // In the middle of a body: the rows before it are journaled, and counted as far as their outcome is known.
    for what in ["in the middle", "at the beginning"] {
        let answer = ingest(server.address, "k", NDJSON, &body).expect("the server answers");
        let said = problem(&answer, 429, "queue-full");
        assert!(answer.header("Retry-After").is_some() && said["queue_bytes"].as_u64() > Some(0), "{said}");
        assert_eq!(
            (counts_or_none(&said), answer.header("Connection")),
            (what == "in the middle", Some("close"))
        );
    }
    assert!(!patient.is_finished(), "an ingest that is told to come back does not wait as long");
    drop(lock);
    assert_eq!(patient.join().expect("no panic"), 404);
    server.wait_until_stored();
    wait_until("the ingest to be taken", || {
        let answer = ingest(server.address, "k", NDJSON, &body).expect("the server answers");
        // The ingest's own portions may exceed this limit.
        assert!(matches!(answer.status, 200 | 429), "{answer:?}");
        answer.status == 200 && counts(&answer.json()) == [4_000, 4_000, 0, 0]
    });
    server.stop();
    verify(&folder);
}

/// Returns `true` if a refusal has the counts of rows.
fn counts_or_none(said: &Value) -> bool {
    said.get("rows_received").is_some() && counts(said)[3] == 0
}

#[test]
fn s3_a_full_disk_costs_no_order() {
    let folder = Folder::new();
    let Some(disk) = SmallDisk::mount(folder.beside("disk"), 48 << 20) else { return };
    let (data, ballast) = (disk.path().join("data"), disk.path().join("ballast"));
    let flags = [
        "--shards",
        "1",
        "--segment-bytes",
        "1MiB",
        "--disk-reserve",
        "6MiB",
        "--checkpoint-interval",
        "200ms",
    ];
    let server = folder.serve_on(&data, &flags);
    let mut taken = Vec::new();
    let first = orders(0, 500);
    assert_eq!(counts(&ingested(&server, "first", &oracle::body(&first))), [500, 500, 0, 0]);
    taken.extend(first);
    let mut file = File::create(&ballast).expect("the ballast is made");
    // Fills the disk until no more can be written.
    let block = vec![b'b'; 64 << 10];
    while file.write_all(&block).is_ok() {}
    let more = orders(500, 4_000);
    let body = oracle::body(&more);
    wait_until("the reserve to be noticed", || {
        let answer = ingest(server.address, "more", NDJSON, &body).expect("the server answers");
        assert!(matches!(answer.status, 200 | 503 | 507), "{answer:?}");
        assert_eq!(server.get("/health").status, 200);
        assert_eq!(
            search_all(&server, "acme", "limit=1000&fields=order_id&to=2000-01-01T00:00:00Z").len(),
            0
        );
        answer.status == 507
    });
    drop(file);
    fs::remove_file(&ballast).expect("it is there");
    let mut summary = Value::Null;
    wait_until("room to be noticed", || {
        let answer = ingest(server.address, "more", NDJSON, &body).expect("the server answers");
        summary = answer.json();
        answer.status == 200
    });
    assert_eq!(counts(&summary), [4_000, 4_000, 0, 0], "{summary}");
    taken.extend(more);
    assert!(search_all(&server, "acme", "limit=5000") == oracle::rows(&taken));
    server.stop();
}
