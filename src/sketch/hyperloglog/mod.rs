//! How many different values there were, with a relative standard error of 0.81 %.
//!
//! HyperLogLog (Flajolet, Fusy, Gandouet, Meunier, 2007) with 2^14 registers; while few values were seen,
//! the sparse mode of Heule, Nunkesser, Hall ("HyperLogLog in practice", 2013): 25 bits of each hash in a
//! set, by which some thousand values are counted almost exactly. The estimate is Ertl's ("New cardinality
//! estimation algorithms for HyperLogLog sketches", 2017), which needs no tables of bias.
//!
//! What a sketch is depends on the set of hashes only, not on their order or on what was merged with what.

mod encoding;
mod estimate;
mod registers;
mod sparse;
#[cfg(test)]
mod tests;

use self::registers::Registers;
use self::sparse::{Entry, Sparse};

/// Bits of a hash that choose its register.
const PRECISION: u32 = 14;
/// Bits of a hash that are kept in sparse mode.
const SPARSE_PRECISION: u32 = 25;
/// Values of sparse mode: their entries, 4 bytes each, then take the memory of the registers. Encoded they
/// take 8.5 KB, and the registers 12.3 KB; the registers are merged ten times as fast.
const SPARSE_MAX: usize = 4096;

/// A set of 64-bit hashes of which only the size can be asked. The hash must be good in all its bits:
/// SipHash with a secret key where the values come from outside, because whoever can choose hashes can make
/// the estimate anything.
///
/// Memory: none while empty, 5 to 11 bytes a value up to 4096 different ones, then 16 KiB.
#[derive(Debug, Clone)]
pub struct HyperLogLog(State);

#[derive(Debug, Clone)]
enum State {
    Sparse(Sparse),
    Dense(Box<Registers>),
}

impl HyperLogLog {
    /// Of [`HyperLogLog::estimate`], above 4096 different values: two thirds of the estimates are closer to
    /// the truth than this part of it, and all but three of a thousand closer than three times that. Up to
    /// 4096 see [`HyperLogLog::RELATIVE_STANDARD_ERROR_SPARSE`].
    pub const RELATIVE_STANDARD_ERROR: f64 = 0.0081;

    /// The same up to 4096 different values, where the one way to err is that two of them share 25 bits:
    /// 2^-13. Most estimates are the truth, rounded.
    pub const RELATIVE_STANDARD_ERROR_SPARSE: f64 = 0.000_122;

    /// Empty; allocates nothing.
    #[must_use]
    pub const fn new() -> HyperLogLog {
        HyperLogLog(State::Sparse(Sparse::new()))
    }

    /// Adds the value with this hash, unless it is there.
    #[inline]
    pub fn insert_hash(&mut self, hash: u64) {
        match &mut self.0 {
            State::Dense(registers) => registers.insert_hash(hash),
            State::Sparse(_) => self.insert_entry(Entry::of_hash(hash)),
        }
    }

    #[inline]
    fn insert_entry(&mut self, entry: Entry) {
        match &mut self.0 {
            State::Dense(registers) => registers.insert(entry),
            State::Sparse(sparse) => {
                sparse.insert(entry);
                if sparse.len() > SPARSE_MAX {
                    self.make_dense();
                }
            }
        }
    }

    /// Adds every value of the other one.
    pub fn merge(&mut self, other: &HyperLogLog) {
        match &other.0 {
            State::Sparse(sparse) => sparse.entries().for_each(|entry| self.insert_entry(entry)),
            State::Dense(registers) => self.make_dense().merge(registers),
        }
    }

    fn make_dense(&mut self) -> &mut Registers {
        if let State::Sparse(sparse) = &self.0 {
            let mut registers = Registers::new();
            sparse.entries().for_each(|entry| registers.insert(entry));
            self.0 = State::Dense(registers);
        }
        match &mut self.0 {
            State::Dense(registers) => registers,
            State::Sparse(_) => unreachable!("it was made dense above"),
        }
    }

    /// How many different values there were, 0.0 where none. About 10 us above 4096 of them.
    #[must_use]
    pub fn estimate(&self) -> f64 {
        match &self.0 {
            State::Sparse(sparse) => estimate::of_distinct(sparse.len()),
            State::Dense(registers) => estimate::of_histogram(&registers.histogram()),
        }
    }

    /// True where nothing was ever added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, State::Sparse(sparse) if sparse.len() == 0)
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match &self.0 {
            State::Sparse(sparse) => sparse.memory_bytes(),
            State::Dense(_) => size_of::<Registers>(),
        }
    }
}

impl Default for HyperLogLog {
    fn default() -> HyperLogLog {
        HyperLogLog::new()
    }
}

impl Extend<u64> for HyperLogLog {
    /// Hashes, in any order.
    fn extend<I: IntoIterator<Item = u64>>(&mut self, hashes: I) {
        hashes.into_iter().for_each(|hash| self.insert_hash(hash));
    }
}

impl FromIterator<u64> for HyperLogLog {
    fn from_iter<I: IntoIterator<Item = u64>>(hashes: I) -> HyperLogLog {
        let mut sketch = HyperLogLog::new();
        sketch.extend(hashes);
        sketch
    }
}

impl PartialEq for HyperLogLog {
    /// Sketches of the same set of hashes are equal.
    fn eq(&self, other: &HyperLogLog) -> bool {
        match (&self.0, &other.0) {
            (State::Sparse(one), State::Sparse(other)) => one.sorted() == other.sorted(),
            (State::Dense(one), State::Dense(other)) => one == other,
            _ => false,
        }
    }
}
