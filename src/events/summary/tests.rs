//! Summaries and distinct values against a recount in memory, in steps of any size, over one shard and several.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_lite::future::{block_on, poll_once};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::super::query::GroupBy;
use super::super::record::SERVICE_EVENT;
use super::super::{EventFilter, EventStore, OrderLimits, ServiceEventRow};
use super::*;
use crate::base::bucket_size::BucketSize;
use crate::base::ids::{LaneId, Sequence};
use crate::families::FAMILIES;
use crate::query::{ReadShard, local};
use crate::shard::read::TimeRange;
use crate::shard::{Entry, Records, Shard, ShardFolder, ShardOptions, open_reader};

struct Events(Vec<Vec<u8>>, u64);

impl Records for Events {
    fn records(&self) -> impl Iterator<Item = Entry<'_>> {
        self.0.iter().zip(self.1..).map(|(payload, number)| Entry {
            sequence: Sequence(number),
            kind: SERVICE_EVENT.number(),
            payload,
        })
    }
}

#[derive(Clone, Debug)]
struct Event {
    at_us: i64,
    source: &'static str,
    event_type: &'static str,
    payload: String,
}

fn keys() -> KeyHasher {
    KeyHasher::new(&[3; 16])
}

/// Stores these events of tenant `t` and one of another tenant, in partitions of a few rows. With a number of slices, the
/// partitions are unordered, and so many slices of upkeep follow each batch.
fn shard(path: &Path, events: &[(usize, &Event)], slices: Option<usize>) -> Shard {
    let options = ShardOptions { partition_rows_max: 40, ..ShardOptions::default() };
    let mut shard = Shard::open(&ShardFolder::new(path.to_path_buf()), &options, &FAMILIES).unwrap();
    let other =
        Event { at_us: 5, source: "other", event_type: "other", payload: "{\"n\":\"other\"}".to_owned() };
    let record = |tenant_id, (number, event): (usize, &Event)| {
        let mut bytes = Vec::new();
        ServiceEventRow {
            timestamp_us: event.at_us,
            received_us: 0,
            tenant_id,
            event_id: &format!("e{number}"),
            source: event.source,
            event_type: event.event_type,
            payload: &event.payload,
        }
        .encode(&mut bytes);
        bytes
    };
    let mut records: Vec<_> = events.iter().map(|(number, event)| record("t", (*number, event))).collect();
    records.push(record("u", (0, &other)));
    let Some(slices) = slices else {
        shard.apply(&[(LaneId::keyed(0), &Events(records, 1))], &mut |_, _, _| {}).unwrap();
        return shard;
    };
    let (store, ..) = shard.store_mut::<EventStore>().unwrap();
    let (batch_rows_min, rows_part, sample_every, behind_min) = (1, 40, 1, 1);
    let limits = OrderLimits { batch_rows_min, rows_part, quiet_us: 0, sample_every, behind_min };
    store.set_order_limits(limits);
    let mut first = 1;
    for batch in records.chunks(20) {
        let batch = Events(batch.to_vec(), first);
        shard.apply(&[(LaneId::keyed(0), &batch)], &mut |_, _, _| {}).unwrap();
        first += 20;
        keep_up(&mut shard, slices);
    }
    shard
}

fn keep_up(shard: &mut Shard, slices: usize) {
    for _ in 0..slices {
        shard.upkeep(std::time::Duration::ZERO).unwrap();
        std::thread::yield_now();
    }
}

/// Returns a shard for each remainder of the events' numbers.
fn shards(dir: &Path, count: u16, events: &[Event], slices: Option<usize>) -> (Vec<Shard>, Readers) {
    let of = |number: u16| {
        let own = events.iter().enumerate().filter(|(at, _)| *at % usize::from(count) == usize::from(number));
        shard(&dir.join(format!("{count}-{number}")), &own.collect::<Vec<_>>(), slices)
    };
    let shards: Vec<Shard> = (0..count).map(of).collect();
    let known = (0..count).zip(&shards).map(|(number, shard)| ReadShard::alone(number, shard.path()));
    let readers = Readers::start(known.collect(), &[0], 1).unwrap();
    (shards, readers)
}

/// Zones with offsets of whole hours, of 45 minutes and, before 1973, of odd seconds.
const ZONES: [Option<&str>; 5] = [
    None,
    Some("Europe/Berlin"),
    Some("Asia/Kathmandu"),
    Some("Australia/Lord_Howe"),
    Some("Africa/Monrovia"),
];

fn event() -> impl Strategy<Value = Event> {
    // Around changes of clocks in 2024, and before 1973.
    let day = prop::sample::select(vec![19_812_i64, 19_813, 20_023, 700, -20_000]);
    let payload = prop::sample::select(vec![
        "{}",
        "{\"n\":1}",
        "{\"n\": 1.0}",
        "{\"n\":\"1\"}",
        "{\"n\":null}",
        "{\"n\":[{}]}",
    ]);
    let names = (prop::sample::select(vec!["web", "ios"]), prop::sample::select(vec!["view", "buy", "ü"]));
    (day, 0..1_440 * 3_i64, -1..2_i64, names, payload).prop_map(
        |(day, thirds, near, (source, event_type), payload)| {
            let at_us = day * BucketSize::Day.us() + thirds * 20_000_000 + near;
            Event { at_us, source, event_type, payload: payload.to_owned() }
        },
    )
}

/// Recounts the groups.
fn recount(events: &[Event], plan: &SummaryPlan) -> BTreeMap<(i64, String), Tally> {
    let zone = plan.period.zone.clone().unwrap_or(TimeZone::UTC);
    let mut groups: BTreeMap<(i64, String), Tally> = BTreeMap::new();
    for event in events.iter().filter(|event| is_selected(event, &plan.of, &plan.period.range(false))) {
        let key = match plan.by {
            GroupBy::Source => (0, event.source.to_owned()),
            GroupBy::EventType => (0, event.event_type.to_owned()),
            GroupBy::Hour => (local::hour_start(&zone, event.at_us), String::new()),
            GroupBy::Day => {
                let date = Timestamp::from_microsecond(event.at_us).unwrap().to_zoned(zone.clone()).date();
                (date.to_zoned(zone.clone()).unwrap().timestamp().as_microsecond(), String::new())
            }
        };
        let tally = groups.entry(key).or_insert(Tally { count: 0, first_us: i64::MAX, last_us: i64::MIN });
        tally.count += 1;
        tally.first_us = tally.first_us.min(event.at_us);
        tally.last_us = tally.last_us.max(event.at_us);
    }
    groups
}

fn is_selected(event: &Event, of: &EventFilter, range: &TimeRange) -> bool {
    of.source.as_ref().is_none_or(|source| source == event.source)
        && of.event_type.as_ref().is_none_or(|event_type| event_type == event.event_type)
        && range.from_us.is_none_or(|from| event.at_us >= from)
        && range.to_us.is_none_or(|to| event.at_us < to)
}

fn flat(groups: Groups) -> BTreeMap<(i64, String), Tally> {
    let names = groups.names.into_iter().map(|(name, tally)| ((0, name), tally));
    groups
        .times
        .into_iter()
        .map(|(start_us, tally)| ((start_us, String::new()), tally))
        .chain(names)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn r1_groups_and_distinct_values_equal_a_recount_in_steps_of_any_size(
        events in prop::collection::vec(event(), 1..160),
        slices in prop::option::of(0..12_usize),
        queries in prop::collection::vec((
            0..ZONES.len(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..3_i64, 0..4_usize,
        ), 8),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut one, one_reader) = shards(dir.path(), 1, &events, slices);
        let (_three, three_readers) = shards(dir.path(), 3, &events, slices.map(|slices| slices / 2));
        let connection = open_reader(one[0].path()).unwrap();
        for (zone, from, to, near, ends) in queries {
            let zone = ZONES[zone].map(|name| format!("&tz={name}")).unwrap_or_default();
            let time = |index: prop::sample::Index| events[index.index(events.len())].at_us;
            let (a, b) = (time(from), time(to));
            let (from_us, to_us) = (a.min(b), a.max(b) + near);
            let mut query = zone;
            if ends & 1 > 0 {
                query += &format!("&from={}", crate::base::clock::rfc3339(from_us));
            }
            if ends & 2 > 0 && to_us > from_us {
                query += &format!("&to={}", crate::base::clock::rfc3339(to_us));
            }
            for filter in ["", "&source=web", "&event_type=%C3%BC&source=ios"] {
                for by in ["event_type", "source", "hour", "day"] {
                    let plan = SummaryPlan::new("t", Some(&format!("group_by={by}{query}{filter}"))).unwrap();
                    let wanted = recount(&events, &plan);
                    for readers in [&one_reader, &three_readers] {
                        let summary = block_on(summary(readers, &plan)).unwrap();
                        let total: i64 = wanted.values().map(|tally| tally.count).sum();
                        prop_assert_eq!(summary.total.map_or(0, |total| total.count), total);
                        prop_assert_eq!(flat(summary.groups), wanted.clone(), "{} {}", by, query);
                    }
                    // One row in a step.
                    let SummaryPlan { of, by, period } = plan;
                    let count = Count::new(of, by, &period.range(false), period.zone, 1);
                    let (mut groups, mut at) = (Groups::default(), None);
                    loop {
                        let snapshot = connection.unchecked_transaction().unwrap();
                        let (share, next) = count.step(&snapshot, at).unwrap();
                        drop(snapshot);
                        // A partition may get its index between two steps.
                        keep_up(&mut one[0], usize::from(slices.is_some()));
                        groups.merge(share.groups);
                        let Some(next) = next else { break };
                        at = Some(next);
                    }
                    prop_assert_eq!(flat(groups), wanted, "{:?} {}", by, query);
                }
                for by in ["payload.n", "/payload/n/0", "payload.none", "source", "event_type"] {
                    let plan = UniquePlan::new("t", Some(&format!("by={by}{query}{filter}"))).unwrap();
                    let range = plan.period.range(false);
                    let selected: Vec<_> = events.iter().filter(|event| is_selected(event, &plan.of, &range)).collect();
                    let value = |event: &&Event| {
                        let payload: serde_json::Value = serde_json::from_str(&event.payload).unwrap();
                        match by {
                            "payload.n" if payload["n"] == serde_json::json!(1.0) => Some("1".to_owned()),
                            "payload.n" => payload.get("n").map(ToString::to_string),
                            "/payload/n/0" => payload["n"].get(0).map(ToString::to_string),
                            "source" => Some(event.source.to_owned()),
                            "event_type" => Some(event.event_type.to_owned()),
                            _ => None,
                        }
                    };
                    let values: Vec<_> = selected.iter().filter_map(value).collect();
                    let count = values.iter().collect::<BTreeSet<_>>().len() as u64;
                    let missing = (selected.len() - values.len()) as u64;
                    for readers in [&one_reader, &three_readers] {
                        let found = block_on(unique(readers, keys(), &plan)).unwrap();
                        let told = (found.count, found.events, found.missing, found.is_exact);
                        prop_assert_eq!(told, (count, selected.len() as u64, missing, true), "{} {}", by, query);
                    }
                }
            }
        }
    }
}

#[test]
fn more_groups_than_an_answer_may_have_are_refused() {
    let mut groups = Groups::default();
    let tally = Tally { count: 1, first_us: 0, last_us: 0 };
    groups.names.extend((0..=GROUPS_MAX).map(|number| (number.to_string(), tally)));
    let dir = tempfile::tempdir().unwrap();
    let (_shards, readers) = shards(dir.path(), 2, &[], None);
    let mut summary = Summary::default();
    let step = move |_: &_, _: Option<()>| Ok((groups.clone(), None));
    let outcome = block_on(scan::in_steps(&readers, step, |groups| summary.add(groups)));
    assert!(matches!(outcome, Err(QueryError::TooLarge(detail)) if detail.contains(&GROUPS_MAX.to_string())));
}

#[test]
fn a_scan_that_is_given_up_asks_for_no_further_step() {
    let dir = tempfile::tempdir().unwrap();
    let (_shards, readers) = shards(dir.path(), 3, &[], None);
    let steps = Arc::new(AtomicUsize::new(0));
    let counted = steps.clone();
    let step = move |_: &_, _: Option<()>| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(((), Some(())))
    };
    // Without an end, it would run forever.
    let mut taken = 0;
    let mut scan = Box::pin(scan::in_steps(&readers, step, |()| {
        taken += 1;
        Ok(())
    }));
    while steps.load(Ordering::SeqCst) < 30 {
        assert!(block_on(poll_once(scan.as_mut())).is_none());
    }
    drop(scan);
    // Whatever was asked before has run by the time that these steps have.
    let rest = || block_on(readers.ask_all((), |_| Ok(()))).unwrap();
    rest();
    let at_end = steps.load(Ordering::SeqCst);
    rest();
    assert_eq!(steps.load(Ordering::SeqCst), at_end);
    assert!(taken > 0 && at_end <= taken + 2 * 3, "{taken} of {at_end}");
}
