//! The distinct values of a column in a row group, in the order of their first row, and each row's index into them.
//!
//! An entry is found by its value, never by a number of the shard, and the order is that of the rows. The dictionary
//! therefore depends on the rows alone.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

/// The number of slots of an empty table.
const SLOTS: usize = 256;
/// Integers that are at most this far apart are found by their distance from the smallest one, without a hash.
const DISTANCE_MAX: u64 = 1 << 18;
/// A place that has not been looked up yet.
const UNKNOWN: u32 = u32::MAX;

/// Indexes by hash: a table with open slots, at most half full.
#[derive(Debug, Default)]
struct IndexTable {
    /// 32 bits of the hash, and the index plus one, or 0 if the slot is open.
    slots: Vec<(u32, u32)>,
    count: usize,
}

impl IndexTable {
    fn clear(&mut self) {
        self.slots.clear();
        self.slots.resize(SLOTS, (0, 0));
        self.count = 0;
    }

    /// Returns the index of the equal entry, or the next index and `true` if there is none. The caller adds the entry.
    #[inline]
    fn index(&mut self, hash: u64, is_equal: impl Fn(usize) -> bool) -> (u32, bool) {
        if self.count * 2 >= self.slots.len() {
            self.grow();
        }
        let (tag, mask) = (hash as u32, self.slots.len() - 1);
        let mut at = tag as usize & mask;
        loop {
            let (known, next) = self.slots[at];
            if next == 0 {
                self.count += 1;
                self.slots[at] = (tag, self.count as u32);
                return (self.count as u32 - 1, true);
            }
            if known == tag && is_equal(next as usize - 1) {
                return (next - 1, false);
            }
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let len = (self.slots.len() * 2).max(SLOTS);
        let old = std::mem::replace(&mut self.slots, vec![(0, 0); len]);
        for slot in old.into_iter().filter(|(_, next)| *next > 0) {
            let mut at = slot.0 as usize & (len - 1);
            while self.slots[at].1 > 0 {
                at = (at + 1) & (len - 1);
            }
            self.slots[at] = slot;
        }
    }
}

/// The strings of a column.
#[derive(Debug, Default)]
pub(super) struct TextDictionary {
    hasher: RandomState,
    table: IndexTable,
    /// The strings as in a page: the length in four bytes, then the bytes.
    page: Vec<u8>,
    /// The end of each string in the page.
    ends: Vec<u32>,
    indexes: Vec<u32>,
    /// The bytes of all rows' strings in pages without a dictionary.
    plain_bytes: usize,
    /// The indexes of a batch's names, by their places in the batch.
    places: Vec<u32>,
}

impl TextDictionary {
    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.page.clear();
        self.ends.clear();
        self.indexes.clear();
        self.plain_bytes = 0;
    }

    /// Forgets the places of the last batch. The next one has this many.
    pub(super) fn begin_batch(&mut self, places: usize) {
        self.places.clear();
        self.places.resize(places, UNKNOWN);
    }

    /// Returns the index of the name at a place of the batch. Hashes each name of a batch once.
    #[inline]
    pub(super) fn at_place<'t>(&mut self, place: u32, text: impl FnOnce() -> &'t str) -> u32 {
        let known = self.places[place as usize];
        if known != UNKNOWN {
            return known;
        }
        let index = self.index(text());
        self.places[place as usize] = index;
        index
    }

    /// Returns the index of a string.
    pub(super) fn index(&mut self, text: &str) -> u32 {
        let hash = self.hasher.hash_one(text.as_bytes());
        let (page, ends) = (&self.page, &self.ends);
        let (index, is_new) =
            self.table.index(hash, |index| &encoded(page, ends, index)[4..] == text.as_bytes());
        if is_new {
            self.push(text);
        }
        index
    }

    /// Adds a string that is not in the dictionary yet, and is not looked up later. Returns its index.
    pub(super) fn add(&mut self, text: &str) -> u32 {
        self.push(text);
        self.ends.len() as u32 - 1
    }

    fn push(&mut self, text: &str) {
        self.page.extend_from_slice(&(text.len() as u32).to_le_bytes());
        self.page.extend_from_slice(text.as_bytes());
        self.ends.push(self.page.len() as u32);
    }

    /// Appends a value of this many rows: the string at an index.
    #[inline]
    pub(super) fn append(&mut self, index: u32, rows: usize) {
        self.plain_bytes += encoded(&self.page, &self.ends, index as usize).len() * rows;
        self.indexes.push(index);
    }

    pub(super) fn indexes(&self) -> &[u32] {
        &self.indexes
    }

    /// Returns the strings as in a dictionary page.
    pub(super) fn page(&mut self) -> &mut Vec<u8> {
        &mut self.page
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn plain_bytes(&self) -> usize {
        self.plain_bytes
    }

    /// Returns `true` if the pages with the dictionary are smaller than those without.
    pub(super) fn is_smaller(&self, repeats: Repeats<'_>) -> bool {
        self.page.len() + repeats.bytes(&self.indexes, self.len()) < self.plain_bytes
    }

    /// Returns a string as in a page.
    #[inline]
    pub(super) fn encoded(&self, index: u32) -> &[u8] {
        encoded(&self.page, &self.ends, index as usize)
    }

    /// Returns the least and the greatest string, if there is one. Takes some 2 ns a string.
    pub(super) fn bounds(&self) -> Option<(&[u8], &[u8])> {
        let text = |index: usize| &encoded(&self.page, &self.ends, index)[4..];
        let (mut least, mut greatest) = (text_of(&self.ends, &self.page)?, text_of(&self.ends, &self.page)?);
        let (mut low, mut high) = (head(least), head(greatest));
        for index in 1..self.len() {
            let text = text(index);
            let head = head(text);
            if head < low || (head == low && text < least) {
                (low, least) = (head, text);
            } else if head > high || (head == high && text > greatest) {
                (high, greatest) = (head, text);
            }
        }
        Some((least, greatest))
    }
}

fn text_of<'p>(ends: &[u32], page: &'p [u8]) -> Option<&'p [u8]> {
    ends.first().map(|end| &page[4..*end as usize])
}

#[inline]
fn encoded<'p>(page: &'p [u8], ends: &[u32], index: usize) -> &'p [u8] {
    let start = index.checked_sub(1).map_or(0, |before| ends[before] as usize);
    &page[start..ends[index] as usize]
}

/// Returns the first bytes of a string as a number that sorts as they do.
#[inline]
pub(super) fn head(text: &[u8]) -> u64 {
    if let Some(first) = text.first_chunk::<8>() {
        return u64::from_be_bytes(*first);
    }
    let mut first = [0; 8];
    first[..text.len()].copy_from_slice(text);
    u64::from_be_bytes(first)
}

/// An integer of a column.
pub(super) trait Number: Copy + Ord + Default + std::hash::Hash {
    /// Returns the distance from a smaller number, or a greater one than any table has if it is greater.
    fn distance(self, from: Self) -> u64;
}

impl Number for i64 {
    #[inline]
    fn distance(self, from: i64) -> u64 {
        self.wrapping_sub(from) as u64
    }
}

impl Number for i128 {
    #[inline]
    fn distance(self, from: i128) -> u64 {
        u64::try_from(self.wrapping_sub(from)).unwrap_or(u64::MAX)
    }
}

/// The integers of a column.
#[derive(Debug, Default)]
pub(super) struct NumberDictionary<N> {
    hasher: RandomState,
    table: IndexTable,
    entries: Vec<N>,
    indexes: Vec<u32>,
    /// Indexes by the distance from the smallest number.
    near: Vec<u32>,
}

impl<N: Number> NumberDictionary<N> {
    /// Replaces the content by these values, of which `least` and `greatest` are the bounds. Takes 2 to 15 ns a
    /// number.
    pub(super) fn fill(&mut self, values: &[N], (least, greatest): (N, N)) {
        self.entries.clear();
        self.indexes.clear();
        let range = greatest.distance(least);
        if range <= DISTANCE_MAX {
            self.near.clear();
            self.near.resize(range as usize + 1, UNKNOWN);
            for value in values {
                let known = &mut self.near[value.distance(least) as usize];
                if *known == UNKNOWN {
                    *known = self.entries.len() as u32;
                    self.entries.push(*value);
                }
                self.indexes.push(*known);
            }
            return;
        }
        self.table.clear();
        let mut last: Option<(N, u32)> = None;
        for value in values {
            let index = match last {
                Some((known, index)) if known == *value => index,
                _ => {
                    let entries = &self.entries;
                    let hash = self.hasher.hash_one(value);
                    let (index, is_new) = self.table.index(hash, |index| entries[index] == *value);
                    if is_new {
                        self.entries.push(*value);
                    }
                    index
                }
            };
            last = Some((*value, index));
            self.indexes.push(index);
        }
    }

    /// Returns `true` if the pages with the dictionary are smaller than those without, in which a number has this many
    /// bytes.
    pub(super) fn is_smaller(&self, repeats: Repeats<'_>, bytes: usize) -> bool {
        let entries = self.entries.len();
        entries * bytes + repeats.bytes(&self.indexes, entries) < repeats.rows(&self.indexes) * bytes
    }

    pub(super) fn entries(&self) -> &[N] {
        &self.entries
    }

    pub(super) fn indexes(&self) -> &[u32] {
        &self.indexes
    }
}

/// Returns the number of bits of an index into this many entries.
fn index_bits(entries: usize) -> u32 {
    (entries.saturating_sub(1) as u32).checked_ilog2().map_or(0, |bits| bits + 1)
}

/// The number of rows of each value: an order has all its item rows in common.
#[derive(Clone, Copy, Debug)]
pub(super) enum Repeats<'r> {
    Once,
    Times(&'r [u32]),
}

impl Repeats<'_> {
    /// Returns the number of rows of these indexes.
    pub(super) fn rows(self, indexes: &[u32]) -> usize {
        match self {
            Repeats::Once => indexes.len(),
            Repeats::Times(counts) => counts.iter().map(|count| *count as usize).sum(),
        }
    }

    /// Calls `put` with the value of each row.
    pub(super) fn each<T, E>(self, values: &[T], mut put: impl FnMut(&T) -> Result<(), E>) -> Result<(), E> {
        match self {
            Repeats::Once => values.iter().try_for_each(put),
            Repeats::Times(counts) => values
                .iter()
                .zip(counts)
                .try_for_each(|(value, count)| (0..*count).try_for_each(|_| put(value))),
        }
    }

    /// Calls `put` with each index and its number of consecutive rows.
    fn each_run(self, indexes: &[u32], mut put: impl FnMut(u32, usize)) {
        let Some(mut last) = indexes.first().copied() else { return };
        let mut rows = 0;
        let mut add = |index: u32, count: usize| {
            if index != last {
                put(last, rows);
                (last, rows) = (index, 0);
            }
            rows += count;
        };
        match self {
            Repeats::Once => indexes.iter().for_each(|index| add(*index, 1)),
            Repeats::Times(counts) => {
                indexes.iter().zip(counts).for_each(|(index, count)| add(*index, *count as usize));
            }
        }
        put(last, rows);
    }

    /// Returns the bytes of the runs. A run of as many rows as an order has items has a header of one byte.
    fn run_bytes(self, indexes: &[u32], entries: usize) -> usize {
        let mut bytes = 0;
        let value = index_bits(entries).div_ceil(8) as usize;
        self.each_run(indexes, |_, rows| bytes += varint_bytes(rows << 1) + value);
        bytes
    }

    /// Returns `true` if runs take less than one group of equally wide indexes. Values of one row each are not looked
    /// at, unless they are all equal.
    fn are_runs(self, indexes: &[u32], entries: usize) -> bool {
        entries == 1
            || matches!(self, Repeats::Times(_))
                && self.run_bytes(indexes, entries) < packed_bytes(self.rows(indexes), entries)
    }

    /// Returns about the bytes of the indexes in a page.
    fn bytes(self, indexes: &[u32], entries: usize) -> usize {
        match self.are_runs(indexes, entries) {
            true => self.run_bytes(indexes, entries),
            false => packed_bytes(self.rows(indexes), entries),
        }
    }

    /// Appends the indexes of a data page: their width, and then runs or one group of equally wide indexes, whichever
    /// is smaller (Parquet's RLE and bit-packing hybrid). Takes 1 to 2 ns a row.
    pub(super) fn write(self, indexes: &[u32], entries: usize, out: &mut Vec<u8>) {
        let bits = index_bits(entries);
        out.push(bits as u8);
        if self.are_runs(indexes, entries) {
            let bytes = bits.div_ceil(8) as usize;
            return self.each_run(indexes, |index, rows| {
                write_varint(rows << 1, out);
                out.extend_from_slice(&index.to_le_bytes()[..bytes]);
            });
        }
        let rows = self.rows(indexes);
        write_varint(rows.div_ceil(8) << 1 | 1, out);
        let bytes = packed_bytes(rows, entries);
        out.reserve(bytes + 8);
        let end = out.len() + bytes;
        let (mut held, mut count) = (0_u64, 0);
        let mut put = |index: u32| {
            held |= u64::from(index) << count;
            count += bits;
            if count >= 32 {
                out.extend_from_slice(&(held as u32).to_le_bytes());
                held >>= 32;
                count -= 32;
            }
        };
        match self {
            Repeats::Once => indexes.iter().for_each(|index| put(*index)),
            Repeats::Times(counts) => {
                for (index, count) in indexes.iter().zip(counts) {
                    (0..*count).for_each(|_| put(*index));
                }
            }
        }
        out.extend_from_slice(&held.to_le_bytes());
        // The last eight indexes are complete, with zeros.
        out.resize(end, 0);
    }
}

/// Returns the bytes of equally wide indexes.
fn packed_bytes(rows: usize, entries: usize) -> usize {
    rows.div_ceil(8) * index_bits(entries) as usize
}

fn varint_bytes(number: usize) -> usize {
    (number.max(1).ilog2() / 7 + 1) as usize
}

fn write_varint(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads what [`Repeats::write`] wrote, one bit at a time.
    fn read_indexes(bytes: &[u8], rows: usize) -> Vec<u32> {
        let (bits, mut rest) = (usize::from(bytes[0]), &bytes[1..]);
        let mut found = Vec::new();
        while !rest.is_empty() {
            let (mut header, mut shift) = (0, 0);
            loop {
                header |= usize::from(rest[0] & 0x7f) << shift;
                shift += 7;
                let is_last = rest[0] < 0x80;
                rest = &rest[1..];
                if is_last {
                    break;
                }
            }
            let bit = |at: usize| u32::from(rest[at / 8] >> (at % 8) & 1);
            let value = |at: usize, bits: usize| (0..bits).map(|place| bit(at + place) << place).sum::<u32>();
            if header & 1 == 0 {
                found.extend(std::iter::repeat_n(value(0, bits.div_ceil(8) * 8), header >> 1));
                rest = &rest[bits.div_ceil(8)..];
            } else {
                let count = (header >> 1) * 8;
                found.extend((0..count).map(|row| value(row * bits, bits)));
                rest = &rest[count / 8 * bits..];
                assert!(found.drain(rows.min(found.len())..).all(|index| index == 0));
            }
        }
        assert_eq!(found.len(), rows);
        found
    }

    fn check_written(indexes: &[u32], repeats: Repeats<'_>, entries: usize) -> usize {
        let mut bytes = Vec::new();
        repeats.write(indexes, entries, &mut bytes);
        let counts = match repeats {
            Repeats::Once => vec![1; indexes.len()],
            Repeats::Times(counts) => counts.to_vec(),
        };
        let values = indexes.iter().zip(counts);
        let expected: Vec<u32> =
            values.flat_map(|(index, count)| std::iter::repeat_n(*index, count as usize)).collect();
        assert_eq!(read_indexes(&bytes, expected.len()), expected);
        assert!(bytes.len() <= repeats.bytes(indexes, entries) + 5);
        bytes.len()
    }

    fn filled<N: Number>(values: &[N]) -> NumberDictionary<N> {
        let mut dictionary = NumberDictionary::default();
        let least = values.iter().copied().min().unwrap_or_default();
        let greatest = values.iter().copied().max().unwrap_or_default();
        dictionary.fill(values, (least, greatest));
        dictionary
    }

    fn check_numbers<N: Number + std::fmt::Debug>(values: &[N]) {
        let dictionary = filled(values);
        let found: Vec<N> =
            dictionary.indexes().iter().map(|index| dictionary.entries()[*index as usize]).collect();
        assert_eq!(found, values);
        let mut seen = Vec::new();
        values.iter().for_each(|value| {
            if !seen.contains(value) {
                seen.push(*value);
            }
        });
        assert_eq!(dictionary.entries(), seen);
    }

    #[test]
    fn a_dictionary_of_one_entry_needs_no_bits_and_a_power_of_two_no_more_than_its_own() {
        for (entries, bits) in [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (256, 8), (257, 9), (65_536, 16)] {
            assert_eq!(index_bits(entries), bits, "{entries}");
        }
        assert!(filled(&[7_i64; 9]).is_smaller(Repeats::Once, 8));
        assert!(!filled(&[1_i64, 2, 3]).is_smaller(Repeats::Once, 8));
        // Orders of three items each: a run of three bytes an order, or 45 bits.
        let indexes: Vec<u32> = (0..20_000).collect();
        let counts = vec![3; 20_000];
        assert_eq!(check_written(&indexes, Repeats::Times(&counts), 20_000), 1 + 3 * 20_000);
        assert_eq!(check_written(&[0; 20_000], Repeats::Times(&counts), 1), 1 + 3);
        assert_eq!(check_written(&[0; 20_000], Repeats::Once, 1), 1 + 3);
    }

    #[test]
    fn the_ends_of_the_integers_are_far_apart() {
        check_numbers(&[i64::MIN, i64::MAX, 0, i64::MIN]);
        check_numbers(&[i128::MIN, i128::MAX, 0, i128::MIN]);
        check_numbers(&[-3_i128, 70_000, -3]);
    }

    proptest! {
        #[test]
        fn indexes_are_read_as_they_were_written(
            entries in prop_oneof![1_usize..5, 1_usize..70_000],
            seeds in prop::collection::vec((any::<u32>(), 1_u32..300), 1..300),
        ) {
            let indexes: Vec<u32> = seeds.iter().map(|(seed, _)| seed % entries as u32).collect();
            check_written(&indexes, Repeats::Once, entries);
            for most in [1, 4, 300] {
                let counts: Vec<u32> = seeds.iter().map(|(_, count)| 1 + count % most).collect();
                check_written(&indexes, Repeats::Times(&counts), entries);
            }
        }

        #[test]
        fn numbers_are_in_the_order_of_their_first_rows(
            far in prop::collection::vec(any::<i64>(), 1..400),
            near in prop::collection::vec(-300_i64..300, 1..1_500),
        ) {
            check_numbers(&far);
            check_numbers(&near);
            check_numbers(&near.iter().map(|value| i128::from(*value) * 1_000_000).collect::<Vec<_>>());
        }

        #[test]
        fn strings_are_in_the_order_of_their_first_rows(texts in prop::collection::vec("[ab\u{e9}]{0,10}", 1..900)) {
            let mut dictionary = TextDictionary::default();
            dictionary.clear();
            let mut seen: Vec<&String> = Vec::new();
            for text in &texts {
                let index = dictionary.index(text);
                dictionary.append(index, 2);
                if !seen.contains(&text) {
                    seen.push(text);
                }
            }
            let encoded = |text: &&String| [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
            prop_assert_eq!(&*dictionary.page(), &seen.iter().flat_map(encoded).collect::<Vec<_>>());
            let found: Vec<_> = dictionary.indexes().iter().map(|index| dictionary.encoded(*index)).collect();
            let expected: Vec<_> = texts.iter().map(|text| encoded(&text)).collect();
            prop_assert_eq!(dictionary.plain_bytes(), expected.concat().len() * 2);
            prop_assert_eq!(found, expected);
            let (least, greatest) = dictionary.bounds().unwrap();
            prop_assert_eq!(least, texts.iter().min().unwrap().as_bytes());
            prop_assert_eq!(greatest, texts.iter().max().unwrap().as_bytes());
        }
    }
}
