//! Stopping: the server first reports that it is not ready, then finishes open requests, then stores everything that
//! it accepted.

use std::io;

use crate::support::{Client, Folder, Load, Report, Server, event, hold_lock, stored, wait_until};

const FLAGS: &[&str] = &["--shards", "2", "--ops-listen", "127.0.0.1:0"];

/// Returns a POST up to the middle of its body, and the rest of it.
fn halves(number: u64) -> (String, String) {
    let mut request = Client::request("POST", "/event", &event(number));
    let rest = request.split_off(request.len() - 20);
    (request, rest)
}

fn ready_on_ops(server: &Server) -> (u16, String) {
    let mut ops = Client::connect(server.ops.expect("ops listens")).expect("ops takes connections");
    let answer = ops.get("/ready").expect("ops answers");
    (answer.status, answer.json()["status"].as_str().expect("a status").to_owned())
}

/// Returns `true` if the server's port no longer accepts connections.
fn is_closed(server: &Server) -> bool {
    matches!(Client::connect(server.address), Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

#[test]
fn a_stop_says_unready_first_then_finishes_open_requests_and_stores_everything() {
    let (folder, mut all) = (Folder::new(), Report::default());
    let server = folder.serve(&[FLAGS, &["--drain-delay", "5s", "--drain-timeout", "60s"]].concat());
    let (mut client, mut open) = (server.client(), server.client());
    // The other lane has an unfinished request too.
    let mut handed_over = server.client();
    assert_eq!(handed_over.get("/openapi.json").expect("an answer").status, 200);
    (0..50).for_each(|_| _ = all.post(&mut client));
    let (number, other) = (all.next(), all.next() + 1);
    let (half, rest) = halves(number);
    let (other_half, other_rest) = halves(other);
    open.write(half.as_bytes()).expect("it is read");
    handed_over.write(other_half.as_bytes()).expect("it is read");
    all.sent.extend([number, other]);
    wait_until("/ready to say yes", || ready_on_ops(&server) == (200, "ready".to_owned()));

    server.signal("TERM");
    wait_until("/ready to say no", || ready_on_ops(&server) == (503, "draining".to_owned()));
    // Load balancers need time to notice. Meanwhile the server accepts events as usual.
    all.post(&mut client);
    all.post(&mut server.client());
    let unready = server.get("/ready");
    assert_eq!((unready.status, unready.header("Retry-After").is_some()), (503, true));

    wait_until("the port to close", || is_closed(&server));
    for (client, rest, number) in [(&mut open, rest, number), (&mut handed_over, other_rest, other)] {
        client.write(rest.as_bytes()).expect("the rest is read");
        let answer = client.answer().expect("an open request is answered");
        assert_eq!((answer.status, answer.header("Connection")), (202, Some("close")), "{answer:?}");
        let receipt = answer.header("Firehose-Receipt").expect("a receipt").to_owned();
        all.acked.insert(number, receipt);
        let ended = client.answer().expect_err("the connection is closed");
        assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
    }
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    all.check_all_accepted(&stored(&folder.data()));
}

fn stops_under_load(signal: &str) {
    let folder = Folder::new();
    let server = folder.serve(FLAGS);
    let load = Load::start(server.address, 4, 4, 1);
    wait_until("load", || load.acked() > 500);
    server.signal(signal);
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let all = load.ended();
    assert!(all.refused.is_empty(), "{:?}", all.refused);
    for shard in 0..2 {
        let wal = folder.shard(shard).join("shard.db-wal");
        assert!(!wal.exists(), "shard {shard} was closed in order");
    }
    let stored = stored(&folder.data());
    all.check(&stored);
    let server = folder.serve(FLAGS);
    assert_eq!(server.wait_until_stored()["total_received"], stored.len(), "nothing was left in the journal");
}

#[test]
fn sigterm_under_load_stores_everything_accepted_and_exits_0() {
    stops_under_load("TERM");
}

#[test]
fn sigint_under_load_stores_everything_accepted_and_exits_0() {
    stops_under_load("INT");
}

/// Starts a server that has events it cannot store.
fn locked_out(folder: &Folder, drain_timeout: &str) -> (Server, crate::support::Locked, Report) {
    let mut all = Report::default();
    let server = folder.serve(&["--shards", "1", "--drain-timeout", drain_timeout]);
    server.wait_until_stored();
    let lock = hold_lock(&folder.database(0));
    let mut client = server.client();
    (0..100).for_each(|_| _ = all.post(&mut client));
    assert_eq!(server.health()["queue_size"], 100);
    (server, lock, all)
}

/// Checks that the next start stores the events that the last one could not.
fn check_next_start(folder: &Folder, all: &Report) {
    assert_eq!(stored(&folder.data()), [0; 0]);
    let server = folder.serve(&["--shards", "1"]);
    server.wait_until_stored();
    server.stop();
    all.check_all_accepted(&stored(&folder.data()));
}

#[test]
fn a_stop_does_not_wait_longer_for_a_locked_shard_than_it_is_told() {
    let folder = Folder::new();
    let (server, lock, all) = locked_out(&folder, "300ms");
    let ended = server.stop();
    drop(lock);
    assert!(ended.log.contains("stopped with events in the journal"), "{}", ended.log);
    check_next_start(&folder, &all);
}

#[test]
fn a_stop_waits_for_a_lock_that_is_let_go_in_time() {
    let folder = Folder::new();
    let (server, lock, all) = locked_out(&folder, "60s");
    server.signal("TERM");
    wait_until("the stop to begin", || server.logged("stopping").is_some());
    drop(lock);
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    all.check_all_accepted(&stored(&folder.data()));
}

#[test]
fn a_second_signal_ends_it_at_once_and_costs_nothing() {
    for (first, second, code) in [("TERM", "TERM", 143), ("INT", "INT", 130), ("TERM", "INT", 130)] {
        let folder = Folder::new();
        // Without the second signal it would take an hour.
        let (server, lock, all) = locked_out(&folder, "1h");
        server.signal(first);
        wait_until("the stop to begin", || server.logged("stopping").is_some());
        server.signal(second);
        let ended = server.wait();
        assert_eq!(ended.code, Some(code), "{first}, then {second}: {}", ended.log);
        drop(lock);
        check_next_start(&folder, &all);
    }
}

#[test]
fn idle_and_half_open_connections_do_not_hold_up_a_stop() {
    let folder = Folder::new();
    let server = folder.serve(&[FLAGS, &["--drain-timeout", "1h", "--head-timeout", "500ms"]].concat());
    let idle: Vec<Client> = (0..20).map(|_| server.client()).collect();
    let mut handed_over: Vec<Client> = (0..5).map(|_| server.client()).collect();
    for client in &mut handed_over {
        assert_eq!(client.get("/openapi.json").expect("an answer").status, 200);
    }
    let mut half_head = server.client();
    half_head.write(b"POST /event HTTP/1.1\r\nHos").expect("it is read");
    let ended = server.stop();
    assert!(!ended.log.contains("ERROR"), "{}", ended.log);
    drop((idle, handed_over, half_head));
}
