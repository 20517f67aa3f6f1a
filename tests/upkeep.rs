//! A folder apart from serving: backups of a running server, reshards, and retention.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::{Folder, Server, cpus, wait_for, wait_until};
use firehose::base::ids::{LaneId, Sequence, ShardId};
use firehose::base::money::Currency;
use firehose::events::SERVICE_EVENT;
use firehose::events::ServiceEventRow;
use firehose::families::FAMILIES;
use firehose::ingest::CLICK;
use firehose::ingest::encode_header;
use firehose::orders::ORDER;
use firehose::orders::ORDER_STATUS;
use firehose::orders::OrderStatus;
use firehose::orders::{ItemRow, OrderParts, StatusRow, encode_order};
use firehose::shard::{self, CheckpointMode, DataFolder, Entry, Records, Shard, ShardOptions};
use serde_json::{Value, json};

fn event(n: u64) -> Value {
    json!({
        "event_id": format!("evt-{n}"), "tenant_id": format!("tenant-{}", n % 3), "source": "web",
        "event_type": "click", "timestamp": format!("2024-01-15T10:{:02}:00Z", n % 60), "payload": {"n": n},
    })
}

fn post(server: &Server, numbers: std::ops::Range<u64>) {
    let mut client = server.client();
    let rows: Vec<_> = numbers.clone().map(event).collect();
    let answer = client.ask("POST", "/events/bulk", &json!({"events": rows}).to_string()).expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    for n in numbers {
        assert_eq!(client.post(n).expect("an answer").status, 202);
    }
}

/// Returns every event of a server by its id, and the number of clicks.
fn all(server: &Server) -> (BTreeMap<String, Value>, u64) {
    let mut found = BTreeMap::new();
    for tenant in 0..3 {
        let target = format!("/events?tenant_id=tenant-{tenant}");
        let answer = server.client().get_as(&target, "application/x-ndjson").expect("an answer");
        for line in answer.body.split_inclusive(|byte| *byte == b'\n') {
            let row: Value = serde_json::from_slice(line).expect("a line of JSON");
            let id = row["event_id"].as_str().expect("an id").to_owned();
            assert_eq!(found.insert(id, row), None, "a row came twice");
        }
    }
    let clicks = server.get("/clicks").json()["total"].as_u64().expect("a total");
    (found, clicks)
}

fn serve(folder: &Folder, data: &Path, flags: &[&str]) -> Server {
    let server = folder.serve_on(data, &[&["--cores", &cpus(2)], flags].concat());
    server.wait_until_stored();
    server
}

#[test]
fn a_backup_of_a_running_server_is_a_folder_that_serves() {
    let folder = Folder::new();
    let server = serve(&folder, &folder.data(), &["--shards", "2", "--partition-rows-max", "50"]);
    post(&server, 0..200);
    server.wait_until_stored();
    let before = all(&server);
    let page = server.get("/events?tenant_id=tenant-1&page_size=50").json();
    let dest = folder.beside("backup");
    let output = folder.run(&["backup", dest.to_str().expect("a path")]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("400 rows"), "{output:?}");
    // Later events are not in the backup, and no backup overwrites it.
    post(&server, 200..300);
    let again = folder.run(&["backup", dest.to_str().expect("a path")]);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("not empty"));
    server.stop();
    let restored = serve(&folder, &dest, &[]);
    assert_eq!(all(&restored), before);
    // A cursor that the server issued before the backup continues on the copy.
    if let Some(cursor) = page["next_cursor"].as_str() {
        let next = restored.get(&format!("/events?tenant_id=tenant-1&page_size=50&cursor={cursor}"));
        assert_eq!(next.status, 200, "{next:?}");
    } else {
        panic!("there is more than a page: {page}");
    }
    // The copy works as a server of its own: it recognises old ids and accepts new events.
    let answer = restored.client().ask("POST", "/events", &event(7).to_string()).expect("an answer");
    assert_eq!(answer.json()["status"], "duplicate");
    post(&restored, 500..600);
    restored.wait_until_stored();
    assert_eq!(all(&restored).0.len(), 300);
    restored.stop();
}

#[test]
fn another_number_of_shards_holds_the_same_rows() {
    let folder = Folder::new();
    let server = serve(&folder, &folder.data(), &["--shards", "2", "--partition-rows-max", "50"]);
    post(&server, 0..300);
    server.wait_until_stored();
    let before = all(&server);
    let refused = folder.run(&["reshard", "--to", "3"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("in use"), "{refused:?}");
    server.stop();
    for to in [3, 1, 8] {
        let output = folder.run(&["reshard", "--to", &to.to_string()]);
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("300 clicks, 300 events, 0 orders, 0 rejected records: the same"), "{said}");
        let server = serve(&folder, &folder.data(), &[]);
        assert_eq!(server.health()["shards"].as_array().map(Vec::len), Some(to));
        assert_eq!(server.health()["total_received"], 600);
        assert_eq!(all(&server), before, "{to} shards");
        let answer = server.client().ask("POST", "/events", &event(7).to_string()).expect("an answer");
        assert_eq!(answer.json()["status"], "duplicate");
        server.stop();
        let (code, said) = folder.run_json(&["verify", "--aggregates"]);
        assert_eq!(code, 0, "{said}");
        let again = folder.run(&["reshard", "--to", "5"]);
        assert!(String::from_utf8_lossy(&again.stderr).contains("before-reshard"), "{again:?}");
        std::fs::remove_dir_all(folder.data().join("before-reshard")).expect("the old shards are there");
    }
}

#[test]
fn an_interrupted_reshard_goes_on_where_it_was() {
    let folder = Folder::new();
    let server = serve(&folder, &folder.data(), &["--shards", "2"]);
    (0..8).for_each(|part| post(&server, part * 4_000..part * 4_000 + 600));
    server.wait_until_stored();
    let before = all(&server);
    server.stop();
    let mut chance = crate::support::Chance::new();
    for _ in 0..5 {
        let mut command = crate::support::command();
        command.args(["reshard", "--to", "5", "--data"]).arg(folder.data());
        let mut child = command
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("it runs");
        let spare = std::time::Duration::from_millis(chance.below(300));
        firehose::base::clock::pause(spare);
        let _ = child.kill();
        let _ = child.wait();
    }
    if folder.data().join("reshard.json").exists() {
        let refused = folder.refused(&[]);
        assert!(refused.log.contains("reshard"), "{}", refused.log);
        assert!(!folder.run(&["reshard", "--to", "4"]).status.success());
        let output = folder.run(&["reshard", "--to", "5"]);
        assert!(output.status.success(), "{output:?}");
    }
    let server = serve(&folder, &folder.data(), &[]);
    assert_eq!(all(&server), before);
    server.stop();
}

/// Bytes that are not a row of any kind.
const NO_ROW: &[u8] = b"\xff\xfe\xfd";

/// Records in memory, in the form that a journal returns them.
struct Lane(Vec<(u8, Vec<u8>)>);

impl Records for Lane {
    fn records(&self) -> impl Iterator<Item = Entry<'_>> {
        let numbered = (1..).map(Sequence).zip(&self.0);
        numbered.map(|(sequence, (kind, payload))| Entry { sequence, kind: *kind, payload })
    }
}

/// A click, an event, and an order with a later status: a row for every count, and one for none.
fn good_records() -> Vec<(u8, Vec<u8>)> {
    let (at, tenant_id, order_id) = (1_705_312_800_000_000, "tenant-1", "o-1");
    let click = [&encode_header(7, at, at)[..], b"{}"].concat();
    let (mut event, mut order, mut status) = (Vec::new(), Vec::new(), Vec::new());
    let event_row = ServiceEventRow {
        timestamp_us: at,
        received_us: at,
        tenant_id,
        event_id: "e-1",
        source: "web",
        event_type: "click",
        payload: "{}",
    };
    event_row.encode(&mut event);
    let parts = OrderParts {
        tenant_id,
        order_id,
        customer_id: "c-1",
        customer_name: "Ann",
        customer_email: "ann@example.org",
        status: OrderStatus::Paid,
        currency: Currency::parse("EUR").expect("a currency"),
        ordered_at_us: at,
    };
    let item = ItemRow { product_id: "p-1", category: "tea", quantity: 2, unit_price: 450 };
    encode_order(&parts, (0, 0, at), [item].into_iter(), &mut order);
    StatusRow { occurred_us: 9, received_us: at, status: OrderStatus::Shipped, tenant_id, order_id }
        .encode(&mut status);
    let records = [(CLICK, click), (SERVICE_EVENT, event), (ORDER, order), (ORDER_STATUS, status)];
    records.map(|(kind, payload)| (kind.number(), payload)).into()
}

/// Returns the kind, payload and reason of every rejected record of a folder.
fn rejected_records(folder: &Folder, shards: u16) -> Vec<(u8, Vec<u8>, String)> {
    let mut found = Vec::new();
    for shard in 0..shards {
        let reader = shard::open_reader(&folder.database(shard.into())).expect("the shard opens");
        let mut statement =
            reader.prepare("SELECT kind, payload, reason FROM rejected_record").expect("the table is there");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        found.extend(rows.expect("it reads").map(|row| row.expect("a record")));
    }
    found.sort();
    found
}

#[test]
fn a_reshard_carries_a_rejected_record_of_every_kind() {
    // Also a number that no kind has, as a newer program would write.
    let kinds: Vec<u8> = FAMILIES.kinds().map(|row| row.kind.number()).chain([200]).collect();
    // Each kind separately, so that two wrong counts cannot hide each other, and all together.
    let mut cases: Vec<Vec<u8>> = kinds.iter().map(|kind| vec![*kind]).collect();
    cases.push(kinds);
    let mut refused = Vec::new();
    for case in cases {
        let folder = Folder::new();
        let begun = DataFolder::open(&folder.data(), Some(1), 1).expect("a new folder");
        let options = ShardOptions { folder_id: begun.manifest().folder_id(), ..ShardOptions::default() };
        let mut records = good_records();
        records.extend(case.iter().map(|kind| (*kind, NO_ROW.to_vec())));
        let mut shard = Shard::open(&begun.shard(ShardId(0)), &options, &FAMILIES).expect("a new shard");
        let applied = shard.apply(&[(LaneId(0), &Lane(records))], &mut |_, _, _| {}).expect("a commit");
        assert_eq!(applied.stored[..4], [1, 1, 1, 0]);
        assert_eq!(applied.rejected, case.len() as u64, "{case:?}");
        shard.checkpoint(CheckpointMode::Truncate).expect("a checkpoint");
        drop((shard, begun));
        let before = rejected_records(&folder, 1);
        for to in [3, 2] {
            let output = folder.run(&["reshard", "--to", &to.to_string()]);
            if !output.status.success() {
                refused.push((case.clone(), String::from_utf8_lossy(&output.stderr).into_owned()));
                break;
            }
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let counts = format!("1 clicks, 1 events, 1 orders, {} rejected records: the same", case.len());
            assert!(said.contains(&counts), "{said}");
            assert_eq!(rejected_records(&folder, to), before, "{case:?} in {to} shards");
            std::fs::remove_dir_all(folder.data().join("before-reshard")).expect("the old shards are there");
        }
        let (code, said) = folder.run_json(&["verify", "--aggregates"]);
        assert_eq!(code, 0, "{said}");
        if case.len() > 1 {
            let server = serve(&folder, &folder.data(), &[]);
            assert_eq!(server.health()["total_received"], 3 + case.len());
            server.stop();
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn what_is_only_in_a_journal_is_not_left_behind() {
    let folder = Folder::new();
    let server = serve(&folder, &folder.data(), &["--shards", "1"]);
    let lock = crate::support::hold_lock(&folder.database(0));
    for n in 0..10 {
        assert_eq!(server.client().post(n).expect("an answer").status, 202);
    }
    server.kill();
    drop(lock);
    let refused = folder.run(&["reshard", "--to", "2"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("only in its journal"), "{refused:?}");
    serve(&folder, &folder.data(), &[]).stop();
    assert!(folder.run(&["reshard", "--to", "2"]).status.success());
}

#[test]
fn rows_leave_when_their_time_is_over() {
    let folder = Folder::new();
    // The shortest possible retention.
    let flags = [
        "--shards",
        "1",
        "--retention-events",
        "1m",
        "--retention-clicks",
        "off",
        "--partition-rows-max",
        "40",
    ];
    let server = serve(&folder, &folder.data(), &flags);
    (0..5).for_each(|part| post(&server, part * 20..part * 20 + 20));
    server.wait_until_stored();
    let total = || all(&server);
    assert_eq!(total().0.len(), 100);
    // Makes the partitions look sealed long ago, instead of waiting a minute.
    let database = folder.database(0);
    wait_until("partitions to be sealed", || {
        let connection = rusqlite::Connection::open(&database).expect("the shard opens");
        let aged = connection.execute(
            "UPDATE partition_catalog SET sealed_at = '2024-01-01T00:00:00Z' WHERE stream = 'service_event' AND sealed_at IS NOT NULL",
            [],
        );
        aged.is_ok_and(|aged| aged >= 2)
    });
    let left = wait_for("old rows to leave", || Some(total().0.len()).filter(|left| *left < 100));
    assert!(left > 0);
    assert_eq!(total().1, 100, "clicks stay");
    server.stop();
    let (code, said) = folder.run_json(&["verify", "--aggregates"]);
    assert_eq!(code, 0, "{said}");
}
