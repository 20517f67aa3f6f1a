//! A backfill of events in no order of time into a running server, on a folder of the schema before unordered
//! partitions: kills, queries and a reshard change nothing. The fixture has eight events of a tenant `acme`.

use std::collections::BTreeMap;

use crate::support::commerce::verify;
use crate::support::{Chance, Folder, Server, rows_of, wait_until};
use serde_json::{Value, json};

/// A size at which a few thousand rows are worth an unordered partition.
const FLAGS: [&str; 2] = ["--partition-rows-max", "4000"];
const ROWS: usize = 1_000;

/// The time and number of each event, by its id.
type Known = BTreeMap<String, (String, i64)>;

/// Returns a request of events at times of a year, in no order, and adds them to the known ones.
fn request(chance: &mut Chance, known: &mut Known, equal: bool) -> String {
    let mut lines = String::new();
    for _ in 0..ROWS {
        let number = known.len() as i64;
        let time = match equal {
            true => "2024-06-01T00:00:00Z".to_owned(),
            false => format!(
                "2024-{:02}-{:02}T{:02}:{:02}:07Z",
                chance.below(12) + 1,
                chance.below(28) + 1,
                chance.below(24),
                chance.below(60)
            ),
        };
        let id = format!("e{:x}-{number}", chance.below(1 << 30));
        let source = ["web", "ios"][number as usize % 2];
        let event = json!({
            "event_id": id, "tenant_id": "acme", "source": source,
            "event_type": "click", "timestamp": time, "payload": {"n": number},
        });
        lines += &format!("{event}\n");
        known.insert(id, (time, number));
    }
    lines
}

fn import(server: &Server, chance: &mut Chance, known: &mut Known, equal: bool, requests: usize) {
    let mut client = server.client();
    for _ in 0..requests {
        let body = request(chance, known, equal);
        let said = client.post_as("/events/bulk", "application/x-ndjson", &body).expect("an answer");
        assert_eq!(said.json()["inserted"], ROWS, "{said:?}");
    }
}

/// Compares pages in both directions, a period, and counts by every size with what is known.
fn check(server: &Server, known: &Known) {
    let mut wanted: Vec<(&str, &str, i64)> =
        known.iter().map(|(id, (time, number))| (time.as_str(), id.as_str(), *number)).collect();
    wanted.sort_unstable();
    let page = |query: &str| -> Value {
        let answer = server.get(&format!("/events?tenant_id=acme&{query}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let rows = |page: &Value| -> Vec<(String, String, i64)> {
        let row = |row: &Value| {
            let text = |name: &str| row[name].as_str().expect("a text").to_owned();
            (text("timestamp"), text("event_id"), row["payload"]["n"].as_i64().expect("a number"))
        };
        page["events"].as_array().expect("a list").iter().map(row).collect()
    };
    let same = |found: &[(String, String, i64)], wanted: &[&(&str, &str, i64)]| {
        assert_eq!(found.len(), wanted.len());
        for (found, wanted) in found.iter().zip(wanted) {
            assert_eq!((found.0.as_str(), found.1.as_str(), found.2), **wanted);
        }
    };
    let newest = page("order=desc&page_size=300");
    assert_eq!(newest["total"], known.len());
    same(&rows(&newest), &wanted.iter().rev().take(300).collect::<Vec<_>>());
    if known.len() > 300 {
        let cursor = newest["next_cursor"].as_str().expect("a cursor");
        let next = page(&format!("order=desc&page_size=300&cursor={cursor}"));
        same(&rows(&next), &wanted.iter().rev().skip(300).take(300).collect::<Vec<_>>());
    }
    let period = "from=2024-03-05T10:00:00Z&to=2024-03-09T11:30:00Z";
    let inside = |time: &str| ("2024-03-05T10:00:00Z".."2024-03-09T11:30:00Z").contains(&time);
    let of_period: Vec<_> = wanted.iter().filter(|(time, ..)| inside(time)).collect();
    let found = page(&format!("{period}&order=asc&page_size=1000"));
    assert_eq!(found["total"], of_period.len());
    same(&rows(&found), &of_period);
    for (size, length) in [("minute", 16), ("hour", 13), ("day", 10)] {
        let query = format!("/metrics?tenant_id=acme&bucket_size={size}&source=web&{period}");
        let answer = server.get(&query).json();
        let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
        for (time, _, number) in &wanted {
            // A bucket belongs to the period in which it begins.
            let start = format!("{}{}", &time[..length], &"2024-01-01T00:00:00Z"[length..]);
            if number % 2 == 0 && inside(&start) {
                *counts.entry(&time[..length]).or_default() += 1;
            }
        }
        let buckets = answer["metrics"].as_array().unwrap_or_else(|| panic!("{answer}"));
        let found: Vec<(String, i64)> = buckets
            .iter()
            .map(|bucket| {
                let start = bucket["bucket_start"].as_str().unwrap_or_else(|| panic!("{bucket}"));
                (start[..length].to_owned(), bucket["count"].as_i64().expect("a count"))
            })
            .collect();
        let counts: Vec<(String, i64)> =
            counts.into_iter().map(|(at, count)| (at.to_owned(), count)).collect();
        assert_eq!(found, counts, "{size}");
    }
}

/// Returns the number of partitions that are unordered and indexed, and of those that are unordered and are not.
fn unordered(folder: &Folder) -> (i64, i64) {
    let sql = "SELECT count(indexed_at), count(*) - count(indexed_at) FROM partition WHERE unordered = 1";
    let found = rows_of(&folder.data(), sql, |row| Ok((row.get(0)?, row.get(1)?)));
    found.into_iter().fold((0, 0), |sum, (built, open): (i64, i64)| (sum.0 + built, sum.1 + open))
}

#[test]
fn a_backfill_in_no_order_is_read_correctly_at_any_moment_after_kills_and_after_a_reshard() {
    let folder = Folder::of_fixture("folder-v11-events");
    let mut chance = Chance::seeded(12);
    let mut known: Known =
        (1..=8).map(|n| (format!("old-{n}"), (format!("2024-0{n}-15T10:30:00Z"), -n))).collect();
    let mut server = folder.serve(&FLAGS);
    check(&server, &known);
    let (mut was_open, mut was_built) = (false, false);
    for round in 0..6 {
        import(&server, &mut chance, &mut known, round == 4, 4);
        let (built, open) = unordered(&folder);
        (was_open, was_built) = (was_open | (open > 0), was_built | (built > 0));
        check(&server, &known);
        if round % 2 == 1 {
            server.replace(|| folder.serve(&FLAGS));
            server.wait_until_stored();
            check(&server, &known);
        }
    }
    assert!(was_open, "no partition was unordered");
    // The last one is sealed once no more events arrive.
    wait_until("every index is built", || unordered(&folder).1 == 0);
    assert!(was_built || unordered(&folder).0 > 0);
    check(&server, &known);
    server.stop();
    verify(&folder);
    let output = folder.run(&["reshard", "--to", "3"]);
    assert!(output.status.success(), "{output:?}");
    let server = folder.serve(&FLAGS);
    check(&server, &known);
    wait_until("every index is built", || unordered(&folder).1 == 0);
    check(&server, &known);
    server.stop();
    verify(&folder);
}

/// Sends events one by one. Returns the statuses of the responses.
fn send(server: &Server, events: &[(String, i64)]) -> Vec<(String, u16)> {
    let mut client = server.client();
    let send = |(id, number): &(String, i64)| {
        let source = ["web", "ios"][number.unsigned_abs() as usize % 2];
        let event = json!({
            "event_id": id, "tenant_id": "acme", "source": source,
            "event_type": "click", "timestamp": ONE_TIME, "payload": {"n": number},
        });
        let answer = client.ask("POST", "/events", &event.to_string()).expect("an answer");
        (id.clone(), answer.status)
    };
    events.iter().map(send).collect()
}

const ONE_TIME: &str = "2024-03-06T00:00:00Z";

#[test]
fn w2_events_of_one_time_with_random_ids_are_stored_once_and_read_in_order_after_kills() {
    let flags = ["--partition-rows-max", "300", "--page-size", "4KiB", "--commit-wait", "60s"];
    let folder = Folder::new();
    let mut server = folder.serve(&flags);
    let (mut chance, mut known) = (Chance::seeded(7), Known::new());
    for _ in 0..3 {
        let events: Vec<(String, i64)> = (0..240)
            .map(|_| {
                let number = known.len() as i64;
                let id = format!("e{:08x}-{number}", chance.below(1 << 32));
                known.insert(id.clone(), (ONE_TIME.to_owned(), number));
                (id, number)
            })
            .collect();
        // Two clients send each event, at about the same time.
        let shares: Vec<&[(String, i64)]> = events.chunks(30).chain(events.chunks(40)).collect();
        let mut statuses: BTreeMap<String, Vec<u16>> = BTreeMap::new();
        std::thread::scope(|scope| {
            let clients: Vec<_> = shares.iter().map(|share| scope.spawn(|| send(&server, share))).collect();
            for client in clients {
                for (id, status) in client.join().expect("a client") {
                    statuses.entry(id).or_default().push(status);
                }
            }
        });
        for (id, mut statuses) in statuses {
            statuses.sort_unstable();
            assert_eq!(statuses, [200, 201], "{id}");
        }
        // Another event under a known id changes nothing.
        let others: Vec<(String, i64)> = events.iter().step_by(20).map(|(id, _)| (id.clone(), -1)).collect();
        assert!(send(&server, &others).iter().all(|(_, status)| *status == 200));
        check(&server, &known);
        server.replace(|| folder.serve(&flags));
        server.wait_until_stored();
        check(&server, &known);
    }
    server.stop();
    verify(&folder);
}
