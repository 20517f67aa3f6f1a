//! Counters with one writer each. A plain load and store takes 0.2 ns; `fetch_add` takes 5 ns and needs the cache line
//! exclusively. Any thread may read.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    #[must_use]
    pub const fn new(value: u64) -> Cell {
        Cell(AtomicU64::new(value))
    }

    /// Only the owning thread may call this: a second writer would lose counts.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Only the owning thread may call this.
    #[inline]
    pub fn sub(&self, less: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(less), Ordering::Relaxed);
    }

    /// Publishes a value: a thread that reads it with [`Cell::get`] also sees everything written before it.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
