//! T1, T2: many clients change few products concurrently, with the server killed meanwhile and requests repeated. Some
//! serial order of each product explains every response, and the stock equals the result of its events.
//!
//! `TEST_UPDATES=100000 cargo test --test all stock_history` sends this many updates in each mode.

#[path = "serial/mod.rs"]
mod serial;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::support::{Folder, cpus, rows_of, wait_until};
use firehose::base::clock;
use serial::clients::{PRODUCTS, Shared, start};
use serial::{History, Log, Mode, check};

const CLIENTS: u64 = 16;
const KILLS: u64 = 4;
/// The default number of updates in each mode.
const UPDATES: u64 = 2_000;

fn updates() -> u64 {
    let given = std::env::vars_os().find(|(name, _)| name == "TEST_UPDATES");
    given.and_then(|(_, value)| value.to_str()?.parse().ok()).unwrap_or(UPDATES)
}

/// Returns the changes of every product as the sqlite3 shell reads them.
fn log(folder: &Folder, tenant: &str) -> Log {
    let sql = "SELECT tenant_id, product_id, version, event_id, stock FROM stock_events ORDER BY 1, 2, 3";
    let rows: Vec<(String, String, i64, String, i64)> = rows_of(&folder.data(), sql, |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
    });
    let mut log = Log::new();
    for (_, product, version, id, stock) in rows.into_iter().filter(|(of, ..)| of == tenant) {
        let entries = log.entry(product).or_default();
        match entries.get_mut(version as usize - 1) {
            Some((ids, known)) => {
                assert_eq!(*known, stock, "the events of a version agree");
                ids.push(id);
            }
            None => {
                assert_eq!(version as usize, entries.len() + 1, "no version is left out");
                entries.push((vec![id], stock));
            }
        }
    }
    log
}

fn run(tenant: &str, mode: Option<Mode>) {
    let folder = Folder::new();
    let flags = ["--shards", "2", "--cores", &cpus(2), "--checkpoint-interval", "200ms"];
    let shared = Arc::new(Shared::default());
    let seed = clock::unix_us() as u64;
    eprintln!("{tenant}: seed {seed}");
    let mut server = folder.serve(&flags);
    shared.port.store(server.address.port(), Ordering::Release);
    let clients = start(&shared, CLIENTS, tenant, mode, seed);
    let wanted = updates();
    let done = |share: u64| {
        let answered = shared.answered.load(Ordering::Acquire);
        answered >= wanted * share / (KILLS + 1) || clients.iter().any(std::thread::JoinHandle::is_finished)
    };
    for kill in 1..=KILLS {
        let mut last = 0;
        while !done(kill) {
            // The wait times out only if no update at all is answered.
            wait_until("updates to be answered", || {
                done(kill) || shared.answered.load(Ordering::Acquire) > last
            });
            last = shared.answered.load(Ordering::Acquire);
        }
        shared.port.store(0, Ordering::Release);
        server.kill();
        server = folder.serve(&flags);
        shared.port.store(server.address.port(), Ordering::Release);
    }
    let mut last = 0;
    while !done(KILLS + 1) {
        wait_until("updates to be answered", || {
            done(KILLS + 1) || shared.answered.load(Ordering::Acquire) > last
        });
        last = shared.answered.load(Ordering::Acquire);
    }
    shared.stop.store(true, Ordering::Release);
    let mut history = History::default();
    for client in clients {
        history.add(client.join().expect("a client is told nothing that cannot be"));
    }
    server.wait_until_stored();

    // The level of every product is the last entry of its log.
    let log = log(&folder, tenant);
    let mut client = server.client();
    for product in 0..PRODUCTS {
        let name = format!("p-{product:03}");
        let answer = client.get(&format!("/api/v1/tenants/{tenant}/stock/{name}")).expect("an answer");
        match log.get(&name).and_then(|entries| Some((entries.len(), entries.last()?.1))) {
            None => assert_eq!(answer.status, 404),
            Some((version, stock)) => {
                let said = answer.json();
                assert_eq!(
                    (said["version"].as_u64(), said["quantity"].as_i64()),
                    (Some(version as u64), Some(stock))
                );
                assert_eq!(answer.header("ETag"), Some(format!("\"{version}\"").as_str()));
            }
        }
    }
    server.stop();
    let (code, said) = folder.run_json(&["verify", "--stock", "--aggregates"]);
    assert_eq!(code, 0, "{said}");

    let problems = check::check(&history, &log);
    assert!(
        problems.is_empty(),
        "{} answers are not explained: {:#?}",
        problems.len(),
        &problems[..problems.len().min(10)]
    );
    // The history covers every outcome.
    let count = |wanted: &str| {
        let answers = history.attempts.iter().filter_map(|attempt| attempt.answer.as_ref());
        answers.filter(|(_, told)| told.result == wanted || told.code == wanted).count()
    };
    let unanswered = history.attempts.iter().filter(|attempt| attempt.answer.is_none()).count();
    let counts = ["applied", "duplicate", "stale_version", "negative_stock", "superseded"].map(count);
    eprintln!(
        "{tenant}: {} updates answered; changes sent {}, [applied, duplicate, stale, negative, superseded] \
         {counts:?}, unanswered {unanswered}",
        shared.answered.load(Ordering::Acquire),
        history.attempts.len(),
    );
    let [applied, duplicate, stale, negative, superseded] = counts;
    assert!(applied > 0 && duplicate > 0 && unanswered > 0, "{counts:?}, {unanswered}");
    match mode {
        Some(Mode::LastWriteWins) => assert!(superseded > 0 && stale + negative == 0, "{counts:?}"),
        Some(Mode::Merge) => assert!(negative > 0 && stale + superseded == 0, "{counts:?}"),
        Some(Mode::Reject) => assert!(stale > 0 && superseded == 0, "{counts:?}"),
        None => assert!(superseded > 0 && stale > 0 && negative > 0, "{counts:?}"),
    }
}

#[test]
fn t2_last_writes_are_explained_by_a_serial_order() {
    run("lww", Some(Mode::LastWriteWins));
}

#[test]
fn t2_sums_are_explained_by_a_serial_order() {
    run("merge", Some(Mode::Merge));
}

#[test]
fn t2_expected_versions_are_explained_by_a_serial_order() {
    run("reject", Some(Mode::Reject));
}

#[test]
fn t2_modes_that_meet_are_explained_by_a_serial_order() {
    run("mixed", None);
}
