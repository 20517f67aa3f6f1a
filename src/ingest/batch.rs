//! The rows of several requests that one write journals.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::intake::Pressure;
use super::keyed::KeyedRows;

/// The staged rows of the requests of one tick, for one journal. It is shared by these requests, which learn here whether
/// their rows are journaled. Only one thread uses it.
#[derive(Debug, Default)]
pub struct Batch {
    state: AtomicU8,
    rows: AtomicU64,
    bytes: AtomicU64,
}

const STAGED: u8 = 0;
const WRITTEN: u8 = 1;
const FULL: u8 = 2;
const BROKEN: u8 = 3;

impl Batch {
    pub(super) fn add(&self, rows: &KeyedRows) {
        self.rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
        self.bytes.fetch_add(rows.bytes() as u64, Ordering::Relaxed);
    }

    /// Returns `None` until the rows are journaled or refused. A refused batch leaves nothing in the journal, and its
    /// sequences are used again.
    #[must_use]
    pub fn result(&self) -> Option<Result<(), Pressure>> {
        match self.state.load(Ordering::Relaxed) {
            STAGED => None,
            WRITTEN => Some(Ok(())),
            FULL => Some(Err(Pressure::JournalFull)),
            _ => Some(Err(Pressure::JournalBroken)),
        }
    }
}

/// The counts of rows that a flush journaled, and whether it refused some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    pub rows: u64,
    pub bytes: u64,
    /// Set if a batch was refused, so that its requests need not wait for a commit.
    pub is_refused: bool,
}

impl Flushed {
    /// Settles a batch.
    pub(super) fn add(&mut self, batch: &Batch, result: Result<(), Pressure>) {
        let state = match result {
            Ok(()) => WRITTEN,
            Err(Pressure::JournalFull) => FULL,
            Err(_) => BROKEN,
        };
        batch.state.store(state, Ordering::Relaxed);
        if state == WRITTEN {
            self.rows += batch.rows.load(Ordering::Relaxed);
            self.bytes += batch.bytes.load(Ordering::Relaxed);
        } else {
            self.is_refused = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Board, Intake, ShardBoard};
    use super::*;
    use crate::base::ids::{LaneId, Sequence, ShardId};
    use crate::base::kinds::Kind;
    use crate::http::Coding;
    use crate::journal::{self, LaneState, Options};
    use crate::shard::ShardStatus;

    fn rows(payloads: &[&[u8]]) -> KeyedRows {
        let mut rows = KeyedRows::of(Kind::new(2));
        for (index, payload) in payloads.iter().enumerate() {
            rows.push_record(index, |bytes| bytes.extend_from_slice(payload));
        }
        rows
    }

    /// Creates an intake with one journal of at most this size.
    fn intake(folder: &std::path::Path, bytes_max: u64) -> (Intake, Arc<LaneState>) {
        let options = Options { bytes_max, ..Options::default() };
        let (appender, _, _) = journal::open(folder, LaneId::keyed(0), None, &options).unwrap();
        let (shard, state) = (ShardId(0), appender.state().clone());
        let board = ShardBoard {
            shard,
            status: Arc::new(ShardStatus::new(shard)),
            lanes: vec![state.clone()],
            drained_per_s: Default::default(),
            writer: Default::default(),
        };
        let board = Arc::new(Board::new(vec![board]));
        (Intake::new(board, vec![(shard, appender)], 1 << 16, 1 << 30), state)
    }

    #[test]
    fn one_write_journals_the_rows_of_all_requests() {
        let folder = tempfile::tempdir().unwrap();
        let (mut intake, state) = intake(folder.path(), 1 << 30);
        let one = intake.stage_rows(0, &rows(&[b"a", b"bc"])).unwrap();
        let two = intake.stage_rows(0, &rows(&[b"def"])).unwrap();
        assert_eq!((one.first.sequence, one.last, two.last), (Sequence(1), Sequence(2), Sequence(3)));
        assert_eq!((one.batch.result(), state.appended()), (None, Sequence::NONE));
        let flushed = intake.flush();
        assert_eq!(flushed, Flushed { rows: 3, bytes: 6, is_refused: false });
        assert_eq!((one.batch.result(), two.batch.result()), (Some(Ok(())), Some(Ok(()))));
        assert_eq!((state.appended(), two.appended.upto), (Sequence(3), state.end()));
        assert!(one.appended.upto < two.appended.upto);
        assert_eq!(intake.flush(), Flushed::default(), "once");
        let three = intake.stage_rows(0, &rows(&[b"g"])).unwrap();
        assert_eq!((three.last, three.batch.result(), one.batch.result()), (Sequence(4), None, Some(Ok(()))));
    }

    #[test]
    fn a_click_and_a_large_batch_are_not_kept_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let (mut intake, state) = intake(folder.path(), 1 << 30);
        let row = intake.stage_rows(0, &rows(&[b"a"])).unwrap();
        let click = br#"{"user_id":1,"timestamp":"2024-01-14T10:30:00Z","metadata":{}}"#;
        intake.begin(0);
        let receipt = intake.stage_click(Coding::Identity, click, 0).unwrap();
        intake.commit().unwrap();
        assert_eq!(
            (receipt.sequence, row.batch.result(), state.appended()),
            (Sequence(2), Some(Ok(())), Sequence(2))
        );
        let large = intake.stage_rows(0, &rows(&[&[b'a'; 200_000], &[b'b'; 200_000]])).unwrap();
        assert_eq!((large.batch.result(), state.appended()), (Some(Ok(())), Sequence(4)));
        assert_eq!(intake.flush(), Flushed { rows: 3, bytes: 400_001, is_refused: false });
    }

    #[test]
    fn a_batch_that_does_not_fit_is_refused_whole_and_its_sequences_are_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let (mut intake, state) = intake(folder.path(), 4_000);
        let one = intake.stage_rows(0, &rows(&[b"a"])).unwrap();
        let two = intake.stage_rows(0, &rows(&[&[b'b'; 5_000]])).unwrap();
        let flushed = intake.flush();
        assert_eq!(flushed, Flushed { is_refused: true, ..Flushed::default() });
        for batch in [&one.batch, &two.batch] {
            assert_eq!(batch.result(), Some(Err(Pressure::JournalFull)));
        }
        assert_eq!(state.appended(), Sequence::NONE);
        let again = intake.stage_rows(0, &rows(&[b"c"])).unwrap();
        assert_eq!(again.last, one.last);
        assert_eq!(intake.flush(), Flushed { rows: 1, bytes: 1, is_refused: false });
        assert_eq!(
            (again.batch.result(), one.batch.result()),
            (Some(Ok(())), Some(Err(Pressure::JournalFull)))
        );
    }
}
