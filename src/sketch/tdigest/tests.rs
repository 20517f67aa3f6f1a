//! Guarantees of a digest.

use proptest::prelude::*;

use super::*;
use crate::sketch::random::Random;

const QUANTILES: [f64; 9] = [0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999];

fn of(values: &[f64]) -> TDigest {
    let mut digest = TDigest::default();
    values.iter().for_each(|value| digest.insert(*value).unwrap());
    digest
}

fn encoded(digest: &mut TDigest) -> Vec<u8> {
    let mut bytes = Vec::new();
    digest.encode(&mut bytes);
    bytes
}

fn ascending(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// Returns the quantile by nearest rank: the least value that is not below the fraction `q` of all values.
fn exact(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// Returns the distance of a value's rank from the requested one, relative to the count. A repeated value has all the
/// ranks from its first to its last.
fn rank_error(sorted: &[f64], q: f64, value: f64) -> f64 {
    let count = sorted.len() as f64;
    let from = sorted.partition_point(|known| *known < value) as f64 / count;
    let to = sorted.partition_point(|known| *known <= value) as f64 / count;
    (from - q).max(q - to).max(0.0)
}

fn distributions(count: usize, seed: u64) -> Vec<(&'static str, Vec<f64>)> {
    let mut random = Random::new(seed);
    let mut some =
        |of: &dyn Fn(&mut Random) -> f64| (0..count).map(|_| of(&mut random)).collect::<Vec<f64>>();
    let uniform = some(&|random| random.unit());
    let cents = some(&|random| (1_000.0 * (random.unit() * 4.6).exp()).round());
    let mut backwards = ascending(uniform.clone());
    backwards.reverse();
    vec![
        ("sorted", ascending(uniform.clone())),
        ("backwards", backwards),
        ("uniform", uniform),
        ("exponential", some(&|random| -(1.0 - random.unit()).ln())),
        ("zipf", some(&|random| (1.0 / (1.0 - random.unit())).min(1e9).floor())),
        ("bimodal", some(&|random| f64::from(u8::from(random.next() % 3 == 0)) * 1e6 + random.unit())),
        ("cents", cents),
        ("constant", vec![1999.0; count]),
    ]
}

/// Returns the documented rank error: half the width of one centroid.
fn bound(q: f64) -> f64 {
    std::f64::consts::PI / f64::from(TDigest::COMPRESSION_DEFAULT) * (q * (1.0 - q)).sqrt()
}

fn check(name: &str, digest: &mut TDigest, sorted: &[f64], worst: &mut [f64; 9]) {
    assert_eq!(digest.count(), sorted.len() as u64);
    assert_eq!(digest.quantile(0.0), sorted.first().copied(), "{name}");
    assert_eq!(digest.quantile(1.0), sorted.last().copied(), "{name}");
    for (at, q) in QUANTILES.into_iter().enumerate() {
        let error = rank_error(sorted, q, digest.quantile(q).unwrap());
        worst[at] = worst[at].max(error);
        assert!(error <= bound(q), "{name}: {error} at {q}");
    }
}

#[test]
fn quantiles_of_one_stream_are_within_the_bounds() {
    let mut worst = [0.0; 9];
    for seed in 1..6 {
        for (name, values) in distributions(100_000, seed) {
            let mut digest = of(&values);
            let sorted = ascending(values);
            check(name, &mut digest, &sorted, &mut worst);
            // The bounds also hold after encoding and decoding.
            let mut again = TDigest::decode(&encoded(&mut digest)).unwrap();
            check(name, &mut again, &sorted, &mut worst);
        }
    }
    println!("one stream: {worst:.5?}");
}

#[test]
fn quantiles_of_merged_digests_are_within_the_bounds() {
    let mut worst = [0.0; 9];
    for (parts, each) in [(1_000, 100), (100, 1_000), (10, 10_000)] {
        for (name, values) in distributions(parts * each, 9) {
            let mut merged = TDigest::default();
            for part in values.chunks(each) {
                merged.merge_encoded(&encoded(&mut of(part))).unwrap();
            }
            check(name, &mut merged, &ascending(values), &mut worst);
        }
    }
    println!("merged: {worst:.5?}");
}

#[test]
fn a_digest_that_is_kept_after_every_few_values_stays_within_the_bounds() {
    let mut worst = [0.0; 9];
    for (name, values) in distributions(30_000, 4) {
        let mut bytes = encoded(&mut TDigest::default());
        for part in values.chunks(20) {
            let mut digest = TDigest::decode(&bytes).unwrap();
            part.iter().for_each(|value| digest.insert(*value).unwrap());
            bytes = encoded(&mut digest);
        }
        check(name, &mut TDigest::decode(&bytes).unwrap(), &ascending(values), &mut worst);
    }
    println!("kept each time: {worst:.5?}");
}

#[test]
fn few_values_are_exact_also_when_encoded_and_merged() {
    for count in [1, 2, 3, 10, 100, 200] {
        for (name, values) in distributions(count, 3) {
            let (one, other) = values.split_at(count / 3);
            let mut digest = of(one);
            digest.merge(&of(other)).unwrap();
            let mut again = TDigest::decode(&encoded(&mut digest)).unwrap();
            let sorted = ascending(values);
            for q in (0..=1_000).map(|part| f64::from(part) / 1_000.0) {
                assert_eq!(digest.quantile(q), Some(exact(&sorted, q)), "{name}, {count}, {q}");
                assert_eq!(again.quantile(q), digest.quantile(q), "{name}, {count}, {q}");
            }
        }
    }
}

#[test]
fn the_buffer_is_exact_in_memory() {
    for (name, values) in distributions(1_600, 8) {
        let mut digest = of(&values);
        let sorted = ascending(values);
        for q in QUANTILES {
            assert_eq!(digest.quantile(q), Some(exact(&sorted, q)), "{name}, {q}");
        }
    }
}

#[test]
fn there_are_never_more_centroids_than_the_compression() {
    for compression in [20, 21, 99, 200, 1000] {
        for (name, values) in distributions(50_000, 5) {
            let mut digest = TDigest::new(compression);
            values.iter().for_each(|value| digest.insert(*value).unwrap());
            digest.encode(&mut Vec::new());
            assert!(digest.centroids.len() <= usize::from(compression), "{name}: {}", digest.centroids.len());
            assert!(digest.centroids.is_sorted_by(|one, next| one.mean <= next.mean), "{name}");
            assert_eq!(digest.centroids.iter().map(|centroid| centroid.weight).sum::<u64>(), 50_000);
        }
    }
}

#[test]
fn weights_count_as_often_as_they_say() {
    let mut digest = TDigest::default();
    digest.insert_weighted(5.0, 0).unwrap();
    assert_eq!((digest.count(), digest.quantile(0.5), digest.min(), digest.max()), (0, None, None, None));
    digest.insert_weighted(5.0, 1_000).unwrap();
    digest.insert_weighted(9.0, 1).unwrap();
    assert_eq!((digest.count(), digest.min(), digest.max()), (1_001, Some(5.0), Some(9.0)));
    assert_eq!(digest.quantile(0.4), Some(5.0));
    assert_eq!(digest.quantile(1.0), Some(9.0));
    assert_eq!(digest.quantile(1.1).or(digest.quantile(f64::NAN)), None);
}

#[test]
fn what_is_no_number_or_too_much_is_refused_and_changes_nothing() {
    let mut digest = of(&[1.0, 2.0]);
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -1e300] {
        assert_eq!(digest.insert(value), Err(SketchError::NotFinite));
    }
    assert_eq!(digest.insert_weighted(1.0, u64::MAX), Err(SketchError::TooMany));
    assert_eq!(digest.insert_weighted(1.0, COUNT_MAX - 1), Err(SketchError::TooMany));
    let mut most = TDigest::default();
    most.insert_weighted(3.0, COUNT_MAX).unwrap();
    assert_eq!(digest.merge(&most), Err(SketchError::TooMany));
    assert_eq!(digest.merge_encoded(&encoded(&mut most)), Err(SketchError::TooMany));
    assert_eq!(digest, of(&[1.0, 2.0]));
    // The greatest permitted values, and zero of either sign.
    let mut wide = of(&[VALUE_MAX, -VALUE_MAX, -0.0, 0.0]);
    (0..5_000).for_each(|n| wide.insert(if n % 2 == 0 { VALUE_MAX } else { -VALUE_MAX }).unwrap());
    assert_eq!(wide.quantile(0.1), Some(-VALUE_MAX));
    let again = TDigest::decode(&encoded(&mut wide)).unwrap();
    assert_eq!((again.count(), again.min(), again.max()), (5_004, Some(-VALUE_MAX), Some(VALUE_MAX)));
}

#[test]
fn small_money_is_small() {
    let cents: Vec<f64> = distributions(50, 1).into_iter().find(|(name, _)| *name == "cents").unwrap().1;
    assert!(encoded(&mut of(&cents)).len() <= 3 * 50 + 8, "{}", encoded(&mut of(&cents)).len());
    assert_eq!(encoded(&mut of(&[1999.0])).len(), 10);
    assert_eq!(encoded(&mut TDigest::default()).len(), 5);
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-1_000..100_000_i32).prop_map(f64::from),
        -1e6..1e6,
        any::<f64>().prop_map(|value| if value.abs() <= VALUE_MAX { value } else { 0.0 }),
        (0..4_u8).prop_map(f64::from),
    ]
}

/// Generates digests of one or several distributions, with weights or without.
fn digest() -> impl Strategy<Value = TDigest> {
    let values = proptest::collection::vec((value(), prop_oneof![3 => Just(1), 1 => 1..1_000_u64]), 0..300);
    (values, prop_oneof![Just(200_u16), 20..300_u16], 1..9_usize).prop_map(|(values, compression, times)| {
        let mut digest = TDigest::new(compression);
        for (value, weight) in values.iter().cycle().take(values.len() * times) {
            digest.insert_weighted(*value, *weight).unwrap();
        }
        digest
    })
}

fn quantiles(digest: &mut TDigest) -> Vec<f64> {
    (0..=50).map(|part| digest.quantile(f64::from(part) / 50.0).unwrap_or(0.0)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_lead_back_to_the_digest(mut digest in digest()) {
        // The first encoding rounds the means; further ones change nothing.
        let first = encoded(&mut digest);
        let mut decoded = TDigest::decode(&first).unwrap();
        prop_assert_eq!((decoded.count, decoded.compression), (digest.count, digest.compression));
        prop_assert_eq!((decoded.min(), decoded.max()), (digest.min(), digest.max()));
        prop_assert_eq!(decoded.centroids.len(), digest.centroids.len());
        for (decoded, kept) in decoded.centroids.iter().zip(&digest.centroids) {
            prop_assert_eq!(decoded.weight, kept.weight);
            let off = (decoded.mean - kept.mean).abs();
            // The smallest numbers have fewer than 24 bits.
            prop_assert!(off <= kept.mean.abs() * 1e-7 || off < 1e-290, "{off:e} off {:e}", kept.mean);
            prop_assert!(kept.weight > 1 || off == 0.0, "a single value {} became {}", kept.mean, decoded.mean);
        }
        let second = encoded(&mut decoded);
        prop_assert!(TDigest::decode(&second).unwrap() == decoded);
    }

    #[test]
    fn quantiles_never_fall_and_stay_between_the_ends(mut digest in digest()) {
        let quantiles = quantiles(&mut digest);
        prop_assert!(quantiles.is_sorted(), "{quantiles:?}");
        if let (Some(min), Some(max)) = (digest.min(), digest.max()) {
            prop_assert!(quantiles.iter().all(|value| (min..=max).contains(value)));
        }
    }

    #[test]
    fn merging_is_the_same_in_any_order_within_the_error(
        parts in proptest::collection::vec((1..800_usize, any::<u64>()), 3),
    ) {
        let values = parts.iter().map(|(count, seed)| {
            let mut random = Random::new(*seed);
            (0..*count).map(|_| -(1.0 - random.unit()).ln()).collect::<Vec<f64>>()
        });
        let values: Vec<Vec<f64>> = values.collect();
        let sorted = ascending(values.concat());
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut merged = TDigest::default();
            let mut by_bytes = TDigest::default();
            for part in order {
                merged.merge(&of(&values[part])).unwrap();
                by_bytes.merge_encoded(&encoded(&mut of(&values[part]))).unwrap();
            }
            for digest in [&mut merged, &mut by_bytes] {
                prop_assert_eq!(digest.count(), sorted.len() as u64);
                for q in QUANTILES {
                    let error = rank_error(&sorted, q, digest.quantile(q).unwrap());
                    // With few values, the error may exceed the bound by a rank or two.
                    prop_assert!(error <= bound(q) + 2.0 / sorted.len() as f64, "{} at {}", error, q);
                }
            }
        }
    }

    #[test]
    fn bytes_from_anywhere_are_refused_or_make_a_digest(
        mut digest in digest(),
        cut in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        rubbish in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut bytes = encoded(&mut digest);
        prop_assert!(TDigest::decode(&bytes[..cut.index(bytes.len())]).is_err(), "cut");
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let headed = [&[KIND_OF_DIGEST, 0, 200, 1], rubbish.as_slice()].concat();
        for bytes in [&bytes, &rubbish, &headed] {
            let mut whole = of(&[1.0, 2.0]);
            if whole.merge_encoded(bytes).is_err() {
                prop_assert!(whole == of(&[1.0, 2.0]), "merged in part");
            }
            prop_assert!(quantiles(&mut whole).is_sorted());
            if let Ok(mut decoded) = TDigest::decode(bytes) {
                prop_assert!(quantiles(&mut decoded).is_sorted());
                prop_assert!(TDigest::decode(&encoded(&mut decoded)).is_ok());
            }
        }
    }
}

const KIND_OF_DIGEST: u8 = 3;

/// Returns the value at a rank by a walk over all knots.
fn by_walk(digest: &TDigest, rank: f64) -> f64 {
    let (mut last, mut before) = ((1.0, digest.min), 0);
    let towards = |from: (f64, f64), to: (f64, f64)| {
        let part = ((rank - from.0) / (to.0 - from.0)).clamp(0.0, 1.0);
        if to.0 <= from.0 { to.1 } else { (from.1 + (to.1 - from.1) * part).min(to.1) }
    };
    for Centroid { mean, weight } in &digest.centroids {
        let (from, single) = (before as f64, *weight == 1);
        before += weight;
        let end = before as f64;
        let knot = (if single { from } else { (from + end) / 2.0 }, *mean);
        if rank <= knot.0 && last.0 < knot.0 {
            return towards(last, knot);
        }
        if single && rank <= end {
            return *mean;
        }
        last = (if single { end } else { knot.0 }, *mean);
    }
    towards(last, (digest.count as f64 - 1.0, digest.max))
}

#[test]
fn a_quantile_is_that_of_a_walk_over_all_centroids() {
    let mut random = Random::new(3);
    for values in [2, 3, 5, 199, 700, 2_000, 30_000] {
        let parts = (0..3).map(|part| {
            let value =
                |random: &mut Random| (random.unit() * 400.0).exp2().min(1e9).round() + f64::from(part);
            encoded(&mut of(&(0..values).map(|_| value(&mut random)).collect::<Vec<_>>()))
        });
        let mut digest = TDigest::default();
        parts.collect::<Vec<_>>().iter().for_each(|part| digest.merge_encoded(part).unwrap());
        let count = digest.count() as f64;
        for step in 0..=1_000 {
            let q = f64::from(step) / 1_000.0;
            let found = digest.quantile(q).unwrap();
            let rank = q * count;
            if rank > 1.0 && rank <= count - 1.0 {
                assert_eq!(found, by_walk(&digest, rank), "{values} values at {q}");
            }
        }
    }
}
