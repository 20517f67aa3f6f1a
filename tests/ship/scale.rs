//! S10: several servers and several shippers in front of one database.

use serde_json::{Value, json};

use crate::equal::{assert_equal, count, wait_for_answer};
use crate::fill::{event, fill, send};
use crate::postgres::Postgres;
use crate::shipper::{Shipper, drain, ship_command, verified};
use crate::support::{Chance, Folder};

/// Events that every node gets.
const EVENTS: u64 = 2_000;

/// Returns a folder of a stopped server that has the events in an order of its own.
fn node(chance: &mut Chance, differing: u64) -> Folder {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1"]);
    let mut numbers: Vec<u64> = (0..EVENTS).collect();
    for at in (1..numbers.len()).rev() {
        numbers.swap(at, chance.below(at as u64 + 1) as usize);
    }
    let mut client = server.client();
    for numbers in numbers.chunks(500) {
        let of = |number: &u64| {
            let mut event = event("acme", *number);
            if *number < differing {
                event["payload"] = json!({"changed": chance.below(1_000_000_000)});
            }
            event
        };
        let events: Vec<Value> = numbers.iter().map(of).collect();
        send(&mut client, "POST", "/events/bulk", &json!({"events": events}));
    }
    server.wait_until_stored();
    server.stop();
    folder
}

#[test]
fn s10_three_nodes_with_the_same_events_store_each_once_and_note_the_others() {
    let Some(postgres) = Postgres::start() else { return };
    let mut chance = Chance::new();
    let nodes = [0, 0, 10].map(|differing| node(&mut chance, differing));
    let running: Vec<_> = nodes
        .iter()
        .map(|folder| Shipper::spawn(folder, ship_command(folder, &postgres.url(), &["--once"])))
        .collect();
    for shipper in running {
        let ended = shipper.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
    }
    assert_eq!(count(&postgres, "events"), EVENTS);
    assert_eq!(count(&postgres, "twice"), 2 * EVENTS);
    assert_eq!(count(&postgres, "node"), 3);
    assert_eq!(count(&postgres, "rejected"), 0);
    assert_eq!(postgres.ask("SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'"), "0");
    // The differing node wins or loses each of its ten events, so one or two noted rows differ from the stored one.
    let differing: u64 =
        postgres.ask("SELECT count(*) FROM fh.twice WHERE differs").parse().expect("a number");
    assert!((10..=20).contains(&differing), "{differing}");
}

#[test]
fn s10_two_shippers_of_one_folder_ship_no_row_twice() {
    let Some(postgres) = Postgres::start() else { return };
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--checkpoint-interval", "50ms"]);
    let (one, other) = (Shipper::start(&folder, &postgres, &[]), Shipper::start(&folder, &postgres, &[]));
    for round in 0..10 {
        fill(&server, "acme", 1 + round * 100, 50);
    }
    wait_for_answer(&postgres, "SELECT count(*) FROM fh.clicks", "500");
    server.wait_until_stored();
    server.stop();
    one.stop();
    other.stop();
    drain(&folder, &postgres);
    assert_equal(&[&folder], &postgres);
    verified(&folder, &postgres);
}

#[test]
fn rows_of_two_nodes_with_different_tenants_are_the_rows_of_both() {
    let Some(postgres) = Postgres::start() else { return };
    let folders = [Folder::new(), Folder::new()];
    for (number, folder) in folders.iter().enumerate() {
        let server = folder.serve(&["--shards", "2"]);
        fill(&server, &format!("tenant-{number}"), 1 + 1_000 * number as u64, 60);
        server.wait_until_stored();
        server.stop();
        drain(folder, &postgres);
    }
    assert_equal(&[&folders[0], &folders[1]], &postgres);
    for folder in &folders {
        verified(folder, &postgres);
    }
}
