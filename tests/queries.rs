//! Long queries on the real server: abandoned by their clients, many at once, and at a stop.

use crate::support::commerce::problem;
use crate::support::{Answer, Client, Folder, Server, wait_for, wait_until};

/// Four readers have 64 places for queries, of which one tenant may hold 48.
const FLAGS: &[&str] = &["--shards", "1", "--reader-threads", "4", "--drain-timeout", "1h"];
const SHARE: usize = 48;
/// A number of queries of one tenant that may run at once.
const MANY: usize = 40;
const UNIQUE: &str = "/api/v1/tenants/acme/events/unique?by=payload.absent";
const OTHERS: [&str; 3] = [
    "/events?tenant_id=other",
    "/api/v1/tenants/other/events/unique?by=payload.n",
    "/api/v1/tenants/other/events/summary",
];

fn event(tenant: &str, id: usize, payload: &str) -> String {
    format!(
        r#"{{"event_id":"e{id}","tenant_id":"{tenant}","source":"web","event_type":"click","timestamp":"2024-01-15T10:30:00Z","payload":{payload}}}"#
    )
}

/// Starts a server on which counting the values of one tenant's large payloads takes long.
fn serve(folder: &Folder) -> Server {
    let server = folder.serve(FLAGS);
    let numbers = (0..12_000).map(|number: u32| (number % 9_000 + 1_000).to_string()).collect::<Vec<_>>();
    let payload = format!(r#"{{"list":[{}]}}"#, numbers.join(","));
    let mut client = server.client();
    for part in 0..2 {
        let rows: Vec<_> = (0..300).map(|id| event("acme", part * 300 + id, &payload)).collect();
        let said = client.post_as("/events/bulk", "application/x-ndjson", &rows.join("\n"));
        assert_eq!(said.expect("an answer").json()["received"], 300);
    }
    assert_eq!(
        client.ask("POST", "/events", &event("other", 1, r#"{"n":1}"#)).expect("an answer").status,
        201
    );
    server.wait_until_stored();
    server
}

/// Returns the value of a sample on the Prometheus page.
fn figure(server: &Server, name: &str) -> u64 {
    let page = server.get("/metrics");
    let text = String::from_utf8(page.body).expect("text");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} is a figure of\n{text}"))
}

/// Sends queries on connections of their own, and waits until they run.
fn started(server: &Server, count: usize) -> Vec<Client> {
    let mut clients: Vec<_> = (0..count).map(|_| server.client()).collect();
    for client in &mut clients {
        client.write(format!("GET {UNIQUE} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).expect("it is read");
    }
    wait_until("the queries to run", || figure(server, "firehose_queries") == count.min(SHARE) as u64);
    clients
}

#[test]
fn queries_whose_clients_are_gone_stop_and_release_the_readers() {
    let folder = Folder::new();
    let server = serve(&folder);
    let clients = started(&server, MANY);
    for (at, client) in clients.into_iter().enumerate() {
        // Every other client resets its connection. The others close it.
        if at % 2 == 0 {
            client.reset();
        }
    }
    for target in OTHERS {
        assert_eq!(server.get(target).status, 200, "{target}");
    }
    wait_until("the queries to end", || figure(&server, "firehose_queries") == 0);
    assert_eq!(figure(&server, "firehose_reads_ended_total{reason=\"client_gone\"}"), MANY as u64);
    assert_eq!(figure(&server, "firehose_reads_ended_total{reason=\"stopped\"}"), 0);
    wait_until("the steps to end", || figure(&server, "firehose_query_steps_waiting") == 0);
    server.stop();
}

#[test]
fn a_client_that_has_only_closed_its_sending_side_is_answered() {
    let folder = Folder::new();
    let server = serve(&folder);
    let others = started(&server, 3);
    let mut client = server.client();
    client.write(format!("GET {UNIQUE} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).expect("it is read");
    client.end().expect("it is open");
    let answer: Answer = wait_for("a final response", || {
        Some(client.answer().expect("an answer")).filter(|answer| answer.status != 100)
    });
    assert_eq!((answer.status, &answer.json()["missing"]), (200, &serde_json::json!(600)), "{answer:?}");
    drop(others);
    server.stop();
}

#[test]
fn a_flood_of_one_tenant_leaves_the_others_answered() {
    let folder = Folder::new();
    let server = serve(&folder);
    let flood = started(&server, SHARE + 16);
    wait_until("the rest to be refused", || {
        figure(&server, "firehose_queries_refused_total{reason=\"tenant_share\"}") == 16
    });
    for target in OTHERS {
        let answer = server.get(target);
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
    }
    let refused = server.get("/events?tenant_id=acme");
    let said = problem(&refused, 503, "overloaded");
    assert!(said["detail"].as_str().is_some_and(|detail| detail.contains("this tenant")), "{said}");
    assert!(refused.header("Retry-After").is_some());
    assert_eq!(figure(&server, "firehose_queries_refused_total{reason=\"all_places\"}"), 0);
    drop(flood);
    wait_until("the queries to end", || figure(&server, "firehose_queries") == 0);
    assert_eq!(server.get("/events?tenant_id=acme&page_size=1").status, 200);
    server.stop();
}

#[test]
fn a_stop_ends_long_queries_at_once_and_streams_without_a_clean_end() {
    let folder = Folder::new();
    let server = serve(&folder);
    // This client does not read its 36 MB of rows any further than the head.
    let mut stream = server.client();
    let head = "GET /events?tenant_id=acme HTTP/1.1\r\nHost: test\r\nAccept: application/x-ndjson\r\n\r\n";
    stream.write(head.as_bytes()).expect("it is read");
    assert_eq!(stream.answer_head().expect("a head").status, 200);
    let mut clients = Vec::new();
    for _ in 1..MANY {
        let mut client = server.client();
        client.write(format!("GET {UNIQUE} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).expect("it is read");
        clients.push(client);
    }
    wait_until("the queries to run", || figure(&server, "firehose_queries") == MANY as u64);
    server.signal("TERM");
    for client in &mut clients {
        let answer = client.answer().expect("an answer");
        problem(&answer, 503, "draining");
        assert!(answer.header("Retry-After").is_some());
        assert_eq!(answer.header("Connection"), Some("close"));
    }
    // The drain timeout is an hour.
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let broken = loop {
        match stream.chunk() {
            Ok(chunk) => assert!(!chunk.is_empty(), "the stream must not have an end"),
            Err(error) => break error,
        }
    };
    assert_ne!(broken.kind(), std::io::ErrorKind::WouldBlock, "{broken}");
}
