//! Counts distinct values: exactly while they are few, then by a sketch.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use crate::sketch::HyperLogLog;

/// The maximum number of values that are counted exactly. The set of their hashes takes at most 5 MB, so that the
/// queries that may run at once stay within a budget.
pub(super) const EXACT_VALUES_MAX: usize = 100_000;

/// Passes on the lower half of a hash that is well distributed already.
#[derive(Default)]
pub(super) struct HalfHasher(u64);

impl Hasher for HalfHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

/// A set of values, by 128-bit hashes that no client can choose. Above `values_max` values, it becomes a sketch. The
/// result does not depend on the order of the values.
#[derive(Debug)]
pub(super) enum Distinct {
    Exact { hashes: HashSet<u128, BuildHasherDefault<HalfHasher>>, values_max: usize },
    Approx(HyperLogLog),
}

impl Distinct {
    pub(super) fn new(values_max: usize) -> Distinct {
        Distinct::Exact { hashes: HashSet::default(), values_max }
    }

    pub(super) fn insert(&mut self, hash: u128) {
        match self {
            Distinct::Exact { hashes, values_max } => {
                hashes.insert(hash);
                if hashes.len() > *values_max {
                    *self = Distinct::Approx(hashes.iter().map(|hash| upper(*hash)).collect());
                }
            }
            Distinct::Approx(sketch) => sketch.insert_hash(upper(hash)),
        }
    }

    pub(super) fn count(&self) -> u64 {
        match self {
            Distinct::Exact { hashes, .. } => hashes.len() as u64,
            Distinct::Approx(sketch) => sketch.estimate().round() as u64,
        }
    }

    pub(super) fn is_exact(&self) -> bool {
        matches!(self, Distinct::Exact { .. })
    }
}

fn upper(hash: u128) -> u64 {
    (hash >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keys::KeyHasher;

    #[test]
    fn values_are_counted_exactly_up_to_the_limit_and_within_the_error_above_it() {
        let keys = KeyHasher::new(&[3; 16]);
        let of = |values: &mut dyn Iterator<Item = u64>| {
            let mut distinct = Distinct::new(1_000);
            values.for_each(|value| distinct.insert(keys.wide_digest(&value.to_le_bytes())));
            distinct
        };
        let exact = of(&mut (0..1_000).chain(0..1_000));
        assert_eq!((exact.count(), exact.is_exact()), (1_000, true));
        let over = of(&mut (0..1_001));
        assert!(!over.is_exact() && over.count().abs_diff(1_001) <= 1);
        let many = of(&mut (0..50_000));
        // Six standard errors.
        assert!(many.count().abs_diff(50_000) < 2_430, "{}", many.count());
        assert_eq!(of(&mut (0..50_000).rev()).count(), many.count());
    }
}
