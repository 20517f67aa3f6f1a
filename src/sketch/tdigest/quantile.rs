//! The value at a quantile, interpolated between centroids.

use super::{Centroid, TDigest};

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
        // Centroids that end below the rank only matter as the last knot.
        let least_end = rank.ceil() as u64;
        let mut before = 0;
        let reaches = |centroid: &Centroid| {
            let is_below = before + centroid.weight < least_end;
            before += u64::from(is_below) * centroid.weight;
            !is_below
        };
        let reached = self.centroids.iter().position(reaches).unwrap_or(self.centroids.len());
        let (below, centroids) = self.centroids.split_at(reached);
        let mut last = match below.last() {
            Some(centroid) => InverseCdfPoint::behind(centroid, before - centroid.weight),
            None => InverseCdfPoint { rank: 1.0, value: self.min },
        };
        for centroid in centroids {
            let single = centroid.weight == 1;
            let knot = InverseCdfPoint::before(centroid, before);
            // Between two single values there is a step, not a line.
            if rank <= knot.rank && last.rank < knot.rank {
                return Some(last.towards(knot, rank));
            }
            if single && rank <= (before + 1) as f64 {
                return Some(centroid.mean);
            }
            last = InverseCdfPoint::behind(centroid, before);
            before += centroid.weight;
        }
        let end = InverseCdfPoint { rank: self.count as f64 - 1.0, value: self.max };
        Some(last.towards(end, rank))
    }
}
