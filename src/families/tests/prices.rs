//! Price events: each id is stored once and compared with the accepted prices of its own time, under any sequence of
//! steps. A decision is stored once. Changes are numbered without a gap. Everything is the same after it was carried
//! into other shards.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::{KEYED, Lane, folder, options, reopen};
use crate::base::ids::Sequence;
use crate::base::keys::KeyHasher;
use crate::base::money::Currency;
use crate::base::observed::Observed;
use crate::base::prices::PriceRules;
use crate::families::FAMILIES;
use crate::prices::{
    AnomalyFilter, AnomalyId, AnomalyStatus, Decision, PRICE, PRICE_EVENT, PRICE_REVIEW, PriceEventRow,
    PriceReviewRow, PriceRow, PriceStore, anomalies, change_mark, changes, first_answer, has_event, judge,
    priced_products, set_back,
};
use crate::shard::{
    Carried, Outcome, Shard, ShardFolder, ShardOptions, carry, open_reader, tenant_number, verify_aggregates,
};

/// A price event with few possible values, so that all combinations are frequent.
#[derive(Clone, Debug)]
struct Event {
    tenant: u8,
    product: u8,
    id: u8,
    at: u8,
    price: i64,
    yen: bool,
    strict: bool,
}

#[derive(Clone, Debug)]
enum Record {
    Event(Event),
    /// A price that is loaded as history.
    History(Event),
    /// A review of the anomaly that this event would have. It approves or rejects, and names the event's product,
    /// another one, or none.
    Review(Event, bool, u8),
}

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Record>),
    /// A batch that is applied twice, the first time while the database is locked.
    Locked(Vec<Record>),
    Reopen,
    /// The state after the migration of an earlier version, which has all prices in its tables.
    SetBack,
    /// Slices of upkeep: ids are sorted, and earlier prices moved.
    Upkeep(u8),
}

fn event() -> impl Strategy<Value = Event> {
    let price = prop::sample::select(vec![0, 1, 90, 100, 101, 105, 110, 121, 150, 200]);
    (0..2_u8, 0..2_u8, 0..25_u8, 0..12_u8, price, any::<bool>(), any::<bool>()).prop_map(
        |(tenant, product, id, at, price, yen, strict)| Event {
            tenant,
            product,
            id,
            at,
            price,
            // Most prices have the same currency.
            yen: yen && id % 5 == 0,
            strict,
        },
    )
}

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        8 => event().prop_map(Record::Event),
        1 => event().prop_map(Record::History),
        3 => (event(), any::<bool>(), 0..3_u8).prop_map(|(event, yes, named)| Record::Review(event, yes, named)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let batch = || prop::collection::vec(record(), 1..20);
    prop_oneof![
        6 => batch().prop_map(Step::Apply),
        1 => batch().prop_map(Step::Locked),
        1 => Just(Step::Reopen),
        1 => Just(Step::SetBack),
        4 => (1..9_u8).prop_map(Step::Upkeep),
    ]
}

impl Event {
    fn names(&self) -> [String; 3] {
        [format!("tenant {}", self.tenant), format!("p{}", self.product), format!("e{}", self.id)]
    }

    fn rules(&self) -> PriceRules {
        match self.strict {
            true => PriceRules { change_bp: 500, score_milli: 2_000, window: 6 },
            false => PriceRules { change_bp: 3_000, score_milli: 6_000, window: 20 },
        }
    }

    fn currency(&self) -> &'static str {
        if self.yen { "JPY" } else { "USD" }
    }

    fn row<'a>(&self, names: &'a [String; 3]) -> PriceRow<'a> {
        let observed = Observed {
            at_us: i64::from(self.at) * 1_000,
            received_us: 7 + i64::from(self.id),
            tenant_id: &names[0],
            product_id: &names[1],
            event_id: &names[2],
        };
        PriceRow { observed, price: self.price, currency: Currency::parse(self.currency()).unwrap() }
    }

    fn product_key(&self) -> (u8, u8) {
        (self.tenant, self.product)
    }
}

impl Record {
    fn encoded(&self, keys: &KeyHasher) -> (u8, Vec<u8>) {
        let mut bytes = Vec::new();
        match self {
            Record::Event(event) => {
                PriceEventRow::new(event.row(&event.names()), event.rules()).encode(&mut bytes);
                (PRICE_EVENT.number(), bytes)
            }
            Record::History(event) => {
                event.row(&event.names()).encode(&mut bytes);
                (PRICE.number(), bytes)
            }
            Record::Review(event, approves, named) => {
                let [tenant, product, id] = event.names();
                PriceReviewRow {
                    decision: if *approves { Decision::Approve } else { Decision::Reject },
                    received_us: 99,
                    anomaly: AnomalyId::of(keys, &tenant, &product, &id),
                    tenant_id: &tenant,
                    product_id: ["", product.as_str(), "another"][usize::from(*named)],
                }
                .encode(&mut bytes);
                (PRICE_REVIEW.number(), bytes)
            }
        }
    }
}

/// Prices of a product by time and id: price, yen, accepted.
type History = BTreeMap<(u8, String), (i64, bool, bool)>;
/// Tenant, product, event.
type Name = (u8, u8, u8);
/// Time, price, yen, whether it was an anomaly.
type Said = (u8, i64, bool, bool);

/// The expected content of a shard.
#[derive(Clone, Debug, Default)]
struct Model {
    prices: BTreeMap<(u8, u8), History>,
    events: BTreeMap<Name, Said>,
    statuses: BTreeMap<Name, &'static str>,
    /// Whether each change is a decision, and the event that it belongs to.
    changes: Vec<(bool, Name)>,
}

impl Model {
    fn take(&mut self, record: &Record) -> Outcome {
        match record {
            Record::History(event) => {
                let place = (event.at, event.names()[2].clone());
                let product = self.prices.entry(event.product_key()).or_default();
                if product.contains_key(&place) {
                    return Outcome::Duplicate;
                }
                product.insert(place, (event.price, event.yen, true));
                Outcome::Inserted
            }
            Record::Event(event) => self.event(event),
            Record::Review(event, approves, named) => {
                let key = (event.tenant, event.product, event.id);
                let wanted = if *approves { "approved" } else { "rejected" };
                match self.statuses.get_mut(&key) {
                    None => Outcome::Missing,
                    Some(_) if *named == 2 => Outcome::Missing,
                    Some(status) if *status == "open" => {
                        *status = wanted;
                        self.changes.push((true, key));
                        let (at, ..) = self.events[&key];
                        let product = self.prices.get_mut(&event.product_key()).unwrap();
                        product.get_mut(&(at, event.names()[2].clone())).unwrap().2 = *approves;
                        Outcome::Inserted
                    }
                    Some(status) if *status == wanted => Outcome::Duplicate,
                    Some(_) => Outcome::Conflict,
                }
            }
        }
    }

    fn event(&mut self, event: &Event) -> Outcome {
        let key = (event.tenant, event.product, event.id);
        let said = (event.at, event.price, event.yen);
        if let Some((at, price, yen, _)) = self.events.get(&key) {
            return if (*at, *price, *yen) == said { Outcome::Duplicate } else { Outcome::Conflict };
        }
        let place = (event.at, event.names()[2].clone());
        let product = self.prices.entry(event.product_key()).or_default();
        if let Some((price, yen, _)) = product.get(&place) {
            if (*price, *yen) != (event.price, event.yen) {
                return Outcome::Conflict;
            }
            self.events.insert(key, (event.at, event.price, event.yen, false));
            return Outcome::Inserted;
        }
        let accepted = |(_, (price, yen, is_accepted)): (&(u8, String), &(i64, bool, bool))| {
            (*is_accepted && *yen == event.yen).then_some(*price)
        };
        let before: Vec<i64> = product.range(..place.clone()).rev().filter_map(accepted).take(20).collect();
        let after: Vec<i64> = product.range(place.clone()..).filter_map(accepted).take(20).collect();
        let is_odd = judge(event.price, &event.rules(), &before, &after).is_some();
        product.insert(place, (event.price, event.yen, !is_odd));
        self.events.insert(key, (event.at, event.price, event.yen, is_odd));
        if is_odd {
            self.statuses.insert(key, "open");
            self.changes.push((false, key));
            return Outcome::Flagged;
        }
        Outcome::Inserted
    }
}

/// Opens a shard whose runs of ids are short.
fn opened(dir: &Path) -> Shard {
    let mut shard = reopen(dir, &options());
    shard.store_mut::<PriceStore>().unwrap().0.shorten_runs(10);
    shard
}

struct Stand {
    dir: tempfile::TempDir,
    shard: Option<Shard>,
    model: Model,
    keys: KeyHasher,
    sequence: u64,
}

impl Stand {
    fn new() -> Stand {
        let dir = tempfile::tempdir().unwrap();
        let shard = Some(opened(dir.path()));
        let keys = KeyHasher::new(&options().folder_id);
        Stand { dir, shard, model: Model::default(), keys, sequence: 0 }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Apply(records) => self.apply(records, false),
            Step::Locked(records) => self.apply(records, true),
            Step::Reopen => {
                self.shard = None;
                self.shard = Some(opened(self.dir.path()));
            }
            Step::SetBack => {
                set_back(self.shard.as_mut().unwrap().connection()).unwrap();
                self.take(&Step::Reopen);
            }
            Step::Upkeep(slices) => {
                let shard = self.shard.as_mut().unwrap();
                for _ in 0..*slices {
                    shard.upkeep(Duration::ZERO).unwrap();
                    let problems = verify_aggregates(shard.path(), &FAMILIES).unwrap().problems;
                    assert_eq!(problems, Vec::<String>::new());
                }
            }
        }
    }

    fn lane(&mut self, records: &[Record]) -> Lane {
        let mut lane = Lane::default();
        for record in records {
            self.sequence += 1;
            let (kind, payload) = record.encoded(&self.keys);
            lane.0.push((Sequence(self.sequence), kind, payload));
        }
        lane
    }

    fn apply(&mut self, records: &[Record], locked: bool) {
        let lane = self.lane(records);
        let shard = self.shard.as_mut().unwrap();
        if locked {
            let held = rusqlite::Connection::open(folder(self.dir.path()).database()).unwrap();
            held.execute_batch("BEGIN EXCLUSIVE").unwrap();
            shard.apply(&[(KEYED, &lane)], &mut |_, _, _| {}).unwrap_err();
            held.execute_batch("ROLLBACK").unwrap();
        }
        let mut outcomes = Vec::new();
        let changes_before = self.model.changes.len();
        let applied = shard.apply(&[(KEYED, &lane)], &mut |_, _, outcome| outcomes.push(outcome)).unwrap();
        let expected: Vec<Outcome> = records.iter().map(|record| self.model.take(record)).collect();
        assert_eq!(outcomes, expected, "{records:?}");
        assert_eq!(applied.changes, (self.model.changes.len() - changes_before) as u64);
        // The same batch again, as after a crash that follows the commit, changes nothing.
        let again = shard.apply(&[(KEYED, &lane)], &mut |_, _, _| {}).unwrap();
        assert_eq!((again.skipped, again.changes), (records.len() as u64, 0));
    }

    fn check(&self) {
        let path = folder(self.dir.path()).database();
        let reader = open_reader(&path).unwrap();
        let dumped = dump(&reader);
        let mut expected: Vec<String> = Vec::new();
        for ((tenant, product), prices) in &self.model.prices {
            for ((at, id), (price, yen, accepted)) in prices {
                let currency = if *yen { "JPY" } else { "USD" };
                expected.push(format!(
                    "price tenant {tenant} p{product} {id} {} {price} {currency} {}",
                    i64::from(*at) * 1_000,
                    u8::from(*accepted)
                ));
            }
        }
        for ((tenant, product, id), status) in &self.model.statuses {
            expected.push(format!("anomaly tenant {tenant} p{product} e{id} {status}"));
        }
        expected.sort();
        let shown: Vec<String> =
            dumped.iter().filter(|line| !line.starts_with("event")).map(|line| short(line)).collect();
        assert_eq!(shown, expected);
        assert_eq!(verify_aggregates(&path, &FAMILIES).unwrap().problems, Vec::<String>::new());
        self.check_changes(&reader);
        self.check_products(&reader);
    }

    /// The newest accepted prices, and the events that are stored.
    fn check_products(&self, reader: &rusqlite::Connection) {
        for tenant in 0..2_u8 {
            let Some(number) = tenant_number(reader, &format!("tenant {tenant}")).unwrap() else { continue };
            let mut expected = BTreeMap::new();
            for ((_, product), prices) in self.model.prices.iter().filter(|((of, _), _)| *of == tenant) {
                for ((at, _), (price, yen, _)) in prices.iter().filter(|(_, (.., is_accepted))| *is_accepted)
                {
                    let currency = if *yen { "JPY" } else { "USD" };
                    let name = (format!("p{product}"), currency.to_owned());
                    expected.insert(name, (i64::from(*at) * 1_000, *price));
                }
            }
            let products = priced_products(reader, number, "", 10).unwrap();
            let found = products.iter().flat_map(|(product, prices)| {
                prices.iter().map(|newest| {
                    ((product.clone(), newest.currency.to_string()), (newest.observed_us, newest.price))
                })
            });
            assert_eq!(found.collect::<BTreeMap<_, _>>(), expected);
            for id in 0..25_u8 {
                let has = has_event(reader, &self.keys, &format!("tenant {tenant}"), "p0", &format!("e{id}"));
                assert_eq!(has.unwrap(), self.model.events.contains_key(&(tenant, 0, id)));
            }
        }
    }

    fn check_changes(&self, reader: &rusqlite::Connection) {
        let mark = change_mark(reader).unwrap();
        assert!(mark.epoch > 0 && mark.change == self.model.changes.len() as u64);
        let all = changes(reader, None, (0, mark.change), 10_000).unwrap();
        assert_eq!(
            all.iter().map(|change| change.change).collect::<Vec<_>>(),
            (1..=mark.change).collect::<Vec<_>>()
        );
        for (change, (is_review, (tenant, product, id))) in all.iter().zip(&self.model.changes) {
            assert_eq!((change.is_review, &change.tenant_id), (*is_review, &format!("tenant {tenant}")));
            let json: serde_json::Value = serde_json::from_slice(&change.json).unwrap();
            assert_eq!(
                (&json["product_id"], &json["event_id"]),
                (&format!("p{product}").into(), &format!("e{id}").into())
            );
            let status = self.model.statuses[&(*tenant, *product, *id)];
            assert_eq!(json["status"], if *is_review { status } else { "open" });
            assert_eq!(json["reviewed_at"].is_null(), !is_review);
        }
        for tenant in 0..2_u8 {
            let name = format!("tenant {tenant}");
            let mut found = Vec::new();
            loop {
                // The changes are read in small steps, as a replay reads them.
                let after = found.last().copied().unwrap_or(0);
                let more = changes(reader, Some(&name), (after, mark.change), 2).unwrap();
                if more.is_empty() {
                    break;
                }
                found.extend(more.iter().map(|change| change.change));
            }
            let expected = all.iter().filter(|change| change.tenant_id == name).map(|change| change.change);
            assert_eq!(found, expected.collect::<Vec<_>>());
            self.check_lists(reader, tenant, &name);
        }
    }

    fn check_lists(&self, reader: &rusqlite::Connection, tenant: u8, name: &str) {
        for product in [None, Some(0_u8), Some(1)] {
            for status in [None, Some(AnomalyStatus::Open), Some(AnomalyStatus::Approved)] {
                let mut of = AnomalyFilter {
                    tenant_id: name.to_owned(),
                    product_id: product.map(|product| format!("p{product}")),
                    status,
                    from_us: None,
                    to_us: None,
                    after: None,
                };
                let whole = anomalies(reader, &of, 1_000).unwrap();
                let keys: Vec<_> =
                    whole.iter().map(|line| (line.created_us, line.anomaly_id.clone())).collect();
                assert!(keys.is_sorted_by(|a, b| a > b));
                let expected = self.model.statuses.iter().filter(|((of, in_product, _), has)| {
                    *of == tenant
                        && product.is_none_or(|product| product == *in_product)
                        && status.is_none_or(|status| status.as_str() == **has)
                });
                assert_eq!(whole.len(), expected.count());
                let mut paged = Vec::new();
                loop {
                    let page = anomalies(reader, &of, 2).unwrap();
                    let Some(last) = page.last() else { break };
                    of.after = Some((last.created_us, last.anomaly_id.clone()));
                    paged.extend(page);
                }
                assert_eq!(paged, whole);
                of.after = None;
                let within = |from_us: Option<i64>, to_us: Option<i64>| {
                    let found =
                        anomalies(reader, &AnomalyFilter { from_us, to_us, ..of.clone() }, 1_000).unwrap();
                    let is_in = |line: &&crate::prices::AnomalyLine| {
                        from_us.is_none_or(|from| line.created_us >= from)
                            && to_us.is_none_or(|to| line.created_us < to)
                    };
                    assert_eq!(found, whole.iter().filter(is_in).cloned().collect::<Vec<_>>());
                    found.len()
                };
                let [newest, oldest] =
                    [whole.first(), whole.last()].map(|line| line.map(|line| line.created_us));
                assert_eq!(within(newest, None) == 0, whole.is_empty());
                assert_eq!(within(oldest, newest.map(|us| us + 1)), whole.len());
                within(oldest, newest);
            }
        }
    }

    /// Carries everything into `count` new shards and checks that the result equals the original.
    fn check_carried(&self, count: u16) {
        let reader = open_reader(&folder(self.dir.path()).database()).unwrap();
        let fresh = tempfile::tempdir().unwrap();
        let of = |shard: u16| ShardFolder::new(fresh.path().join(format!("shard-{shard}")));
        let mut shards: Vec<Shard> =
            (0..count).map(|shard| Shard::open(&of(shard), &options(), &FAMILIES).unwrap()).collect();
        let mut number = 0;
        carry::<crate::shard::ShardError>(&reader, &self.keys, &FAMILIES, 7, &mut |records| {
            for record in records {
                number += 1;
                let Carried::Row(kind, payload) = record else { panic!("nothing was rejected: {record:?}") };
                let place = FAMILIES.key_of(&self.keys, *kind, payload).unwrap().shard(count);
                let lane = Lane(vec![(Sequence(number), kind.number(), payload.clone())]);
                let mut said = Vec::new();
                shards[usize::from(place.0)]
                    .apply(&[(KEYED, &lane)], &mut |_, _, outcome| said.push(outcome))?;
                assert!(matches!(said[..], [Outcome::Inserted | Outcome::Flagged]), "{said:?}");
            }
            Ok(())
        })
        .unwrap();
        drop(shards);
        let mut after = Vec::new();
        for shard in 0..count {
            let path = of(shard).database();
            assert_eq!(verify_aggregates(&path, &FAMILIES).unwrap().problems, Vec::<String>::new());
            let reader = open_reader(&path).unwrap();
            after.extend(dump(&reader));
        }
        after.sort();
        assert_eq!(after, dump(&reader));
    }
}

/// Returns the first words of a line: the part that the model knows.
fn short(line: &str) -> String {
    line.split(" |").next().unwrap_or_default().to_owned()
}

/// Returns every price, event and anomaly with all their columns, sorted, without row numbers.
fn dump(reader: &rusqlite::Connection) -> Vec<String> {
    let event_sql = |from: &str, of: &str| {
        format!(
            "SELECT 'event ' || t.tenant_id || ' ' || {of}.product_id || ' ' || e.event_id || quote(e.observed_at_us) \
             || quote(e.price) || {of}.currency || quote(e.received_us) || quote(e.change_bp_max) \
             || quote(e.score_milli_max) || quote(window_max) || quote(a.anomaly_id) FROM {from} \
             JOIN tenant_row t ON t.id = {of}.tenant LEFT JOIN price_anomaly a ON a.id = e.anomaly \
             WHERE e.window_max IS NOT NULL"
        )
    };
    let is_moving = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'price_event_v14')";
    let earlier = match reader.query_row(is_moving, [], |row| row.get(0)).unwrap() {
        true => event_sql("price_event_v14 e", "e"),
        false => "SELECT '' WHERE 0".to_owned(),
    };
    let mut lines = Vec::new();
    for sql in [
        "SELECT 'price ' || t.tenant_id || ' ' || product_id || ' ' || event_id || ' ' || observed_at_us || ' ' \
         || price || ' ' || currency || ' ' || accepted FROM price_row_all JOIN tenant_row t ON t.id = tenant",
        "SELECT 'anomaly ' || t.tenant_id || ' ' || product_id || ' ' || event_id || ' ' || status || ' | ' \
         || anomaly_id || quote(observed_at_us) || quote(price) || currency || quote(created_us) || quote(baseline) \
         || quote(change_bp) || quote(median) || quote(mad) || quote(score_milli) || quote(compared) \
         || quote(change_bp_max) || quote(score_milli_max) || quote(reviewed_us) \
         FROM price_anomaly JOIN tenant_row t ON t.id = tenant",
        &event_sql("price_row e JOIN price_series s ON s.id = e.series", "s"),
        &earlier,
    ] {
        let mut statement = reader.prepare(sql).unwrap();
        lines.extend(
            statement
                .query_map([], |row| row.get::<_, String>(0))
                .unwrap()
                .collect::<Result<Vec<_>, _>>()
                .unwrap(),
        );
    }
    lines.sort();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn p1_a_shard_says_what_the_model_says(steps in prop::collection::vec(step(), 1..12)) {
        let mut stand = Stand::new();
        for step in &steps {
            stand.take(step);
        }
        stand.check();
        for count in [1, 3] {
            stand.check_carried(count);
        }
    }
}

fn open_at(dir: &Path) -> Shard {
    Shard::open(&folder(dir), &ShardOptions { page_bytes: 4096, ..ShardOptions::default() }, &FAMILIES)
        .unwrap()
}

/// Returns an event of the product, observed at `at`.
fn observed(at: u8, id: u8, price: i64) -> Record {
    Record::Event(Event { tenant: 0, product: 0, id, at, price, yen: false, strict: false })
}

#[test]
fn one_that_comes_late_never_becomes_the_last_accepted() {
    let mut stand = Stand::new();
    let answer = |stand: &Stand, id: &str| {
        let reader = open_reader(&folder(stand.dir.path()).database()).unwrap();
        let found = first_answer(&reader, &stand.keys, "tenant 0", "p0", id).unwrap();
        serde_json::from_str::<serde_json::Value>(&found.anomaly).unwrap()
    };
    // The price is 100 at 1 and 110 at 10. A late price of 130 at 5 is in line with 110, which it precedes.
    stand.apply(&[observed(1, 1, 100), observed(10, 2, 110), observed(5, 3, 130)], false);
    assert!(answer(&stand, "e3").is_null());
    // The last accepted price is 110, not 130: 145 is 31.82 % above it.
    stand.apply(&[observed(11, 4, 145)], false);
    let anomaly = answer(&stand, "e4");
    assert_eq!((&anomaly["baseline"], &anomaly["change_percent"]), (&"1.10".into(), &31.82.into()));
    // 145 is not accepted, so the next price is compared with 110 again. Once 145 is approved, the next is compared
    // with 145.
    stand.apply(&[observed(12, 5, 146)], false);
    assert_eq!(answer(&stand, "e5")["baseline"], "1.10");
    let approve = |id| {
        let Record::Event(event) = observed(0, id, 0) else { unreachable!() };
        Record::Review(event, true, 1)
    };
    stand.apply(&[approve(4), observed(13, 6, 147)], false);
    assert!(answer(&stand, "e6").is_null());
    // The first answer does not change.
    assert_eq!(answer(&stand, "e4"), anomaly);
    stand.check();
}

#[test]
fn an_older_file_keeps_its_prices_as_accepted_ones() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open_at(dir.path());
    let keys = KeyHasher::new(&[0; 16]);
    let history: Vec<_> = (0..8_u8)
        .map(|at| {
            Record::History(Event {
                tenant: 0,
                product: 0,
                id: at,
                at,
                price: 100,
                yen: false,
                strict: false,
            })
        })
        .collect();
    let lane = |first: u64, records: &[Record]| {
        let numbered = records.iter().zip(first..);
        Lane(
            numbered
                .map(|(record, number)| {
                    let (kind, payload) = record.encoded(&keys);
                    (Sequence(number), kind, payload)
                })
                .collect(),
        )
    };
    shard.apply(&[(KEYED, &lane(1, &history))], &mut |_, _, _| {}).unwrap();
    shard.apply(&[(KEYED, &lane(20, &[observed(9, 9, 125)]))], &mut |_, _, _| {}).unwrap();
    let reader = open_reader(&folder(dir.path()).database()).unwrap();
    let found = first_answer(&reader, &keys, "tenant 0", "p0", "e9").unwrap();
    let anomaly: serde_json::Value = serde_json::from_str(&found.anomaly).unwrap();
    assert_eq!(
        (&anomaly["reasons"], &anomaly["score"]["prices"]),
        (&serde_json::json!(["score"]), &8.into())
    );
}
