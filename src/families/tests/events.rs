//! Idempotent events: each id is stored once, with the right outcome, under any sequence of steps. Buckets equal a
//! recount (W2, R3).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::unordered::few_rows;
use super::{HOT, KEYED, Lane, clicks, folder, options};
use crate::base::ids::Sequence;
use crate::clicks::CLICKS;
use crate::events::{EVENTS, EventStore, SERVICE_EVENT, ServiceEventRow};
use crate::families::FAMILIES;
use crate::shard::{Lock, Outcome, Shard, ShardError, ShardOptions};

/// An event with few possible values, so that all combinations are frequent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    tenant: u8,
    id: u8,
    source: u8,
    minute: i8,
    payload: u8,
}

fn event() -> impl Strategy<Value = Event> {
    (0..3_u8, 0..40_u8, 0..2_u8, -3..3_i8, 0..2_u8).prop_map(|(tenant, id, source, minute, payload)| Event {
        tenant,
        id,
        source,
        minute,
        payload,
    })
}

fn record(event: &Event) -> Vec<u8> {
    let mut bytes = Vec::new();
    ServiceEventRow {
        timestamp_us: i64::from(event.minute) * 41_000_000 + i64::from(event.payload),
        received_us: 7,
        tenant_id: &format!("tenant {}", event.tenant),
        event_id: &format!("evt_{}", event.id),
        source: &format!("s{}", event.source),
        event_type: "click",
        payload: &format!("{{\"n\":{}}}", event.payload),
    }
    .encode(&mut bytes);
    bytes
}

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Event>),
    Locked(Vec<Event>),
    Full(Vec<Event>),
    Upkeep,
    Reopen { poison: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let batch = || prop::collection::vec(event(), 0..12);
    prop_oneof![
        6 => batch().prop_map(Step::Apply),
        1 => batch().prop_map(Step::Locked),
        1 => batch().prop_map(Step::Full),
        3 => Just(Step::Upkeep),
        1 => any::<bool>().prop_map(|poison| Step::Reopen { poison }),
    ]
}

#[derive(Default)]
struct Model {
    stored: BTreeMap<(u8, u8), Event>,
    applied: u64,
}

impl Model {
    fn lane(&self, events: &[Event]) -> Lane {
        let numbered = (self.applied + 1..).zip(events);
        Lane(numbered.map(|(n, event)| (Sequence(n), SERVICE_EVENT.number(), record(event))).collect())
    }

    fn take(&mut self, events: &[Event]) -> Vec<Outcome> {
        self.applied += events.len() as u64;
        let mut one = |event: &Event| match self.stored.get(&(event.tenant, event.id)) {
            None => {
                self.stored.insert((event.tenant, event.id), event.clone());
                Outcome::Inserted
            }
            Some(known) if known == event => Outcome::Duplicate,
            Some(_) => Outcome::Conflict,
        };
        events.iter().map(&mut one).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn w2_each_id_is_stored_once_and_r3_every_bucket_equals_a_recount(
        steps in prop::collection::vec(step(), 1..40),
        unordered in prop::option::of(any::<bool>()),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let options = ShardOptions { partition_rows_max: 30, folder_id: [9; 16], ..options() };
        let reopen = || {
            let mut shard = super::reopen(dir.path(), &options);
            let store = shard.store_mut::<EventStore>().unwrap().0;
            store.shorten_runs(25);
            if let Some(closes) = unordered {
                store.set_order_limits(few_rows(closes));
            }
            shard
        };
        let (mut shard, mut model) = (reopen(), Model::default());
        for step in steps {
            match step {
                Step::Apply(events) => {
                    let lane = model.lane(&events);
                    let mut told = Vec::new();
                    // Records of another lane are stored in the same transaction.
                    let hot = clicks(shard.position(HOT).0 + 1..=shard.position(HOT).0 + 1);
                    // A thread that reads for upkeep may be the last to close an earlier connection, and then holds
                    // the lock for a moment.
                    let applied = loop {
                        told.clear();
                        let mut tell = |_, _, outcome| told.push(outcome);
                        match shard.apply(&[(KEYED, &lane), (HOT, &hot)], &mut tell) {
                            Err(ShardError::Busy) => std::thread::yield_now(),
                            applied => break applied.unwrap(),
                        }
                    };
                    let wanted = model.take(&events);
                    let count = |of: Outcome| wanted.iter().filter(|outcome| **outcome == of).count() as u64;
                    prop_assert_eq!(applied.stored(&EVENTS), count(Outcome::Inserted));
                    prop_assert_eq!(applied.conflicts, count(Outcome::Conflict));
                    prop_assert_eq!(applied.duplicates, count(Outcome::Duplicate) + count(Outcome::Conflict));
                    prop_assert_eq!(&told, &wanted);
                    // The same batch again changes nothing and reports no outcome.
                    let again = shard.apply(&[(KEYED, &lane)], &mut |_, _, _| panic!("told twice")).unwrap();
                    prop_assert_eq!((again.skipped, again.stored(&EVENTS)), (lane.0.len() as u64, 0));
                }
                Step::Locked(events) => {
                    let lock = Lock::acquire(shard.path(), Duration::ZERO).unwrap();
                    let refused = shard.apply(&[(KEYED, &model.lane(&events))], &mut |_, _, _| {});
                    prop_assert!(matches!(refused, Err(ShardError::Busy)));
                    drop(lock);
                }
                Step::Full(events) => {
                    shard.limit_growth(1);
                    if shard.apply(&[(KEYED, &model.lane(&events))], &mut |_, _, _| {}).is_ok() {
                        model.take(&events);
                    }
                    shard.limit_growth(1_000_000);
                }
                Step::Upkeep => {
                    let done = shard.upkeep(Duration::ZERO);
                    prop_assert!(matches!(done, Ok(_) | Err(ShardError::Busy)), "{done:?}");
                }
                Step::Reopen { poison } => {
                    if poison { shard.poison() } else { drop(shard) }
                    shard = reopen();
                }
            }
            prop_assert_eq!(shard.stored(&EVENTS), model.stored.len() as u64);
            prop_assert_eq!(shard.position(KEYED), Sequence(model.applied));
        }
        super::sound(shard.path());
        let verified = crate::shard::verify_aggregates(shard.path(), &FAMILIES).unwrap();
        prop_assert_eq!(verified.problems, Vec::<String>::new());
        prop_assert_eq!(verified.rows, model.stored.len() as u64);
        // The rows as another program sees them.
        let reader = crate::shard::open_reader(shard.path()).unwrap();
        let mut statement = reader
            .prepare("SELECT tenant_id, event_id, source, payload FROM service_events ORDER BY tenant_id, event_id")
            .unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
        let rows: Vec<(String, String, String, String)> = rows.collect::<Result<_, _>>().unwrap();
        let mut wanted: Vec<_> = model.stored.values().map(|event| (
            format!("tenant {}", event.tenant), format!("evt_{}", event.id), format!("s{}", event.source),
            format!("{{\"n\":{}}}", event.payload),
        )).collect();
        wanted.sort();
        prop_assert_eq!(rows, wanted);
    }
}

#[test]
fn a_wrong_bucket_and_a_second_row_of_an_id_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::open(&folder(dir.path()), &options(), &FAMILIES).unwrap();
    // The counts of the first batch are on the commit page. Those of the second do not fit.
    let mut model = Model::default();
    for ids in [0..9_u8, 9..60] {
        let event = |id| Event { tenant: 1, id, source: 0, minute: id as i8, payload: 0 };
        let events: Vec<_> = ids.map(event).collect();
        shard.apply(&[(KEYED, &model.lane(&events))], &mut |_, _, _| {}).unwrap();
        model.take(&events);
    }
    let path = shard.path().to_owned();
    drop(shard);
    let problems = |sql: &str| {
        let stranger = rusqlite::Connection::open(&path).unwrap();
        stranger.execute_batch(sql).unwrap();
        crate::shard::verify_aggregates(&path, &FAMILIES).unwrap().problems
    };
    assert_eq!(problems(""), Vec::<String>::new());
    assert!(!problems("UPDATE bucket_hour_older SET count = count + 1").is_empty());
    assert!(problems("UPDATE bucket_hour_older SET count = count - 1").is_empty());
    assert!(!problems("UPDATE commit_page SET value = value - 1 WHERE kind = 16").is_empty());
    assert!(problems("UPDATE commit_page SET value = value + 1 WHERE kind = 16").is_empty());
    assert!(!problems("UPDATE commit_page SET low = low + 1 WHERE kind = 16").is_empty());
    assert!(problems("UPDATE commit_page SET low = low - 1 WHERE kind = 16").is_empty());
    assert!(!problems("UPDATE bucket_day_older SET last_us = last_us + 1").is_empty());
    assert!(problems("UPDATE bucket_day_older SET last_us = last_us - 1").is_empty());
    let twice = problems("UPDATE service_event_000001 SET event_id = 'evt_0' WHERE id = 2");
    assert_eq!(twice, ["1 event ids are stored more than once"]);
}

/// Runs upkeep, with frequent checks for old partitions, until the condition is true.
fn retain_until(shard: &mut Shard, is_so: impl Fn(&Shard) -> bool) {
    for turn in 0..1_000_000 {
        if is_so(shard) && !shard.is_retaining() {
            return;
        }
        if turn % 10 == 0 {
            shard.retain_now();
        }
        match shard.upkeep(Duration::ZERO) {
            Ok(_) | Err(ShardError::Busy) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("it never came to that");
}

#[test]
fn a_clock_that_jumped_ahead_drops_nothing_after_a_restart_either() {
    let dir = tempfile::tempdir().unwrap();
    let options = ShardOptions {
        partition_rows_max: 20,
        retention: vec![(&CLICKS, Duration::from_micros(1))],
        ..options()
    };
    let look = |shard: &mut Shard| {
        for turn in 0..5_000 {
            if turn % 10 == 0 {
                shard.retain_now();
            }
            shard.upkeep(Duration::ZERO).unwrap();
            std::thread::yield_now();
        }
        shard.stored(&CLICKS)
    };
    let year_us = 365 * 86_400_000_000;
    let mut shard = super::reopen(dir.path(), &options);
    shard.wall_moves(year_us);
    shard.apply(&[(HOT, &clicks(1..=45))], &mut |_, _, _| {}).unwrap();
    assert_eq!(look(&mut shard), 45);
    drop(shard);
    // The file is as new as the clock, so only the stored hold stops retention.
    let mut shard = super::reopen(dir.path(), &options);
    assert_eq!(look(&mut shard), 45);
    shard.wall_moves(-year_us);
    // The clock was set back.
    retain_until(&mut shard, |shard| shard.stored(&CLICKS) == 0);
    drop(shard);
    let mut shard = super::reopen(dir.path(), &options);
    shard.apply(&[(HOT, &clicks(46..=50))], &mut |_, _, _| {}).unwrap();
    // The hold has ended, so rows are dropped again.
    retain_until(&mut shard, |shard| shard.stored(&CLICKS) == 0);
}

#[test]
fn what_is_too_old_leaves_rows_views_totals_buckets_and_ids_and_may_come_again() {
    old_rows_leave(None);
}

#[test]
fn what_is_too_old_and_came_in_no_order_leaves_too() {
    old_rows_leave(Some(true));
}

fn old_rows_leave(unordered: Option<bool>) {
    let reopen = |dir: &Path, options: &ShardOptions| {
        let mut shard = super::reopen(dir, options);
        let store = shard.store_mut::<EventStore>().unwrap().0;
        store.shorten_runs(25);
        if let Some(closes) = unordered {
            store.set_order_limits(few_rows(closes));
        }
        shard
    };
    let dir = tempfile::tempdir().unwrap();
    let keep = ShardOptions { partition_rows_max: 20, folder_id: [9; 16], ..options() };
    let drop_all = ShardOptions {
        retention: vec![(&CLICKS, Duration::from_micros(1)), (&EVENTS, Duration::from_micros(1))],
        ..keep.clone()
    };
    let events: Vec<_> = (0..90_u8)
        .map(|n| Event { tenant: n % 3, id: n, source: n % 2, minute: (n % 5) as i8 - 2, payload: n % 2 })
        .collect();
    let mut model = Model::default();
    let mut shard = reopen(dir.path(), &keep);
    for batch in events.chunks(10) {
        shard.apply(&[(KEYED, &model.lane(batch))], &mut |_, _, _| {}).unwrap();
        model.take(batch);
        let from = shard.position(HOT).0 + 1;
        shard.apply(&[(HOT, &clicks(from..=from + 9))], &mut |_, _, _| {}).unwrap();
    }
    retain_until(&mut shard, |shard| !shard.upkeep_due());
    assert_eq!(
        (shard.stored(&CLICKS), shard.stored(&EVENTS)),
        (90, 90),
        "nothing is dropped without a retention"
    );
    drop(shard);

    let mut shard = reopen(dir.path(), &drop_all);
    // A crash at any step loses nothing and repeats nothing.
    for _ in 0..40 {
        shard.retain_now();
        let _ = shard.upkeep(Duration::ZERO);
        let verified = crate::shard::verify_aggregates(shard.path(), &FAMILIES).unwrap();
        assert_eq!(verified.problems, Vec::<String>::new());
        assert_eq!(verified.rows, shard.stored(&EVENTS));
        super::sound(shard.path());
        shard.poison();
        shard = reopen(dir.path(), &drop_all);
    }
    retain_until(&mut shard, |shard| (shard.stored(&CLICKS), shard.stored(&EVENTS)) == (0, 0));
    let reader = crate::shard::open_reader(shard.path()).unwrap();
    let count = |sql: &str| reader.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM service_events)"), 0);
    assert_eq!(count("SELECT count(*) FROM bucket_minute"), 0);
    assert_eq!(count("SELECT count(*) FROM dropped_partition"), 0);
    let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name GLOB '*_00000?'";
    assert_eq!(count(tables), 2, "the open partitions are left");
    // The ids were deleted with their rows. New ids are recognised again.
    let mut after = Model { applied: model.applied, ..Model::default() };
    for outcome in [Outcome::Inserted, Outcome::Duplicate] {
        let lane = after.lane(&events[..30]);
        let mut told = Vec::new();
        shard.apply(&[(KEYED, &lane)], &mut |_, _, outcome| told.push(outcome)).unwrap();
        after.take(&events[..30]);
        assert!(told.iter().all(|known| *known == outcome), "{told:?}");
    }
    super::sound(shard.path());
}

#[test]
fn damaged_or_lost_id_tables_are_made_anew_from_the_rows() {
    for damage in [
        "UPDATE id_recent SET hashes = x'00'",
        "DELETE FROM id_recent",
        "DELETE FROM id_run",
        "UPDATE id_run SET filter = zeroblob(length(filter))",
        "DELETE FROM id_chunk",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let options = ShardOptions { partition_rows_max: 30, ..options() };
        let mut shard = super::reopen(dir.path(), &options);
        shard.store_mut::<EventStore>().unwrap().0.shorten_runs(25);
        let events: Vec<_> =
            (0..100).map(|id| Event { tenant: 1, id, source: 0, minute: 0, payload: 0 }).collect();
        let mut model = Model::default();
        for batch in events.chunks(10) {
            shard.apply(&[(KEYED, &model.lane(batch))], &mut |_, _, _| {}).unwrap();
            model.take(batch);
            while shard.upkeep_due() {
                shard.upkeep(Duration::ZERO).unwrap();
            }
        }
        let path = shard.path().to_owned();
        shard.poison();
        rusqlite::Connection::open(&path).unwrap().execute_batch(damage).unwrap();
        let mut shard = super::reopen(dir.path(), &options);
        let mut told = Vec::new();
        let applied = shard.apply(&[(KEYED, &model.lane(&events))], &mut |_, _, outcome| told.push(outcome));
        match applied {
            Ok(applied) => assert_eq!((applied.stored(&EVENTS), applied.duplicates), (0, 100), "{damage}"),
            // The damage is found when a chunk is read. The writer then opens the shard again.
            Err(error) => {
                assert!(matches!(error, ShardError::Corrupt(_)), "{damage}: {error}");
                continue;
            }
        }
        assert!(told.iter().all(|outcome| *outcome == Outcome::Duplicate));
        super::sound(&path);
    }
}
