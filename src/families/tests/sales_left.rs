//! Sales after retention, compared with a list of every order: a figure in an answer is right, a range that needs no
//! deleted order is answered, and every other answer names the days that it does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_lite::future::block_on;
use proptest::prelude::*;

use super::orders::{apply, settle};
use super::{Lane, options};
use crate::base::bucket_size::BucketSize;
use crate::base::clock;
use crate::base::ids::Sequence;
use crate::base::money::Currency;
use crate::orders::{ItemRow, ORDER, ORDER_STATUS, ORDERS, OrderParts, OrderStatus, StatusRow, encode_order};
use crate::query::{QueryError, ReadShard, Readers};
use crate::sales::{SalesPlan, SalesResult, SalesSource, sales_from};
use crate::shard::{Outcome, Shard, ShardOptions, open_reader};

const HOUR_US: i64 = BucketSize::Hour.us();
const DAY_US: i64 = BucketSize::Day.us();
/// 2026-03-01T00:00:00Z.
const FIRST_US: i64 = 1_772_323_200_000_000;
/// A day long after the others.
const FAR_DAY: i64 = 26_604;
const SHARDS: usize = 2;
const PRODUCTS: [&str; 3] = ["p0", "p1", "p2"];
const CATEGORIES: [&str; 3] = ["c0", "c1", "c0"];

#[derive(Clone, Debug)]
struct Order {
    day: i64,
    hour: i64,
    yen: bool,
    customer: u8,
    /// Numbers of different products.
    products: BTreeSet<usize>,
    units: i64,
}

impl Order {
    fn at_us(&self) -> i64 {
        FIRST_US + self.day * DAY_US + self.hour * HOUR_US
    }

    fn price(product: usize) -> i64 {
        100 + 10 * product as i64
    }

    fn total(&self) -> i64 {
        self.products.iter().map(|product| self.units * Order::price(*product)).sum()
    }

    fn currency(&self) -> &'static str {
        if self.yen { "JPY" } else { "USD" }
    }

    fn record(&self, order_id: &str) -> Vec<u8> {
        let items = self.products.iter().map(|product| ItemRow {
            product_id: PRODUCTS[*product],
            category: CATEGORIES[*product],
            quantity: self.units,
            unit_price: Order::price(*product),
        });
        let parts = OrderParts {
            tenant_id: "t",
            order_id,
            customer_id: &format!("c{}", self.customer),
            customer_name: "",
            customer_email: "",
            status: OrderStatus::Paid,
            currency: Currency::parse(self.currency()).unwrap(),
            ordered_at_us: self.at_us(),
        };
        let mut bytes = Vec::new();
        encode_order(&parts, (1, 1, 7), items, &mut bytes);
        bytes
    }
}

fn order() -> impl Strategy<Value = Order> {
    let day = prop_oneof![20 => 0..8_i64, 1 => Just(FAR_DAY)];
    let products = prop::collection::btree_set(0..PRODUCTS.len(), 1..3);
    (day, 0..24_i64, any::<bool>(), 0..5_u8, products, 1..4_i64).prop_map(
        |(day, hour, yen, customer, products, units)| Order { day, hour, yen, customer, products, units },
    )
}

#[derive(Clone, Debug)]
enum Step {
    Apply(usize, Vec<Order>),
    Cancel(prop::sample::Index),
    /// The oldest partitions of a shard become old.
    Age(usize, u8),
    /// Slices of upkeep, and queries after each.
    Slices(usize, u8, Vec<Query>),
}

fn any_step() -> impl Strategy<Value = Step> {
    let queries = prop::collection::vec(query(), 1..4);
    prop_oneof![
        4 => (0..SHARDS, prop::collection::vec(order(), 1..12)).prop_map(|(at, orders)| Step::Apply(at, orders)),
        1 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        2 => (0..SHARDS, 1..3_u8).prop_map(|(at, count)| Step::Age(at, count)),
        4 => (0..SHARDS, 1..9_u8, queries).prop_map(|(at, slices, queries)| Step::Slices(at, slices, queries)),
    ]
}

#[derive(Clone, Debug)]
struct Query {
    group_by: &'static str,
    exact: bool,
    with_details: bool,
    /// In half days since the first day.
    from: Option<i64>,
    to: Option<i64>,
    currency: Option<&'static str>,
    /// The zone and its offset, in minutes.
    zone: (&'static str, i64),
}

fn query() -> impl Strategy<Value = Query> {
    let of = prop::sample::select(vec!["day", "hour", "product", "category"]);
    let range = (prop::option::of(-2..16_i64), prop::option::of(1..8_i64));
    let currency = prop_oneof![3 => Just(None), 1 => Just(Some("USD")), 1 => Just(Some("JPY"))];
    let zone = prop::sample::select(vec![("UTC", 0), ("Asia/Tokyo", 540), ("Asia/Kathmandu", 345)]);
    (of, any::<bool>(), any::<bool>(), range, currency, zone).prop_map(
        |(group_by, exact, with_details, (from, length), currency, zone)| {
            let to = length.map(|length| from.unwrap_or(0) + length);
            Query { group_by, exact, with_details, from, to, currency, zone }
        },
    )
}

fn half_days(halves: i64) -> i64 {
    FIRST_US + halves * DAY_US / 2
}

fn day_of(us: i64) -> i64 {
    us - us.rem_euclid(DAY_US)
}

impl Query {
    fn text(&self) -> String {
        let mut text = format!("group_by={}&tz={}", self.group_by, self.zone.0);
        text += if self.exact { "&precision=exact" } else { "&precision=approx" };
        if !self.with_details {
            text += "&fields=orders,units,revenue";
        }
        for (name, halves) in [("from", self.from), ("to", self.to)] {
            if let Some(halves) = halves {
                text += &format!("&{name}={}", clock::rfc3339(half_days(halves)));
            }
        }
        text + &self.currency.map(|code| format!("&currency={code}")).unwrap_or_default()
    }

    fn range(&self) -> (i64, i64) {
        (self.from.map_or(i64::MIN, half_days), self.to.map_or(i64::MAX, half_days))
    }

    fn is_by_time(&self) -> bool {
        ["day", "hour"].contains(&self.group_by)
    }

    /// Returns the period of a group by time that contains a time.
    fn period(&self, us: i64) -> (i64, i64) {
        let (length, offset) =
            (if self.group_by == "day" { DAY_US } else { HOUR_US }, self.zone.1 * 60_000_000);
        let start_us = us - (us + offset).rem_euclid(length);
        (start_us, start_us + length)
    }

    fn selects(&self, order: &Order) -> bool {
        let range = self.range();
        (range.0..range.1).contains(&order.at_us())
            && self.currency.is_none_or(|code| code == order.currency())
    }

    /// Returns `true` if the figures require the rows of a day.
    fn requires_rows(&self, day_us: i64) -> bool {
        let range = self.range();
        let is_at_an_edge = [range.0, range.1]
            .into_iter()
            .any(|edge| ![i64::MIN, i64::MAX].contains(&edge) && edge != day_us && day_of(edge) == day_us);
        match self.group_by {
            "day" | "hour" => (self.exact && self.with_details) || self.zone.1 % 60 != 0,
            "category" => (self.exact && self.with_details) || is_at_an_edge,
            _ => self.with_details || is_at_an_edge,
        }
    }

    fn contains_a_part_of(&self, day_us: i64) -> bool {
        let range = self.range();
        day_us.saturating_add(DAY_US) > range.0 && day_us < range.1
    }
}

/// Start, name and currency.
type Key = (i64, String, &'static str);
/// Orders, units, revenue, customers and the median.
type Row = (i64, i64, i64, Option<(u64, i64)>);

#[derive(Default)]
struct Group {
    row: (i64, i64, i64),
    customers: BTreeSet<u8>,
    totals: Vec<i64>,
}

impl Group {
    fn add(&mut self, order: &Order, units: i64, revenue: i64) {
        let (orders, all_units, all_revenue) = self.row;
        self.row = (orders + 1, all_units + units, all_revenue + revenue);
        self.customers.insert(order.customer);
        self.totals.push(order.total());
    }

    fn done(mut self, with_details: bool) -> Row {
        self.totals.sort_unstable();
        let median = self.totals[self.totals.len().div_ceil(2) - 1];
        let details = with_details.then_some((self.customers.len() as u64, median));
        (self.row.0, self.row.1, self.row.2, details)
    }
}

/// One shard, and what it was sent.
struct Half {
    _dir: tempfile::TempDir,
    shard: Shard,
    applied: u64,
    /// The orders by row id, with their numbers.
    live: BTreeMap<i64, (u64, Order)>,
    cancelled: BTreeSet<u64>,
    dropped: Vec<Order>,
}

impl Half {
    fn open(drops_sums: bool) -> Half {
        let dir = tempfile::tempdir().unwrap();
        let options = ShardOptions {
            partition_rows_max_of: vec![(&ORDERS, 5)],
            retention: vec![(&ORDERS, Duration::from_secs(86_400))],
            drops_sums,
            ..options()
        };
        let shard = super::reopen(dir.path(), &options);
        Half {
            _dir: dir,
            shard,
            applied: 0,
            live: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            dropped: Vec::new(),
        }
    }

    fn send(&mut self, record: (u8, Vec<u8>)) {
        self.applied += 1;
        let lane = Lane(vec![(Sequence(self.applied), record.0, record.1)]);
        assert_eq!(apply(&mut self.shard, &lane).unwrap(), [Outcome::Inserted]);
    }

    /// Makes the oldest partitions old.
    fn age(&mut self, partitions: u8) {
        let sql = "UPDATE partition_catalog SET sealed_at = '2024-01-01T00:00:00Z' WHERE name IN \
                   (SELECT name FROM partition WHERE stream = 'sales_order' AND sealed_at IS NOT NULL \
                   ORDER BY first_id LIMIT ?1)";
        self.shard.connection().execute(sql, [partitions]).unwrap();
    }

    /// Moves the orders of dropped partitions.
    fn observe(&mut self) {
        let sql = "SELECT coalesce(min(first_id), 1) FROM partition WHERE stream = 'sales_order'";
        let first_id: i64 = self.shard.connection().query_row(sql, [], |row| row.get(0)).unwrap();
        while let Some(entry) = self.live.first_entry().filter(|entry| *entry.key() < first_id) {
            let (number, order) = entry.remove();
            if !self.cancelled.contains(&number) {
                self.dropped.push(order);
            }
        }
    }

    fn sales(&self) -> impl Iterator<Item = &Order> {
        self.live.values().filter(|(number, _)| !self.cancelled.contains(number)).map(|(_, order)| order)
    }

    fn gone(&self) -> BTreeSet<i64> {
        let reader = open_reader(self.shard.path()).unwrap();
        let mut statement = reader.prepare("SELECT start_us FROM sales_gone").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }
}

/// Returns the incomplete days of a query. A day of which the range contains only a part may count as
/// incomplete even if all its deleted sales are outside the range.
fn incomplete(halves: &[Half], query: &Query, are_parts_counted: bool) -> BTreeSet<i64> {
    let gone = halves.iter().flat_map(Half::gone).filter(|day| query.contains_a_part_of(*day));
    let dropped = halves.iter().flat_map(|half| &half.dropped);
    let of_currency = |order: &&Order| query.currency.is_none_or(|code| code == order.currency());
    let left = dropped.filter(of_currency).filter(|order| are_parts_counted || query.selects(order));
    let left = left.map(|order| day_of(order.at_us())).filter(|day| query.contains_a_part_of(*day));
    gone.chain(left.filter(|day| query.requires_rows(*day))).collect()
}

/// Returns the groups of an answer without some days, and `true` if stored sales are left out.
fn groups(halves: &[Half], query: &Query, without: &BTreeSet<i64>) -> (BTreeMap<Key, Row>, bool) {
    let has_details = query.with_details && (query.exact || query.group_by == "product");
    let (mut groups, mut is_any_left_out) = (BTreeMap::<Key, Group>::new(), false);
    let live = halves.iter().flat_map(Half::sales).map(|order| (order, true));
    let dropped = halves.iter().flat_map(|half| &half.dropped).map(|order| (order, false));
    for (order, is_live) in live.chain(dropped).filter(|(order, _)| query.selects(order)) {
        let at_us = order.at_us();
        let period = if query.is_by_time() { query.period(at_us) } else { (at_us, at_us + 1) };
        if without.iter().any(|day| *day < period.1 && day + DAY_US > period.0) {
            is_any_left_out |= is_live;
            continue;
        }
        let mut names: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        for product in &order.products {
            let name = match query.group_by {
                "product" => PRODUCTS[*product],
                "category" => CATEGORIES[*product],
                _ => "",
            };
            let (units, revenue) = names.entry(name).or_default();
            (*units, *revenue) = (*units + order.units, *revenue + order.units * Order::price(*product));
        }
        for (name, (units, revenue)) in names {
            let start_us = if query.is_by_time() { period.0 } else { 0 };
            let key = (start_us, name.to_owned(), order.currency());
            groups.entry(key).or_default().add(order, units, revenue);
        }
    }
    (groups.into_iter().map(|(key, group)| (key, group.done(has_details))).collect(), is_any_left_out)
}

/// Compares one answer with the orders.
fn check(readers: &Readers, halves: &[Half], query: &Query) {
    let text = query.text();
    let plan = SalesPlan::new("t", Some(&text)).unwrap();
    let [answer, from_rows] = [SalesSource::Columns, SalesSource::Rows]
        .map(|source| block_on(sales_from(readers, &plan.query, source)))
        // Sales of incomplete days are read and not counted. From columns, they are not returned at all.
        .map(|answer| answer.map(|result| SalesResult { rows_scanned: 0, ..result }));
    assert_eq!(format!("{answer:?}"), format!("{from_rows:?}"), "{query:?}: columns and rows differ");
    let candidates = [true, false].map(|are_parts_counted| incomplete(halves, query, are_parts_counted));
    let result = match answer {
        Err(QueryError::Dropped(text)) => {
            let is_right = |days: &BTreeSet<i64>| {
                !days.is_empty() && (query.from.is_some() || groups(halves, query, days).0.is_empty())
            };
            assert!(candidates.iter().any(is_right), "{query:?}: {text}");
            return;
        }
        answer => answer.unwrap_or_else(|error| panic!("{query:?}: {error}")),
    };
    let reported = result.incomplete.map(|days| (days.count, days.first_us, days.last_us));
    let is_reported = |days: &&BTreeSet<i64>| {
        let ends = days.first().zip(days.last());
        reported == ends.map(|(first, last)| (days.len() as i64, *first, *last))
    };
    let days = candidates.iter().find(is_reported);
    let days = days.unwrap_or_else(|| panic!("{query:?} reports {reported:?} instead of {candidates:?}"));
    assert!(query.from.is_none() || days.is_empty(), "{query:?} misses {days:?}");
    let (expected, is_any_left_out) = groups(halves, query, days);
    let has_details = query.with_details && (query.exact || query.group_by == "product");
    let found: BTreeMap<Key, Row> = result
        .groups
        .iter()
        .map(|group| {
            let figures = &group.figures;
            let start_us = if query.is_by_time() { group.start_us } else { 0 };
            let currency = if group.currency.as_str() == "JPY" { "JPY" } else { "USD" };
            let details = figures.details.map(|(customers, [median, ..])| (customers, median));
            let details = details.filter(|_| has_details);
            let row = (figures.orders, figures.units as i64, figures.revenue as i64, details);
            ((start_us, group.name.clone(), currency), row)
        })
        .collect();
    assert_eq!(found, expected, "{query:?} without {days:?}");
    assert!(!expected.is_empty() || !is_any_left_out, "{query:?}: sales are hidden");
}

fn run(steps: Vec<Step>, last: &[Query], drops_sums: bool) {
    let mut halves: Vec<Half> = (0..SHARDS).map(|_| Half::open(drops_sums)).collect();
    let paths = halves.iter().zip(0..).map(|(half, number)| ReadShard::alone(number, half.shard.path()));
    let readers = Readers::start(paths.collect(), &[0], 1).unwrap();
    let mut number = 0;
    for step in steps {
        match step {
            Step::Apply(at, orders) => {
                for order in orders {
                    number += 1;
                    halves[at].send((ORDER.number(), order.record(&format!("o{number}"))));
                    let sql = "SELECT max(id) FROM sales_order";
                    let id = halves[at].shard.connection().query_row(sql, [], |row| row.get(0)).unwrap();
                    halves[at].live.insert(id, (number, order));
                }
            }
            Step::Cancel(index) => {
                let live = |half: &Half| half.live.values().map(|(number, _)| *number).collect::<Vec<_>>();
                let all: Vec<(usize, u64)> = halves
                    .iter()
                    .enumerate()
                    .flat_map(|(at, half)| live(half).into_iter().map(move |number| (at, number)))
                    .filter(|(at, number)| !halves[*at].cancelled.contains(number))
                    .collect();
                let Some((at, number)) = (!all.is_empty()).then(|| *index.get(&all)) else { continue };
                let mut bytes = Vec::new();
                StatusRow {
                    received_us: 9,
                    occurred_us: 9,
                    status: OrderStatus::Cancelled,
                    tenant_id: "t",
                    order_id: &format!("o{number}"),
                }
                .encode(&mut bytes);
                halves[at].send((ORDER_STATUS.number(), bytes));
                halves[at].cancelled.insert(number);
            }
            Step::Age(at, partitions) => halves[at].age(partitions),
            Step::Slices(at, slices, queries) => {
                for _ in 0..slices {
                    halves[at].shard.retain_now();
                    halves[at].shard.upkeep(Duration::ZERO).unwrap();
                    halves[at].observe();
                    queries.iter().for_each(|query| check(&readers, &halves, query));
                }
            }
        }
    }
    // Every partition of a shard that is sealed leaves, and a query follows each slice.
    for half in &mut halves {
        settle(&mut half.shard);
        half.observe();
    }
    halves[0].age(u8::MAX);
    halves[0].shard.retain_now();
    let mut queries = last.iter().cycle();
    while halves[0].shard.upkeep_pending() || halves[0].shard.is_retaining() {
        if halves[0].shard.upkeep_due() {
            halves[0].shard.upkeep(Duration::ZERO).unwrap();
        } else {
            clock::pause(Duration::from_micros(100));
        }
        halves[0].observe();
        if halves[0].shard.is_retaining() {
            queries.next().into_iter().for_each(|query| check(&readers, &halves, query));
        }
    }
    last.iter().for_each(|query| check(&readers, &halves, query));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sales_are_right_or_name_their_incomplete_days_if_sums_stay(
        steps in prop::collection::vec(any_step(), 4..24),
        last in prop::collection::vec(query(), 60),
    ) {
        run(steps, &last, false);
    }

    #[test]
    fn sales_are_right_or_name_their_incomplete_days_if_sums_leave(
        steps in prop::collection::vec(any_step(), 4..24),
        last in prop::collection::vec(query(), 60),
    ) {
        run(steps, &last, true);
    }
}
