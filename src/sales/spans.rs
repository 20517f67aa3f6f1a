//! The periods whose sales are counted, and the groups that they form.

use std::sync::Arc;

/// Periods in ascending order, without overlap. Times between them are not counted. A copy shares the periods.
#[derive(Clone, Debug)]
pub(super) struct Spans {
    periods: Arc<Vec<(i64, i64)>>,
    /// Set if all periods are one group. Otherwise, each is a group.
    are_one: bool,
}

impl Spans {
    /// Returns one group for each period.
    #[must_use]
    pub(super) fn each(periods: Vec<(i64, i64)>) -> Spans {
        Spans { periods: Arc::new(periods), are_one: false }
    }

    /// Returns one group of all periods.
    #[must_use]
    pub(super) fn together(periods: Vec<(i64, i64)>) -> Spans {
        Spans { periods: Arc::new(periods), are_one: true }
    }

    /// Returns the group that counts a time.
    #[must_use]
    pub(super) fn group_of(&self, us: i64) -> Option<u32> {
        self.find(us).map(|(_, group)| group)
    }

    /// Returns the period that contains a time, and its group.
    #[must_use]
    pub(super) fn find(&self, us: i64) -> Option<((i64, i64), u32)> {
        let at = self.periods.partition_point(|(start_us, _)| *start_us <= us).checked_sub(1)?;
        let period = self.periods.get(at).filter(|(_, end_us)| us < *end_us)?;
        Some((*period, if self.are_one { 0 } else { at as u32 }))
    }

    /// Returns the beginning of a group.
    #[must_use]
    pub(super) fn start_us(&self, group: u32) -> i64 {
        self.periods.get(group as usize).map(|(start_us, _)| *start_us).unwrap_or_default()
    }

    /// Returns `true` if the group of a single period ends by a time.
    #[must_use]
    pub(super) fn ends_by(&self, group: u32, us: i64) -> bool {
        self.periods.get(group as usize).is_some_and(|(_, end_us)| *end_us <= us)
    }

    /// Returns the number of periods that end by a time.
    #[must_use]
    pub(super) fn ended_by(&self, us: i64) -> usize {
        self.periods.partition_point(|(_, end_us)| *end_us <= us)
    }

    /// Returns the part of a range from its first counted time to its last, or `None` if no time in it is counted.
    #[must_use]
    pub(super) fn clip(&self, (from_us, to_us): (i64, i64)) -> Option<(i64, i64)> {
        let first = self.periods.get(self.periods.partition_point(|(_, end_us)| *end_us <= from_us))?;
        let last = self.periods.partition_point(|(start_us, _)| *start_us < to_us).checked_sub(1)?;
        let clipped = (from_us.max(first.0), to_us.min(self.periods.get(last)?.1));
        (clipped.0 < clipped.1).then_some(clipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_times_in_a_period_are_counted() {
        let periods = vec![(0, 100), (100, 200), (250, 300)];
        for (spans, groups) in
            [(Spans::each(periods.clone()), [0, 1, 2]), (Spans::together(periods), [0, 0, 0])]
        {
            let found = [-1, 0, 99, 100, 199, 200, 249, 250, 299, 300].map(|us| spans.group_of(us));
            let [first, second, third] = groups.map(Some);
            assert_eq!(found, [None, first, first, second, second, None, None, third, third, None]);
            assert_eq!(spans.find(260), third.map(|group| ((250, 300), group)));
            assert_eq!(spans.clip((i64::MIN, i64::MAX)), Some((0, 300)));
            assert_eq!(spans.clip((50, 220)), Some((50, 200)));
            assert_eq!(spans.clip((210, 260)), Some((250, 260)));
            assert_eq!(
                [(-9, 0), (200, 250), (210, 240), (300, 400)].map(|range| spans.clip(range)),
                [None; 4]
            );
        }
        assert_eq!(Spans::each(Vec::new()).clip((i64::MIN, i64::MAX)), None);
    }
}
