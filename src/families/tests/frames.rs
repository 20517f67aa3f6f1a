//! The pages of a small commit: those of its rows, one of its ids, and one page of everything else that it changes.

use std::collections::BTreeMap;
use std::path::Path;

use super::{HOT, KEYED, Lane, clicks, folder};
use crate::base::ids::Sequence;
use crate::events::{SERVICE_EVENT, ServiceEventRow};
use crate::families::FAMILIES;
use crate::shard::{Shard, ShardOptions};

const COMMITS: u64 = 100;
const ROWS: u64 = 30;
const WAL_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

fn open(dir: &Path) -> Shard {
    Shard::open(&folder(dir), &ShardOptions::default(), &FAMILIES).unwrap()
}

/// Returns events in order of time. Their ids are in no order, as those of clients are.
fn events(from: u64, to: u64) -> Lane {
    let event = |number: u64| {
        let mut bytes = Vec::new();
        ServiceEventRow {
            timestamp_us: 1_772_323_200_000_000 + number as i64 * 1_000,
            received_us: 7,
            tenant_id: "acme",
            event_id: &format!("event-{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            source: "web",
            event_type: ["view", "click", "buy", "back"][number as usize % 4],
            payload: r#"{"page":"/products/4711","position":17}"#,
        }
        .encode(&mut bytes);
        (Sequence(number), SERVICE_EVENT.number(), bytes)
    };
    Lane((from..=to).map(event).collect())
}

/// Returns the number of frames of the WAL for each B-tree, from the frame with this number on.
fn frames_by_tree(shard: &mut Shard, from: usize) -> BTreeMap<String, usize> {
    let page_bytes: u32 = shard.connection().pragma_query_value(None, "page_size", |row| row.get(0)).unwrap();
    let mut wal = shard.path().as_os_str().to_owned();
    wal.push("-wal");
    let wal = std::fs::read(wal).unwrap();
    let mut trees = BTreeMap::new();
    let mut find = shard.connection().prepare("SELECT name FROM dbstat WHERE pageno = ?1").unwrap();
    for frame in wal[WAL_HEADER_BYTES..].chunks_exact(FRAME_HEADER_BYTES + page_bytes as usize).skip(from) {
        let page = u32::from_be_bytes(frame[..4].try_into().unwrap());
        let tree: String = find.query_row([page], |row| row.get(0)).unwrap_or_else(|_| "free".to_owned());
        *trees.entry(tree).or_default() += 1;
    }
    trees
}

/// Applies a first commit and then some more. Returns the frames of the latter by B-tree.
fn frames_of(lane: crate::base::ids::LaneId, records: impl Fn(u64, u64) -> Lane) -> BTreeMap<String, usize> {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    let apply = |shard: &mut Shard, commit: u64| {
        let batch = records(commit * ROWS + 1, (commit + 1) * ROWS);
        shard.apply(&[(lane, &batch)], &mut |_, _, _| {}).unwrap();
    };
    apply(&mut shard, 0);
    let before = frames_by_tree(&mut shard, 0).values().sum();
    (1..=COMMITS).for_each(|commit| apply(&mut shard, commit));
    frames_by_tree(&mut shard, before)
}

#[test]
fn a_small_commit_writes_the_pages_of_its_rows_and_ids_and_one_of_everything_else() {
    for (name, frames, own) in [
        ("events", frames_of(KEYED, events), &["service_event_", "id_recent", "sqlite_schema"][..]),
        ("clicks", frames_of(HOT, |from, to| clicks(from..=to)), &["click_", "sqlite_schema"]),
    ] {
        let is_own = |tree: &str| own.iter().any(|own| tree.starts_with(own));
        let others: usize = frames.iter().filter(|(tree, _)| !is_own(tree)).map(|(_, count)| count).sum();
        assert!(
            others as u64 <= COMMITS * 21 / 20,
            "{name}: {others} frames in {COMMITS} commits: {frames:?}"
        );
        let all: usize = frames.values().sum();
        assert!(all as u64 <= COMMITS * 6, "{name}: {all} frames in {COMMITS} commits: {frames:?}");
    }
}
