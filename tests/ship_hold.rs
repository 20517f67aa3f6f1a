//! Retention and `reshard` wait for the registered sinks. The tests write the notes that `firehose ship` would write.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::support::commerce::{ingested, lines, patch, search_all, verify};
use crate::support::{Folder, Server, wait_for, wait_until, wait_until_moved};

const AGES: &[&str] = &["--retention-orders", "1m", "--retention-prices", "1m", "--retention-stock", "1m"];

/// Returns a folder with old orders in a sealed partition, old stock events and prices, and a sink that has nothing.
fn aged() -> Folder {
    let folder = Folder::of_fixture("folder-v6");
    let server = folder.serve(&[]);
    server.wait_until_stored();
    wait_until_moved(&folder);
    server.stop();
    let shard = rusqlite::Connection::open(folder.database(0)).expect("the shard opens");
    shard
        .execute_batch(
            "UPDATE partition_catalog SET sealed_at = '2024-01-01T00:00:00Z' WHERE sealed_at IS NOT NULL;
             UPDATE price_row SET received_us = 1;
             UPDATE stock_event SET received_us = 1;",
        )
        .expect("the rows become old");
    register(&folder);
    folder
}

fn register(folder: &Folder) {
    let dir = folder.data().join("ship/pg");
    fs::create_dir_all(&dir).expect("a folder");
    let sink = json!({
        "id": "the sink", "kind": "postgres", "target": "postgres://there/shop",
        "registered_at": "2026-01-01T00:00:00Z",
    });
    fs::write(dir.join("sink.json"), sink.to_string()).expect("it is written");
}

/// Notes that the sink had everything at a time.
fn confirm(folder: &Folder, shard: usize, at_us: i64) {
    let file = rusqlite::Connection::open(folder.database(shard)).expect("the shard opens");
    let text = |sql: &str| file.query_row(sql, [], |row| row.get::<_, String>(0)).expect("a row");
    let number = |sql: &str| file.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).expect("a row");
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    for stream in ["click", "service_event", "sales_order"] {
        let sql =
            format!("SELECT max(first_id + rows + erased - 1) FROM partition WHERE stream = '{stream}'");
        last.insert(stream, number(&sql).unwrap_or(0));
    }
    for (stream, sql) in [
        ("stock_event", "SELECT max(id) FROM stock_event"),
        ("price_row", "SELECT max(id) FROM price_row"),
        ("change", "SELECT max(seq) FROM change"),
    ] {
        last.insert(stream, number(sql).unwrap_or(0));
    }
    let epoch = text("SELECT id FROM epoch ORDER BY number DESC LIMIT 1");
    let note = json!({"sink": "the sink", "epoch": epoch, "last": last, "at_us": at_us});
    let path = folder.data().join(format!("ship/pg/shard-{shard:02}.json"));
    fs::write(path.with_extension("new"), note.to_string()).expect("it is written");
    fs::rename(path.with_extension("new"), path).expect("it is there");
}

fn metric(server: &Server, name: &str) -> f64 {
    let page = server.get("/metrics").body;
    let page = String::from_utf8_lossy(&page);
    let line = page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
    line.rsplit(' ').next().expect("a value").parse().expect("a number")
}

/// Waits until a shard reports that it holds too much.
fn full(server: &Server) -> Value {
    let is_full = |health: &Value| {
        let reason = health["shards"][0]["reason"].as_str();
        health["status"] == "degraded" && reason.is_some_and(|reason| reason.contains("ship_hold_max"))
    };
    wait_for("a hold that is full", || Some(server.health()).filter(is_full))
}

fn orders(server: &Server) -> usize {
    search_all(server, "acme", "fields=order_id").len()
}

#[test]
fn nothing_leaves_before_a_sink_has_it_and_too_much_of_it_is_an_alarm() {
    let folder = aged();
    let server = folder.serve(&[AGES, &["--ship-hold-max", "1KiB"]].concat());
    let health = full(&server);
    assert_eq!(health["shards"][0]["state"], "open", "events are stored: {health}");
    assert!(metric(&server, "firehose_ship_held_bytes{shard=\"0\"}") > 1024.0);
    assert!(metric(&server, "firehose_ship_hold_full{shard=\"0\"}") > 0.0);
    assert!(server.logged("more is held for it than ship_hold_max").is_some());
    assert_eq!(orders(&server), 12);
    let (_, found) = folder.run_json(&["doctor"]);
    let checks = found["checks"].as_array().expect("checks").clone();
    let ship = checks.iter().find(|check| check["check"] == "ship").expect("a check of the sinks");
    assert_eq!(ship["verdict"], "warn", "{ship}");
    assert!(ship["remedy"].as_str().is_some_and(|remedy| remedy.contains("ship remove pg")), "{ship}");
    // A restart holds too.
    server.stop();
    let server = folder.serve(&[AGES, &["--ship-hold-max", "1KiB"]].concat());
    full(&server);
    assert_eq!(orders(&server), 12);

    confirm(&folder, 0, 1);
    wait_until("orders to leave", || orders(&server) == 0);
    server.wait_until_status("healthy");
    assert!(metric(&server, "firehose_ship_held_bytes{shard=\"0\"}") < 1024.0);
    assert!(metric(&server, "firehose_ship_dropped_rows_total{shard=\"0\",kind=\"sales_order\"}") < 1.0);
    server.stop();
    verify(&folder);
}

#[test]
fn what_is_dropped_unshipped_is_counted() {
    let folder = aged();
    let server = folder.serve(&[AGES, &["--ship-hold-max", "1KiB", "--ship-hold-full", "drop"]].concat());
    wait_until("orders to leave", || orders(&server) == 0);
    let name = "firehose_ship_dropped_rows_total{shard=\"0\",kind=\"sales_order\"}";
    wait_until("the orders to be counted", || metric(&server, name) > 11.0);
    assert!(server.logged("retention dropped rows that a sink does not have").is_some());
    server.stop();
    let (_, shards) = folder.run_json(&["shards"]);
    let dropped = shards[0]["dropped"].as_array().expect("what was dropped");
    let is_it = |rows: &&Value| rows["kind"] == "sales_order" && rows["reason"] == "unshipped";
    assert_eq!(dropped.iter().find(is_it).expect("unshipped orders")["rows"], 12, "{dropped:?}");
    verify(&folder);
}

/// The rows of a sink that is removed leave. The folder of the shard may be a link to another disk.
#[test]
fn a_hold_ends_with_its_sink() {
    let folder = aged();
    let elsewhere = folder.beside("other-disk");
    fs::rename(folder.shard(0), &elsewhere).expect("it moves");
    std::os::unix::fs::symlink(&elsewhere, folder.shard(0)).expect("a link");
    let server = folder.serve(&[AGES, &["--ship-hold-max", "1KiB"]].concat());
    full(&server);
    assert_eq!(orders(&server), 12);
    assert!(folder.run(&["ship", "remove", "pg"]).status.success());
    wait_until("orders to leave", || orders(&server) == 0);
    server.wait_until_status("healthy");
    server.stop();
    verify(&folder);
}

#[test]
fn a_reshard_waits_until_every_sink_has_everything() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1"]);
    ingested(&server, "first", lines(0..40).as_bytes());
    assert!(patch(&mut server.client(), "acme", "o-7", "shipped"));
    server.wait_until_stored();
    server.stop();
    register(&folder);
    let refused = folder.run(&["reshard", "--to", "3"]);
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    for word in ["pg", "shard 0", "firehose ship --drain --name pg", "nothing was changed"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    confirm(&folder, 0, 1);
    let output = folder.run(&["reshard", "--to", "3"]);
    assert!(output.status.success(), "{output:?}");
    verify(&folder);
    // The new shards have nothing that the sink lacks, so the next reshard needs no shipper.
    for shard in 0..3 {
        let path = folder.data().join(format!("ship/pg/shard-{shard:02}.json"));
        assert!(path.exists(), "{}", path.display());
    }
    fs::remove_dir_all(folder.data().join("before-reshard")).expect("the old shards are kept");
    let output = folder.run(&["reshard", "--to", "2"]);
    assert!(output.status.success(), "{output:?}");
    assert!(!folder.data().join("ship/pg/shard-02.json").exists());
    fs::remove_dir_all(folder.data().join("before-reshard")).expect("the old shards are kept");
    // A later row is missing in the sink again.
    let server = folder.serve(&[]);
    ingested(&server, "second", lines(40..60).as_bytes());
    server.stop();
    assert!(!folder.run(&["reshard", "--to", "4"]).status.success());
}
