//! The cost of a sketch, measured by hand: `cargo test --release --lib sketch::measure -- --ignored --nocapture`.

use std::hint::black_box;

use super::random::Random;
use super::{HyperLogLog, TDigest};
use crate::base::clock;

/// Returns the minimum of several rounds, in nanoseconds per item.
fn ns(items: usize, mut round: impl FnMut()) -> f64 {
    let rounds = (0..25).map(|_| {
        let start = clock::now();
        round();
        start.elapsed().as_nanos() as f64 / items as f64
    });
    rounds.fold(f64::INFINITY, f64::min)
}

fn hashes(seed: u64, count: usize) -> Vec<u64> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.next()).collect()
}

/// Returns an order value in minor units. The values have a long tail from about 10 to 1000 major units.
fn order_value(random: &mut Random) -> f64 {
    (1_000.0 * (random.unit() * 4.6).exp()).round()
}

#[test]
#[ignore = "a measurement, in release"]
fn what_a_count_of_different_values_costs() {
    let insert = hashes(1, 1_000_000);
    println!(
        "insert, 1,000,000 different: {:.1} ns",
        ns(insert.len(), || {
            black_box(insert.iter().copied().collect::<HyperLogLog>());
        })
    );
    println!(
        "insert, sparse, 3,000 different: {:.1} ns",
        ns(3_000, || {
            black_box(insert[..3_000].iter().copied().collect::<HyperLogLog>());
        })
    );
    for (values, sketches) in [(1, 9_000), (50, 9_000), (400, 2_000), (4_000, 200), (20_000, 200)] {
        let encoded: Vec<Vec<u8>> = (0..sketches)
            .map(|seed| {
                let mut bytes = Vec::new();
                hashes(seed, values).into_iter().collect::<HyperLogLog>().encode(&mut bytes);
                bytes
            })
            .collect();
        let bytes = encoded.iter().map(Vec::len).sum::<usize>() as f64 / encoded.len() as f64;
        let merge = ns(encoded.len(), || {
            let mut all = HyperLogLog::new();
            encoded.iter().for_each(|bytes| all.merge_encoded(bytes).unwrap());
            black_box(all);
        });
        // The same people each time: the accumulator stays sparse.
        let same = ns(encoded.len(), || {
            let mut all = HyperLogLog::new();
            encoded.iter().for_each(|_| all.merge_encoded(&encoded[0]).unwrap());
            black_box(all);
        });
        let decode = ns(encoded.len(), || {
            encoded.iter().for_each(|bytes| drop(black_box(HyperLogLog::decode(bytes).unwrap())));
        });
        let mut sketch = HyperLogLog::decode(&encoded[0]).unwrap();
        let mut into = Vec::new();
        let encode = ns(1_000, || {
            for _ in 0..1_000 {
                into.clear();
                black_box(&mut sketch).encode(&mut into);
            }
        });
        println!(
            "{values} values: {bytes:.0} bytes ({:.2} a value), merge_encoded {merge:.0} ns ({:.2} a value), \
             into sparse {same:.0} ns ({:.2}), decode {decode:.0} ns, encode {encode:.0} ns, {} B of memory",
            bytes / values as f64,
            merge / values as f64,
            same / values as f64,
            sketch.memory_bytes()
        );
    }
    let dense: HyperLogLog = insert.iter().copied().collect();
    println!(
        "estimate, dense: {:.0} ns",
        ns(1_000, || {
            (0..1_000).for_each(|_| _ = black_box(black_box(&dense).estimate()));
        })
    );
}

#[test]
#[ignore = "a measurement, in release"]
fn what_a_digest_costs() {
    let mut random = Random::new(1);
    let values: Vec<f64> = (0..1_000_000).map(|_| order_value(&mut random)).collect();
    println!(
        "insert: {:.1} ns",
        ns(values.len(), || {
            let mut digest = TDigest::default();
            values.iter().for_each(|value| digest.insert(*value).unwrap());
            black_box(digest);
        })
    );
    for (count, digests) in
        [(1, 9_000), (10, 9_000), (50, 9_000), (100, 9_000), (200, 9_000), (2_000, 2_000), (100_000, 100)]
    {
        let encoded: Vec<Vec<u8>> = (0..digests)
            .map(|_| {
                let mut digest = TDigest::default();
                (0..count).for_each(|_| digest.insert(order_value(&mut random)).unwrap());
                let mut bytes = Vec::new();
                digest.encode(&mut bytes);
                bytes
            })
            .collect();
        let bytes = encoded.iter().map(Vec::len).sum::<usize>() as f64 / encoded.len() as f64;
        let mut one = TDigest::decode(&encoded[0]).unwrap();
        let centroids = one.memory_bytes() as f64 / 16.0;
        let merge = ns(encoded.len(), || {
            let mut all = TDigest::default();
            encoded.iter().for_each(|bytes| all.merge_encoded(bytes).unwrap());
            black_box(all.quantile(0.5));
        });
        let decode = ns(encoded.len(), || {
            encoded.iter().for_each(|bytes| drop(black_box(TDigest::decode(bytes).unwrap())));
        });
        let mut into = Vec::new();
        let encode = ns(1_000, || {
            for _ in 0..1_000 {
                into.clear();
                black_box(&mut one).encode(&mut into);
            }
        });
        println!(
            "{count} values: ~{centroids:.0} centroids, {bytes:.0} bytes ({:.2} each), merge_encoded {merge:.0} ns \
             ({:.2} each), decode {decode:.0} ns ({:.2} each), encode {encode:.0} ns",
            bytes / centroids,
            merge / centroids,
            decode / centroids
        );
    }
    let mut digest = TDigest::default();
    values.iter().for_each(|value| digest.insert(*value).unwrap());
    println!(
        "quantile: {:.0} ns",
        ns(1_000, || {
            (0..1_000).for_each(|_| _ = black_box(black_box(&mut digest).quantile(0.5)));
        })
    );
}
