//! Tests that no id is missed after any commit, rollback, interruption or deletion.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use rusqlite::{Connection, params};

use super::{IdRows, Ids, IdsOf, SIZES, Sizes, schema};
use crate::base::keys::KeyHash;
use crate::shard::error::ShardError;
use crate::shard::open::open_plain;

/// The ids of arbitrary rows.
pub(super) static IDS: &IdsOf = &IdsOf {
    rows: IdRows::Table { name: "row", next_sql: "" },
    prefix: "",
    what: "row",
    key: "id",
    rows_sql: |_| String::new(),
    sizes: SIZES,
};

/// Sizes with which a few batches go through the whole life of a run.
const SMALL: Sizes = Sizes { run_ids_min: 40, chunk_ids: 3 };

/// A budget with which a slice does as little as possible.
const NO_TIME: Duration = Duration::ZERO;

fn open(path: &Path) -> Connection {
    let connection = open_plain(path, true).unwrap();
    connection.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF").unwrap();
    connection
}

/// A file's ids, and the expected rows of each key.
struct Model {
    dir: tempfile::TempDir,
    connection: Connection,
    ids: Ids,
    rows: BTreeMap<u16, Vec<i64>>,
    next_row_id: i64,
    forgotten_below: i64,
}

/// Returns the hash of a key. Some keys share the whole hash, and some only the half that is used.
fn hash(key: u16) -> KeyHash {
    let class = u64::from(key) / 3;
    let lower = class.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    KeyHash(u128::from(key % 2) << 64 | u128::from(lower))
}

#[derive(Clone, Debug)]
enum Step {
    Batch { keys: Vec<u16>, is_committed: bool },
    Work { slices: u8, waits: bool },
    Reopen { in_batch: bool },
    Forget { part: u8, is_committed: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let keys = proptest::collection::vec(0..600_u16, 0..50);
    proptest::collection::vec(
        prop_oneof![
            6 => (keys, 0..5_u8).prop_map(|(keys, n)| Step::Batch { keys, is_committed: n > 0 }),
            6 => (1..6_u8, any::<bool>()).prop_map(|(slices, waits)| Step::Work { slices, waits }),
            2 => any::<bool>().prop_map(|in_batch| Step::Reopen { in_batch }),
            1 => (0..100_u8, any::<bool>()).prop_map(|(part, is_committed)| Step::Forget { part, is_committed }),
        ],
        1..60,
    )
}

impl Model {
    fn new() -> Model {
        let dir = tempfile::tempdir().unwrap();
        let connection = open(&dir.path().join("ids.db"));
        connection.execute_batch(&schema(IDS)).unwrap();
        let ids = Ids::load_with(&connection, IDS, SMALL).unwrap();
        Model { dir, connection, ids, rows: BTreeMap::new(), next_row_id: 1, forgotten_below: 1 }
    }

    fn stage(&mut self, keys: &[u16]) {
        let transaction = self.connection.transaction().unwrap();
        for (row_id, key) in (self.next_row_id..).zip(keys) {
            self.ids.stage(hash(*key), row_id);
            assert!(self.ids.newest(hash(*key)).any(|found| found == row_id));
        }
        self.ids.save(&transaction).unwrap();
        // The caller commits or rolls back by SQL.
        std::mem::forget(transaction);
    }

    fn commit(&mut self, keys: &[u16]) {
        self.stage(keys);
        self.connection.execute_batch("COMMIT").unwrap();
        self.ids.committed();
        for key in keys {
            self.rows.entry(*key).or_default().push(self.next_row_id);
            self.next_row_id += 1;
        }
    }

    fn rollback(&mut self, keys: &[u16]) {
        self.stage(keys);
        self.connection.execute_batch("ROLLBACK").unwrap();
        self.ids.rolled_back();
    }

    /// Discards everything in memory, and the open transaction.
    fn reopen(&mut self) {
        self.connection = open(&self.dir.path().join("ids.db"));
        self.ids = Ids::load_with(&self.connection, IDS, SMALL).unwrap();
    }

    fn wait_for_thread(&mut self) {
        if let Some(frozen) = &mut self.ids.frozen {
            frozen.sorted();
            assert!(!frozen.is_waiting());
        }
    }

    fn forget(&mut self, part: u8, is_committed: bool) {
        let row_id = 1 + (self.next_row_id - 1) * i64::from(part) / 100;
        let transaction = self.connection.transaction().unwrap();
        self.ids.forget_below(&transaction, row_id).unwrap();
        match is_committed {
            true => transaction.commit().unwrap(),
            false => transaction.rollback().unwrap(),
        }
        match is_committed {
            true => self.ids.committed(),
            false => self.ids.rolled_back(),
        }
        if is_committed {
            self.forgotten_below = self.forgotten_below.max(row_id);
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Batch { keys, is_committed: true } => self.commit(keys),
            Step::Batch { keys, is_committed: false } => self.rollback(keys),
            Step::Work { slices, waits } => {
                for _ in 0..*slices {
                    if *waits {
                        self.wait_for_thread();
                    }
                    self.ids.work(&mut self.connection, NO_TIME).unwrap();
                }
            }
            Step::Reopen { in_batch } => {
                if *in_batch {
                    self.stage(&[1, 2, 3]);
                }
                self.reopen();
            }
            Step::Forget { part, is_committed } => self.forget(*part, *is_committed),
        }
    }

    fn is_work_left(&mut self) -> bool {
        self.wait_for_thread();
        self.ids.work_due()
    }

    /// Works until nothing is due.
    fn settle(&mut self) {
        while self.is_work_left() {
            self.ids.work(&mut self.connection, NO_TIME).unwrap();
        }
    }

    fn candidates(&mut self, keys: &[u16]) -> Vec<Vec<i64>> {
        let hashes: Vec<KeyHash> = keys.iter().copied().map(hash).collect();
        let mut older = Vec::new();
        self.ids.look_up(&self.connection, &hashes, &mut older).unwrap();
        let mut found: Vec<Vec<i64>> = hashes.iter().map(|hash| self.ids.newest(*hash).collect()).collect();
        for (place, row_id) in older {
            found[place as usize].push(row_id);
        }
        found.iter_mut().for_each(|rows| rows.sort_unstable());
        found
    }

    /// Checks that the candidates are the rows with the same lower half of the hash: all that were not forgotten,
    /// each once, and no others.
    fn check(&mut self) {
        let keys: Vec<u16> = (0..700).collect();
        let mut reader = super::IdReader::open(&self.connection, IDS).unwrap();
        let hashes: Vec<KeyHash> = keys.iter().map(|key| hash(*key)).collect();
        let together = reader.find(&self.connection, &hashes).unwrap();
        let newest = reader.sort(&self.connection, usize::MAX).unwrap();
        assert_eq!(reader.find(&self.connection, &hashes).unwrap(), together, "{newest} sorted ids");
        for (key, found) in keys.iter().zip(self.candidates(&keys)) {
            let first = key / 3 * 3;
            let mut rows: Vec<i64> =
                self.rows.range(first..first + 3).flat_map(|(_, rows)| rows.iter().copied()).collect();
            rows.sort_unstable();
            let found_all = found.iter().all(|row_id| rows.contains(row_id));
            assert!(found_all && found.is_sorted_by(|one, next| one < next), "{key}: {found:?} of {rows:?}");
            rows.retain(|row_id| *row_id >= self.forgotten_below && !found.contains(row_id));
            assert_eq!(rows, Vec::<i64>::new(), "{key} is missed");
            // A reader finds the same rows in the tables alone, and possibly forgotten ones.
            let mut read = super::find(&self.connection, IDS, hash(*key)).unwrap();
            read.retain(|row_id| *row_id >= self.forgotten_below || found.contains(row_id));
            read.sort_unstable();
            assert_eq!(read, found, "{key}");
            if key % 10 > 0 {
                continue;
            }
            let mut read = reader.find(&self.connection, &[hash(*key)]).unwrap();
            assert!(read.iter().all(|row_id| together.binary_search(row_id).is_ok()), "{key}");
            read.retain(|row_id| *row_id >= self.forgotten_below || found.contains(row_id));
            assert_eq!(read, found, "{key}");
        }
        if newest > 0 {
            assert_eq!(reader.sort(&self.connection, newest - 1).unwrap(), 0, "more ids than permitted");
        }
    }

    fn rows_of(&self, table: &str) -> i64 {
        self.connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_id_is_missed_whatever_happens(steps in steps()) {
        let mut model = Model::new();
        for step in &steps {
            model.take(step);
            model.check();
        }
        model.settle();
        model.check();
        model.reopen();
        model.check();
    }
}

#[test]
fn an_id_is_found_at_every_slice_of_a_runs_life_and_after_a_crash_in_it() {
    let keys: Vec<u16> = (0..600).collect();
    let slices = |stop: usize| {
        let mut model = Model::new();
        model.commit(&keys[..300]);
        model.commit(&keys[300..]);
        let mut taken = 0;
        while taken < stop && model.is_work_left() {
            model.ids.work(&mut model.connection, NO_TIME).unwrap();
            model.check();
            taken += 1;
        }
        model.reopen();
        model.check();
        model.commit(&[1, 2, 3]);
        model.check();
        model.settle();
        model.check();
        let chunks: u32 = model.ids.runs.iter().map(|run| run.chunks).sum();
        let recent = i64::from(model.ids.newest.count() > 0);
        assert_eq!((model.rows_of("id_recent"), model.rows_of("id_chunk")), (recent, i64::from(chunks)));
        taken
    };
    let all = slices(usize::MAX);
    assert!(all >= 25, "{all}");
    for stop in 0..all {
        slices(stop);
    }
}

#[test]
fn rows_that_share_a_hash_are_all_candidates() {
    let mut model = Model::new();
    for _ in 0..40 {
        model.commit(&[6, 7, 8, 9]);
        model.settle();
    }
    model.check();
    assert_eq!(model.candidates(&[7])[0].len(), 40 * 3);
    assert!(model.ids.runs.len() > 2);
}

#[test]
fn what_only_names_forgotten_rows_is_deleted() {
    let mut model = Model::new();
    for start in 0..6 {
        model.commit(&(start * 100..start * 100 + 100).collect::<Vec<u16>>());
        model.settle();
    }
    assert_eq!((model.ids.runs.len(), model.rows_of("id_chunk")), (6, 6 * 34));
    let before = (model.ids.memory_bytes(), model.ids.count());
    model.forget(50, false);
    assert_eq!((model.ids.memory_bytes(), model.ids.count()), before);
    model.forget(50, true);
    assert!(model.ids.work_due());
    model.settle();
    assert_eq!((model.ids.runs.len(), model.rows_of("id_chunk"), model.rows_of("id_run")), (3, 3 * 34, 3));
    assert_eq!(model.ids.count(), 300);
    assert!(model.ids.memory_bytes() < before.0);
    model.check();
    model.forget(100, true);
    model.settle();
    assert_eq!((model.rows_of("id_run"), model.rows_of("id_chunk"), model.rows_of("id_recent")), (0, 0, 0));
    model.commit(&[5, 6]);
    model.reopen();
    model.check();
    assert_eq!(model.ids.next_row_id(), Some(603));
}

#[test]
fn ids_that_outrun_the_thread_wait_for_it() {
    let mut model = Model::new();
    model.commit(&[1; 40]);
    model.ids.work(&mut model.connection, NO_TIME).unwrap();
    model.commit(&[2; 30]);
    // Work is due whether or not the thread has finished.
    assert!(model.ids.work_due());
    model.ids.work(&mut model.connection, NO_TIME).unwrap();
    assert!(model.rows_of("id_chunk") > 0);
    model.check();
}

#[test]
fn a_lock_of_somebody_else_costs_a_slice_and_nothing_more() {
    let mut model = Model::new();
    model.commit(&(0..500).collect::<Vec<u16>>());
    let other = open(&model.dir.path().join("ids.db"));
    model.connection.busy_timeout(Duration::ZERO).unwrap();
    while model.is_work_left() {
        if model.ids.frozen.is_some() || model.ids.leftovers.recent_below.is_some() {
            other.execute_batch("BEGIN IMMEDIATE").unwrap();
            let refused = model.ids.work(&mut model.connection, NO_TIME);
            assert!(matches!(refused, Err(ShardError::Busy)), "{refused:?}");
            other.execute_batch("ROLLBACK").unwrap();
            model.check();
        }
        model.ids.work(&mut model.connection, NO_TIME).unwrap();
    }
    model.check();
    assert_eq!(model.ids.runs.len(), 1);
    model.reopen();
    model.check();
}

/// A damaged blob is reported when it is loaded or read.
#[test]
fn damage_is_said_and_never_believed() {
    let mut model = Model::new();
    model.commit(&(0..500).collect::<Vec<u16>>());
    model.settle();
    model.commit(&[1, 2, 3]);
    for (table, key, blob) in
        [("id_recent", "first_id", "hashes"), ("id_run", "first_id", "filter"), ("id_chunk", "id", "entries")]
    {
        let (id, bytes): (i64, Vec<u8>) = model
            .connection
            .query_row(&format!("SELECT {key}, {blob} FROM {table} LIMIT 1"), [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        let write = |value: &dyn rusqlite::ToSql| {
            let sql = format!("UPDATE {table} SET {blob} = ?2 WHERE {key} = ?1");
            model.connection.execute(&sql, params![id, value]).unwrap();
        };
        let is_said = || match Ids::load_with(&model.connection, IDS, SMALL) {
            Err(error) => matches!(error, ShardError::Corrupt(_)),
            Ok(mut ids) => {
                let hashes: Vec<KeyHash> = (0..600).map(hash).collect();
                let read = ids.look_up(&model.connection, &hashes, &mut Vec::new());
                matches!(read, Err(ShardError::Corrupt(_)))
            }
        };
        for at in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
            let mut other = bytes.clone();
            other[at] ^= 0x10;
            write(&other);
            assert!(is_said(), "{table} {at}");
        }
        write(&&bytes[..bytes.len() / 2]);
        assert!(is_said());
        write(&Vec::<u8>::new());
        assert!(is_said());
        write(&"text");
        assert!(is_said());
        write(&bytes);
        assert!(!is_said());
    }
    for (broken, mended) in [
        ("UPDATE id_run SET ids = -1", "UPDATE id_run SET ids = 500"),
        ("UPDATE id_run SET ids = 9e15", "UPDATE id_run SET ids = 500"),
        ("UPDATE id_run SET ids = 499", "UPDATE id_run SET ids = 500"),
        ("UPDATE id_run SET chunks = 0", "UPDATE id_run SET chunks = 167"),
        ("UPDATE id_recent SET first_id = first_id + 1", "UPDATE id_recent SET first_id = first_id - 1"),
    ] {
        model.connection.execute_batch(broken).unwrap();
        let loaded = Ids::load_with(&model.connection, IDS, SMALL);
        assert!(matches!(loaded, Err(ShardError::Corrupt(_))), "{broken}");
        model.connection.execute_batch(mended).unwrap();
    }
    model.reopen();
    model.check();
}
