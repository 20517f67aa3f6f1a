//! Rows stay until every registered sink has confirmed them and `keep` has passed: partitions, rows of tenants, rows of
//! ledgers, orders whose changes a sink lacks.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::sums_oracle::number;
use super::tenant_retention::{age, event, keeps, settle};
use super::{HOT, KEYED, Lane, clicks, options, reopen, sound};
use crate::base::clock;
use crate::base::ids::{Sequence, ShardId};
use crate::base::money::Currency;
use crate::base::observed::Observed;
use crate::base::prices::PriceRules;
use crate::clicks::CLICKS;
use crate::events::EVENTS;
use crate::families::FAMILIES;
use crate::orders::{ItemRow, ORDER, ORDER_STATUS, ORDERS, OrderParts, OrderStatus, StatusRow, encode_order};
use crate::prices::{PRICE_EVENT, PRICE_ROWS, PriceEventRow, PriceRow};
use crate::shard::{self, Confirmed, Shard, ShardOptions, ShipOptions, SinkEntry, epochs, verify_aggregates};
use crate::stock::{STOCK, STOCK_EVENTS, StockChange, StockRow, verify_stock};

const HOUR: Duration = Duration::from_secs(3_600);
const LONG_AGO: &str = "2024-01-01T00:00:00Z";
const SHARD: ShardId = ShardId(0);

fn shipping(dir: &Path, keep: Duration) -> ShardOptions {
    let ship = ShipOptions { keep, ..ShipOptions::of(dir.to_owned(), SHARD) };
    ShardOptions {
        partition_rows_max: 100,
        partition_rows_max_of: vec![(&ORDERS, 10)],
        retention: vec![(&CLICKS, HOUR), (&ORDERS, HOUR)],
        ledger_retention: vec![(&STOCK_EVENTS, HOUR), (&PRICE_ROWS, HOUR)],
        ship: Some(ship),
        ..options()
    }
}

fn register(dir: &Path, name: &str) {
    let entry = SinkEntry {
        id: format!("id of {name}"),
        kind: "postgres".to_owned(),
        target: "postgres://there".to_owned(),
        registered_at: LONG_AGO.to_owned(),
    };
    shard::register_sink(dir, name, &entry).unwrap();
}

/// Makes a shard with the sink `a`, for which rows stay an hour longer.
fn shipped() -> (tempfile::TempDir, Shard) {
    let dir = tempfile::tempdir().unwrap();
    let shard = reopen(dir.path(), &shipping(dir.path(), HOUR));
    register(dir.path(), "a");
    (dir, shard)
}

/// Notes what a sink had confirmed some time ago.
fn confirm(dir: &Path, shard: &mut Shard, name: &str, last: &[(&str, i64)], ago: Duration) {
    let epoch = epochs(shard.connection()).unwrap().pop().unwrap().id;
    note(dir, name, epoch, last, ago);
}

fn note(dir: &Path, name: &str, epoch: String, last: &[(&str, i64)], ago: Duration) {
    let last: BTreeMap<String, i64> = last.iter().map(|(stream, id)| ((*stream).to_owned(), *id)).collect();
    let at_us = clock::unix_us() - ago.as_micros() as i64;
    let note = Confirmed { sink: format!("id of {name}"), epoch, last, at_us, rejected: 0 };
    shard::write_confirmed(dir, name, SHARD, &note).unwrap();
}

fn add_clicks(shard: &mut Shard, count: u64) {
    // A partition is sealed between batches.
    for _ in 0..count / 50 {
        let from = shard.position(HOT).0 + 1;
        shard.apply(&[(HOT, &clicks(from..=from + 49))], &mut |_, _, _| {}).unwrap();
    }
}

fn keyed(shard: &mut Shard, kind: u8, records: impl IntoIterator<Item = Vec<u8>>) {
    for bytes in records {
        let lane = Lane(vec![(Sequence(shard.position(KEYED).0 + 1), kind, bytes)]);
        shard.apply(&[(KEYED, &lane)], &mut |_, _, _| {}).unwrap();
    }
}

fn add_orders(shard: &mut Shard, numbers: std::ops::Range<i64>) {
    let orders = numbers.map(|n| {
        let parts = OrderParts {
            tenant_id: if n % 2 == 0 { "even" } else { "odd" },
            order_id: &format!("order {n}"),
            customer_id: "c",
            customer_name: "",
            customer_email: "",
            status: OrderStatus::Paid,
            currency: Currency::parse("USD").unwrap(),
            ordered_at_us: n * 3_600_000_000,
        };
        let item = ItemRow { product_id: "p", category: "tea", quantity: 1, unit_price: 5 };
        let mut bytes = Vec::new();
        encode_order(&parts, (0, 0, 1), [item].into_iter(), &mut bytes);
        bytes
    });
    let orders: Vec<Vec<u8>> = orders.collect();
    keyed(shard, ORDER.number(), orders);
}

fn ship_order(shard: &mut Shard, n: i64) {
    let mut bytes = Vec::new();
    let (tenant_id, order_id) = (if n % 2 == 0 { "even" } else { "odd" }, &*format!("order {n}"));
    StatusRow { received_us: 9, occurred_us: 9, status: OrderStatus::Shipped, tenant_id, order_id }
        .encode(&mut bytes);
    keyed(shard, ORDER_STATUS.number(), [bytes]);
}

fn add_stock(shard: &mut Shard, numbers: std::ops::Range<i64>) {
    let rows: Vec<Vec<u8>> = numbers
        .map(|n| {
            let (product_id, event_id) = (&*format!("p{}", n % 3), &*format!("stock {n}"));
            let observed = Observed { at_us: n, received_us: n, tenant_id: "t", product_id, event_id };
            let mut bytes = Vec::new();
            StockRow { observed, change: StockChange::Delta(1) }.encode(&mut bytes);
            bytes
        })
        .collect();
    keyed(shard, STOCK.number(), rows);
}

fn add_price(shard: &mut Shard, n: i64, price: i64) {
    let rules = PriceRules { change_bp: 3_000, score_milli: 6_000, window: 1 };
    let observed = Observed {
        at_us: n,
        received_us: n,
        tenant_id: "t",
        product_id: "p",
        event_id: &format!("price {n}"),
    };
    let row = PriceRow { observed, price, currency: Currency::parse("USD").unwrap() };
    let mut bytes = Vec::new();
    PriceEventRow::new(row, rules).encode(&mut bytes);
    keyed(shard, PRICE_EVENT.number(), [bytes]);
}

/// Returns the rows of a table or view after retention had time for everything.
fn left(shard: &mut Shard, table: &str) -> i64 {
    settle(shard);
    number(shard, &format!("SELECT count(*) FROM {table}"))
}

fn check(shard: &Shard) {
    sound(shard.path());
    assert_eq!(verify_aggregates(shard.path(), &FAMILIES).unwrap().problems, Vec::<String>::new());
    assert_eq!(verify_stock(shard.path()).unwrap().problems, Vec::<String>::new());
}

/// Repeats the search of retention until what is held was measured.
fn measured(shard: &mut Shard) -> u64 {
    for _ in 0..2_000 {
        settle(shard);
        if shard.held().bytes > 0 {
            return shard.held().bytes;
        }
        clock::pause(Duration::from_millis(1));
    }
    panic!("nothing was measured");
}

#[test]
fn partitions_wait_for_every_sink() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = reopen(dir.path(), &shipping(dir.path(), HOUR));
    add_clicks(&mut shard, 350);
    for sink in ["a", "b"] {
        register(dir.path(), sink);
    }
    settle(&mut shard);
    age(&mut shard, "click", 2, LONG_AGO);
    assert_eq!(left(&mut shard, "events"), 350, "no sink has confirmed anything");
    confirm(dir.path(), &mut shard, "a", &[("click", 350)], 2 * HOUR);
    assert_eq!(left(&mut shard, "events"), 350, "one sink has not confirmed anything");
    confirm(dir.path(), &mut shard, "b", &[("click", 199)], 2 * HOUR);
    assert_eq!(
        left(&mut shard, "events"),
        250,
        "both have the first partition, and all but a row of the second"
    );
    confirm(dir.path(), &mut shard, "b", &[("click", 200)], 2 * HOUR);
    // The places of a sink are noted once in a while, and the new ones were noted in the meantime.
    shard.poison();
    let mut shard = reopen(dir.path(), &shipping(dir.path(), Duration::ZERO));
    assert_eq!(left(&mut shard, "events"), 150);
    check(&shard);
}

#[test]
fn confirmed_rows_stay_for_ship_keep_also_over_a_restart() {
    let (dir, mut shard) = shipped();
    add_clicks(&mut shard, 350);
    settle(&mut shard);
    age(&mut shard, "click", 3, LONG_AGO);
    confirm(dir.path(), &mut shard, "a", &[("click", 100)], HOUR / 2);
    assert_eq!(left(&mut shard, "events"), 350);
    confirm(dir.path(), &mut shard, "a", &[("click", 350)], Duration::ZERO);
    assert_eq!(left(&mut shard, "events"), 350);
    assert_eq!(shard.held().bytes, 0, "what only waits for ship_keep is not held");
    shard.poison();
    let mut shard = reopen(dir.path(), &shipping(dir.path(), HOUR));
    assert_eq!(left(&mut shard, "events"), 350, "a restart shortens nothing");
    shard.poison();
    let mut shard = reopen(dir.path(), &shipping(dir.path(), HOUR / 3));
    assert_eq!(left(&mut shard, "events"), 250, "and does not begin again for what was confirmed before");
    // A target that was set back lacks what it had confirmed.
    confirm(dir.path(), &mut shard, "a", &[("click", 150)], Duration::ZERO);
    shard.poison();
    let mut shard = reopen(dir.path(), &shipping(dir.path(), Duration::ZERO));
    assert_eq!(left(&mut shard, "events"), 250);
}

#[test]
fn a_sink_that_is_removed_holds_nothing() {
    let (dir, mut shard) = shipped();
    add_clicks(&mut shard, 250);
    settle(&mut shard);
    age(&mut shard, "click", 2, LONG_AGO);
    assert_eq!(left(&mut shard, "events"), 250);
    assert!(measured(&mut shard) > 0);
    assert!(shard::remove_sink(dir.path(), "a").unwrap());
    assert_eq!(left(&mut shard, "events"), 50);
    settle(&mut shard);
    assert_eq!(shard.held().bytes, 0);
}

#[test]
fn a_file_of_a_sink_that_cannot_be_read_holds_everything_and_is_reported() {
    let (dir, mut shard) = shipped();
    add_clicks(&mut shard, 250);
    settle(&mut shard);
    confirm(dir.path(), &mut shard, "a", &[("click", 250)], 2 * HOUR);
    std::fs::write(dir.path().join("ship/a/sink.json"), "{").unwrap();
    age(&mut shard, "click", 2, LONG_AGO);
    assert_eq!(left(&mut shard, "events"), 250);
    let problem = shard.held().problem.clone().unwrap();
    assert!(problem.contains("sink.json"), "{problem}");
    std::fs::remove_file(dir.path().join("ship/a/sink.json")).unwrap();
    register(dir.path(), "a");
    std::fs::write(dir.path().join("ship/a/shard-00.json"), "[]").unwrap();
    assert_eq!(left(&mut shard, "events"), 250);
    assert!(shard.held().problem.as_ref().unwrap().contains("shard-00.json"));
    confirm(dir.path(), &mut shard, "a", &[("click", 250)], 2 * HOUR);
    assert_eq!(left(&mut shard, "events"), 50);
    settle(&mut shard);
    assert_eq!(shard.held().problem, None);
}

/// The note of another registration under the same name, or of another life of the file, confirms nothing.
#[test]
fn a_note_about_other_rows_confirms_nothing() {
    let (dir, mut shard) = shipped();
    add_clicks(&mut shard, 250);
    settle(&mut shard);
    age(&mut shard, "click", 2, LONG_AGO);
    note(dir.path(), "a", "another file".to_owned(), &[("click", 250)], 2 * HOUR);
    assert_eq!(left(&mut shard, "events"), 250);
    confirm(dir.path(), &mut shard, "a", &[("click", 250)], 2 * HOUR);
    let text = std::fs::read_to_string(dir.path().join("ship/a/shard-00.json")).unwrap();
    let other = text.replace("id of a", "id of an earlier one");
    std::fs::write(dir.path().join("ship/a/shard-00.json"), other).unwrap();
    assert_eq!(left(&mut shard, "events"), 250);
    std::fs::write(dir.path().join("ship/a/shard-00.json"), text).unwrap();
    assert_eq!(left(&mut shard, "events"), 50);
}

/// In a copy of the file, a note of the life before confirms the rows that both have.
#[test]
fn a_copied_file_keeps_what_was_confirmed_of_the_original() {
    let (dir, mut shard) = shipped();
    add_clicks(&mut shard, 350);
    settle(&mut shard);
    confirm(dir.path(), &mut shard, "a", &[("click", 350)], 2 * HOUR);
    let sql = "UPDATE checkpointed SET last = 150 WHERE stream = 'click'; \
               INSERT OR IGNORE INTO checkpointed (stream, last) VALUES ('click', 150); \
               UPDATE epoch SET device = 0, inode = 0";
    shard.connection().execute_batch(sql).unwrap();
    drop(shard);
    let mut shard = reopen(dir.path(), &shipping(dir.path(), HOUR));
    assert_eq!(epochs(shard.connection()).unwrap().len(), 2);
    age(&mut shard, "click", 3, LONG_AGO);
    assert_eq!(left(&mut shard, "events"), 250, "the rows after 150 may be others");
}

/// A sink that is registered while a thread counts what leaves holds it.
#[test]
fn a_sink_that_comes_late_holds_what_is_about_to_leave() {
    let dir = tempfile::tempdir().unwrap();
    let options = ShardOptions { retention: vec![(&EVENTS, HOUR)], ..shipping(dir.path(), HOUR) };
    let mut shard = reopen(dir.path(), &options);
    for n in 0..5 {
        let lane = Lane((n * 50 + 1..n * 50 + 51).map(|n| event(n, "t", &format!("event {n}"))).collect());
        shard.apply(&[(KEYED, &lane)], &mut |_, _, _| {}).unwrap();
    }
    settle(&mut shard);
    age(&mut shard, "service_event", 2, LONG_AGO);
    while !shard.is_retaining() {
        shard.upkeep(Duration::ZERO).unwrap();
    }
    assert_eq!(number(&mut shard, "SELECT count(*) FROM service_event"), 250, "the rows are being counted");
    register(dir.path(), "a");
    assert_eq!(left(&mut shard, "service_event"), 250);
    check(&shard);
}

#[test]
fn an_order_waits_for_its_changes_of_status() {
    let (dir, mut shard) = shipped();
    add_orders(&mut shard, 0..25);
    (0..9).for_each(|n| ship_order(&mut shard, n + 12));
    ship_order(&mut shard, 3);
    settle(&mut shard);
    age(&mut shard, "sales_order", 2, LONG_AGO);
    confirm(dir.path(), &mut shard, "a", &[("sales_order", 25), ("change", 9)], 2 * HOUR);
    assert_eq!(
        left(&mut shard, "sales_order"),
        25,
        "the tenth change is about an order of the first partition"
    );
    assert!(measured(&mut shard) > 0);
    confirm(dir.path(), &mut shard, "a", &[("sales_order", 25), ("change", 10)], 2 * HOUR);
    shard.poison();
    let mut shard = reopen(dir.path(), &shipping(dir.path(), Duration::ZERO));
    assert_eq!(left(&mut shard, "sales_order"), 5);
    check(&shard);
}

/// A target that is set back gets the changes again that it had.
#[test]
fn changes_of_status_stay_for_ship_keep() {
    let (dir, mut shard) = shipped();
    add_orders(&mut shard, 0..8);
    (0..8).for_each(|n| ship_order(&mut shard, n));
    let changes = |shard: &mut Shard| {
        shard.trim_now();
        left(shard, "change")
    };
    assert_eq!(changes(&mut shard), 8);
    confirm(dir.path(), &mut shard, "a", &[("change", 3)], 2 * HOUR);
    assert_eq!(changes(&mut shard), 5);
    confirm(dir.path(), &mut shard, "a", &[("change", 8)], Duration::ZERO);
    assert_eq!(changes(&mut shard), 5);
    shard.poison();
    let mut shard = reopen(dir.path(), &shipping(dir.path(), Duration::ZERO));
    assert_eq!(changes(&mut shard), 1, "numbers never start again");
}

#[test]
fn rows_of_ledgers_wait() {
    let (dir, mut shard) = shipped();
    add_stock(&mut shard, 0..30);
    (0..5).for_each(|n| add_price(&mut shard, n, 100));
    add_price(&mut shard, 5, 900);
    add_price(&mut shard, 6, 950);
    (7..10).for_each(|n| add_price(&mut shard, n, 100));
    assert_eq!([left(&mut shard, "stock_event"), left(&mut shard, "price_row")], [30, 10]);
    assert!(measured(&mut shard) > 0);
    let all = [("stock_event", 12), ("price_row", 10)];
    confirm(dir.path(), &mut shard, "a", &all, 2 * HOUR);
    assert_eq!(left(&mut shard, "stock_event"), 18, "the events up to 12 leave");
    // The price that later ones are compared with stays, and anomalies wait for the feed.
    assert_eq!(left(&mut shard, "price_row"), 3);
    let all = [("stock_event", 30), ("price_row", 10), ("change", 1)];
    confirm(dir.path(), &mut shard, "a", &all, 2 * HOUR);
    shard.poison();
    let mut shard = reopen(dir.path(), &shipping(dir.path(), Duration::ZERO));
    // The anomaly with the newest change stays.
    assert_eq!([left(&mut shard, "stock_event"), left(&mut shard, "price_row")], [0, 2]);
    settle(&mut shard);
    assert_eq!(shard.held().bytes, 0);
    check(&shard);
}

#[test]
fn rows_of_tenants_wait() {
    let dir = tempfile::tempdir().unwrap();
    let ages = keeps(&[("even", "orders", HOUR), ("t", "stock", HOUR)]);
    let open = |keep| {
        let shipping = shipping(dir.path(), keep);
        let (retention, ledger_retention) = (Vec::new(), Vec::new());
        let options = ShardOptions { tenant_keeps: ages.clone(), retention, ledger_retention, ..shipping };
        reopen(dir.path(), &options)
    };
    let mut shard = open(HOUR);
    register(dir.path(), "a");
    add_orders(&mut shard, 0..25);
    add_stock(&mut shard, 0..30);
    settle(&mut shard);
    age(&mut shard, "sales_order", 2, LONG_AGO);
    assert_eq!([left(&mut shard, "sales_order"), left(&mut shard, "stock_event")], [25, 30]);
    assert!(measured(&mut shard) > 0);
    confirm(dir.path(), &mut shard, "a", &[("sales_order", 10), ("stock_event", 12)], 2 * HOUR);
    assert_eq!([left(&mut shard, "sales_order"), left(&mut shard, "stock_event")], [20, 18]);
    confirm(dir.path(), &mut shard, "a", &[("sales_order", 25), ("stock_event", 30)], 2 * HOUR);
    shard.poison();
    let mut shard = open(Duration::ZERO);
    assert_eq!([left(&mut shard, "sales_order"), left(&mut shard, "stock_event")], [15, 0]);
    check(&shard);
}

/// Held rows are counted when they are too large as well, and leave by size once they are confirmed.
#[test]
fn partitions_that_are_too_large_wait() {
    let dir = tempfile::tempdir().unwrap();
    let open = |keep| {
        let retention_bytes = vec![(&CLICKS, 8 << 10)];
        let (retention, ledger_retention) = (Vec::new(), Vec::new());
        let shipping = shipping(dir.path(), keep);
        let options =
            ShardOptions { retention_bytes, retention, ledger_retention, page_bytes: 1_024, ..shipping };
        reopen(dir.path(), &options)
    };
    let mut shard = open(HOUR);
    register(dir.path(), "a");
    add_clicks(&mut shard, 950);
    assert!(measured(&mut shard) > 0);
    assert_eq!(left(&mut shard, "events"), 950);
    confirm(dir.path(), &mut shard, "a", &[("click", 950)], 2 * HOUR);
    let mut turns = 0;
    while left(&mut shard, "events") > 400 {
        clock::pause(Duration::from_millis(1));
        turns += 1;
        assert!(turns < 2_000, "nothing leaves");
    }
    check(&shard);
}

/// Above the limit, `keep` keeps and `drop` drops, oldest first, and counts what no sink will get.
#[test]
fn too_much_that_is_held_is_reported_and_dropped_if_so_set() {
    let dir = tempfile::tempdir().unwrap();
    let open = |hold_bytes_max, drops_when_full| {
        let mut options = shipping(dir.path(), HOUR);
        let ship = ShipOptions::of(dir.path().to_owned(), SHARD);
        options.ship = Some(ShipOptions { hold_bytes_max, drops_when_full, ..ship });
        reopen(dir.path(), &options)
    };
    let mut shard = open(u64::MAX, true);
    register(dir.path(), "a");
    add_clicks(&mut shard, 350);
    add_stock(&mut shard, 0..30);
    settle(&mut shard);
    age(&mut shard, "click", 3, LONG_AGO);
    confirm(dir.path(), &mut shard, "a", &[("click", 130)], Duration::ZERO);
    let bytes = measured(&mut shard);
    assert!(!shard.held().is_full);
    shard.poison();

    let mut shard = open(bytes / 100, false);
    assert!(measured(&mut shard) > bytes / 100);
    assert_eq!([left(&mut shard, "events"), left(&mut shard, "stock_event")], [350, 30]);
    assert!(shard.held().is_full);
    shard.poison();

    let mut shard = open(bytes / 100, true);
    let mut turns = 0;
    while shard.held().is_full || turns < 10 {
        settle(&mut shard);
        clock::pause(Duration::from_millis(1));
        turns += 1;
        assert!(turns < 2_000, "{:?}", shard.held());
    }
    assert_eq!(left(&mut shard, "stock_event"), 0);
    assert_eq!(left(&mut shard, "events"), 50);
    // The sink has 130 of them, although not for long.
    let dropped = |reason: &str, kind: &str| {
        format!("SELECT sum(rows) FROM retention_dropped WHERE reason = '{reason}' AND kind = '{kind}'")
    };
    assert_eq!(number(&mut shard, &dropped("age", "click")), 130);
    assert_eq!(number(&mut shard, &dropped("unshipped", "click")), 170);
    assert_eq!(number(&mut shard, &dropped("unshipped", "stock_event")), 30);
    check(&shard);
}
