//! R1: N shards answer as one. The same random work on 1, 2 and 8 shards gives the same responses, and they equal
//! those of a model in memory.

use std::collections::BTreeMap;

use crate::support::commerce::{counts, ingested, page_of, patch, sales, search_all, search_path, verify};
use crate::support::oracle::{self, Order, STATUSES};
use crate::support::{Chance, Client, Folder, Server, cpus};
use jiff::ToSpan as _;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

/// All sets are small, so that ids, times and filters often coincide.
const TENANTS: [&str; 3] = ["acme", "beta", "β & co"];
const SOURCES: [&str; 3] = ["web", "ios", "shop floor"];
const TYPES: [&str; 4] = ["click", "view", "purchase", "ünusual"];
/// 2024-03-30T00:00:00Z: the days around the change to summer time in Berlin.
const START_S: i64 = 1_711_756_800;
const HOUR_US: i64 = 3_600_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    tenant: &'static str,
    id: String,
    source: &'static str,
    kind: &'static str,
    at_us: i64,
    payload: String,
}

impl Event {
    fn random(chance: &mut Chance, ids: u64) -> Event {
        let mut pick = |count: usize| chance.below(count as u64) as usize;
        let (tenant, source, kind) = (TENANTS[pick(3)], SOURCES[pick(3)], TYPES[pick(4)]);
        // Few distinct times, some earlier than others by minutes, so that there are ties and empty buckets.
        let at_us = START_S * 1_000_000 + pick(400) as i64 * 611_000_001 / 1_000 * 1_000;
        let id = format!("e{}", pick(ids as usize));
        let payload = format!("{{\"n\": {}, \"text\":\"\\u00e4 {}\"}}", pick(3), pick(2));
        Event { tenant, id, source, kind, at_us, payload }
    }

    fn body(&self) -> String {
        let Event { tenant, id, source, kind, at_us, payload } = self;
        let at = firehose::base::clock::rfc3339(*at_us);
        format!(
            r#"{{"event_id":"{id}","tenant_id":"{tenant}","source":"{source}","event_type":"{kind}","timestamp":"{at}","payload":{payload}}}"#
        )
    }
}

/// The events that the servers should contain, and the outcomes that they should have reported.
#[derive(Default)]
struct Model {
    events: BTreeMap<(&'static str, String), Event>,
}

impl Model {
    fn take(&mut self, event: &Event) -> &'static str {
        match self.events.get(&(event.tenant, event.id.clone())) {
            None => {
                self.events.insert((event.tenant, event.id.clone()), event.clone());
                "inserted"
            }
            Some(known) if known == event => "duplicate",
            Some(_) => "conflict",
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Filter {
    tenant: &'static str,
    source: Option<&'static str>,
    kind: Option<&'static str>,
    from_us: Option<i64>,
    to_us: Option<i64>,
    descending: bool,
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

impl Filter {
    fn random(chance: &mut Chance) -> Filter {
        let tenant = TENANTS[chance.below(3) as usize];
        let time = |chance: &mut Chance| {
            START_S * 1_000_000
                + chance.below(400) as i64 * 611_000_001 / 1_000 * 1_000
                + chance.below(2) as i64
        };
        let (a, b) = (time(chance), time(chance));
        let (from_us, to_us) = (a.min(b), a.max(b) + 1);
        Filter {
            tenant,
            source: (chance.below(2) == 0).then(|| SOURCES[chance.below(3) as usize]),
            kind: (chance.below(3) == 0).then(|| TYPES[chance.below(4) as usize]),
            from_us: (chance.below(2) == 0).then_some(from_us),
            to_us: (chance.below(2) == 0).then_some(to_us),
            descending: chance.below(2) == 0,
        }
    }

    fn query(&self) -> String {
        let mut query = format!("tenant_id={}", encoded(self.tenant));
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                query += &format!("&{name}={}", encoded(&value));
            }
        };
        add("source", self.source.map(str::to_owned));
        add("event_type", self.kind.map(str::to_owned));
        add("from", self.from_us.map(|us| firehose::base::clock::rfc3339(us).to_uppercase()));
        add("to", self.to_us.map(|us| firehose::base::clock::rfc3339(us).to_uppercase()));
        query.replace("%54", "T").replace("%5A", "Z")
    }

    fn takes(&self, event: &Event) -> bool {
        event.tenant == self.tenant
            && self.source.is_none_or(|source| source == event.source)
            && self.kind.is_none_or(|kind| kind == event.kind)
            && self.from_us.is_none_or(|from| event.at_us >= from)
            && self.to_us.is_none_or(|to| event.at_us < to)
    }

    fn of<'m>(&self, model: &'m Model) -> Vec<&'m Event> {
        let mut found: Vec<_> = model.events.values().filter(|event| self.takes(event)).collect();
        found.sort_by(|a, b| (a.at_us, &a.id).cmp(&(b.at_us, &b.id)));
        if self.descending {
            found.reverse();
        }
        found
    }
}

/// Returns a row as the server should return it, without its time of arrival.
fn row(event: &Event) -> Value {
    json!({
        "event_id": event.id, "tenant_id": event.tenant, "source": event.source, "event_type": event.kind,
        "timestamp": firehose::base::clock::rfc3339(event.at_us),
        "payload": serde_json::from_str::<Value>(&event.payload).expect("a payload"),
    })
}

fn without_arrival(mut row: Value) -> Value {
    let arrived = row.as_object_mut().expect("a row").remove("received_at");
    assert!(arrived.is_some_and(|at| at.as_str().is_some_and(|at| at.ends_with('Z'))));
    row
}

fn rows(page: &Value) -> Vec<Value> {
    page["events"].as_array().expect("events").iter().cloned().map(without_arrival).collect()
}

/// Checks that a filter's pages by number and by cursor and its stream agree with the model.
fn check_reads(server: &Server, model: &Model, filter: &Filter, page_size: usize) {
    let mut client = server.client();
    let wanted: Vec<_> = filter.of(model).into_iter().map(row).collect();
    let order = if filter.descending { "desc" } else { "asc" };
    let base = format!("/events?{}&order={order}&page_size={page_size}", filter.query());
    let page_at = |client: &mut Client, target: &str| {
        let answer = client.get(target).expect("the server answers");
        assert_eq!(answer.status, 200, "{target}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    };
    // By number.
    let page_number = wanted.len() / page_size / 2 + 1;
    let page = page_at(&mut client, &format!("{base}&page={page_number}"));
    let start = ((page_number - 1) * page_size).min(wanted.len());
    let end = (start + page_size).min(wanted.len());
    assert_eq!(rows(&page), wanted[start..end], "{base} page {page_number}");
    assert_eq!(
        (page["total"].as_u64(), page["page"].as_u64()),
        (Some(wanted.len() as u64), Some(page_number as u64))
    );
    // By cursor, from the first to the last.
    let (mut seen, mut page) = (Vec::new(), page_at(&mut client, &base));
    loop {
        seen.extend(rows(&page));
        assert_eq!(page["total"], wanted.len());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        assert!(seen.len() < wanted.len(), "a cursor promises more");
        page = page_at(&mut client, &format!("{base}&cursor={cursor}"));
    }
    assert_eq!(seen, wanted, "{base} by cursor");
    // As a stream.
    let target = format!("/events?{}&order={order}", filter.query());
    let answer = client.get_as(&target, "application/x-ndjson").expect("the server answers");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/x-ndjson")));
    let lines = answer.body.split_inclusive(|byte| *byte == b'\n');
    let streamed: Vec<Value> =
        lines.map(|line| without_arrival(serde_json::from_slice(line).expect("a line of JSON"))).collect();
    assert_eq!(streamed, wanted, "{target} as a stream");
}

/// Returns the start of the minute, hour or day that contains a time.
fn local_start(zone: &TimeZone, size: &str, us: i64) -> jiff::Zoned {
    let local = jiff::Timestamp::from_microsecond(us).expect("a time").to_zoned(zone.clone());
    let to = |unit| jiff::ZonedRound::new().smallest(unit).mode(jiff::RoundMode::Trunc);
    let start = match size {
        "minute" => local.round(to(jiff::Unit::Minute)),
        "hour" => local.round(to(jiff::Unit::Hour)),
        _ => local.start_of_day(),
    };
    start.expect("a start")
}

/// Returns the buckets of this size, counted from the model.
fn buckets(model: &Model, filter: &Filter, size: &str, zone: Option<&str>) -> Vec<Value> {
    let zone = jiff::tz::TimeZone::get(zone.unwrap_or("UTC")).expect("a zone");
    let start_of = |us: i64| local_start(&zone, size, us).timestamp().as_microsecond();
    let mut found: BTreeMap<(i64, &str, &str), (u64, i64, i64)> = BTreeMap::new();
    let whole = Filter { from_us: None, to_us: None, ..*filter };
    for event in whole.of(model) {
        let start = start_of(event.at_us);
        if filter.from_us.is_some_and(|from| start < from) || filter.to_us.is_some_and(|to| start >= to) {
            continue;
        }
        let entry = found.entry((start, event.source, event.kind)).or_insert((0, i64::MAX, i64::MIN));
        *entry = (entry.0 + 1, entry.1.min(event.at_us), entry.2.max(event.at_us));
    }
    let time = |us: i64| firehose::base::clock::rfc3339(us);
    found
        .into_iter()
        .map(|((start, source, kind), (count, first, last))| {
            json!({"bucket_start": time(start), "source": source, "event_type": kind, "count": count,
                   "first_at": time(first), "last_at": time(last)})
        })
        .collect()
}

fn check_buckets(server: &Server, model: &Model, filter: &Filter, size: &str, zone: Option<&str>) {
    let mut target = format!("/metrics?{}&bucket_size={size}", filter.query());
    if let Some(zone) = zone {
        target += &format!("&tz={}", encoded(zone));
    }
    let answer = server.get(&target);
    assert_eq!(answer.status, 200, "{target}: {}", String::from_utf8_lossy(&answer.body));
    let said = answer.json();
    assert_eq!(said["metrics"].as_array(), Some(&buckets(model, filter, size, zone)), "{target}");
    assert_eq!((said["tenant_id"].as_str(), said["bucket_size"].as_str()), (Some(filter.tenant), Some(size)));
}

/// Returns a tenant's path, and the filter's parameters without the tenant.
fn events_path(filter: &Filter, rest: &str) -> String {
    let query = filter.query();
    let filters = query.split_once('&').map_or("", |(_, filters)| filters);
    format!("/api/v1/tenants/{}/events/{rest}&{filters}", encoded(filter.tenant))
}

/// Checks that a summary and its total equal a recount of the model.
fn check_summary(server: &Server, model: &Model, filter: &Filter, by: &str, zone: &str) {
    let zone_of = TimeZone::get(zone).expect("a zone");
    let events = Filter { descending: false, ..*filter }.of(model);
    let mut groups: BTreeMap<String, Vec<&Event>> = BTreeMap::new();
    for event in &events {
        let key = match by {
            "source" => event.source.to_owned(),
            "event_type" => event.kind.to_owned(),
            "hour" => local_start(&zone_of, "hour", event.at_us).timestamp().to_string(),
            _ => local_start(&zone_of, "day", event.at_us).date().to_string(),
        };
        groups.entry(key).or_default().push(event);
    }
    let time = |event: Option<&&Event>| event.map(|event| firehose::base::clock::rfc3339(event.at_us));
    let told = |key: &String, events: &Vec<&Event>| json!({"key": key, "count": events.len(), "first_at": time(events.first()), "last_at": time(events.last())});
    let wanted: Vec<_> = groups.iter().map(|(key, events)| told(key, events)).collect();
    let target = events_path(filter, &format!("summary?group_by={by}&tz={}", encoded(zone)));
    let said = server.get(&target).json();
    assert_eq!(said["groups"].as_array(), Some(&wanted), "{target}: {said}");
    let total =
        json!({"count": events.len(), "first_at": time(events.first()), "last_at": time(events.last())});
    assert_eq!((&said["total"], &said["meta"]["precision"]), (&total, &json!("exact")), "{target}");
}

/// Checks numbers of distinct values.
fn check_unique(server: &Server, model: &Model, filter: &Filter) {
    let events = filter.of(model);
    let payload = |event: &&&Event| serde_json::from_str::<Value>(&event.payload).expect("JSON");
    let distinct = |values: Vec<String>| values.into_iter().collect::<std::collections::BTreeSet<_>>().len();
    let of = |member: &str| events.iter().map(|event| payload(&event)[member].to_string()).collect();
    for (by, count, missing) in [
        ("payload.n", distinct(of("n")), 0),
        ("/payload/text", distinct(of("text")), 0),
        ("payload.text.0", 0, events.len()),
        ("source", distinct(events.iter().map(|event| event.source.to_owned()).collect()), 0),
        ("event_type", distinct(events.iter().map(|event| event.kind.to_owned()).collect()), 0),
    ] {
        let target = events_path(filter, &format!("unique?by={by}"));
        let said = server.get(&target).json();
        let told = ["by", "count", "events", "missing"].map(|name| said[name].clone());
        assert_eq!(told, [json!(by), json!(count), json!(events.len()), json!(missing)], "{target}: {said}");
        assert_eq!(said["meta"]["precision"], "exact");
    }
}

/// Sends the rows and checks the outcome of each.
fn send(server: &Server, events: &[Event], expected: &[&str]) {
    let rows: Vec<_> = events.iter().map(Event::body).collect();
    let mut client = server.client();
    // Half of the batches are NDJSON.
    let answer = if events.len().is_multiple_of(2) {
        client.post_as("/events/bulk", "application/json", &format!("{{\"events\":[{}]}}", rows.join(",")))
    } else {
        client.post_as("/events/bulk", "application/x-ndjson", &(rows.join("\n") + "\n"))
    };
    let answer = answer.expect("the server answers");
    assert_eq!(answer.status, 200, "{answer:?}");
    let said = answer.json();
    let listed: Vec<_> = said["results"]
        .as_array()
        .expect("results")
        .iter()
        .map(|row| {
            (row["index"].as_u64().expect("an index") as usize, row["result"].as_str().expect("a result"))
        })
        .collect();
    let wanted: Vec<_> =
        expected.iter().copied().enumerate().filter(|(_, result)| *result != "inserted").collect();
    assert_eq!(listed, wanted);
}

#[test]
fn r1_one_two_and_eight_shards_answer_alike_and_r2_no_row_crosses_tenants() {
    let folders: Vec<_> = [1, 2, 8].map(|shards| (shards, Folder::new())).into();
    let serve = |(shards, folder): &(u16, Folder)| {
        // Partitions of 150 rows, so that every answer combines several.
        folder.serve(&["--shards", &shards.to_string(), "--cores", &cpus(2), "--partition-rows-max", "150"])
    };
    let mut servers: Vec<_> = folders.iter().map(serve).collect();
    let (mut chance, mut model) = (Chance::new(), Model::default());
    for round in 0..6 {
        for _ in 0..5 {
            let count = chance.below(120) as usize + 1;
            let events: Vec<_> = (0..count).map(|_| Event::random(&mut chance, 900)).collect();
            let expected: Vec<_> = events.iter().map(|event| model.take(event)).collect();
            servers.iter().for_each(|server| send(server, &events, &expected));
        }
        for _ in 0..4 {
            let filter = Filter::random(&mut chance);
            let page_size = chance.below(60) as usize + 3;
            servers.iter().for_each(|server| check_reads(server, &model, &filter, page_size));
        }
        for (size, zone) in [
            ("minute", None),
            ("hour", None),
            ("day", None),
            ("day", Some("Europe/Berlin")),
            ("day", Some("Asia/Kathmandu")),
            ("day", Some("Australia/Lord_Howe")),
            ("hour", Some("Asia/Kathmandu")),
        ] {
            let filter = Filter::random(&mut chance);
            servers.iter().for_each(|server| check_buckets(server, &model, &filter, size, zone));
        }
        for zone in ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe"] {
            let filter = Filter::random(&mut chance);
            for server in &servers {
                ["source", "event_type", "hour", "day"]
                    .iter()
                    .for_each(|by| check_summary(server, &model, &filter, by, zone));
                check_unique(server, &model, &filter);
            }
        }
        if round == 3 {
            // A restart shows that the answers come from the files, not from the process.
            servers = servers
                .into_iter()
                .zip(&folders)
                .map(|(server, folder)| {
                    server.kill();
                    serve(folder)
                })
                .collect();
            servers.iter().for_each(|server| drop(server.wait_until_stored()));
        }
    }
    for (server, (_, folder)) in servers.into_iter().zip(&folders) {
        server.stop();
        let (code, said) = folder.run_json(&["verify", "--aggregates"]);
        assert_eq!(code, 0, "{said}");
    }
}

#[test]
fn rows_that_arrive_between_pages_shift_and_repeat_nothing() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--partition-rows-max", "50"]);
    let (mut chance, mut model) = (Chance::new(), Model::default());
    let filter =
        Filter { tenant: "acme", source: None, kind: None, from_us: None, to_us: None, descending: false };
    let more = |model: &mut Model, chance: &mut Chance| {
        let events: Vec<_> = (0..60).map(|_| Event::random(chance, 100_000)).collect();
        let expected: Vec<_> = events.iter().map(|event| model.take(event)).collect();
        send(&server, &events, &expected);
    };
    (0..5).for_each(|_| more(&mut model, &mut chance));
    let wanted: Vec<_> = filter.of(&model).into_iter().map(row).collect();
    let base = format!("/events?{}&page_size=7", filter.query());
    let (mut seen, mut page) = (Vec::new(), server.get(&base).json());
    loop {
        seen.extend(rows(&page));
        assert_eq!(page["total"], wanted.len());
        let Some(cursor) = page["next_cursor"].as_str().map(str::to_owned) else { break };
        more(&mut model, &mut chance);
        page = server.get(&format!("{base}&cursor={cursor}")).json();
    }
    assert_eq!(seen, wanted);
    assert_eq!(server.get(&base).json()["total"], filter.of(&model).len());
    // A cursor belongs to its filter.
    let cursor = server.get(&base).json()["next_cursor"].as_str().expect("there is more").to_owned();
    for other in [format!("{base}&source=web&cursor={cursor}"), format!("{base}&order=desc&cursor={cursor}")]
    {
        assert_eq!(server.get(&other).status, 400, "{other}");
    }
    let other_tenant = base.replace("acme", "beta");
    assert_eq!(server.get(&format!("{other_tenant}&cursor={cursor}")).status, 400);
    server.stop();
}

#[test]
fn clicks_read_back_as_they_were_sent() {
    let folders: Vec<_> = [1_u16, 8].map(|shards| (shards, Folder::new())).into();
    let mut chance = Chance::new();
    let clicks: BTreeMap<(i64, i64), String> = (0..700)
        .map(|n| {
            let at_us = START_S * 1_000_000 + chance.below(60) as i64 * HOUR_US / 3;
            ((at_us, chance.below(9) as i64 * 1_000 + n), format!("{{\"n\":  {n}}}"))
        })
        .collect();
    for (shards, folder) in &folders {
        let flags = ["--shards", &shards.to_string(), "--cores", &cpus(2), "--partition-rows-max", "100"];
        let server = folder.serve(&flags);
        let mut client = server.client();
        for ((at_us, user), metadata) in &clicks {
            let at = firehose::base::clock::rfc3339(*at_us);
            let body = format!(r#"{{"user_id":{user},"timestamp":"{at}","metadata":{metadata}}}"#);
            assert_eq!(client.ask("POST", "/event", &body).expect("the server answers").status, 202);
        }
        server.wait_until_stored();
        let (from, to) = (START_S * 1_000_000 + 5 * HOUR_US, START_S * 1_000_000 + 15 * HOUR_US);
        let range = format!(
            "from={}&to={}",
            firehose::base::clock::rfc3339(from),
            firehose::base::clock::rfc3339(to)
        );
        let user = clicks.keys().nth(300).expect("a click").1;
        type Takes = Box<dyn Fn(i64, i64) -> bool>;
        let cases: [(String, Takes); 4] = [
            ("/clicks?page_size=50".to_owned(), Box::new(|_, _| true)),
            (format!("/clicks?page_size=40&{range}"), Box::new(move |at, _| (from..to).contains(&at))),
            (format!("/clicks?user_id={user}"), Box::new(move |_, of| of == user)),
            (
                format!("/clicks?user_id={user}&{range}"),
                Box::new(move |at, of| of == user && (from..to).contains(&at)),
            ),
        ];
        for (base, takes) in cases {
            let wanted: Vec<_> = clicks
                .iter()
                .filter(|((at_us, user), _)| takes(*at_us, *user))
                .map(|((at_us, user), metadata)| {
                    let metadata: Value = serde_json::from_str(metadata).expect("JSON");
                    json!({"user_id": user, "timestamp": firehose::base::clock::rfc3339(*at_us), "metadata": metadata})
                })
                .collect();
            let (mut seen, mut page) = (Vec::new(), server.get(&base).json());
            loop {
                seen.extend(rows(&page));
                assert_eq!(page["total"], wanted.len(), "{base}");
                let Some(cursor) = page["next_cursor"].as_str() else { break };
                let joined = if base.contains('?') { '&' } else { '?' };
                page = server.get(&format!("{base}{joined}cursor={cursor}")).json();
            }
            assert_eq!(seen, wanted, "{base}, {shards} shards");
            let streamed = server.client().get_as(&base, "application/x-ndjson").expect("the server answers");
            assert!(String::from_utf8_lossy(&streamed.body).contains("{\"n\":  ") || wanted.is_empty());
        }
        server.stop();
    }
}

/// Zones with an offset of 45 minutes, with days of 23 and 25 hours, and with hours of 30 and 90 minutes.
const ZONES: [&str; 5] =
    ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/New_York"];

/// Returns the first and the last date of a query near a change of the clocks. Either may be absent.
fn dates(chance: &mut Chance) -> (Option<Date>, Option<Date>) {
    let changes =
        ["2025-12-31", "2026-03-08", "2026-03-29", "2026-04-05", "2026-10-04", "2026-10-25", "2026-11-01"];
    let mut date = || -> Option<Date> {
        let change: Date = changes[chance.below(7) as usize].parse().expect("a date");
        let near = change.saturating_add((chance.below(3) as i64 - 1).days());
        (chance.below(3) > 0).then_some(near)
    };
    match (date(), date()) {
        (Some(first), Some(last)) => (Some(first.min(last)), Some(first.max(last))),
        open => open,
    }
}

/// Checks one grouping in one zone: the exact, counted and approximate answers of all servers agree with the model.
fn check_sales(servers: &[Server], orders: &[Order], by: &str, zone: &str, chance: &mut Chance) {
    let (tenant, dates) = (["acme", "beta"][chance.below(2) as usize], dates(chance));
    let currency = ["USD", "JPY", "KWD"].get(chance.below(6) as usize);
    let mut query = format!("group_by={by}&tz={}", crate::support::commerce::encoded(zone));
    for (name, date) in [("start_date", dates.0), ("end_date", dates.1)] {
        query += &date.map_or_else(String::new, |date| format!("&{name}={date}"));
    }
    query += &currency.map_or_else(String::new, |currency| format!("&currency={currency}"));
    let asked = orders.iter().filter(|order| {
        order.tenant == tenant && currency.is_none_or(|currency| order.currency == *currency)
    });
    let wanted = oracle::sales(asked, by, &TimeZone::get(zone).expect("a zone"), dates);
    for server in servers {
        let exact = sales(server, tenant, &query);
        assert_eq!(exact["groups"].as_array(), Some(&wanted), "{tenant} {query}");
        let counted = sales(server, tenant, &format!("{query}&fields=orders,revenue"));
        let approx = sales(server, tenant, &format!("{query}&precision=approx"));
        let fields = ["key", "currency", "orders", "units", "revenue"];
        // For a dozen customers, the estimate equals the number.
        for (answer, fields) in
            [(&counted, &fields[..]), (&approx, &[&fields[..], &["unique_customers"]].concat())]
        {
            let groups = answer["groups"].as_array().expect("groups");
            assert_eq!(groups.len(), wanted.len(), "{tenant} {query}: {answer}");
            for (group, wanted) in groups.iter().zip(&wanted) {
                for field in fields {
                    assert_eq!(group[field], wanted[field], "{tenant} {query}: {group} instead of {wanted}");
                }
            }
        }
    }
}

/// Checks one search: all servers return the same bytes, and the pages contain the model's rows.
fn check_search(servers: &[Server], orders: &[Order], chance: &mut Chance) {
    let tenant = ["acme", "beta"][chance.below(2) as usize];
    let status = STATUSES[chance.below(6) as usize];
    let product = ["p1", "p2", "p-3", "p6"][chance.below(4) as usize];
    let by_product = |order: &&Order| order.items.iter().any(|item| item.product == product);
    let mine = || orders.iter().filter(|order| order.tenant == tenant);
    for (query, wanted) in [
        (String::new(), oracle::rows(mine())),
        (format!("status={status}&"), oracle::rows(mine().filter(|order| order.status == status))),
        (format!("product_id={product}&"), oracle::rows(mine().filter(by_product))),
    ] {
        let target = search_path(tenant, &format!("{query}limit=100000"));
        let answers: Vec<_> = servers.iter().map(|server| server.get(&target)).collect();
        assert!(page_of(&answers[0]).0 == wanted, "{target}");
        assert!(answers.iter().all(|answer| answer.body == answers[0].body), "{target}: other bytes");
        let limit = chance.below(40) + 9;
        for server in servers {
            assert!(
                search_all(server, tenant, &format!("{query}limit={limit}")) == wanted,
                "{target} by {limit}"
            );
        }
    }
}

#[test]
fn r1_orders_and_sales_are_the_same_from_one_two_and_eight_shards() {
    let folders: Vec<_> = [1, 2, 8].map(|shards| (shards, Folder::new())).into();
    let serve = |(shards, folder): &(u16, Folder)| {
        let shards = shards.to_string();
        folder.serve(&["--shards", &shards, "--cores", &cpus(2), "--order-partition-rows-max", "60"])
    };
    let mut servers: Vec<_> = folders.iter().map(serve).collect();
    let (mut chance, mut orders) = (Chance::new(), Vec::new());
    for round in 0..4_u64 {
        let fresh: Vec<_> = (0..160)
            .map(|id| Order::random(&mut chance, ["acme", "beta"][id as usize % 2], round * 160 + id))
            .collect();
        for server in &servers {
            let summary = ingested(server, &format!("round-{round}"), &oracle::body(&fresh));
            assert_eq!(counts(&summary), [160, 160, 0, 0], "{summary}");
        }
        orders.extend(fresh);
        let mut clients: Vec<_> = servers.iter().map(Server::client).collect();
        for _ in 0..25 {
            let at = chance.below(orders.len() as u64) as usize;
            let (order, status) = (&mut orders[at], STATUSES[chance.below(6) as usize]);
            for client in &mut clients {
                assert_eq!(patch(client, &order.tenant, &order.id, status), order.status != status);
            }
            order.status = status.to_owned();
        }
        for zone in ZONES {
            for by in ["day", "hour", "product", "category"] {
                check_sales(&servers, &orders, by, zone, &mut chance);
            }
        }
        check_search(&servers, &orders, &mut chance);
        if round == 1 {
            let killed = servers.into_iter().zip(&folders).map(|(server, folder)| {
                server.kill();
                serve(folder)
            });
            servers = killed.collect();
            servers.iter().for_each(|server| drop(server.wait_until_stored()));
        }
    }
    for (server, (_, folder)) in servers.into_iter().zip(&folders) {
        server.stop();
        verify(folder);
    }
}
