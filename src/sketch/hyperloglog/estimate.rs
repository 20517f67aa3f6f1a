//! From registers to a number: Ertl's improved estimator, and linear counting.
//!
//! O. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017), algorithm 6: the raw estimate of
//! Flajolet et al., with the registers at 0 and at the highest rank weighted according to a Poisson model. It has no
//! bias at small, medium or huge cardinalities, so it needs no tables and no transition between estimators.

use super::registers::{COUNT, RANK_MAX};
use super::{PRECISION, SPARSE_PRECISION};

/// Returns the estimate for a number of set prefixes out of 2^25 (Whang, Vander-Zanden, Taylor, "A linear-time
/// probabilistic counting algorithm", 1990). At 4096 values, the expected number of values that are hidden behind an
/// equal prefix is a quarter of one.
pub(super) fn of_distinct(prefixes: usize) -> f64 {
    let all = f64::from(1 << SPARSE_PRECISION);
    -all * (-(prefixes as f64) / all).ln_1p()
}

/// Returns the estimate for the number of registers at each rank.
pub(super) fn of_histogram(counts: &[u32; RANK_MAX + 1]) -> f64 {
    let registers = COUNT as f64;
    let [empty, between @ .., full] = counts;
    debug_assert_eq!(between.len(), (u64::BITS - PRECISION) as usize);
    let mut sum = registers * tau(1.0 - f64::from(*full) / registers);
    for count in between.iter().rev() {
        sum = 0.5 * (sum + f64::from(*count));
    }
    sum += registers * sigma(f64::from(*empty) / registers);
    registers * registers / (2.0 * std::f64::consts::LN_2) / sum
}

/// Returns x + Σ x^(2^k) 2^(k-1) over k ≥ 1, for x from 0 to 1. It is infinite at 1.
fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut sum, mut factor) = (x, 1.0);
    loop {
        x *= x;
        let before = sum;
        sum += x * factor;
        factor += factor;
        if sum == before {
            return sum;
        }
    }
}

/// Returns (1 - x - Σ (1 - x^(2^-k))² 2^-k over k ≥ 1) / 3, for x from 0 to 1.
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut sum, mut factor) = (1.0 - x, 1.0);
    loop {
        x = x.sqrt();
        let before = sum;
        factor *= 0.5;
        sum -= (1.0 - x).powi(2) * factor;
        if sum == before {
            return sum / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_and_full_registers_are_the_ends_of_the_scale() {
        let mut counts = [0; RANK_MAX + 1];
        counts[0] = COUNT as u32;
        assert_eq!(of_histogram(&counts), 0.0);
        counts = [0; RANK_MAX + 1];
        counts[RANK_MAX] = COUNT as u32;
        assert_eq!(of_histogram(&counts), f64::INFINITY);
        assert_eq!(of_distinct(0), 0.0);
    }

    #[test]
    fn the_expected_histogram_gives_the_number_it_is_expected_of() {
        for true_count in [1.0, 1e3, 1e4, 1e6, 1e9, 1e12, 1e15, 1e18] {
            let rate = true_count / COUNT as f64;
            // P(rank <= k) is exp(-rate 2^-k) in the Poisson model, and 1 at the highest rank.
            let below = |rank: usize| match rank {
                RANK_MAX => 1.0,
                _ => (-rate * 0.5_f64.powi(rank as i32)).exp(),
            };
            let part = |rank: usize| below(rank) - if rank == 0 { 0.0 } else { below(rank - 1) };
            // A histogram contains whole numbers of registers and cannot express these fractions, so the parts of the
            // formula are evaluated separately.
            let mut sum = tau(1.0 - part(RANK_MAX));
            for rank in (1..RANK_MAX).rev() {
                sum = 0.5 * (sum + part(rank));
            }
            let estimate = COUNT as f64 / (2.0 * std::f64::consts::LN_2) / (sum + sigma(part(0)));
            assert!((estimate / true_count - 1.0).abs() < 1e-5, "{estimate} of {true_count}");
        }
    }
}
