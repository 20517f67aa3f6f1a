//! The work of one query in the shards.

use std::sync::atomic::{AtomicU64, Ordering};

use super::stop::STEPS;

/// Steps of SQLite's virtual machine that take as long as starting a statement.
pub(super) const STEPS_A_STATEMENT: u64 = 300;

/// Counters, which the progress handlers of all shards share.
#[derive(Debug, Default)]
pub(super) struct Work {
    ticks: AtomicU64,
    statements: AtomicU64,
    rows: AtomicU64,
    copied: AtomicU64,
}

impl Work {
    /// Resets the counters for the next query.
    pub(super) fn reset(&self) {
        for counter in [&self.ticks, &self.statements, &self.rows, &self.copied] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Counts [`STEPS`] steps.
    pub(super) fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn start_statement(&self) {
        self.statements.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read_row(&self) {
        self.rows.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a view that was copied for a join.
    pub(super) fn copy_view(&self) {
        self.copied.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the work so far in steps.
    pub(super) fn steps(&self) -> u64 {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        read(&self.ticks) * STEPS as u64 + read(&self.statements) * STEPS_A_STATEMENT
    }

    /// Returns the counters for people.
    pub(super) fn describe(&self) -> String {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (statements, rows, copied) = (read(&self.statements), read(&self.rows), read(&self.copied));
        format!("statements: {statements}, rows: {rows}, copied views: {copied}")
    }
}
