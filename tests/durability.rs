//! W1 and W4: what was acked survives the death of the process at any moment, and the books always balance.

mod support;

use std::time::Duration;

use firehose::base::clock;
use support::{Chance, Client, Folder, Load, Report, cpus, stored};

/// Kills the server at random instants, again and again on the same folder, then counts.
fn survive(flags: &[&str], rounds: u64) {
    let (folder, mut chance, mut all) = (Folder::new(), Chance::new(), Report::default());
    for round in 0..rounds {
        if round % 4 == 3 {
            // Killed while it starts: recovery has to survive being interrupted, too.
            let starting = folder.spawn(flags);
            clock::pause(Duration::from_micros(chance.below(80_000)));
            starting.kill();
        }
        let server = folder.serve(flags);
        let before = server.health()["total_received"].as_u64().unwrap_or_default();
        assert!(before >= all.acked.len() as u64, "{before} received before, {} acked", all.acked.len());
        let load = Load::start(server.address, 4, 1 + chance.below(12) as usize, all.next());
        // The kill comes at a random instant, not when something has happened.
        let until = clock::now() + Duration::from_micros(20_000 + chance.below(280_000));
        let mut received = before;
        while clock::now() < until {
            let acked = load.acked();
            let now = server.health()["total_received"].as_u64().unwrap_or_default();
            assert!(now >= received, "total_received went from {received} back to {now}");
            assert!(now >= before + acked, "{now} received, {acked} acked of them besides {before}");
            received = now;
        }
        server.kill();
        all.add(load.ended());
    }
    assert!(all.refused.is_empty(), "{:?}", all.refused);
    assert!(all.acked.len() as u64 > rounds, "there was no load to speak of: {}", all.acked.len());

    let server = folder.serve(flags);
    let health = server.wait_until_stored();
    check_receipts(&mut server.client(), &all);
    server.stop();
    let stored = stored(&folder.data());
    all.check(&stored);
    assert_eq!(health["database_events"], stored.len());
    assert_eq!(health["total_processed"], stored.len(), "accepted = stored, and nothing beside it");
    let (code, said) = folder.run_json(&["verify"]);
    assert_eq!(code, 0, "{said}");
}

/// Every receipt of an acked event says `stored`.
fn check_receipts(client: &mut Client, all: &Report) {
    let receipts: Vec<&String> = all.acked.values().collect();
    for some in receipts.chunks(64) {
        let asked: String = some
            .iter()
            .map(|receipt| format!("GET /receipts/{receipt} HTTP/1.1\r\nHost: test\r\n\r\n"))
            .collect();
        client.write(asked.as_bytes()).expect("the server reads");
        for receipt in some {
            let answer = client.answer().expect("the server answers");
            assert_eq!((answer.status, &answer.json()["state"]), (200, &"stored".into()), "{receipt}");
        }
    }
}

#[test]
fn an_acked_event_survives_kill_9_at_any_instant() {
    survive(&["--shards", "1"], 12);
}

#[test]
fn an_acked_event_survives_with_one_core_and_three_shards() {
    survive(&["--shards", "3"], 5);
}

#[test]
fn an_acked_event_survives_with_more_cores_than_shards() {
    survive(&["--cores", &cpus(2), "--shards", "1"], 5);
}

#[test]
fn an_event_acked_as_on_disk_survives() {
    survive(&["--shards", "2", "--ack", "disk"], 4);
}

/// Small segments and checkpoints all the time: kills hit the deletion of segments, too.
#[test]
fn an_acked_event_survives_while_segments_are_deleted() {
    survive(
        &[
            "--shards",
            "1",
            "--segment-bytes",
            "1MiB",
            "--checkpoint-interval",
            "10ms",
            "--checkpoint-wal-bytes",
            "64KiB",
        ],
        6,
    );
}
