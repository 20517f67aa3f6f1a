//! Recognises events that arrive in no order of time, such as those of a backfill or of an import by days.
//!
//! The index by time of a partition is cheap if most new rows belong at the end of their tenant's part of it: the rows
//! of a batch then change a few pages. A row far from that end changes a page of its own, 16 KiB for 80 bytes. A sample
//! of the rows of the newest large batches tells both apart: a row is late if many rows of the sample are behind it.
//! Rows with equal times are in order of their ids, so they are late too once there are many.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::record::ServiceEventRow;
use crate::base::clock;

/// The sample has every 61st row of a batch. The number is a prime, because names often follow each other in turns.
const SAMPLE_EVERY: usize = 61;
/// The size of the sample: as many rows as a partition of 250,000 rows contributes.
const SAMPLE_ROWS: usize = 4_096;
/// A row is late if this many rows of the sample are behind it, which is about five pages of the index.
const BEHIND_MIN: usize = 16;

/// The limits that decide when a partition is unordered. Tests have lower ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OrderLimits {
    /// The least number of rows of a batch that is examined. Smaller ones change few pages in any order.
    pub(crate) batch_rows_min: usize,
    /// A partition with less than one in this many of a full one's rows has so few pages that its index is kept in any
    /// order. An unordered partition with that many rows is sealed after `quiet_us` without late rows. A partition with an
    /// eighth of them is sealed after thirty times as long.
    pub(crate) rows_part: u64,
    pub(crate) quiet_us: u64,
    pub(crate) sample_every: usize,
    pub(crate) behind_min: usize,
}

impl Default for OrderLimits {
    fn default() -> OrderLimits {
        OrderLimits {
            batch_rows_min: 512,
            rows_part: 16,
            quiet_us: 2_000_000,
            sample_every: SAMPLE_EVERY,
            behind_min: BEHIND_MIN,
        }
    }
}

/// The place of a row in the index by time.
type Key = (Arc<str>, i64, Arc<str>);

/// The sample, and when a batch was last in no order.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) limits: OrderLimits,
    keys: BTreeSet<Key>,
    /// The same keys, the oldest one first.
    by_age: VecDeque<Key>,
    unordered_at_us: u64,
}

impl Order {
    pub(super) fn new() -> Order {
        Order {
            limits: OrderLimits::default(),
            keys: BTreeSet::new(),
            by_age: VecDeque::new(),
            // Late rows may have arrived just before the shard was opened.
            unordered_at_us: clock::monotonic_us(),
        }
    }

    /// Adds a batch to the sample, and returns `true` if an eighth of its sampled rows is late. Takes about 1 us for each
    /// of them.
    pub(super) fn is_unordered(&mut self, rows: &[ServiceEventRow<'_>]) -> bool {
        if rows.len() < self.limits.batch_rows_min.max(1) {
            return false;
        }
        let (mut seen, mut late) = (0, 0);
        for row in rows.iter().step_by(self.limits.sample_every.max(1)) {
            (seen, late) = (seen + 1, late + usize::from(self.is_late(row)));
            self.sample(row);
        }
        let is_unordered = late * 8 >= seen;
        if is_unordered {
            self.unordered_at_us = clock::monotonic_us();
        }
        is_unordered
    }

    fn sample(&mut self, row: &ServiceEventRow<'_>) {
        let key: Key = (row.tenant_id.into(), row.timestamp_us, row.event_id.into());
        // A batch may be tried again, and a row may be sent again.
        if self.keys.insert(key.clone()) {
            self.by_age.push_back(key);
        }
        if self.by_age.len() > SAMPLE_ROWS
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }

    fn is_late(&self, row: &ServiceEventRow<'_>) -> bool {
        let key: Key = (row.tenant_id.into(), row.timestamp_us, row.event_id.into());
        let behind = self.keys.range((Bound::Excluded(key), Bound::Unbounded));
        let own = behind.take_while(|(tenant, ..)| **tenant == *row.tenant_id);
        own.take(self.limits.behind_min).count() == self.limits.behind_min
    }

    /// Returns `true` if an unordered partition with this many rows can be sealed, because late rows no longer arrive.
    pub(super) fn is_quiet(&self, rows: u64, rows_max: u64) -> bool {
        let quiet_us = clock::monotonic_us().saturating_sub(self.unordered_at_us);
        let large = self.rows_min(rows_max);
        rows > 0
            && (rows >= large && quiet_us >= self.limits.quiet_us
                || rows >= large / 8 && quiet_us >= self.limits.quiet_us * 30)
    }

    /// Returns the number of rows from which on a partition's index is worth avoiding.
    pub(super) fn rows_min(&self, rows_max: u64) -> u64 {
        rows_max / self.limits.rows_part.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<'r>(tenant_id: &'r str, timestamp_us: i64, event_id: &'r str) -> ServiceEventRow<'r> {
        let (source, event_type, payload) = ("web", "click", "{}");
        ServiceEventRow { timestamp_us, received_us: 0, tenant_id, event_id, source, event_type, payload }
    }

    /// Returns whether each of some batches of a thousand rows is in no order. `time` gets the number of a row, and a
    /// number that has nothing to do with it.
    fn batches(tenants: usize, time: impl Fn(i64, i64) -> i64) -> Vec<bool> {
        let mut order = Order::new();
        let mut found = Vec::new();
        for batch in 0..40_i64 {
            let keys: Vec<(String, i64, String)> = (batch * 1_000..batch * 1_000 + 1_000)
                .map(|n| {
                    let random = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
                    let tenant = (random >> 9) as usize % tenants;
                    (format!("t{tenant}"), time(n, random as i64), format!("{random:x}"))
                })
                .collect();
            let rows: Vec<_> = keys.iter().map(|(tenant, us, id)| row(tenant, *us, id)).collect();
            found.push(order.is_unordered(&rows));
        }
        found
    }

    #[test]
    fn random_and_equal_times_are_recognised_and_rising_ones_are_not() {
        let year_us = 365 * 86_400_000_000_i64;
        let ends = |found: Vec<bool>| (found.iter().any(|is| *is), found[39]);
        assert_eq!(ends(batches(4, |n, _| n)), (false, false), "rising");
        assert_eq!(ends(batches(4, |_, random| random % year_us)), (true, true), "random");
        assert_eq!(ends(batches(4, |_, _| 7)), (true, true), "equal");
        assert_eq!(ends(batches(4, |n, _| n / 20_000 * 86_400_000_000)), (true, true), "by days");
        assert_eq!(
            ends(batches(4, |n, random| n * 1_000 + random % 100_000)),
            (false, false),
            "nearly rising"
        );
        assert_eq!(ends(batches(4, |n, _| n / 500 * 1_000_000)), (false, false), "rising by seconds");
        assert_eq!(
            ends(batches(4, |n, _| if n == 9 { year_us } else { n })),
            (false, false),
            "one from the future"
        );
        assert_eq!(ends(batches(4, |n, _| -n)), (true, true), "falling");
        // Each tenant's part of the index is less than a page.
        assert_eq!(ends(batches(2_000, |_, random| random % year_us)), (false, false), "many tenants");
    }
}
