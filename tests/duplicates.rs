//! W2: one event id of one tenant is stored once, however many clients send it and whichever cores they reach, through
//! kills and locks. Every response agrees with what is stored at the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::{Chance, Client, Folder, Server, cpus, hold_lock, rows_of, wait_until};
use rusqlite::Row;
use serde_json::{Value, json};

const TENANT: &str = "acme";
const CLIENTS: u64 = 100;
const IDS: u64 = 40;

/// Returns an event whose content depends on the client, so that clients conflict under the same id.
fn event(id: u64, client: u64) -> Value {
    json!({
        "event_id": format!("evt-{id}"), "tenant_id": TENANT, "source": "web", "event_type": "click",
        "timestamp": "2024-01-15T10:30:00Z", "payload": {"client": client},
    })
}

/// The outcome of one id that one client received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Created,
    Duplicate,
    Conflict,
    Accepted,
}

type Answers = BTreeMap<u64, Vec<(u64, Told)>>;

/// Returns the clients of every stored event by its id, as the sqlite3 shell reads them.
fn stored(data: &Path) -> BTreeMap<String, Vec<u64>> {
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let sql = "SELECT event_id, payload ->> '$.client' FROM service_events WHERE tenant_id = 'acme'";
    let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?));
    for (id, client) in rows_of(data, sql, row) {
        found.entry(id).or_default().push(client.unsigned_abs());
    }
    found
}

/// Sends every id in a random order, one by one or in small batches, until all are answered or the server is gone.
fn storm(server: &Server, client: u64, chance: &mut Chance, answered: &AtomicU64) -> Vec<(u64, Told)> {
    let mut told = Vec::new();
    let Ok(mut connection) = Client::connect(server.address) else { return told };
    let mut ids: Vec<u64> = (0..IDS).collect();
    for at in (1..ids.len()).rev() {
        ids.swap(at, chance.below(at as u64 + 1) as usize);
    }
    while !ids.is_empty() {
        let count = (chance.below(6) as usize + 1).min(ids.len());
        let batch = ids.split_off(ids.len() - count);
        if batch.len() == 1 {
            let body = event(batch[0], client).to_string();
            let Ok(answer) = connection.ask("POST", "/events", &body) else { return told };
            let said = answer.json();
            let what = match (answer.status, said["status"].as_str(), said["conflict"].as_bool()) {
                (201, Some("created"), None) => Told::Created,
                (200, Some("duplicate"), None) => Told::Duplicate,
                (200, Some("duplicate"), Some(true)) => Told::Conflict,
                (202, Some("accepted"), None) => Told::Accepted,
                (429 | 503, ..) => continue,
                _ => panic!("{answer:?}"),
            };
            told.push((batch[0], what));
        } else {
            let rows: Vec<_> = batch.iter().map(|id| event(*id, client)).collect();
            let Ok(answer) = connection.ask("POST", "/events/bulk", &json!({"events": rows}).to_string())
            else {
                return told;
            };
            if matches!(answer.status, 429 | 503) {
                continue;
            }
            assert_eq!(answer.status, 200, "{answer:?}");
            let said = answer.json();
            let listed = said["results"].as_array().expect("results");
            let mut whats = vec![Told::Created; batch.len()];
            for row in listed {
                let index = row["index"].as_u64().expect("an index") as usize;
                assert_eq!(row["event_id"], format!("evt-{}", batch[index]));
                whats[index] = match row["result"].as_str() {
                    Some("duplicate") => Told::Duplicate,
                    Some("conflict") => Told::Conflict,
                    Some("pending") => Told::Accepted,
                    _ => panic!("{said}"),
                };
            }
            let count = |name: &str| said[name].as_u64().expect(name) as usize;
            assert_eq!(count("received"), batch.len());
            assert_eq!(count("inserted"), batch.len() - listed.len());
            assert_eq!(count("inserted") + count("duplicates") + count("pending"), batch.len(), "{said}");
            told.extend(batch.into_iter().zip(whats));
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    told
}

/// Runs all clients concurrently. `meanwhile` runs at the same time and may end the server.
fn storms(
    server: Server,
    answers: &mut Answers,
    meanwhile: impl FnOnce(Arc<Server>, &AtomicU64),
) -> Arc<Server> {
    let server = Arc::new(server);
    let answered = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (server, answered) = (server.clone(), answered.clone());
            let mut chance = Chance::seeded(client + 1);
            std::thread::spawn(move || (client, storm(&server, client, &mut chance, &answered)))
        })
        .collect();
    meanwhile(server.clone(), &answered);
    for thread in clients {
        let (client, told) = thread.join().expect("no client panicked");
        for (id, what) in told {
            answers.entry(id).or_default().push((client, what));
        }
    }
    server
}

/// Checks that every id is stored once, and that every response about it is true.
fn check(folder: &Folder, answers: &Answers) {
    let stored = stored(&folder.data());
    for (id, told) in answers {
        let rows = stored.get(&format!("evt-{id}"));
        let rows = rows.unwrap_or_else(|| panic!("evt-{id} was acked and is not stored: {told:?}"));
        assert_eq!(rows.len(), 1, "evt-{id} is stored {} times", rows.len());
        let winner = rows[0];
        let creators: Vec<_> = told.iter().filter(|(_, what)| *what == Told::Created).collect();
        assert!(creators.len() <= 1, "evt-{id} was created by {creators:?}");
        for (client, what) in told {
            match what {
                Told::Created => assert_eq!(*client, winner, "evt-{id}"),
                // The same content again: the client's own event, sent before a kill or answered with 202.
                Told::Duplicate => assert_eq!(*client, winner, "evt-{id}: called the same, and is not"),
                Told::Conflict => assert_ne!(*client, winner, "evt-{id}: called different, and is the same"),
                Told::Accepted => {}
            }
        }
    }
    let (code, said) = folder.run_json(&["verify", "--aggregates"]);
    assert_eq!(code, 0, "{said}");
}

const TWO: &[&str] = &["--shards", "2"];

#[test]
fn w2_a_storm_of_duplicates_stores_each_once() {
    let (folder, mut answers) = (Folder::new(), Answers::new());
    // The server waits for every outcome before it responds, however slow the machine is.
    let server = folder.serve(&[TWO, &["--cores", &cpus(2), "--commit-wait", "10m"]].concat());
    let server = storms(server, &mut answers, |_, _| {});
    assert_eq!(answers.len(), IDS as usize);
    assert!(answers.values().all(|told| told.len() == CLIENTS as usize), "everyone is answered");
    let created = |told: &Vec<(u64, Told)>| told.iter().filter(|(_, what)| *what == Told::Created).count();
    assert!(answers.values().all(|told| created(told) == 1), "someone created each");
    Arc::into_inner(server).expect("nobody else has it").stop();
    check(&folder, &answers);
}

#[test]
fn w2_a_storm_through_kills_stores_each_once() {
    let (folder, mut answers) = (Folder::new(), Answers::new());
    let mut chance = Chance::new();
    for _ in 0..4 {
        let server = folder.serve(&[TWO, &["--cores", &cpus(2)]].concat());
        let kill_at = chance.below(600) + 20;
        storms(server, &mut answers, |server, answered| {
            wait_until("some answers", || answered.load(Ordering::Relaxed) >= kill_at);
            server.signal("KILL");
        });
    }
    let server = folder.serve(TWO);
    server.wait_until_stored();
    server.stop();
    check(&folder, &answers);
}

#[test]
fn w2_a_storm_while_a_shard_is_locked_is_accepted_and_settled_later() {
    let (folder, mut answers) = (Folder::new(), Answers::new());
    let server = folder.serve(&[TWO, &["--cores", &cpus(2), "--commit-wait", "50ms"]].concat());
    server.wait_until_stored();
    let database = folder.database(0);
    let server = storms(server, &mut answers, |_, answered| {
        let lock = hold_lock(&database);
        wait_until("answers without the shard", || answered.load(Ordering::Relaxed) >= 300);
        drop(lock);
    });
    let accepted = answers.values().flatten().filter(|(_, what)| *what == Told::Accepted).count();
    assert!(accepted > 0, "the lock was noticed");
    server.wait_until_stored();
    Arc::into_inner(server).expect("nobody else has it").stop();
    check(&folder, &answers);
}
