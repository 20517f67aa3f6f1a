//! Merges the shards' lists of sales, group by group: distinct customers by a hash set, ranks by selection.

use std::collections::HashMap;

use super::super::columns::{GroupKey, SaleList};
use super::super::ranks::RankFinder;
use super::super::spans::Spans;
use super::super::totals::Totals;
use super::figures::{Figures, SalesGroup};
use super::join_names::JoinedNames;
use super::key_filter::KeyFilter;
use crate::base::clock;

/// The time after which a slice ends. One group takes as long as it takes.
const SLICE_US: u64 = 10_000;

/// The groups that are being merged.
#[derive(Debug, Default)]
pub(super) struct ListMerge {
    /// The lists that are left, in descending order of their groups.
    left: Vec<(GroupKey, SaleList)>,
    seen: KeySet,
    ranks: RankFinder,
    /// The distinct customers of groups whose lists do not contain them.
    customers: HashMap<GroupKey, u64>,
    pub(super) done: Vec<SalesGroup>,
}

impl ListMerge {
    /// Returns a merge of groups whose distinct customers are counted already. Others are counted from their lists.
    pub(super) fn with_customers(customers: HashMap<GroupKey, u64>) -> ListMerge {
        ListMerge { customers, ..ListMerge::default() }
    }

    /// Adds complete groups: all lists of each of them.
    pub(super) fn add(&mut self, lists: Vec<(GroupKey, SaleList)>) {
        self.left.extend(lists);
        self.left.sort_by_key(|(key, _)| std::cmp::Reverse(*key));
    }

    /// Merges groups for about 10 ms. Returns `true` once all are merged. Groups by name get the name of their number.
    pub(super) fn slice(&mut self, spans: &Spans, names: &JoinedNames) -> bool {
        let until_us = clock::monotonic_us() + SLICE_US;
        while let Some((key @ (group, currency), first)) = self.left.pop() {
            let mut lists = vec![first];
            while let Some((_, list)) = self.left.pop_if(|(next, _)| *next == key) {
                lists.push(list);
            }
            let (start_us, name) = match names.get(group) {
                Some(name) => (spans.start_us(0), name.to_owned()),
                None => (spans.start_us(group), String::new()),
            };
            let figures = self.figures(key, &lists);
            self.done.push(SalesGroup { start_us, name, currency, figures });
            if clock::monotonic_us() >= until_us {
                break;
            }
        }
        self.left.is_empty()
    }

    fn figures(&mut self, key: GroupKey, lists: &[SaleList]) -> Figures {
        let customers = match self.customers.get(&key) {
            Some(customers) => *customers,
            None => self.seen.count(lists.iter().map(|list| list.customers.as_slice())),
        };
        let totals: Vec<&Totals> = lists.iter().map(|list| &list.totals).collect();
        let quantiles = self.ranks.nearest(&totals, [0.5, 0.95, 0.99]);
        Figures {
            orders: lists.iter().map(|list| list.orders).sum(),
            units: lists.iter().map(|list| list.units).sum(),
            revenue: lists.iter().map(|list| list.revenue).sum(),
            details: Some((customers, quantiles)),
        }
    }
}

/// The maximum number of keys that are expected in the set at once. The set then has 8 MB.
const KEYS_AT_ONCE: usize = 1 << 19;
/// The same where the set should stay in the CPU's second cache. Its places then have 1 MB.
const KEYS_IN_CACHE: usize = 1 << 16;
/// The smallest number of keys that are filtered first. The filter costs more than it saves for fewer.
const FILTERED_MIN: usize = 64;

/// Keys are hashes already. The product spreads the ones that are not.
#[inline]
fn spread(key: u64) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
}

/// A set of keys that counts distinct ones. The memory is kept from one count to the next.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    filter: KeyFilter,
    /// A power of two of places. 0 is an empty place.
    places: Vec<u64>,
}

impl KeySet {
    /// Returns the number of distinct keys. Takes about 3 ns a key if most occur once, and 6 otherwise.
    pub(super) fn count<'k>(&mut self, lists: impl Iterator<Item = &'k [u64]> + Clone) -> u64 {
        let len: usize = lists.clone().map(<[u64]>::len).sum();
        if !(FILTERED_MIN..=KEYS_AT_ONCE).contains(&len) {
            return self.count_by_places(lists, KEYS_AT_ONCE);
        }
        let mut filter = std::mem::take(&mut self.filter);
        let (alone, others) = filter.split(lists);
        let count = alone as u64 + self.count_by_places(std::iter::once(others), KEYS_AT_ONCE);
        self.filter = filter;
        count
    }

    /// Returns the number of distinct keys. If there are many, they are counted in parts, by their highest bits. The
    /// keys are hashes, so the parts are about equal. Takes about 4 ns a key.
    fn count_by_places<'k>(&mut self, lists: impl Iterator<Item = &'k [u64]> + Clone, at_once: usize) -> u64 {
        let len: usize = lists.clone().map(<[u64]>::len).sum();
        let parts = len.div_ceil(at_once).next_power_of_two();
        let bits = parts.trailing_zeros();
        let (mut count, mut has_zero) = (0_usize, false);
        for part in 0..parts as u64 {
            self.places.clear();
            self.places.resize((2 * len / parts).next_power_of_two().max(16), 0);
            let mut of_part = 0;
            for key in lists.clone().flat_map(|list| list.iter().copied()) {
                if key == 0 {
                    has_zero = true;
                } else if (bits == 0 || key >> (64 - bits) == part) && self.insert(key) {
                    of_part += 1;
                    if of_part * 4 > self.places.len() * 3 {
                        self.grow();
                    }
                }
            }
            count += of_part;
        }
        count as u64 + u64::from(has_zero)
    }

    /// Returns the number of distinct keys of one list, as [`KeySet::count`] does. Faster for short lists: the set has
    /// places for all of them, so it never grows.
    pub(super) fn count_one(&mut self, keys: &[u64]) -> u64 {
        if keys.len() > KEYS_IN_CACHE {
            return self.count_by_places(std::iter::once(keys), KEYS_IN_CACHE);
        }
        let len = (2 * keys.len()).next_power_of_two().max(16);
        if self.places.len() < len {
            self.places.resize(len, 0);
        }
        let places = &mut self.places[..len];
        places.fill(0);
        let (mut count, mut has_zero) = (0, 0);
        for key in keys {
            // A key that is 0 finds an empty place, equals it, and leaves it empty.
            has_zero |= u64::from(*key == 0);
            let mut place = spread(*key) & (places.len() - 1);
            while places[place] != 0 && places[place] != *key {
                place = (place + 1) & (places.len() - 1);
            }
            count += u64::from(places[place] != *key);
            places[place] = *key;
        }
        count + has_zero
    }

    #[inline]
    fn insert(&mut self, key: u64) -> bool {
        let mask = self.places.len() - 1;
        let mut place = spread(key) & mask;
        loop {
            match self.places[place] {
                0 => {
                    self.places[place] = key;
                    return true;
                }
                known if known == key => return false,
                _ => place = (place + 1) & mask,
            }
        }
    }

    #[cold]
    fn grow(&mut self) {
        let len = self.places.len() * 2;
        for key in std::mem::replace(&mut self.places, vec![0; len]).into_iter().filter(|key| *key != 0) {
            self.insert(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::base::money::Currency;

    proptest! {
        #[test]
        fn distinct_keys_are_as_many_as_a_set_has(
            small in prop::collection::vec(0..300_u64, 0..2_000),
            any in prop::collection::vec(any::<u64>(), 0..500),
        ) {
            let expected: BTreeSet<u64> = small.iter().chain(&any).copied().collect();
            let mut set = KeySet::default();
            for lists in [vec![&small[..], &any], vec![&any, &small], vec![&any, &[], &small, &any]] {
                prop_assert_eq!(set.count(lists.into_iter()), expected.len() as u64);
                prop_assert_eq!(set.count_one(&small), small.iter().collect::<BTreeSet<_>>().len() as u64);
                prop_assert_eq!(set.count_one(&any), any.iter().collect::<BTreeSet<_>>().len() as u64);
            }
        }
    }

    #[test]
    fn many_keys_are_counted_in_parts() {
        let hash = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17);
        let keys: Vec<u64> = (0..1_200_000).map(|n| hash(n % 700_000)).collect();
        let mut set = KeySet::default();
        assert_eq!(set.count([&keys[..], &keys[..9]].into_iter()), 700_000);
        assert!(set.places.len() <= 4 * KEYS_AT_ONCE);
        // Small numbers are all in one part.
        let keys: Vec<u64> = (0..600_000).collect();
        assert_eq!(set.count([&keys[..]].into_iter()), 600_000);
    }

    #[test]
    fn lists_of_one_group_become_one_group() {
        let usd = Currency::parse("USD").unwrap();
        let jpy = Currency::parse("JPY").unwrap();
        let list = |customers: &[u64]| {
            let mut list = SaleList { orders: 2, units: 3, revenue: 4, ..SaleList::default() };
            for customer in customers {
                list.customers.push(*customer);
                list.totals.push(*customer as i64 * 10);
            }
            list
        };
        let mut merge = ListMerge::default();
        merge.add(vec![((1, usd), list(&[1, 2])), ((0, usd), list(&[5]))]);
        merge.add(vec![((1, usd), list(&[2, 3])), ((1, jpy), list(&[7]))]);
        let spans = Spans::each(vec![(0, 100), (100, 200)]);
        while !merge.slice(&spans, &JoinedNames::default()) {}
        let found: Vec<_> =
            merge.done.iter().map(|group| (group.start_us, group.currency, group.figures.orders)).collect();
        assert_eq!(found, [(0, usd, 2), (100, jpy, 2), (100, usd, 4)]);
        assert_eq!(merge.done[2].figures.details, Some((3, [20, 30, 30])));
    }
}
