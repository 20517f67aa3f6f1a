//! A database that is locked, missing, replaced or damaged is an expected condition: events are accepted nevertheless,
//! health reports the outage, and everything is stored when it ends.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::{
    Answer, Client, Folder, Load, PATIENCE, Report, Server, command, event_with, hold_lock,
};
use crate::support::{stored, stored_in, wait_for, wait_until};
use firehose::base::clock;
use serde_json::Value;

const ONE_SHARD: &[&str] = &["--shards", "1"];
const TWO_SHARDS: &[&str] = &["--shards", "2"];

/// Returns the state of one shard in `/health`.
fn state(health: &Value, shard: usize) -> String {
    health["shards"][shard]["state"].as_str().expect("a state").to_owned()
}

/// Posts until each of two shards has more rows than before.
fn post_until_both_grow(server: &Server, all: &mut Report) {
    let rows = |health: &Value, shard: usize| health["shards"][shard]["database_events"].as_u64();
    let (before, mut client) = (server.health(), server.client());
    wait_until("both shards to get rows", || {
        all.post(&mut client);
        let now = server.health();
        rows(&now, 0) > rows(&before, 0) && rows(&now, 1) > rows(&before, 1)
    });
}

#[track_caller]
fn check_ready(server: &Server, status: u16, shards: &str) {
    let answer = server.get("/ready");
    let said = answer.json();
    assert_eq!(answer.status, status, "{said}");
    let reason = said["checks"]["shards"]["reason"].as_str().expect("a reason");
    assert!(reason.contains(shards), "{shards:?} in {said}");
}

#[test]
fn s3_a_lock_held_outside_is_waited_out_under_load() {
    let folder = Folder::new();
    let server = folder.serve(ONE_SHARD);
    server.wait_until_stored();
    let load = Load::start(server.address, 4, 4, 1);
    wait_until("load", || load.acked() > 100);
    let lock = hold_lock(&folder.database(0));
    let degraded = server.wait_until_status("degraded");
    assert_eq!(state(&degraded, 0), "busy");
    check_ready(&server, 503, "shard 0 is busy");
    let (acked, until) = (load.acked(), clock::now() + Duration::from_millis(1_500));
    let processed = degraded["total_processed"].clone();
    while clock::now() < until {
        assert_eq!(server.health()["total_processed"], processed, "nothing is stored behind a lock");
    }
    wait_until("acks during the lock", || load.acked() > acked + 500);
    drop(lock);
    wait_until("the shard to be written again", || server.health()["status"] == "healthy");
    check_ready(&server, 200, "every shard is open");
    let all = load.stop();
    server.wait_until_stored();
    wait_until("the log to say so", || {
        server.logged("outage over: the database is writable again").is_some()
    });
    server.stop();
    all.check_all_accepted(&stored(&folder.data()));
}

#[test]
fn the_lock_drill_does_the_same_to_every_shard() {
    let folder = Folder::new();
    let server = folder.serve(TWO_SHARDS);
    server.wait_until_stored();
    let load = Load::start(server.address, 2, 4, 1);
    let mut drill = command();
    drill.args(["drill", "lock", "--seconds", "1", "--data"]).arg(folder.data());
    let drill = drill.stdout(std::process::Stdio::piped()).spawn().expect("the drill starts");
    wait_until("both shards to be locked", || {
        let health = server.health();
        state(&health, 0) == "busy" && state(&health, 1) == "busy"
    });
    let output = drill.wait_with_output().expect("the drill ends");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2 shards locked for 1 s\nunlocked\n");
    let all = load.stop();
    server.wait_until_stored();
    server.stop();
    all.check_all_accepted(&stored(&folder.data()));
}

#[test]
fn a_database_absent_at_the_start_is_made_anew_from_the_journal() {
    let (folder, mut all) = (Folder::new(), Report::default());
    let server = folder.serve(ONE_SHARD);
    let mut client = server.client();
    (0..40).for_each(|_| _ = all.post(&mut client));
    server.wait_until_stored();
    server.kill();
    for name in ["shard.db", "shard.db-wal", "shard.db-shm"] {
        fs::remove_file(folder.shard(0).join(name)).expect("it is there");
    }
    let server = folder.serve(ONE_SHARD);
    all.post(&mut server.client());
    assert_eq!(server.wait_until_stored()["database_events"], 41);
    server.stop();
    all.check_all_accepted(&stored(&folder.data()));
}

/// SQLite keeps reporting success for an unlinked file; the server must not.
#[test]
fn a_database_unlinked_while_running_is_noticed_before_the_next_commit() {
    let folder = Folder::new();
    let server = folder.serve(ONE_SHARD);
    let load = Load::start(server.address, 2, 4, 1);
    for round in 1..=3 {
        // Events are accepted before the database is open; this test needs an open one.
        wait_until("the shard to be open", || server.get("/ready").status == 200);
        let acked = load.acked();
        wait_until("load", || load.acked() > acked + 100);
        fs::remove_file(folder.database(0)).expect("the shard is there");
        wait_until("the shard to be back", || {
            assert_eq!(server.get("/health").status, 200);
            folder.database(0).exists()
        });
        wait_until("the log to say so", || {
            server.log().matches("the removed database was copied back").count() >= round
        });
    }
    let all = load.stop();
    server.wait_until_stored();
    server.stop();
    all.check_all_accepted(&stored(&folder.data()));
}

#[test]
fn a_wal_unlinked_while_running_costs_nothing() {
    let (folder, mut all) = (Folder::new(), Report::default());
    let server = folder.serve(ONE_SHARD);
    let mut client = server.client();
    (0..20).for_each(|_| _ = all.post(&mut client));
    server.wait_until_stored();
    fs::remove_file(folder.shard(0).join("shard.db-wal")).expect("the WAL is there");
    (0..20).for_each(|_| _ = all.post(&mut client));
    wait_until("it to be noticed", || server.logged("the database cannot be written").is_some());
    server.wait_until_stored();
    server.kill();
    folder.serve(ONE_SHARD).stop();
    all.check_all_accepted(&stored(&folder.data()));
}

#[test]
fn garbage_in_the_place_of_a_shard_quarantines_it_and_only_it() {
    let (folder, mut all) = (Folder::new(), Report::default());
    let server = folder.serve(TWO_SHARDS);
    post_until_both_grow(&server, &mut all);
    server.wait_until_stored();
    let (database, kept) = (folder.database(0), folder.shard(0).join("kept"));
    fs::rename(&database, &kept).expect("the shard is moved");
    fs::write(&database, vec![b'x'; 20_000]).expect("garbage is written");

    let load = Load::start(server.address, 2, 4, all.next());
    let health =
        wait_for("quarantine", || Some(server.health()).filter(|health| state(health, 0) == "quarantined"));
    assert_eq!(health["status"], "degraded");
    check_ready(&server, 503, "shard 0 is quarantined");
    let other = |health: &Value| health["shards"][1]["database_events"].as_u64();
    wait_until("the other shard to go on", || other(&server.health()) > other(&health));
    let pending = |health: &Value| health["shards"][0]["pending"].as_u64();
    wait_until("the journal to keep what arrives", || pending(&server.health()) > Some(0));
    assert_eq!(fs::read(&database).expect("it is there"), vec![b'x'; 20_000], "it is left as it is");

    fs::rename(&kept, &database).expect("the good one is put back");
    wait_until("the shard to be written again", || server.health()["status"] == "healthy");
    check_ready(&server, 200, "every shard is open");
    all.add(load.stop());
    server.wait_until_stored();
    server.stop();
    all.check_all_accepted(&stored(&folder.data()));
}

#[test]
fn s3_a_shard_corrupt_at_the_start_does_not_keep_the_others_from_serving() {
    let (folder, mut all) = (Folder::new(), Report::default());
    let server = folder.serve(TWO_SHARDS);
    post_until_both_grow(&server, &mut all);
    server.wait_until_stored();
    let second = stored_in(&folder.database(1)).len();
    server.stop();
    let good = fs::read(folder.database(0)).expect("the shard is read");
    let mut bad = good.clone();
    bad[..4096].fill(0xA5);
    fs::write(folder.database(0), &bad).expect("the shard is spoilt");

    let (code, said) = folder.run_json(&["verify"]);
    assert_eq!((code, &said[0]["ok"]), (1, &Value::Bool(false)), "{said}");
    let server = folder.serve(TWO_SHARDS);
    wait_until("quarantine", || state(&server.health(), 0) == "quarantined");
    check_ready(&server, 503, "shard 0 is quarantined");
    let mut client = server.client();
    wait_until("the other shard to store", || {
        all.post(&mut client);
        stored_in(&folder.database(1)).len() > second
    });

    fs::write(folder.database(0), &good).expect("the shard is restored");
    server.wait_until_status("healthy");
    post_until_both_grow(&server, &mut all);
    server.wait_until_stored();
    server.stop();
    all.check_all_accepted(&stored(&folder.data()));
}

/// The records in the journal are stored again in the file that replaces a removed one.
#[test]
fn a_quarantined_shard_that_is_moved_away_is_made_anew_from_the_journal() {
    let (folder, mut all) = (Folder::new(), Report::default());
    let server = folder.serve(ONE_SHARD);
    let mut client = server.client();
    (0..30).for_each(|_| _ = all.post(&mut client));
    server.wait_until_stored();
    server.stop();
    fs::write(folder.database(0), "this is no database, however one looks at it").expect("garbage");
    let server = folder.serve(ONE_SHARD);
    let mut client = server.client();
    (0..30).for_each(|_| _ = all.post(&mut client));
    wait_until("quarantine", || state(&server.health(), 0) == "quarantined");
    for name in ["shard.db", "shard.db-wal", "shard.db-shm"] {
        let _ = fs::rename(folder.shard(0).join(name), folder.beside(name));
    }
    server.wait_until_status("healthy");
    assert_eq!(server.wait_until_stored()["database_events"], 60);
    server.stop();
    all.check_all_accepted(&stored(&folder.data()));
}

/// Posts events with this padding until one is not accepted.
fn post_until_refused(client: &mut Client, all: &mut Report, padding: usize) -> Answer {
    let deadline = clock::now() + PATIENCE;
    while clock::now() < deadline {
        let number = all.next();
        all.sent.insert(number);
        let answer = client.ask("POST", "/event", &event_with(number, padding)).expect("an answer");
        match answer.header("Firehose-Receipt") {
            Some(receipt) => _ = all.acked.insert(number, receipt.to_owned()),
            None => {
                all.refused.insert(number, answer.status);
                return answer;
            }
        }
    }
    panic!("{} events were accepted without end", all.acked.len());
}

/// Posts until one is accepted again.
fn post_until_accepted(client: &mut Client, all: &mut Report) {
    wait_until("room again", || {
        let number = all.next();
        all.sent.insert(number);
        let answer = client.post(number).expect("an answer");
        match answer.header("Firehose-Receipt") {
            Some(receipt) => all.acked.insert(number, receipt.to_owned()).is_none(),
            None => {
                all.refused.insert(number, answer.status);
                false
            }
        }
    });
}

#[test]
fn time_in_which_nothing_came_is_not_time_behind() {
    let folder = Folder::new();
    let server = folder.serve(ONE_SHARD);
    let mut client = server.client();
    client.post(1).expect("the server answers");
    server.wait_until_stored();
    // The test needs real time to pass: the newest stored event becomes older.
    clock::pause(Duration::from_secs(4));
    let lock = hold_lock(&folder.database(0));
    let locked = clock::now();
    client.post(2).expect("the server answers");
    let behind_us = wait_for("the shard to be behind", || {
        let shard = server.get("/dashboard/state").json()["shards"][0].clone();
        shard["behind_us"].as_u64().filter(|behind_us| shard["state"] == "busy" && *behind_us > 0)
    });
    let since_us = (clock::now() - locked).as_micros() as u64;
    assert!(behind_us < since_us + 3_000_000, "{behind_us} us behind, {since_us} us into the lock");
    drop(lock);
    server.wait_until_stored();
    server.stop();
}

#[test]
fn a_queue_over_its_high_water_mark_answers_429_and_recovers_by_itself() {
    let (folder, mut all) = (Folder::new(), Report::default());
    let flags = [ONE_SHARD, &["--event-bytes-max", "16KiB", "--journal-high-water", "64KiB"]].concat();
    let server = folder.serve(&flags);
    server.wait_until_stored();
    let lock = hold_lock(&folder.database(0));
    let mut client = server.client();
    let answer = post_until_refused(&mut client, &mut all, 4_000);
    assert_eq!(answer.status, 429, "{answer:?}");
    let wait: u64 = answer.header("Retry-After").expect("it says when").parse().expect("seconds");
    assert_eq!(wait, 5, "nothing drains it");
    let problem = answer.json();
    assert_eq!(problem["type"], "/docs/problems/queue-full");
    assert_eq!(problem["status"], 429);
    assert_eq!(problem["queue_size"], all.acked.len());
    assert!(problem["queue_bytes"].as_u64() >= Some(64 * 1024), "{problem}");
    assert_eq!(problem["expected_delay_seconds"], wait);
    let health = server.health();
    assert_eq!((&health["queue_size"], &health["total_processed"]), (&all.acked.len().into(), &0.into()));
    let ready = server.get("/ready");
    assert_eq!((ready.status, &ready.json()["checks"]["journal"]["ok"]), (503, &Value::Bool(false)));
    drop(lock);
    post_until_accepted(&mut client, &mut all);
    server.wait_until_stored();
    assert_eq!(server.get("/ready").status, 200);
    server.stop();
    all.check(&stored(&folder.data()));
}

#[test]
fn a_journal_at_its_cap_answers_507_and_recovers_by_itself() {
    let (folder, mut all) = (Folder::new(), Report::default());
    let small = ["--segment-bytes", "1MiB", "--journal-bytes-max", "2MiB", "--journal-high-water", "2MiB"];
    let flags = [ONE_SHARD, &small, &["--checkpoint-interval", "100ms"]].concat();
    let server = folder.serve(&flags);
    server.wait_until_stored();
    let lock = hold_lock(&folder.database(0));
    let mut client = server.client();
    let answer = post_until_refused(&mut client, &mut all, 100_000);
    assert_eq!(answer.status, 507, "{answer:?}");
    assert_eq!(answer.json()["type"], "/docs/problems/journal-full");
    assert_eq!(server.get("/health").status, 200);
    drop(lock);
    post_until_accepted(&mut client, &mut all);
    server.wait_until_stored();
    server.stop();
    all.check(&stored(&folder.data()));
}

/// One event of `/events`, as a whole request.
fn keyed_event(id: &str) -> String {
    let body = format!(
        r#"{{"event_id":"{id}","tenant_id":"acme","source":"web","event_type":"view","timestamp":"2026-01-15T10:30:00Z","payload":{{}}}}"#
    );
    Client::request("POST", "/events", &body)
}

#[test]
fn an_event_behind_an_order_at_a_locked_shard_is_not_kept_waiting_as_long_as_the_order() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1", "--commit-wait", "200ms"]);
    let lock = hold_lock(&folder.database(0));
    let order = r#"{"order_id":"o-1","tenant_id":"acme","customer_id":"c-1","customer_name":"Ann","customer_email":"ann@example.com","status":"paid","currency":"USD","ordered_at":"2026-03-01T12:00:00Z","items":[{"product_id":"p","category":"c","quantity":1,"unit_price":"1.00"}]}"#;
    let head = format!(
        "POST /api/v1/ingest/orders HTTP/1.1\r\nHost: test\r\nIdempotency-Key: k\r\nContent-Length: {}\r\n\r\n",
        order.len()
    );
    let mut first = server.client();
    first.write((head + order).as_bytes()).expect("it is sent");
    wait_until("the order is in the journal", || server.health()["queue_size"] != 0);
    let is_answered = Arc::new(AtomicBool::new(false));
    let answered = Arc::clone(&is_answered);
    let ordered = std::thread::spawn(move || {
        let status = first.answer().expect("an answer").status;
        answered.store(true, Ordering::Relaxed);
        status
    });
    let mut second = server.client();
    second.write(keyed_event("e-1").as_bytes()).expect("it is sent");
    assert_eq!(second.answer().expect("an answer").status, 202);
    assert!(!is_answered.load(Ordering::Relaxed), "the order waits longer");
    drop(lock);
    assert_eq!(ordered.join().expect("no panic"), 200);
}

#[test]
fn rows_of_several_locked_shards_wait_once_for_their_commits() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "8", "--commit-wait", "1s"]);
    let locks: Vec<_> = (0..8).map(|shard| hold_lock(&folder.database(shard))).collect();
    let rows: Vec<String> = (0..64)
        .map(|at| {
            format!(
                r#"{{"event_id":"b-{at}","tenant_id":"acme","source":"web","event_type":"view","timestamp":"2026-01-15T10:30:00Z","payload":{{}}}}"#
            )
        })
        .collect();
    let mut bulk = server.client();
    bulk.write(
        Client::request("POST", "/events/bulk", &format!("{{\"events\":[{}]}}", rows.join(","))).as_bytes(),
    )
    .expect("it is sent");
    let answered = std::thread::spawn(move || bulk.answer().expect("an answer").status);
    // Each waits for the same time. Their shards are locked, too.
    let mut single = server.client();
    for at in 0..4 {
        single.write(keyed_event(&format!("e-{at}")).as_bytes()).expect("it is sent");
        assert_eq!(single.answer().expect("an answer").status, 202);
    }
    assert!(answered.is_finished(), "it waits for one shard after the other");
    assert_eq!(answered.join().expect("no panic"), 200);
    drop(locks);
}

#[test]
fn the_time_for_a_head_does_not_begin_while_the_request_before_it_waits() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1", "--commit-wait", "1s", "--head-timeout", "300ms"]);
    let lock = hold_lock(&folder.database(0));
    let mut client = server.client();
    let (begun, rest) = ("GET /events?tenant_id=acme HT", "TP/1.1\r\nHost: test\r\n\r\n");
    client.write((keyed_event("e-1") + begun).as_bytes()).expect("it is sent");
    assert_eq!(client.answer().expect("an answer").status, 202);
    client.write(rest.as_bytes()).expect("it is sent");
    assert_eq!(client.answer().expect("an answer").status, 200);
    drop(lock);
}
