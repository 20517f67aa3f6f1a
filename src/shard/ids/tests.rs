//! No stored id is ever missed: against a plain map, through commits, rollbacks, reopening and every stage of
//! a run's life.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("shard.db")
    }

    /// As a shard opens its file; the tables are all that is in it.
    fn open(&self) -> (Connection, Ids) {
        let fresh = !self.path().exists();
        let connection = Connection::open(self.path()).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.pragma_update(None, "synchronous", "OFF").unwrap();
        if fresh {
            connection.execute_batch(SCHEMA).unwrap();
            connection.execute_batch("PRAGMA application_id = 0x46485344; PRAGMA user_version = 2").unwrap();
        }
        let ids = Ids::load(&connection, self.path()).unwrap();
        (connection, ids)
    }
}

fn candidates(ids: &Ids, connection: &Connection, hash: KeyHash) -> Vec<i64> {
    let mut found = Vec::new();
    ids.look_up(connection, &[hash], &mut found).unwrap();
    let mut found: Vec<i64> = found.into_iter().map(|(_, row_id)| row_id).chain(ids.newest(hash)).collect();
    found.sort_unstable();
    found
}

/// Few distinct values, so that equal hashes (and equal tags) are common.
fn hash(n: u64) -> KeyHash {
    let mixed = (n % 700).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    KeyHash(u128::from(n % 3) << 64 | u128::from(mixed))
}

#[derive(Clone, Debug)]
enum Step {
    Commit(u64),
    RollBack(u64),
    Work,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..60_u64).prop_map(Step::Commit),
        2 => (0..60_u64).prop_map(Step::RollBack),
        4 => Just(Step::Work),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_id_is_missed_whatever_happens(steps in prop::collection::vec(step(), 1..60), seed in 0..1_000_u64) {
        let fixture = Fixture::new();
        let (mut connection, mut ids) = fixture.open();
        ids.run_ids = 100;
        let mut stored: HashMap<KeyHash, Vec<i64>> = HashMap::new();
        let (mut next, mut n) = (1_i64, seed);
        for step in steps {
            match step {
                Step::Commit(count) | Step::RollBack(count) => {
                    let keep = matches!(step, Step::Commit(_));
                    let transaction = connection.transaction().unwrap();
                    for row_id in next..next + count as i64 {
                        n += 1;
                        ids.stage(hash(n), row_id);
                        prop_assert!(ids.newest(hash(n)).any(|known| known == row_id));
                        if keep {
                            stored.entry(hash(n)).or_default().push(row_id);
                        }
                    }
                    ids.save(&transaction).unwrap();
                    if keep {
                        transaction.commit().unwrap();
                        ids.committed();
                        next += count as i64;
                    } else {
                        drop(transaction);
                        ids.rolled_back();
                    }
                }
                Step::Work => ids.work(&mut connection, Duration::from_micros(1)).unwrap(),
                Step::Reopen => {
                    drop((connection, ids));
                    (connection, ids) = fixture.open();
                    ids.run_ids = 100;
                }
            }
            prop_assert_eq!(ids.count(), next as u64 - 1);
            for value in (0..700).step_by(13) {
                for high in 0..3 {
                    let hash = KeyHash(high << 64 | hash(value).0 & u128::from(u64::MAX));
                    let exact = stored.get(&hash).cloned().unwrap_or_default();
                    let found = candidates(&ids, &connection, hash);
                    // All that are there; tables may add some whose other half differs.
                    prop_assert!(exact.iter().all(|row_id| found.contains(row_id)), "{exact:?} {found:?}");
                }
            }
        }
    }
}

/// Fills, and works until nothing is due.
fn fill(connection: &mut Connection, ids: &mut Ids, rows: std::ops::Range<i64>) {
    for first in rows.clone().step_by(50) {
        let transaction = connection.transaction().unwrap();
        (first..(first + 50).min(rows.end)).for_each(|row_id| ids.stage(hash(row_id as u64), row_id));
        ids.save(&transaction).unwrap();
        transaction.commit().unwrap();
        ids.committed();
        while ids.frozen.is_some() || ids.work_due() {
            ids.work(connection, Duration::from_millis(1)).unwrap();
        }
    }
}

#[test]
fn what_is_sorted_is_not_kept_twice_and_what_is_dropped_leaves_nothing() {
    let fixture = Fixture::new();
    let (mut connection, mut ids) = fixture.open();
    ids.run_ids = 100;
    fill(&mut connection, &mut ids, 1..1_001);
    assert!(ids.runs.len() >= 3);
    let count = |connection: &Connection, sql: &str| {
        connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let sorted = ids.runs.last().unwrap().last_id;
    assert_eq!(
        count(&connection, "SELECT coalesce(min(first_id), 0) FROM id_recent") > sorted || sorted == 1_000,
        true
    );
    let entries = count(&connection, "SELECT sum(length(entries)) / 20 FROM id_chunk");
    assert_eq!(entries, sorted);
    // Retention: everything but the last run goes, slice by slice, also over a restart.
    let transaction = connection.transaction().unwrap();
    ids.forget_below(&transaction, 1_001).unwrap();
    transaction.commit().unwrap();
    assert_eq!(ids.runs.len(), 1);
    drop(ids);
    let mut ids = Ids::load(&connection, fixture.path()).unwrap();
    while ids.work_due() {
        ids.work(&mut connection, Duration::from_micros(1)).unwrap();
    }
    let last = &ids.runs[0];
    let left = count(&connection, "SELECT sum(length(entries)) / 20 FROM id_chunk");
    assert_eq!(left, last.last_id - last.first_id + 1);
}

#[test]
fn damaged_tables_are_an_error_and_no_panic() {
    let fixture = Fixture::new();
    let (mut connection, mut ids) = fixture.open();
    ids.run_ids = 100;
    fill(&mut connection, &mut ids, 1..301);
    drop(ids);
    let broken = |sql: &str| {
        connection.execute_batch("SAVEPOINT s").unwrap();
        connection.execute_batch(sql).unwrap();
        let loaded = Ids::load(&connection, fixture.path());
        let mut found = Vec::new();
        let outcome = loaded
            .and_then(|ids| (0..700).try_for_each(|n| ids.look_up(&connection, &[hash(n)], &mut found)));
        connection.execute_batch("ROLLBACK TO s; RELEASE s").unwrap();
        matches!(outcome, Err(ShardError::Corrupt(_)))
    };
    for sql in [
        "UPDATE id_run SET filter = x'00'",
        "UPDATE id_run SET filter = zeroblob(length(filter))",
        "UPDATE id_run SET filter = substr(filter, 1, length(filter) - 2)",
        "UPDATE id_run SET filter = 'text'",
        "UPDATE id_run SET chunks = 0",
        "UPDATE id_run SET last_id = first_id - 1",
        "DELETE FROM id_chunk",
        "UPDATE id_chunk SET entries = x'0102'",
        "INSERT INTO id_recent VALUES (100000, x'01')",
    ] {
        assert!(broken(sql), "{sql}");
    }
}

/// What the module's promises cost, by hand: `cargo test --release -- --ignored --nocapture ids_by_the_million`.
#[test]
#[ignore = "a measurement, half a minute"]
fn ids_by_the_million() {
    let fixture = Fixture::new();
    let (mut connection, mut ids) = fixture.open();
    let (mut state, mut row_id) = (1_u64, 1_i64);
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    let (mut spent_us, mut slice_max_us, mut slices, mut false_ones) = (0, 0, 0_u64, 0);
    for million in 1..=10 {
        let (before_us, work_before_us) = (clock::monotonic_us(), spent_us);
        for _ in 0..100 {
            let hashes: Vec<KeyHash> =
                (0..10_000).map(|_| KeyHash(u128::from(random()) << 64 | u128::from(random()))).collect();
            let transaction = connection.transaction().unwrap();
            let mut found = Vec::new();
            ids.look_up(&transaction, &hashes, &mut found).unwrap();
            false_ones += found.len();
            for hash in hashes {
                assert!(ids.newest(hash).next().is_none());
                ids.stage(hash, row_id);
                row_id += 1;
            }
            ids.save(&transaction).unwrap();
            transaction.commit().unwrap();
            ids.committed();
            if ids.work_due() {
                let start_us = clock::monotonic_us();
                ids.work(&mut connection, Duration::from_millis(4)).unwrap();
                let took_us = clock::monotonic_us() - start_us;
                (spent_us, slices) = (spent_us + took_us, slices + 1);
                slice_max_us = slice_max_us.max(took_us);
            }
        }
        let took_us = clock::monotonic_us() - before_us;
        eprintln!(
            "{million} M ids: {} ns an id, {} of them upkeep; {:.2} bytes an id, {} runs",
            took_us / 1_000,
            (spent_us - work_before_us) / 1_000,
            ids.memory_bytes() as f64 / ids.count() as f64,
            ids.runs.len()
        );
    }
    let start_us = clock::monotonic_us();
    drop(ids);
    let ids = Ids::load(&connection, fixture.path()).unwrap();
    eprintln!(
        "loaded {} ids in {} ms; {slices} slices, the longest {slice_max_us} us; {false_ones} false candidates",
        ids.count(),
        (clock::monotonic_us() - start_us) / 1_000
    );
}
