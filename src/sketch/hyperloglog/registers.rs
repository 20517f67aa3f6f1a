//! Dense mode: 2^14 registers, one byte each in memory and six bits each when encoded.

use super::PRECISION;
use super::sparse::Entry;
use crate::sketch::error::SketchError;

/// The number of registers.
pub(super) const COUNT: usize = 1 << PRECISION;
/// The highest rank: the 50 bits after those that select the register are all zero.
pub(super) const RANK_MAX: usize = (u64::BITS - PRECISION) as usize + 1;
/// The number of bytes that [`Registers::pack`] appends.
pub(super) const PACKED_BYTES: usize = COUNT * 6 / 8;

/// The power of two above the highest rank, and its logarithm.
const RANKS: usize = 1 << RANK_BITS;
const RANK_BITS: u32 = (RANK_MAX + 1).next_power_of_two().ilog2();
const QUARTER: usize = COUNT / 4;

/// The highest rank in each register, or 0 for an empty register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registers([u8; COUNT]);

impl Registers {
    pub(super) fn new() -> Box<Registers> {
        Box::new(Registers([0; COUNT]))
    }

    #[inline]
    pub(super) fn insert_hash(&mut self, hash: u64) {
        let at = (hash >> (u64::BITS - PRECISION)) as usize;
        // A set bit after the last bit of the hash limits the count to 51.
        let rest = hash << PRECISION | 1 << (PRECISION - 1);
        self.raise(at, rest.leading_zeros() as u8 + 1);
    }

    #[inline]
    pub(super) fn insert(&mut self, entry: Entry) {
        let (at, rank) = entry.register();
        self.raise(at, rank);
    }

    /// Inserts an entry without a rank of its own if `is_entry` is 1. Does nothing if it is 0, without a branch.
    #[inline]
    pub(super) fn insert_prefix(&mut self, prefix: u32, is_entry: u32) {
        let (at, rank) = Entry::register_of_prefix(prefix);
        self.raise(at, rank * is_entry as u8);
    }

    #[inline]
    fn raise(&mut self, at: usize, rank: u8) {
        let register = &mut self.0[at % COUNT];
        *register = rank.max(*register);
    }

    pub(super) fn merge(&mut self, other: &Registers) {
        for (register, other) in self.0.iter_mut().zip(&other.0) {
            *register = (*register).max(*other);
        }
    }

    /// Returns the number of registers at each rank.
    pub(super) fn histogram(&self) -> [u32; RANK_MAX + 1] {
        // Pairs of registers are counted by both ranks, which halves the counting. Neighbouring pairs often are equal. With
        // one table, each count would wait for the one before.
        let mut tables = [[0_u16; RANKS * RANKS]; 2];
        for [a, b, c, d] in self.0.as_chunks::<4>().0 {
            let pair =
                |low: u8, high: u8| (usize::from(low) | usize::from(high) << RANK_BITS) % (RANKS * RANKS);
            tables[0][pair(*a, *b)] += 1;
            tables[1][pair(*c, *d)] += 1;
        }
        let mut counts = [0_u32; RANKS];
        for table in &tables {
            for (high, pairs) in table.as_chunks::<RANKS>().0.iter().enumerate() {
                counts.iter_mut().zip(pairs).for_each(|(count, pairs)| *count += u32::from(*pairs));
                counts[high] += pairs.iter().copied().map(u32::from).sum::<u32>();
            }
        }
        std::array::from_fn(|rank| counts[rank])
    }

    /// Returns the number of registers that are not empty.
    pub(super) fn used(&self) -> usize {
        // A chunk's number fits into a byte, so that whole vectors are added.
        let used = |chunk: &[u8; 128]| chunk.iter().map(|rank| u8::from(*rank > 0)).sum::<u8>();
        self.0.as_chunks().0.iter().map(|chunk| usize::from(used(chunk))).sum()
    }

    /// Appends 12,288 bytes. The lower four bits of register `i` of the first half share byte `i` with those of
    /// register `i` of the second half. Then the upper two bits of the four registers at `i` of each quarter share a
    /// byte. With this layout, a decoder applies the same operation to whole vectors of registers. Consecutive
    /// six-bit registers would not permit this.
    pub(super) fn pack(&self, into: &mut Vec<u8>) {
        let (first, second) = self.0.split_at(COUNT / 2);
        into.extend(first.iter().zip(second).map(|(first, second)| first & 15 | (second & 15) << 4));
        into.extend((0..QUARTER).map(|at| {
            (0..4).map(|quarter| (self.0[quarter * QUARTER + at] >> 4) << (2 * quarter)).sum::<u8>()
        }));
    }

    pub(super) fn unpack(packed: &[u8; PACKED_BYTES]) -> Result<Box<Registers>, SketchError> {
        let mut unpacked = Registers::new();
        let registers = &mut unpacked.0;
        let (lower, upper) = packed.split_at(COUNT / 2);
        for (quarter, registers) in registers.chunks_exact_mut(QUARTER).enumerate() {
            let lower = &lower[quarter % 2 * QUARTER..][..QUARTER];
            let (lower_shift, upper_shift) = (quarter / 2 * 4, quarter * 2);
            for ((register, lower), upper) in registers.iter_mut().zip(lower).zip(upper) {
                *register = lower >> lower_shift & 15 | (upper >> upper_shift & 3) << 4;
            }
        }
        let highest = registers.iter().fold(0, |highest, register| *register.max(&highest));
        match usize::from(highest) > RANK_MAX {
            true => Err(SketchError::Damaged("a register above the highest rank")),
            false => Ok(unpacked),
        }
    }
}
