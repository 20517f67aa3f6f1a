//! What a count of different values promises.

use proptest::prelude::*;

use super::sparse::Entry;
use super::*;
use crate::sketch::error::SketchError;
use crate::sketch::random::Random;

fn of(seed: u64, count: usize) -> HyperLogLog {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.next()).collect()
}

fn encoded(sketch: &HyperLogLog) -> Vec<u8> {
    let mut bytes = Vec::new();
    sketch.encode(&mut bytes);
    bytes
}

#[test]
fn estimates_stay_within_three_standard_errors() {
    for (count, seeds) in [
        (0, 1),
        (1, 50),
        (10, 50),
        (100, 50),
        (1_000, 50),
        (4_096, 50),
        (4_097, 50),
        (10_000, 50),
        (100_000, 30),
        (1_000_000, 5),
    ] {
        let bound = if count <= SPARSE_MAX { 1e-4 } else { HyperLogLog::RELATIVE_STANDARD_ERROR };
        let errors: Vec<f64> = (0..seeds)
            .map(|seed| of(seed + 1, count).estimate() / (count as f64).max(1.0) - f64::from(count > 0))
            .collect();
        let worst = errors.iter().fold(0.0_f64, |worst, error| worst.max(error.abs()));
        let root_mean_square =
            (errors.iter().map(|error| error * error).sum::<f64>() / errors.len() as f64).sqrt();
        println!("{count}: worst {worst:.5}, root mean square {root_mean_square:.5}");
        // One of fifty beyond two and a half is no surprise, beyond three and a half is.
        assert!(worst <= bound * 3.5 + 1e-12, "{count}: {worst}");
        assert!(root_mean_square <= bound * 1.3 + 1e-12, "{count}: {root_mean_square}");
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        assert!(
            mean.abs() <= 3.0 * bound / (errors.len() as f64).sqrt() + 1e-12,
            "{count}: biased by {mean}"
        );
    }
}
