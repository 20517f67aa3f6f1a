//! The stages of upkeep, what a shard asks of its writer, and the indexes that are built.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What is done first if several are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The newest ids are sorted into runs.
    Ids,
    /// Rows of people are erased.
    Erase,
    /// Old partitions are dropped and their pages freed.
    Retain,
    /// Sealed partitions get their indexes.
    Seal,
}

impl Stage {
    pub(super) const ALL: [Stage; 4] = [Stage::Ids, Stage::Erase, Stage::Retain, Stage::Seal];
}

/// What a family waits for that only the shard's writer can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriterTask {
    Nothing,
    /// To say how far the journals are ([`Shard::lanes_are`](super::Shard::lanes_are)).
    ReportLanes,
    /// To begin the journals again and look through what is quarantined ([`Shard::journals_renewed`](super::Shard::journals_renewed)).
    RenewJournals,
    /// To cut the WAL ([`Shard::wal_cut`](super::Shard::wal_cut)).
    CutWal,
}

/// An index that was just completed.
#[derive(Clone, Debug)]
pub struct BuiltIndex {
    pub partition: String,
    pub index: String,
    pub rows: u64,
    /// Since it was begun, mostly spent on other work.
    pub took: Duration,
}

/// One sort at a time in this process: 24 bytes a row.
static SORTING: AtomicBool = AtomicBool::new(false);

/// Held while the lines of an index are in memory.
#[derive(Debug)]
pub struct SortPermit;

impl SortPermit {
    #[must_use]
    pub fn is_taken() -> bool {
        SORTING.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn take() -> Option<SortPermit> {
        let taken = SORTING.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed);
        taken.is_ok().then_some(SortPermit)
    }
}

impl Drop for SortPermit {
    fn drop(&mut self) {
        SORTING.store(false, Ordering::Release);
    }
}
