//! Sparse mode: a set of 25-bit prefixes of hashes, from which every register can be derived.

use super::{PRECISION, SPARSE_PRECISION};

/// Bits of the prefix below those that select the register.
const BELOW: u32 = SPARSE_PRECISION - PRECISION;
/// Bits of an entry that hold its rank.
const RANK_BITS: u32 = 6;

/// The kept part of a hash: its first 25 bits, and its rank. If any of the lower 11 prefix bits is set, these bits
/// determine the rank of the register, and the rank here is 0. If none of them is set (1 of 2048 hashes), the rank is
/// the position of the first bit set after the prefix, 1 to 40. Entries are ordered by prefix, then by rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry(u32);

impl Entry {
    pub(super) const PREFIX_MAX: u64 = (1 << SPARSE_PRECISION) - 1;
    pub(super) const RANK_MAX: u32 = u64::BITS - SPARSE_PRECISION + 1;

    #[inline]
    pub(super) fn of_hash(hash: u64) -> Entry {
        let prefix = (hash >> (u64::BITS - SPARSE_PRECISION)) as u32;
        if Entry::needs_rank(prefix) {
            // A set bit after the last bit of the hash limits the count to 40.
            let rest = hash << SPARSE_PRECISION | 1 << (SPARSE_PRECISION - 1);
            return Entry::new(prefix, rest.leading_zeros() + 1);
        }
        Entry::new(prefix, 0)
    }

    #[inline]
    pub(super) fn new(prefix: u32, rank: u32) -> Entry {
        Entry(prefix << RANK_BITS | rank)
    }

    #[inline]
    pub(super) fn needs_rank(prefix: u32) -> bool {
        prefix.trailing_zeros() >= BELOW
    }

    #[inline]
    pub(super) fn prefix(self) -> u32 {
        self.0 >> RANK_BITS
    }

    #[inline]
    pub(super) fn rank(self) -> u32 {
        self.0 & ((1 << RANK_BITS) - 1)
    }

    /// Returns this entry's register, and the position of the first bit set after the 14 that select it.
    #[inline]
    pub(super) fn register(self) -> (usize, u8) {
        let prefix = self.prefix();
        match Entry::needs_rank(prefix) {
            true => ((prefix >> BELOW) as usize, (BELOW + self.rank()) as u8),
            false => Entry::register_of_prefix(prefix),
        }
    }

    /// Returns the register of an entry that has no rank of its own, and its rank there.
    #[inline]
    pub(super) fn register_of_prefix(prefix: u32) -> (usize, u8) {
        ((prefix >> BELOW) as usize, RANKS[prefix as usize % RANKS.len()])
    }
}

/// The rank in the register for each value of the lower 11 bits of a prefix, except 0. Looking it up takes half as long
/// as counting zeros without an instruction for it, which not every x86 has.
static RANKS: [u8; 1 << BELOW] = {
    let mut ranks = [0; 1 << BELOW];
    let mut lower = 1;
    while lower < ranks.len() {
        ranks[lower] = (BELOW - lower.ilog2()) as u8;
        lower += 1;
    }
    ranks
};

/// A free slot. An entry never has all 32 bits set.
const FREE: Entry = Entry(u32::MAX);
/// Minimum number of slots of a table that is not empty.
const SLOTS_MIN: usize = 16;

/// A set of entries with one rank for each prefix, the highest: a hash table with linear probing.
#[derive(Debug, Clone)]
pub(super) struct Sparse {
    /// The number of slots is a power of two or zero. At least a quarter of the slots are free.
    slots: Vec<Entry>,
    len: usize,
}

impl Sparse {
    pub(super) const fn new() -> Sparse {
        Sparse { slots: Vec::new(), len: 0 }
    }

    /// Creates a set of entries with different prefixes.
    pub(super) fn of(entries: Vec<Entry>) -> Sparse {
        let mut sparse = Sparse::new();
        sparse.reserve(entries.len());
        entries.into_iter().for_each(|entry| sparse.insert(entry));
        sparse
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Entry>()
    }

    /// Reserves space for `more` entries at once.
    pub(super) fn reserve(&mut self, more: usize) {
        let slots = ((self.len + more) * 4).div_ceil(3).next_power_of_two().max(SLOTS_MIN);
        if slots > self.slots.len() {
            self.grow(slots);
        }
    }

    /// Returns the entries, in no particular order.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        self.slots.iter().copied().filter(|entry| *entry != FREE)
    }

    pub(super) fn sorted(&self) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(self.len);
        entries.extend(self.entries());
        entries.sort_unstable();
        entries
    }

    #[inline]
    pub(super) fn insert(&mut self, entry: Entry) {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            self.grow((self.slots.len() * 2).max(SLOTS_MIN));
        }
        let mask = self.slots.len() - 1;
        // Prefixes from an encoded sketch arrive in ascending order. If their upper bits selected the slot, they
        // would fill the start of the table first. Multiplication by the golden ratio distributes them (Knuth, vol.
        // 3, 6.4).
        let spread = entry.prefix().wrapping_mul(0x9E37_79B1);
        let mut at = (spread >> (u32::BITS - self.slots.len().trailing_zeros())) as usize;
        loop {
            let slot = &mut self.slots[at & mask];
            if *slot == FREE {
                *slot = entry;
                self.len += 1;
                return;
            }
            if slot.prefix() == entry.prefix() {
                *slot = entry.max(*slot);
                return;
            }
            at += 1;
        }
    }

    #[cold]
    fn grow(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, vec![FREE; slots]);
        self.len = 0;
        old.into_iter().filter(|entry| *entry != FREE).for_each(|entry| self.insert(entry));
    }
}
