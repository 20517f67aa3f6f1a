//! Plans of every statement, hostile parameters and cursors, shards that cannot be read. `tests/one_vs_many.rs` tests
//! that N shards respond like one shard.

use std::fmt::Write as _;

use rusqlite::StatementStatus;

use super::super::FAMILIES;
use crate::base::ids::{LaneId, Sequence, ShardId};
use crate::base::money::Currency;
use crate::clicks::{self, CLICKS};
use crate::events::{self, EVENTS, SERVICE_EVENT, ServiceEventRow, bucket_statements};
use crate::ingest::{CLICK, encode_header};
use crate::orders::{self, ItemRow, ORDER, ORDERS, OrderParts, OrderStatus, encode_order, order_statements};
use crate::people;
use crate::query::{Cursor, CursorKey, Filter, QueryError, ReadShard, Readers, page, stream};
use crate::shard::read::Position;
use crate::shard::{
    Entry, PartitionInfo, Records, Shard, ShardFolder, ShardOptions, ShardState, hold_statements, inspect,
    open_reader, tenant_statements, trim_statements,
};
use crate::{prices, sales, stock};

/// Half clicks, half events.
struct Rows(Vec<(Sequence, u8, Vec<u8>)>);

impl Records for Rows {
    fn records(&self) -> impl Iterator<Item = Entry<'_>> {
        self.0.iter().map(|(sequence, kind, payload)| Entry { sequence: *sequence, kind: *kind, payload })
    }
}

fn rows(numbers: std::ops::Range<u64>) -> Rows {
    let row = |n: u64| {
        let us = 1_700_000_000_000_000 + n as i64 * 1_000_000;
        if n.is_multiple_of(2) {
            return (
                Sequence(n + 1),
                CLICK.number(),
                [&encode_header(n as i64 % 7, us, us)[..], b"{}"].concat(),
            );
        }
        let mut bytes = Vec::new();
        ServiceEventRow {
            timestamp_us: us,
            received_us: us,
            tenant_id: "t",
            event_id: &format!("e{n}"),
            source: "s",
            event_type: "c",
            payload: "{}",
        }
        .encode(&mut bytes);
        (Sequence(n + 1), SERVICE_EVENT.number(), bytes)
    };
    Rows(numbers.map(row).collect())
}

/// Returns orders of two items each.
fn orders(numbers: std::ops::Range<u64>) -> Rows {
    let row = |n: u64| {
        let order_id = format!("o{n}");
        let order = OrderParts {
            tenant_id: "t",
            order_id: &order_id,
            customer_id: "c",
            customer_name: "Ann",
            customer_email: "a@b.c",
            status: OrderStatus::Paid,
            currency: Currency::parse("USD").unwrap(),
            ordered_at_us: 1_700_000_000_000_000 + n as i64 * 1_000_000,
        };
        let item = |product_id| ItemRow { product_id, category: "g", quantity: 1, unit_price: 5 };
        let mut bytes = Vec::new();
        encode_order(&order, (1, n as i64, 7), ["p", "q"].map(item).into_iter(), &mut bytes);
        (Sequence(n + 1), ORDER.number(), bytes)
    };
    Rows(numbers.map(row).collect())
}

/// Returns a shard with sealed and open partitions of every stream, and with their indexes.
fn shard(dir: &std::path::Path) -> Shard {
    let options = ShardOptions {
        partition_rows_max: 200,
        partition_rows_max_of: vec![(&ORDERS, 200)],
        ..ShardOptions::default()
    };
    let mut shard = Shard::open(&ShardFolder::new(dir.join("shard-00")), &options, &FAMILIES).unwrap();
    for first in (0..1_000).step_by(100) {
        shard.apply(&[(LaneId::keyed(0), &rows(first..first + 100))], &mut |_, _, _| {}).unwrap();
    }
    for first in (1_000..1_500).step_by(100) {
        shard.apply(&[(LaneId::keyed(0), &orders(first..first + 100))], &mut |_, _, _| {}).unwrap();
    }
    let is_built = |shard: &Shard| {
        inspect(shard.path(), &FAMILIES)
            .unwrap()
            .partitions
            .iter()
            .all(|partition| !partition.sealed || partition.indexed)
    };
    while !is_built(&shard) {
        shard.upkeep(std::time::Duration::from_millis(1)).unwrap();
        std::thread::yield_now();
    }
    shard
}

fn readers(shard: &Shard) -> Readers {
    Readers::start(vec![ReadShard::alone(0, shard.path())], &[0], 1).unwrap()
}

/// Returns every SQL statement that can read rows of a partition, each with a name.
fn statements_of(partition: &PartitionInfo) -> Vec<(String, String)> {
    let mut found = reading_statements(partition);
    found.extend(tenant_statements(partition));
    found
}

fn reading_statements(partition: &PartitionInfo) -> Vec<(String, String)> {
    match partition.stream {
        stream if *stream == EVENTS => {
            let mut found = events::event_statements(partition);
            found.push(people::person_events_statement(partition));
            found
        }
        stream if *stream == CLICKS => clicks::click_statements(partition),
        _ => [orders::statements(partition), sales::sales_statements(partition)].concat(),
    }
}

/// Compares the plans with `bench/plans.md`. `UPDATE_PLANS=1 cargo test --lib every_statement` rewrites that file.
#[test]
fn every_statement_finds_its_rows_by_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let shard = shard(dir.path());
    let reader = open_reader(shard.path()).unwrap();
    let mut page = String::from(
        "# Query plans\n\nEvery statement that a read can issue, against a sealed and an open partition of each \
         stream, with what\nSQLite makes of it (`EXPLAIN QUERY PLAN`). Written by a test of `src/families`, which \
         fails where a plan scans a\npartition instead of searching it.\n",
    );
    let partitions = inspect(shard.path(), &FAMILIES).unwrap().partitions;
    let mut statements = Vec::new();
    for sealed in [true, false] {
        for partition in partitions.iter().filter(|partition| partition.sealed == sealed) {
            let state = if sealed { "sealed" } else { "open" };
            let of = statements_of(partition).into_iter();
            statements.extend(of.map(|(name, sql)| (format!("{name}; a {state} partition"), sql)));
        }
    }
    statements.extend(bucket_statements());
    statements.extend(order_statements());
    statements.extend(sales::sum_statements());
    statements.push(sales::name_statement());
    statements.extend(prices::price_statements());
    statements.extend(stock::stock_statements());
    statements.extend(people::person_statements());
    statements.extend(hold_statements());
    statements.extend(trim_statements());
    statements.sort();
    statements.dedup_by(|a, b| a.0 == b.0);
    let mut changing = Vec::new();
    for (name, sql) in statements {
        let mut explain = reader.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        for at in 1..=explain.parameter_count() {
            explain.raw_bind_parameter(at, 1).unwrap();
        }
        // A statement whose plan depends on bound values is prepared again each time it is taken from the cache.
        let mut statement = reader.prepare(&sql).unwrap();
        for value in 1..4 {
            for at in 1..=statement.parameter_count() {
                statement.raw_bind_parameter(at, value).unwrap();
            }
            // Some parameters require other types. The resulting errors do not matter here.
            let _ = statement.raw_query().next();
            statement.clear_bindings();
        }
        if statement.get_status(StatementStatus::RePrepare) > 0 {
            changing.push(format!("{name}\n{sql}"));
        }
        let mut lines = explain.raw_query();
        let mut plan = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            plan.push(line.get::<_, String>(3).unwrap());
        }
        // A search for words uses the full-text index, although SQLite calls it a scan.
        let is_words = |line: &str| line.starts_with("SCAN customer_text VIRTUAL TABLE INDEX");
        let scans = plan.iter().any(|line| line.starts_with("SCAN") && !is_words(line));
        let sorts = plan.iter().any(|line| line.contains("TEMP B-TREE"));
        assert!(!scans && !sorts && !plan.is_empty(), "{name}\n{sql}\n{plan:?}");
        let _ = writeln!(page, "\n## {name}\n\n```sql\n{sql}\n```\n\n    {}", plan.join("\n    "));
    }
    assert_eq!(changing, Vec::<String>::new(), "plans that depend on what is bound");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/plans.md");
    if std::env::vars_os().any(|(name, _)| name == "UPDATE_PLANS") {
        std::fs::write(&path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), page, "bench/plans.md is not what the statements are");
}

#[test]
fn wrong_parameters_are_named_each_with_its_reason() {
    let codes = |query: &str| -> Vec<(String, &str)> {
        match events::rows_plan(Some(query)) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.into_iter().map(|error| (error.name.into_owned(), error.code)).collect(),
        }
    };
    for (query, wrong) in [
        ("tenant_id=t", &[][..]),
        ("tenant_id=t&from=2024-01-15T10:30:00%2B01:00&order=desc&page=3&page_size=1000", &[]),
        ("tenant_id=t&from=2024-01-15T10:30:00+01:00", &[]),
        ("", &[("tenant_id", "missing_parameter")]),
        ("tenant_id=", &[("tenant_id", "empty_value"), ("tenant_id", "missing_parameter")]),
        ("tenant_id=t&source=&tz", &[("source", "empty_value"), ("tz", "empty_value")]),
        ("tenant_id=t&source=&source=web", &[("source", "empty_value")]),
        ("tenant_id=t&sauce=", &[("sauce", "unknown_parameter")]),
        ("tenant_id=a%00", &[("tenant_id", "invalid_text")]),
        ("tenant_id=%zz", &[("", "invalid_encoding"), ("tenant_id", "missing_parameter")]),
        ("tenant_id=%+1", &[("", "invalid_encoding"), ("tenant_id", "missing_parameter")]),
        ("tenant_id=%4", &[("", "invalid_encoding"), ("tenant_id", "missing_parameter")]),
        ("tenant_id=%%41", &[("", "invalid_encoding"), ("tenant_id", "missing_parameter")]),
        ("tenant_id=%ff", &[("", "invalid_encoding"), ("tenant_id", "missing_parameter")]),
        ("tenant_id=a&tenant_id=b", &[("tenant_id", "repeated")]),
        ("tenant_id=a&tenant=b", &[("tenant", "unknown_parameter")]),
        ("tenant_id=a&from=2024-01-15T10:30:00", &[("from", "invalid_timestamp")]),
        ("tenant_id=a&from=2024-01-15T10:30:00&tz=Europe/Berlin", &[]),
        (
            "tenant_id=a&start_date=2024-02-30&end_date=x",
            &[("start_date", "invalid_timestamp"), ("end_date", "invalid_timestamp")],
        ),
        ("tenant_id=a&from=2024-01-15&end_date=2024-01-16", &[("end_date", "not_with_from_and_to")]),
        ("tenant_id=a&from=&start_date=2024-01-15&end_date=2024-01-15", &[("from", "empty_value")]),
        ("tenant_id=a&start_date=2024-01-16&end_date=2024-01-15", &[("end_date", "out_of_range")]),
        ("tenant_id=a&from=2024-01-15&to=2024-01-15", &[("to", "out_of_range")]),
        ("tenant_id=a&from=9999-12-31T00:00:00Z&to=9999-12-31T23:59:59Z", &[]),
        ("tenant_id=a&tz=Mars", &[("tz", "unknown_value")]),
        ("tenant_id=a&from=2024-01-15T10:30:00Z&to=2024-01-15T10:30:00Z", &[("to", "out_of_range")]),
        ("tenant_id=a&page_size=0&page=0", &[("page_size", "out_of_range"), ("page", "out_of_range")]),
        ("tenant_id=a&page_size=1001", &[("page_size", "out_of_range")]),
        ("tenant_id=a&page=10002", &[("page", "out_of_range")]),
        ("tenant_id=a&page=2&cursor=x", &[("page", "not_with_cursor")]),
        ("tenant_id=a&order=up", &[("order", "unknown_value")]),
    ] {
        let wrong: Vec<_> = wrong.iter().map(|(name, code)| ((*name).to_owned(), *code)).collect();
        assert_eq!(codes(query), wrong, "{query}");
    }
    assert!(clicks::rows_plan(Some("user_id=-9223372036854775808")).is_ok());
    assert!(clicks::rows_plan(Some("user_id=1.5")).is_err());
    assert!(events::BucketsPlan::new(Some("tenant_id=t&bucket_size=day&tz=Europe/Berlin")).is_ok());
    assert!(events::BucketsPlan::new(Some("tenant_id=t&bucket_size=day&tz=Mars/Olympus")).is_err());
    assert!(events::BucketsPlan::new(Some("tenant_id=t")).is_err());
}

#[test]
fn a_bound_is_a_day_of_the_zone_or_a_time_in_every_spelling_that_rows_may_have() {
    let range = |query: &str| {
        let filter = events::rows_plan(Some(&format!("tenant_id=t&{query}"))).unwrap().0.filter;
        (filter.from_us, filter.to_us)
    };
    let us = |text: &str| Some(text.parse::<jiff::Timestamp>().unwrap().as_microsecond());
    let at = us("2024-01-15T10:30:00Z");
    for from in [
        "2024-01-15T10:30:00Z",
        "2024-01-15t10:30:00z",
        "2024-01-15%2010:30:00Z",
        "2024-01-15+10:30:00Z",
        "2024-01-15T11:30:00%2B01:00",
        "2024-01-15T11:30:00+01:00",
        "2024-01-15+11:30:00.000+01:00",
        "2024-01-15T10:30:00-00:00",
        "2024-01-15T11:30:00&tz=Europe/Berlin",
        "2024-01-15+11:30&tz=Europe/Berlin",
        "2024-01-15T10:30:00Z&tz=Europe/Berlin",
    ] {
        assert_eq!(range(&format!("from={from}")).0, at, "{from}");
    }
    assert_eq!(range("from=2016-12-31T23:59:60Z").0, us("2016-12-31T23:59:59.999999Z"));
    let (day, next) = (us("2024-01-15T00:00:00Z"), us("2024-01-16T00:00:00Z"));
    assert_eq!(range("from=2024-01-15&to=2024-01-16"), (day, next));
    assert_eq!(range("start_date=2024-01-15&end_date=2024-01-15"), (day, next));
    assert_eq!(range("start_date=2024-01-15&end_date=2024-01-16T00:00:00Z"), (day, next));
    // A day of 23 hours.
    let berlin = (us("2026-03-28T23:00:00Z"), us("2026-03-29T22:00:00Z"));
    assert_eq!(range("start_date=2026-03-29&end_date=2026-03-29&tz=Europe/Berlin"), berlin);
    // A bound after the last time that may be stored is equivalent to the end of those times.
    let end = Some(crate::base::limits::TIME_US_MAX + 1);
    for to in ["end_date=9999-12-30", "end_date=9999-12-31", "to=9999-12-31", "to=9999-12-31T23:59:59-23:59"]
    {
        for zone in ["UTC", "Asia/Tokyo", "America/New_York"] {
            let asked = range(&format!("{to}&tz={zone}")).1;
            // A day in the east ends, or begins, before the last time that may be stored.
            assert!(
                asked == end
                    || (zone == "Asia/Tokyo" && matches!(to, "end_date=9999-12-30" | "to=9999-12-31")),
                "{to} {zone}"
            );
        }
    }
    let start = Some(crate::base::limits::TIME_US_MIN);
    assert_eq!(range("from=0000-01-01T00:00:00%2B05:00").0, start);
    assert_eq!(range("start_date=0000-01-01&tz=Asia/Tokyo").0, start);
}

#[test]
fn a_cursor_reads_back_and_a_forged_one_does_not() {
    let key = CursorKey::new(&[3; 16]);
    let filter = events::rows_plan(Some("tenant_id=t")).unwrap().0.filter;
    let position = Position { timestamp_us: -5, user_id: 7, event_id: "ü, an order".to_owned(), id: 9 };
    let cursor = Cursor { total: 12, shard: ShardId(1), position, pins: vec![4, 5] };
    let text = key.seal(&filter, &cursor).unwrap();
    assert_eq!(key.open(&filter, 2, &text).as_ref(), Ok(&cursor));
    // A client sees no part of a cursor, and not even whether two cursors are the same.
    let again = key.seal(&filter, &cursor).unwrap();
    assert_ne!(again, text);
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, &text).unwrap();
    for plain in [&b", an order"[..], &4_i64.to_le_bytes(), &(-5_i64).to_le_bytes()] {
        assert!(!bytes.windows(plain.len()).any(|window| window == plain), "{plain:?}");
    }
    let code = |key: &CursorKey, filter: &Filter, shards, text: &str| {
        key.open(filter, shards, text).unwrap_err().code
    };
    for other in [
        "tenant_id=u",
        "tenant_id=t&order=desc",
        "tenant_id=t&source=t",
        "tenant_id=t&to=2030-01-01T00:00:00Z",
    ] {
        let other = events::rows_plan(Some(other)).unwrap().0.filter;
        assert_eq!(code(&key, &other, 2, &text), "cursor_mismatch");
    }
    assert_eq!(code(&key, &filter, 3, &text), "invalid_cursor");
    assert_eq!(code(&CursorKey::new(&[4; 16]), &filter, 2, &text), "invalid_cursor");
    for at in 0..text.len() {
        let mut forged = text.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        // The spare bits of the last character might not matter, but base64 refuses any that are set.
        assert_eq!(code(&key, &filter, 2, &forged), "invalid_cursor", "{at}");
        assert_eq!(code(&key, &filter, 2, &text[..at]), "invalid_cursor");
    }
}

#[test]
fn a_shard_that_cannot_be_read_or_is_missing_is_an_error_and_one_to_come_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let shard = shard(dir.path());
    let both = |second: std::path::PathBuf, was_open: bool| {
        let shards = vec![ReadShard::alone(0, shard.path()), ReadShard::alone(1, &second)];
        if was_open {
            shards[1].status.set_state(ShardState::Open);
            shards[1].status.set_state(ShardState::Reopening);
        }
        let readers = Readers::start(shards, &[0], 1).unwrap();
        let plan = events::rows_plan(Some("tenant_id=t&page_size=1000")).unwrap().0;
        futures_lite::future::block_on(page(&readers, &CursorKey::new(&[0; 16]), &plan, |_| Ok(())))
    };
    let whole = both(dir.path().join("absent.db"), false).unwrap();
    assert_eq!((whole.total, whole.next_cursor), (500, None));
    let error = both(dir.path().join("absent.db"), true).unwrap_err();
    assert!(matches!(error, QueryError::Shard { shard: ShardId(1), .. }), "{error}");
    let broken = dir.path().join("broken.db");
    std::fs::write(&broken, vec![7; 100_000]).unwrap();
    let error = both(broken, false).unwrap_err();
    assert!(matches!(error, QueryError::Shard { shard: ShardId(1), .. }), "{error}");
}

#[test]
fn queries_make_room_when_they_end_or_are_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let shard = shard(dir.path());
    let readers = readers(&shard);
    let key = CursorKey::new(&[0; 16]);
    let plan = events::rows_plan(Some("tenant_id=t")).unwrap().0;
    let open = || futures_lite::future::block_on(stream(&readers, &key, &plan));
    let mut streams: Vec<_> = std::iter::from_fn(|| open().ok()).take(1_000).collect();
    assert!((1..1_000).contains(&streams.len()));
    assert!(matches!(open(), Err(QueryError::Busy)));
    let one = streams.pop().unwrap();
    assert!(matches!(open(), Err(QueryError::Busy)));
    drop(one);
    let mut again = open().unwrap();
    let first = futures_lite::future::block_on(again.next(3)).unwrap().unwrap();
    assert_eq!((first.rows, first.bytes.iter().filter(|byte| **byte == b'\n').count()), (3, 3));
    drop((again, streams));
    assert!(open().is_ok());
}
