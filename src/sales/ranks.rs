//! Ranks among the totals of several lists, without joining or sorting them.
//!
//! Totals are counted by their upper bits. Only those of the buckets that have a wanted rank are gathered and selected
//! from, so a total is looked at three times, without a branch that depends on it.

use super::totals::{Above, Totals, nearest_rank};

/// The number of totals up to which all are gathered.
const FEW: usize = if cfg!(test) { 16 } else { 128 };
/// The number of buckets is the power of two that leaves about so many totals for each, up to a maximum.
const TOTALS_PER_BUCKET: usize = 8;
const BUCKETS_MIN: usize = 64;
const BUCKETS_MAX: usize = 1_024;

/// Finds ranks. The memory is kept from one list to the next.
#[derive(Debug)]
pub(super) struct RankFinder {
    /// The number of totals of each bucket, and then 1 if they are gathered.
    buckets: Box<[u32; BUCKETS_MAX]>,
    gathered: Vec<u32>,
}

impl Default for RankFinder {
    fn default() -> RankFinder {
        RankFinder { buckets: Box::new([0; BUCKETS_MAX]), gathered: Vec::new() }
    }
}

impl RankFinder {
    /// Returns for each fraction, in ascending order, the smallest value that at least this fraction of all values does
    /// not exceed. Returns 0 if there are no values. Takes about 3 ns a value.
    pub(super) fn nearest<const N: usize>(&mut self, all: &[&Totals], fractions: [f64; N]) -> [i64; N] {
        let count: usize = all.iter().map(|totals| totals.len()).sum();
        let of_small: usize = all.iter().map(|totals| totals.small().len()).sum();
        let ranks = fractions.map(|fraction| nearest_rank(fraction, count));
        let mut found = [0; N];
        if of_small > 0 {
            // Ranks behind the small totals are found below.
            let in_small = ranks.map(|rank| rank.min(of_small - 1));
            found = self.small(all, of_small, in_small).map(i64::from);
        }
        if of_small < count {
            let mut large: Vec<i64> = all.iter().flat_map(|totals| totals.large()).copied().collect();
            let mut above = Above::new(&mut large);
            for (value, rank) in found.iter_mut().zip(ranks) {
                let rank = rank.checked_sub(of_small).and_then(|rank| above.rank(rank));
                *value = rank.unwrap_or(*value);
            }
        }
        found
    }

    /// Returns the small totals of ascending ranks.
    fn small<const N: usize>(&mut self, all: &[&Totals], count: usize, ranks: [usize; N]) -> [u32; N] {
        let mut places = ranks;
        if count <= FEW {
            self.gathered.clear();
            all.iter().for_each(|totals| self.gathered.extend_from_slice(totals.small()));
        } else {
            places = self.gather(all, count, ranks);
        }
        let mut above = Above::new(&mut self.gathered);
        places.map(|place| above.rank(place).unwrap_or_default())
    }

    /// Gathers the totals of the buckets that have a wanted rank. Returns their ranks among them.
    fn gather<const N: usize>(&mut self, all: &[&Totals], count: usize, ranks: [usize; N]) -> [usize; N] {
        let values = || all.iter().flat_map(|totals| totals.small());
        let low = values().fold(u32::MAX, |low, value| low.min(*value));
        let high = values().fold(0, |high, value| high.max(*value));
        let len = (count / TOTALS_PER_BUCKET).next_power_of_two().clamp(BUCKETS_MIN, BUCKETS_MAX);
        let shift = (u32::BITS - (high - low).leading_zeros()).saturating_sub(len.trailing_zeros());
        let bucket = |value: u32| (value.wrapping_sub(low) >> shift) as usize % BUCKETS_MAX;
        self.buckets[..len].fill(0);
        for totals in all {
            totals.small().iter().for_each(|value| self.buckets[bucket(*value)] += 1);
        }
        let (mut places, mut next) = (ranks, 0);
        let (mut before, mut chosen) = (0, 0);
        for values in &mut self.buckets[..len] {
            let end = before + *values as usize;
            let wanted = ranks[next..].iter().take_while(|rank| **rank < end).count();
            for place in &mut places[next..next + wanted] {
                *place = *place - before + chosen;
            }
            next += wanted;
            chosen += if wanted > 0 { *values as usize } else { 0 };
            before = end;
            *values = u32::from(wanted > 0);
        }
        // One more place, for totals that are not gathered.
        self.gathered.clear();
        self.gathered.resize(chosen + 1, 0);
        let mut end = 0;
        for totals in all {
            for value in totals.small() {
                self.gathered[end] = *value;
                end += self.buckets[bucket(*value)] as usize;
            }
        }
        self.gathered.truncate(end);
        places
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(lists: &[Vec<i64>]) {
        let lists: Vec<(Totals, &Vec<i64>)> = lists
            .iter()
            .map(|values| {
                let mut totals = Totals::default();
                values.iter().for_each(|value| _ = totals.push(*value));
                (totals, values)
            })
            .collect();
        let mut sorted: Vec<i64> = lists.iter().flat_map(|(_, values)| values.iter().copied()).collect();
        sorted.sort_unstable();
        let fractions = [0.0, 0.5, 0.5, 0.95, 0.99, 1.0];
        let expected = fractions.map(|fraction: f64| {
            let rank = (fraction * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
        });
        let totals: Vec<&Totals> = lists.iter().map(|(totals, _)| totals).collect();
        let mut finder = RankFinder::default();
        // The memory of the first is used by the second.
        for _ in 0..2 {
            assert_eq!(finder.nearest(&totals, fractions), expected);
        }
    }

    proptest! {
        #[test]
        fn ranks_are_those_of_the_sorted_values(
            lists in prop::collection::vec(
                prop::collection::vec(
                    prop_oneof![0..9_i64, 0..50_000_i64, 0..i64::MAX, (1 << 32) - 2..(1 << 32) + 2_i64],
                    0..60,
                ),
                0..5,
            ),
        ) {
            check(&lists);
        }
    }

    #[test]
    fn equal_totals_and_totals_far_from_the_others_are_found() {
        check(&[vec![7; 900], vec![7]]);
        check(&[(0..500).collect(), vec![i64::from(u32::MAX); 3]]);
        check(&[(0..2_000).map(|n| n * n).collect(), vec![0; 40], Vec::new()]);
        check(&[(0..5).collect(), vec![1 << 40; 200]]);
        check(&[vec![1 << 40; 20]]);
        check(&[]);
    }
}
