//! The union of encoded sketches, and of an encoded sketch and more values.

use super::encoding::{Decoded, Encoded, write_entries, write_registers};
use super::registers::Registers;
use super::sparse::{Entry, Sparse};
use super::{HyperLogLog, SPARSE_MAX, State};
use crate::sketch::error::SketchError;

/// If the sketches have more entries than this in total, they are first added to registers. If these are different
/// entries, they set 4,398 registers on average, so that the union is certainly dense. Adding them in vain costs less
/// than merging them as lists does.
const ENTRIES_OF_REGISTERS: usize = SPARSE_MAX * 5 / 4;

impl HyperLogLog {
    /// Returns the union of encoded sketches. It equals the result of [`HyperLogLog::merge_encoded`] on each in turn,
    /// but this function adds entries to registers where it can, and otherwise merges sorted entries, instead of
    /// looking them up. Takes about 1.5 ns per value of sketches that have 512 values or more and together over 5120,
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

    /// Appends the bytes of an encoded sketch with more hashes. They equal those of [`HyperLogLog::encode`] after
    /// [`HyperLogLog::merge_encoded`] and [`HyperLogLog::insert_hash`], but this function sorts only the new entries
    /// and merges them with those of the sketch, which are sorted. Takes about 10 ns per new value and 4 ns per stored
    /// one. Appends nothing if the bytes are invalid.
    pub fn encode_with(stored: Option<&[u8]>, hashes: &[u64], into: &mut Vec<u8>) -> Result<(), SketchError> {
        let stored = stored.map(|bytes| Encoded::read(bytes)?.decoded()).transpose()?;
        if let Some(Decoded::Dense(mut registers)) = stored {
            hashes.iter().for_each(|hash| registers.insert_hash(*hash));
            write_registers(&registers, into);
            return Ok(());
        }
        let mut entries: Vec<Entry> = hashes.iter().map(|hash| Entry::of_hash(*hash)).collect();
        entries.sort_unstable();
        // The last of the entries with one prefix has the highest rank.
        entries.dedup_by(|next, kept| {
            let is_same = next.prefix() == kept.prefix();
            if is_same {
                *kept = *next;
            }
            is_same
        });
        if let Some(Decoded::Sparse(stored)) = stored {
            let mut merged = Vec::new();
            merge_sorted(&stored, &entries, &mut merged);
            entries = merged;
        }
        if entries.len() <= SPARSE_MAX {
            write_entries(&entries, into);
        } else {
            let mut registers = Registers::new();
            entries.into_iter().for_each(|entry| registers.insert(entry));
            write_registers(&registers, into);
        }
        Ok(())
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
