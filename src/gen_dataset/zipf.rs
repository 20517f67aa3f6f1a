//! Ranks by Zipf's law, without a table: rejection-inversion.
//!
//! Hoermann and Derflinger, "Rejection-inversion to generate variates from monotone discrete distributions" (ACM
//! TOMACS 6.3, 1996). The hat is x^-s itself, whose integral has an inverse. A draw is rounded to a rank, and
//! repeated if it is outside the rank's own area.

use super::powers::{exp, ln};
use super::random::Random;

/// Draws ranks from 1 to `ranks`, rank k with a probability proportional to k^-s. It needs no memory, and a few
/// logarithms per rank.
#[derive(Clone, Debug)]
pub(super) struct Zipf {
    ranks: u32,
    exponent: f64,
    /// The hat's integral at 1.5 minus the first rank's weight: the upper end of u's range.
    high: f64,
    /// The hat's integral after the last rank: the other end of u's range.
    low: f64,
    /// A rank that exceeds its x by no more than this needs no comparison with the hat.
    sure: f64,
}

impl Zipf {
    /// Creates a distribution over these ranks.
    ///
    /// # Panics
    /// Panics if there are no ranks, or if the exponent is so close to 1 that this form of the integral loses
    /// precision.
    pub(super) fn new(ranks: u32, exponent: f64) -> Zipf {
        assert!(ranks > 0 && exponent > 0.0 && (exponent - 1.0).abs() > 0.01, "{ranks} ranks, {exponent}");
        let mut zipf = Zipf { ranks, exponent, high: 0.0, low: 0.0, sure: 0.0 };
        zipf.high = zipf.integral(1.5) - 1.0;
        zipf.low = zipf.integral(f64::from(ranks) + 0.5);
        zipf.sure = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.share(2.0));
        zipf
    }

    /// Draws a rank. The lowest rank is 1.
    pub(super) fn rank(&self, random: &mut Random) -> u32 {
        loop {
            let u = self.low + random.unit() * (self.high - self.low);
            let x = self.inverse(u);
            // Rounding may move x slightly out of the range.
            let rank = ((x + 0.5) as u32).clamp(1, self.ranks);
            let k = f64::from(rank);
            if k - x <= self.sure || u >= self.integral(k + 0.5) - self.share(k) {
                return rank;
            }
        }
    }

    /// Returns the weight x^-s.
    pub(super) fn share(&self, x: f64) -> f64 {
        exp(-self.exponent * ln(x))
    }

    /// Returns the integral of x^-s from 1: (x^(1-s) - 1) / (1 - s).
    fn integral(&self, x: f64) -> f64 {
        let rest = 1.0 - self.exponent;
        (exp(rest * ln(x)) - 1.0) / rest
    }

    /// Returns the x at which the integral has this value.
    fn inverse(&self, integral: f64) -> f64 {
        let rest = 1.0 - self.exponent;
        // The value is below 0 only by rounding. The clamp keeps the logarithm's argument normal.
        exp(ln((1.0 + integral * rest).max(1e-300)) / rest)
    }
}

/// A fixed permutation of 0 to `count` - 1 that takes no memory. It maps ranks to numbers by an affine map, so that
/// popular items do not have the lowest numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shuffle {
    count: u64,
    factor: u64,
    offset: u64,
    /// The inverse of `factor` modulo `count`.
    inverse: u64,
}

impl Shuffle {
    pub(super) fn new(count: u32, random: &mut Random) -> Shuffle {
        let count = u64::from(count.max(1));
        let mut factor = random.below(count).max(1);
        while gcd(factor, count) != 1 {
            factor = factor % count + 1;
        }
        Shuffle { count, factor, offset: random.below(count), inverse: inverse(factor, count) }
    }

    /// Returns the index that [`Shuffle::at`] maps to this position.
    pub(super) fn index_of(&self, position: u32) -> u32 {
        let distance = (u64::from(position) + self.count - self.offset) % self.count;
        (distance * self.inverse % self.count) as u32
    }

    /// Returns the position of `index` (0 ≤ `index` < count).
    pub(super) fn at(&self, index: u32) -> u32 {
        // Both factors are below 2^32, so there is no overflow.
        ((u64::from(index) * self.factor + self.offset) % self.count) as u32
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Returns the inverse of a factor modulo a count that has no divisor in common with it (Euclid's extended algorithm).
fn inverse(factor: u64, count: u64) -> u64 {
    let (mut before, mut rest) = ((count as i64, 0), (factor as i64, 1));
    while rest.0 != 0 {
        let times = before.0 / rest.0;
        (before, rest) = (rest, (before.0 - times * rest.0, before.1 - times * rest.1));
    }
    before.1.rem_euclid(count as i64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_follow_the_law() {
        for exponent in [0.6, 0.9, 1.05, 2.0] {
            let (ranks, drawn) = (50_u32, 200_000_u32);
            let zipf = Zipf::new(ranks, exponent);
            let mut random = Random::new(exponent.to_bits());
            let mut counts = vec![0_u32; ranks as usize];
            for _ in 0..drawn {
                counts[zipf.rank(&mut random) as usize - 1] += 1;
            }
            let whole: f64 = (1..=ranks).map(|k| f64::from(k).powf(-exponent)).sum();
            // Pearson's sum over 50 ranks is 49 ± 10 if the law holds. 100 is five standard deviations off.
            let squares: f64 = (1..=ranks)
                .map(|k| {
                    let wanted = f64::from(k).powf(-exponent) / whole * f64::from(drawn);
                    (f64::from(counts[k as usize - 1]) - wanted).powi(2) / wanted
                })
                .sum();
            assert!(squares < 100.0, "exponent {exponent}: {squares}");
        }
    }

    #[test]
    fn one_rank_and_very_many_stay_in_range() {
        let mut random = Random::new(1);
        assert_eq!(Zipf::new(1, 1.05).rank(&mut random), 1);
        let many = Zipf::new(u32::MAX, 0.7);
        assert!((0..1000).all(|_| many.rank(&mut random) >= 1));
    }

    #[test]
    fn a_shuffle_hits_each_number_once() {
        for count in [1, 2, 7, 100, 1000, 30_030] {
            let shuffle = Shuffle::new(count, &mut Random::new(u64::from(count)));
            let mut seen: Vec<u32> = (0..count).map(|index| shuffle.at(index)).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..count), "{count}");
            assert!((0..count).all(|index| shuffle.index_of(shuffle.at(index)) == index), "{count}");
        }
    }
}
