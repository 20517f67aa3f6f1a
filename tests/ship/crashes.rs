//! S2: power cuts, restored backups, and targets that go back in time: every new row arrives, none twice.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::equal::{assert_equal, count, wait_for_answer};
use crate::fill::{event, fill, orders, send};
use crate::postgres::Postgres;
use crate::shipper::{Shipper, all_arrives, drain, ship_command, ship_once, verified};
use crate::support::{Folder, Load, Report, command, cpus, stored, wait_until};

/// Kills the server at a moment at which no pass of a checkpoint is incomplete, as a power cut between two passes
/// would. Starts it again until that succeeds. Each time, something has arrived before.
#[track_caller]
fn cut_between_passes(folder: &Folder, flags: &[&str], report: &mut Report, postgres: &Postgres) {
    let record = folder.database(0).with_extension("db-pass");
    let is_complete = || fs::read(&record).is_ok_and(|bytes| bytes.len() > 8 && bytes[8] == 1);
    loop {
        let before = count(postgres, "clicks");
        let server = folder.serve(flags);
        let load = Load::start(server.address, 4, 8, report.next());
        wait_until("rows to arrive", || count(postgres, "clicks") > before);
        wait_until("a pass to be complete", is_complete);
        server.kill();
        report.add(load.ended());
        if is_complete() {
            return;
        }
    }
}

#[test]
fn s2_after_a_power_cut_that_takes_the_wal_the_target_equals_the_source() {
    let Some(postgres) = Postgres::start() else { return };
    let folder = Folder::new();
    let flags = ["--shards", "1", "--cores", &cpus(2), "--checkpoint-interval", "300ms"];
    let mut report = Report::default();
    folder.serve(&flags).stop();
    let shipper = Shipper::start(&folder, &postgres, &[]);
    for _ in 0..3 {
        cut_between_passes(&folder, &flags, &mut report, &postgres);
        fs::remove_file(folder.database(0).with_extension("db-wal")).expect("the WAL is removed");
    }
    let server = folder.serve(&flags);
    server.wait_until_stored();
    server.stop();
    shipper.stop();
    drain(&folder, &postgres);
    report.check(&stored(&folder.data()));
    assert_equal(&[&folder], &postgres);
    verified(&folder, &postgres);
}

/// Returns the values of a query of the target, sorted as text.
fn list(postgres: &Postgres, sql: &str) -> Vec<String> {
    let mut rows: Vec<String> = postgres.ask(sql).lines().map(str::to_owned).collect();
    rows.sort();
    rows
}

fn numbers(ranges: &[std::ops::Range<u64>], prefix: &str) -> Vec<String> {
    let mut all: Vec<String> = ranges.iter().cloned().flatten().map(|n| format!("{prefix}{n}")).collect();
    all.sort();
    all
}

#[test]
fn s3_a_backup_that_is_served_after_its_first_life_shipped_further_ships_its_new_rows_and_no_old_one() {
    let Some(postgres) = Postgres::start() else { return };
    let folder = Folder::new();
    let quick = ["--checkpoint-interval", "50ms", "--shards", "2"];
    let server = folder.serve(&quick);
    fill(&server, "acme", 1, 40);
    let shipper = Shipper::start(&folder, &postgres, &[]);
    wait_for_answer(&postgres, "SELECT count(*) FROM fh.clicks", "40");
    let copy = Folder::new();
    let output = folder.run(&["backup", copy.data().to_str().expect("a path")]);
    assert!(output.status.success(), "{output:?}");
    // The first life continues.
    fill(&server, "first", 1_001, 30);
    all_arrives(server, shipper, (&folder, &postgres));
    // The copy has the same row ids for other rows.
    let server = copy.serve(&quick);
    fill(&server, "second", 2_001, 50);
    let shipper = Shipper::start(&copy, &postgres, &[]);
    wait_for_answer(&postgres, "SELECT count(*) FROM fh.clicks", "120");
    server.wait_until_stored();
    server.stop();
    shipper.stop();
    drain(&copy, &postgres);
    let all = [1..41, 1_001..1_031, 2_001..2_051];
    assert_eq!(list(&postgres, "SELECT user_id FROM fh.clicks"), numbers(&all, ""));
    assert_eq!(list(&postgres, "SELECT event_id FROM fh.events"), numbers(&all, "e-"));
    assert_eq!(list(&postgres, "SELECT order_id FROM fh.orders"), numbers(&all, "o-"));
    assert_eq!(list(&postgres, "SELECT event_id FROM fh.stock_events"), numbers(&all, "s-"));
    assert_eq!((count(&postgres, "twice"), count(&postgres, "rejected")), (0, 0));
    assert_eq!(count(&postgres, "node"), 1, "it is the same node");
}

/// Copies a folder with its owners and permissions.
fn copy_folder(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(copied.success(), "{}", from.display());
}

#[test]
fn s13_a_target_that_was_set_back_gets_the_missing_rows_again_and_none_twice() {
    let Some(mut postgres) = Postgres::start() else { return };
    let folder = Folder::new();
    let server = folder.serve(&["--checkpoint-interval", "50ms", "--shards", "2"]);
    fill(&server, "acme", 1, 40);
    let shipper = Shipper::start(&folder, &postgres, &[]);
    wait_for_answer(&postgres, "SELECT count(*) FROM fh.clicks", "40");
    postgres.kill();
    let kept = postgres.beside("kept");
    copy_folder(&postgres.data(), &kept);
    postgres.restart();
    fill(&server, "acme", 1_001, 40);
    wait_for_answer(&postgres, "SELECT count(*) FROM fh.clicks", "80");
    // The shipper runs on, and has confirmed rows that the target has no longer.
    postgres.kill();
    fs::remove_dir_all(postgres.data()).expect("the newer state is removed");
    copy_folder(&kept, &postgres.data());
    postgres.restart();
    wait_for_answer(&postgres, "SELECT count(*) FROM fh.clicks", "80");
    fill(&server, "acme", 2_001, 40);
    wait_for_answer(&postgres, "SELECT count(*) FROM fh.clicks", "120");
    all_arrives(server, shipper, (&folder, &postgres));
    verified(&folder, &postgres);
}

#[test]
fn s13_a_folder_that_lost_rows_which_were_shipped_is_reported_and_ships_nothing_more() {
    let Some(postgres) = Postgres::start() else { return };
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1"]);
    fill(&server, "acme", 1, 20);
    server.wait_until_stored();
    server.stop();
    ship_once(&folder, &postgres);
    postgres.ask("UPDATE fh.position SET last = last + 1000 WHERE stream = 'click'");
    let output = ship_command(&folder, &postgres.url(), &["--once"]).output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("click") && said.contains("1020"), "{said}");
    assert_eq!(count(&postgres, "clicks"), 20);
}

#[test]
fn s9_a_reshard_waits_until_everything_is_shipped_and_nothing_is_shipped_again_after_it() {
    let Some(postgres) = Postgres::start() else { return };
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2"]);
    fill(&server, "acme", 1, 40);
    server.wait_until_stored();
    server.stop();
    ship_once(&folder, &postgres);
    let server = folder.serve(&[]);
    fill(&server, "acme", 101, 40);
    server.wait_until_stored();
    server.stop();
    let refused = folder.run(&["reshard", "--to", "3"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("drain"), "{said}");
    drain(&folder, &postgres);
    let output = folder.run(&["reshard", "--to", "3"]);
    assert!(output.status.success(), "{output:?}");
    ship_once(&folder, &postgres);
    for table in ["clicks", "events", "orders", "stock_events"] {
        assert_eq!(count(&postgres, table), 80, "{table}");
    }
    let server = folder.serve(&[]);
    fill(&server, "acme", 201, 40);
    server.wait_until_stored();
    server.stop();
    drain(&folder, &postgres);
    for table in ["clicks", "events", "orders", "stock_events"] {
        assert_eq!(count(&postgres, table), 120, "{table}");
    }
    assert_eq!((count(&postgres, "twice"), count(&postgres, "rejected")), (0, 0));
    verified(&folder, &postgres);
}

#[test]
fn s11_an_erasure_reaches_a_target_that_was_away_and_no_late_row_brings_the_person_back() {
    let Some(mut postgres) = Postgres::start() else { return };
    let folder = Folder::new();
    let server = folder.serve(&["--checkpoint-interval", "50ms", "--shards", "2"]);
    orders(&server, "acme", 1, 20);
    let mut client = server.client();
    let mut about = event("acme", 1);
    about["payload"] = json!({"customer": "c-3-acme", "note": "wrote to c3@acme.example"});
    send(&mut client, "POST", "/events", &about);
    send(&mut client, "POST", "/events", &event("acme", 2));
    send(
        &mut client,
        "POST",
        "/event",
        &json!({"user_id": 77, "timestamp": "2026-03-01T12:00:00Z", "metadata": {}}),
    );
    send(
        &mut client,
        "POST",
        "/event",
        &json!({"user_id": 78, "timestamp": "2026-03-01T12:00:00Z", "metadata": {}}),
    );
    let shipper = Shipper::start(&folder, &postgres, &[]);
    wait_for_answer(&postgres, "SELECT count(*) FROM fh.orders", "20");
    wait_for_answer(&postgres, "SELECT count(*) FROM fh.clicks", "2");
    wait_for_answer(&postgres, "SELECT count(*) FROM fh.events", "2");
    assert!(postgres.dump().contains("c3@acme.example"), "the needle is there before");
    postgres.kill();
    // More of the person, which is not shipped before the erasure.
    orders(&server, "acme", 21, 10);
    let erased = client.ask("DELETE", "/api/v1/tenants/acme/customers/c-3-acme", "").expect("an answer");
    assert_eq!(erased.status, 202, "pending while a sink is away: {}", String::from_utf8_lossy(&erased.body));
    let url = erased.header("location").expect("a URL").to_owned();
    let clicks = client.ask("DELETE", "/clicks/users/77", "").expect("an answer");
    assert_eq!(clicks.status, 202, "{}", String::from_utf8_lossy(&clicks.body));
    let clicks = clicks.header("location").expect("a URL").to_owned();
    postgres.restart();
    for url in [&url, &clicks] {
        wait_until("the erasure to be finished", || server.get(url).json()["state"] == "finished");
        let certificate = server.get(url).json()["certificate"].clone();
        assert_eq!(
            (&certificate["local"], &certificate["sinks"][0]["state"]),
            (&json!("done"), &json!("done"))
        );
    }
    server.wait_until_stored();
    server.stop();
    shipper.stop();
    drain(&folder, &postgres);
    let dump = postgres.dump();
    for needle in ["c-3-acme", "c3@acme.example", "Name 3"] {
        assert!(!dump.contains(needle), "{needle} is in a table");
    }
    assert_eq!(postgres.ask("SELECT user_id FROM fh.clicks"), "78");
    assert_eq!(postgres.ask("SELECT event_id FROM fh.events"), "e-2");
    assert_equal(&[&folder], &postgres);
    verified(&folder, &postgres);
}

#[test]
fn a_shipper_that_starts_before_its_folder_exists_says_so() {
    let Some(postgres) = Postgres::start() else { return };
    let nowhere = Folder::new();
    let mut words = command();
    words.args(["ship", "--once", "--to", &postgres.url(), "--data"]).arg(nowhere.data());
    let output = words.output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(nowhere.data().to_str().expect("a path")), "{said}");
}
