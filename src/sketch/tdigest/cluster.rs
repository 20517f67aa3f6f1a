//! Merges neighbours into one centroid where the scale function permits it.

use std::f64::consts::TAU;

use super::Centroid;

/// Merges neighbours in place, in one pass over sorted centroids (Dunning and Ertl, algorithm 1). Takes about 3 ns
/// per centroid. The result is sorted and has at most `compression` centroids, regardless of their number before.
///
/// The scale function k1(q) = compression / 2π · asin(2q - 1) maps a quantile to a position. A centroid of more than
/// one value has a width of at most one in that measure. The widths of two neighbours exceed one in total, because
/// they would otherwise have been merged. All widths add up to half the compression.
pub(super) fn cluster(centroids: &mut Vec<Centroid>, count: u64, compression: u16) {
    let Some(first) = centroids.first() else { return };
    let scale = Scale::new(compression, count);
    // The growing centroid: its first mean, the sum of the distances to it, its weight, and its last mean.
    let (mut base, mut distances, mut weight, mut last) = (first.mean, 0.0, first.weight, first.mean);
    let (mut kept, mut before, mut end) = (0, 0, scale.end_from(0));
    for at in 1..centroids.len() {
        let next = centroids[at];
        if before + weight + next.weight <= end {
            distances += (next.mean - base) * next.weight as f64;
            weight += next.weight;
        } else {
            centroids[kept] = mean_of(base, distances, weight, last);
            kept += 1;
            before += weight;
            end = scale.end_from(before);
            (base, distances, weight) = (next.mean, 0.0, next.weight);
        }
        last = next.mean;
    }
    centroids[kept] = mean_of(base, distances, weight, last);
    centroids.truncate(kept + 1);
}

fn mean_of(base: f64, distances: f64, weight: u64, last: f64) -> Centroid {
    // Rounding must not move the mean beyond the last mean that the centroid includes.
    Centroid { mean: (base + distances / weight as f64).min(last), weight }
}

struct Scale {
    count: f64,
    /// The angle 2π / compression, one step of k1.
    step_sin: f64,
    step_cos: f64,
}

impl Scale {
    fn new(compression: u16, count: u64) -> Scale {
        let (step_sin, step_cos) = (TAU / f64::from(compression)).sin_cos();
        Scale { count: count as f64, step_sin, step_cos }
    }

    /// Returns the rank up to which a centroid that begins at `rank` may extend.
    fn end_from(&self, rank: u64) -> u64 {
        // 2q - 1 is the sine of the angle at quantile q.
        let sin = 2.0 * rank as f64 / self.count - 1.0;
        if sin >= self.step_cos {
            // The rank is less than a step from the end.
            return self.count as u64;
        }
        let cos = (1.0 - sin * sin).max(0.0).sqrt();
        ((sin * self.step_cos + cos * self.step_sin + 1.0) / 2.0 * self.count) as u64
    }
}
