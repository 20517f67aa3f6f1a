//! Sparse entries as words of two bytes. Their decoder has no branch that depends on the distances.
//!
//! A word is the distance of a prefix from the one after the previous prefix. The word 65,535 advances by that distance
//! without an entry. From about 700 entries on, this is shorter than varints, because nearly all distances fit.

use super::SPARSE_MAX;
use super::registers::Registers;
use super::sparse::Entry;
use crate::sketch::error::SketchError;
use crate::sketch::reader::{Reader, write_varint};

/// The word that advances without an entry.
const SKIP: u16 = u16::MAX;
/// The maximum number of words: all entries, and as many skips as the largest prefix has room for.
const WORDS_MAX: usize = SPARSE_MAX + (Entry::PREFIX_MAX / SKIP as u64) as usize;
const WORD_BYTES: usize = size_of::<u16>();

// The sum of all distances is below 2^32, so a decoder may check it at the end.
const _: () = assert!(WORDS_MAX * (SKIP as usize + 1) < u32::MAX as usize);

/// Encoded entries that have not been checked yet.
#[derive(Clone, Copy)]
pub(super) struct Words<'b> {
    words: &'b [[u8; WORD_BYTES]],
    /// The rank of each entry that has one.
    ranks: &'b [u8],
}

/// Appends the number of words, the words, and the ranks. The entries are in ascending order.
pub(super) fn write(entries: &[Entry], into: &mut Vec<u8>) {
    let mut words = Vec::with_capacity(entries.len() * 2);
    let mut next_prefix = 0;
    for entry in entries {
        let mut distance = entry.prefix() - next_prefix;
        while distance >= u32::from(SKIP) {
            words.push(SKIP);
            distance -= u32::from(SKIP);
        }
        words.push(distance as u16);
        next_prefix = entry.prefix() + 1;
    }
    write_varint(words.len() as u64, into);
    into.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    let ranked = entries.iter().filter(|entry| Entry::needs_rank(entry.prefix()));
    into.extend(ranked.map(|entry| entry.rank() as u8));
}

impl<'b> Words<'b> {
    pub(super) fn read(mut reader: Reader<'b>) -> Result<Words<'b>, SketchError> {
        let count = reader.varint()?;
        if count > WORDS_MAX as u64 {
            return Err(SketchError::Damaged("more sparse entries than there may be"));
        }
        let bytes = count as usize * WORD_BYTES;
        let (words, ranks) = reader.0.split_at_checked(bytes).ok_or(SketchError::Truncated)?;
        Ok(Words { words: words.as_chunks().0, ranks })
    }

    /// Returns the number of entries or more.
    pub(super) fn len_max(&self) -> usize {
        self.words.len()
    }

    /// Calls `each` for every word, with a prefix, its rank if the entry has one (or 0), and 1 for an entry or 0 for a
    /// skip. It has been called if the words turn out to be invalid.
    #[inline(always)]
    fn each(self, mut each: impl FnMut(u32, u32, u32)) -> Result<(), SketchError> {
        let (mut next_prefix, mut entries, mut ranks) = (0, 0, self.ranks.iter());
        for word in self.words {
            let word = u32::from(u16::from_le_bytes(*word));
            // Arithmetic, because a compiler makes a branch of a comparison, and one in eight predictions would fail.
            let is_entry = 1 - ((word + 1) >> u16::BITS);
            let prefix = next_prefix + word;
            next_prefix = prefix + is_entry;
            entries += is_entry;
            // One of 2048 prefixes.
            if Entry::needs_rank(prefix) {
                if is_entry == 1 {
                    let rank = u32::from(*ranks.next().ok_or(SketchError::Truncated)?);
                    if !(1..=Entry::RANK_MAX).contains(&rank) {
                        return Err(SketchError::Damaged("a rank that no hash has"));
                    }
                    each(prefix, rank, 1);
                }
                continue;
            }
            each(prefix, 0, is_entry);
        }
        if u64::from(next_prefix) > Entry::PREFIX_MAX + 1 {
            return Err(SketchError::Damaged("a prefix of more than 25 bits"));
        }
        if entries as usize > SPARSE_MAX {
            return Err(SketchError::Damaged("more sparse entries than there may be"));
        }
        Reader(ranks.as_slice()).end()
    }

    /// Returns the entries in ascending order.
    pub(super) fn entries(self) -> Result<Vec<Entry>, SketchError> {
        let mut entries = vec![Entry::new(0, 0); self.words.len()];
        let mut len = 0;
        self.each(|prefix, rank, is_entry| {
            entries[len] = Entry::new(prefix, rank);
            len += is_entry as usize;
        })?;
        entries.truncate(len);
        Ok(entries)
    }

    /// Adds the entries to registers. If the words are invalid, some may have been added. Takes 1.4 ns per word.
    pub(super) fn raise(self, registers: &mut Registers) -> Result<(), SketchError> {
        self.each(|prefix, rank, is_entry| match rank {
            0 => registers.insert_prefix(prefix, is_entry),
            _ => registers.insert(Entry::new(prefix, rank)),
        })
    }
}
