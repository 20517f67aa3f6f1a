//! The customers of up to 64 lists of sales: for each customer, one bit a list. Where most customers are in most lists,
//! this takes a fifth of the memory of a list of customers each.

use super::log::MORE_THAN_ANY_LIMIT;

/// The number of lists up to which a set is used.
pub(in super::super) const LISTS_MAX: usize = if cfg!(test) { 5 } else { MASK_BITS };
const MASK_BITS: usize = u64::BITS as usize;
/// The number of places of a set that gets its first customer.
const PLACES_MIN: usize = 16;

/// A set of customers, each with the lists that it is in.
///
/// An open-addressing table with linear probing. Customers are hashes, and their product with a constant picks the
/// place, which is scaled to any number of places instead of a power of two (Lemire, "Fast random integer generation in
/// an interval", 2019), so that the table can grow by half.
#[derive(Debug)]
pub(in super::super) struct CustomerMasks {
    /// Customers with their lists. No customer without lists is in the table, so an empty mask is an empty place.
    places: Vec<(u64, u64)>,
    len: usize,
    /// The maximum memory of the table. For a moment, the table before it takes two thirds more.
    bytes_max: usize,
    /// Set once a customer did not fit. The set is then incomplete.
    is_full: bool,
}

impl Default for CustomerMasks {
    fn default() -> CustomerMasks {
        CustomerMasks::new(usize::MAX)
    }
}

impl CustomerMasks {
    /// Returns an empty set whose table takes at most this memory.
    pub(in super::super) fn new(bytes_max: usize) -> CustomerMasks {
        CustomerMasks { places: Vec::new(), len: 0, bytes_max, is_full: false }
    }

    /// Adds a customer to these lists, at least one. Takes about 5 ns while the table fits into the CPU's cache, and
    /// 20 ns otherwise.
    #[inline]
    pub(in super::super) fn add(&mut self, customer: u64, mask: u64) {
        debug_assert!(mask != 0, "an empty mask is an empty place");
        if self.len * 4 >= self.places.len() * 3 && !self.grow() {
            return;
        }
        let place = self.place(customer);
        let (known, lists) = &mut self.places[place];
        self.len += usize::from(*lists == 0);
        (*known, *lists) = (customer, *lists | mask);
    }

    /// Returns the place of a customer, or the empty place for it.
    #[inline]
    fn place(&self, customer: u64) -> usize {
        let spread = customer.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut place = ((u128::from(spread) * self.places.len() as u128) >> 64) as usize;
        loop {
            let (known, lists) = self.places[place];
            if lists == 0 || known == customer {
                return place;
            }
            place = if place + 1 == self.places.len() { 0 } else { place + 1 };
        }
    }

    /// Adds half as many places. Returns `false` if they would take too much memory.
    #[cold]
    fn grow(&mut self) -> bool {
        let len = (self.places.len() / 2 * 3).max(PLACES_MIN);
        if len * size_of::<(u64, u64)>() > self.bytes_max {
            self.is_full = true;
            return false;
        }
        let old = std::mem::replace(&mut self.places, vec![(0, 0); len]);
        for (customer, mask) in old.into_iter().filter(|(_, mask)| *mask != 0) {
            let place = self.place(customer);
            self.places[place] = (customer, mask);
        }
        true
    }

    /// Returns the memory of the table, or more than any limit if it is incomplete.
    pub(in super::super) fn bytes(&self) -> usize {
        if self.is_full { MORE_THAN_ANY_LIMIT } else { self.places.len() * size_of::<(u64, u64)>() }
    }

    /// Returns every customer with its lists.
    pub(in super::super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.places.iter().copied().filter(|(_, mask)| *mask != 0)
    }

    /// Returns the number of customers of each list. Counts how often each byte of a mask has each value, instead of
    /// counting its bits.
    pub(in super::super) fn counts(&self) -> [u64; MASK_BITS] {
        let mut of_bytes = [[0_u64; 256]; MASK_BITS / 8];
        for (_, mut mask) in self.iter() {
            for counts in &mut of_bytes {
                counts[mask as usize & 0xff] += 1;
                mask >>= 8;
                if mask == 0 {
                    break;
                }
            }
        }
        let mut counts = [0; MASK_BITS];
        for (byte, of_byte) in of_bytes.iter().enumerate() {
            for (lists, count) in (0_u64..).zip(of_byte) {
                lists_of(lists).for_each(|list| counts[byte * 8 + list] += count);
            }
        }
        counts
    }
}

/// Returns the lists of a mask.
pub(in super::super) fn lists_of(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let list = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(list)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_set_that_would_need_more_memory_than_it_may_have_takes_more_than_any_limit() {
        let mut masks = CustomerMasks::new(PLACES_MIN * size_of::<(u64, u64)>());
        (0..12).for_each(|customer| masks.add(customer, 1));
        assert_eq!((masks.bytes(), masks.counts()[0]), (PLACES_MIN * 16, 12));
        masks.add(3, 2);
        assert!(masks.bytes() >= MORE_THAN_ANY_LIMIT);
    }

    proptest! {
        #[test]
        fn customers_are_in_the_lists_that_they_were_added_to(
            added in prop::collection::vec((0..400_u64, 0..64_usize), 0..2_000),
            others in prop::collection::vec((any::<u64>(), 0..64_usize), 0..300),
        ) {
            let mut masks = CustomerMasks::default();
            let mut expected = BTreeMap::<usize, BTreeSet<u64>>::new();
            for (customer, list) in added.into_iter().chain(others) {
                masks.add(customer, 1 << list);
                expected.entry(list).or_default().insert(customer);
            }
            let counts = masks.counts();
            for (list, count) in counts.iter().enumerate() {
                prop_assert_eq!(*count, expected.get(&list).map_or(0, BTreeSet::len) as u64);
            }
            for (customer, mask) in masks.iter() {
                let lists: Vec<_> = lists_of(mask).collect();
                let of: Vec<_> =
                    expected.iter().filter(|(_, has)| has.contains(&customer)).map(|(list, _)| *list).collect();
                prop_assert_eq!(lists, of);
            }
        }
    }
}
