//! Normal operation: batches, checkpoints, indexes, stopping, restarting.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::{Rig, SHARD, folder, settings, until};
use crate::base::ids::LaneId;
use crate::clicks::CLICKS;
use crate::families::FAMILIES;
use crate::ingest::write::{Turn, WriteSettings, run};
use crate::shard::{ShardOptions, ShardState, inspect};

#[test]
fn what_is_accepted_while_it_runs_is_stored_once_and_a_stop_leaves_nothing_behind() {
    let mut rig = Rig::new();
    let readers = std::mem::take(&mut rig.readers);
    let (status, stop, folder) = (Arc::clone(&rig.status), Arc::clone(&rig.stop), folder(&rig.dir));
    let writer = thread::spawn(move || run(SHARD, folder, readers, status, (), stop, settings()));
    for round in 0..200 {
        rig.accept(round % 2, 17);
    }
    let last = rig.accept(0, 1);
    until("the last row is committed", || rig.status.applied(LaneId::hot(0)) == last);
    rig.accept(1, 100);
    rig.stop.request(Duration::from_secs(30));
    writer.thread().unpark();
    writer.join().unwrap();
    assert!(!rig.path().with_extension("db-wal").exists(), "the WAL went into the file");
    assert_eq!(rig.status.state(), ShardState::Stopped);
    assert_eq!(rig.status.stored(&CLICKS), rig.accepted as u64);
    assert_eq!(rig.status.commit_us().unwrap().len(), rig.status.commits.get());
    rig.all_stored();
    for appender in &rig.appenders {
        assert_eq!(appender.state().pending_bytes(), 0);
        assert!(appender.state().bytes_on_disk() <= 16 * 1024 + 4096, "only the newest segment is left");
    }
}

#[test]
fn a_full_batch_does_not_wait_and_no_lane_starves() {
    let mut rig = Rig::new();
    let mut writer = rig.writer();
    rig.accept(0, 1_000);
    rig.accept(1, 150);
    assert_eq!(writer.turn().unwrap(), Turn::Behind);
    assert_eq!(rig.status.stored(&CLICKS), 100);
    assert_eq!(writer.turn().unwrap(), Turn::Behind);
    assert_eq!(rig.status.applied(LaneId::keyed(0)).0, 100, "the second turn began with the other lane");
    while writer.turn().unwrap() == Turn::Behind {}
    writer.settle();
    assert_eq!((writer.lanes.pending(), rig.status.stored(&CLICKS)), (0, 1_150));
    rig.all_stored();
}

#[test]
fn a_crash_between_commit_and_checkpoint_repeats_nothing() {
    let mut rig = Rig::new();
    for _ in 0..3 {
        let mut writer = rig.writer();
        rig.accept(0, 250);
        assert_eq!(writer.turn().unwrap(), Turn::Behind);
        rig.accept(1, 30);
        writer.turn().unwrap();
        rig = rig.restart(writer);
    }
    let mut writer = rig.writer();
    writer.settle();
    rig.all_stored();
    assert_eq!(rig.status.lost_records.get(), 0);
}

#[test]
fn the_journal_lets_go_only_of_what_a_checkpoint_made_durable() {
    let mut rig = Rig::new();
    let never = Duration::from_secs(3_600);
    let mut writer = rig.writer_with(WriteSettings { checkpoint_age_max: never, ..settings() });
    for _ in 0..100 {
        rig.accept(0, 10);
    }
    let before = rig.appenders[0].state().bytes_on_disk();
    writer.settle();
    assert_eq!(rig.appenders[0].state().bytes_on_disk(), before);
    writer.checkpoint(crate::shard::CheckpointMode::Passive).unwrap();
    assert_eq!(rig.status.checkpoints.get(), 1);
    assert!(rig.appenders[0].state().bytes_on_disk() < before / 2);
    rig.all_stored();
}

#[test]
fn sealed_partitions_get_their_indexes_while_rows_go_on() {
    let mut rig = Rig::new();
    let small = ShardOptions { partition_rows_max: 150, ..settings().shard };
    let mut writer = rig.writer_with(WriteSettings { shard: small, ..settings() });
    rig.accept(0, 700);
    writer.settle();
    while writer.shard.as_ref().is_some_and(|shard| {
        inspect(shard.path(), &FAMILIES).unwrap().partitions.iter().any(|p| p.sealed && !p.indexed)
    }) {
        writer.turn().unwrap();
    }
    let partitions = inspect(&rig.path(), &FAMILIES).unwrap().partitions;
    assert!(partitions.len() >= 4);
    assert!(partitions.iter().take(3).all(|partition| partition.indexed && partition.rows >= 150));
    rig.all_stored();
}
