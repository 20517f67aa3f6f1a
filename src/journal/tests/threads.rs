//! A producer, a consumer and a syncer at full speed.

use std::fs::File;

use super::*;
use crate::base::kinds::Kind;
use crate::journal::Syncer;

const RECORDS: u64 = 100_000;

fn payload(sequence: u64) -> Vec<u8> {
    sequence.to_le_bytes().repeat((sequence % 7) as usize + 1)
}

#[test]
fn a_consumer_sees_every_record_once_while_the_producer_runs() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 64 * 1024, bytes_max: 512 * 1024 };
    let (mut appender, mut reader, _) = open(dir.path(), LANE, None, &options).unwrap();
    let state = appender.state().clone();
    let mut syncer = Syncer::new(state.clone());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut next = 1;
            while next <= RECORDS {
                let tick = (next % 64 + 1).min(RECORDS + 1 - next);
                for sequence in next..next + tick {
                    assert_eq!(appender.stage(Kind::new(1), &[&payload(sequence)]).0, sequence);
                }
                match appender.commit() {
                    Ok(committed) => {
                        next += tick;
                        assert_eq!(committed.last.0, next - 1);
                    }
                    Err(crate::journal::AppendError::Full) => std::thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
        });
        scope.spawn(|| {
            while state.appended().0 < RECORDS || state.synced() < state.end() {
                let Some(plan) = syncer.plan().unwrap() else {
                    std::thread::yield_now();
                    continue;
                };
                for file in &plan.files {
                    match File::open(file) {
                        Ok(file) => file.sync_data().unwrap(),
                        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
                    }
                }
                let upto = plan.upto;
                syncer.done(plan);
                assert!(state.synced() >= upto && state.synced() <= state.end());
            }
        });
        let mut batch = Batch::new();
        let mut next = 1;
        while next <= RECORDS {
            if reader.read(&mut batch, 500, 20_000).unwrap() == 0 {
                std::thread::yield_now();
            }
            for record in batch.records() {
                assert_eq!((record.sequence.0, record.payload), (next, &payload(next)[..]));
                next += 1;
            }
            if next % 3 == 0 {
                reader.release(Sequence(next - 1)).unwrap();
            }
            if next % 11 == 0 {
                assert_eq!(reader.seek(Sequence(next - 1)).unwrap(), None);
            }
        }
        reader.sync_applied().unwrap();
        reader.release(Sequence(RECORDS)).unwrap();
    });
    assert_eq!(reader.state().damaged_ranges(), 0);
    assert_eq!(reader.state().pending_bytes(), 0);
    assert!(reader.state().bytes_on_disk() <= 64 * 1024);
}
