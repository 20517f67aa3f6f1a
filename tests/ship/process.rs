//! Rows of every kind arrive, soon after they are stored, from folders of every version, whatever they contain.

use serde_json::json;

use crate::equal::{assert_equal, count, wait_for_answer};
use crate::fill::{fill, send};
use crate::postgres::Postgres;
use crate::shipper::{Shipper, all_arrives, drain, ship_once, verified};
use crate::support::{Folder, cpus, rows_of, stored, wait_until, wait_until_moved};

/// Short enough that a test need not wait for a checkpoint.
const QUICK: [&str; 2] = ["--checkpoint-interval", "50ms"];

#[test]
fn rows_of_every_kind_arrive_once_while_the_server_runs_and_after_it() {
    let Some(postgres) = Postgres::start() else { return };
    let folder = Folder::new();
    let server = folder.serve(&[&QUICK[..], &["--shards", "3", "--cores", &cpus(2)]].concat());
    fill(&server, "acme", 1, 60);
    let shipper = Shipper::start(&folder, &postgres, &[]);
    wait_for_answer(&postgres, "SELECT count(*) FROM fh.clicks", "60");
    fill(&server, "zeta", 1_001, 60);
    wait_for_answer(&postgres, "SELECT count(*) FROM fh.clicks", "120");
    all_arrives(server, shipper, (&folder, &postgres));
    verified(&folder, &postgres);
    // A pass over a folder that is shipped changes nothing.
    let before = postgres.ask("SELECT stream, shard, last FROM fh.position ORDER BY 1, 2");
    ship_once(&folder, &postgres);
    assert_eq!(postgres.ask("SELECT stream, shard, last FROM fh.position ORDER BY 1, 2"), before);
    assert_equal(&[&folder], &postgres);
}

#[test]
fn a_status_that_changes_after_its_order_arrived_changes_there_too_and_its_history_is_complete() {
    let Some(postgres) = Postgres::start() else { return };
    let folder = Folder::new();
    let server = folder.serve(&[&QUICK[..], &["--shards", "2"]].concat());
    crate::fill::orders(&server, "acme", 1, 10);
    let shipper = Shipper::start(&folder, &postgres, &[]);
    wait_for_answer(&postgres, "SELECT count(*) FROM fh.orders", "10");
    let mut client = server.client();
    for status in ["shipped", "delivered", "refunded"] {
        for number in 1..=10 {
            let target = format!("/api/v1/tenants/acme/orders/o-{number}");
            send(&mut client, "PATCH", &target, &json!({"status": status}));
        }
    }
    wait_for_answer(&postgres, "SELECT count(*) FROM fh.orders WHERE status = 'refunded'", "10");
    wait_for_answer(&postgres, "SELECT count(*) FROM fh.order_status", "30");
    let history = "SELECT DISTINCT (SELECT string_agg(status, ',' ORDER BY changed_at, id) FROM fh.order_status s \
        WHERE s.order_id = o.order_id) FROM fh.orders o";
    assert_eq!(postgres.ask(history), "shipped,delivered,refunded");
    assert_eq!(postgres.ask("SELECT DISTINCT first_status FROM fh.orders"), "paid");
    shipper.stop();
    server.stop();
    assert_equal(&[&folder], &postgres);
}

/// Payloads that PostgreSQL's `jsonb` holds in another form, or not at all.
fn odd_payloads() -> Vec<String> {
    let deep = format!("{}1{}", r#"{"x":"#.repeat(60), "}".repeat(60));
    let of = |text: &str| text.to_owned();
    vec![
        of(r#"{"x":"plain"}"#),
        of(r#"{"x":"a\u0000b"}"#),
        of(r#"{"x":"\ud800"}"#),
        of(r#"{"x":1e400}"#),
        of(r#"{"x":1e200000}"#),
        of(r#"{"x":1,"x":2,"y":{"z":1,"z":2}}"#),
        of(r#"{"x":"\ud83d\ude00","t":"ünï","tab":"\t","back":"\\","copy":"\\."}"#),
        of(r#"{ "x" : 0.10, "big" : 123456789012345678901234567890 }"#),
        of("{}"),
        deep,
    ]
}

#[test]
fn every_payload_arrives_and_a_member_can_be_asked_for_over_the_whole_table() {
    let Some(postgres) = Postgres::start() else { return };
    let folder = Folder::new();
    let server = folder.serve(&[&QUICK[..], &["--shards", "1"]].concat());
    let mut client = server.client();
    let payloads = odd_payloads();
    for (number, payload) in payloads.iter().enumerate() {
        let body = format!(
            r#"{{"event_id":"e-{number}","tenant_id":"acme","source":"web","event_type":"view",
                "timestamp":"2026-03-01T12:00:00Z","payload":{payload}}}"#
        );
        let answer = client.ask("POST", "/events", &body).expect("an answer");
        assert_eq!(answer.status, 201, "{payload}: {}", String::from_utf8_lossy(&answer.body));
        let click =
            format!(r#"{{"user_id":{number},"timestamp":"2026-03-01T12:00:00Z","metadata":{payload}}}"#);
        assert_eq!(client.ask("POST", "/event", &click).expect("an answer").status, 202, "{payload}");
    }
    server.wait_until_stored();
    server.stop();
    drain(&folder, &postgres);
    let all = payloads.len().to_string();
    for (table, column) in [("events", "payload"), ("clicks", "metadata")] {
        assert_eq!(
            postgres.ask(&format!("SELECT count({column}->>'x') + count(*) * 0 >= 0 FROM fh.{table}")),
            "t"
        );
        assert_eq!(postgres.ask(&format!("SELECT count(*) FROM fh.{table}")), all);
        let one =
            format!("SELECT count(*) FROM fh.{table} WHERE ({column} IS NULL) = ({column}_raw IS NULL)");
        assert_eq!(postgres.ask(&one), "0", "{table}: each row has one of the two forms");
    }
    // Byte for byte where jsonb cannot hold it.
    for (number, payload) in payloads.iter().enumerate().filter(|(_, text)| text.contains("u0000")) {
        let raw = postgres.ask(&format!("SELECT payload_raw FROM fh.events WHERE event_id = 'e-{number}'"));
        assert_eq!(&raw, payload);
    }
    let same = "SELECT payload = '{\"x\":2,\"y\":{\"z\":2}}'::jsonb FROM fh.events WHERE event_id = 'e-5'";
    assert_eq!(postgres.ask(same), "t", "the last of repeated keys counts");
    assert_eq!(count(&postgres, "rejected"), 0);
    verified(&folder, &postgres);
}

#[test]
fn a_target_that_hangs_holds_back_no_checkpoint() {
    let Some(postgres) = Postgres::start() else { return };
    let folder = Folder::new();
    let server = folder.serve(&[&QUICK[..], &["--shards", "1"]].concat());
    fill(&server, "acme", 1, 20);
    let shipper = Shipper::start(&folder, &postgres, &[]);
    wait_for_answer(&postgres, "SELECT count(*) FROM fh.clicks", "20");
    postgres.signal("STOP");
    let clicks = || {
        let sql = "SELECT last FROM checkpointed WHERE stream = 'click'";
        rows_of(&folder.data(), sql, |row| row.get::<_, i64>(0)).into_iter().sum::<i64>()
    };
    for round in 1..=5 {
        fill(&server, &format!("t{round}"), 1_000 * round, 20);
        wait_until("a checkpoint next to a target that hangs", || clicks() >= 20 * (round as i64 + 1));
    }
    postgres.signal("CONT");
    wait_for_answer(&postgres, "SELECT count(*) FROM fh.clicks", "120");
    all_arrives(server, shipper, (&folder, &postgres));
}

/// The folders that earlier versions left, with one shard each.
const FIXTURES: [&str; 12] = [
    "folder-v4",
    "folder-v5",
    "folder-v6",
    "folder-v7",
    "folder-v8",
    "folder-v8-clicks",
    "folder-v8-sales",
    "folder-v11-events",
    "folder-v11-products",
    "folder-v11-stock",
    "folder-v14-events",
    "folder-v14-prices",
];

#[test]
fn folders_of_every_earlier_version_migrate_while_serving_and_ship_whole() {
    for name in FIXTURES {
        let Some(postgres) = Postgres::start() else { return };
        let folder = Folder::of_fixture(name);
        let server = folder.serve(&QUICK);
        // It starts during the migration.
        let shipper = Shipper::start(&folder, &postgres, &[]);
        let before = stored_clicks(&folder);
        fill(&server, "fresh", 1_000_001, 8);
        wait_until_moved(&folder);
        server.wait_until_stored();
        let clicks = (before + 8).to_string();
        wait_for_answer(&postgres, "SELECT count(*) FROM fh.clicks", &clicks);
        server.stop();
        shipper.stop();
        drain(&folder, &postgres);
        assert_equal(&[&folder], &postgres);
        verified(&folder, &postgres);
        eprintln!("{name}: {clicks} clicks");
    }
}

fn stored_clicks(folder: &Folder) -> usize {
    rows_of(&folder.data(), "SELECT id FROM events", |row| row.get::<_, i64>(0)).len()
}

#[test]
fn a_folder_with_rows_of_one_kind_only_is_shipped() {
    let Some(postgres) = Postgres::start() else { return };
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2"]);
    for number in 1..=10 {
        assert_eq!(server.client().post(number).expect("an answer").status, 202);
    }
    server.wait_until_stored();
    server.stop();
    ship_once(&folder, &postgres);
    assert_eq!(count(&postgres, "clicks"), stored(&folder.data()).len() as u64);
}
