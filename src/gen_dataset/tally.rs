//! Exact quantiles of a stream of amounts, computed from a sorted count of each amount.
//!
//! A tally takes 16 bytes of memory for each distinct amount and 8 bytes for each unsorted amount, or at most twice
//! that. A day's tally is cleared and reused.

/// Amounts remain unsorted up to this number, or up to half the number of distinct amounts if that is larger.
const WAITING_MIN: usize = 1 << 16;

/// The percentiles that a system must report, as amounts in minor units.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Quantiles {
    pub(super) p50: u64,
    pub(super) p95: u64,
    pub(super) p99: u64,
}

/// The count of each amount.
#[derive(Debug, Default)]
pub(super) struct Tally {
    waiting: Vec<u64>,
    /// (amount, count), sorted by amount.
    counts: Vec<(u64, u64)>,
    total: u64,
}

impl Tally {
    /// Adds an amount. This usually only appends the amount, and sometimes sorts all unsorted amounts.
    pub(super) fn add(&mut self, amount: u64) {
        self.waiting.push(amount);
        self.total += 1;
        if self.waiting.len() >= WAITING_MIN.max(self.counts.len() / 2) {
            self.sort_in();
        }
    }

    /// Returns the quantiles by nearest rank: the amount at position ceil(q·n) of the sorted list, counted from 1.
    /// They are zero if there are no amounts.
    pub(super) fn quantiles(&mut self) -> Quantiles {
        self.sort_in();
        let [p50, p95, p99] = [50, 95, 99].map(|percent| self.ranked((self.total * percent).div_ceil(100)));
        Quantiles { p50, p95, p99 }
    }

    /// Removes every amount but keeps the memory.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.counts.clear();
        self.total = 0;
    }

    fn ranked(&self, rank: u64) -> u64 {
        let mut passed = 0;
        let found = self.counts.iter().find(|(_, count)| {
            passed += count;
            passed >= rank
        });
        found.map_or(0, |(amount, _)| *amount)
    }

    fn sort_in(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        self.waiting.sort_unstable();
        let mut merged = Vec::with_capacity(self.counts.len() + self.waiting.len());
        let mut known = self.counts.iter().copied().peekable();
        for same in self.waiting.chunk_by(|a, b| a == b) {
            while let Some(less) = known.next_if(|(amount, _)| *amount < same[0]) {
                merged.push(less);
            }
            let before = known.next_if(|(amount, _)| *amount == same[0]).map_or(0, |(_, count)| count);
            merged.push((same[0], before + same.len() as u64));
        }
        merged.extend(known);
        self.counts = merged;
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_list() {
        let mut random = Random::new(4);
        for count in [1, 2, 19, 20, 99, 100, 101, 1000, 200_000] {
            let amounts: Vec<u64> = (0..count).map(|_| random.below(count * 3)).collect();
            let mut tally = Tally::default();
            amounts.iter().for_each(|amount| tally.add(*amount));
            let mut sorted = amounts;
            sorted.sort_unstable();
            let at = |percent: u64| sorted[(count * percent).div_ceil(100) as usize - 1];
            assert_eq!(tally.quantiles(), Quantiles { p50: at(50), p95: at(95), p99: at(99) }, "{count}");
        }
    }

    #[test]
    fn a_cleared_tally_is_a_new_one() {
        let mut tally = Tally::default();
        assert_eq!(tally.quantiles(), Quantiles::default());
        tally.add(5);
        tally.quantiles();
        tally.clear();
        assert_eq!(tally.quantiles(), Quantiles::default());
        tally.add(7);
        assert_eq!(tally.quantiles().p50, 7);
    }
}
