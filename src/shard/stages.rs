//! The stages of upkeep, a shard's requests to its writer, and the indexes that are built.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The stages of upkeep, in order of priority.
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

/// A task that a family waits for and that only the shard's writer can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriterTask {
    Nothing,
    /// The writer passes the newest record of each journal to [`Shard::lanes_reported`](super::Shard::lanes_reported).
    ReportLanes,
    /// The writer begins new journal segments, checks the quarantined ones, and calls
    /// [`Shard::journals_renewed`](super::Shard::journals_renewed).
    RotateJournals,
    /// The writer truncates the WAL and calls [`Shard::wal_truncated`](super::Shard::wal_truncated).
    TruncateWal,
}

/// An index that was just completed.
#[derive(Clone, Debug)]
pub struct BuiltIndex {
    pub partition: String,
    pub index: String,
    pub rows: u64,
    /// The time since the build began, mostly spent on other work.
    pub took: Duration,
}

/// Whether a sort is running. The process runs one sort at a time, because a sort needs 24 bytes of memory per row.
static SORTING: AtomicBool = AtomicBool::new(false);

/// The permit to sort, held while the entries of an index are in memory.
#[derive(Debug)]
pub struct SortPermit;

impl SortPermit {
    #[must_use]
    pub fn is_taken() -> bool {
        SORTING.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn acquire() -> Option<SortPermit> {
        let taken = SORTING.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed);
        taken.is_ok().then_some(SortPermit)
    }
}

impl Drop for SortPermit {
    fn drop(&mut self) {
        SORTING.store(false, Ordering::Release);
    }
}
