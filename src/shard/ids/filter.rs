//! Decides whether a run may contain an id, with a binary fuse filter (Graf, Lemire 2022) of 16-bit fingerprints,
//! about 2.25 bytes per id. The filter of a run matches every id of the run, and falsely one in 65,536 other ids.

use xorf::{BinaryFuse16, Filter as _};

use super::table::{Entry, hash_of};

/// The length of the header: the seed, the segment length, and the length of all segments except two.
const HEADER_BYTES: usize = 16;

/// Bytes per id that building a filter needs temporarily.
pub(super) const BUILD_BYTES_AN_ID: usize = 27;

pub(super) enum Filter {
    Fuse(BinaryFuse16),
    /// No filter could be built, so every id may be in the run. Lookups are slower, but still correct.
    Any,
}

impl Filter {
    /// Builds the filter of entries that are sorted by hash. Takes about 70 ns per entry.
    pub(super) fn build(entries: &[Entry]) -> Filter {
        let built = if entries.windows(2).all(|pair| hash_of(&pair[0]) != hash_of(&pair[1])) {
            BinaryFuse16::try_from_iterator(entries.iter().map(hash_of))
        } else {
            let mut hashes: Vec<u64> = entries.iter().map(hash_of).collect();
            hashes.dedup();
            BinaryFuse16::try_from(&hashes)
        };
        built.map_or(Filter::Any, Filter::Fuse)
    }

    #[inline]
    pub(super) fn contains(&self, hash: u64) -> bool {
        match self {
            Filter::Fuse(fuse) => fuse.contains(&hash),
            Filter::Any => true,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Filter::Fuse(fuse) => size_of_val(&*fuse.fingerprints),
            Filter::Any => 0,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let Filter::Fuse(fuse) = self else { return };
        out.reserve(HEADER_BYTES + size_of_val(&*fuse.fingerprints));
        out.extend_from_slice(&fuse.descriptor.seed.to_le_bytes());
        out.extend_from_slice(&fuse.descriptor.segment_length.to_le_bytes());
        out.extend_from_slice(&fuse.descriptor.segment_count_length.to_le_bytes());
        for fingerprint in &fuse.fingerprints {
            out.extend_from_slice(&fingerprint.to_le_bytes());
        }
    }

    /// Decodes a filter, or returns `None` for invalid bytes. The returned filter never reads out of bounds.
    pub(super) fn decode(bytes: &[u8]) -> Option<Filter> {
        if bytes.is_empty() {
            return Some(Filter::Any);
        }
        let (seed, rest) = bytes.split_first_chunk::<8>()?;
        let (segment_length, rest) = rest.split_first_chunk::<4>()?;
        let (segment_count_length, rest) = rest.split_first_chunk::<4>()?;
        let segment_length = u32::from_le_bytes(*segment_length);
        let segment_count_length = u32::from_le_bytes(*segment_count_length);
        let (fingerprints, torn) = rest.as_chunks::<2>();
        // A hash selects a position below `segment_count_length`, and one in each of the two segments after it.
        let places = u64::from(segment_count_length) + 2 * u64::from(segment_length);
        let is_whole = torn.is_empty()
            && segment_length.is_power_of_two()
            && segment_count_length > 0
            && segment_count_length % segment_length == 0
            && places <= u64::from(u32::MAX)
            && places == fingerprints.len() as u64;
        if !is_whole {
            return None;
        }
        // The crate does not export the type of the descriptor, so this code fills in the descriptor of an empty
        // filter.
        let mut fuse = BinaryFuse16::try_from_iterator(std::iter::empty()).ok()?;
        fuse.descriptor.seed = u64::from_le_bytes(*seed);
        fuse.descriptor.segment_length = segment_length;
        fuse.descriptor.segment_length_mask = segment_length - 1;
        fuse.descriptor.segment_count_length = segment_count_length;
        fuse.fingerprints = fingerprints.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect();
        Some(Filter::Fuse(fuse))
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::entry;
    use super::*;

    fn hashes(count: u32) -> impl Iterator<Item = u64> {
        (0..count).map(|n| u64::from(n / 2 * 2).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    #[test]
    fn a_filter_reads_back_and_denies_none_of_its_ids() {
        for count in [1, 2, 3, 4, 5, 17, 300, 5_000] {
            let mut entries: Vec<Entry> = hashes(count).map(|hash| entry(hash, 0)).collect();
            entries.sort_unstable_by_key(hash_of);
            let mut bytes = Vec::new();
            Filter::build(&entries).encode(&mut bytes);
            let read = Filter::decode(&bytes).unwrap();
            assert!(matches!(read, Filter::Fuse(_)), "{count}");
            assert!(hashes(count).all(|hash| read.contains(hash)), "{count}");
            let others = (0..60_000_u64).map(|n| n.wrapping_mul(0xD6E8_FEB8_6659_FD93) | 1);
            assert!(others.filter(|hash| read.contains(*hash)).count() < 15, "{count}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        let entries: Vec<Entry> = (0..100).map(|n| entry(u64::from(n) << 40, n)).collect();
        let mut bytes = Vec::new();
        Filter::build(&entries).encode(&mut bytes);
        for cut in 1..bytes.len() {
            assert!(Filter::decode(&bytes[..cut]).is_none(), "{cut}");
        }
        for at in 8..HEADER_BYTES {
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[at] ^= 1 << bit;
                // Anything that decodes as a filter can be queried.
                if let Some(filter) = Filter::decode(&other) {
                    let _ = (0..1_000_u64).filter(|n| filter.contains(n << 50)).count();
                }
            }
        }
    }
}
