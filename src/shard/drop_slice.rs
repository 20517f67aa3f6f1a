//! One slice of a pass over a ledger: which rows may leave, and the counts of what left and what stays.

use super::hold::Upto;
use super::stream::Ledger;

/// One slice of a pass over a ledger.
#[derive(Clone, Copy, Debug)]
pub struct DropSlice {
    pub ledger: &'static Ledger,
    /// The number of the only tenant whose rows are deleted, if there is one.
    pub tenant: Option<i64>,
    /// Only rows that arrived before this time are deleted.
    pub cutoff_us: i64,
    /// The monotonic time at which the slice ends.
    pub until_us: u64,
    /// Set if the pass begins with this slice.
    pub is_first: bool,
    /// Only rows whose ids the sinks have had for long enough are deleted.
    pub upto: Upto,
    /// Only rows whose changes the sinks have had for long enough are deleted.
    pub changes: Upto,
}

/// The result of one slice of a pass over a ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DroppedSlice {
    /// Deleted rows.
    pub rows: u64,
    /// Deleted rows that a sink has not confirmed.
    pub unshipped: u64,
    /// Old rows that stay only because a sink has not confirmed them.
    pub held: u64,
    /// Old rows that stay only because the sinks have not had them for long enough.
    pub waiting: u64,
    /// Set if the pass has ended.
    pub is_done: bool,
}

impl DroppedSlice {
    /// Counts an old row. Returns `true` if it may be deleted. `change` is the newest change of the row, or 0.
    pub fn may_leave(&mut self, slice: &DropSlice, id: i64, change: i64) -> bool {
        let is_kept = id <= slice.upto.kept && change <= slice.changes.kept;
        if !is_kept {
            match id <= slice.upto.confirmed && change <= slice.changes.confirmed {
                true => self.waiting += 1,
                false => self.held += 1,
            }
        }
        is_kept
    }

    /// Counts a deleted row.
    pub fn deleted(&mut self, slice: &DropSlice, id: i64, change: i64) {
        self.rows += 1;
        self.unshipped += u64::from(id > slice.upto.confirmed || change > slice.changes.confirmed);
    }

    /// Adds the counts of a later step of the same slice.
    pub fn add(&mut self, step: DroppedSlice) {
        self.rows += step.rows;
        self.unshipped += step.unshipped;
        self.held += step.held;
        self.waiting += step.waiting;
        self.is_done = step.is_done;
    }
}
