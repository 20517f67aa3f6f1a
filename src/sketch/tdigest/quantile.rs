//! The value at a quantile, interpolated between centroids.

use super::key::key_of;
use super::{Centroid, TDigest};

/// The number of buckets of [`TDigest::quantiles`].
const BUCKETS_BITS: u32 = 10;
/// If fewer centroids are not in order, sorting them all is as fast.
const UNSORTED_MIN: usize = 256;
/// The number of centroids behind the reached one that may decide the value.
const BEHIND: usize = 2;

/// A point of the inverse distribution function.
#[derive(Clone, Copy)]
struct InverseCdfPoint {
    rank: f64,
    value: f64,
}

impl InverseCdfPoint {
    /// Returns the knot at which a centroid begins to matter, behind `before` values: its only value, or its middle.
    fn before(centroid: &Centroid, before: u64) -> InverseCdfPoint {
        let (from, end) = (before as f64, (before + centroid.weight) as f64);
        let rank = if centroid.weight == 1 { from } else { (from + end) / 2.0 };
        InverseCdfPoint { rank, value: centroid.mean }
    }

    /// Returns the last knot of the centroid.
    fn behind(centroid: &Centroid, before: u64) -> InverseCdfPoint {
        match centroid.weight {
            1 => InverseCdfPoint { rank: (before + 1) as f64, value: centroid.mean },
            _ => InverseCdfPoint::before(centroid, before),
        }
    }

    /// Returns the value at a rank between two knots.
    fn towards(self, other: InverseCdfPoint, rank: f64) -> f64 {
        let width = other.rank - self.rank;
        if width <= 0.0 {
            return other.value;
        }
        let part = ((rank - self.rank) / width).clamp(0.0, 1.0);
        (self.value + (other.value - self.value) * part).min(other.value)
    }
}

impl TDigest {
    /// Returns the least value such that at least the fraction `q` of all values is not greater. `None` while empty,
    /// and if `q` is not from 0 to 1. It needs `mut` because it sorts the values added since the last call, which
    /// takes up to 100 us. Without new values it takes less than a microsecond.
    ///
    /// A centroid of one value is that value, at its rank. A heavier centroid only shows that its mean is at about
    /// the middle of its ranks. Between such centroids, and towards the least and the greatest value, the result is
    /// interpolated linearly.
    #[must_use]
    pub fn quantile(&mut self, q: f64) -> Option<f64> {
        match self.rank_or_value(q)? {
            RankOrValue::Value(value) => Some(value),
            RankOrValue::Rank(rank) => {
                self.sort();
                Some(
                    self.value_at(rank, &self.centroids, 0)
                        .unwrap_or_else(|last| self.towards_max(last, rank)),
                )
            }
        }
    }

    /// Returns what [`TDigest::quantile`] returns for each of the fractions, but sorts only the centroids near them. Takes
    /// about half as long if many digests were merged, and sorts nothing for a later call.
    #[must_use]
    pub fn quantiles<const N: usize>(&mut self, fractions: [f64; N]) -> [Option<f64>; N] {
        if self.centroids.len() < self.sorted + UNSORTED_MIN {
            return fractions.map(|q| self.quantile(q));
        }
        let ranks = fractions.map(|q| self.rank_or_value(q));
        let buckets = Buckets::of(self);
        let near = ranks.map(|rank| match rank {
            Some(RankOrValue::Rank(rank)) => buckets.near(rank),
            _ => Near::default(),
        });
        let gathered = buckets.gathered(&self.centroids, &near);
        std::array::from_fn(|at| match ranks[at]? {
            RankOrValue::Value(value) => Some(value),
            RankOrValue::Rank(rank) => {
                let value = self.value_at(rank, &gathered[at], near[at].weight_before);
                Some(value.unwrap_or_else(|last| self.towards_max(last, rank)))
            }
        })
    }

    /// Returns the rank of a fraction, or the least or greatest value if the fraction selects it.
    fn rank_or_value(&self, q: f64) -> Option<RankOrValue> {
        if self.count == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = q * self.count as f64;
        // The least value has the ranks up to 1. The greatest value has the ranks of the last step.
        if rank <= 1.0 {
            return Some(RankOrValue::Value(self.min));
        }
        if rank > self.count as f64 - 1.0 {
            return Some(RankOrValue::Value(self.max));
        }
        Some(RankOrValue::Rank(rank))
    }

    /// Returns the value at a rank, from sorted centroids that `before` values precede. Returns the last knot if the value
    /// is behind them.
    fn value_at(&self, rank: f64, centroids: &[Centroid], mut before: u64) -> Result<f64, InverseCdfPoint> {
        // Centroids that end below the rank only matter as the last knot.
        let least_end = rank.ceil() as u64;
        let reaches = |centroid: &Centroid| {
            let is_below = before + centroid.weight < least_end;
            before += u64::from(is_below) * centroid.weight;
            !is_below
        };
        let reached = centroids.iter().position(reaches).unwrap_or(centroids.len());
        let (below, centroids) = centroids.split_at(reached);
        let mut last = match below.last() {
            Some(centroid) => InverseCdfPoint::behind(centroid, before - centroid.weight),
            None => InverseCdfPoint { rank: 1.0, value: self.min },
        };
        for centroid in centroids {
            let single = centroid.weight == 1;
            let knot = InverseCdfPoint::before(centroid, before);
            // Between two single values there is a step, not a line.
            if rank <= knot.rank && last.rank < knot.rank {
                return Ok(last.towards(knot, rank));
            }
            if single && rank <= (before + 1) as f64 {
                return Ok(centroid.mean);
            }
            last = InverseCdfPoint::behind(centroid, before);
            before += centroid.weight;
        }
        Err(last)
    }

    fn towards_max(&self, last: InverseCdfPoint, rank: f64) -> f64 {
        last.towards(InverseCdfPoint { rank: self.count as f64 - 1.0, value: self.max }, rank)
    }
}

#[derive(Clone, Copy)]
enum RankOrValue {
    Rank(f64),
    Value(f64),
}

/// The centroids by equal steps of their keys, without an order within a step.
struct Buckets {
    /// The bucket of each centroid.
    of_centroids: Vec<u16>,
    /// The number of centroids in each bucket, and their weight.
    sums: [(u32, u64); 1 << BUCKETS_BITS],
}

/// The buckets whose centroids decide the value at a rank: those from `first` on, before `end`. The centroids before them
/// weigh `weight_before`.
#[derive(Clone, Copy, Default)]
struct Near {
    first: usize,
    end: usize,
    weight_before: u64,
}

impl Buckets {
    fn of(digest: &TDigest) -> Buckets {
        let lowest = key_of(digest.min);
        let range_bits = u64::BITS - (key_of(digest.max) - lowest).leading_zeros();
        let shift = range_bits.saturating_sub(BUCKETS_BITS);
        let mut sums = [(0, 0); 1 << BUCKETS_BITS];
        let add = |centroid: &Centroid| {
            let bucket = (key_of(centroid.mean) - lowest) >> shift;
            let sum = &mut sums[bucket as usize % (1 << BUCKETS_BITS)];
            *sum = (sum.0 + 1, sum.1 + centroid.weight);
            bucket as u16
        };
        let of_centroids = digest.centroids.iter().map(add).collect();
        Buckets { of_centroids, sums }
    }

    /// Returns the bucket with the centroid that reaches a rank, the last one before it, and enough behind it.
    fn near(&self, rank: f64) -> Near {
        let least_end = rank.ceil() as u64;
        let (mut weight, mut reached) = (0, 0);
        let mut near = Near::default();
        while reached < self.sums.len() && weight + self.sums[reached].1 < least_end {
            if self.sums[reached].0 > 0 {
                (near.first, near.weight_before) = (reached, weight);
            }
            weight += self.sums[reached].1;
            reached += 1;
        }
        let mut behind = 0;
        near.end = (reached + 1).min(self.sums.len());
        while near.end < self.sums.len() && behind < BEHIND {
            behind += self.sums[near.end].0 as usize;
            near.end += 1;
        }
        near
    }

    /// Returns the sorted centroids of each range of buckets.
    fn gathered<const N: usize>(&self, centroids: &[Centroid], near: &[Near; N]) -> [Vec<Centroid>; N] {
        const { assert!(N <= u8::BITS as usize) };
        let mut ranges_of = [0_u8; 1 << BUCKETS_BITS];
        for (at, near) in near.iter().enumerate() {
            ranges_of[near.first..near.end].iter_mut().for_each(|ranges| *ranges |= 1 << at);
        }
        let mut gathered = [const { Vec::new() }; N];
        for (centroid, bucket) in centroids.iter().zip(&self.of_centroids) {
            let ranges = ranges_of[usize::from(*bucket)];
            if ranges != 0 {
                let of_ranges = gathered.iter_mut().enumerate().filter(|(at, _)| ranges >> at & 1 == 1);
                of_ranges.for_each(|(_, gathered)| gathered.push(*centroid));
            }
        }
        // Equal means keep their order, as they do where all are sorted.
        gathered.iter_mut().for_each(|gathered| gathered.sort_by(|a, b| a.mean.total_cmp(&b.mean)));
        gathered
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn some_sorted_centroids_give_the_values_of_all(
            parts in proptest::collection::vec(
                (proptest::collection::vec((-9_000..9_000_i32, 1..40_u64), 1..400), 0..4_u8),
                1..9,
            ),
            fractions in [0.0..=1.0, 0.0..=1.0, 0.9..=1.0],
        ) {
            let mut merged = TDigest::default();
            for (values, kind) in parts {
                let mut part = TDigest::default();
                for (value, weight) in values {
                    let (value, weight) = match kind {
                        0 => (f64::from(value), 1),
                        1 => (f64::from(value % 5), weight),
                        2 => (f64::from(value).powi(5), weight),
                        _ => (f64::from(value), weight),
                    };
                    part.insert_weighted(value, weight).unwrap();
                }
                let mut bytes = Vec::new();
                part.encode(&mut bytes);
                merged.merge_encoded(&bytes).unwrap();
            }
            let all = [&fractions[..], &[0.0, 0.001, 0.5, 0.95, 0.99, 0.999, 1.0]].concat();
            for of in all.windows(3) {
                let fractions = [of[0], of[1], of[2]];
                let mut sorted = merged.clone();
                prop_assert_eq!(merged.quantiles(fractions), fractions.map(|q| sorted.quantile(q)));
            }
        }
    }
}
