//! Exports of service events and of clicks: the same rows as `GET /events` and `GET /clicks`, the same bytes after
//! kills, without erased people, and never a file that retention made shorter.

use std::collections::BTreeSet;

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::RowAccessor as _;

use super::formats::{Rows, csv_rows, guarded, sorted, unpacked};
use super::*;
use crate::support::commerce::problem;
use crate::support::{Chance, Client, Folder};

/// Payloads that are hard to keep: line breaks, escapes, numbers beyond a float, duplicate keys, formulas.
const PAYLOADS: [&str; 8] = [
    "{\"a\":\n 1,\r\n\t\"b\":[true,\nnull]}",
    r#"{"big":123456789012345678901234567890.12345678901234567890,"e":1E400}"#,
    r#"{"twice":1,"twice":2}"#,
    r#"{"text":"a\nb \"q\" \u00fc \ud800 =1+1"}"#,
    r#"{"=1+1":"=HYPERLINK(\"x\",\"y\")"}"#,
    "{ }",
    r#"{"nested":{"list":[{"deep":[[]]},"a,b"],"ü":"Łukasz"}}"#,
    r#"{"emoji":"😀"}"#,
];

pub(super) fn event(tenant: &str, number: u64, payload: &str) -> String {
    let at_us = 1_767_225_600_000_000 + (number * 977_131_007) as i64 % (30 * 86_400_000_000);
    let id = format!("{}e-{number}", ["", "=", "-"][number as usize % 3]);
    let source = ["web", "app \"2\"", "+49"][number as usize % 3];
    format!(
        "{{\"event_id\":{},\"tenant_id\":{},\"source\":{},\"event_type\":\"{}\",\"timestamp\":\"{}\",\"payload\":{payload}}}",
        json!(id),
        json!(tenant),
        json!(source),
        ["click", "view"][number as usize / 3 % 2],
        crate::support::oracle::rfc3339(at_us),
    )
}

pub(super) fn send(server: &Server, events: &[String]) {
    for part in events.chunks(2_000) {
        let body = format!("{{\"events\":[{}]}}", part.join(","));
        let answer = server.client().ask("POST", "/events/bulk", &body).expect("an answer");
        let said = answer.json();
        assert_eq!(
            (answer.status, &said["rejected"], &said["duplicates"]),
            (200, &json!(0), &json!(0)),
            "{said}"
        );
    }
    server.wait_until_stored();
}

/// Sends clicks of users 0 to 49, in order of time with a few exceptions.
pub(super) fn click(server: &Server, numbers: std::ops::Range<u64>, metadata: impl Fn(u64) -> String) {
    let mut client = server.client();
    let request = |number: u64| {
        let at_us = 1_767_225_600_000_000 + (number * 1_000_003) as i64 - (number % 7) as i64 * 60_000_000;
        let body = format!(
            "{{\"user_id\":{},\"timestamp\":\"{}\",\"metadata\":{}}}",
            number % 50,
            crate::support::oracle::rfc3339(at_us),
            metadata(number)
        );
        Client::request("POST", "/event", &body)
    };
    let numbers: Vec<u64> = numbers.collect();
    for part in numbers.chunks(200) {
        let requests: String = part.iter().map(|number| request(*number)).collect();
        client.write(requests.as_bytes()).expect("they are sent");
        part.iter().for_each(|_| assert_eq!(client.answer().expect("an answer").status, 202));
    }
    server.wait_until_stored();
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    lines.sort_unstable();
    lines
}

/// Returns the lines of a query as NDJSON.
#[track_caller]
fn queried(server: &Server, target: &str) -> Vec<Vec<u8>> {
    let answer = server.client().get_as(target, "application/x-ndjson").expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    lines(&answer.body)
}

const EVENT: [&str; 7] =
    ["event_id", "tenant_id", "source", "event_type", "timestamp", "payload", "received_at"];
const CLICK: [&str; 4] = ["user_id", "timestamp", "metadata", "received_at"];

/// Returns the cells of a line, with JSON as it is in the line.
fn cells(line: &[u8], columns: &[&str]) -> Vec<String> {
    let mut cells = vec![String::new(); columns.len()];
    firehose::event::members(line, |key, value| {
        let at = columns.iter().position(|name| name.as_bytes() == key).expect("a known column");
        let value = std::str::from_utf8(value).expect("UTF-8");
        let is_text = !matches!(columns[at], "payload" | "metadata" | "user_id");
        cells[at] = if is_text { serde_json::from_str(value).expect("a string") } else { value.to_owned() };
    });
    cells
}

fn parquet_rows(bytes: Vec<u8>, columns: &[&str]) -> (Rows, usize) {
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).expect("a Parquet file");
    let schema = reader.metadata().file_metadata().schema_descr();
    assert_eq!(schema.columns().iter().map(|column| column.name()).collect::<Vec<_>>(), columns);
    let mut rows = Vec::new();
    for row in reader.get_row_iter(None).expect("rows") {
        let row = row.expect("a row");
        let value = |(at, name): (usize, &&str)| match *name {
            "timestamp" | "received_at" => {
                crate::support::oracle::rfc3339(row.get_timestamp_micros(at).expect("a time"))
            }
            "user_id" => row.get_long(at).expect("a number").to_string(),
            _ => row.get_string(at).expect("a text").clone(),
        };
        rows.push(columns.iter().enumerate().map(value).collect());
    }
    (sorted(rows), reader.metadata().num_row_groups())
}

/// Replaces the line breaks between the tokens of JSON, as a line of NDJSON has it.
fn on_one_line(mut rows: Rows, json: usize) -> Rows {
    rows.iter_mut().for_each(|row| row[json] = row[json].replace(['\n', '\r'], " "));
    sorted(rows)
}

/// Makes the export in every format and compression, and compares it with the lines of a query.
#[track_caller]
fn compare(server: &Server, tenant: &str, wish: &Value, expected: &[Vec<u8>], columns: &[&str], json: usize) {
    let rows: Rows = sorted(expected.iter().map(|line| cells(line, columns)).collect());
    for (format, compression) in ["csv", "ndjson", "parquet"]
        .iter()
        .flat_map(|format| ["none", "gzip", "zstd"].map(|compression| (*format, compression)))
    {
        // Without filters, every compression is used, otherwise one for each format.
        let is_first = wish["filters"] == json!({});
        if !is_first
            && (format, compression) != ("csv", "gzip")
            && (format, compression) != ("parquet", "zstd")
        {
            continue;
        }
        let mut wish = wish.clone();
        (wish["format"], wish["compression"]) = (json!(format), json!(compression));
        let export = done(server, &begin(server, tenant, &wish));
        assert_eq!(
            (&export["rows"], &export["selected"]),
            (&json!(rows.len()), &json!(rows.len())),
            "{wish}"
        );
        let bytes = download(server, &export);
        match format {
            "ndjson" => assert!(lines(&unpacked(bytes, compression)) == expected, "{wish}"),
            "csv" => {
                let mut guard = rows.clone();
                let texts = |at: usize| !["payload", "metadata", "user_id"].contains(&columns[at]);
                guard.iter_mut().for_each(|row| {
                    row.iter_mut()
                        .enumerate()
                        .filter(|(at, _)| texts(*at))
                        .for_each(|(_, cell)| *cell = guarded(cell));
                });
                let told = csv_rows(&unpacked(bytes, compression), columns);
                assert!(on_one_line(told, json) == sorted(guard), "{wish}");
            }
            _ => assert!(on_one_line(parquet_rows(bytes, columns).0, json) == rows, "{wish}"),
        }
    }
}

#[test]
fn every_format_and_packing_tells_what_get_events_and_get_clicks_tell() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "3", "--partition-rows-max", "400"]);
    let payload = |number: u64| PAYLOADS[number as usize % PAYLOADS.len()];
    // The first tenant has most of the events, so that they are read by id. The second has few, which an index finds.
    send(&server, &(0..1_500).map(|number| event("a b", number, payload(number))).collect::<Vec<_>>());
    send(&server, &(0..150).map(|number| event("few", number, payload(number))).collect::<Vec<_>>());
    for (tenant, of) in [("a b", 1_500), ("few", 150)] {
        for (filters, query) in [
            (json!({}), ""),
            (json!({"source": "app \"2\"", "event_type": "view"}), "&source=app+%222%22&event_type=view"),
            (
                json!({"from": "2026-01-05", "to": "2026-01-06T12:00:00Z", "tz": "Europe/Berlin"}),
                "&from=2026-01-05&to=2026-01-06T12:00:00Z&tz=Europe/Berlin",
            ),
            (
                json!({"start_date": "2026-01-07", "end_date": "2026-01-09"}),
                "&start_date=2026-01-07&end_date=2026-01-09",
            ),
            (json!({"event_type": "none"}), "&event_type=none"),
        ] {
            let found = queried(
                &server,
                &format!("/events?tenant_id={}{query}", crate::support::commerce::encoded(tenant)),
            );
            assert_eq!(found.len() == of, query.is_empty(), "{query}: {}", found.len());
            compare(&server, tenant, &json!({"rows": "events", "filters": filters}), &found, &EVENT, 5);
        }
    }
    // The payload of a text column is the one that was sent, byte for byte.
    let wish = json!({"format": "csv", "rows": "events", "fields": ["payload"]});
    let told: BTreeSet<String> =
        csv_rows(&made(&server, "few", &wish), &["payload"]).into_iter().flatten().collect();
    assert_eq!(told, PAYLOADS.iter().map(|payload| (*payload).to_owned()).collect());

    let metadata = ["null", "-5", "\"=1+1\"", "[1,\n2]", PAYLOADS[0], PAYLOADS[1], PAYLOADS[3]];
    click(&server, 0..1_600, |number| metadata[number as usize % metadata.len()].to_owned());
    for (filters, query) in [
        (json!({}), ""),
        (json!({"user_id": 7}), "user_id=7"),
        (json!({"from": "2026-01-01T00:05:00Z"}), "from=2026-01-01T00:05:00Z"),
        (
            json!({"from": "2026-01-01T00:05:00Z", "to": "2026-01-01T00:15:00Z", "user_id": 3}),
            "from=2026-01-01T00:05:00Z&to=2026-01-01T00:15:00Z&user_id=3",
        ),
        (json!({"from": "2026-01-01T00:25:00Z"}), "from=2026-01-01T00:25:00Z"),
        (json!({"user_id": -1}), "user_id=-1"),
    ] {
        let found = queried(&server, &format!("/clicks?{query}"));
        assert_eq!(found.is_empty(), query == "user_id=-1", "{query}");
        compare(&server, "", &json!({"filters": filters}), &found, &CLICK, 2);
    }
    // The lists are separate, and an id is valid for its own path only.
    let of_clicks = server.get(CLICKS).json()["exports"].as_array().expect("a list").clone();
    assert_eq!(of_clicks.len(), 9 + 5 * 2);
    assert!(of_clicks.iter().all(|export| export["tenant_id"].is_null() && export["orders"].is_null()));
    let id = of_clicks[0]["id"].as_str().expect("an id");
    problem(&server.get(&format!("{}/{id}", path("few"))), 404, "no-such-export");
    server.stop();
}

/// A line break between two tokens of a payload ended the line of NDJSON, and became a comma in a page.
#[test]
fn json_with_line_breaks_is_one_line_and_a_page_with_it_is_json() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1"]);
    send(&server, &[event("t", 0, PAYLOADS[0])]);
    click(&server, 0..1, |_| "[1,\n2]".to_owned());
    for (target, member, value) in [
        ("/events?tenant_id=t", "payload", json!({"a": 1, "b": [true, null]})),
        ("/clicks", "metadata", json!([1, 2])),
    ] {
        assert_eq!(server.get(target).json()["events"][0][member], value);
        let found = queried(&server, target);
        assert_eq!(found.len(), 1);
        assert_eq!(serde_json::from_slice::<Value>(&found[0]).expect("a line of JSON")[member], value);
    }
    server.stop();
}

const TENANT: &str = "t";

/// Returns a payload of 400 bytes, so that a job takes a while.
fn padded(number: u64) -> String {
    format!("{{\"customer\":\"cust-{}-x\",\"padding\":\"{}\"}}", number / 3, "x".repeat(360))
}

fn filled(folder: &Folder, flags: &[&str], events: u64, clicks: u64) -> Server {
    let server = folder.serve(flags);
    send(&server, &(0..events).map(|number| event(TENANT, number, &padded(number))).collect::<Vec<_>>());
    click(&server, 0..clicks, padded);
    server
}

#[test]
fn x1_a_job_of_events_or_clicks_that_is_killed_twice_makes_the_same_bytes() {
    let folder = Folder::new();
    let flags = ["--shards", "2", "--partition-rows-max", "3000"];
    let mut server = filled(&folder, &flags, 12_000, 9_000);
    for (tenant, wish) in [
        (TENANT, json!({"format": "ndjson", "rows": "events", "compression": "gzip"})),
        (TENANT, json!({"format": "parquet", "rows": "events", "compression": "zstd"})),
        ("", json!({"format": "csv"})),
        ("", json!({"format": "parquet"})),
    ] {
        let uncut = made(&server, tenant, &wish);
        let is_met = in_time(|| {
            let export = begin(&server, tenant, &wish);
            let mut before = Vec::new();
            for kill in 1..=2 {
                let Some(said) = half(&server, &export, uncut.len() as u64 / 4 * kill) else { return false };
                let there = said["bytes"].as_u64().expect("a number");
                let part =
                    Reading::begin(&server, &export, "").read(there).expect("what is there can be read");
                assert!(part.starts_with(&before), "what was given out never changes");
                before = part;
                server.replace(|| folder.serve(&flags));
            }
            let whole = download(&server, &done(&server, &export));
            assert!(whole == uncut, "{wish}: {} bytes, not {}", whole.len(), uncut.len());
            true
        });
        assert!(is_met, "too quick for this test");
    }
    // Rows that arrive after the creation are not in the file.
    let wish = json!({"format": "csv", "rows": "events", "fields": ["event_id"]});
    let before = made(&server, TENANT, &wish);
    let export = begin(&server, TENANT, &wish);
    send(&server, &[event(TENANT, 50_000, "{}")]);
    assert!(download(&server, &done(&server, &export)) == before);
    server.stop();
}

fn etag(server: &Server, export: &Value) -> String {
    Reading::begin(server, export, "Range: bytes=0-0\r\n").header("etag").expect("a validator").to_owned()
}

/// Returns the payloads or the users of an NDJSON file.
fn members(bytes: &[u8], name: &str) -> Vec<Value> {
    let row = |line: &[u8]| serde_json::from_slice::<Value>(line).expect("a line of JSON")[name].clone();
    bytes.split_inclusive(|byte| *byte == b'\n').map(row).collect()
}

#[test]
fn x1_events_of_an_erased_customer_leave_every_export_of_events() {
    let folder = Folder::new();
    let server = filled(&folder, &["--shards", "2"], 9_000, 0);
    let erase = |customer: u64, mode: &str| {
        let target = format!("/api/v1/tenants/{TENANT}/customers/cust-{customer}-x?mode={mode}");
        let answer = server.client().ask("DELETE", &target, "").expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let with_times = |filters: Value| json!({"format": "ndjson", "rows": "events", "filters": filters});
    let (all, none) = (with_times(json!({})), with_times(json!({"event_type": "none"})));
    // Finished files: one with the person, one without, and one of orders.
    let theirs = done(&server, &begin(&server, TENANT, &all));
    let others = done(&server, &begin(&server, TENANT, &none));
    let orders = done(&server, &begin(&server, TENANT, &json!({"format": "csv"})));
    assert_eq!(erase(1, "erase")["exports_removed"], 1);
    assert_eq!(look(&server, &theirs)["state"], "erased");
    problem(&server.get(theirs["download_url"].as_str().expect("a path")), 410, "export-gone");
    for export in [&others, &orders] {
        assert_eq!(look(&server, export)["state"], "done");
    }
    // Running files continue without the person, under another tag, or with the pseudonym.
    let (mut gone, mut renamed, mut number) = (BTreeSet::from([1]), BTreeSet::new(), 10_u64);
    for mode in ["erase", "pseudonymise"] {
        let is_met = in_time(|| {
            number += 10;
            let export = begin(&server, TENANT, &all);
            if half(&server, &export, 1).is_none() {
                return false;
            }
            let mut reading = Reading::begin(&server, &export, "");
            let before = etag(&server, &export);
            erase(number, mode);
            if mode == "erase" { &mut gone } else { &mut renamed }.insert(number);
            if look(&server, &export)["state"] == "erased" {
                return false;
            }
            let is_spliced = etag(&server, &export) != before;
            if is_spliced {
                assert!(reading.rest().is_err(), "a file that is another one now has no clean end");
            }
            let file = download(&server, &done(&server, &export));
            let mut left: Vec<u64> = (0..9_000).map(|event| event / 3).collect();
            left.retain(|customer| !gone.contains(customer));
            let mut anonymous = 0;
            for payload in members(&file, "payload") {
                let customer = payload["customer"].as_str().expect("a customer").to_owned();
                if customer.starts_with("anon-") {
                    anonymous += 1;
                    continue;
                }
                let of: u64 =
                    customer.split('-').nth(1).and_then(|digits| digits.parse().ok()).expect("a number");
                assert!(!renamed.contains(&of), "{customer} has a pseudonym");
                let at = left
                    .binary_search(&of)
                    .unwrap_or_else(|_| panic!("{customer} is erased, or there twice"));
                left.remove(at);
            }
            assert_eq!(anonymous, renamed.len() * 3);
            assert_eq!(left.len(), renamed.len() * 3, "nothing else is missing");
            is_spliced
        });
        assert!(is_met, "too quick for this test");
    }
    // The events under a pseudonym are the customer's too, and an erasure deletes them.
    let export = done(&server, &begin(&server, TENANT, &all));
    erase(*renamed.first().expect("a customer with a pseudonym"), "erase");
    assert_eq!(look(&server, &export)["state"], "erased");
    let left = members(&download(&server, &done(&server, &begin(&server, TENANT, &all))), "payload");
    let anonymous =
        left.iter().filter(|payload| payload["customer"].as_str().expect("a customer").starts_with("anon-"));
    assert_eq!(anonymous.count(), (renamed.len() - 1) * 3);
    server.stop();
}

#[test]
fn x1_clicks_of_an_erased_user_leave_every_export_of_clicks() {
    let folder = Folder::new();
    let server = filled(&folder, &["--shards", "2", "--partition-rows-max", "2500"], 0, 8_000);
    let erase = |user: u64| {
        let answer = server.client().ask("DELETE", &format!("/clicks/users/{user}"), "").expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let wish = |filters: Value| json!({"format": "ndjson", "filters": filters});
    let theirs = done(&server, &begin(&server, "", &wish(json!({}))));
    let others = done(&server, &begin(&server, "", &wish(json!({"user_id": 2}))));
    let named = done(&server, &begin(&server, "", &wish(json!({"user_id": 1, "to": "2020-01-01"}))));
    assert_eq!(erase(1)["exports_removed"], 2);
    problem(&server.get(theirs["download_url"].as_str().expect("a path")), 410, "export-gone");
    assert_eq!(look(&server, &others)["state"], "done");
    // The filter of an export without rows names the user too.
    assert_eq!(server.get(named["url"].as_str().expect("a path")).status, 404);
    let (mut gone, mut users) = (BTreeSet::from([1]), 3..50);
    let is_met = in_time(|| {
        let export = begin(&server, "", &wish(json!({})));
        if half(&server, &export, 1).is_none() {
            return false;
        }
        let mut reading = Reading::begin(&server, &export, "");
        let before = etag(&server, &export);
        let user = users.next().expect("there are some left");
        erase(user);
        gone.insert(user);
        if look(&server, &export)["state"] == "erased" {
            return false;
        }
        let is_spliced = etag(&server, &export) != before;
        if is_spliced {
            assert!(reading.rest().is_err(), "a file that is another one now has no clean end");
        }
        let file = download(&server, &done(&server, &export));
        let users: Vec<u64> =
            members(&file, "user_id").iter().map(|user| user.as_u64().expect("a user")).collect();
        assert!(users.iter().all(|user| !gone.contains(user)));
        assert_eq!(users.len(), 8_000 / 50 * (50 - gone.len()));
        is_spliced
    });
    assert!(is_met, "too quick for this test");
    server.stop();
}

/// The sealed partitions of a stream, apart from the last one with rows.
const OLDER: &str = "stream = ?1 AND sealed_at IS NOT NULL \
                     AND first_id < (SELECT max(first_id) FROM partition WHERE stream = ?1 AND rows > 0)";

/// Does what retention does to every partition but the last: takes it out of the catalogue.
fn drop_partitions(folder: &Folder, stream: &str) {
    let connection = rusqlite::Connection::open(folder.database(0)).expect("the shard opens");
    let sql = format!("DELETE FROM partition_catalog WHERE {OLDER}");
    assert!(connection.execute(&sql, [stream]).expect("they are dropped") >= 2);
    let sql = "UPDATE commit_page SET value = (SELECT sum(rows) FROM partition WHERE stream = ?1) \
               WHERE kind = 1 AND name = ?2";
    let total = match stream {
        "click" => "rows",
        "sales_order" => "orders",
        _ => "service_events",
    };
    connection.execute(sql, [stream, total]).expect("they are counted");
}

/// Does what the retention of a tenant does to every partition but the last: deletes the tenant's rows.
fn drop_rows_of_tenant(folder: &Folder, stream: &str) {
    let connection = rusqlite::Connection::open(folder.database(0)).expect("the shard opens");
    let (of, total) = match stream {
        "sales_order" => ("tenant = (SELECT id FROM tenant_row WHERE tenant_id = ?1)", "orders"),
        _ => ("tenant_id = ?1", "service_events"),
    };
    let sql = format!("SELECT name, first_id + rows + erased - 1 FROM partition WHERE {OLDER}");
    let mut statement = connection.prepare(&sql).expect("a catalogue");
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let found =
        statement.query_map([stream], read).expect("a catalogue").map(|row| row.expect("a partition"));
    let sealed: Vec<(String, i64)> = found.collect();
    assert!(sealed.len() >= 2);
    for (name, upto_id) in sealed {
        if stream == "sales_order" {
            // Segments of these orders have a list of changes.
            let sql =
                format!("INSERT OR REPLACE INTO sales_segment_stale SELECT id, 0 FROM {name} WHERE {of}");
            connection.execute(&sql, [TENANT]).expect("they are listed");
        }
        let sql = format!("DELETE FROM {name} WHERE {of}");
        let gone = connection.execute(&sql, [TENANT]).expect("they are deleted") as i64;
        let sql = "UPDATE partition_catalog SET rows = rows - ?2, erased = erased + ?2 WHERE name = ?1";
        connection.execute(sql, (&name, gone)).expect("they are counted");
        let sql = "UPDATE commit_page SET value = value - ?2 WHERE kind = 1 AND name = ?1";
        connection.execute(sql, (total, gone)).expect("they are counted");
        let sql = "INSERT OR REPLACE INTO retention_tenant (kind, tenant_id, upto_id) VALUES (?1, ?2, ?3)";
        connection.execute(sql, (stream, TENANT, upto_id)).expect("the progress is stored");
    }
}

const DROP_FLAGS: [&str; 6] =
    ["--shards", "1", "--partition-rows-max", "2000", "--order-partition-rows-max", "2000"];

/// Starts a server with partitions of every stream.
fn with_partitions(folder: &Folder) -> Server {
    let server = folder.serve(&DROP_FLAGS);
    // All rows of a kind could be one batch, and a partition is sealed after a batch.
    for (part, orders) in (0..).zip(orders(TENANT, 9_000, &mut Chance::seeded(7)).chunks(1_500)) {
        let numbers = part * 1_500..(part + 1) * 1_500;
        send(
            &server,
            &numbers.clone().map(|number| event(TENANT, number, &padded(number))).collect::<Vec<_>>(),
        );
        click(&server, numbers, padded);
        ingest(&server, orders);
        server.wait_until_stored();
    }
    server
}

/// Checks that exports of these kinds fail if their rows are dropped while they run: one that is being written, and one
/// that has not selected its rows yet.
fn fails_without_rows(
    server: &mut Server,
    folder: &Folder,
    (tenant, rows): (&str, [&str; 3]),
    drop_rows: impl Fn(),
) {
    let wishes = rows.map(|rows| json!({"format": "ndjson", "rows": rows}));
    let mut exports = Vec::new();
    let is_met = in_time(|| {
        // Two jobs run at once, so the third export has not selected its rows yet.
        exports = wishes.iter().map(|wish| begin(server, tenant, wish)).collect::<Vec<_>>();
        let is_running = half(server, &exports[0], 1).is_some();
        server.replace(|| {
            if is_running {
                let first = std::fs::read(
                    folder
                        .data()
                        .join("exports")
                        .join(exports[2]["id"].as_str().expect("an id"))
                        .join("state.json"),
                )
                .expect("a state");
                let state: Value = serde_json::from_slice(&first).expect("JSON");
                assert_eq!(state["progress"]["chosen"], Value::Null);
                drop_rows();
            }
            folder.serve(&DROP_FLAGS)
        });
        is_running
    });
    assert!(is_met, "too quick for this test");
    for export in &exports {
        let said = ended(server, export);
        assert_eq!(said["state"], "failed", "{said}");
        assert!(
            said["error"].as_str().is_some_and(|error| error.contains("retention dropped rows")),
            "{said}"
        );
        problem(&server.get(said["download_url"].as_str().expect("a path")), 409, "export-failed");
    }
    // A new export has the rows that are left.
    let left = done(server, &begin(server, tenant, &wishes[0]));
    assert!(left["rows"].as_u64().is_some_and(|rows| rows > 0 && rows < 9_000), "{left}");
}

#[test]
fn an_export_that_loses_rows_to_retention_fails_and_says_so() {
    let folder = Folder::new();
    let mut server = with_partitions(&folder);
    for (tenant, stream, rows) in [
        (TENANT, "service_event", ["events"; 3]),
        ("", "click", ["clicks"; 3]),
        (TENANT, "sales_order", ["orders", "items", "orders"]),
    ] {
        fails_without_rows(&mut server, &folder, (tenant, rows), || drop_partitions(&folder, stream));
    }
    server.stop();
}

#[test]
fn an_export_that_loses_rows_to_the_retention_of_its_tenant_fails_and_says_so() {
    let folder = Folder::new();
    let mut server = with_partitions(&folder);
    for (stream, rows) in [("service_event", ["events"; 3]), ("sales_order", ["orders", "items", "orders"])] {
        let drop_rows = || drop_rows_of_tenant(&folder, stream);
        fails_without_rows(&mut server, &folder, (TENANT, rows), drop_rows);
    }
    server.stop();
}

/// Clients send `null` for what they leave out.
#[test]
fn a_null_counts_as_absent_and_the_rows_of_clicks_may_be_named() {
    let folder = Folder::new();
    let server = folder.serve(&[]);
    let orders = json!({
        "from": null, "to": null, "start_date": null, "end_date": null, "tz": null, "order_id": null,
        "customer_id": null, "product_id": null, "category": null, "min_price": null, "max_price": null, "currency": null,
        "status": null, "min_total": null, "max_total": null, "q": null,
    });
    let events = json!({"from": null, "source": null, "event_type": null});
    let clicks = json!({"to": null, "user_id": null});
    for (tenant, rows, filters) in [
        ("t", "orders", orders.clone()),
        ("t", "items", orders),
        ("t", "events", events),
        ("", "clicks", clicks),
    ] {
        let said = |members: Value| {
            let mut wish = json!({"format": "csv", "rows": rows});
            wish.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
            let export = begin(&server, tenant, &wish);
            let members = ["rows", "format", "compression", "filters", "fields", "rows_are"];
            members.map(|name| export[name].clone())
        };
        let absent = said(json!({}));
        assert_eq!(said(json!({"filters": null, "fields": null, "compression": null})), absent, "{rows}");
        assert_eq!(said(json!({"filters": filters})), absent, "{rows}");
    }
    let said = |tenant: &str, rows: Value| {
        let answer =
            server.client().ask("POST", &path(tenant), &json!({"format": "csv", "rows": rows}).to_string());
        answer.expect("an answer")
    };
    assert_eq!((said("t", Value::Null).status, said("", Value::Null).status), (201, 201));
    for (tenant, rows) in [("", "orders"), ("", "events"), ("t", "clicks")] {
        let refused = problem(&said(tenant, json!(rows)), 422, "invalid-export");
        assert_eq!(refused["errors"][0]["pointer"], "/rows", "{refused}");
    }
    // It is not a value, however: no format, and no element of a list.
    for wish in [json!({"format": null}), json!({"format": "csv", "filters": {"status": [null]}})] {
        let answer = server.client().ask("POST", &path("t"), &wish.to_string()).expect("an answer");
        problem(&answer, 422, "invalid-export");
    }
    server.stop();
}
