//! S8: rows that a sink does not have yet do not leave, however old they are, and all arrive in the end.

use crate::equal::{count, wait_for_answer};
use crate::postgres::Postgres;
use crate::shipper::{Shipper, drain};
use crate::support::{Client, Folder, Server, rows_of, wait_until};

const CLICKS: u64 = 3_500;

/// Posts numbered clicks over one connection.
fn post(server: &Server, numbers: std::ops::Range<u64>) {
    let mut client = server.client();
    let requests: String = numbers
        .clone()
        .map(|number| Client::request("POST", "/event", &crate::support::event(number)))
        .collect();
    client.write(requests.as_bytes()).expect("they are sent");
    for _ in numbers {
        assert_eq!(client.answer().expect("an answer").status, 202);
    }
}

fn stored(folder: &Folder) -> u64 {
    rows_of(&folder.data(), "SELECT count(*) FROM events", |row| row.get::<_, i64>(0))
        .into_iter()
        .sum::<i64>() as u64
}

fn metric(server: &Server, name: &str) -> f64 {
    let page = String::from_utf8(server.get("/metrics").body).expect("UTF-8");
    let values =
        page.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next());
    values.filter_map(|value| value.parse::<f64>().ok()).sum()
}

/// Makes the sealed partitions old.
fn age(folder: &Folder) {
    let shard = rusqlite::Connection::open(folder.database(0)).expect("the shard opens");
    shard
        .execute(
            "UPDATE partition_catalog SET sealed_at = '2024-01-01T00:00:00Z' WHERE sealed_at IS NOT NULL",
            [],
        )
        .expect("the partitions become old");
}

#[test]
fn s8_rows_wait_for_a_sink_that_is_away_then_all_arrive_and_leave_here_only() {
    let Some(mut postgres) = Postgres::start() else { return };
    let folder = Folder::new();
    let flags = ["--shards", "1", "--partition-rows-max", "1000", "--checkpoint-interval", "50ms"];
    let server = folder.serve(&flags);
    post(&server, 1..11);
    let shipper = Shipper::start(&folder, &postgres, &[]);
    wait_for_answer(&postgres, "SELECT count(*) FROM fh.clicks", "10");
    postgres.kill();
    // A batch goes into one partition.
    for first in (11..=CLICKS).step_by(500) {
        post(&server, first..(first + 500).min(CLICKS + 1));
        server.wait_until_stored();
    }
    wait_until("partitions to be sealed", || {
        let sql = "SELECT count(*) FROM partition_catalog WHERE sealed_at IS NOT NULL";
        rows_of(&folder.data(), sql, |row| row.get::<_, i64>(0)).into_iter().sum::<i64>() >= 2
    });
    server.stop();
    age(&folder);
    let old = ["--retention-clicks", "1m", "--ship-keep", "0s", "--ship-hold-max", "1KiB"];
    let server = folder.serve(&[&flags[2..], &old].concat());
    // Retention has seen the old partitions, and holds them.
    wait_until("rows to be held", || metric(&server, "firehose_ship_held_bytes") > 0.0);
    wait_until("the limit of what is held to be reported", || server.health()["status"] == "degraded");
    assert!(metric(&server, "firehose_ship_hold_full") > 0.0);
    assert_eq!(stored(&folder), CLICKS, "nothing has left");
    postgres.restart();
    wait_for_answer(&postgres, "SELECT count(*) FROM fh.clicks", &CLICKS.to_string());
    wait_until("the old rows to leave", || stored(&folder) < CLICKS - 1_000);
    server.wait_until_status("healthy");
    shipper.stop();
    server.stop();
    drain(&folder, &postgres);
    assert_eq!(postgres.ask("SELECT count(DISTINCT user_id) FROM fh.clicks"), CLICKS.to_string());
    assert_eq!(count(&postgres, "clicks"), CLICKS, "retention does not travel");
}
