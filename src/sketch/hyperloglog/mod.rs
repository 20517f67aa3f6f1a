//! Estimates the number of different values, with a relative standard error of 0.81 %.
//!
//! HyperLogLog (Flajolet, Fusy, Gandouet, Meunier, 2007) with 2^14 registers. While there are few values, it uses the
//! sparse mode of Heule, Nunkesser, Hall ("HyperLogLog in practice", 2013): a set of 25 bits of each hash, which counts
//! a few thousand values almost exactly. The estimator is Ertl's ("New cardinality estimation algorithms for
//! HyperLogLog sketches", 2017), which needs no bias tables.
//!
//! A sketch depends only on the set of hashes, not on their order or on the order of merges.

mod encoding;
mod estimate;
mod registers;
mod sparse;
#[cfg(test)]
mod tests;
mod union;
mod words;

use self::registers::Registers;
use self::sparse::{Entry, Sparse};

/// Bits of a hash that select its register.
const PRECISION: u32 = 14;
/// Bits of a hash that are kept in sparse mode.
const SPARSE_PRECISION: u32 = 25;
/// Maximum number of values in sparse mode. At this number, their entries, 4 bytes each, take as much memory as the
/// registers. Encoded, the entries take 8.5 KB and the registers 12.3 KB; the registers merge ten times as fast.
const SPARSE_MAX: usize = 4096;

/// A set of 64-bit hashes that can only report its size. All bits of the hash must be well distributed. If the values
/// come from outside, use SipHash with a secret key, because anyone who can choose hashes can set the estimate to any
/// number.
///
/// Memory: none while empty, 5 to 11 bytes per value up to 4096 different ones, then 16 KiB.
#[derive(Debug, Clone)]
pub struct HyperLogLog(State);

#[derive(Debug, Clone)]
enum State {
    Sparse(Sparse),
    Dense(Box<Registers>),
}

impl HyperLogLog {
    /// The relative standard error of [`HyperLogLog::estimate`] above 4096 different values. Two thirds of the
    /// estimates differ by less, and all but three in a thousand by less than three times as much. For up to 4096
    /// values, see [`HyperLogLog::RELATIVE_STANDARD_ERROR_SPARSE`].
    pub const RELATIVE_STANDARD_ERROR: f64 = 0.0081;

    /// The relative standard error up to 4096 different values: 2^-13. In that range, the only error is that the
    /// hashes of two values may share 25 bits. Most estimates are exact after rounding.
    pub const RELATIVE_STANDARD_ERROR_SPARSE: f64 = 0.000_122;

    /// Creates an empty sketch. Allocates nothing.
    #[must_use]
    pub const fn new() -> HyperLogLog {
        HyperLogLog(State::Sparse(Sparse::new()))
    }

    /// Adds the value with this hash, unless it is present.
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

    /// Adds every value of the other sketch.
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

    /// Returns the estimated number of different values, or 0.0 if there are none. Takes about 10 us above 4096
    /// different values.
    #[must_use]
    pub fn estimate(&self) -> f64 {
        match &self.0 {
            State::Sparse(sparse) => estimate::of_distinct(sparse.len()),
            State::Dense(registers) => estimate::of_histogram(&registers.histogram()),
        }
    }

    /// Returns `true` if nothing was ever added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, State::Sparse(sparse) if sparse.len() == 0)
    }

    /// Returns the number of bytes on the heap.
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
    /// Adds hashes in any order.
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
    /// Returns `true` if two sketches are of the same set of hashes.
    fn eq(&self, other: &HyperLogLog) -> bool {
        match (&self.0, &other.0) {
            (State::Sparse(one), State::Sparse(other)) => one.sorted() == other.sorted(),
            (State::Dense(one), State::Dense(other)) => one == other,
            _ => false,
        }
    }
}
