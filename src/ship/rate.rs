//! The limit on rows a second that all shards of a run share.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::clock;

/// The longest time for which rows are taken in advance.
const AHEAD_US: u64 = 200_000;

/// The shared limit. Whoever has sent rows moves the time of the next ones.
#[derive(Debug, Default)]
pub(super) struct RateLimit {
    rows_a_second: Option<u64>,
    /// The time at which the next rows may be sent, in monotonic microseconds.
    next_us: AtomicU64,
}

impl RateLimit {
    /// Returns a limit. `None` limits nothing.
    #[must_use]
    pub(super) fn new(rows_a_second: Option<u64>) -> RateLimit {
        RateLimit { rows_a_second, next_us: AtomicU64::new(0) }
    }

    /// Returns how many rows may be sent at once now. 0: none yet.
    #[must_use]
    pub(super) fn rows_now(&self) -> usize {
        match self.rows_a_second {
            None => usize::MAX,
            Some(_) if clock::monotonic_us() < self.next_us.load(Ordering::Relaxed) => 0,
            Some(rows) => (rows.saturating_mul(AHEAD_US) / 1_000_000).max(1) as usize,
        }
    }

    /// Counts rows that were sent.
    pub(super) fn count(&self, rows: u64) {
        let Some(rows_a_second) = self.rows_a_second else { return };
        let time_us = rows.saturating_mul(1_000_000) / rows_a_second.max(1);
        let now_us = clock::monotonic_us();
        let moved = |next_us: u64| Some(next_us.max(now_us).saturating_add(time_us));
        _ = self.next_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, moved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_were_sent_delay_the_next_ones() {
        let none = RateLimit::new(None);
        none.count(u64::MAX);
        assert_eq!(none.rows_now(), usize::MAX);
        let limit = RateLimit::new(Some(1_000));
        assert_eq!(limit.rows_now(), 200);
        // An hour's rows.
        limit.count(3_600_000);
        assert_eq!(limit.rows_now(), 0);
        assert_eq!(RateLimit::new(Some(1)).rows_now(), 1);
    }
}
