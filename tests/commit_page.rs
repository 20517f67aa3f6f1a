//! The page of what nearly every commit changes: a folder of schema version 14 is served as before, and the views show
//! what its tables had, also after kills and a reshard. The fixture has events of two tenants in two partitions, clicks, an
//! order and a stock update, and the counts that the program returned that made it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::commerce::{sales, verify};
use crate::support::{Folder, Server, rows_of};

/// Rows of a new partition, so that the next commits of events and clicks seal the open ones.
const FLAGS: [&str; 4] = ["--partition-rows-max", "40", "--page-size", "4KiB"];

fn answers() -> serde_json::Map<String, Value> {
    serde_json::from_str(include_str!("fixtures/folder-v14-events/answers.json")).expect("JSON")
}

fn number(folder: &Folder, sql: &str) -> i64 {
    rows_of(&folder.data(), sql, |row| row.get::<_, i64>(0)).into_iter().sum()
}

/// Compares counts with the recorded ones. `more` events were sent since, all to the last bucket of `acme`.
#[track_caller]
fn check(server: &Server, more: i64) {
    for (asked, recorded) in answers() {
        let answer = server.get(&asked);
        assert_eq!(answer.status, 200, "{asked}: {answer:?}");
        let mut found = answer.json()["metrics"].take();
        if asked.contains("tenant_id=acme") {
            let added =
                found.as_array_mut().expect("a list").iter_mut().find(|bucket| bucket["source"] == "new");
            assert_eq!(
                added.as_ref().map_or(0, |bucket| bucket["count"].as_i64().expect("a count")),
                more * i64::from(!asked.contains("source=")),
                "{asked}"
            );
            found.as_array_mut().expect("a list").retain(|bucket| bucket["source"] != "new");
        }
        assert_eq!(found, recorded, "{asked}");
    }
}

/// Sends events one by one, so that each is a commit, in two minutes.
fn send(server: &Server, numbers: std::ops::Range<i64>) {
    let mut client = server.client();
    for number in numbers {
        let body = json!({
            "event_id": format!("new-{number}"), "tenant_id": "acme", "source": "new", "event_type": "view",
            "timestamp": "2024-03-03T12:00:01Z", "payload": {"n": number},
        });
        let answer = client.post_as("/events", "application/json", &body.to_string()).expect("an answer");
        assert_eq!(answer.status, 201, "{answer:?}");
        client.post(number.unsigned_abs()).expect("a click");
    }
    server.wait_until_stored();
}

/// The totals, positions and counters that the views show, as any program reads them.
fn shown(folder: &Folder) -> BTreeMap<String, i64> {
    let totals = "SELECT name, value FROM total";
    let counters = "SELECT stream || ' ' || name || ' ' || (sealed_at IS NULL), rows FROM partition";
    let buckets =
        ["minute", "hour", "day"].map(|size| format!("SELECT '{size}', sum(count) FROM bucket_{size}"));
    let mut shown = BTreeMap::new();
    for sql in [totals, counters].into_iter().chain(buckets.iter().map(String::as_str)) {
        for (name, value) in
            rows_of(&folder.data(), sql, |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))
        {
            *shown.entry(name).or_default() += value;
        }
    }
    shown
}

#[test]
fn a_folder_of_version_14_is_served_as_before_with_its_counters_on_one_page() {
    let folder = Folder::of_fixture("folder-v14-events");
    let before = shown(&folder);
    assert_eq!(
        (before["rows"], before["service_events"], before["orders"], before["minute"]),
        (50, 70, 1, 70)
    );
    let mut server = folder.serve(&FLAGS);
    check(&server, 0);
    server.wait_until_stored();
    assert_eq!(shown(&folder), before);
    assert_eq!(server.health()["database_events"], 121);
    check(&server, 0);
    // The open partitions have 28 events and 6 clicks, so that of the events is sealed.
    for (from, to) in [(0, 7), (7, 30), (30, 31)] {
        send(&server, from..to);
        check(&server, to);
        server.replace(|| folder.serve(&FLAGS));
        server.wait_until_stored();
        check(&server, to);
        let now = shown(&folder);
        let counts = ["rows", "service_events", "minute", "hour", "day"].map(|name| now[name] - before[name]);
        assert_eq!(counts, [to; 5]);
    }
    assert_eq!(sales(&server, "acme", "group_by=day")["groups"][0]["orders"], 1);
    server.stop();
    verify(&folder);
    assert!(number(&folder, "SELECT count(*) FROM commit_page WHERE kind = 16") > 0);
    assert!(number(&folder, "SELECT count(*) FROM partition WHERE sealed_at IS NOT NULL") >= 3);
    let output = folder.run(&["reshard", "--to", "3"]);
    assert!(output.status.success(), "{output:?}");
    let server = folder.serve(&FLAGS);
    check(&server, 31);
    server.stop();
    verify(&folder);
}
