//! The value at a quantile, interpolated between centroids.

use super::TDigest;

/// A point of the inverse distribution function.
#[derive(Clone, Copy)]
struct InverseCdfPoint {
    rank: f64,
    value: f64,
}

impl InverseCdfPoint {
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
        if self.count == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        self.sort();
        let rank = q * self.count as f64;
        // The least value has the ranks up to 1. The greatest value has the ranks of the last step.
        if rank <= 1.0 {
            return Some(self.min);
        }
        if rank > self.count as f64 - 1.0 {
            return Some(self.max);
        }
        let mut last = InverseCdfPoint { rank: 1.0, value: self.min };
        let mut before = 0;
        for centroid in &self.centroids {
            let single = centroid.weight == 1;
            let from = before as f64;
            before += centroid.weight;
            let knot = match single {
                true => InverseCdfPoint { rank: from, value: centroid.mean },
                false => InverseCdfPoint { rank: (from + before as f64) / 2.0, value: centroid.mean },
            };
            // Between two single values there is a step, not a line.
            if rank <= knot.rank && last.rank < knot.rank {
                return Some(last.towards(knot, rank));
            }
            if single && rank <= before as f64 {
                return Some(centroid.mean);
            }
            last = match single {
                true => InverseCdfPoint { rank: before as f64, value: centroid.mean },
                false => knot,
            };
        }
        let end = InverseCdfPoint { rank: self.count as f64 - 1.0, value: self.max };
        Some(last.towards(end, rank))
    }
}
