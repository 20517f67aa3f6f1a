//! Stock compared with a model, through locks, full disks and restarts: the decisions, the levels, a recount, and a
//! copy in another shard (T1).

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use rusqlite::Connection;

use super::{KEYED, Lane, folder, open, options, reopen, sound};
use crate::base::clock;
use crate::base::ids::Sequence;
use crate::base::keys::KeyHasher;
use crate::base::observed::Observed;
use crate::families::FAMILIES;
use crate::shard::{Carried, Lock, Outcome, Shard, ShardError, ShardOptions, carry, open_reader};
use crate::stock::{
    STOCK, STOCK_EVENTS, STOCK_UPDATE, StockChange, StockCode, StockDecision, StockEvent, StockMode,
    StockResult, StockRow, StockStore, StockUpdateRow, append_events, encode_stock_update, recount, set_back,
    stock_decisions, stock_level, tables_sql, verify_stock,
};

/// An event with small numbers, so that all combinations are frequent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: i8,
    id: u8,
    number: i8,
    is_delta: bool,
}

#[derive(Clone, Debug)]
struct Change {
    tenant: u8,
    product: u8,
    /// `None` for history.
    mode: Option<StockMode>,
    /// The difference between the expected version and the right one.
    off: i8,
    events: Vec<Event>,
}

fn change() -> impl Strategy<Value = Change> {
    let event = (0..9_i8, 0..40_u8, -20..60_i8, any::<bool>()).prop_map(|(at, id, number, is_delta)| Event {
        at,
        id,
        number,
        is_delta,
    });
    let mode = prop_oneof![
        Just(Some(StockMode::LastWriteWins)),
        Just(Some(StockMode::Merge)),
        Just(Some(StockMode::Reject)),
        Just(None)
    ];
    let off = prop_oneof![6 => Just(0_i8), 1 => Just(1), 1 => Just(-1)];
    (0..2_u8, 0..4_u8, mode, off, prop::collection::vec(event, 1..4)).prop_map(
        |(tenant, product, mode, off, mut events)| {
            events.sort_unstable_by_key(|event| event.id);
            events.dedup_by_key(|event| event.id);
            for event in &mut events {
                match mode {
                    Some(StockMode::LastWriteWins) => event.is_delta = false,
                    Some(StockMode::Merge) => event.is_delta = true,
                    _ => {}
                }
                if !event.is_delta {
                    event.number = event.number.max(0);
                }
            }
            if mode.is_none() {
                events.truncate(1);
            }
            Change { tenant, product, mode, off, events }
        },
    )
}

/// A product, as the list of applied changes. Everything else is computed from this list.
#[derive(Clone, Debug, Default)]
struct Product {
    changes: Vec<(Option<StockMode>, Vec<Event>, i64)>,
}

impl Product {
    fn stock(&self) -> i64 {
        self.changes.last().map_or(0, |(.., stock)| *stock)
    }

    fn version(&self) -> i64 {
        self.changes.len() as i64
    }

    fn newest(&self) -> Option<(i8, u8)> {
        self.changes.iter().flat_map(|(_, events, _)| events).map(|event| (event.at, event.id)).max()
    }

    fn here(&self, result: StockResult, code: Option<StockCode>) -> StockDecision {
        StockDecision { result, code, quantity: self.stock(), version: self.version() }
    }

    fn take(&mut self, change: &Change) -> StockDecision {
        let mut seen = Vec::new();
        for event in &change.events {
            for (version, (mode, events, stock)) in (1..).zip(&self.changes) {
                if let Some(known) = events.iter().find(|known| known.id == event.id) {
                    if *mode != change.mode || known != event {
                        return self.here(StockResult::Conflict, Some(StockCode::EventIdReused));
                    }
                    seen.push((version, *stock));
                }
            }
        }
        if seen.len() == change.events.len() {
            let (version, quantity) = seen.into_iter().max().unwrap();
            return StockDecision { result: StockResult::Duplicate, code: None, quantity, version };
        }
        if !seen.is_empty() {
            return self.here(StockResult::Conflict, Some(StockCode::PartlySeen));
        }
        if change.mode == Some(StockMode::Reject) && change.off != 0 {
            return self.here(StockResult::Conflict, Some(StockCode::StaleVersion));
        }
        let mut events = change.events.clone();
        events.sort_unstable_by_key(|event| (event.at, event.id));
        let (mut stock, mut is_superseded) = (self.stock(), false);
        let last = events[events.len() - 1];
        let is_newest = self.newest().is_none_or(|newest| (last.at, last.id) > newest);
        match change.mode {
            Some(StockMode::LastWriteWins) | None if !last.is_delta => {
                if is_newest {
                    stock = i64::from(last.number)
                } else {
                    is_superseded = true
                }
            }
            _ => {
                for event in &events {
                    stock = if event.is_delta { stock } else { 0 } + i64::from(event.number);
                }
            }
        }
        if change.mode.is_some() && stock < 0 && stock < self.stock() {
            return self.here(StockResult::Rejected, Some(StockCode::NegativeStock));
        }
        self.changes.push((change.mode, events, stock));
        self.here(StockResult::Applied, is_superseded.then_some(StockCode::Superseded))
    }
}

#[derive(Default)]
struct Model {
    products: BTreeMap<(u8, u8), Product>,
    applied: u64,
}

fn tenant(number: u8) -> String {
    format!("tenant {number}")
}

fn product(number: u8) -> String {
    format!("pü{number}")
}

impl Model {
    /// Returns the records of some changes, and the expected decision on each.
    fn lane(&mut self, changes: &[Change], request: i64) -> (Lane, Vec<Option<StockDecision>>) {
        let (mut lane, mut expected) = (Lane::default(), Vec::new());
        for (place, change) in changes.iter().enumerate() {
            self.applied += 1;
            let known = self.products.entry((change.tenant, change.product)).or_default();
            let ids: Vec<String> = change.events.iter().map(|event| format!("e{:02}", event.id)).collect();
            let mut payload = Vec::new();
            let number = |event: &Event| match event.is_delta {
                true => StockChange::Delta(event.number.into()),
                false => StockChange::Quantity(event.number.into()),
            };
            let (tenant_id, product_id) = (tenant(change.tenant), product(change.product));
            let kind = match change.mode {
                Some(mode) => {
                    let events = change.events.iter().zip(&ids).map(|(event, id)| StockEvent {
                        occurred_us: event.at.into(),
                        event_id: id,
                        change: number(event),
                    });
                    let row = StockUpdateRow {
                        // Some changes are too young to be deleted, and keep those after them.
                        received_us: clock::unix_us()
                            + if self.applied.is_multiple_of(5) { 3_600_000_000 } else { -9 },
                        request,
                        place: place as u32,
                        mode,
                        expected_version: known.version() + i64::from(change.off),
                        tenant_id: &tenant_id,
                        product_id: &product_id,
                        events: events.collect(),
                    };
                    encode_stock_update(&row, &mut payload);
                    STOCK_UPDATE.number()
                }
                None => {
                    let observed = Observed {
                        at_us: change.events[0].at.into(),
                        received_us: 5,
                        tenant_id: &tenant_id,
                        product_id: &product_id,
                        event_id: &ids[0],
                    };
                    StockRow { observed, change: number(&change.events[0]) }.encode(&mut payload);
                    STOCK.number()
                }
            };
            lane.0.push((Sequence(self.applied), kind, payload));
            let decision = known.take(change);
            expected.push(change.mode.map(|_| decision));
        }
        (lane, expected)
    }
}

fn apply(shard: &mut Shard, lane: &Lane) -> Result<Vec<Outcome>, ShardError> {
    let mut said = Vec::new();
    shard.apply(&[(KEYED, lane)], &mut |_, _, outcome| said.push(outcome)).map(|_| said)
}

/// Checks that the shard stored the expected decisions for a request.
fn check(shard: &Shard, request: i64, expected: &[Option<StockDecision>]) {
    let reader = open_reader(shard.path()).unwrap();
    let kept: BTreeMap<u32, StockDecision> = stock_decisions(&reader, request).unwrap().into_iter().collect();
    let expected: BTreeMap<u32, StockDecision> =
        (0..).zip(expected).filter_map(|(place, decision)| Some((place, (*decision)?))).collect();
    assert_eq!(kept, expected);
}

fn lines(path: &std::path::Path, view: &str) -> Vec<String> {
    let reader = open_reader(path).unwrap();
    let mut statement = reader.prepare(&format!("SELECT * FROM {view} ORDER BY 1, 2, 3")).unwrap();
    let columns = statement.column_count();
    let line = |row: &rusqlite::Row<'_>| {
        (0..columns)
            .map(|at| row.get_ref(at).map(|value| format!("{value:?}")))
            .collect::<Result<String, _>>()
    };
    statement.query_map([], line).unwrap().collect::<Result<_, _>>().unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Change>),
    /// The same changes twice, as from a client that got no response.
    Twice(Vec<Change>),
    Locked(Vec<Change>),
    Full(Vec<Change>),
    /// Slices of the deletion of old events. They change no decision.
    Drop(u8),
    Reopen {
        poison: bool,
    },
    /// The state after the migration of an earlier version, which has all events in its table.
    SetBack,
    /// Slices of upkeep without retention: ids are sorted, and earlier events moved.
    Upkeep(u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    let batch = || prop::collection::vec(change(), 0..12);
    prop_oneof![
        6 => batch().prop_map(Step::Apply),
        2 => batch().prop_map(Step::Twice),
        1 => batch().prop_map(Step::Locked),
        1 => batch().prop_map(Step::Full),
        3 => (1..9_u8).prop_map(Step::Drop),
        1 => any::<bool>().prop_map(|poison| Step::Reopen { poison }),
        1 => Just(Step::SetBack),
        4 => (1..9_u8).prop_map(Step::Upkeep),
    ]
}

const DROPPED: &str = "(SELECT t.tenant_id, l.product_id, d.event, d.content, d.version, d.stock, b.quantity, b.version, \
                       b.newest_us, b.newest_event_id FROM stock_dropped d JOIN stock_base b USING (product) \
                       JOIN stock_level l ON l.id = d.product JOIN tenant_row t ON t.id = l.tenant)";

fn dropping() -> ShardOptions {
    ShardOptions { ledger_retention: vec![(&STOCK_EVENTS, Duration::from_micros(1))], ..options() }
}

/// Opens a shard whose runs of ids are short.
fn opened(dir: &std::path::Path) -> Shard {
    let mut shard = reopen(dir, &dropping());
    shard.store_mut::<StockStore>().unwrap().0.shorten_runs(10);
    shard
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn t1_stock_is_what_its_events_come_to(steps in prop::collection::vec(any_step(), 1..20)) {
        let dir = tempfile::tempdir().unwrap();
        let mut shard = opened(dir.path());
        let mut model = Model::default();
        let mut request = (clock::unix_us() - 1_000_000) << 8;
        for step in steps {
            request += 1;
            match step {
                Step::Apply(changes) => {
                    let (lane, expected) = model.lane(&changes, request);
                    apply(&mut shard, &lane).unwrap();
                    check(&shard, request, &expected);
                }
                Step::Twice(changes) => {
                    for request in [request, request + 1] {
                        let (lane, expected) = model.lane(&changes, request);
                        apply(&mut shard, &lane).unwrap();
                        check(&shard, request, &expected);
                    }
                    request += 1;
                }
                Step::Locked(changes) => {
                    let (lane, expected) = model.lane(&changes, request);
                    let lock = Lock::acquire(shard.path(), Duration::ZERO).unwrap();
                    if !changes.is_empty() {
                        prop_assert!(matches!(apply(&mut shard, &lane), Err(ShardError::Busy)));
                    }
                    drop(lock);
                    apply(&mut shard, &lane).unwrap();
                    check(&shard, request, &expected);
                }
                Step::Full(changes) => {
                    let (lane, expected) = model.lane(&changes, request);
                    shard.limit_growth(0);
                    if apply(&mut shard, &lane).is_err() {
                        shard.limit_growth(10_000);
                        apply(&mut shard, &lane).unwrap();
                    }
                    shard.limit_growth(100_000);
                    check(&shard, request, &expected);
                }
                Step::Drop(slices) => {
                    for _ in 0..slices {
                        shard.retain_now();
                        shard.upkeep(Duration::ZERO).unwrap();
                        prop_assert_eq!(verify_stock(shard.path()).unwrap().problems, Vec::<String>::new());
                    }
                }
                Step::Reopen { poison } => {
                    if poison { shard.poison() } else { drop(shard) }
                    shard = opened(dir.path());
                }
                Step::SetBack => {
                    let path = shard.path().to_owned();
                    drop(shard);
                    let stranger = Connection::open(path).unwrap();
                    let is_back = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'stock_event_v11')";
                    if !stranger.query_row(is_back, [], |row| row.get::<_, bool>(0)).unwrap() {
                        set_back(&stranger).unwrap();
                    }
                    drop(stranger);
                    shard = opened(dir.path());
                }
                Step::Upkeep(slices) => {
                    for _ in 0..slices {
                        shard.upkeep(Duration::ZERO).unwrap();
                        prop_assert_eq!(verify_stock(shard.path()).unwrap().problems, Vec::<String>::new());
                    }
                }
            }
        }
        shard.retain_now();
        while shard.upkeep_due() {
            shard.upkeep(Duration::ZERO).unwrap();
        }
        let reader = open_reader(shard.path()).unwrap();
        for ((of, number), known) in &model.products {
            let stored = stock_level(&reader, &tenant(*of), &product(*number)).unwrap();
            let expected = (known.version() > 0).then(|| (known.stock(), known.version()));
            prop_assert_eq!(stored.map(|level| (level.quantity, level.version)), expected);
        }
        prop_assert!(stock_level(&reader, "tenant 9", "pü0").unwrap().is_none());
        sound(shard.path());
        prop_assert_eq!(verify_stock(shard.path()).unwrap().problems, Vec::<String>::new());

        // Everything is the same after it was carried into another shard.
        let other = tempfile::tempdir().unwrap();
        let mut copy = reopen(other.path(), &options());
        carried(&reader, &mut copy);
        for view in ["stock", "stock_events", DROPPED] {
            prop_assert_eq!(lines(shard.path(), view), lines(copy.path(), view));
        }
        prop_assert_eq!(verify_stock(copy.path()).unwrap().problems, Vec::<String>::new());
    }
}

/// Carries everything into another shard.
fn carried(reader: &Connection, copy: &mut Shard) {
    let keys = KeyHasher::new(&options().folder_id);
    let mut sequence = 0;
    carry::<ShardError>(reader, &keys, &FAMILIES, 7, &mut |records: &[Carried]| {
        let numbered = records.iter().map(|record| {
            sequence += 1;
            (Sequence(sequence), record.number(), record.payload().to_vec())
        });
        let said = apply(copy, &Lane(numbered.collect()))?;
        assert!(said.iter().all(|outcome| *outcome == Outcome::Inserted), "{said:?}");
        Ok(())
    })
    .unwrap();
}

/// Makes the state in which retention of an earlier version left a product: the level after the deleted events is stored,
/// and some or all of these events are still there.
fn begin_retention(connection: &Connection, upto: i64) {
    connection
        .execute(
            "INSERT INTO stock_base (product, quantity, version, newest_us, newest_event_id) \
             SELECT product, stock, version, occurred_at_us, event_id FROM stock_event_v11 WHERE version = ?1",
            [upto],
        )
        .unwrap();
}

#[test]
fn retention_that_an_earlier_version_began_goes_on_while_events_are_moved() {
    for upto in [1, 7, 30] {
        let dir = tempfile::tempdir().unwrap();
        let mut shard = opened(dir.path());
        let update = |n: u64| one_of((0, 0), n as i64, &format!("e{n}"));
        let all = |first: u64| -> Lane {
            Lane((1..=30).map(|n| (Sequence(first + n), STOCK_UPDATE.number(), update(n))).collect())
        };
        assert_eq!(apply(&mut shard, &all(0)).unwrap(), [Outcome::Inserted; 30]);
        set_back(shard.connection()).unwrap();
        begin_retention(shard.connection(), upto);
        drop(shard);
        shard = opened(dir.path());
        let (mut sequence, mut slices) = (30, 0);
        loop {
            // Every event is known, here and in a shard that receives what is stored.
            assert_eq!(apply(&mut shard, &all(sequence)).unwrap(), [Outcome::Duplicate; 30]);
            sequence += 30;
            assert_eq!(verify_stock(shard.path()).unwrap().problems, Vec::<String>::new());
            let other = tempfile::tempdir().unwrap();
            let mut copy = opened(other.path());
            carried(&open_reader(shard.path()).unwrap(), &mut copy);
            assert_eq!(apply(&mut copy, &all(1_000)).unwrap(), [Outcome::Duplicate; 30], "{upto}");
            assert_eq!(lines(shard.path(), "stock"), lines(copy.path(), "stock"));
            assert_eq!(verify_stock(copy.path()).unwrap().problems, Vec::<String>::new());
            // A crash loses what was selected, which takes some slices.
            if slices % 17 == 16 {
                shard.poison();
                shard = opened(dir.path());
            }
            let is_moving = "SELECT count(*) FROM sqlite_schema WHERE name = 'stock_event_v11'";
            if shard.connection().query_row(is_moving, [], |row| row.get::<_, i64>(0)).unwrap() == 0 {
                break;
            }
            shard.upkeep(Duration::ZERO).unwrap();
            slices += 1;
            assert!(slices < 400, "{slices}");
        }
        assert!(slices > 5, "{slices}");
        let reader = open_reader(shard.path()).unwrap();
        assert_eq!(stock_level(&reader, "t", "p").unwrap().unwrap().version, 30);
    }
}

fn one(quantity: i64, id: &str) -> Vec<u8> {
    one_of((clock::unix_us() << 8, 0), quantity, id)
}

fn one_of((request, place): (i64, u32), quantity: i64, id: &str) -> Vec<u8> {
    let mut payload = Vec::new();
    let change = StockChange::Quantity(quantity);
    encode_stock_update(
        &StockUpdateRow {
            received_us: clock::unix_us(),
            request,
            place,
            mode: StockMode::LastWriteWins,
            expected_version: -1,
            tenant_id: "t",
            product_id: "p",
            events: vec![StockEvent { occurred_us: quantity, event_id: id, change }],
        },
        &mut payload,
    );
    payload
}

#[test]
fn a_recount_finds_every_kind_of_drift() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    let lane = Lane(
        (1..=3).map(|n| (Sequence(n), STOCK_UPDATE.number(), one(n as i64, &format!("e{n}")))).collect(),
    );
    apply(&mut shard, &lane).unwrap();
    let stranger = Connection::open(folder(dir.path()).database()).unwrap();
    assert_eq!(recount(&stranger).unwrap().rows, 3);
    for (drift, said) in [
        ("UPDATE stock_level SET quantity = 4", "its level is 4 at version 3"),
        ("UPDATE stock_level SET version = 4", "at version 4, but its events add up to 3 at version 3"),
        ("UPDATE stock_level SET newest_us = 9", "its level is 3"),
        ("UPDATE stock_event SET stock = 7 WHERE version = 2", "adds up to 2, but the events record Some(7)"),
        (
            "UPDATE stock_event SET number = 7 WHERE version = 1",
            "adds up to 7, but the events record Some(1)",
        ),
        ("DELETE FROM stock_event WHERE version = 2", "the version before is 1"),
        ("UPDATE stock_event SET product = 9", "have a level and no event"),
        ("UPDATE stock_event SET product = 9", "3 stock events without a product"),
        ("UPDATE stock_event SET mode = 2, kind = 'delta', number = -5 WHERE version = 1", "negative_stock"),
    ] {
        let transaction = stranger.unchecked_transaction().unwrap();
        transaction.execute_batch(drift).unwrap();
        let problems = recount(&transaction).unwrap().problems;
        assert!(problems.iter().any(|problem| problem.contains(said)), "{drift}: {problems:?}");
    }
    assert_eq!(recount(&stranger).unwrap().problems, Vec::<String>::new());
}

/// The number of kept decisions, of 22 bytes each.
const KEPT: &str = "SELECT coalesce(sum(length(decisions)), 0) / 22 FROM stock_answer";

#[test]
fn what_was_decided_is_kept_for_a_while_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    apply(&mut shard, &Lane(vec![(Sequence(1), STOCK_UPDATE.number(), one(1, "e1"))])).unwrap();
    let stranger = Connection::open(folder(dir.path()).database()).unwrap();
    let kept = || -> i64 { stranger.query_row(KEPT, [], |row| row.get(0)).unwrap() };
    assert_eq!(kept(), 1);
    // The decision on a record that arrives this late is not stored, because no request waits for it.
    let mut late = one(2, "e2");
    late[..8].copy_from_slice(&(clock::unix_us() - 3_600_000_000).to_le_bytes());
    apply(&mut shard, &Lane(vec![(Sequence(2), STOCK_UPDATE.number(), late)])).unwrap();
    assert_eq!(kept(), 1);
    assert_eq!(stock_level(&stranger, "t", "p").unwrap().unwrap().version, 2);
}

/// Only decisions of the last minute are kept. This does not depend on the positions of a shard's products in
/// requests, even if all have the same one. Nor does it depend on whether few requests have many products, or many
/// requests have one.
#[test]
fn what_was_decided_goes_wherever_its_product_stands() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    let stranger = Connection::open(folder(dir.path()).database()).unwrap();
    let kept = || -> i64 { stranger.query_row(KEPT, [], |row| row.get(0)).unwrap() };
    let now_us = clock::unix_us();
    let mut sequence = 0;
    for (requests, places) in [(400, 7..8), (1, 33..64), (40, 1..32), (1_000, 9_999..10_000)] {
        // Makes all stored decisions one hour old.
        stranger.execute_batch("UPDATE stock_answer SET request = request - (3600000000 << 8)").unwrap();
        let (before, mut records) = (sequence, Vec::new());
        for request in 0..requests {
            for place in places.clone() {
                sequence += 1;
                // Requests are a few hundred microseconds apart.
                let of = ((now_us + i64::from(request) * 613) << 8, place);
                let payload = one_of(of, sequence as i64, &format!("e{sequence}"));
                records.push((Sequence(sequence), STOCK_UPDATE.number(), payload));
            }
        }
        apply(&mut shard, &Lane(records)).unwrap();
        let came = (sequence - before) as i64;
        assert!(came < 300 || kept() == came, "{came} came, {} are kept", kept());
    }
}

#[test]
fn what_is_no_change_of_stock_is_kept_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    let lane = Lane(vec![
        (Sequence(1), STOCK_UPDATE.number(), vec![1, 2, 3]),
        (Sequence(2), STOCK_UPDATE.number(), one(2, "e2")),
    ]);
    assert_eq!(apply(&mut shard, &lane).unwrap(), [Outcome::Rejected, Outcome::Inserted]);
    assert_eq!(shard.rejected(), 1);
    sound(shard.path());
}

/// Files of schema version 3 have stock events but no levels.
#[test]
fn events_of_before_are_taken_over_in_order_of_their_times() {
    let connection = Connection::open_in_memory().unwrap();
    connection
        .execute_batch(
            "CREATE TABLE tenant_row (id INTEGER PRIMARY KEY, tenant_id TEXT NOT NULL UNIQUE);
             INSERT INTO tenant_row VALUES (1, 'a'), (2, 'b');
             CREATE TABLE stock_row (tenant INTEGER NOT NULL, product_id TEXT NOT NULL,
               occurred_at_us INTEGER NOT NULL, event_id TEXT NOT NULL, kind TEXT NOT NULL,
               number INTEGER NOT NULL, received_us INTEGER NOT NULL,
               PRIMARY KEY (tenant, product_id, occurred_at_us, event_id)) WITHOUT ROWID;
             CREATE VIEW stock_events AS SELECT * FROM stock_row;
             INSERT INTO stock_row VALUES
               (1, 'p', 30, 'e3', 'delta', -4, 9), (1, 'p', 10, 'e1', 'delta', -3, 9),
               (1, 'p', 20, 'e2', 'quantity', 50, 9), (1, 'p', 40, 'e1', 'quantity', 9, 9),
               (1, 'q', 10, 'e1', 'quantity', 7, 9), (2, 'p', 10, 'e1', 'delta', 5, 9);",
        )
        .unwrap();
    connection.execute_batch(&tables_sql()).unwrap();
    connection.execute_batch(crate::stock::DROPPED_SQL).unwrap();
    append_events(&connection).unwrap();
    assert_eq!(recount(&connection).unwrap().problems, Vec::<String>::new());
    assert_eq!(recount(&connection).unwrap().rows, 5, "e1 of p is one event");
    let level = |tenant, product| {
        stock_level(&connection, tenant, product).unwrap().map(|level| (level.quantity, level.version))
    };
    assert_eq!(
        (level("a", "p"), level("a", "q"), level("b", "p")),
        (Some((46, 3)), Some((7, 1)), Some((5, 1)))
    );
    assert_eq!(level("b", "q"), None);
}

/// Row ids rise and are not assigned again, even if retention deletes the newest events and the tables of the ids are
/// lost. The ids of events that are stored remain known.
#[test]
fn ids_are_found_again_from_the_rows_and_no_row_id_is_assigned_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = opened(dir.path());
    let put = |shard: &mut Shard, n: u64, id: &str| {
        apply(shard, &Lane(vec![(Sequence(n), STOCK_UPDATE.number(), one(7, id))])).unwrap()[0]
    };
    for n in 1..=30 {
        assert_eq!(put(&mut shard, n, &format!("e{n}")), Outcome::Inserted);
    }
    let stranger = Connection::open(folder(dir.path()).database()).unwrap();
    let ids = || -> (Option<i64>, Option<i64>, i64) {
        let sql = "SELECT min(id), max(id), count(*) FROM stock_event";
        stranger.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap()
    };
    let lose = "DELETE FROM stock_id_recent; DELETE FROM stock_id_run; DELETE FROM stock_id_chunk";
    drop(shard);
    stranger.execute_batch(lose).unwrap();
    shard = opened(dir.path());
    assert_eq!(put(&mut shard, 31, "e1"), Outcome::Duplicate);
    assert_eq!(put(&mut shard, 32, "e31"), Outcome::Inserted);
    assert_eq!(ids(), (Some(1), Some(31), 31));

    // Retention deletes every event.
    let mut sequence = 33;
    while ids().2 > 0 {
        shard.retain_now();
        shard.upkeep(Duration::ZERO).unwrap();
    }
    for damage in ["", lose, "UPDATE stock_id_recent SET hashes = x'00'"] {
        drop(shard);
        stranger.execute_batch(damage).unwrap();
        shard = opened(dir.path());
        let before: i64 =
            stranger.query_row("SELECT max(event) FROM stock_level", [], |row| row.get(0)).unwrap();
        assert_eq!(put(&mut shard, sequence, "e31"), Outcome::Duplicate, "{damage}");
        assert_eq!(put(&mut shard, sequence + 1, &format!("s{sequence}")), Outcome::Inserted);
        assert_eq!(ids().1, Some(before + 1), "{damage}");
        while shard.upkeep_due() || ids().2 > 0 {
            shard.retain_now();
            shard.upkeep(Duration::ZERO).unwrap();
            if ids().2 == 0 {
                break;
            }
        }
        sequence += 2;
    }
    assert_eq!(verify_stock(shard.path()).unwrap().problems, Vec::<String>::new());
}
