//! The feed of changes and the epochs of row ids: a folder of the version before keeps the numbers of its changes, every
//! change of a status is in the feed once, and an epoch begins in a folder whose files are copies.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::commerce::{encoded, ingested, verify};
use crate::support::oracle::{self, Order};
use crate::support::{Chance, Client, Folder, Server, rows_of, wait_until};
use firehose::shard::{SinkEntry, register_sink, remove_sink, sinks};

const ANSWERS: &str = include_str!("fixtures/folder-v16-orders/answers.json");

fn fixture() -> Value {
    serde_json::from_str(ANSWERS).expect("JSON")
}

/// Registers a sink, which keeps the feed from being trimmed.
fn register(data: &Path) {
    let sink = SinkEntry {
        id: "0123456789abcdef0123456789abcdef".to_owned(),
        kind: "test".to_owned(),
        target: "nowhere".to_owned(),
        registered_at: "2026-01-01T00:00:00Z".to_owned(),
    };
    register_sink(data, "one", &sink).expect("the sink is registered");
}

/// Returns number, kind, subject and value of every change of shard 0.
fn feed(folder: &Folder) -> Vec<(i64, String, i64, Option<i64>)> {
    let sql = "SELECT seq, kind, ref, value FROM change ORDER BY seq";
    rows_of(&folder.data(), sql, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
}

/// Returns the reasons of the epochs of every shard, oldest first.
fn reasons(data: &Path) -> Vec<String> {
    rows_of(data, "SELECT reason FROM epoch ORDER BY number", |row| row.get(0))
}

fn set_status(server: &Server, tenant: &str, order: &str, status: &str, at: &str) -> Value {
    let target = format!("/api/v1/tenants/{tenant}/orders/{}", encoded(order));
    let body = json!({"status": status, "occurred_at": at}).to_string();
    let answer = server.client().ask("PATCH", &target, &body).expect("the server answers");
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

fn odd_price(server: &Server, event: &str) {
    let body = json!({"event_id": event, "price": "700.00", "currency": "EUR", "observed_at": "2020-03-25T00:00:00Z"});
    let target = "/api/v1/tenants/acme/products/tea/price-event";
    let answer = server.client().ask("POST", target, &body.to_string()).expect("the server answers");
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    assert_ne!(answer.json()["anomaly"], Value::Null);
}

/// A stream of changes that resumes after an id.
struct Stream {
    client: Client,
    unread: String,
}

impl Stream {
    fn resume(server: &Server, last_id: &str) -> Stream {
        let mut client = server.client();
        let request = format!(
            "GET /api/v1/tenants/acme/price-anomalies HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n\
             Last-Event-ID: {last_id}\r\n\r\n"
        );
        client.write(request.as_bytes()).expect("the server takes it");
        let head = client.answer_head().expect("the server answers");
        assert_eq!(head.status, 200, "{head:?}");
        Stream { client, unread: String::new() }
    }

    /// Waits for the next change. Returns its kind and the id of the price event.
    fn next(&mut self) -> (String, String) {
        loop {
            while let Some((block, rest)) = self.unread.split_once("\n\n") {
                let line = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
                let found = line("event: ").zip(line("data: ")).map(|(kind, data)| {
                    let data: Value = serde_json::from_str(data).expect("JSON");
                    (kind.to_owned(), data["event_id"].as_str().unwrap_or_default().to_owned())
                });
                self.unread = rest.to_owned();
                if let Some(found) = found {
                    return found;
                }
            }
            let chunk = self.client.chunk().expect("the stream continues");
            assert!(!chunk.is_empty(), "the stream has ended");
            self.unread.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }
}

/// Returns a folder of schema version 16, with orders whose statuses have changed, and with anomalies and decisions.
fn earlier() -> Folder {
    let folder = Folder::of_fixture("folder-v16-orders");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/folder-v16-orders/cursors.key");
    let secret = folder.data().join("cursors.key");
    fs::copy(path, &secret).expect("the key is copied");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("the mode is set");
    folder
}

#[test]
fn streams_of_an_earlier_folder_resume_and_its_changes_keep_their_numbers() {
    let folder = earlier();
    register(&folder.data());
    let server = folder.serve(&["--shards", "1"]);
    let answers = fixture();
    let id = |name: &str| answers[name].as_str().expect("text").to_owned();
    let mut held = Stream::resume(&server, &id("held_id"));
    assert_eq!(held.next(), ("review".to_owned(), "odd-9".to_owned()));
    assert_eq!(held.next(), ("anomaly".to_owned(), "late-20".to_owned()));
    // The stream goes over changes of other kinds.
    for (order, status) in [("order-1", "delivered"), ("order-3", "paid")] {
        assert_eq!(set_status(&server, "acme", order, status, "2020-05-01T00:00:00Z")["changed"], true);
    }
    odd_price(&server, "new-1");
    assert_eq!(held.next(), ("anomaly".to_owned(), "new-1".to_owned()));
    let mut early = Stream::resume(&server, &id("first_id"));
    assert_eq!(early.next().0, "review");
    server.stop();
    verify(&folder);
    let feed = feed(&folder);
    for (at, before) in answers["changes"].as_array().expect("a list").iter().enumerate() {
        let (seq, kind, of, value) = &feed[at];
        assert_eq!(json!([seq, kind, of]), json!([before[0], before[1], before[2]]));
        assert_eq!(*value, None);
    }
    let kinds: Vec<&str> = feed.iter().map(|change| change.1.as_str()).collect();
    assert_eq!(
        kinds,
        ["anomaly", "anomaly", "anomaly", "review", "review", "anomaly", "status", "status", "anomaly"]
    );
    assert_eq!((feed[6].3, feed[7].3), (Some(4), Some(2)), "the codes of delivered and paid");
    assert_eq!(reasons(&folder.data()), ["migrated"]);
    let noted = rows_of(&folder.data(), "SELECT stream, last FROM checkpointed ORDER BY stream", |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
    });
    let of = |stream: &str| noted.iter().find(|(name, _)| name == stream).map(|(_, last)| *last);
    let expected = [("change", 9), ("epoch", 1), ("price_row", 20), ("sales_order", 8), ("stock_event", 0)];
    for (stream, last) in expected {
        assert_eq!(of(stream), Some(last), "{stream} in {noted:?}");
    }
}

#[test]
fn c1_every_change_of_a_status_is_in_the_feed_once_although_the_server_is_killed() {
    let folder = Folder::new();
    folder.serve(&["--shards", "1"]).stop();
    register(&folder.data());
    let mut chance = Chance::seeded(11);
    let mut orders: Vec<Order> = (0..6).map(|id| Order::random(&mut chance, "acme", id)).collect();
    orders.iter_mut().for_each(|order| order.status = "pending".to_owned());
    let mut server = folder.serve(&["--shards", "1"]);
    ingested(&server, "k", &oracle::body(&orders));
    let mut applied = 0;
    for (turn, status) in ["paid", "shipped", "paid", "delivered", "refunded"].into_iter().enumerate() {
        for order in 0..6 {
            let at = format!("2020-0{}-01T00:00:00Z", turn + 1);
            let said = set_status(&server, "acme", &format!("order-{order}"), status, &at);
            applied += i64::from(said["changed"] == true);
        }
        if turn % 2 == 1 {
            server.kill();
            server = folder.serve(&["--shards", "1"]);
        }
    }
    let count = || feed(&folder).len() as i64;
    wait_until("every change is in the feed", || count() == applied);
    server.stop();
    assert_eq!(count(), applied);
    verify(&folder);
    // The last change of each order is its status.
    let sql = "SELECT count(*) FROM orders o JOIN change c ON c.ref = o.id WHERE c.seq = \
               (SELECT max(seq) FROM change WHERE ref = o.id) AND o.status = 'refunded' AND c.value = 6";
    assert_eq!(rows_of(&folder.data(), sql, |row| row.get::<_, i64>(0)), [6]);
    assert_eq!(reasons(&folder.data()), ["made"], "neither a kill nor a restart begins an epoch");
}

#[test]
fn c1_a_restored_backup_and_new_shards_begin_epochs() {
    let folder = earlier();
    register(&folder.data());
    folder.serve(&["--shards", "1"]).stop();
    let copy = folder.beside("copy");
    let output = folder.run(&["backup", copy.to_str().expect("a path")]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(reasons(&folder.data()), ["migrated"]);
    assert_eq!(sinks(&copy).expect("the sinks are read").len(), 1, "the copy waits for the sink too");
    // The copy takes the place of the folder.
    fs::remove_dir_all(folder.data()).expect("the folder is removed");
    fs::rename(&copy, folder.data()).expect("the copy is moved");
    folder.serve(&["--shards", "1"]).stop();
    assert_eq!(reasons(&folder.data()), ["migrated", "copied"]);
    let starts = "SELECT stream, last FROM epoch_start WHERE epoch = (SELECT max(number) FROM epoch) AND last > 0 \
                  ORDER BY stream";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?));
    let found = rows_of(&folder.data(), starts, read);
    let expected = [("change", 6), ("price_row", 19), ("sales_order", 8)];
    assert_eq!(found, expected.map(|(stream, last)| (stream.to_owned(), last)));

    // The sink has nothing, so the folder waits for it.
    let output = folder.run(&["reshard", "--to", "2"]);
    assert!(!output.status.success(), "{output:?}");
    assert!(remove_sink(&folder.data(), "one").expect("the sink is removed"));
    let output = folder.run(&["reshard", "--to", "2"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(reasons(&folder.data()), ["resharded", "resharded"]);
    for name in ["price_row", "sales_order", "change"] {
        let sql = format!(
            "SELECT s.last, c.last FROM epoch_start s JOIN checkpointed c ON c.stream = s.stream \
             WHERE s.stream = '{name}'"
        );
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let found = rows_of(&folder.data(), &sql, read);
        assert!(found.iter().all(|(start, noted)| start == noted), "{name}: {found:?}");
        assert!(found.iter().any(|(start, _)| *start > 0), "{name}: {found:?}");
    }
    folder.serve(&[]).stop();
    assert_eq!(reasons(&folder.data()), ["resharded", "resharded"]);
    verify(&folder);
}
