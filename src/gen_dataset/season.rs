//! Event times: weights by hour, weekday and month, and sorted times drawn from them.
//!
//! A tenant's times are a sorted sample that is drawn in ascending order without storing it: Bentley and Saxe,
//! "Generating sorted lists of random numbers" (ACM TOMS 6.3, 1980). It has exactly the requested number of times, in
//! O(1) memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use jiff::civil::Date;

use super::powers::{exp, ln};
use super::random::{Random, Use, key};

pub(super) const HOUR_MS: i64 = 3_600_000;
pub(super) const DAY_MS: i64 = 24 * HOUR_MS;

/// The weights of a UTC day's hours: low at night, with a peak at noon and the maximum in the evening.
const HOURS: [u64; 24] =
    [20, 14, 10, 8, 8, 10, 16, 26, 38, 48, 54, 58, 62, 58, 54, 52, 54, 60, 70, 82, 88, 80, 58, 36];
/// The weights of the weekdays, Monday to Sunday.
const WEEKDAYS: [u64; 7] = [96, 92, 94, 98, 106, 116, 112];
/// The weights of the months, January to December.
const MONTHS: [u64; 12] = [88, 86, 94, 96, 100, 96, 90, 88, 98, 104, 138, 182];

/// The cumulative weights of every hour in the dataset's days. 8 bytes per hour.
#[derive(Debug)]
pub(super) struct Season {
    start_ms: i64,
    /// The cumulative weight before each hour, and the total.
    sums: Vec<u64>,
}

impl Season {
    /// Computes the cumulative weights.
    ///
    /// # Panics
    /// Panics if the days exceed the calendar, which the parameter check excludes.
    pub(super) fn new(start: Date, days: u32) -> Season {
        let mut sums = vec![0];
        let mut sum = 0;
        let mut date = start;
        for _ in 0..days {
            let weekday = date.weekday().to_monday_zero_offset() as usize;
            let day = WEEKDAYS[weekday] * MONTHS[date.month() as usize - 1];
            for hour in HOURS {
                sum += day * hour;
                sums.push(sum);
            }
            date = date.tomorrow().expect("the days were checked against the calendar");
        }
        Season { start_ms: start_ms(start), sums }
    }

    /// Returns the end of the last day, exclusive.
    #[cfg(test)]
    fn end_ms(&self) -> i64 {
        self.start_ms + (self.sums.len() as i64 - 1) * HOUR_MS
    }
}

/// Returns the start of a date, in milliseconds since 1970 UTC.
pub(super) fn start_ms(date: Date) -> i64 {
    i64::from((date - Date::constant(1970, 1, 1)).get_days()) * DAY_MS
}

/// The times of one tenant or product, ascending.
#[derive(Debug)]
pub(super) struct Arrivals {
    random: Random,
    left: u64,
    /// The logarithm of the remaining part of the unit interval.
    log_rest: f64,
    /// The hour of the last time. The next time is not in an earlier hour.
    hour: usize,
    last_ms: i64,
}

impl Arrivals {
    pub(super) fn new(count: u64, random: Random) -> Arrivals {
        Arrivals { random, left: count, log_rest: 0.0, hour: 0, last_ms: i64::MIN }
    }

    /// Returns the next time in milliseconds since 1970.
    pub(super) fn next(&mut self, season: &Season) -> Option<i64> {
        if self.left == 0 {
            return None;
        }
        // The smallest of n uniform points is 1 - r^(1/n); the other points are uniform in the remaining interval.
        self.log_rest += ln(self.random.unit_above_zero()) / self.left as f64;
        self.left -= 1;
        let whole = season.sums.last().copied().unwrap_or(0) as f64;
        let wanted = (1.0 - exp(self.log_rest)) * whole;
        while self.hour + 2 < season.sums.len() && season.sums[self.hour + 1] as f64 <= wanted {
            self.hour += 1;
        }
        let (before, behind) = (season.sums[self.hour] as f64, season.sums[self.hour + 1] as f64);
        let into = ((wanted - before) / (behind - before) * HOUR_MS as f64) as i64;
        let time_ms = season.start_ms + self.hour as i64 * HOUR_MS + into.clamp(0, HOUR_MS - 1);
        // The computed exponential is monotone except for its last bit, so a time could precede the last one.
        self.last_ms = self.last_ms.max(time_ms);
        Some(self.last_ms)
    }
}

/// All tenants' times in one ascending order, from a heap with one entry per tenant.
#[derive(Debug)]
pub(super) struct Timeline<'s> {
    season: &'s Season,
    tenants: Vec<Arrivals>,
    /// The next time of each tenant, as (time, tenant). At equal times, the lower tenant is first.
    heads: BinaryHeap<Reverse<(i64, u32)>>,
}

impl<'s> Timeline<'s> {
    /// Creates a timeline with this many times for each tenant.
    pub(super) fn new(
        season: &'s Season,
        seed: u64,
        for_use: Use,
        counts: impl Iterator<Item = u64>,
    ) -> Timeline<'s> {
        let mut timeline = Timeline { season, tenants: Vec::new(), heads: BinaryHeap::new() };
        for (tenant, count) in (0..).zip(counts) {
            let mut arrivals = Arrivals::new(count, Random::new(key(seed, for_use, tenant)));
            timeline.heads.extend(arrivals.next(season).map(|time_ms| Reverse((time_ms, tenant))));
            timeline.tenants.push(arrivals);
        }
        timeline
    }

    /// Returns the next time in milliseconds since 1970, and its tenant.
    pub(super) fn next(&mut self) -> Option<(i64, u32)> {
        let mut head = self.heads.peek_mut()?;
        let Reverse((time_ms, tenant)) = *head;
        match self.tenants[tenant as usize].next(self.season) {
            Some(next_ms) => *head = Reverse((next_ms, tenant)),
            None => _ = std::collections::binary_heap::PeekMut::pop(head),
        }
        Some((time_ms, tenant))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: Date = Date::constant(2026, 1, 1);

    fn times(count: u64, days: u32) -> (Season, Vec<i64>) {
        let season = Season::new(YEAR, days);
        let mut arrivals = Arrivals::new(count, Random::new(5));
        let times = std::iter::from_fn(|| arrivals.next(&season)).collect();
        (season, times)
    }

    #[test]
    fn as_many_come_as_were_asked_for_in_order_and_within_the_days() {
        for (count, days) in [(0, 1), (1, 1), (1000, 1), (50_000, 365)] {
            let (season, times) = times(count, days);
            assert_eq!(times.len() as u64, count);
            assert!(times.is_sorted());
            assert!(times.iter().all(|time| (season.start_ms..season.end_ms()).contains(time)));
        }
    }

    #[test]
    fn evenings_and_december_have_more_than_nights_and_february() {
        let (season, times) = times(100_000, 365);
        let hour = |time: i64| ((time - season.start_ms) / HOUR_MS % 24) as usize;
        let evening = times.iter().filter(|time| hour(**time) == 20).count();
        let night = times.iter().filter(|time| hour(**time) == 3).count();
        assert!(evening > night * 7, "{evening} {night}");
        let day = |time: i64| (time - season.start_ms) / DAY_MS;
        let of_days = |days: std::ops::Range<i64>| {
            times.iter().filter(|time| days.contains(&day(**time))).count() as f64
        };
        let (february, december) = (of_days(31..59) / 28.0, of_days(334..365) / 31.0);
        assert!(december > february * 1.8, "{december} {february}");
        // December's fraction of the times is its fraction of the weights, within five standard deviations of the
        // count.
        let whole = season.sums[365 * 24] as f64;
        let share = (whole - season.sums[334 * 24] as f64) / whole;
        let deviation = (times.len() as f64 * share * (1.0 - share)).sqrt();
        assert!((of_days(334..365) - times.len() as f64 * share).abs() < 5.0 * deviation, "{december}");
        let halves = of_days(0..182) / times.len() as f64;
        assert!((0.42..0.50).contains(&halves), "{halves}");
    }

    #[test]
    fn a_timeline_is_the_tenants_in_turn() {
        let season = Season::new(YEAR, 10);
        let counts = [50, 0, 200, 1];
        let mut timeline = Timeline::new(&season, 3, Use::Orders, counts.into_iter());
        let merged: Vec<_> = std::iter::from_fn(|| timeline.next()).collect();
        assert!(merged.is_sorted());
        for (tenant, count) in counts.into_iter().enumerate() {
            assert_eq!(merged.iter().filter(|(_, of)| *of as usize == tenant).count() as u64, count);
        }
    }
}
