//! The guarantees of a distinct count.

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

fn is_sparse(sketch: &HyperLogLog) -> bool {
    matches!(sketch.0, State::Sparse(_))
}

/// Returns the relative errors at a cardinality.
fn errors(count: usize, seeds: u64) -> Vec<f64> {
    (0..seeds).map(|seed| of(seed + 1, count).estimate() / count as f64 - 1.0).collect()
}

#[test]
fn dense_estimates_stay_within_the_standard_error_and_have_no_bias() {
    let sigma = HyperLogLog::RELATIVE_STANDARD_ERROR;
    for (count, seeds) in
        [(4_097, 60), (10_000, 60), (30_000, 60), (60_000, 60), (100_000, 40), (1_000_000, 8)]
    {
        let errors = errors(count, seeds);
        let worst = errors.iter().fold(0.0_f64, |worst, error| worst.max(error.abs()));
        let root_mean_square = (errors.iter().map(|error| error * error).sum::<f64>() / seeds as f64).sqrt();
        let mean = errors.iter().sum::<f64>() / seeds as f64;
        println!("{count}: worst {worst:.5}, root mean square {root_mean_square:.5}, mean {mean:.5}");
        assert!(worst <= 3.0 * sigma, "{count}: {worst}");
        assert!(root_mean_square <= 1.3 * sigma, "{count}: {root_mean_square}");
        assert!(mean.abs() <= 3.0 * sigma / (seeds as f64).sqrt(), "{count}: biased by {mean}");
    }
}

#[test]
fn sparse_estimates_are_nearly_exact() {
    assert_eq!(HyperLogLog::new().estimate(), 0.0);
    for (count, seeds) in [(1, 100), (10, 100), (100, 100), (1_000, 100), (4_096, 100)] {
        let errors = errors(count, seeds);
        // The only errors are values that share a prefix with another: one in thousands of values, and rarely two.
        let worst = errors.iter().fold(0.0_f64, |worst, error| worst.max(error.abs())) * count as f64;
        assert!(worst < 2.8, "{count}: {worst} values");
        let root_mean_square = (errors.iter().map(|error| error * error).sum::<f64>() / seeds as f64).sqrt();
        let sigma = HyperLogLog::RELATIVE_STANDARD_ERROR_SPARSE;
        assert!(root_mean_square < 1.5 * sigma, "{count}: {root_mean_square}");
    }
}

#[test]
fn it_is_sparse_up_to_4096_and_small() {
    let sketch = of(1, SPARSE_MAX);
    assert!(is_sparse(&sketch) && !is_sparse(&of(1, SPARSE_MAX + 1)));
    assert!(encoded(&sketch).len() < encoded(&of(1, SPARSE_MAX + 1)).len());
    assert_eq!(encoded(&HyperLogLog::new()), [1, 0]);
    assert_eq!(HyperLogLog::new().memory_bytes(), 0);
    assert!(encoded(&of(2, 50)).len() <= 4 * 50 + 2, "{}", encoded(&of(2, 50)).len());
    assert!(encoded(&of(3, 400)).len() <= 3 * 400 + 3, "{}", encoded(&of(3, 400)).len());
}

#[test]
fn every_rank_is_kept_in_sparse_mode() {
    // The hashes have one bit set after the 14 that select the register, at each position, or none. The result must
    // equal that of dense mode.
    for hash in (0..50).map(|bit| 0xABC << 50 | 1_u64 << bit).chain([0xABC << 50, 0, u64::MAX]) {
        let mut registers = Registers::new();
        registers.insert_hash(hash);
        let mut by_entry = Registers::new();
        by_entry.insert(Entry::of_hash(hash));
        assert!(registers == by_entry, "{hash:#x}");
        let sketch: HyperLogLog = [hash].into_iter().collect();
        assert_eq!(HyperLogLog::decode(&encoded(&sketch)), Ok(sketch), "{hash:#x}");
    }
}

/// Generates hashes that hit the same register, the same prefix and every rank.
fn hash() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => any::<u64>(),
        2 => (0..8_u64, 0..39_u32, any::<u64>())
            .prop_map(|(register, zeros, rest)| register << 50 | (rest & ((1 << 39) - 1)) >> zeros),
        1 => (0..64_u64).prop_map(|low| 5 << 50 | low << 36),
    ]
}

/// Generates lists of hashes whose lengths lead to both modes.
fn hashes() -> impl Strategy<Value = Vec<u64>> {
    (
        proptest::collection::vec(hash(), 0..60),
        prop_oneof![Just(0), 0..200_usize, 3_900..4_200_usize],
        any::<u64>(),
    )
        .prop_map(|(mut hashes, more, seed)| {
            let mut random = Random::new(seed);
            hashes.extend((0..more).map(|_| random.next()));
            hashes
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_merged_sketch_is_the_sketch_of_the_union(one in hashes(), other in hashes(), third in hashes()) {
        let sketch = |hashes: &[&Vec<u64>]| {
            hashes.iter().flat_map(|hashes| hashes.iter().copied()).collect::<HyperLogLog>()
        };
        let (a, b, c) = (sketch(&[&one]), sketch(&[&other]), sketch(&[&third]));
        let union = sketch(&[&third, &other, &one, &other]);
        let mut left = a.clone();
        left.merge(&b);
        left.merge(&c);
        let mut right = c.clone();
        right.merge(&b);
        right.merge(&a);
        let mut by_bytes = HyperLogLog::new();
        for part in [&b, &a, &c, &a] {
            by_bytes.merge_encoded(&encoded(part)).unwrap();
        }
        for merged in [left, right, by_bytes] {
            prop_assert!(merged == union);
            prop_assert_eq!(merged.estimate(), union.estimate());
            prop_assert_eq!(encoded(&merged), encoded(&union));
        }
    }

    #[test]
    fn bytes_lead_back_to_the_sketch(hashes in hashes()) {
        let sketch: HyperLogLog = hashes.into_iter().collect();
        let decoded = HyperLogLog::decode(&encoded(&sketch)).unwrap();
        prop_assert_eq!(decoded.estimate(), sketch.estimate());
        prop_assert!(decoded == sketch);
    }

    #[test]
    fn bytes_from_anywhere_are_refused_or_make_a_sketch(
        hashes in hashes(),
        cut in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        rubbish in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = encoded(&hashes.into_iter().collect());
        prop_assert!(HyperLogLog::decode(&bytes[..cut.index(bytes.len())]).is_err(), "cut");
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for bytes in [&bytes, &rubbish] {
            let mut sketch = of(7, 100);
            match sketch.merge_encoded(bytes) {
                Ok(()) => prop_assert!(sketch.estimate() >= 99.9),
                Err(_) => prop_assert!(sketch == of(7, 100), "merged in part"),
            }
            if let Ok(decoded) = HyperLogLog::decode(bytes) {
                prop_assert!(decoded.estimate() >= 0.0);
                let again = HyperLogLog::decode(&encoded(&decoded));
                prop_assert!(again.is_ok_and(|again| again == decoded));
            }
        }
    }
}

#[test]
fn bytes_that_no_sketch_has_are_refused_by_name() {
    use SketchError::{Damaged, Kind, Trailing, Truncated};
    let is = |bytes: &[u8]| HyperLogLog::decode(bytes).unwrap_err();
    assert_eq!(is(&[]), Truncated);
    assert_eq!(is(&[9]), Kind(9));
    assert_eq!(is(&[1]), Truncated);
    assert_eq!(is(&[1, 0, 7]), Trailing(1));
    assert_eq!(is(&[2, 0]), Truncated);
    assert!(matches!(is(&[1, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]), Damaged(_)));
    assert!(matches!(is(&[1, 1, 0, 0]), Damaged(_)), "rank 0 at prefix 0");
    assert!(matches!(is(&[1, 1, 0, 41]), Damaged(_)), "rank 41");
    assert!(matches!(is(&[1, 1, 0x80, 0x80, 0x80, 0x10, 1]), Damaged(_)), "prefix 2^25");
    let mut dense = encoded(&of(1, 5_000));
    dense[1..].fill(0xFF);
    assert!(matches!(is(&dense), Damaged(_)), "registers of 63");
    dense.push(0);
    assert_eq!(is(&dense), Trailing(1));
}

#[test]
fn a_union_is_what_merging_one_by_one_gives() {
    for sizes in [&[0_usize, 0][..], &[5, 7, 0], &[3_000, 1_000, 2_000], &[4_096, 4_096], &[9_000, 10, 9_000]]
    {
        let mut expected = HyperLogLog::new();
        let mut encoded = Vec::new();
        for (part, size) in sizes.iter().enumerate() {
            let mut sketch = HyperLogLog::new();
            for value in 0..*size as u64 {
                // Half of the values of each part are also in the next part.
                let value = value + (part * size / 2) as u64;
                sketch.insert_hash(
                    value
                        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                        .rotate_left(29)
                        .wrapping_mul(0xBF58_476D_1CE4_E5B9),
                );
            }
            let mut bytes = Vec::new();
            sketch.encode(&mut bytes);
            expected.merge_encoded(&bytes).unwrap();
            encoded.push(bytes);
        }
        let parts: Vec<&[u8]> = encoded.iter().map(Vec::as_slice).collect();
        let union = HyperLogLog::union_of(&parts).unwrap();
        assert!(union == expected, "{sizes:?}");
        assert_eq!(union.estimate(), expected.estimate());
    }
    assert!(HyperLogLog::union_of(&[&[9]]).is_err());
}
