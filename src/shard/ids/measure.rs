//! Measures the cost of an id, by hand:
//! `cargo test --release --lib shard::ids::measure -- --ignored --nocapture`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use rusqlite::Connection;

use super::tests::IDS as OF;
use super::{Ids, schema};
use crate::base::clock;
use crate::base::keys::KeyHash;
use crate::shard::open::open_plain;

const BATCH: u64 = 10_000;
const IDS: u64 = 10_000_000;

/// Returns the hash of the row with this id, by SplitMix64 (Steele, Lea, Flood 2014).
fn hash(row_id: u64) -> KeyHash {
    let mix = |n: u64| {
        let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        n ^ (n >> 31)
    };
    let upper = mix(row_id.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    KeyHash(u128::from(upper) << 64 | u128::from(mix(upper ^ 0x2545_F491_4F6C_DD1D)))
}

fn open(path: &Path) -> Connection {
    let connection = open_plain(path, true).unwrap();
    let pragmas = "PRAGMA page_size=16384; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;
                   PRAGMA cache_size=-16384; PRAGMA wal_autocheckpoint=0";
    connection.execute_batch(pragmas).unwrap();
    connection
}

/// Returns the microseconds since `from_us`, and sets it to the current time.
fn lap(from_us: &mut u64) -> u64 {
    let now_us = clock::monotonic_us();
    now_us - std::mem::replace(from_us, now_us)
}

#[derive(Default)]
struct Durations {
    look_up: u64,
    stage: u64,
    save: u64,
    commit: u64,
    checkpoint: u64,
    work: u64,
}

#[test]
#[ignore = "a measurement: seconds in release, and 200 MB of disk"]
fn what_an_id_costs_as_they_grow() {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let dir = tempfile::tempdir_in(target).unwrap();
    let path = dir.path().join("ids.db");
    let wal = dir.path().join("ids.db-wal");
    let mut connection = open(&path);
    connection.execute_batch(&schema(OF)).unwrap();
    let mut ids = Ids::load(&connection, OF).unwrap();
    let mut slices: BTreeMap<&str, Histogram<u64>> = BTreeMap::new();
    let (mut false_candidates, mut memory_max) = (0, 0);
    let mut laps = Durations::default();
    let mut candidates = Vec::new();
    for batch in 0..IDS / BATCH {
        let rows = batch * BATCH + 1..=(batch + 1) * BATCH;
        let hashes: Vec<KeyHash> = rows.clone().map(hash).collect();
        let mut at_us = clock::monotonic_us();
        let transaction = connection.transaction().unwrap();
        candidates.clear();
        ids.look_up(&transaction, &hashes, &mut candidates).unwrap();
        laps.look_up += lap(&mut at_us);
        for (row_id, hash) in rows.zip(&hashes) {
            false_candidates += ids.newest(*hash).count();
            ids.stage(*hash, row_id as i64);
        }
        laps.stage += lap(&mut at_us);
        ids.save(&transaction).unwrap();
        laps.save += lap(&mut at_us);
        transaction.commit().unwrap();
        ids.committed();
        laps.commit += lap(&mut at_us);
        false_candidates += candidates.len();
        if ids.work_due() {
            let kind = kind_of_work(&ids);
            ids.work(&mut connection, Duration::from_millis(5)).unwrap();
            let took_us = lap(&mut at_us);
            laps.work += took_us;
            for kind in [kind, "all"] {
                slices.entry(kind).or_insert_with(|| Histogram::new(3).unwrap()).record(took_us).unwrap();
            }
        }
        memory_max = memory_max.max(ids.memory_bytes());
        at_us = clock::monotonic_us();
        if fs::metadata(&wal).unwrap().len() > 32 << 20 {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
            laps.checkpoint += lap(&mut at_us);
        }
        let rows = (batch + 1) * BATCH;
        if [1_000_000, 5_000_000, 10_000_000].contains(&rows) {
            println!(
                "at {rows}: {} runs, {:.2} bytes an id",
                ids.runs.len(),
                memory_max as f64 / rows as f64
            );
        }
        // Prints the averages of the last half million rows.
        if rows.is_multiple_of(500_000) {
            let laps = std::mem::take(&mut laps);
            if [1_000_000, 5_000_000, 10_000_000].contains(&rows) {
                println!(
                    "  ns an id: look_up {}, newest + stage {}, save {}, commit {}, work {}, checkpoint {}",
                    laps.look_up / 500,
                    laps.stage / 500,
                    laps.save / 500,
                    laps.commit / 500,
                    laps.work / 500,
                    laps.checkpoint / 500
                );
                println!("  false candidates so far: {false_candidates}");
            }
        }
    }
    for (kind, slices) in &slices {
        let [p50, p99] = [0.5, 0.99].map(|part| slices.value_at_quantile(part));
        println!("{} slices ({kind}), us: p50 {p50}, p99 {p99}, max {}", slices.len(), slices.max());
    }
    old_ids(&connection, &mut ids);
    drop((connection, ids));
    println!("{} MB of file", fs::metadata(&path).unwrap().len() >> 20);
    let connection = open(&path);
    let mut at_us = clock::monotonic_us();
    let mut ids = Ids::load(&connection, OF).unwrap();
    println!("load: {} ms for {} ids", lap(&mut at_us) / 1_000, ids.count());
    assert_eq!(ids.count(), IDS);
    old_ids(&connection, &mut ids);
}

fn kind_of_work(ids: &Ids) -> &'static str {
    match &ids.frozen {
        _ if ids.leftovers.recent_below.is_some() => "delete",
        None => "freeze",
        Some(frozen) if frozen.is_written() => "run",
        Some(_) => "chunks",
    }
}

/// Looks up a batch of ids of any age. Every one is found.
fn old_ids(connection: &Connection, ids: &mut Ids) {
    let rows: Vec<u64> = (0..BATCH).map(|n| hash(n).0 as u64 % IDS + 1).collect();
    let hashes: Vec<KeyHash> = rows.iter().copied().map(hash).collect();
    let mut candidates = Vec::new();
    let mut at_us = clock::monotonic_us();
    ids.look_up(connection, &hashes, &mut candidates).unwrap();
    println!("known ids: {} ns each", lap(&mut at_us) * 1_000 / BATCH);
    let mut found = vec![false; rows.len()];
    for (place, row) in rows.iter().enumerate() {
        candidates.extend(ids.newest(hashes[place]).map(|row_id| (place as u32, row_id)));
        // The candidates include the right row, and a few false ones.
        found[place] = candidates.contains(&(place as u32, *row as i64));
    }
    assert!(found.into_iter().all(|found| found));
}
