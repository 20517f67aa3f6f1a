//! W2 for orders: each order is stored once and counted once, regardless of how many clients send it and how often,
//! and through broken connections and kills. A key's response is always the same.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::commerce::{NDJSON, counts, ingest, ingest_head, ingested, problem, verify};
use crate::support::oracle::{self, Order};
use crate::support::{Answer, Chance, Client, Folder, cpus, rows_of, wait_until};
use rusqlite::Row;
use serde_json::Value;

const ORDERS: u64 = 2_500;
const CLIENTS: u64 = 5;

/// Returns orders of two tenants, `twice` of which occur twice in the file.
fn file(chance: &mut Chance, twice: u64) -> Vec<u8> {
    let order = |id: u64, chance: &mut Chance| Order::random(chance, ["acme", "beta"][id as usize % 2], id);
    let mut orders: Vec<_> = (0..ORDERS).map(|id| order(id, chance)).collect();
    for _ in 0..twice {
        orders.push(orders[chance.below(ORDERS) as usize].clone());
    }
    oracle::body(&orders)
}

/// Returns every order as the sqlite3 shell reads it, with its number of rows.
#[track_caller]
fn stored(data: &Path) -> Vec<((String, String), u64)> {
    let mut found = BTreeMap::new();
    let order = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    for order in rows_of(data, "SELECT tenant_id, order_id FROM orders", order) {
        *found.entry(order).or_insert(0) += 1;
    }
    found.into_iter().collect()
}

/// One client's key and packed body.
struct Sender {
    key: String,
    headers: &'static str,
    body: Vec<u8>,
    chance: Chance,
    /// The summary of the finished ingest.
    finished: Option<Vec<u8>>,
}

fn packed(file: &[u8], number: u64) -> (&'static str, Vec<u8>) {
    match number {
        2 => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(file).expect("memory takes it");
            ("Content-Type: application/gzip\r\n", gzip.finish().expect("memory takes it"))
        }
        3 => ("Content-Type: application/octet-stream\r\n", zstd::encode_all(file, 1).expect("it packs")),
        4 => {
            let (first, second) = file.split_at(file.len() / 2);
            let parts = [
                &b"--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"1\"\r\n\r\n"[..],
                first,
                second,
            ];
            let body = [&parts.concat()[..], b"\r\n--b--\r\n"].concat();
            ("Content-Type: multipart/form-data; boundary=b\r\n", body)
        }
        _ => (NDJSON, file.to_vec()),
    }
}

impl Sender {
    fn new(file: &[u8], number: u64) -> Sender {
        let (headers, body) = packed(file, number);
        Sender {
            key: format!("client-{number}"),
            headers,
            body,
            chance: Chance::seeded(number + 1),
            finished: None,
        }
    }

    /// Sends the beginning of the body and disconnects.
    fn cut(&mut self, address: SocketAddr, sent: &AtomicU64) -> std::io::Result<()> {
        let mut client = Client::connect(address)?;
        client.write(ingest_head(&self.key, self.headers, self.body.len()).as_bytes())?;
        let upto = self.chance.below(self.body.len() as u64) as usize;
        for piece in self.body[..upto].chunks(20_000) {
            client.write(piece)?;
            sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    fn whole(&mut self, address: SocketAddr, sent: &AtomicU64) -> std::io::Result<Answer> {
        let mut client = Client::connect(address)?;
        client.write(ingest_head(&self.key, self.headers, self.body.len()).as_bytes())?;
        for piece in self.body.chunks(20_000) {
            // The server refused the body before its end; the response has the reason.
            if client.write(piece).is_err() {
                break;
            }
            sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        client.answer()
    }

    /// Cuts and retries until the ingest is finished or the server is gone.
    fn storm(mut self, address: SocketAddr, sent: &AtomicU64) -> Sender {
        let mut cuts = self.chance.below(4);
        while self.finished.is_none() {
            if cuts > 0 {
                cuts -= 1;
                if self.cut(address, sent).is_err() {
                    return self;
                }
                continue;
            }
            let Ok(answer) = self.whole(address, sent) else { return self };
            match answer.status {
                200 => self.finished = Some(answer.body),
                // The server has not noticed the cut yet, or the journal is behind.
                409 | 429 | 503 => assert!(answer.header("Retry-After").is_some(), "{answer:?}"),
                _ => panic!("{answer:?}"),
            }
        }
        self
    }
}

#[test]
fn w2_five_clients_with_cuts_and_kills_store_each_order_once() {
    let (folder, mut chance) = (Folder::new(), Chance::new());
    let twice = 40;
    let file = file(&mut chance, twice);
    let mut senders: Vec<_> = (0..CLIENTS).map(|number| Sender::new(&file, number)).collect();
    let cpus = cpus(2);
    let flags = ["--shards", "3", "--cores", &cpus, "--order-partition-rows-max", "700"];
    for round in 0..4 {
        let server = folder.serve(&flags);
        let (address, sent) = (server.address, Arc::new(AtomicU64::new(0)));
        let threads: Vec<_> = senders
            .into_iter()
            .map(|sender| {
                let sent = sent.clone();
                std::thread::spawn(move || sender.storm(address, &sent))
            })
            .collect();
        if round < 3 {
            // A kill at a random point. Finished clients send nothing more.
            let until = chance.below(file.len() as u64 * 2);
            wait_until("some bytes or all answers", || {
                sent.load(Ordering::Relaxed) > until || threads.iter().all(|thread| thread.is_finished())
            });
            server.kill();
        } else {
            wait_until("all answers", || threads.iter().all(|thread| thread.is_finished()));
            server.stop();
        }
        senders = threads.into_iter().map(|thread| thread.join().expect("no client panicked")).collect();
    }

    let summaries: Vec<Value> = senders
        .iter()
        .map(|sender| serde_json::from_slice(sender.finished.as_ref().expect("finished")).expect("JSON"))
        .collect();
    let lines = ORDERS + twice;
    for (summary, sender) in summaries.iter().zip(&senders) {
        let [received, inserted, duplicate, failed] = counts(summary);
        assert_eq!((received, failed), (lines, 0), "{summary}");
        assert_eq!(received, inserted + duplicate, "{summary}");
        assert_eq!(summary["idempotency_key"], sender.key.as_str());
        assert_eq!(
            (&summary["errors"], &summary["errors_truncated"]),
            (&serde_json::json!([]), &false.into())
        );
    }
    let inserted: u64 = summaries.iter().map(|summary| counts(summary)[1]).sum();
    assert_eq!(inserted, ORDERS, "{summaries:?}");
    let stored = stored(&folder.data());
    assert_eq!(stored.len() as u64, ORDERS);
    assert!(stored.iter().all(|(_, times)| *times == 1), "an order is there twice");

    // A new process returns the same responses.
    let server = folder.serve(&flags);
    for sender in &senders {
        for (headers, body) in [(sender.headers, &sender.body), (NDJSON, &file)] {
            let again = ingest(server.address, &sender.key, headers, body).expect("the server answers");
            assert_eq!(again.status, 200, "{again:?}");
            assert_eq!(again.header("Idempotent-Replayed"), Some("true"));
            assert!(
                Some(&again.body) == sender.finished.as_ref(),
                "{:?}",
                String::from_utf8_lossy(&again.body)
            );
        }
    }
    server.stop();
    verify(&folder);
}

#[test]
fn a_key_names_one_ingest() {
    let (folder, mut chance) = (Folder::new(), Chance::seeded(5));
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
    let file = file(&mut chance, 0);
    let first = ingested(&server, "k", &file);
    assert_eq!(counts(&first), [ORDERS, ORDERS, 0, 0]);

    // Other content: more, less, changed, or in another order.
    let more = [&file[..], &oracle::body([&Order::random(&mut chance, "acme", ORDERS)])].concat();
    let less = file.split_inclusive(|byte| *byte == b'\n').skip(1).collect::<Vec<_>>().concat();
    let mut changed = file.clone();
    let at = changed.windows(6).position(|window| window == b"\"paid\"").expect("a paid order");
    changed[at + 1..at + 5].copy_from_slice(b"paid".to_ascii_uppercase().as_slice());
    let turned = file.split_inclusive(|byte| *byte == b'\n').rev().collect::<Vec<_>>().concat();
    for (what, body) in
        [("more", &more), ("less", &less), ("changed", &changed), ("turned", &turned), ("none", &vec![])]
    {
        let answer = ingest(server.address, "k", NDJSON, body).expect("the server answers");
        let said = problem(&answer, 422, "idempotency-key-reused");
        assert!(said.get("rows_inserted").is_none(), "{what}: {said}");
    }
    // Nothing of it was stored.
    assert_eq!(stored(&folder.data()).len() as u64, ORDERS);

    // With another key, every order is a duplicate. A quoted key equals a bare one.
    assert_eq!(counts(&ingested(&server, "l", &file)), [ORDERS, 0, ORDERS, 0]);
    let again = ingest(server.address, "\"l\"", NDJSON, &file).expect("the server answers");
    assert_eq!((again.status, again.header("Idempotent-Replayed")), (200, Some("true")));

    for headers in ["", "Idempotency-Key: a\r\nIdempotency-Key: b\r\n", "Idempotency-Key:\r\n"] {
        let mut client = server.client();
        let head = format!(
            "POST /api/v1/ingest/orders HTTP/1.1\r\nHost: test\r\n{headers}Content-Length: 3\r\n\r\n{{}}\n"
        );
        client.write(head.as_bytes()).expect("the server takes it");
        problem(&client.answer().expect("the server answers"), 400, "idempotency-key-missing");
    }
    server.stop();
}

#[test]
fn a_key_that_is_being_worked_under_is_not_worked_under_twice() {
    let (folder, mut chance) = (Folder::new(), Chance::seeded(6));
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
    let file = file(&mut chance, 0);
    let mut client = server.client();
    let head = ingest_head("k", "Expect: 100-continue\r\nContent-Type: application/x-ndjson\r\n", file.len());
    client.write(head.as_bytes()).expect("the server takes it");
    // A client that is asked for its body holds the key.
    assert_eq!(client.answer().expect("the server asks for the body").status, 100);
    client.write(&file[..file.len() / 2]).expect("the server takes it");
    // From both cores.
    for _ in 0..6 {
        let answer = ingest(server.address, "k", NDJSON, &file).expect("the server answers");
        problem(&answer, 409, "ingest-running");
        assert!(answer.header("Retry-After").is_some());
    }
    let other = ingest(server.address, "other", NDJSON, b"").expect("the server answers");
    problem(&other, 422, "no-orders");
    client.write(&file[file.len() / 2..]).expect("the server takes it");
    let answer = client.answer().expect("the server answers");
    assert_eq!(counts(&answer.json()), [ORDERS, ORDERS, 0, 0]);
    let again = ingest(server.address, "k", NDJSON, &file).expect("the server answers");
    assert!(again.body == answer.body && again.header("Idempotent-Replayed") == Some("true"), "{again:?}");
    // The connection of the ingest stays usable.
    assert_eq!(client.get("/ready").expect("the server answers").status, 200);
    server.stop();
}
