//! Events that arrive in no order of time: whatever state their partitions are in, reads and counts equal those of a
//! list in memory (R3), while batches, upkeep, kills and reopenings go on between the steps of a read.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use rusqlite::Connection;

use super::{KEYED, Lane, options, reopen};
use crate::base::bucket_size::BucketSize;
use crate::base::ids::Sequence;
use crate::events::{
    EVENTS, EventFilter, EventStore, OrderLimits, SERVICE_EVENT, ServiceEventRow, bucket_counts,
};
use crate::families::FAMILIES;
use crate::query::Selection;
use crate::shard::read::{self, Bounds, TimeRange, select_rows};
use crate::shard::{Shard, ShardError, ShardOptions, inspect, open_reader};

const MINUTE_US: i64 = 60_000_000;

/// Limits at which batches and partitions of a few rows are unordered. An open partition is sealed at once if it `closes`.
pub(super) fn few_rows(closes: bool) -> OrderLimits {
    OrderLimits {
        batch_rows_min: 1,
        rows_part: 8,
        quiet_us: if closes { 0 } else { u64::MAX / 64 },
        sample_every: 1,
        behind_min: 2,
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    /// The order of reads is that of time and id.
    at_us: i64,
    event_id: String,
    row_id: i64,
    tenant: u8,
    source: u8,
}

impl Event {
    fn record(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        ServiceEventRow {
            timestamp_us: self.at_us,
            received_us: self.row_id,
            tenant_id: ["a", "b"][usize::from(self.tenant)],
            event_id: &self.event_id,
            source: ["x", "y"][usize::from(self.source)],
            event_type: "click",
            payload: &format!("{{\"n\":{}}}", self.row_id),
        }
        .encode(&mut bytes);
        bytes
    }
}

/// The order of the times of a batch.
#[derive(Clone, Copy, Debug)]
enum Times {
    Random,
    Equal,
    Rising,
}

#[derive(Clone, Debug)]
enum Step {
    Batch(Times, Vec<(i64, u32, u8, u8)>),
    Upkeep(usize),
    Reopen { poison: bool },
    Read(Read),
}

#[derive(Clone, Debug)]
struct Read {
    tenant: u8,
    source: Option<u8>,
    from_minute: Option<i64>,
    to_minute: Option<i64>,
    offset_us: i64,
    descending: bool,
    rows: usize,
}

impl Read {
    fn range(&self) -> TimeRange {
        let at = |minute: i64| minute * MINUTE_US + self.offset_us;
        TimeRange {
            from_us: self.from_minute.map(at),
            to_us: self.to_minute.map(at),
            descending: self.descending,
        }
    }

    fn filter(&self) -> EventFilter {
        EventFilter {
            tenant_id: ["a", "b"][usize::from(self.tenant)].to_owned(),
            source: self.source.map(|source| ["x", "y"][usize::from(source)].to_owned()),
            event_type: None,
        }
    }

    fn selects(&self, event: &Event) -> bool {
        let range = self.range();
        event.tenant == self.tenant
            && self.source.is_none_or(|source| source == event.source)
            && range.from_us.is_none_or(|from| event.at_us >= from)
            && range.to_us.is_none_or(|to| event.at_us < to)
    }
}

fn step() -> impl Strategy<Value = Step> {
    let times = prop_oneof![Just(Times::Random), Just(Times::Equal), Just(Times::Rising)];
    // Times of four days, mostly in a few minutes.
    let row = (0..4 * 1_440_i64, 0..1_000_000_u32, 0..2_u8, 0..2_u8);
    let batch = (times, prop::collection::vec(row, 1..16));
    let read = (
        (0..2_u8, prop::option::of(0..2_u8)),
        (prop::option::of(0..4 * 1_440_i64), prop::option::of(0..4 * 1_440_i64)),
        prop_oneof![Just(0), 0..MINUTE_US],
        (any::<bool>(), prop_oneof![1..4_usize, Just(1_000)]),
    );
    let read =
        read.prop_map(|((tenant, source), (from_minute, to_minute), offset_us, (descending, rows))| {
            Step::Read(Read { tenant, source, from_minute, to_minute, offset_us, descending, rows })
        });
    prop_oneof![
        6 => batch.prop_map(|(times, rows)| Step::Batch(times, rows)),
        4 => (1..12_usize).prop_map(Step::Upkeep),
        1 => any::<bool>().prop_map(|poison| Step::Reopen { poison }),
        4 => read,
    ]
}

/// A shard and what it must contain.
struct World {
    shard: Option<Shard>,
    events: Vec<Event>,
    closes: bool,
    /// What each partition was seen to be.
    seen: BTreeMap<(bool, bool, bool), usize>,
}

impl World {
    fn shard(&mut self) -> &mut Shard {
        self.shard.as_mut().unwrap()
    }

    fn open(&mut self, dir: &std::path::Path) {
        self.shard = None;
        let options = ShardOptions { partition_rows_max: 40, folder_id: [9; 16], ..options() };
        let mut shard = reopen(dir, &options);
        shard.store_mut::<EventStore>().unwrap().0.set_order_limits(few_rows(self.closes));
        self.shard = Some(shard);
    }

    fn batch(&mut self, times: Times, rows: &[(i64, u32, u8, u8)]) {
        let first = self.events.len() as i64 + 1;
        let events: Vec<Event> = (first..)
            .zip(rows)
            .map(|(row_id, (minute, random, tenant, source))| Event {
                at_us: match times {
                    Times::Random => minute * MINUTE_US + i64::from(*random),
                    Times::Equal => MINUTE_US,
                    Times::Rising => row_id * MINUTE_US,
                },
                event_id: format!("{random}-{row_id}"),
                row_id,
                tenant: *tenant,
                source: *source,
            })
            .collect();
        let number = |event: &Event| Sequence(event.row_id as u64);
        let lane = Lane(
            events.iter().map(|event| (number(event), SERVICE_EVENT.number(), event.record())).collect(),
        );
        loop {
            match self.shard().apply(&[(KEYED, &lane)], &mut |_, _, _| {}) {
                Err(ShardError::Busy) => std::thread::yield_now(),
                applied => break assert_eq!(applied.unwrap().stored(&EVENTS), events.len() as u64),
            }
        }
        self.events.extend(events);
        self.see();
    }

    fn upkeep(&mut self, slices: usize) {
        for _ in 0..slices {
            match self.shard().upkeep(Duration::ZERO) {
                Ok(_) | Err(ShardError::Busy) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        self.see();
    }

    fn see(&mut self) {
        let path = self.shard().path().to_owned();
        for info in inspect(&path, &FAMILIES).unwrap().partitions {
            if info.stream == &EVENTS {
                *self.seen.entry((info.unordered, info.sealed, info.indexed)).or_default() += 1;
            }
        }
    }

    /// Reads in steps, with what `between` does between two of them.
    fn read(&mut self, read: &Read, mut between: impl FnMut(&mut World)) {
        let path = self.shard().path().to_owned();
        let reader = open_reader(&path).unwrap();
        let (filter, range) = (read.filter(), read.range());
        let mut wanted: Vec<Event> =
            self.events.iter().filter(|event| read.selects(event)).cloned().collect();
        wanted.sort();
        self.counts(&reader, read, &wanted);
        let pin = read::pin(&reader, &EVENTS).unwrap();
        let mut chosen = Vec::new();
        let (mut cursor, mut selected) = (Some(read::RowCursor::default()), Vec::new());
        while let Some(at) = cursor.take() {
            let (ids, next) =
                as_of(&reader, |reader| select_rows(reader, (&filter, &range), pin, at, Vec::new()));
            selected.extend(ids);
            cursor = next;
        }
        selected.sort_unstable();
        let mut ids: Vec<i64> = wanted.iter().map(|event| event.row_id).collect();
        ids.sort_unstable();
        assert_eq!(selected, ids, "rows to export: {read:?}");

        let bounds = Bounds { rows: read.rows, bytes: 1 << 20 };
        let mut position = range.start();
        loop {
            let partial =
                as_of(&reader, |reader| read::step(reader, (&filter, &range), pin, &position, bounds, false));
            let text = String::from_utf8(partial.bytes).unwrap();
            let lines: Vec<serde_json::Value> =
                text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(lines.len(), partial.rows.len());
            assert!(lines.len() <= read.rows);
            for (row, line) in partial.rows.iter().zip(lines) {
                assert_eq!(line["payload"]["n"], row.id);
                chosen.push((row.timestamp_us, line["event_id"].as_str().unwrap().to_owned(), row.id));
            }
            let Some(next) = partial.next else { break };
            position = next;
            between(self);
        }
        if read.descending {
            wanted.reverse();
        }
        let wanted: Vec<_> =
            wanted.into_iter().map(|event| (event.at_us, event.event_id, event.row_id)).collect();
        assert_eq!(chosen, wanted, "{read:?}");
    }

    fn counts(&self, reader: &Connection, read: &Read, selected: &[Event]) {
        let (filter, range) = (read.filter(), read.range());
        let ends = (range.from_us.unwrap_or(0), range.to_us.unwrap_or(1 << 50));
        let count = as_of(reader, |reader| filter.count(reader, ends)).unwrap();
        let wanted = selected.iter().filter(|event| (ends.0..ends.1).contains(&event.at_us)).count();
        assert_eq!(count, wanted as i64, "{read:?}");
        for size in BucketSize::ALL {
            let mut wanted: BTreeMap<(i64, &str), (i64, i64, i64)> = BTreeMap::new();
            let of = |event: &&Event| {
                let start_us = size.floor(event.at_us);
                event.tenant == read.tenant
                    && read.source.is_none_or(|source| source == event.source)
                    && range.from_us.is_none_or(|from| start_us >= from)
                    && range.to_us.is_none_or(|to| start_us < to)
            };
            for event in self.events.iter().filter(of) {
                let source = ["x", "y"][usize::from(event.source)];
                let at_us = event.at_us;
                let sum = wanted.entry((size.floor(at_us), source)).or_insert((0, at_us, at_us));
                *sum = (sum.0 + 1, sum.1.min(at_us), sum.2.max(at_us));
            }
            let found = as_of(reader, |reader| bucket_counts(reader, size, (&filter, &range), 10_000));
            let found: Vec<_> = found
                .iter()
                .map(|bucket| {
                    let key = (bucket.start_us, bucket.source.as_str());
                    (key, (bucket.count, bucket.first_us, bucket.last_us))
                })
                .collect();
            assert_eq!(found, wanted.into_iter().collect::<Vec<_>>(), "{size:?} {read:?}");
            let some = as_of(reader, |reader| bucket_counts(reader, size, (&filter, &range), 2));
            assert_eq!(some.len(), found.len().min(2));
        }
    }
}

/// Runs a step as of one commit, as readers do.
fn as_of<T>(reader: &Connection, step: impl FnOnce(&Connection) -> Result<T, ShardError>) -> T {
    step(&reader.unchecked_transaction().unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn r3_reads_and_counts_of_events_in_any_order_equal_a_recount(
        steps in prop::collection::vec(step(), 1..60),
        closes in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World { shard: None, events: Vec::new(), closes, seen: BTreeMap::new() };
        world.open(dir.path());
        for step in steps {
            match step {
                Step::Batch(times, rows) => world.batch(times, &rows),
                Step::Upkeep(slices) => world.upkeep(slices),
                Step::Reopen { poison } => {
                    if poison {
                        world.shard.take().unwrap().poison();
                    }
                    world.open(dir.path());
                }
                Step::Read(read) => {
                    let mut turn = 0;
                    world.read(&read, |world| {
                        turn += 1;
                        match turn {
                            2 => world.batch(Times::Random, &[(7, 1, 0, 0), (3, 2, 1, 1), (9, 3, 0, 1)]),
                            _ => world.upkeep(1),
                        }
                    });
                }
            }
        }
        let path = world.shard().path().to_owned();
        super::sound(&path);
        let verified = crate::shard::verify_aggregates(&path, &FAMILIES).unwrap();
        prop_assert_eq!(verified.problems, Vec::<String>::new());
        prop_assert_eq!(verified.rows, world.events.len() as u64);
    }
}

#[test]
fn partitions_of_every_state_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World { shard: None, events: Vec::new(), closes: false, seen: BTreeMap::new() };
    world.open(dir.path());
    let read = |source, descending| Read {
        tenant: 0,
        source,
        from_minute: Some(20),
        to_minute: Some(1_500),
        offset_us: 5,
        descending,
        rows: 3,
    };
    let rows = |from: i64| -> Vec<(i64, u32, u8, u8)> {
        let row =
            |n: i64| (n * 7_919 % 5_760, (n * 104_729 % 1_000_003) as u32, (n % 2) as u8, (n / 2 % 2) as u8);
        (from..from + 10).map(row).collect()
    };
    for round in 0..30 {
        let times = [Times::Rising, Times::Random, Times::Equal][round as usize / 10];
        world.batch(times, &rows(round * 10));
        if round > 12 {
            world.upkeep(1);
        }
        for (source, descending) in [(None, false), (Some(1), true)] {
            world.read(&read(source, descending), |_| {});
        }
    }
    world.closes = true;
    world.open(dir.path());
    while world.shard().upkeep_pending() {
        world.upkeep(1);
        world.read(&read(None, true), |_| {});
    }
    let seen = |state| world.seen.contains_key(&state);
    assert!(seen((true, false, false)), "unordered and open: {:?}", world.seen);
    assert!(seen((true, true, false)), "unordered and sealed: {:?}", world.seen);
    assert!(seen((true, true, true)), "unordered with an index: {:?}", world.seen);
    assert!(seen((false, false, false)) && seen((false, true, true)), "ordered: {:?}", world.seen);
    // The index is the one that a stranger would have made, and finds every row.
    let path = world.shard().path().to_owned();
    let reader = open_reader(&path).unwrap();
    let infos = inspect(&path, &FAMILIES).unwrap().partitions;
    let mut counted = Vec::new();
    for info in infos.iter().filter(|info| info.stream == &EVENTS && info.unordered) {
        let sql = format!("SELECT count(*) FROM {0} INDEXED BY {0}_order WHERE tenant_id > ''", info.name);
        let rows: i64 = reader.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(rows.unsigned_abs(), info.rows);
        counted.push(info.counted);
    }
    // Of times at random there are too many groups of minutes; of equal times there are few of any size.
    assert!(counted.iter().any(|sizes| *sizes < 3), "{counted:?}");
    let problems: String = reader.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(problems, "ok");
    super::sound(&path);
    let verified = crate::shard::verify_aggregates(&path, &FAMILIES).unwrap();
    assert_eq!(verified.problems, Vec::<String>::new());
}
