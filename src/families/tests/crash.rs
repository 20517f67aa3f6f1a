//! Faults from outside: locks, full disks, flipped bits, removed and replaced files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{HOT, clicks, folder, open, options, sound, users};
use crate::base::ids::Sequence;
use crate::clicks::CLICKS;
use crate::families::FAMILIES;
use crate::shard::{CheckpointMode, Lock, Shard, ShardError, open_reader};

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

#[test]
fn a_lock_held_outside_is_busy_and_the_same_batch_goes_in_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    shard.apply(&[(HOT, &clicks(1..=1))], &mut |_, _, _| {}).unwrap();
    let lock = Lock::acquire(shard.path(), Duration::ZERO).unwrap();
    assert!(matches!(Lock::acquire(shard.path(), Duration::ZERO), Err(ShardError::Busy)));
    for _ in 0..3 {
        assert!(matches!(shard.apply(&[(HOT, &clicks(2..=9))], &mut |_, _, _| {}), Err(ShardError::Busy)));
    }
    // A file that needs no migration opens even while it is locked.
    assert_eq!(open(dir.path()).stored(&CLICKS), 1);
    drop(lock);
    assert_eq!(shard.apply(&[(HOT, &clicks(2..=9))], &mut |_, _, _| {}).unwrap().stored(&CLICKS), 8);
    assert_eq!(users(shard.path()), (1..=9).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_stores_nothing_of_the_batch_and_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    shard.apply(&[(HOT, &clicks(1..=1))], &mut |_, _, _| {}).unwrap();
    shard.limit_growth(1);
    for _ in 0..2 {
        assert!(matches!(
            shard.apply(&[(HOT, &clicks(2..=5_000))], &mut |_, _, _| {}),
            Err(ShardError::Full)
        ));
        assert_eq!((shard.position(HOT), shard.stored(&CLICKS)), (Sequence(1), 1));
    }
    assert_eq!(sound(shard.path()), 1);
    shard.limit_growth(1_000_000);
    assert_eq!(shard.apply(&[(HOT, &clicks(2..=5_000))], &mut |_, _, _| {}).unwrap().stored(&CLICKS), 4_999);
    assert_eq!(sound(shard.path()), 5_000);
}

#[test]
fn an_unlinked_file_is_noticed_and_healed_without_losing_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    shard.apply(&[(HOT, &clicks(1..=500))], &mut |_, _, _| {}).unwrap();
    shard.checkpoint(CheckpointMode::Passive).unwrap();
    shard.apply(&[(HOT, &clicks(501..=600))], &mut |_, _, _| {}).unwrap();
    shard.check_identity().unwrap();
    fs::remove_file(shard.path()).unwrap();
    assert!(matches!(shard.check_identity(), Err(ShardError::Missing)));
    shard.heal().unwrap();
    drop(shard);
    let mut shard = open(dir.path());
    assert_eq!((shard.stored(&CLICKS), shard.position(HOT)), (600, Sequence(600)));
    shard.apply(&[(HOT, &clicks(601..=601))], &mut |_, _, _| {}).unwrap();
    shard.check_identity().unwrap();
    assert_eq!(sound(shard.path()), 601);
    let left: Vec<_> = fs::read_dir(dir.path().join("shard-00")).unwrap().collect();
    assert_eq!(left.len(), 4, "shard.db, -wal, -shm and -pass: {left:?}");
}

#[test]
fn a_removed_folder_is_healed_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    shard.apply(&[(HOT, &clicks(1..=50))], &mut |_, _, _| {}).unwrap();
    fs::remove_dir_all(dir.path().join("shard-00")).unwrap();
    assert!(matches!(shard.check_identity(), Err(ShardError::Missing)));
    shard.heal().unwrap();
    drop(shard);
    assert_eq!(sound(open(dir.path()).path()), 50);
}

#[test]
fn a_removed_wal_is_noticed_and_its_rows_go_into_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    shard.apply(&[(HOT, &clicks(1..=50))], &mut |_, _, _| {}).unwrap();
    fs::remove_file(beside(shard.path(), "-wal")).unwrap();
    assert!(matches!(shard.check_identity(), Err(ShardError::Missing)));
    shard.heal().unwrap();
    drop(shard);
    let shard = open(dir.path());
    shard.check_identity().unwrap();
    assert_eq!(sound(shard.path()), 50);
}

#[test]
fn a_replaced_file_is_left_alone_and_its_own_position_counts() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut backup = open(other.path());
    backup.apply(&[(HOT, &clicks(1..=10))], &mut |_, _, _| {}).unwrap();
    backup.checkpoint(CheckpointMode::Truncate).unwrap();
    drop(backup);
    let mut shard = open(dir.path());
    shard.apply(&[(HOT, &clicks(1..=30))], &mut |_, _, _| {}).unwrap();
    let (path, moved) = (shard.path().to_owned(), dir.path().join("moved.db"));
    fs::rename(&path, &moved).unwrap();
    fs::copy(folder(other.path()).database(), &path).unwrap();
    assert!(matches!(shard.check_identity(), Err(ShardError::Replaced)));
    shard.leave().unwrap();
    // The WAL of the old file was not replayed into the new one.
    let mut shard = open(dir.path());
    assert_eq!((shard.stored(&CLICKS), shard.position(HOT)), (10, Sequence(10)));
    assert_eq!(shard.apply(&[(HOT, &clicks(1..=30))], &mut |_, _, _| {}).unwrap().stored(&CLICKS), 20);
    assert_eq!(sound(&path), 30);
    assert_eq!(sound(&moved), 30, "the file that was moved away got its rows");
}

#[test]
fn a_file_put_in_the_place_of_a_healed_copy_wins() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut backup = open(other.path());
    backup.apply(&[(HOT, &clicks(1..=3))], &mut |_, _, _| {}).unwrap();
    drop(backup);
    let mut shard = open(dir.path());
    shard.apply(&[(HOT, &clicks(1..=30))], &mut |_, _, _| {}).unwrap();
    let path = shard.path().to_owned();
    fs::remove_file(&path).unwrap();
    shard.heal().unwrap();
    drop(shard);
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(beside(&path, suffix));
    }
    fs::copy(folder(other.path()).database(), &path).unwrap();
    assert_eq!(open(dir.path()).stored(&CLICKS), 3);
    assert!(beside(&path, ".healed").exists(), "the copy stays beside it");
}

/// Copies the files that a kill -9 at this moment would leave.
fn killed(shard: &Shard, to: &Path) {
    let target = folder(to);
    fs::create_dir_all(target.dir()).unwrap();
    fs::copy(shard.path(), target.database()).unwrap();
    fs::copy(beside(shard.path(), "-wal"), beside(&target.database(), "-wal")).unwrap();
}

#[test]
fn a_flipped_bit_in_the_wal_takes_rows_and_position_back_together() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    shard.apply(&[(HOT, &clicks(1..=100))], &mut |_, _, _| {}).unwrap();
    let durable = shard.checkpoint(CheckpointMode::Passive).unwrap().durable;
    assert_eq!(durable, [(HOT, Sequence(100))]);
    for n in 0..40 {
        shard.apply(&[(HOT, &clicks(101 + n * 10..=110 + n * 10))], &mut |_, _, _| {}).unwrap();
    }
    let wal_bytes = fs::metadata(beside(shard.path(), "-wal")).unwrap().len();
    let mut fell_back = 0;
    for step in 0..40 {
        let copy = tempfile::tempdir().unwrap();
        killed(&shard, copy.path());
        let wal = beside(&folder(copy.path()).database(), "-wal");
        let mut bytes = fs::read(&wal).unwrap();
        bytes[(wal_bytes * step / 40) as usize + 3] ^= 0x10;
        fs::write(&wal, bytes).unwrap();
        let mut torn = open(copy.path());
        assert_eq!(torn.stored(&CLICKS), torn.position(HOT).0, "rows and position belong together");
        assert!(torn.stored(&CLICKS) >= 100, "what a checkpoint carried over stays");
        assert_eq!(users(torn.path()).len() as u64, torn.stored(&CLICKS));
        fell_back += u64::from(torn.stored(&CLICKS) < 500);
        torn.apply(&[(HOT, &clicks(1..=500))], &mut |_, _, _| {}).unwrap();
        assert_eq!(users(torn.path()), (1..=500).collect::<Vec<_>>());
        sound(torn.path());
    }
    assert!(fell_back >= 30, "most flips cost something: {fell_back}");
}

#[test]
fn a_broken_header_is_corrupt_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    shard.apply(&[(HOT, &clicks(1..=10))], &mut |_, _, _| {}).unwrap();
    let path = shard.path().to_owned();
    drop(shard);
    let mut bytes = fs::read(&path).unwrap();
    bytes[..16].copy_from_slice(b"Not a database!!");
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(Shard::open(&folder(dir.path()), &options(), &FAMILIES), Err(ShardError::Corrupt(_))));
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn positions_are_durable_only_after_a_complete_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    shard.apply(&[(HOT, &clicks(1..=500))], &mut |_, _, _| {}).unwrap();
    assert!(shard.wal_bytes() > 0);
    let done = shard.checkpoint(CheckpointMode::Passive).unwrap();
    assert!(done.complete && done.wal_bytes == 0);
    assert_eq!(done.durable, [(HOT, Sequence(500))]);
    // An open reader prevents a checkpoint from copying commits after its snapshot.
    let reader = open_reader(shard.path()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    shard.apply(&[(HOT, &clicks(501..=900))], &mut |_, _, _| {}).unwrap();
    shard.apply(&[(HOT, &clicks(901..=950))], &mut |_, _, _| {}).unwrap();
    for mode in [CheckpointMode::Passive, CheckpointMode::Truncate] {
        let held = shard.checkpoint(mode).unwrap();
        assert_eq!((held.complete, held.durable), (false, vec![]), "{mode:?}");
        assert!(held.wal_bytes > 0);
    }
    drop(reader);
    let done = shard.checkpoint(CheckpointMode::Truncate).unwrap();
    assert_eq!((done.complete, done.durable), (true, vec![(HOT, Sequence(950))]));
    assert_eq!(fs::metadata(beside(shard.path(), "-wal")).unwrap().len(), 0);
    shard.apply(&[(HOT, &clicks(951..=951))], &mut |_, _, _| {}).unwrap();
    assert!(shard.wal_bytes() > 0, "counted again from the front");
}
