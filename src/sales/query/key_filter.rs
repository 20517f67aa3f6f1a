//! A filter that finds keys which certainly occur only once, by bits instead of comparisons.

/// The number of bits for each key, at least.
const BITS_PER_KEY: usize = 8;

/// Two bits for each hash of keys: one is set by the first key with the hash, the other by each later one. A key whose
/// second bit is not set has no equal. The bits of 10,000 keys fit into a CPU's first cache, and no branch depends on a key.
/// The memory is kept from one use to the next.
#[derive(Debug, Default)]
pub(super) struct KeyFilter {
    /// A power of two of words, with the bits of first and of later keys.
    words: Vec<[u64; 2]>,
    others: Vec<u64>,
}

impl KeyFilter {
    /// Returns the number of keys without an equal, as far as bits tell, and all other keys. Takes about 2 ns a key.
    pub(super) fn split<'k>(&mut self, lists: impl Iterator<Item = &'k [u64]> + Clone) -> (usize, &[u64]) {
        let len: usize = lists.clone().map(<[u64]>::len).sum();
        let bits = (len * BITS_PER_KEY).next_power_of_two().max(128);
        let shift = u64::BITS - bits.trailing_zeros();
        let place = |key: u64| {
            // Keys are hashes already. The product spreads the ones that are not.
            let bit = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift;
            ((bit >> 6) as usize, bit & 63)
        };
        self.words.clear();
        self.words.resize(bits / 64, [0; 2]);
        for key in lists.clone().flatten() {
            let (word, bit) = place(*key);
            let [first, later] = &mut self.words[word];
            *later |= *first & 1 << bit;
            *first |= 1 << bit;
        }
        // One more place, for keys that are not among the others.
        if self.others.len() <= len {
            self.others.resize(len + 1, 0);
        }
        let mut end = 0;
        for key in lists.flatten() {
            let (word, bit) = place(*key);
            self.others[end] = *key;
            end += (self.words[word][1] >> bit & 1) as usize;
        }
        (len - end, &self.others[..end])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_that_occur_more_than_once_are_among_the_others(
            small in prop::collection::vec(0..300_u64, 0..400),
            any in prop::collection::vec(any::<u64>(), 0..400),
        ) {
            let mut filter = KeyFilter::default();
            for lists in [vec![&any[..], &small], vec![&small, &[], &any, &any], vec![&[]]] {
                let (alone, others) = filter.split(lists.iter().copied());
                let mut counts = HashMap::<u64, (usize, usize)>::new();
                lists.iter().copied().flatten().for_each(|key| counts.entry(*key).or_default().0 += 1);
                others.iter().for_each(|key| counts.entry(*key).or_default().1 += 1);
                prop_assert_eq!(alone + others.len(), lists.iter().map(|list| list.len()).sum::<usize>());
                for (all, among_others) in counts.into_values() {
                    prop_assert!(among_others == all || (all, among_others) == (1, 0));
                }
            }
        }
    }

    #[test]
    fn most_different_keys_are_told_apart() {
        let keys: Vec<u64> = (0..10_000).collect();
        let mut filter = KeyFilter::default();
        assert!(filter.split(std::iter::once(&keys[..])).0 > 8_000);
    }
}
