//! The union of encoded sketches.

use super::encoding::{Decoded, Encoded};
use super::registers::Registers;
use super::sparse::{Entry, Sparse};
use super::{HyperLogLog, SPARSE_MAX, State};
use crate::sketch::error::SketchError;

/// If the sketches have more entries than this in total, they are first added to registers. If these are different
/// entries, they set 6,400 registers, so that the union is certainly dense.
const ENTRIES_OF_REGISTERS: usize = 2 * SPARSE_MAX;

impl HyperLogLog {
    /// Returns the union of encoded sketches. It equals the result of [`HyperLogLog::merge_encoded`] on each in turn,
    /// but this function adds entries to registers where it can, and otherwise merges sorted entries, instead of
    /// looking them up. Takes about 1.5 ns per value of sketches that have 512 values or more and together over 8192,
    /// and otherwise about 5 ns.
    pub fn union_of(parts: &[&[u8]]) -> Result<HyperLogLog, SketchError> {
        let parts = parts.iter().map(|part| Encoded::read(part)).collect::<Result<Vec<_>, _>>()?;
        let entries: usize = parts.iter().filter_map(Encoded::entries_max).sum();
        let is_dense = parts.iter().any(|part| part.entries_max().is_none());
        if is_dense || entries > ENTRIES_OF_REGISTERS {
            let mut registers = Registers::new();
            parts.iter().try_for_each(|part| part.raise(&mut registers))?;
            // Each entry sets one register at most, so there are at least as many different entries.
            if is_dense || registers.used() > SPARSE_MAX {
                return Ok(HyperLogLog(State::Dense(registers)));
            }
        }
        let mut union: Vec<Entry> = Vec::new();
        let mut merged = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            match part.decoded()? {
                Decoded::Sparse(entries) if union.is_empty() => union = entries,
                Decoded::Sparse(entries) => {
                    merge_sorted(&union, &entries, &mut merged);
                    std::mem::swap(&mut union, &mut merged);
                }
                Decoded::Dense(_) => unreachable!("the union is dense if a part is"),
            }
            if union.len() > SPARSE_MAX {
                let mut registers = Registers::new();
                union.into_iter().for_each(|entry| registers.insert(entry));
                parts[at + 1..].iter().try_for_each(|part| part.raise(&mut registers))?;
                return Ok(HyperLogLog(State::Dense(registers)));
            }
        }
        Ok(HyperLogLog(State::Sparse(Sparse::of(union))))
    }
}

/// Merges two lists that are sorted by prefix and have no repeated prefixes. The result is sorted in the same way. Of
/// two entries with equal prefixes, it contains the one with the higher rank.
fn merge_sorted(one: &[Entry], other: &[Entry], merged: &mut Vec<Entry>) {
    merged.clear();
    merged.reserve(one.len() + other.len());
    let (mut i, mut j) = (0, 0);
    while let (Some(a), Some(b)) = (one.get(i), other.get(j)) {
        let (is_a, is_b) = (a.prefix() <= b.prefix(), b.prefix() <= a.prefix());
        merged.push(match (is_a, is_b) {
            (true, true) => *a.max(b),
            (true, false) => *a,
            _ => *b,
        });
        i += usize::from(is_a);
        j += usize::from(is_b);
    }
    merged.extend_from_slice(&one[i..]);
    merged.extend_from_slice(&other[j..]);
}
