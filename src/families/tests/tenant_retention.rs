//! Retention by tenant: exactly the old rows of a tenant with an age of its own leave, with all that is derived from
//! them, after any sequence of steps and crashes. Rows of other tenants stay as they are.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use rusqlite::types::Value;

use super::orders::{Order, apply, order};
use super::sums_oracle::{Oracle, number, stored_sums};
use super::{KEYED, Lane, options, sound};
use crate::base::clock;
use crate::base::ids::Sequence;
use crate::base::money::Currency;
use crate::base::observed::Observed;
use crate::base::prices::PriceRules;
use crate::events::{EVENTS, EventStore, SERVICE_EVENT, ServiceEventRow};
use crate::families::FAMILIES;
use crate::orders::{ORDERS, OrderStore};
use crate::prices::{PRICE_EVENT, PriceEventRow, PriceRow};
use crate::shard::{
    Outcome, Shard, ShardOptions, SortPermit, TenantKeep, TenantKeeps, open_reader, verify_aggregates,
};
use crate::stock::{STOCK, StockChange, StockRow, verify_stock};
use crate::tenants::Retention;

const DAY: Duration = Duration::from_secs(86_400);

/// Returns the ages of tenants: name, setting, age.
pub(super) fn keeps(of: &[(&str, &'static str, Duration)]) -> TenantKeeps {
    let keeps = TenantKeeps::default();
    keeps.set(listed(of));
    keeps
}

fn listed(of: &[(&str, &'static str, Duration)]) -> Vec<TenantKeep> {
    let keep = |(tenant_id, setting, keep): &(&str, &'static str, Duration)| TenantKeep {
        tenant_id: (*tenant_id).into(),
        setting,
        keep: *keep,
    };
    of.iter().map(keep).collect()
}

/// Returns all rows of a query, column by column.
fn rows(shard: &mut Shard, sql: &str) -> Vec<Vec<Value>> {
    let mut statement = shard.connection().prepare(sql).unwrap();
    let columns = statement.column_count();
    let read = |row: &rusqlite::Row<'_>| (0..columns).map(|at| row.get(at)).collect();
    statement.query_map([], read).unwrap().collect::<Result<_, _>>().unwrap()
}

/// Makes the first partitions of a stream look as if they were sealed at a time.
pub(super) fn age(shard: &mut Shard, stream: &str, partitions: u8, sealed_at: &str) {
    let sql = "UPDATE partition_catalog SET sealed_at = min(sealed_at, ?3) WHERE name IN (SELECT name FROM partition \
               WHERE stream = ?1 AND sealed_at IS NOT NULL ORDER BY first_id LIMIT ?2)";
    shard.connection().execute(sql, rusqlite::params![stream, partitions, sealed_at]).unwrap();
    shard.retain_now();
}

/// Runs upkeep until nothing leaves any more.
pub(super) fn settle(shard: &mut Shard) {
    shard.retain_now();
    let mut turns = 0;
    while shard.upkeep_pending() || shard.is_retaining() {
        if shard.upkeep_due() {
            shard.upkeep(Duration::from_micros(200)).unwrap();
        } else {
            // A thread reads, or sorts for a shard of another test.
            clock::pause(Duration::from_micros(100));
        }
        turns += 1;
        assert!(turns < 1_000_000, "upkeep does not end");
    }
}

fn check(shard: &Shard) {
    sound(shard.path());
    assert_eq!(verify_aggregates(shard.path(), &FAMILIES).unwrap().problems, Vec::<String>::new());
}

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Order>),
    /// The oldest partitions become old for the first tenant or, if `true`, for the server.
    Age(u8, bool),
    Slices(u8),
    Settle,
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => prop::collection::vec(order(), 1..14).prop_map(Step::Apply),
        3 => (1..4_u8, prop::bool::weighted(0.2)).prop_map(|(partitions, all)| Step::Age(partitions, all)),
        4 => (1..8_u8).prop_map(Step::Slices),
        2 => Just(Step::Settle),
        1 => Just(Step::Reopen),
    ]
}

/// Finds the orders that have left, and checks that they were old: only those of the first tenant, or the whole
/// partition. Returns the number of the former.
fn look(oracle: &mut Oracle, shard: &mut Shard) -> i64 {
    let mut by_tenant = 0;
    let partitions = "SELECT name, first_id, first_id + rows + erased, coalesce(sealed_at, '9') FROM partition \
                      WHERE stream = 'sales_order'";
    let partitions: Vec<(i64, i64, bool)> = rows(shard, partitions)
        .into_iter()
        .map(|row| match (&row[1], &row[2], &row[3]) {
            (Value::Integer(first), Value::Integer(end), Value::Text(at)) => {
                (*first, *end, at.as_str() < "2025")
            }
            _ => panic!("{row:?}"),
        })
        .collect();
    let stored = "SELECT o.id FROM sales_order o";
    let stored: BTreeSet<i64> = rows(shard, stored)
        .into_iter()
        .map(|row| if let Value::Integer(id) = row[0] { id } else { panic!("{row:?}") })
        .collect();
    let gone: Vec<i64> = oracle.rows.keys().copied().filter(|id| !stored.contains(id)).collect();
    assert_eq!(stored.len() + gone.len(), oracle.rows.len(), "rows appeared");
    for id in gone {
        let key = oracle.rows.remove(&id).unwrap();
        let partition = partitions.iter().find(|(first, end, _)| (*first..*end).contains(&id));
        if let Some((.., is_old)) = partition {
            assert!(*is_old && key.0 == 0, "an order of tenant {} left too early", key.0);
            by_tenant += 1;
        }
        oracle.leave(key);
    }
    by_tenant
}

fn run(steps: Vec<Step>, drops_sums: bool) {
    let dir = tempfile::tempdir().unwrap();
    let options = ShardOptions {
        partition_rows_max_of: vec![(&ORDERS, 9)],
        retention: vec![(&ORDERS, DAY * 365 * 20)],
        tenant_keeps: keeps(&[("tenant 0", "orders", DAY), ("nobody", "orders", DAY)]),
        drops_sums,
        ..options()
    };
    let open = || {
        let mut shard = super::reopen(dir.path(), &options);
        shard.store_mut::<OrderStore>().unwrap().0.shorten_runs(5);
        shard
    };
    let (mut shard, mut oracle, mut by_tenant) = (open(), Oracle::default(), 0);
    for step in steps {
        match step {
            Step::Apply(orders) => {
                let lane = oracle.model.lane(&orders, 0);
                assert_eq!(apply(&mut shard, &lane).unwrap(), oracle.take(&orders));
            }
            Step::Age(partitions, for_all) => {
                let sealed_at = if for_all { "2000-01-01T00:00:00Z" } else { "2024-01-01T00:00:00Z" };
                age(&mut shard, "sales_order", partitions, sealed_at);
            }
            Step::Slices(slices) => {
                for slice in 0..slices {
                    // An erasure discards what was read from the rows.
                    if slice == 3 {
                        shard.stop_building();
                    }
                    shard.upkeep(Duration::ZERO).unwrap();
                    by_tenant += look(&mut oracle, &mut shard);
                    check(&shard);
                    if !drops_sums {
                        assert_eq!(stored_sums(&mut shard), oracle.sums());
                    }
                }
            }
            Step::Settle => {
                settle(&mut shard);
                by_tenant += look(&mut oracle, &mut shard);
            }
            Step::Reopen => {
                shard.poison();
                shard = open();
            }
        }
    }
    settle(&mut shard);
    settle(&mut shard);
    by_tenant += look(&mut oracle, &mut shard);
    check(&shard);
    assert_eq!(shard.stored(&ORDERS), oracle.model.stored.len() as u64);
    if !drops_sums {
        assert_eq!(stored_sums(&mut shard), oracle.sums());
    }
    for (sql, what) in [
        ("SELECT count(*) FROM dropped_partition", "unfreed partitions"),
        (
            "SELECT count(*) FROM sales_order o JOIN partition p ON p.stream = 'sales_order' \
             AND o.id BETWEEN p.first_id AND p.first_id + p.rows + p.erased - 1 \
             JOIN tenant_row t ON t.id = o.tenant WHERE t.tenant_id = 'tenant 0' AND p.sealed_at < '2025'",
            "old orders of the tenant",
        ),
        ("SELECT count(*) FROM partition WHERE sealed_at IS NOT NULL AND rows = 0", "empty partitions"),
        (
            "SELECT count(*) FROM customer_row c WHERE NOT EXISTS \
             (SELECT 1 FROM sales_order o WHERE o.customer = c.id)",
            "customers without orders",
        ),
        (
            "SELECT count(*) FROM order_status_time WHERE id NOT IN (SELECT id FROM sales_order)",
            "status times without orders",
        ),
        ("SELECT count(*) FROM sales_item WHERE id / 1024 NOT IN (SELECT id FROM sales_order)", "lost items"),
    ] {
        assert_eq!(number(&mut shard, sql), 0, "{what}");
    }
    for table in
        rows(&mut shard, "SELECT name FROM partition WHERE stream = 'sales_order' AND indexed_at > ''")
    {
        let Value::Text(table) = &table[0] else { panic!("{table:?}") };
        for list in ["sales_product", "sales_customer"] {
            let list = table.replace("sales_order", list);
            let sql = format!("SELECT count(*) FROM {list} WHERE id NOT IN (SELECT id FROM {table})");
            assert_eq!(number(&mut shard, &sql), 0, "entries without orders");
        }
    }
    let dropped = "SELECT coalesce(sum(rows), 0) FROM retention_dropped WHERE kind = 'sales_order'";
    assert_eq!(number(&mut shard, dropped), oracle.next_id - oracle.model.stored.len() as i64);
    let of_tenants = format!("{dropped} AND reason = 'tenant'");
    assert!(number(&mut shard, &of_tenants) >= by_tenant);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn r3_orders_of_a_tenant_leave_and_their_sums_stay(steps in prop::collection::vec(any_step(), 1..28)) {
        run(steps, false);
    }

    #[test]
    fn r3_orders_of_a_tenant_leave_and_their_sums_leave_with_the_day(
        steps in prop::collection::vec(any_step(), 1..28),
    ) {
        run(steps, true);
    }
}

/// While orders of one partition leave, the next one gets its lists. A customer who was known to be in a partition without
/// lists leaves with the last order nevertheless.
#[test]
fn a_customer_leaves_with_a_partition_that_was_listed_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let options = ShardOptions {
        partition_rows_max_of: vec![(&ORDERS, 9)],
        tenant_keeps: keeps(&[("tenant 0", "orders", DAY)]),
        ..options()
    };
    let mut shard = super::reopen(dir.path(), &options);
    let mut oracle = Oracle::default();
    let mut store = |shard: &mut Shard, orders: &[Order]| {
        let lane = oracle.model.lane(orders, 0);
        assert_eq!(apply(shard, &lane).unwrap(), oracle.take(orders));
    };
    // The last order of each partition is another tenant's, so that no partition is dropped as a whole.
    let orders = |first: u8, customer: u8| -> Vec<Order> {
        (first..first + 9).map(|id| Order::of(u8::from(id == first + 8), id, customer)).collect()
    };
    store(&mut shard, &orders(0, 1));
    // The partition is sealed by the order that follows.
    store(&mut shard, &[Order::of(1, 19, 4)]);
    settle(&mut shard);
    let held = loop {
        match SortPermit::acquire() {
            Some(permit) => break permit,
            // A sort for a shard of another test.
            None => clock::pause(Duration::from_micros(100)),
        }
    };
    store(&mut shard, &orders(9, 2));
    store(&mut shard, &[Order::of(1, 18, 3)]);
    age(&mut shard, "sales_order", 2, "2024-01-01T00:00:00Z");
    let left = "SELECT count(*) FROM sales_order o JOIN tenant_row t ON t.id = o.tenant \
                WHERE t.tenant_id = 'tenant 0'";
    while number(&mut shard, left) == 16 {
        shard.upkeep(Duration::ZERO).unwrap();
    }
    assert!(shard.store_mut::<OrderStore>().unwrap().0.knows_unlisted());
    let indexed = "SELECT count(*) FROM partition WHERE stream = 'sales_order' AND indexed_at IS NOT NULL";
    assert_eq!((number(&mut shard, indexed), number(&mut shard, left) > 8), (1, true));
    drop(held);
    let path = shard.path().to_owned();
    let (store, connection, _) = shard.store_mut::<OrderStore>().unwrap();
    store.seal_next(connection, &path);
    assert_eq!((number(&mut shard, indexed), number(&mut shard, left) > 8), (2, true));
    settle(&mut shard);
    assert_eq!(number(&mut shard, left), 0);
    let orphans = "SELECT count(*) FROM customer_row c WHERE NOT EXISTS \
                   (SELECT 1 FROM sales_order o WHERE o.customer = c.id)";
    assert_eq!(number(&mut shard, orphans), 0);
    check(&shard);
}

pub(super) fn event(sequence: u64, tenant: &str, id: &str) -> (Sequence, u8, Vec<u8>) {
    let mut bytes = Vec::new();
    ServiceEventRow {
        // Three minutes, in an order of their own.
        timestamp_us: (sequence as i64 * 7_919) % 180_000_000,
        received_us: 7,
        tenant_id: tenant,
        event_id: id,
        source: ["s", "t"][sequence as usize % 2],
        event_type: "c",
        payload: "{}",
    }
    .encode(&mut bytes);
    (Sequence(sequence), SERVICE_EVENT.number(), bytes)
}

fn send(shard: &mut Shard, records: Vec<(Sequence, u8, Vec<u8>)>) -> Vec<Outcome> {
    let (lane, mut said) = (Lane(records), Vec::new());
    shard.apply(&[(KEYED, &lane)], &mut |_, _, outcome| said.push(outcome)).unwrap();
    said
}

/// Events of one tenant leave old partitions, with their buckets, at every step even if the process ends there. The
/// other tenant's rows are the same as before. A partition that was this tenant's alone is dropped, although older ones
/// remain, and the ids survive the loss of their tables.
#[test]
fn events_of_a_tenant_leave_with_their_buckets_and_may_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let of = |keeps: TenantKeeps| ShardOptions {
        partition_rows_max: 20,
        folder_id: [9; 16],
        tenant_keeps: keeps,
        ..options()
    };
    let mut shard = super::reopen(dir.path(), &of(TenantKeeps::default()));
    shard.store_mut::<EventStore>().unwrap().0.shorten_runs(25);
    let tenant_of = |n: u64| if (40..60).contains(&n) || n.is_multiple_of(3) { "mine" } else { "other" };
    let events: Vec<_> = (0..100).map(|n| (tenant_of(n), format!("evt_{n}"))).collect();
    for (n, (tenant, id)) in (1..).zip(&events) {
        assert_eq!(send(&mut shard, vec![event(n, tenant, id)]), [Outcome::Inserted]);
    }
    settle(&mut shard);
    assert_eq!(number(&mut shard, "SELECT count(*) FROM partition WHERE stream = 'service_event'"), 5);
    let others = "SELECT * FROM service_event WHERE tenant_id = 'other' ORDER BY id";
    let before = rows(&mut shard, others);
    // Four partitions are sealed. Three are old.
    age(&mut shard, "service_event", 3, "2024-01-01T00:00:00Z");
    drop(shard);

    let options = of(keeps(&[("mine", "events", DAY), ("other", "orders", DAY)]));
    let mut shard = super::reopen(dir.path(), &options);
    let mut left = shard.stored(&EVENTS);
    for _ in 0..200 {
        shard.retain_now();
        shard.upkeep(Duration::ZERO).unwrap();
        check(&shard);
        assert_eq!(rows(&mut shard, others), before);
        // A crash in the middle of a partition loses no progress.
        if shard.stored(&EVENTS) < left {
            left = shard.stored(&EVENTS);
            shard.poison();
            shard = super::reopen(dir.path(), &options);
            assert_eq!(shard.stored(&EVENTS), left);
        }
        std::thread::yield_now();
    }
    settle(&mut shard);
    check(&shard);
    assert_eq!(rows(&mut shard, others), before);
    let is_mine = |n: &u64| tenant_of(*n) == "mine";
    let gone = (0..60).filter(is_mine).count() as i64;
    let sql = "SELECT count(*) FROM service_event WHERE tenant_id = 'mine' AND id <= 60";
    assert_eq!(number(&mut shard, sql), 0);
    assert_eq!(shard.stored(&EVENTS) as i64, 100 - gone);
    let dropped = "SELECT rows FROM retention_dropped WHERE kind = 'service_event' AND reason = 'tenant'";
    assert_eq!(number(&mut shard, dropped), gone);
    let third = "SELECT count(*) FROM partition WHERE name = 'service_event_000003'";
    assert_eq!(number(&mut shard, third), 0, "it was empty");
    assert_eq!(crate::shard::dropped_upto(shard.connection(), &EVENTS, "mine").unwrap(), 60);
    assert_eq!(crate::shard::dropped_upto(shard.connection(), &EVENTS, "other").unwrap(), 0);

    // The ids are found even if they have to be read from the rows again, with gaps.
    shard.connection().execute_batch("DELETE FROM id_recent; DELETE FROM id_run").unwrap();
    shard.poison();
    let mut shard = super::reopen(dir.path(), &options);
    let mut sequence = 100;
    for (n, (tenant, id)) in (0..).zip(&events) {
        sequence += 1;
        let is_gone = is_mine(&n) && n < 60;
        let expected = if is_gone { Outcome::Inserted } else { Outcome::Conflict };
        assert_eq!(send(&mut shard, vec![event(sequence, tenant, id)]), [expected], "{id}");
    }
    check(&shard);
    drop(shard);
    let mut shard = super::reopen(dir.path(), &options);
    assert_eq!(send(&mut shard, vec![event(sequence + 1, "mine", "evt_0")]), [Outcome::Conflict]);
    check(&shard);
}

/// A changed age takes effect in an open shard. A quiet open partition is sealed for a tenant that has rows in it, and
/// not for another one.
#[test]
fn a_changed_age_takes_effect_while_the_shard_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let keeps = TenantKeeps::default();
    let options = ShardOptions { tenant_keeps: keeps.clone(), ..options() };
    let mut shard = super::reopen(dir.path(), &options);
    send(&mut shard, vec![event(1, "mine", "a"), event(2, "other", "b")]);
    settle(&mut shard);
    keeps.set(listed(&[("nobody", "events", Duration::from_micros(8))]));
    settle(&mut shard);
    assert_eq!(number(&mut shard, "SELECT count(sealed_at) FROM partition"), 0);
    keeps.set(listed(&[("mine", "events", DAY * 100), ("mine", "orders", Duration::from_micros(8))]));
    settle(&mut shard);
    assert_eq!((shard.stored(&EVENTS), number(&mut shard, "SELECT count(sealed_at) FROM partition")), (2, 0));
    keeps.set(listed(&[("mine", "events", Duration::from_micros(8))]));
    assert!(shard.upkeep_due(), "without waiting for the next search");
    settle(&mut shard);
    let left = rows(&mut shard, "SELECT tenant_id FROM service_event");
    assert_eq!(left, [[Value::Text("other".to_owned())]]);
    check(&shard);
    keeps.set(Vec::new());
    send(&mut shard, vec![event(3, "mine", "a")]);
    settle(&mut shard);
    assert_eq!(shard.stored(&EVENTS), 2);
}

#[test]
fn each_age_of_a_tenant_has_its_rows() {
    let of_streams = FAMILIES.streams().filter_map(|stream| Some(stream.tenant?.setting));
    let settings: BTreeSet<&str> =
        of_streams.chain(FAMILIES.ledgers().map(|ledger| ledger.setting)).collect();
    let ages = Retention::default().each();
    assert_eq!(settings, ages.into_iter().map(|(setting, _)| setting).collect());
}

#[test]
fn a_clock_that_jumped_ahead_deletes_no_rows_of_a_tenant() {
    let dir = tempfile::tempdir().unwrap();
    let keeps = keeps(&[("mine", "events", Duration::from_micros(8)), ("t", "stock", DAY)]);
    let options = ShardOptions { tenant_keeps: keeps, ..options() };
    let mut shard = super::reopen(dir.path(), &options);
    let year_us = 365 * 86_400_000_000;
    shard.wall_moves(year_us);
    send(&mut shard, vec![event(1, "mine", "a"), stock(2, "t", "e", 7)]);
    let is_left = |shard: &mut Shard| {
        shard.stored(&EVENTS) + number(shard, "SELECT count(*) FROM stock_event") as u64 == 2
    };
    settle(&mut shard);
    assert!(is_left(&mut shard));
    drop(shard);
    // The hold outlasts a restart.
    let mut shard = super::reopen(dir.path(), &options);
    settle(&mut shard);
    assert!(is_left(&mut shard));
    shard.wall_moves(-year_us);
    settle(&mut shard);
    settle(&mut shard);
    assert_eq!((shard.stored(&EVENTS), number(&mut shard, "SELECT count(*) FROM stock_event")), (0, 0));
}

fn stock(sequence: u64, tenant_id: &str, event_id: &str, received_us: i64) -> (Sequence, u8, Vec<u8>) {
    let observed = Observed { at_us: sequence as i64, received_us, tenant_id, product_id: "p", event_id };
    let mut bytes = Vec::new();
    StockRow { observed, change: StockChange::Delta(1) }.encode(&mut bytes);
    (Sequence(sequence), STOCK.number(), bytes)
}

fn price(sequence: u64, tenant_id: &str, event_id: &str, received_us: i64) -> (Sequence, u8, Vec<u8>) {
    let observed = Observed { at_us: sequence as i64, received_us, tenant_id, product_id: "p", event_id };
    let row = PriceRow { observed, price: 100, currency: Currency::parse("USD").unwrap() };
    let mut bytes = Vec::new();
    PriceEventRow::new(row, PriceRules { change_bp: 3_000, score_milli: 6_000, window: 2 })
        .encode(&mut bytes);
    (Sequence(sequence), PRICE_EVENT.number(), bytes)
}

/// Prices and stock events of a tenant leave as by the server's retention: levels, known ids and the newest accepted
/// prices stay. The tenants before and behind it lose nothing.
#[test]
fn prices_and_stock_events_of_a_tenant_leave_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let options = ShardOptions {
        tenant_keeps: keeps(&[("b", "stock", DAY), ("b", "prices", DAY), ("nobody", "prices", DAY)]),
        ..options()
    };
    let mut shard = super::reopen(dir.path(), &options);
    let (mut sequence, now_us) = (0, clock::unix_us());
    for n in 0..20 {
        for tenant in ["a", "b", "c"] {
            let received_us = if n < 15 { 7 } else { now_us };
            let id = format!("e{n}");
            sequence += 2;
            let records = vec![
                stock(sequence - 1, tenant, &id, received_us),
                price(sequence, tenant, &id, received_us),
            ];
            assert_eq!(send(&mut shard, records), [Outcome::Inserted; 2]);
        }
    }
    let others = [
        "SELECT e.* FROM stock_event e JOIN stock_level l ON l.id = e.product JOIN tenant_row t ON t.id = l.tenant \
         WHERE t.tenant_id <> 'b' ORDER BY e.product, e.event_id",
        "SELECT p.* FROM price_row p JOIN price_series s ON s.id = p.series JOIN tenant_row t ON t.id = s.tenant \
         WHERE t.tenant_id <> 'b' ORDER BY s.tenant, p.observed_at_us",
        "SELECT p.* FROM price_series p JOIN tenant_row t ON t.id = p.tenant WHERE t.tenant_id <> 'b' ORDER BY p.id",
        "SELECT * FROM stock_level ORDER BY id",
    ];
    let before = others.map(|sql| rows(&mut shard, sql));
    for turn in 0..120 {
        shard.retain_now();
        shard.upkeep(Duration::ZERO).unwrap();
        check(&shard);
        assert_eq!(verify_stock(shard.path()).unwrap().problems, Vec::<String>::new());
        assert_eq!(others.map(|sql| rows(&mut shard, sql)), before);
        if turn % 7 == 0 {
            shard.poison();
            shard = super::reopen(dir.path(), &options);
        }
        while turn % 5 == 4 && shard.upkeep_due() {
            shard.upkeep(Duration::ZERO).unwrap();
        }
    }
    settle(&mut shard);
    let mine = |table: &str| {
        format!(
            "SELECT count(*) FROM {table} WHERE tenant = (SELECT id FROM tenant_row WHERE tenant_id = 'b')"
        )
    };
    assert_eq!(number(&mut shard, &mine("price_row_all")), 5);
    assert_eq!(number(&mut shard, "SELECT count(*) FROM stock_event"), 45);
    for kind in ["price_row", "stock_event"] {
        let sql = format!("SELECT rows FROM retention_dropped WHERE kind = '{kind}' AND reason = 'tenant'");
        assert_eq!(number(&mut shard, &sql), 15, "{kind}");
    }
    // The id of a stock event stays known, that of a price does not.
    let again = vec![stock(sequence + 1, "b", "e0", now_us), price(sequence + 2, "b", "e0", now_us)];
    let said = send(&mut shard, again);
    assert!(said[0] != Outcome::Inserted && said[1] == Outcome::Inserted, "{said:?}");
    // The newest accepted prices stay, whatever their age is.
    let reader = open_reader(shard.path()).unwrap();
    shard.connection().execute("UPDATE price_row SET received_us = 7", []).unwrap();
    settle(&mut shard);
    let left: i64 = reader.query_row(&mine("price_row_all"), [], |row| row.get(0)).unwrap();
    assert_eq!(left, 2, "the window that is in force");
    check(&shard);
}
