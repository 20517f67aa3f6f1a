//! Segments: figures from columns equal those from rows, whatever happens to the orders. Where a segment is damaged,
//! the rows are read.

use std::time::Duration;

use futures_lite::future::block_on;
use proptest::prelude::*;
use rusqlite::{Connection, OptionalExtension as _};

use super::orders::{apply, settle};
use super::{Lane, options, reopen};
use crate::base::ids::{Sequence, ShardId};
use crate::base::money::Currency;
use crate::families::FAMILIES;
use crate::orders::{
    BatchBounds, ChosenOrder, ItemRow, ORDER, ORDER_STATUS, ORDERS, OrderBatch, OrderFilter, OrderParts,
    OrderSource, OrderStatus, SelectionCursor, StatusRow, StepCache, choose_orders, encode_order, last_sale,
    read_orders,
};
use crate::people::{ERASURE, ErasureRecord, RemovedOutside, Subject};
use crate::query::{ReadShard, Readers};
use crate::sales::{GroupBy, SalesPlan, SalesQuery, SalesResult, SalesSource, sales_from};
use crate::shard::read::TimeRange;
use crate::shard::{ErasureMode, Shard, ShardOptions, TenantKeep, TenantKeeps, verify_aggregates};

const DAY_US: i64 = 86_400_000_000;
const SHARDS: usize = 3;
const CURRENCIES: [&str; 3] = ["USD", "JPY", "KWD"];
const TENANTS: [&str; 3] = ["t0", "t1", "t2"];

#[derive(Clone, Debug)]
struct Order {
    tenant: usize,
    customer: u8,
    status: u8,
    currency: usize,
    at_us: i64,
    /// Product, category, quantity, price.
    items: Vec<(u8, u8, i64, i64)>,
}

fn order() -> impl Strategy<Value = Order> {
    let at_us = prop_oneof![
        4 => (0..20_i64, 0..86_400_i64).prop_map(|(day, second)| day * DAY_US + second * 1_000_000),
        1 => 0..20 * DAY_US,
        1 => Just(-40 * 365 * DAY_US - 1),
    ];
    let number =
        || prop_oneof![6 => 1..9_i64, 2 => 200..300_i64, 1 => 60_000..70_000_i64, 1 => 1 << 31..1_i64 << 33];
    let price = prop_oneof![6 => 0..20_000_i64, 1 => 1 << 20..1_i64 << 26];
    let items = prop::collection::vec((0..6_u8, 0..100_u8, number(), price), 1..5);
    let tenant = prop_oneof![4 => Just(0_usize), 2 => Just(1), 1 => Just(2)];
    (tenant, 0..7_u8, 1..7_u8, 0..CURRENCIES.len(), at_us, items).prop_map(
        |(tenant, customer, status, currency, at_us, items)| Order {
            tenant,
            customer,
            status,
            currency,
            at_us: at_us + 1_772_323_200_000_000,
            items,
        },
    )
}

impl Order {
    fn record(&self, order_id: &str) -> Vec<u8> {
        let names: Vec<(String, String)> = self
            .items
            .iter()
            .map(|(product, category, ..)| (format!("p{product}"), format!("c{category}")))
            .collect();
        let items = names.iter().zip(&self.items).map(|((product_id, category), item)| ItemRow {
            product_id,
            category,
            quantity: item.2,
            unit_price: item.3,
        });
        let parts = OrderParts {
            tenant_id: TENANTS[self.tenant],
            order_id,
            customer_id: &format!("customer {}", self.customer),
            customer_name: ["", "Ann", "Bob"][self.items.len() % 3],
            customer_email: "",
            status: OrderStatus::from_code(self.status).unwrap(),
            currency: Currency::parse(CURRENCIES[self.currency]).unwrap(),
            ordered_at_us: self.at_us,
        };
        let mut bytes = Vec::new();
        encode_order(&parts, (1, 1, 7), items, &mut bytes);
        bytes
    }
}

#[derive(Clone, Debug)]
enum Step {
    Apply(usize, Vec<Order>),
    /// Orders get statuses.
    Statuses(Vec<(prop::sample::Index, u8)>),
    Slices(usize, u8),
    Settle,
    /// A customer of the first tenant is erased, or gets a pseudonym.
    Erase(u8, bool),
    /// The oldest partitions of a shard become old for the second tenant or, if `true`, for the server.
    Age(usize, bool),
    Reopen(usize),
    /// The segments are lost.
    Lose(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..SHARDS, prop::collection::vec(order(), 1..14)).prop_map(|(at, orders)| Step::Apply(at, orders)),
        4 => prop::collection::vec((any::<prop::sample::Index>(), 1..7_u8), 1..9).prop_map(Step::Statuses),
        5 => (0..SHARDS, 1..9_u8).prop_map(|(at, slices)| Step::Slices(at, slices)),
        2 => Just(Step::Settle),
        1 => (0..7_u8, any::<bool>()).prop_map(|(customer, deletes)| Step::Erase(customer, deletes)),
        1 => (0..SHARDS, any::<bool>()).prop_map(|(at, all)| Step::Age(at, all)),
        1 => (0..SHARDS).prop_map(Step::Reopen),
        1 => (0..SHARDS).prop_map(Step::Lose),
    ]
}

/// A shard, and the number of records that it was sent.
struct Part {
    dir: tempfile::TempDir,
    shard: Option<Shard>,
    sent: u64,
}

impl Part {
    fn new() -> Part {
        let mut part = Part { dir: tempfile::tempdir().unwrap(), shard: None, sent: 0 };
        part.open();
        part
    }

    fn open(&mut self) {
        let keeps = TenantKeeps::default();
        let keep = Duration::from_secs(86_400);
        keeps.set(vec![TenantKeep { tenant_id: "t1".into(), setting: "orders", keep }]);
        let options = ShardOptions {
            partition_rows_max_of: vec![(&ORDERS, 11)],
            retention: vec![(&ORDERS, Duration::from_secs(86_400 * 365 * 20))],
            tenant_keeps: keeps,
            ..options()
        };
        if let Some(shard) = self.shard.take() {
            shard.poison();
        }
        self.shard = Some(reopen(self.dir.path(), &options));
    }

    fn shard(&mut self) -> &mut Shard {
        self.shard.as_mut().unwrap()
    }

    fn send(&mut self, records: Vec<(u8, Vec<u8>)>) {
        let numbered = records.into_iter().zip(self.sent + 1..);
        let lane = Lane(numbered.map(|((kind, bytes), n)| (Sequence(n), kind, bytes)).collect());
        self.sent += lane.0.len() as u64;
        apply(self.shard(), &lane).unwrap();
    }

    /// Erases a customer to the end.
    fn erase(&mut self, number: u64, customer: u8, deletes: bool) {
        let mode = if deletes { ErasureMode::Erase } else { ErasureMode::Pseudonymise };
        let subject = Subject::Customer {
            tenant_id: TENANTS[0].to_owned(),
            customer_id: format!("customer {customer}"),
            token: format!("anon-{number}"),
            names: Vec::new(),
            emails: Vec::new(),
        };
        let begin = ErasureRecord::Erase {
            id: format!("{number:032}"),
            began_us: 1,
            mode,
            subject: subject.clone(),
            names_truncated: false,
            removed: RemovedOutside::default(),
            batch: None,
        };
        let encoded = |record: ErasureRecord| {
            let mut bytes = Vec::new();
            record.encode(&mut bytes).unwrap();
            (ERASURE.number(), bytes)
        };
        self.send(vec![encoded(ErasureRecord::Suppress { mode, subject }), encoded(begin)]);
        let shard = self.shard();
        while super::erasure_turn(shard) {}
        shard.wal_truncated().unwrap();
    }

    fn verify(&mut self) {
        let problems = verify_aggregates(self.shard().path(), &FAMILIES).unwrap().problems;
        assert_eq!(problems, Vec::<String>::new());
    }
}

fn readers(parts: &mut [Part]) -> Readers {
    let shards =
        parts.iter_mut().zip(0..).map(|(part, number)| ReadShard::alone(number, part.shard().path()));
    Readers::start(shards.collect(), &[0], 1).unwrap()
}

const QUERIES: [&str; 13] = [
    "group_by=day",
    "group_by=hour",
    "group_by=category",
    "group_by=product",
    "group_by=day&currency=JPY",
    "group_by=product&currency=KWD",
    "group_by=day&tz=Asia/Kathmandu&to=2026-03-09T11:22:33.000001Z",
    "group_by=hour&from=2026-03-04T10:30:00Z&to=2026-03-11T10:30:00.5Z",
    "group_by=day&from=2026-03-02&to=2026-03-03",
    "group_by=category&from=2026-03-04T10:30:00Z&to=2026-03-11T10:30:00.5Z",
    "group_by=category&to=2020-01-01",
    "group_by=product&from=2026-03-05&to=2026-03-06&currency=USD",
    "group_by=product&from=2026-03-07T12:00:00Z",
];

/// Runs the upkeep of all shards until nothing is left to do. They take turns, because one at a time sorts.
fn settle_all(parts: &mut [Part]) {
    while parts.iter_mut().any(|part| part.shard().upkeep_pending()) {
        for part in parts.iter_mut() {
            if part.shard().upkeep_due() {
                part.shard().upkeep(Duration::from_micros(200)).unwrap();
            }
        }
        crate::base::clock::pause(Duration::from_micros(50));
    }
}

/// Compares the answers from columns with those from rows. Returns the number of groups.
fn compare(readers: &Readers, queries: impl Iterator<Item = &'static str> + Clone) -> usize {
    let mut groups = 0;
    for tenant in TENANTS {
        for text in queries.clone() {
            let plan = SalesPlan::new(tenant, Some(text)).unwrap();
            // The number of rows that are read depends on the source.
            let ask = |source| {
                let result = block_on(sales_from(readers, &plan.query, source));
                result.map(|result| SalesResult { rows_scanned: 0, ..result })
            };
            let [columns, rows, faster] =
                [SalesSource::Columns, SalesSource::Rows, SalesSource::Faster].map(ask);
            assert_eq!(format!("{columns:?}"), format!("{rows:?}"), "{tenant}: {text}");
            assert_eq!(format!("{faster:?}"), format!("{rows:?}"), "{tenant}: {text}");
            if plan.query.group_by == GroupBy::Product
                && let Ok(rows) = &rows
                && rows.incomplete.is_none()
            {
                // Without details, the sums are computed in another way: from segments, and from rows that are in none.
                let query = SalesQuery { with_details: false, ..plan.query.clone() };
                let sums = block_on(sales_from(readers, &query, SalesSource::Faster)).unwrap();
                let mut expected = rows.groups.clone();
                expected.iter_mut().for_each(|group| group.figures.details = None);
                assert_eq!(format!("{:?}", sums.groups), format!("{expected:?}"), "{tenant}: {text}, sums");
            }
            groups += rows.map_or(0, |result| result.groups.len());
        }
    }
    groups
}

const ALL_TIMES: TimeRange = TimeRange { from_us: None, to_us: None, descending: false };

/// When segments are lost while an export reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    Never,
    First,
    /// After the selection.
    Chosen,
    /// After this many batches.
    After(usize),
}

/// Returns what an export has of a shard, batch by batch. Nothing in the file changes.
fn exported(connection: &Connection, of: &OrderFilter, range: TimeRange, lost: Lost) -> Vec<String> {
    let snapshot = connection.unchecked_transaction().unwrap();
    let lose = |now: Lost| {
        if lost == now {
            snapshot.execute("DELETE FROM sales_segment", []).unwrap();
        }
    };
    lose(Lost::First);
    let (mut chosen, mut cursor) = (Vec::new(), Some(SelectionCursor::default()));
    while let Some(from) = cursor.take() {
        let step = choose_orders(&snapshot, ShardId(0), (of, &range), i64::MAX, from, Vec::new()).unwrap();
        chosen.extend(step.0);
        cursor = step.1;
    }
    lose(Lost::Chosen);
    let bounds = BatchBounds { orders: 5, items: 9, with_items: true };
    let (mut batches, mut cache, mut at) = (vec![format!("{chosen:?}")], StepCache::default(), 0);
    while at < chosen.len() {
        lose(Lost::After(batches.len() - 1));
        let mut batch = OrderBatch::default();
        while at < chosen.len() && !bounds.is_full(&batch) {
            let of = OrderSource { shard: ShardId(0), tenant_id: &of.tenant_id };
            at += read_orders(&snapshot, of, &chosen[at..], bounds, &mut batch, &mut cache).unwrap();
        }
        batches.push(written(&batch));
    }
    batches
}

/// Returns a batch's orders and items with all their columns.
fn written(batch: &OrderBatch) -> String {
    let mut text = String::new();
    for (order, items) in batch.orders_with_items() {
        let customer = batch.customers[order.customer as usize].map(|span| batch.text(span));
        let numbers = (
            order.ordered_at_us,
            order.received_us,
            order.total,
            order.units,
            order.item_count,
            order.items_end,
        );
        let names = (batch.text(order.order_id), customer, order.status, order.currency);
        text.push_str(&format!("{names:?} {numbers:?}\n"));
        for item in items {
            let product = batch.products[item.product as usize].map(|span| batch.text(span));
            text.push_str(&format!("  {} {product:?} {} {}\n", item.line, item.quantity, item.unit_price));
        }
    }
    text
}

/// Compares exports from columns with those from rows, also if segments are lost meanwhile. Returns the number of
/// batches.
fn compare_exports(part: &mut Part, lost: Lost) -> usize {
    let connection = part.shard().connection();
    let mut count = 0;
    for tenant in TENANTS {
        let of = OrderFilter { tenant_id: tenant.to_owned(), ..OrderFilter::default() };
        let amounts = OrderFilter {
            currency: Currency::parse("JPY"),
            statuses: 0b110_1100,
            total_max: Some(1_000_000_000),
            ..of.clone()
        };
        let product = OrderFilter { product_ids: vec!["p1".to_owned(), "p2".to_owned()], ..of.clone() };
        let day = TimeRange {
            from_us: Some(1_772_323_200_000_000 + 3 * DAY_US),
            to_us: Some(1_772_323_200_000_000 + 17 * DAY_US),
            descending: false,
        };
        for (of, range) in [(&of, ALL_TIMES), (&of, day), (&amounts, ALL_TIMES), (&product, ALL_TIMES)] {
            let rows = exported(connection, of, range, Lost::First);
            for lost in [Lost::Never, lost] {
                assert_eq!(exported(connection, of, range, lost), rows, "{of:?} {range:?} {lost:?}");
            }
            count += rows.len() - 1;
        }
    }
    count
}

/// Compares the last sale of a product with that of the rows.
fn compare_last_sale(readers: &Readers, parts: &mut [Part], product_id: &str) {
    let sql = "SELECT o.ordered_at_us, o.order_id FROM sales_order o JOIN tenant_row t ON t.id = o.tenant \
               WHERE t.tenant_id = ?1 AND o.status <= 4 AND EXISTS (SELECT 1 FROM sales_item i JOIN product_row p \
               ON p.id = i.product WHERE i.id / 1024 = o.id AND p.product_id = ?2) ORDER BY 1 DESC, 2 DESC LIMIT 1";
    for tenant in TENANTS {
        let of_part = |part: &mut Part| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            part.shard().connection().query_row(sql, [tenant, product_id], read).optional().unwrap()
        };
        let expected: Option<(i64, String)> = parts.iter_mut().filter_map(of_part).max();
        let found = block_on(last_sale(readers, tenant, product_id)).unwrap();
        let found = found.map(|sale| (sale.ordered_at_us, sale.order_id));
        assert_eq!(found, expected, "{tenant}: {product_id}");
    }
}

fn number(part: &mut Part, sql: &str) -> i64 {
    part.shard().connection().query_row(sql, [], |row| row.get(0)).unwrap()
}

fn run(steps: Vec<Step>) {
    let mut parts: Vec<Part> = (0..SHARDS).map(|_| Part::new()).collect();
    let readers = readers(&mut parts);
    let (mut sent, mut erased) = (Vec::new(), 0);
    for (at_step, step) in steps.into_iter().enumerate() {
        match step {
            Step::Apply(at, orders) => {
                let mut records = Vec::new();
                for order in orders {
                    let id = format!("o{}", sent.len());
                    records.push((ORDER.number(), order.record(&id)));
                    sent.push((at, order.tenant, id));
                }
                parts[at].send(records);
            }
            Step::Statuses(changes) if !sent.is_empty() => {
                for (index, code) in changes {
                    let (at, tenant, order_id) = index.get(&sent);
                    let mut bytes = Vec::new();
                    StatusRow {
                        received_us: 9,
                        occurred_us: 9,
                        status: OrderStatus::from_code(code).unwrap(),
                        tenant_id: TENANTS[*tenant],
                        order_id,
                    }
                    .encode(&mut bytes);
                    parts[*at].send(vec![(ORDER_STATUS.number(), bytes)]);
                }
            }
            Step::Statuses(_) => {}
            Step::Slices(at, slices) => {
                for _ in 0..slices {
                    parts[at].shard().upkeep(Duration::ZERO).unwrap();
                }
            }
            Step::Settle => settle_all(&mut parts),
            Step::Erase(customer, deletes) => {
                erased += 1;
                parts.iter_mut().for_each(|part| part.erase(erased, customer, deletes));
            }
            Step::Age(at, for_all) => {
                let sealed_at = if for_all { "2000-01-01T00:00:00Z" } else { "2024-01-01T00:00:00Z" };
                let sql = "UPDATE partition_catalog SET sealed_at = min(sealed_at, ?1) WHERE name IN \
                           (SELECT name FROM partition WHERE stream = 'sales_order' AND sealed_at IS NOT NULL \
                           ORDER BY first_id LIMIT 1)";
                parts[at].shard().connection().execute(sql, [sealed_at]).unwrap();
                parts[at].shard().retain_now();
            }
            Step::Reopen(at) => parts[at].open(),
            Step::Lose(at) => {
                parts[at].shard().connection().execute("DELETE FROM sales_segment", []).unwrap();
                parts[at].open();
            }
        }
        // All questions after every step would take minutes.
        compare(&readers, QUERIES.into_iter().skip(at_step % 4).step_by(4));
        let lost = [Lost::Chosen, Lost::After(0), Lost::After(1), Lost::After(2)][at_step / 4 % 4];
        compare_exports(&mut parts[at_step % SHARDS], lost);
        compare_last_sale(&readers, &mut parts, &format!("p{}", at_step % 6));
    }
    parts.iter_mut().for_each(Part::verify);
    settle_all(&mut parts);
    for part in &mut parts {
        part.verify();
        // Every sealed partition has its segments, and nothing else is left.
        let sql = "SELECT count(*) FROM partition p WHERE stream = 'sales_order' AND sealed_at IS NOT NULL \
                   AND NOT EXISTS (SELECT 1 FROM sales_segment WHERE id = p.first_id * 16) AND rows + erased > 0";
        assert_eq!(number(part, sql), 0);
        let sql = "SELECT count(*) FROM sales_segment s WHERE NOT EXISTS (SELECT 1 FROM partition p \
                   WHERE stream = 'sales_order' AND s.id / 16 BETWEEN first_id AND first_id + rows + erased - 1)";
        let unfreed = number(part, "SELECT count(*) FROM dropped_partition");
        assert!(unfreed > 0 || number(part, sql) == 0);
    }
    compare(&readers, QUERIES.into_iter());
    for part in &mut parts {
        compare_exports(part, Lost::After(1));
    }
    (0..7).for_each(|product| compare_last_sale(&readers, &mut parts, &format!("p{product}")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn r3_figures_from_columns_equal_those_from_rows(steps in prop::collection::vec(any_step(), 4..26)) {
        run(steps);
    }
}

/// Returns a shard with 24 orders in sealed partitions.
fn filled() -> Part {
    let mut part = Part::new();
    let order = |n: i64| Order {
        tenant: 0,
        customer: n as u8 % 5,
        status: 1 + n as u8 % 4,
        currency: 0,
        at_us: 1_772_323_200_000_000 + n * 7_000_000_000,
        items: vec![(n as u8 % 3, n as u8 % 80, 1 + n, 100 * n), (3, 1, 2, 3)],
    };
    for n in 0..24 {
        part.send(vec![(ORDER.number(), order(n).record(&format!("o{n}")))]);
    }
    settle(part.shard());
    part
}

#[test]
fn a_segment_with_any_damaged_byte_is_reported_and_its_rows_are_read_instead() {
    let mut part = filled();
    let readers = readers(std::slice::from_mut(&mut part));
    let plans = ["group_by=day", "group_by=product"].map(|text| SalesPlan::new("t0", Some(text)).unwrap());
    let answers = |plan: &SalesPlan| block_on(sales_from(&readers, &plan.query, SalesSource::Columns));
    let expected = plans.each_ref().map(|plan| answers(plan).unwrap());
    let check = || {
        for (plan, expected) in plans.iter().zip(&expected) {
            assert_eq!(answers(plan).unwrap(), *expected);
        }
    };
    let rows: Vec<(i64, Vec<u8>)> = {
        let mut statement = part.shard().connection().prepare("SELECT id, data FROM sales_segment").unwrap();
        let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        found.collect::<Result<_, _>>().unwrap()
    };
    assert!(rows.len() > 12 * 3);
    for (id, data) in &rows {
        let set = |part: &mut Part, data: &[u8]| {
            let sql = "UPDATE sales_segment SET data = ?2 WHERE id = ?1";
            part.shard().connection().execute(sql, rusqlite::params![id, data]).unwrap();
        };
        let mut damages: Vec<Vec<u8>> = Vec::new();
        for at in (0..data.len()).step_by(3).chain([data.len() - 1]) {
            let mut damaged = data.clone();
            damaged[at] ^= 0x40;
            damages.push(damaged);
        }
        damages.extend([&data[..data.len() - 1], &[], &[data.as_slice(), &[0]].concat()].map(<[u8]>::to_vec));
        // Another row's bytes are damage too.
        let (_, other) = rows.iter().find(|(other, _)| other % 16 == id % 16 && other != id).unwrap();
        damages.push(other.clone());
        let count = damages.len();
        for (number, damaged) in damages.iter().enumerate() {
            set(&mut part, damaged);
            check();
            if number % 16 == 0 || number + 4 >= count {
                let problems = verify_aggregates(part.shard().path(), &FAMILIES).unwrap().problems;
                let place = format!("sales_segment {id}:");
                assert!(problems.iter().any(|problem| problem.contains(&place)), "{problems:?}");
            }
        }
        set(&mut part, data);
    }
    // A start makes damaged segments again.
    let (last, data) = rows.iter().rfind(|(id, _)| id % 16 == 4).unwrap();
    for (id, _) in [&rows[0], &rows[3], &(*last, data.clone())] {
        let sql = "UPDATE sales_segment SET data = x'0102' WHERE id = ?1";
        part.shard().connection().execute(sql, [id]).unwrap();
    }
    part.open();
    settle(part.shard());
    check();
    assert_eq!(verify_aggregates(part.shard().path(), &FAMILIES).unwrap().problems, Vec::<String>::new());
    // Without a head, the rows are read. Upkeep makes the segment again after a restart.
    let heads: Vec<i64> = rows.iter().map(|(id, _)| *id).filter(|id| id % 16 == 0).collect();
    let delete = |part: &mut Part, id: i64| {
        part.shard().connection().execute("DELETE FROM sales_segment WHERE id = ?1", [id]).unwrap()
    };
    delete(&mut part, heads[0]);
    delete(&mut part, heads[1]);
    delete(&mut part, heads[2] + 4);
    check();
    delete(&mut part, heads[2]);
    check();
    part.open();
    settle(part.shard());
    part.verify();
    let count = number(&mut part, "SELECT count(*) FROM sales_segment");
    assert_eq!(count, rows.len() as i64);
}

#[test]
fn a_segment_is_made_again_when_more_than_a_hundredth_of_its_orders_have_changed() {
    let mut part = filled();
    let status = |n: u8, code: u8| {
        let mut bytes = Vec::new();
        StatusRow {
            received_us: 9,
            occurred_us: 9,
            status: OrderStatus::from_code(code).unwrap(),
            tenant_id: "t0",
            order_id: &format!("o{n}"),
        }
        .encode(&mut bytes);
        vec![(ORDER_STATUS.number(), bytes)]
    };
    let stale = "SELECT count(*) FROM sales_segment_stale";
    part.send(status(2, 6));
    part.send(status(13, 5));
    // Here, one order is more than a hundredth.
    assert_eq!(number(&mut part, stale), 2);
    part.verify();
    settle(part.shard());
    assert_eq!(number(&mut part, stale), 0);
    part.verify();
    // A change while a segment is being made is on the list, and is applied when the segment is stored.
    part.send(status(2, 1));
    while part.shard().upkeep_due() {
        part.shard().upkeep(Duration::ZERO).unwrap();
    }
    part.send(status(2, 4));
    part.verify();
    settle(part.shard());
    part.verify();
    assert_eq!(number(&mut part, stale), 0);
}

/// Here, small segments have two orders and others four.
#[test]
fn small_segments_of_the_open_partition_become_one_when_they_are_complete_or_it_is_sealed() {
    let mut part = Part::new();
    let heads = "SELECT count(*) FROM sales_segment WHERE id % 16 = 0";
    let merged = "SELECT count(*) FROM sales_segment WHERE id % 16 = 0 AND substr(data, 6, 1) = x'04'";
    let stale = "SELECT count(*) FROM sales_segment_stale";
    let order = |n: u8| {
        let items = vec![(n % 4, n % 9, 1 + i64::from(n), 100)];
        let at_us = 1_772_323_200_000_000 + i64::from(n) * DAY_US;
        let order =
            Order { tenant: 0, customer: n % 5, status: 1, currency: usize::from(n % 3), at_us, items };
        vec![(ORDER.number(), order.record(&format!("o{n}")))]
    };
    for (n, counts) in (0..13_u8).zip([0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4]) {
        part.send(order(n));
        settle(part.shard());
        part.verify();
        let expected = (counts, i64::from(n + 1) / 4 - i64::from(n > 10));
        assert_eq!((number(&mut part, heads), number(&mut part, merged)), expected, "{n}");
        if n == 2 {
            let mut bytes = Vec::new();
            let (status, order_id) = (OrderStatus::from_code(6).unwrap(), "o1");
            StatusRow { received_us: 9, occurred_us: 9, status, tenant_id: "t0", order_id }
                .encode(&mut bytes);
            part.send(vec![(ORDER_STATUS.number(), bytes)]);
            assert_eq!(number(&mut part, stale), 1);
        }
    }
    assert_eq!(number(&mut part, stale), 0);
    // The items of deleted orders are in no segment: neither in those that are made again, nor in the one that replaces
    // small ones.
    part.erase(1, 2, true);
    part.verify();
    (13..15).for_each(|n| part.send(order(n)));
    settle(part.shard());
    part.verify();
    let of_three_items = format!("{merged} AND substr(data, 10, 1) = x'03'");
    assert_eq!(number(&mut part, &of_three_items), 3);
}

#[test]
fn x1_an_export_reads_the_same_from_columns_and_rows_and_from_columns_without_rows_of_items() {
    let mut part = filled();
    assert!(compare_exports(&mut part, Lost::After(2)) > 5);
    let of = OrderFilter { tenant_id: TENANTS[0].to_owned(), ..OrderFilter::default() };
    let connection = part.shard().connection();
    let whole = exported(connection, &of, ALL_TIMES, Lost::Never);
    // Only columns are read: without the rows of items, the items are the same.
    let covered: i64 = connection
        .query_row("SELECT count(*) FROM sales_segment WHERE id % 16 = 0", [], |row| row.get(0))
        .unwrap();
    assert!(covered > 4);
    let items = "SELECT replace(name, 'sales_order', 'sales_item') FROM partition \
                 WHERE stream = 'sales_order' AND sealed_at IS NOT NULL";
    let mut names = connection.prepare(items).unwrap();
    let names: Vec<String> =
        names.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(names.len(), 2);
    for name in names {
        connection.execute(&format!("DELETE FROM {name}"), []).unwrap();
    }
    let read = exported(connection, &of, ALL_TIMES, Lost::Never);
    assert_eq!(read[..4], whole[..4]);
    // An order that is gone is an error as without a segment, although its segment still has it.
    let mut batch = OrderBatch::default();
    let bounds = BatchBounds { orders: 5, items: 9, with_items: true };
    let of = OrderSource { shard: ShardId(0), tenant_id: TENANTS[0] };
    let (partition, id): (String, i64) = connection
        .query_row("SELECT name, first_id FROM partition WHERE stream = 'sales_order' LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    connection.execute(&format!("DELETE FROM {partition} WHERE id = ?1"), [id + 1]).unwrap();
    let chosen = [0, 1].map(|place| ChosenOrder { id: id + place, status: OrderStatus::ALL[0] });
    let error =
        read_orders(connection, of, &chosen, bounds, &mut batch, &mut StepCache::default()).unwrap_err();
    assert!(error.to_string().contains("no longer exist"), "{error}");
}

/// Whatever is damaged in a segment, an export has the values of the rows.
#[test]
fn an_export_of_damaged_segments_is_that_of_the_rows() {
    let mut part = filled();
    let of = OrderFilter { tenant_id: TENANTS[0].to_owned(), ..OrderFilter::default() };
    let connection = part.shard().connection();
    let rows = exported(connection, &of, ALL_TIMES, Lost::First);
    connection.execute_batch("CREATE TEMP TABLE kept AS SELECT * FROM sales_segment").unwrap();
    for column in 0..12 {
        for damage in [
            "DELETE FROM sales_segment",
            "UPDATE sales_segment SET data = x'00'",
            "UPDATE sales_segment SET data = substr(data, 1, length(data) - 1)",
        ] {
            let sql = format!("{damage} WHERE id % 16 = {column}");
            assert!(connection.execute(&sql, []).unwrap() > 0);
            assert_eq!(exported(connection, &of, ALL_TIMES, Lost::Never), rows, "{sql}");
            connection.execute("INSERT OR REPLACE INTO sales_segment SELECT * FROM kept", []).unwrap();
        }
    }
}
