//! One way to write a period on every route that filters by time: each form selects the rows that an oracle selects,
//! and what contradicts itself is refused everywhere in the same way.

use crate::support::commerce::{encoded, ingested, page_of, problem, sales, search_path};
use crate::support::oracle::{self, Order, rfc3339};
use crate::support::{Chance, Folder, Server, cpus, wait_for};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};

/// Zones with days of 23 and 25 hours, days that begin at 01:00, and offsets of 45 minutes, with the date of a change.
const CHANGES: [(&str, &str); 6] = [
    ("UTC", "2024-02-29"),
    ("Europe/Berlin", "2024-03-31"),
    ("Europe/Berlin", "2024-10-27"),
    ("America/Sao_Paulo", "2018-11-04"),
    ("Asia/Kathmandu", "2025-12-31"),
    ("Australia/Lord_Howe", "2026-04-05"),
];
const MINUTE_US: i64 = 60_000_000;

/// A request for a period, and the period that it must mean.
struct Ask {
    /// Names and values of the parameters.
    given: Vec<(&'static str, String)>,
    range: (Option<i64>, Option<i64>),
}

impl Ask {
    fn query(&self) -> String {
        self.given.iter().map(|(name, value)| format!("&{name}={}", encoded(value))).collect()
    }

    fn takes(&self, at_us: i64) -> bool {
        self.range.0.is_none_or(|from| at_us >= from) && self.range.1.is_none_or(|to| at_us < to)
    }

    /// Returns a period near the date, in a random form.
    fn random(chance: &mut Chance, (name, change): (&str, &str)) -> Ask {
        let zone = TimeZone::get(name).expect("a zone");
        let change: Date = change.parse().expect("a date");
        let by_days = chance.below(2) == 0;
        let names = if by_days { ["start_date", "end_date"] } else { ["from", "to"] };
        let start = |date: Date| date.to_zoned(zone.clone()).expect("a day").timestamp().as_microsecond();
        let mut bound = |at: usize| {
            let date = change.saturating_add((chance.below(5) as i64 - 2).days());
            if chance.below(2) == 0 {
                let is_whole = by_days && at == 1;
                let us = start(if is_whole { date.tomorrow().expect("a date") } else { date });
                return (date.to_string(), us);
            }
            let us = start(date) + chance.below(1_500) as i64 * MINUTE_US;
            let local = Timestamp::from_microsecond(us).expect("a time").to_zoned(zone.clone());
            let is_clear = local.datetime().to_zoned(zone.clone()).expect("a time") == local;
            let text = match chance.below(4) {
                0 => rfc3339(us).to_lowercase(),
                1 => local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
                2 if is_clear => local.datetime().to_string(),
                _ => rfc3339(us),
            };
            (text, us)
        };
        let ends = [bound(0), bound(1)];
        let is_given = [chance.below(5) > 0, chance.below(5) > 0];
        let mut ask = Ask { given: vec![("tz", name.to_owned())], range: (None, None) };
        for (at, (text, us)) in ends.into_iter().enumerate().filter(|(at, _)| is_given[*at]) {
            ask.given.push((names[at], text));
            if at == 0 { ask.range.0 = Some(us) } else { ask.range.1 = Some(us) }
        }
        match ask.range {
            // An empty or inverted period is an error, and has its own test.
            (Some(from), Some(to)) if from >= to => Ask::random(chance, (name, &change.to_string())),
            _ => ask,
        }
    }
}

/// Stores an event, a click and an order at each of these times. The number of a row is its place in the list.
fn store(server: &Server, times_us: &[i64], chance: &mut Chance) {
    let mut client = server.client();
    let event = |(number, at_us): (usize, &i64)| {
        json!({"event_id": format!("e{number}"), "tenant_id": "acme", "source": "web", "event_type": "click",
            "timestamp": rfc3339(*at_us), "payload": {"n": number}})
    };
    let events: Vec<Value> = times_us.iter().enumerate().map(event).collect();
    let stored =
        client.ask("POST", "/events/bulk", &json!({"events": events}).to_string()).expect("an answer");
    assert_eq!(stored.json()["inserted"], times_us.len());
    for (number, at_us) in times_us.iter().enumerate() {
        let click = json!({"user_id": number, "timestamp": rfc3339(*at_us), "metadata": null}).to_string();
        assert_eq!(client.ask("POST", "/event", &click).expect("an answer").status, 202);
    }
    let order = |(number, at_us): (usize, &i64)| {
        let order = Order::random(chance, "acme", number as u64);
        Order { at_us: *at_us, status: "paid".to_owned(), currency: "USD".to_owned(), ..order }
    };
    let orders: Vec<Order> = times_us.iter().enumerate().map(order).collect();
    assert_eq!(ingested(server, "orders", &oracle::body(&orders))["rows_inserted"], times_us.len());
    server.wait_until_stored();
}

/// Returns the numbers of rows, from a field that ends in them.
fn numbers(rows: &Value, field: &str) -> Vec<usize> {
    let number = |row: &Value| {
        let text = row[field].to_string();
        text.trim_matches(|sign: char| !sign.is_ascii_digit()).parse().expect("a number")
    };
    let mut numbers: Vec<usize> = rows.as_array().expect("rows").iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

fn check(server: &Server, times_us: &[i64], ask: &Ask) {
    let query = ask.query();
    let wanted: Vec<usize> = (0..times_us.len()).filter(|number| ask.takes(times_us[*number])).collect();
    let events = server.get(&format!("/events?tenant_id=acme&page_size=1000{query}")).json();
    assert_eq!(numbers(&events["events"], "event_id"), wanted, "events {query}");
    let clicks = server.get(&format!("/clicks?page_size=1000{query}")).json();
    assert_eq!(numbers(&clicks["events"], "user_id"), wanted, "clicks {query}");
    let found = page_of(&server.get(&search_path("acme", &format!("limit=1000{query}")))).0;
    assert_eq!(numbers(&found.into(), "order_id"), wanted, "orders {query}");
    let sums = sales(server, "acme", &format!("group_by=hour{query}"));
    let orders = sums["groups"].as_array().expect("groups").iter().map(|group| group["orders"].as_u64());
    assert_eq!(orders.sum::<Option<u64>>(), Some(wanted.len() as u64), "sales {query}");
    let summary = server.get(&format!("/api/v1/tenants/acme/events/summary?{}", &query[1..])).json();
    assert_eq!(summary["total"]["count"], wanted.len(), "summary {query}");
    let unique = server.get(&format!("/api/v1/tenants/acme/events/unique?by=payload.n{query}")).json();
    assert_eq!(
        (&unique["count"], &unique["events"]),
        (&json!(wanted.len()), &json!(wanted.len())),
        "unique {query}"
    );
    // A bucket is in the period in which it begins.
    let buckets = server.get(&format!("/metrics?tenant_id=acme&bucket_size=minute{query}")).json();
    let counts =
        buckets["metrics"].as_array().expect("buckets").iter().map(|bucket| bucket["count"].as_u64());
    let of_buckets =
        times_us.iter().filter(|at_us| ask.takes(at_us.div_euclid(MINUTE_US) * MINUTE_US)).count();
    assert_eq!(counts.sum::<Option<u64>>(), Some(of_buckets as u64), "buckets {query}");
}

/// Exports the orders of the period, and returns their numbers.
fn exported(server: &Server, ask: &Ask) -> Vec<usize> {
    let filters: serde_json::Map<_, _> =
        ask.given.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str()))).collect();
    let wish = json!({"format": "ndjson", "filters": filters, "fields": ["order_id"]});
    let begun = server.client().ask("POST", "/api/v1/tenants/acme/reports/export", &wish.to_string());
    let export = begun.expect("an answer").json();
    let url = export["url"].as_str().unwrap_or_else(|| panic!("{export}"));
    let download = wait_for("the export", || {
        let state = server.get(url).json();
        (state["state"] == "done").then(|| state["download_url"].as_str().expect("a path").to_owned())
    });
    let file = server.get(&download).body;
    let lines = file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let rows: Value = lines.map(|line| serde_json::from_slice::<Value>(line).expect("JSON")).collect();
    numbers(&rows, "order_id")
}

#[test]
fn every_route_selects_the_same_rows_for_every_form_of_a_period() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
    let mut chance = Chance::new();
    let mut times_us = Vec::new();
    for (name, change) in CHANGES {
        let change: Date = change.parse().expect("a date");
        let zone = TimeZone::get(name).expect("a zone");
        for days in -1..=2 {
            let start = change.saturating_add(days.days()).to_zoned(zone.clone()).expect("a day");
            let start_us = start.timestamp().as_microsecond();
            times_us.extend([start_us - 1, start_us, start_us + chance.below(1_440) as i64 * MINUTE_US]);
        }
    }
    store(&server, &times_us, &mut chance);
    for round in 0..120 {
        let ask = Ask::random(&mut chance, CHANGES[round % CHANGES.len()]);
        check(&server, &times_us, &ask);
        if round % 20 < 2 {
            let wanted: Vec<usize> = (0..times_us.len()).filter(|at| ask.takes(times_us[*at])).collect();
            assert_eq!(exported(&server, &ask), wanted, "export {}", ask.query());
        }
    }
    // A cursor belongs to the period, not to its spelling.
    let page =
        server.get("/events?tenant_id=acme&page_size=2&start_date=2024-03-30&end_date=2024-03-31").json();
    let cursor = page["next_cursor"].as_str().expect("another page");
    let base = format!("/events?tenant_id=acme&page_size=2&cursor={cursor}");
    let again = "&from=2024-03-30T01:00:00%2B01:00&to=2024-04-01t00:00:00z";
    assert_eq!(server.get(&format!("{base}{again}")).status, 200);
    problem(&server.get(&format!("{base}&from=2024-03-30&to=2024-03-31")), 400, "bad-parameter");
    server.stop();
}

#[test]
fn a_period_selects_anomalies_by_their_time_of_receipt() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
    let mut client = server.client();
    for (number, price) in ["10.00", "20.00", "30.00", "40.00"].iter().enumerate() {
        let event = json!({"event_id": format!("e{number}"), "price": price, "currency": "USD",
            "observed_at": "2026-01-01T00:00:00Z"});
        let path = "/api/v1/tenants/acme/products/p/price-event";
        assert_eq!(client.ask("POST", path, &event.to_string()).expect("an answer").status, 201);
    }
    let list = |query: &str| {
        let answer = server.get(&format!("/api/v1/tenants/acme/price-anomalies?{query}"));
        assert_eq!(answer.status, 200, "{query}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()["anomalies"].as_array().expect("a list").clone()
    };
    let all = list("");
    let created = |anomaly: &Value| anomaly["created_at"].as_str().expect("a time").to_owned();
    let (newest, oldest) = (created(&all[0]), created(&all[2]));
    let day: Date = oldest[..10].parse().expect("a date");
    let next: Date = newest[..10].parse::<Date>().expect("a date").tomorrow().expect("a date");
    assert_eq!(list(&format!("since={oldest}")), all);
    assert_eq!(list(&format!("from={day}&to={next}")), all);
    assert_eq!(list(&format!("start_date={day}&tz=UTC")), all);
    assert_eq!(list(&format!("since={day}&to={next}&limit=2")), all[..2]);
    let before: Vec<Value> = all.iter().filter(|one| created(one) < newest).cloned().collect();
    assert_eq!(list(&format!("to={newest}")), before);
    assert_eq!(list(&format!("start_date={day}&end_date={newest}")), before);
    assert!(list(&format!("from={next}")).is_empty() && list(&format!("to={day}")).is_empty());
    // A cursor belongs to its period.
    let page = server.get(&format!("/api/v1/tenants/acme/price-anomalies?limit=1&to={next}")).json();
    let cursor = page["next_cursor"].as_str().expect("another page");
    assert_eq!(list(&format!("limit=5&to={next}T00:00:00Z&cursor={cursor}")), all[1..]);
    let other = server.get(&format!("/api/v1/tenants/acme/price-anomalies?limit=1&cursor={cursor}"));
    problem(&other, 400, "bad-parameter");
    server.stop();
}

#[test]
fn every_route_refuses_a_period_that_contradicts_itself() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
    let cases = [
        ("from=2024-01-15&end_date=2024-01-16", "end_date", "not_with_from_and_to"),
        ("to=2024-01-15&start_date=2024-01-14", "start_date", "not_with_from_and_to"),
        ("from=2024-01-15&to=2024-01-15", "to", "out_of_range"),
        ("from=2024-01-15T10:30:00Z&to=2024-01-15", "to", "out_of_range"),
        ("start_date=2024-01-16&end_date=2024-01-15", "end_date", "out_of_range"),
        ("from=2024-01-15T10:30:00", "from", "invalid_timestamp"),
        ("end_date=2024-02-30", "end_date", "invalid_timestamp"),
        ("to=1705314600", "to", "invalid_timestamp"),
        ("tz=Mars/Olympus", "tz", "unknown_value"),
    ];
    let clamped = "from=9999-12-31T00:00:00Z&to=9999-12-31T01:00:00-23:00&tz=UTC";
    for path in [
        "/events?tenant_id=acme&",
        "/metrics?tenant_id=acme&bucket_size=day&",
        "/clicks?",
        "/api/v1/tenants/acme/orders/search?",
        "/api/v1/tenants/acme/metrics/sales?",
        "/api/v1/tenants/acme/events/summary?",
        "/api/v1/tenants/acme/events/unique?by=source&",
        "/api/v1/tenants/acme/price-anomalies?",
        "/api/v1/tenants/acme/products/p/price-anomalies?",
    ] {
        for (query, name, code) in cases {
            let said = problem(&server.get(&format!("{path}{query}")), 400, "bad-parameter");
            let error = &said["errors"][0];
            assert_eq!((&error["parameter"], &error["code"]), (&json!(name), &json!(code)), "{path}{query}");
        }
        assert_eq!(server.get(&format!("{path}{clamped}")).status, 200, "{path}");
    }
    let mut client = server.client();
    for (query, name, code) in cases {
        let filters: serde_json::Map<_, _> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .collect();
        let wish = json!({"format": "csv", "filters": filters}).to_string();
        let answer = client.ask("POST", "/api/v1/tenants/acme/reports/export", &wish).expect("an answer");
        let error = &answer.json()["errors"][0];
        let pointer = json!(format!("/filters/{name}"));
        assert_eq!((&error["pointer"], &error["code"]), (&pointer, &json!(code)), "{query}: {answer:?}");
    }
    server.stop();
}
