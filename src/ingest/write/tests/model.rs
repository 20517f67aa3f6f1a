//! Any mixture of events and failures: in the end, every accepted event is stored as exactly one row.

use proptest::prelude::*;

use super::{Rig, settings};
use crate::clicks::CLICKS;
use crate::ingest::write::WriteSettings;
use crate::shard::{CheckpointMode, Lock, ShardOptions};

#[derive(Clone, Debug)]
enum Step {
    Accept { lane: usize, events: i64 },
    Turn,
    Locked,
    Full,
    Checkpoint,
    Unlink,
    Crash,
    Panic,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..2_usize, 0..120_i64).prop_map(|(lane, events)| Step::Accept { lane, events }),
        4 => Just(Step::Turn),
        1 => Just(Step::Locked),
        1 => Just(Step::Full),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Unlink),
        2 => Just(Step::Crash),
        1 => Just(Step::Panic),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_accepted_event_is_stored_once_whatever_happens(steps in prop::collection::vec(step(), 1..30)) {
        let small = ShardOptions { partition_rows_max: 150, ..settings().shard };
        let settings = WriteSettings { shard: small, ..settings() };
        let mut rig = Rig::new();
        let mut writer = rig.writer_with(settings.clone());
        for step in steps {
            match step {
                Step::Accept { lane, events } => {
                    rig.accept(lane, events);
                }
                Step::Turn => {
                    if let Err(error) = writer.turn() {
                        writer.weather(error);
                    }
                }
                Step::Locked if rig.path().exists() => {
                    let lock = Lock::acquire(&rig.path(), std::time::Duration::ZERO).unwrap();
                    if let Err(error) = writer.turn() {
                        writer.weather(error);
                    }
                    drop(lock);
                }
                Step::Full => {
                    if let Some(shard) = &writer.shard {
                        shard.limit_growth(0);
                        if let Err(error) = writer.turn() {
                            writer.weather(error);
                        }
                    }
                    if let Some(shard) = &writer.shard {
                        shard.limit_growth(1_000_000);
                    }
                }
                Step::Checkpoint => writer.checkpoint(CheckpointMode::Passive).unwrap(),
                // This runs only while a connection is open, because a file that is removed while no process has it
                // open is lost.
                Step::Unlink if writer.shard.is_some() => {
                    writer.settle();
                    std::fs::remove_file(rig.path()).unwrap();
                    writer.settle();
                }
                Step::Crash => {
                    rig = rig.restart(writer);
                    writer = rig.writer_with(settings.clone());
                }
                Step::Panic => {
                    writer.recover(Box::new("a fault for the test"));
                }
                Step::Locked | Step::Unlink => {}
            }
            prop_assert!(rig.status.stored(&CLICKS) <= rig.accepted as u64);
        }
        writer.settle();
        prop_assert_eq!(rig.status.lost_records.get(), 0);
        rig.all_stored();
    }
}
