//! Sets of days (UTC), stored as runs of consecutive days. Ten years of deleted days are usually one run.

use crate::base::bucket_size::BucketSize;

const DAY_US: i64 = BucketSize::Day.us();

/// A set of days, as ascending runs: the start of the first day, and the end of the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DayRuns(Vec<(i64, i64)>);

impl DayRuns {
    /// Adds a day that is not before the last one.
    pub(super) fn push(&mut self, start_us: i64) {
        self.append((start_us, start_us.saturating_add(DAY_US)));
    }

    fn append(&mut self, run: (i64, i64)) {
        match self.0.last_mut() {
            Some(last) if run.0 <= last.1 => last.1 = last.1.max(run.1),
            _ => self.0.push(run),
        }
    }

    #[must_use]
    pub fn union(mut self, other: &DayRuns) -> DayRuns {
        self.0.extend_from_slice(&other.0);
        self.0.sort_unstable();
        let mut all = DayRuns(Vec::with_capacity(self.0.len()));
        self.0.into_iter().for_each(|run| all.append(run));
        all
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of days.
    #[must_use]
    pub fn count(&self) -> i64 {
        self.0.iter().map(|(start_us, end_us)| (end_us - start_us) / DAY_US).sum()
    }

    /// Returns the starts of the first and of the last day.
    #[must_use]
    pub fn ends(&self) -> Option<(i64, i64)> {
        self.0.first().zip(self.0.last()).map(|(first, last)| (first.0, last.1 - DAY_US))
    }

    /// Returns `true` if a part of `[from, to)` is in one of the days.
    #[must_use]
    pub fn overlaps(&self, (from_us, to_us): (i64, i64)) -> bool {
        let at = self.0.partition_point(|run| run.1 <= from_us);
        from_us < to_us && self.0.get(at).is_some_and(|run| run.0 < to_us)
    }

    #[must_use]
    pub fn contains(&self, other: &DayRuns) -> bool {
        self == other || self.clone().union(other).count() == self.count()
    }

    /// Returns the parts of `[from, to)` that are in none of the days.
    #[must_use]
    pub fn gaps(&self, (from_us, to_us): (i64, i64)) -> Vec<(i64, i64)> {
        let (mut gaps, mut at) = (Vec::new(), from_us);
        for run in self.0.iter().filter(|run| run.1 > from_us).take_while(|run| run.0 < to_us) {
            gaps.extend((at < run.0).then_some((at, run.0)));
            at = run.1;
        }
        gaps.extend((at < to_us).then_some((at, to_us)));
        gaps
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn runs(days: &BTreeSet<i64>) -> DayRuns {
        let mut runs = DayRuns::default();
        days.iter().for_each(|day| runs.push(day * DAY_US));
        runs
    }

    proptest! {
        #[test]
        fn runs_are_a_set_of_days(
            one in prop::collection::btree_set(-9..9_i64, 0..9),
            other in prop::collection::btree_set(-9..9_i64, 0..9),
            (from, hours) in (-240..240_i64, 0..90_i64),
        ) {
            let both: BTreeSet<i64> = one.union(&other).copied().collect();
            let all = runs(&one).union(&runs(&other));
            prop_assert_eq!(&all, &runs(&both));
            prop_assert_eq!(all.count(), both.len() as i64);
            prop_assert_eq!(all.is_empty(), both.is_empty());
            let ends = both.first().zip(both.last()).map(|(first, last)| (first * DAY_US, last * DAY_US));
            prop_assert_eq!(all.ends(), ends);
            prop_assert_eq!(runs(&one).contains(&runs(&other)), other.is_subset(&one));
            let hour_us = BucketSize::Hour.us();
            let outside: Vec<i64> =
                (from..from + hours).filter(|hour| !both.contains(&hour.div_euclid(24))).collect();
            let range = (from * hour_us, (from + hours) * hour_us);
            let gaps = all.gaps(range);
            let in_gaps = gaps.iter().flat_map(|gap| gap.0 / hour_us..gap.1 / hour_us).collect::<Vec<_>>();
            prop_assert_eq!(in_gaps, &outside[..]);
            prop_assert_eq!(all.overlaps(range), outside.len() < hours as usize);
        }
    }
}
