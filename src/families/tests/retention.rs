//! Retention of orders: after any sequence of steps and crashes, the rows that remain are those of partitions that are
//! not old, an id that left is new again, and the sums equal the rows plus what was dropped (R3).

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::orders::{Order, apply, order, settle};
use super::sums_oracle::{Day, Oracle, day_of, number, stored_sums};
use super::{HOT, KEYED, Lane, clicks, options, sound};
use crate::base::ids::Sequence;
use crate::base::money::Currency;
use crate::base::observed::Observed;
use crate::clicks::CLICKS;
use crate::families::FAMILIES;
use crate::orders::{
    ItemRow, ORDER, ORDER_STATUS, ORDERS, OrderParts, OrderStatus, OrderStore, StatusRow, encode_order,
};
use crate::shard::{Outcome, Shard, ShardOptions, verify_aggregates};
use crate::stock::{STOCK, STOCK_EVENTS, StockChange, StockRow, verify_stock};

const DAY_US: i64 = 86_400_000_000;

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Order>),
    Statuses(Vec<(u8, u8, u8)>),
    /// The oldest partitions become old.
    Age(u8),
    Slices(u8),
    Settle,
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    let statuses = prop::collection::vec((0..2_u8, 0..30_u8, 1..7_u8), 1..8);
    prop_oneof![
        5 => prop::collection::vec(order(), 1..14).prop_map(Step::Apply),
        2 => statuses.prop_map(Step::Statuses),
        2 => (1..3_u8).prop_map(Step::Age),
        3 => (1..6_u8).prop_map(Step::Slices),
        2 => Just(Step::Settle),
        1 => Just(Step::Reopen),
    ]
}

/// Moves the orders of dropped partitions.
fn look(oracle: &mut Oracle, shard: &mut Shard) {
    let sql = "SELECT coalesce(min(first_id), 1) FROM partition WHERE stream = 'sales_order'";
    let first_id: i64 = shard.connection().query_row(sql, [], |row| row.get(0)).unwrap();
    while let Some(entry) = oracle.rows.first_entry().filter(|entry| *entry.key() < first_id) {
        let key = entry.remove();
        oracle.leave(key);
    }
}

fn check(shard: &mut Shard, oracle: &Oracle, drops_sums: bool) {
    assert_eq!(shard.stored(&ORDERS), oracle.model.stored.len() as u64);
    sound(shard.path());
    assert_eq!(verify_aggregates(shard.path(), &FAMILIES).unwrap().problems, Vec::<String>::new());
    let sums = oracle.sums();
    if !drops_sums {
        assert_eq!(stored_sums(shard), sums);
        return;
    }
    let live: BTreeSet<Day> = oracle
        .model
        .stored
        .values()
        .filter(|(_, now)| OrderStatus::from_code(*now).unwrap().is_sale())
        .map(|(order, _)| day_of(order))
        .collect();
    let stored = stored_sums(shard);
    assert!(live.iter().all(|day| stored.contains_key(day)), "days with sales have sums");
    for (day, sum) in stored {
        assert!(sum[0] <= sums[&day][0], "{day:?}");
    }
}

fn run(steps: Vec<Step>, drops_sums: bool) {
    let dir = tempfile::tempdir().unwrap();
    let options = ShardOptions {
        partition_rows_max_of: vec![(&ORDERS, 9)],
        retention: vec![(&ORDERS, Duration::from_secs(86_400))],
        drops_sums,
        ..options()
    };
    let open = || {
        let mut shard = super::reopen(dir.path(), &options);
        shard.store_mut::<OrderStore>().unwrap().0.shorten_runs(5);
        shard
    };
    let (mut shard, mut oracle) = (open(), Oracle::default());
    for step in steps {
        match step {
            Step::Apply(orders) => {
                let lane = oracle.model.lane(&orders, 0);
                assert_eq!(apply(&mut shard, &lane).unwrap(), oracle.take(&orders));
            }
            Step::Statuses(changes) => {
                let (mut lane, mut expected) = (Lane::default(), Vec::new());
                for (tenant, id, code) in changes {
                    oracle.model.applied += 1;
                    let mut bytes = Vec::new();
                    StatusRow {
                        received_us: 9,
                        occurred_us: 9,
                        status: OrderStatus::from_code(code).unwrap(),
                        tenant_id: &format!("tenant {tenant}"),
                        order_id: &format!("ord-{id:02}"),
                    }
                    .encode(&mut bytes);
                    lane.0.push((Sequence(oracle.model.applied), ORDER_STATUS.number(), bytes));
                    expected.push(match oracle.model.stored.get_mut(&(tenant, id)) {
                        None => Outcome::Missing,
                        Some((_, now)) if *now == code => Outcome::Duplicate,
                        Some((_, now)) => {
                            *now = code;
                            Outcome::Inserted
                        }
                    });
                }
                assert_eq!(apply(&mut shard, &lane).unwrap(), expected);
            }
            Step::Age(partitions) => {
                let sql = "UPDATE partition_catalog SET sealed_at = '2024-01-01T00:00:00Z' WHERE name IN \
                           (SELECT name FROM partition WHERE stream = 'sales_order' AND sealed_at IS NOT NULL \
                           ORDER BY first_id LIMIT ?1)";
                shard.connection().execute(sql, [partitions]).unwrap();
                shard.retain_now();
            }
            Step::Slices(slices) => {
                for _ in 0..slices {
                    shard.retain_now();
                    shard.upkeep(Duration::ZERO).unwrap();
                    look(&mut oracle, &mut shard);
                    check(&mut shard, &oracle, drops_sums);
                }
            }
            Step::Settle => {
                shard.retain_now();
                settle(&mut shard);
                look(&mut oracle, &mut shard);
            }
            Step::Reopen => {
                shard.poison();
                shard = open();
            }
        }
    }
    settle(&mut shard);
    shard.retain_now();
    settle(&mut shard);
    look(&mut oracle, &mut shard);
    check(&mut shard, &oracle, drops_sums);
    assert_eq!(number(&mut shard, "SELECT count(*) FROM dropped_partition"), 0);
    let orphans = "SELECT count(*) FROM customer_row c WHERE NOT EXISTS \
                   (SELECT 1 FROM sales_order o WHERE o.customer = c.id)";
    assert_eq!(number(&mut shard, orphans), 0, "customers without orders");
    let times = "SELECT count(*) FROM order_status_time WHERE id NOT IN (SELECT id FROM sales_order)";
    assert_eq!(number(&mut shard, times), 0, "status times without orders");
    let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name GLOB 'sales_*_00000?'";
    let partitions = "SELECT 2 * count(*) + 2 * count(indexed_at) FROM partition \
                      WHERE stream = 'sales_order'";
    let [tables, partitions] = [tables, partitions].map(|sql| number(&mut shard, sql));
    assert!(tables <= partitions, "{tables} tables of partitions that need {partitions}");
    let dropped = "SELECT coalesce(sum(rows), 0) FROM retention_dropped WHERE kind = 'sales_order'";
    let gone = oracle.next_id - oracle.model.stored.len() as i64;
    assert_eq!(number(&mut shard, dropped), gone);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn r3_orders_leave_and_their_sums_stay(steps in prop::collection::vec(any_step(), 1..24)) {
        run(steps, false);
    }

    #[test]
    fn r3_orders_leave_and_their_sums_leave_with_the_day(steps in prop::collection::vec(any_step(), 1..24)) {
        run(steps, true);
    }
}

/// The oldest partitions of clicks and orders and the oldest stock events leave while their kind is too large, even if
/// the clock is not trusted. Less is left than the limit, and not much less.
#[test]
fn what_is_too_large_loses_its_oldest_rows() {
    let dir = tempfile::tempdir().unwrap();
    let limit = 64 << 10;
    let options = ShardOptions {
        partition_rows_max: 100,
        partition_rows_max_of: vec![(&ORDERS, 50)],
        retention_bytes: vec![(&CLICKS, limit), (&ORDERS, limit)],
        ledger_bytes: vec![(&STOCK_EVENTS, limit)],
        page_bytes: 1_024,
        ..options()
    };
    let mut shard = super::reopen(dir.path(), &options);
    shard.wall_moves(365 * DAY_US);
    let mut applied = 0;
    for batch in 0..60_u64 {
        let from = shard.position(HOT).0 + 1;
        shard.apply(&[(HOT, &clicks(from..=from + 99))], &mut |_, _, _| {}).unwrap();
        let mut lane = Lane::default();
        for n in batch * 30..batch * 30 + 30 {
            let (tenant_id, product_id) = ("t", &*format!("p{}", n % 3));
            let event_id = &*format!("a rather long name of an event {n}");
            let observed =
                Observed { at_us: n as i64, received_us: n as i64, tenant_id, product_id, event_id };
            let mut bytes = Vec::new();
            StockRow { observed, change: StockChange::Delta(1) }.encode(&mut bytes);
            applied += 1;
            lane.0.push((Sequence(applied), STOCK.number(), bytes));
            let parts = OrderParts {
                tenant_id,
                order_id: event_id,
                customer_id: "c",
                customer_name: "",
                customer_email: "",
                status: OrderStatus::Paid,
                currency: Currency::parse("USD").unwrap(),
                ordered_at_us: n as i64 * 3_600_000_000,
            };
            let item = ItemRow { product_id, category: "tea", quantity: 1, unit_price: 5 };
            let mut bytes = Vec::new();
            encode_order(&parts, (0, 0, 1), [item].into_iter(), &mut bytes);
            applied += 1;
            lane.0.push((Sequence(applied), ORDER.number(), bytes));
        }
        shard.apply(&[(KEYED, &lane)], &mut |_, _, _| {}).unwrap();
    }
    let size = |shard: &mut Shard, names: &str| {
        let sql = format!("SELECT coalesce(sum(pgsize - unused), 0) FROM dbstat WHERE name GLOB '{names}'");
        number(shard, &sql) as u64
    };
    let kinds = ["click_0*", "sales_[opic]*_0*", "stock_event*"];
    assert!(
        kinds.iter().all(|names| size(&mut shard, names) > limit + limit / 4),
        "there is too much at first"
    );
    for turn in 0.. {
        if turn % 50 == 0 {
            shard.retain_now();
        }
        shard.upkeep(Duration::ZERO).unwrap();
        std::thread::yield_now();
        let is_small = kinds.iter().all(|names| size(&mut shard, names) <= limit + limit / 8);
        if turn % 200 == 199 && is_small && !shard.is_retaining() {
            break;
        }
        assert!(turn < 1_000_000, "{:?}", kinds.map(|names| size(&mut shard, names)));
    }
    for names in kinds {
        assert!(size(&mut shard, names) > limit / 2, "{names}");
    }
    assert_eq!(number(&mut shard, "SELECT min(received_us) > 0 FROM stock_event"), 1);
    assert_eq!(number(&mut shard, "SELECT max(received_us) FROM stock_event"), 1_799);
    assert_eq!(number(&mut shard, "SELECT max(user_id) FROM events"), 6_000);
    let reasons = "SELECT count(*) FROM retention_dropped WHERE reason = 'size' AND rows > 0";
    assert_eq!(number(&mut shard, reasons), 3);
    sound(shard.path());
    assert_eq!(verify_aggregates(shard.path(), &FAMILIES).unwrap().problems, Vec::<String>::new());
    assert_eq!(verify_stock(shard.path()).unwrap().problems, Vec::<String>::new());
}
