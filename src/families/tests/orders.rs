//! Orders: each id is stored once, with the right outcome, under any sequence of steps. Sums equal a recount (W2,
//! R3). A search returns what the rows contain.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::{KEYED, Lane, folder, options, sound};
use crate::base::ids::{Sequence, ShardId};
use crate::base::limits::INGEST_KEY_KEPT_US;
use crate::base::money::Currency;
use crate::families::FAMILIES;
use crate::orders::{
    IngestRow, ItemRow, ORDER, ORDER_STATUS, ORDERS, OrderFilter, OrderParts, OrderStatus, OrderStore,
    SalesFilter, StatusRow, encode_order, find_ingest, sales_version,
};
use crate::query::{Selection as _, Step as ReadStep};
use crate::sales::{SaleParts, SalePartsCursor, SaleSplit, sale_parts};
use crate::shard::read::{Bounds, Position, TimeRange, pin};
use crate::shard::{Lock, Outcome, Shard, ShardError, ShardOptions};

/// An order with few possible values, so that all combinations are frequent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) tenant: u8,
    pub(super) id: u8,
    pub(super) customer: u8,
    /// The customer's name in this order.
    name: u8,
    pub(super) status: u8,
    hour: i8,
    pub(super) yen: bool,
    /// Product, category, quantity.
    items: Vec<(u8, u8, u8)>,
}

pub(super) fn order() -> impl Strategy<Value = Order> {
    let items = prop::collection::vec((0..6_u8, 0..3_u8, 1..4_u8), 1..4);
    (0..2_u8, 0..30_u8, 0..5_u8, 0..2_u8, 1..7_u8, -30..30_i8, any::<bool>(), items).prop_map(
        |(tenant, id, customer, name, status, hour, yen, items)| Order {
            tenant,
            id,
            customer,
            name,
            status,
            hour,
            yen,
            items,
        },
    )
}

impl Order {
    /// Returns a paid order of one item.
    pub(super) fn of(tenant: u8, id: u8, customer: u8) -> Order {
        Order { tenant, id, customer, name: 0, status: 2, hour: 0, yen: false, items: vec![(0, 0, 1)] }
    }

    pub(super) fn ordered_at_us(&self) -> i64 {
        i64::from(self.hour) * 1_800_000_000
    }

    fn order_id(&self) -> String {
        format!("ord-{:02}", self.id)
    }

    pub(super) fn units(&self) -> i64 {
        self.items.iter().map(|(.., quantity)| i64::from(*quantity)).sum()
    }

    pub(super) fn total(&self) -> i64 {
        self.items.iter().map(|(product, _, quantity)| i64::from(*quantity) * price(*product)).sum()
    }

    pub(super) fn record(&self, ingest: (i64, i64)) -> Vec<u8> {
        let names: Vec<(String, String, u8)> = self
            .items
            .iter()
            .map(|(product, category, _)| (format!("p{product}"), format!("cat {category}"), *product))
            .collect();
        let items = names.iter().zip(&self.items).map(|((product_id, category, product), (.., quantity))| {
            ItemRow { product_id, category, quantity: i64::from(*quantity), unit_price: price(*product) }
        });
        let parts = OrderParts {
            tenant_id: &format!("tenant {}", self.tenant),
            order_id: &self.order_id(),
            customer_id: &format!("c{}", self.customer),
            customer_name: &format!("Ann{} Müller", self.name),
            customer_email: &format!("ann.{}@example.com", self.customer),
            status: OrderStatus::from_code(self.status).unwrap(),
            currency: Currency::parse(if self.yen { "JPY" } else { "USD" }).unwrap(),
            ordered_at_us: self.ordered_at_us(),
        };
        let mut bytes = Vec::new();
        encode_order(&parts, (ingest.0, ingest.1, 7), items, &mut bytes);
        bytes
    }
}

fn price(product: u8) -> i64 {
    100 + 10 * i64::from(product)
}

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Order>),
    /// The same lines of the same ingest, applied twice.
    Again(Vec<Order>),
    Statuses(Vec<(u8, u8, u8)>),
    Locked(Vec<Order>),
    Full(Vec<Order>),
    Upkeep,
    Reopen {
        poison: bool,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let batch = || prop::collection::vec(order(), 0..14);
    let statuses = prop::collection::vec((0..2_u8, 0..30_u8, 1..7_u8), 1..8);
    prop_oneof![
        6 => batch().prop_map(Step::Apply),
        1 => batch().prop_map(Step::Again),
        2 => statuses.prop_map(Step::Statuses),
        1 => batch().prop_map(Step::Locked),
        1 => batch().prop_map(Step::Full),
        3 => Just(Step::Upkeep),
        1 => any::<bool>().prop_map(|poison| Step::Reopen { poison }),
    ]
}

#[derive(Default)]
pub(super) struct Model {
    /// Each order with its current status.
    pub(super) stored: BTreeMap<(u8, u8), (Order, u8)>,
    pub(super) applied: u64,
}

impl Model {
    pub(super) fn lane(&self, orders: &[Order], ingest: i64) -> Lane {
        let numbered = (self.applied + 1..).zip(orders).enumerate();
        Lane(
            numbered
                .map(|(at, (n, it))| (Sequence(n), ORDER.number(), it.record((ingest, at as i64 + 1))))
                .collect(),
        )
    }

    pub(super) fn take(&mut self, orders: &[Order]) -> Vec<Outcome> {
        self.applied += orders.len() as u64;
        let mut outcomes = Vec::new();
        for order in orders {
            outcomes.push(match self.stored.get(&(order.tenant, order.id)) {
                Some((known, _)) if known == order => Outcome::Duplicate,
                Some(_) => Outcome::Conflict,
                None => {
                    self.stored.insert((order.tenant, order.id), (order.clone(), order.status));
                    Outcome::Inserted
                }
            });
        }
        outcomes
    }
}

pub(super) fn apply(shard: &mut Shard, lane: &Lane) -> Result<Vec<Outcome>, ShardError> {
    let mut outcomes = Vec::new();
    shard.apply(&[(KEYED, lane)], &mut |_, _, outcome| outcomes.push(outcome))?;
    Ok(outcomes)
}

pub(super) fn settle(shard: &mut Shard) {
    let mut turns = 0;
    while shard.upkeep_pending() {
        if shard.upkeep_due() {
            shard.upkeep(Duration::from_micros(200)).unwrap();
        } else {
            // A thread sorts, or a shard of another test does.
            crate::base::clock::pause(Duration::from_micros(100));
        }
        turns += 1;
        assert!(turns < 1_000_000, "upkeep does not end");
    }
}

/// A search: the selected orders and their time range.
type Search = (OrderFilter, TimeRange);

fn search(of: OrderFilter, from_us: Option<i64>, to_us: Option<i64>) -> Search {
    (of, TimeRange { from_us, to_us, descending: true })
}

fn of_tenant(tenant: u8) -> OrderFilter {
    OrderFilter {
        order: None,
        customer: None,
        currency: None,
        category: None,
        price_min: None,
        price_max: None,
        tenant_id: format!("tenant {tenant}"),
        product_ids: Vec::new(),
        statuses: 0,
        total_min: None,
        total_max: None,
        words: Vec::new(),
        fields: u16::MAX,
        cache: Default::default(),
    }
}

/// Returns every order that a search finds, read in steps of at most `rows` rows.
fn found(shard: &Shard, (of, range): &Search, rows: usize) -> Vec<String> {
    let reader = crate::shard::open_reader(shard.path()).unwrap();
    let last = pin(&reader, &ORDERS).unwrap();
    let mut at = Some(range.start());
    let mut lines = Vec::new();
    while let Some(from) = at {
        let from: Position = from;
        let bounds = Bounds { rows, bytes: 1 << 20 };
        let partial = {
            let position = &from;
            let step = ReadStep { shard: ShardId(0), range, pin: last, position, bounds, keys_only: false };
            of.step(&reader, &step).unwrap()
        };
        assert!(partial.rows.len() <= rows);
        lines.extend(String::from_utf8(partial.bytes).unwrap().lines().map(str::to_owned));
        at = partial.next;
    }
    lines
}

/// Returns `true` if a search selects an order with this current status.
type Takes = Box<dyn Fn(&Order, u8) -> bool>;

fn check_searches(shard: &Shard, model: &Model) {
    let few = |of: OrderFilter| {
        [search(of.clone(), None, None), search(of, Some(-9_000_000_000), Some(20_000_000_000))]
    };
    for tenant in 0..2 {
        let mut filters: Vec<(Search, Takes)> = Vec::new();
        for filter in few(of_tenant(tenant)) {
            filters.push((filter, Box::new(|_, _| true)));
        }
        for filter in few(OrderFilter { product_ids: vec!["p1".into(), "p4".into()], ..of_tenant(tenant) }) {
            filters.push((filter, Box::new(|it, _| it.items.iter().any(|(p, ..)| [1, 4].contains(p)))));
        }
        for filter in few(OrderFilter { words: vec!["ann*".into(), "ann1".into()], ..of_tenant(tenant) }) {
            filters.push((filter, Box::new(|it, _| it.name == 1)));
        }
        for filter in
            few(OrderFilter { words: vec!["ANN.3@example".into()], statuses: 0b110, ..of_tenant(tenant) })
        {
            filters.push((filter, Box::new(|it, now| it.customer == 3 && now <= 2)));
        }
        for filter in few(OrderFilter {
            product_ids: vec!["p0".into()],
            words: vec!["muller".into()],
            total_min: Some(30_000),
            total_max: Some(5_000_000),
            ..of_tenant(tenant)
        }) {
            let scaled = |it: &Order| it.total() * if it.yen { 10_000 } else { 100 };
            filters.push((
                filter,
                Box::new(move |it, _| {
                    it.items.iter().any(|(p, ..)| *p == 0) && (30_000..=5_000_000).contains(&scaled(it))
                }),
            ));
        }
        for (filter, takes) in filters {
            let (from, to) = (filter.1.from_us.unwrap_or(i64::MIN), filter.1.to_us.unwrap_or(i64::MAX));
            let mut expected: Vec<&(Order, u8)> = model
                .stored
                .values()
                .filter(|(it, now)| it.tenant == tenant && takes(it, *now))
                .filter(|(it, _)| (from..to).contains(&it.ordered_at_us()))
                .collect();
            expected.sort_by_key(|(it, _)| std::cmp::Reverse((it.ordered_at_us(), it.order_id())));
            for rows in [3, 1_000] {
                let lines = found(shard, &filter, rows);
                let read: Vec<serde_json::Value> =
                    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
                let ids: Vec<&str> = read.iter().map(|line| line["order_id"].as_str().unwrap()).collect();
                let expected_ids: Vec<String> = expected.iter().map(|(it, _)| it.order_id()).collect();
                assert_eq!(ids, expected_ids, "{filter:?}");
                for (line, (it, now)) in read.iter().zip(&expected) {
                    assert_eq!(line["status"], OrderStatus::from_code(*now).unwrap().as_str());
                    assert_eq!(line["items"].as_array().unwrap().len(), it.items.len());
                    let total = if it.yen {
                        it.total().to_string()
                    } else {
                        format!("{}.{:02}", it.total() / 100, it.total() % 100)
                    };
                    assert_eq!(line["total"], total.as_str());
                    assert_eq!(line["customer_name"], format!("Ann{} Müller", it.name));
                }
            }
        }
    }
}

/// A sale's time, name, currency, total, units and revenue.
type Part = (i64, String, Currency, i64, i64, i64);

/// Reads single sales of narrow and wide time ranges, each in one pass and in several passes over the names.
fn check_parts(shard: &Shard, model: &Model) {
    let reader = crate::shard::open_reader(shard.path()).unwrap();
    let last = pin(&reader, &ORDERS).unwrap();
    let ranges = [(i64::MIN, i64::MAX), (-9_000_000_000, 9_000_000_000), (0, 1_800_000_000)];
    for (tenant, range) in (0..2_u8).flat_map(|tenant| ranges.map(|range| (tenant, range))) {
        let of = SalesFilter { tenant_id: format!("tenant {tenant}"), currency: None };
        for by in [SaleSplit::Category, SaleSplit::Product] {
            let mut expected: Vec<Part> = Vec::new();
            for (it, now) in model.stored.values() {
                let is_meant = it.tenant == tenant && (range.0..range.1).contains(&it.ordered_at_us());
                if !is_meant || !OrderStatus::from_code(*now).unwrap().is_sale() {
                    continue;
                }
                let mut names: BTreeMap<String, (i64, i64)> = BTreeMap::new();
                for (product, category, quantity) in &it.items {
                    let name = if by == SaleSplit::Product {
                        format!("p{product}")
                    } else {
                        format!("cat {category}")
                    };
                    let (units, revenue) = names.entry(name).or_default();
                    *units += i64::from(*quantity);
                    *revenue += i64::from(*quantity) * price(*product);
                }
                let currency = Currency::parse(if it.yen { "JPY" } else { "USD" }).unwrap();
                expected.extend(names.into_iter().map(|(name, (units, revenue))| {
                    (it.ordered_at_us(), name, currency, it.total(), units, revenue)
                }));
            }
            expected.sort();
            for passes in [1, 3] {
                let mut parts: Vec<Part> = Vec::new();
                for pass in 0..passes {
                    let mut read = SaleParts::default();
                    let mut reading = Some(SalePartsCursor::new(by, (pass, passes)));
                    while let Some(from) = reading {
                        let (step, next) = sale_parts(&reader, &of, last, range, from).unwrap();
                        read.append(step);
                        reading = next;
                    }
                    let SaleParts { sales, names } = read;
                    parts.extend(sales.into_iter().map(|sale| {
                        let name = names[sale.name as usize].clone();
                        (sale.ordered_at_us, name, sale.currency, sale.total, sale.units, sale.revenue)
                    }));
                }
                parts.sort();
                assert_eq!(parts, expected, "{by:?} of {range:?} in {passes} passes");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn w2_an_order_is_stored_once_and_r3_the_sales_equal_a_recount(steps in prop::collection::vec(any_step(), 1..24)) {
        let dir = tempfile::tempdir().unwrap();
        let options = ShardOptions { partition_rows_max_of: vec![(&ORDERS, 9)], ..options() };
        let mut shard = super::reopen(dir.path(), &options);
        shard.store_mut::<OrderStore>().unwrap().0.shorten_runs(5);
        let mut model = Model::default();
        let mut ingests = 0;
        for step in steps {
            ingests += 1;
            match step {
                Step::Apply(orders) => {
                    let lane = model.lane(&orders, ingests);
                    prop_assert_eq!(apply(&mut shard, &lane).unwrap(), model.take(&orders));
                }
                Step::Again(orders) => {
                    let lane = model.lane(&orders, ingests);
                    let first = apply(&mut shard, &lane).unwrap();
                    prop_assert_eq!(&first, &model.take(&orders));
                    // Orders that this ingest stored are reported as repeated. The other outcomes do not change.
                    let expected: Vec<Outcome> = first
                        .iter()
                        .map(|said| if *said == Outcome::Inserted { Outcome::Repeated } else { *said })
                        .collect();
                    let lane = model.lane(&orders, ingests);
                    model.applied += orders.len() as u64;
                    prop_assert_eq!(apply(&mut shard, &lane).unwrap(), expected);
                }
                Step::Statuses(changes) => {
                    let mut lane = Lane::default();
                    let mut expected = Vec::new();
                    for (tenant, id, code) in changes {
                        model.applied += 1;
                        let mut bytes = Vec::new();
                        StatusRow {
                            received_us: 9,
                            occurred_us: 9,
                            status: OrderStatus::from_code(code).unwrap(),
                            tenant_id: &format!("tenant {tenant}"),
                            order_id: &format!("ord-{id:02}"),
                        }
                        .encode(&mut bytes);
                        lane.0.push((Sequence(model.applied), ORDER_STATUS.number(), bytes));
                        expected.push(match model.stored.get_mut(&(tenant, id)) {
                            None => Outcome::Missing,
                            Some((_, now)) if *now == code => Outcome::Duplicate,
                            Some((_, now)) => {
                                *now = code;
                                Outcome::Inserted
                            }
                        });
                    }
                    prop_assert_eq!(apply(&mut shard, &lane).unwrap(), expected);
                }
                Step::Locked(orders) => {
                    let lane = model.lane(&orders, ingests);
                    let path = shard.path().to_owned();
                    let lock = Lock::acquire(&path, Duration::ZERO).unwrap();
                    if !orders.is_empty() {
                        prop_assert!(matches!(apply(&mut shard, &lane), Err(ShardError::Busy)));
                    }
                    drop(lock);
                    prop_assert_eq!(apply(&mut shard, &lane).unwrap(), model.take(&orders));
                }
                Step::Full(orders) => {
                    let lane = model.lane(&orders, ingests);
                    shard.limit_growth(0);
                    if let Ok(outcomes) = apply(&mut shard, &lane) {
                        prop_assert_eq!(outcomes, model.take(&orders));
                    } else {
                        shard.limit_growth(10_000);
                        prop_assert_eq!(apply(&mut shard, &lane).unwrap(), model.take(&orders));
                    }
                    shard.limit_growth(100_000);
                }
                Step::Upkeep => settle(&mut shard),
                Step::Reopen { poison } => {
                    if poison { shard.poison() } else { drop(shard) }
                    shard = super::reopen(dir.path(), &options);
                    shard.store_mut::<OrderStore>().unwrap().0.shorten_runs(5);
                }
            }
        }
        prop_assert_eq!(shard.stored(&ORDERS), model.stored.len() as u64);
        sound(shard.path());
        check_searches(&shard, &model);
        check_parts(&shard, &model);
        settle(&mut shard);
        check_searches(&shard, &model);
        check_parts(&shard, &model);
        let verified = crate::shard::verify_aggregates(shard.path(), &FAMILIES).unwrap();
        prop_assert_eq!(verified.problems, Vec::<String>::new());
    }
}

#[test]
fn a_finished_ingest_is_found_until_it_expires() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = super::open(dir.path());
    let record = |n: u64, key: &str, finished_us: i64| {
        let mut bytes = Vec::new();
        IngestRow {
            finished_us,
            expires_us: finished_us + 10,
            scope: "t",
            key,
            fingerprint: &[n as u8; 32],
            response: "{\"rows\":1}",
        }
        .encode(&mut bytes);
        Lane(vec![(Sequence(n), 5, bytes)])
    };
    assert_eq!(apply(&mut shard, &record(1, "a", 100)).unwrap(), [Outcome::Inserted]);
    assert_eq!(apply(&mut shard, &record(2, "b", 105)).unwrap(), [Outcome::Inserted]);
    let reader = crate::shard::open_reader(&folder(dir.path()).database()).unwrap();
    let find = |key: &str| find_ingest(&reader, "t", key).unwrap();
    assert_eq!(find("a").unwrap().response, "{\"rows\":1}");
    assert_eq!(find("c"), None);
    assert_eq!(apply(&mut shard, &record(3, "c", 112)).unwrap(), [Outcome::Inserted]);
    assert_eq!(find("a"), None);
    assert_eq!(find("b").unwrap().fingerprint, [2; 32]);
    assert_eq!(sales_version(&reader, "t").unwrap(), 0);
}

#[test]
fn a_line_that_comes_again_is_its_ingests_own_until_the_key_expires() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = super::open(dir.path());
    let order = Order::of(0, 1, 0);
    let mut applied = 0;
    let mut come = |received_us: i64| {
        let mut bytes = order.record((7, 1));
        bytes[16..24].copy_from_slice(&received_us.to_le_bytes());
        applied += 1;
        apply(&mut shard, &Lane(vec![(Sequence(applied), ORDER.number(), bytes)])).unwrap()
    };
    assert_eq!(come(1_000), [Outcome::Inserted]);
    assert_eq!(come(1_000 + INGEST_KEY_KEPT_US - 1), [Outcome::Repeated]);
    assert_eq!(come(1_000 + INGEST_KEY_KEPT_US), [Outcome::Duplicate], "another ingest by then");
}

#[test]
fn what_is_no_order_is_kept_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = super::open(dir.path());
    let lane = Lane((3..6).map(|kind| (Sequence(u64::from(kind)), kind, vec![1, 2, 3])).collect());
    assert_eq!(apply(&mut shard, &lane).unwrap(), [Outcome::Rejected; 3]);
    assert_eq!((shard.rejected(), shard.stored(&ORDERS)), (3, 0));
    sound(shard.path());
}
