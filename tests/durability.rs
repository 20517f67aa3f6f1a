//! W1 and W4: an acked event survives the death of the process at any moment, and the counts always balance.

use std::fs;
use std::time::Duration;

use crate::support::{Chance, Client, Folder, Load, Report, Server, break_sync, cpus, stored, wait_for};
use firehose::base::clock;

/// Kills the server at random instants, repeatedly on the same folder, then counts.
fn survive(flags: &[&str], rounds: u64) {
    let (folder, mut chance, mut all) = (Folder::new(), Chance::new(), Report::default());
    for round in 0..rounds {
        if round % 4 == 3 {
            // Kills the server while it starts: recovery must survive an interruption too.
            let starting = folder.spawn(flags);
            clock::pause(Duration::from_micros(chance.below(80_000)));
            starting.kill();
        }
        let server = folder.serve(flags);
        let before = server.health()["total_received"].as_u64().unwrap_or_default();
        assert!(before >= all.acked.len() as u64, "{before} received before, {} acked", all.acked.len());
        let load = Load::start(server.address, 4, 1 + chance.below(12) as usize, all.next());
        // The kill comes at a random instant, not after some event.
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

/// Checks that every receipt of an acked event reports `stored`.
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
fn w1_an_acked_event_survives_kill_9_at_any_instant_and_w4_the_books_balance() {
    survive(&["--shards", "1"], 12);
}

#[test]
fn w1_an_acked_event_survives_with_one_core_and_three_shards() {
    survive(&["--shards", "3"], 5);
}

#[test]
fn w1_an_acked_event_survives_with_more_cores_than_shards() {
    survive(&["--cores", &cpus(2), "--shards", "1"], 5);
}

#[test]
fn w1_an_event_acked_as_on_disk_survives() {
    survive(&["--shards", "2", "--ack", "disk"], 4);
}

/// Small segments and frequent checkpoints, so that kills also hit the deletion of segments.
#[test]
fn w1_an_acked_event_survives_while_segments_are_deleted() {
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

fn service(id: &str) -> String {
    format!(
        r#"{{"event_id":"{id}","tenant_id":"t","source":"web","event_type":"x","timestamp":"2024-01-14T10:30:00Z","payload":{{}}}}"#
    )
}

#[test]
fn after_a_failed_sync_who_asks_for_the_disk_is_refused_and_others_go_on() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1", "--checkpoint-interval", "1h"]);
    let mut client = server.client();
    assert_eq!(client.post(1).expect("the server answers").status, 202);
    let first = client.ask("POST", "/events", &service("a")).expect("the server answers");
    assert_eq!(first.status, 201, "{first:?}");
    server.wait_until_stored();
    break_sync(&folder.newest_segment(0, "hot"));
    break_sync(&folder.newest_segment(0, "keyed"));

    // On the listener: responses arrive in order, and only promises of the disk are withdrawn.
    let mut client = server.client();
    let asked = [
        Client::request("POST", "/event?ack=disk", &crate::support::event(2)),
        Client::request("POST", "/event", &crate::support::event(3)),
        Client::request("HEAD", "/health", ""),
        Client::request("POST", "/event?ack=disk", &crate::support::event(4)),
    ];
    client.write(asked.concat().as_bytes()).expect("the server reads");
    let mut answers = Vec::new();
    for turn in 0..asked.len() {
        let answer = if turn == 2 { client.answer_head() } else { client.answer() };
        answers.push(answer.expect("an answer, not the end of the connection"));
    }
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [503, 202, 200, 503]);
    assert_eq!(answers[0].json()["type"], "/docs/problems/journal-unsynced");
    assert_eq!(answers[0].json()["instance"], answers[0].header("X-Request-Id").expect("an id"));
    assert!(answers[0].header("Retry-After").is_some());
    assert!(
        answers[0].json()["detail"].as_str().expect("text").contains("may be stored"),
        "{:?}",
        answers[0]
    );

    // While the failure is known, such requests are refused immediately and nothing is stored. Requests that ask for
    // less continue.
    let detail = |answer: &crate::support::Answer| answer.json()["detail"].as_str().expect("text").to_owned();
    for number in 5..8 {
        let refused =
            client.ask("POST", "/event?ack=disk", &crate::support::event(number)).expect("an answer");
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(detail(&refused).contains("nothing was stored"), "{refused:?}");
    }
    assert_eq!(client.post(8).expect("the server answers").status, 202);
    assert_eq!(folder.segments(0, "hot").len(), 2, "it goes on in a new segment");

    // On the executor, whose journal is synced separately, the first request for the disk discovers the failure.
    let first = client.ask("POST", "/events?ack=disk", &service("b")).expect("an answer");
    assert_eq!(first.status, 503, "{first:?}");
    assert!(detail(&first).contains("a retry is safe"), "{first:?}");
    for (target, body) in [("/events?ack=disk", service("c")), ("/event?ack=disk", crate::support::event(9))]
    {
        let refused = client.ask("POST", target, &body).expect("an answer");
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(detail(&refused).contains("nothing was stored"), "{refused:?}");
    }
    assert_eq!(client.ask("POST", "/events", &service("d")).expect("an answer").status, 201);
    server.wait_until_stored();
    server.stop();
    let kept = stored(&folder.data());
    assert_eq!(kept.iter().filter(|number| ![2, 4].contains(*number)).collect::<Vec<_>>(), [&1, &3, &8]);
}

/// If the journal's files cannot be listed, a client that waits for a sync gets an error instead of no response, on
/// both lanes.
#[test]
fn who_waits_for_the_disk_is_told_when_the_journal_cannot_be_listed() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1", "--checkpoint-interval", "1h"]);
    let mut client = server.client();
    assert_eq!(client.post(1).expect("the server answers").status, 202);
    assert_eq!(client.ask("POST", "/events", &service("a")).expect("the server answers").status, 201);
    server.wait_until_stored();
    for (lane, target, body) in
        [("hot", "/event?ack=disk", crate::support::event(2)), ("keyed", "/events?ack=disk", service("b"))]
    {
        let path = folder.newest_segment(0, lane).parent().expect("a folder").to_owned();
        let aside = path.with_extension("aside");
        fs::rename(&path, &aside).expect("the journal is renamed");
        let refused = server.client().ask("POST", target, &body).expect("an answer");
        fs::rename(&aside, &path).expect("the journal is back");
        assert_eq!(refused.status, 503, "{lane}: {refused:?}");
        assert_eq!(refused.json()["type"], "/docs/problems/journal-unsynced", "{lane}: {refused:?}");
    }
}

/// Returns the log line about the response to this request.
fn logged(server: &Server, request_id: &str) -> serde_json::Value {
    wait_for("the answer to be logged", || {
        let log = server.log();
        let lines = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let mut lines = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines.find(|line| line["request_id"] == request_id)
    })
}

/// Covers an event that could not be journaled, a promise that was withdrawn, and one that was kept.
#[test]
fn the_log_says_of_an_event_what_its_client_was_told() {
    let ask = |server: &Server, id: &str| {
        let body = crate::support::event(2);
        let head = format!("POST /event?ack=disk HTTP/1.1\r\nHost: a\r\nX-Request-Id: {id}\r\n");
        let mut client = server.client();
        let sent = client.write(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        sent.expect("the server reads");
        let answer = client.answer().expect("an answer");
        assert_eq!(logged(server, id)["status"], answer.status, "{answer:?}");
        answer.status
    };
    // The log samples the first event.
    assert_eq!(ask(&Folder::new().serve(&["--shards", "1"]), "kept"), 202);
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1", "--checkpoint-interval", "1h"]);
    assert_eq!(server.client().post(1).expect("the server answers").status, 202);
    break_sync(&folder.newest_segment(0, "hot"));
    assert_eq!(ask(&server, "taken-back"), 503);
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1", "--checkpoint-interval", "1h"]);
    let (hot, aside) = (folder.shard(0).join("hot"), folder.shard(0).join("aside"));
    fs::rename(&hot, &aside).expect("the journal is renamed");
    assert_eq!(ask(&server, "sampled-and-refused"), 503);
    fs::rename(&aside, &hot).expect("the journal is back");
}
