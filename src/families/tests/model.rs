//! Any sequence of batches, crashes, locks and checkpoints, compared with a plain list of the accepted records.

use proptest::prelude::*;

use super::{HOT, KEYED, clicks, open, options, sound};
use crate::base::ids::{LaneId, Sequence};
use crate::clicks::CLICKS;
use crate::shard::{CheckpointMode, Lock, ShardError, ShardOptions};

#[derive(Clone, Debug)]
enum Step {
    /// Records that start `back` before the position and end `more` after it.
    Apply {
        lane: bool,
        back: u64,
        more: u64,
    },
    Locked {
        more: u64,
    },
    Checkpoint {
        truncate: bool,
    },
    Upkeep,
    Reopen {
        poison: bool,
    },
    Unlink,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<bool>(), 0..9_u64, 0..9_u64).prop_map(|(lane, back, more)| Step::Apply { lane, back, more }),
        1 => (0..9_u64).prop_map(|more| Step::Locked { more }),
        2 => any::<bool>().prop_map(|truncate| Step::Checkpoint { truncate }),
        2 => Just(Step::Upkeep),
        2 => any::<bool>().prop_map(|poison| Step::Reopen { poison }),
        1 => Just(Step::Unlink),
    ]
}

fn lane_id(lane: bool) -> LaneId {
    if lane { HOT } else { KEYED }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_shard_holds_each_record_once_whatever_happens(steps in prop::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let options = ShardOptions { partition_rows_max: 20, ..options() };
        let reopen = || super::reopen(dir.path(), &options);
        let mut shard = reopen();
        let mut applied = [0_u64; 2];
        let mut expected: Vec<i64> = Vec::new();
        for step in steps {
            match step {
                Step::Apply { lane, back, more } => {
                    let last = &mut applied[usize::from(lane_id(lane).0)];
                    let from = last.saturating_sub(back) + 1;
                    shard.apply(&[(lane_id(lane), &clicks(from..=*last + more))], &mut |_, _, _| {}).unwrap();
                    expected.extend((*last + 1..=*last + more).map(|n| n as i64));
                    *last += more;
                }
                Step::Locked { more } => {
                    let lock = Lock::acquire(shard.path(), std::time::Duration::ZERO).unwrap();
                    let batch = clicks(applied[0] + 1..=applied[0] + more);
                    let refused = shard.apply(&[(HOT, &batch)], &mut |_, _, _| {});
                    prop_assert!(matches!(refused, Err(ShardError::Busy)));
                    drop(lock);
                }
                Step::Checkpoint { truncate } => {
                    let mode = if truncate { CheckpointMode::Truncate } else { CheckpointMode::Passive };
                    let mut done = shard.checkpoint(mode).unwrap();
                    // The thread that sorts for an index reads from time to time, even after its shard was closed,
                    // and such a read may keep a checkpoint incomplete.
                    for _ in 0..100_000 {
                        if done.complete {
                            break;
                        }
                        prop_assert_eq!(done.durable, Vec::new());
                        std::thread::yield_now();
                        done = shard.checkpoint(mode).unwrap();
                    }
                    prop_assert!(done.complete);
                    prop_assert_eq!(done.durable, shard.positions());
                }
                Step::Upkeep => {
                    shard.upkeep(std::time::Duration::ZERO).unwrap();
                }
                Step::Reopen { poison } => {
                    if poison { shard.poison() } else { drop(shard) }
                    shard = reopen();
                }
                Step::Unlink => {
                    std::fs::remove_file(shard.path()).unwrap();
                    prop_assert!(matches!(shard.check_identity(), Err(ShardError::Missing)));
                    shard.heal().unwrap();
                    drop(shard);
                    shard = reopen();
                }
            }
            shard.check_identity().unwrap();
            prop_assert_eq!(shard.stored(&CLICKS), expected.len() as u64);
            prop_assert_eq!(shard.position(HOT), Sequence(applied[0]));
            prop_assert_eq!(shard.position(KEYED), Sequence(applied[1]));
        }
        prop_assert_eq!(super::users(shard.path()), expected);
        prop_assert_eq!(sound(shard.path()), shard.stored(&CLICKS));
        drop(shard);
        prop_assert_eq!(open(dir.path()).stored(&CLICKS), applied[0] + applied[1]);
    }
}
