//! The guarantees of a distinct count.

use proptest::prelude::*;

use super::encoding::varints;
use super::sparse::Entry;
use super::*;
use crate::sketch::error::SketchError;
use crate::sketch::random::Random;
use crate::sketch::reader::write_varint;

fn of(seed: u64, count: usize) -> HyperLogLog {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.next()).collect()
}

fn encoded(sketch: &HyperLogLog) -> Vec<u8> {
    let mut bytes = Vec::new();
    sketch.encode(&mut bytes);
    bytes
}

/// Returns the bytes up to schema version 8, which differ for 512 to 4096 values.
fn encoded_before(sketch: &HyperLogLog) -> Vec<u8> {
    match &sketch.0 {
        State::Sparse(sparse) => varints(&sparse.sorted()),
        State::Dense(_) => encoded(sketch),
    }
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
        prop_oneof![Just(0), 0..200_usize, 450..1_500_usize, 3_900..4_200_usize],
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
        let parts = [encoded(&c), encoded_before(&b), encoded(&a), encoded_before(&c), encoded(&b)];
        let together = HyperLogLog::union_of(&parts.each_ref().map(Vec::as_slice)).unwrap();
        for merged in [left, right, by_bytes, together] {
            prop_assert!(merged == union);
            prop_assert_eq!(merged.estimate(), union.estimate());
            prop_assert_eq!(encoded(&merged), encoded(&union));
        }
    }

    #[test]
    fn bytes_lead_back_to_the_sketch(hashes in hashes()) {
        let sketch: HyperLogLog = hashes.into_iter().collect();
        for bytes in [encoded(&sketch), encoded_before(&sketch)] {
            let decoded = HyperLogLog::decode(&bytes).unwrap();
            prop_assert_eq!(decoded.estimate(), sketch.estimate());
            prop_assert!(decoded == sketch);
        }
    }

    #[test]
    fn bytes_from_anywhere_are_refused_or_make_a_sketch(
        hashes in hashes(),
        cut in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        mut rubbish in proptest::collection::vec(any::<u8>(), 0..40),
        kind in 0..5_u8,
    ) {
        if let (Some(first), 1..) = (rubbish.first_mut(), kind) {
            *first = kind;
        }
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
            let full = encoded(&of(8, 5_000));
            let union = HyperLogLog::union_of(&[&full, bytes]);
            prop_assert_eq!(union.is_ok(), HyperLogLog::decode(bytes).is_ok());
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
    assert_eq!(is(&[4]), Truncated);
    assert_eq!(is(&[4, 0, 7]), Trailing(1));
    assert_eq!(is(&[4, 2, 5, 0, 5]), Truncated, "half a word");
    assert_eq!(is(&[4, 1, 0, 0]), Truncated, "prefix 0 without a rank");
    assert_eq!(is(&[4, 1, 5, 0, 1]), Trailing(1), "prefix 5 with a rank");
    for rank in [0, 41] {
        assert!(matches!(is(&[4, 1, 0, 0, rank]), Damaged(_)), "rank {rank}");
    }
    assert!(matches!(is(&[4, 0x81, 0x24]), Damaged(_)), "4609 words");
    let words = |count: usize, word: u16| {
        let mut bytes = vec![4];
        write_varint(count as u64, &mut bytes);
        bytes.extend([word.to_le_bytes()].repeat(count).concat());
        bytes
    };
    assert!(HyperLogLog::decode(&words(4_096, 0)[..]).is_err(), "prefixes 0 and 2048 need a rank");
    assert!(HyperLogLog::decode(&words(4_096, 1)[..]).is_ok());
    assert!(matches!(is(&words(4_097, 1)), Damaged(_)), "4097 entries");
    assert!(HyperLogLog::decode(&words(512, 0xFFFF)).is_ok_and(|sketch| sketch.is_empty()));
    assert!(matches!(is(&words(513, 0xFFFF)), Damaged(_)), "it advances beyond 2^25");
    assert!(matches!(is(&words(513, 0xFFFE)), Damaged(_)), "prefix 2^25 and more");
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

#[test]
fn bytes_with_more_values_are_those_of_inserting_them() {
    let hashes = |seed: u64, count: usize| -> Vec<u64> {
        let mut random = Random::new(seed);
        (0..count).map(|_| random.next()).collect()
    };
    for stored in [None, Some(0), Some(1), Some(500), Some(511), Some(4_000), Some(4_096), Some(5_000)] {
        for more in [0, 1, 11, 12, 96, 97, 3_000, 4_096, 4_097, 20_000] {
            let mut sketch = of(1, stored.unwrap_or_default());
            let both_forms = stored.map(|_| [encoded_before(&sketch), encoded(&sketch)]);
            let mut more = hashes(2, more);
            // Values that are stored, values that come twice, and values that share a prefix and differ in rank.
            more.extend(hashes(1, more.len() / 2));
            more.extend(hashes(2, more.len() / 3));
            more.extend(hashes(3, more.len() / 50).iter().map(|hash| hash >> 30 & (1 << (hash & 31))));
            sketch.extend(more.iter().copied());
            for form in both_forms.iter().flatten().map(|bytes| Some(bytes.as_slice())).chain([None]) {
                if form.is_none() != stored.is_none() {
                    continue;
                }
                let mut bytes = vec![7];
                HyperLogLog::encode_with(form, &more, &mut bytes).unwrap();
                assert_eq!(bytes.split_off(1), encoded(&sketch), "{stored:?} with {}", more.len());
            }
        }
    }
    let mut bytes = Vec::new();
    assert!(HyperLogLog::encode_with(Some(&[9]), &[1], &mut bytes).is_err() && bytes.is_empty());
}

/// Returns the union as a set of prefixes, each with its highest rank.
fn by_prefix(parts: &[HyperLogLog]) -> HyperLogLog {
    let is_dense = parts.iter().any(|part| !is_sparse(part));
    let mut ranks = std::collections::BTreeMap::new();
    let mut registers = Registers::new();
    for part in parts {
        match &part.0 {
            State::Sparse(sparse) => sparse.entries().for_each(|entry| {
                let rank = ranks.entry(entry.prefix()).or_insert(0);
                *rank = entry.rank().max(*rank);
            }),
            State::Dense(more) => registers.merge(more),
        }
    }
    let entries = ranks.into_iter().map(|(prefix, rank)| Entry::new(prefix, rank));
    if is_dense || entries.len() > SPARSE_MAX {
        entries.for_each(|entry| registers.insert(entry));
        HyperLogLog(State::Dense(registers))
    } else {
        HyperLogLog(State::Sparse(Sparse::of(entries.collect())))
    }
}

#[track_caller]
fn check_union(name: &str, parts: &[HyperLogLog]) {
    let expected = by_prefix(parts);
    let (before, now): (Vec<_>, Vec<_>) =
        parts.iter().map(|part| (encoded_before(part), encoded(part))).unzip();
    let mut mixed = before.clone();
    mixed.iter_mut().zip(&now).step_by(2).for_each(|(mixed, now)| mixed.clone_from(now));
    for (form, bytes) in [("before", before), ("now", now), ("mixed", mixed)] {
        let bytes: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
        let union = HyperLogLog::union_of(&bytes).unwrap();
        assert!(union == expected, "{name}, {form}");
        assert_eq!(union.estimate(), expected.estimate(), "{name}, {form}");
        assert_eq!(encoded(&union), encoded(&expected), "{name}, {form}");
    }
}

/// Returns a sketch of entries at these prefixes.
fn of_prefixes(prefixes: impl Iterator<Item = u32>) -> HyperLogLog {
    let entry = |prefix: u32| Entry::new(prefix, u32::from(Entry::needs_rank(prefix)) * (prefix % 40 + 1));
    HyperLogLog(State::Sparse(Sparse::of(prefixes.map(entry).collect())))
}

#[test]
fn both_forms_of_the_bytes_have_the_same_union() {
    let random = |sizes: &[usize]| -> Vec<HyperLogLog> {
        (1..).zip(sizes).map(|(seed, size)| of(seed, *size)).collect()
    };
    for sizes in [
        &[0, 0][..],
        &[1],
        &[511, 512, 513],
        &[4_096, 1],
        &[4_096, 4_096],
        &[4_096, 4_096, 1],
        &[1_024; 8],
        &[1_070; 8],
        &[1_030; 4],
        &[520; 8],
        &[5_000, 700, 40],
        &[2_000, 3_000, 6_000],
        &[30; 300],
    ] {
        check_union(&format!("{sizes:?}"), &random(sizes));
    }
    // The same values in every part: many entries in total, and few different ones.
    check_union("equal", &vec![of(1, 1_500); 8]);
    check_union("nearly dense", &[&vec![of(1, 4_090); 4][..], &[of(2, 6)]].concat());
    check_union("just dense", &[&vec![of(1, 4_090); 4][..], &[of(2, 7)]].concat());
    // More than 4096 values set fewer registers than that.
    check_union("4500 values", &[of(1, 2_250), of(2, 2_250), of(1, 2_250), of(2, 2_250)]);
    check_union("one register after the other", &[0, 4_000, 8_000].map(|at| of_prefixes(at..at + 4_000)));
    check_union(
        "every register",
        &(0..4).map(|part| of_prefixes((0..4_096).map(|at| (at * 4 + part) << 11))).collect::<Vec<_>>(),
    );
}

#[test]
fn distances_of_any_length_are_words() {
    let last = Entry::PREFIX_MAX as u32;
    for distance in [65_534, 65_535, 65_536, 131_069, 131_070, 131_071, 1 << 24] {
        let near = (0..600).map(|at| at * 3);
        let prefixes = near.chain([1_797 + distance, 1_797 + distance + 1, last - 1, last]);
        let sketch = of_prefixes(prefixes);
        let bytes = encoded(&sketch);
        assert_eq!(bytes[0], 4);
        assert!(HyperLogLog::decode(&bytes) == Ok(sketch), "{distance}");
    }
    // Each skip ends at a prefix whose entry has a rank.
    let skips = of_prefixes((0..512).map(|at| at * 65_536));
    assert!(HyperLogLog::decode(&encoded(&skips)) == Ok(skips.clone()));
    assert_eq!(encoded(&skips).len(), 3 + 2 * (512 + 511) + 512);
    for (values, kind) in [(511, 1), (512, 4), (4_096, 4), (4_097, 2)] {
        let sketch = of(1, values);
        assert_eq!((encoded(&sketch)[0], is_sparse(&sketch)), (kind, kind != 2), "{values}");
    }
}
