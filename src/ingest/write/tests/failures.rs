//! Failures: locks, full disks, removed, replaced and damaged files, panics.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::{Rig, SHARD, Turn, folder, settings, until};
use crate::base::ids::LaneId;
use crate::clicks::CLICKS;
use crate::families::FAMILIES;
use crate::ingest::write::run;
use crate::ingest::{CLICK, encode_header};
use crate::shard::{CheckpointMode, Lock, Shard, ShardState};

#[test]
fn w3_a_lock_held_outside_keeps_every_row_waiting_and_loses_none() {
    let mut rig = Rig::new();
    let readers = std::mem::take(&mut rig.readers);
    let (status, stop, folder) = (Arc::clone(&rig.status), Arc::clone(&rig.stop), folder(&rig.dir));
    let writer = thread::spawn(move || run(SHARD, folder, readers, status, (), stop, settings()));
    until("open", || rig.status.state() == ShardState::Open);
    let lock = Lock::acquire(&rig.path(), Duration::from_secs(5)).unwrap();
    rig.accept(0, 500);
    until("busy", || rig.status.state() == ShardState::Busy);
    rig.accept(1, 500);
    assert_eq!(rig.status.stored(&CLICKS), 0);
    drop(lock);
    until("all rows", || rig.status.stored(&CLICKS) == 1_000);
    assert_eq!(rig.status.state(), ShardState::Open);
    rig.stop.request(Duration::from_secs(30));
    writer.join().unwrap();
    rig.all_stored();
}

#[test]
fn a_stop_during_a_lock_ends_at_its_deadline_and_the_journal_keeps_the_rest() {
    let mut rig = Rig::new();
    let mut writer = rig.writer();
    rig.accept(0, 50);
    writer.settle();
    let lock = Lock::acquire(&rig.path(), Duration::ZERO).unwrap();
    rig.accept(0, 50);
    rig.stop.request(Duration::from_millis(20));
    writer.work();
    assert_eq!(rig.status.state(), ShardState::Stopped);
    drop(lock);
    let mut rig = rig.restart(writer);
    rig.writer().settle();
    rig.all_stored();
}

#[test]
fn a_stop_includes_what_arrived_just_before_it() {
    let mut rig = Rig::new();
    let mut writer = rig.writer();
    rig.accept(0, 50);
    writer.settle();
    let mut appenders = std::mem::take(&mut rig.appenders);
    rig.accepted += 1;
    let header = encode_header(rig.accepted, 1_000, 1_001);
    let stop = Arc::clone(&rig.stop);
    writer.after_read = Some(Box::new(move || {
        appenders[0].stage(CLICK, &[&header, b"{}"]);
        appenders[0].commit().unwrap();
        assert!(appenders[0].state().ask_rotation().is_some());
        appenders[0].rotate_if_asked().unwrap();
        stop.request(Duration::from_secs(30));
    }));
    writer.work();
    assert_eq!(rig.status.state(), ShardState::Stopped);
    rig.all_stored();
    let lane = fs::read_dir(folder(&rig.dir).lane(LaneId::hot(0))).unwrap();
    let segments =
        lane.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "seg"));
    assert_eq!(segments.count(), 1, "the segment with the records is deleted");
}

#[test]
fn a_full_disk_is_waited_for() {
    let mut rig = Rig::new();
    let mut writer = rig.writer();
    rig.accept(0, 10);
    writer.settle();
    writer.open_shard().limit_growth(0);
    rig.accept(0, 3_000);
    let mut full = 0;
    for _ in 0..50 {
        if let Err(error) = writer.turn() {
            writer.weather(error);
            assert_eq!(rig.status.state(), ShardState::Full);
            full += 1;
        }
    }
    assert!(full >= 10 && rig.status.stored(&CLICKS) < 3_010);
    writer.open_shard().limit_growth(1_000_000);
    writer.settle();
    assert_eq!(rig.status.state(), ShardState::Open);
    rig.all_stored();
}

#[test]
fn a_removed_file_is_brought_back_with_every_row() {
    let mut rig = Rig::new();
    let mut writer = rig.writer();
    rig.accept(0, 300);
    writer.settle();
    // The journal has released these records, so only the open connection still has them.
    writer.checkpoint(CheckpointMode::Passive).unwrap();
    rig.accept(1, 20);
    fs::remove_file(rig.path()).unwrap();
    writer.settle();
    assert_eq!(rig.status.reopened.get(), 1);
    rig.accept(0, 5);
    writer.settle();
    rig.all_stored();
}

#[test]
fn a_replaced_file_gets_what_the_journal_still_has_from_its_own_position_on() {
    let mut rig = Rig::new();
    let mut writer = rig.writer();
    rig.accept(0, 300);
    writer.settle();
    writer.checkpoint(CheckpointMode::Truncate).unwrap();
    let copy = rig.dir.path().join("backup.db");
    fs::copy(rig.path(), &copy).unwrap();
    rig.accept(0, 200);
    writer.settle();
    fs::rename(&copy, rig.path()).unwrap();
    rig.accept(0, 10);
    writer.settle();
    assert_eq!(rig.status.lost_records.get(), 0);
    rig.all_stored();
}

#[test]
fn rows_that_are_in_neither_place_are_counted_as_lost() {
    let mut rig = Rig::new();
    let mut writer = rig.writer();
    for _ in 0..100 {
        rig.accept(0, 10);
    }
    writer.settle();
    writer.checkpoint(CheckpointMode::Truncate).unwrap();
    // An empty file replaces the full one.
    let other = tempfile::tempdir().unwrap();
    drop(Shard::open(&folder(&other), &settings().shard, &FAMILIES).unwrap());
    fs::rename(folder(&other).database(), rig.path()).unwrap();
    writer.settle();
    let lost = rig.status.lost_records.get();
    assert!(lost > 0 && lost + rig.status.stored(&CLICKS) == 1_000, "{lost} lost");
}

#[test]
fn a_flipped_bit_in_the_wal_costs_no_row() {
    for step in 0..8 {
        let mut rig = Rig::new();
        let mut writer = rig.writer();
        rig.accept(0, 200);
        writer.settle();
        writer.checkpoint(CheckpointMode::Passive).unwrap();
        for _ in 0..20 {
            rig.accept(0, 30);
            rig.accept(1, 30);
            writer.settle();
        }
        // The server is killed, so nothing is checkpointed. Then one bit flips.
        let wal = rig.path().with_extension("db-wal");
        let (mut bytes, database) = (fs::read(&wal).unwrap(), fs::read(rig.path()).unwrap());
        let at = bytes.len() * step / 8 + 5;
        bytes[at] ^= 1;
        let mut rig = rig.restart(writer);
        fs::write(rig.path(), database).unwrap();
        fs::write(&wal, bytes).unwrap();
        let mut writer = rig.writer();
        writer.settle();
        assert_eq!(rig.status.lost_records.get(), 0);
        rig.all_stored();
    }
}

#[test]
fn a_damaged_file_is_quarantined_and_writing_goes_on_when_it_was_replaced() {
    let mut rig = Rig::new();
    let mut writer = rig.writer();
    rig.accept(0, 300);
    writer.settle();
    writer.checkpoint(CheckpointMode::Truncate).unwrap();
    let good = fs::read(rig.path()).unwrap();
    let mut rig = rig.restart(writer);
    fs::write(rig.path(), [b"Not a database!!", &good[16..]].concat()).unwrap();

    let readers = std::mem::take(&mut rig.readers);
    let (status, stop, folder) = (Arc::clone(&rig.status), Arc::clone(&rig.stop), folder(&rig.dir));
    let writer = thread::spawn(move || run(SHARD, folder, readers, status, (), stop, settings()));
    until("quarantined", || rig.status.state() == ShardState::Quarantined);
    assert!(rig.status.last_error().unwrap().contains("damaged"));
    rig.accept(0, 100);
    let restored = rig.dir.path().join("restored.db");
    fs::write(&restored, &good).unwrap();
    fs::rename(&restored, rig.path()).unwrap();
    until("all rows", || rig.status.stored(&CLICKS) == 400);
    rig.stop.request(Duration::from_secs(30));
    writer.join().unwrap();
    rig.all_stored();
}

#[test]
fn a_stop_ends_a_quarantine_at_once() {
    let mut rig = Rig::new();
    fs::write(rig.path(), [7; 8192]).unwrap();
    let mut writer = rig.writer();
    rig.stop.request(Duration::from_secs(3_600));
    writer.work();
    assert_eq!(rig.status.state(), ShardState::Stopped);
    assert_eq!(fs::read(rig.path()).unwrap(), [7; 8192]);
}

#[test]
fn a_database_ahead_of_its_journal_is_quarantined_so_that_no_new_record_is_skipped() {
    let mut rig = Rig::new();
    let mut writer = rig.writer();
    rig.accept(0, 50);
    writer.settle();
    let mut ahead = Rig::new();
    let mut other = ahead.writer();
    ahead.accept(0, 500);
    other.settle();
    other.checkpoint(CheckpointMode::Truncate).unwrap();
    fs::rename(ahead.path(), rig.path()).unwrap();
    for _ in 0..5 {
        if let Err(error) = writer.turn() {
            writer.weather(error);
        }
    }
    assert_eq!(rig.status.state(), ShardState::Quarantined);
    assert!(rig.status.last_error().unwrap().contains("journal ends at 50"));
}

#[test]
fn a_panic_costs_a_reopening_and_nothing_else() {
    let mut rig = Rig::new();
    let mut writer = rig.writer();
    rig.accept(0, 50);
    writer.settle();
    rig.accept(0, 50);
    writer.after_read = Some(Box::new(|| panic!("a fault for the test")));
    rig.stop.request(Duration::from_secs(30));
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| writer.work()));
    writer.recover(ended.unwrap_err());
    assert!(rig.status.last_error().unwrap().contains("a fault for the test"));
    assert_eq!(rig.status.state(), ShardState::Reopening);
    writer.work();
    assert_eq!((rig.status.state(), rig.status.reopened.get()), (ShardState::Stopped, 1));
    rig.all_stored();
}

#[test]
fn damage_in_the_journal_is_skipped_and_the_rest_is_stored() {
    let mut rig = Rig::new();
    rig.accept(0, 20);
    let lane = folder(&rig.dir).lane(LaneId::hot(0));
    let segment = fs::read_dir(&lane).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_file());
    let segment = segment.unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 0xff;
    fs::write(&segment, bytes).unwrap();
    let mut writer = rig.writer();
    writer.settle();
    assert_eq!(rig.status.stored(&CLICKS), 19);
    assert_eq!(rig.appenders[0].state().damaged_records(), 1);
    rig.accept(0, 5);
    assert_ne!(writer.turn().unwrap(), Turn::Idle);
    assert_eq!(rig.status.stored(&CLICKS), 24);
}

#[test]
fn a_removed_folder_costs_no_row() {
    let mut rig = Rig::new();
    let mut writer = rig.writer();
    rig.accept(0, 250);
    writer.settle();
    fs::remove_dir_all(folder(&rig.dir).dir()).unwrap();
    // These events go to an unlinked file until the journal starts its next segment.
    rig.accept(0, 10);
    writer.settle();
    assert_eq!(rig.status.reopened.get(), 1);
    rig.accept(0, 200);
    rig.accept(0, 200);
    writer.settle();
    assert_eq!((rig.status.lost_records.get(), rig.appenders[0].state().damaged_records()), (0, 0));
    writer.checkpoint(CheckpointMode::Passive).unwrap();
    rig.all_stored();
    let mut rig = rig.restart(writer);
    rig.accept(0, 1);
    rig.writer().settle();
    rig.all_stored();
}

#[test]
fn a_database_file_that_is_cut_in_place_lets_no_segment_go() {
    let mut rig = Rig::new();
    let mut writer = rig.writer();
    rig.accept(0, 500);
    writer.settle();
    writer.checkpoint(CheckpointMode::Truncate).unwrap();
    rig.accept(0, 500);
    writer.settle();
    let segments = || fs::read_dir(folder(&rig.dir).lane(LaneId::hot(0))).unwrap().count();
    let before = segments();
    assert!(before > 1, "there is something to release");
    fs::File::options().write(true).open(rig.path()).unwrap().set_len(0).unwrap();
    assert!(writer.checkpoint(CheckpointMode::Passive).is_err(), "the checkpoint is not made");
    assert_eq!(segments(), before);
    let error = writer.turn().unwrap_err();
    assert!(error.to_string().contains("it was truncated"), "{error}");
    writer.weather(error);
    assert_eq!(rig.status.state(), ShardState::Quarantined);
    assert!(writer.turn().is_err(), "it stays so while the file stays so");
    assert_eq!(segments(), before);
}
