//! Which run an id may be in: a binary fuse filter (Graf, Lemire 2022) of 16 bits, about 2.25 bytes an id.
//! It never denies an id of its run, and takes one in 65,536 others for one.

use xorf::{BinaryFuse16, Filter as _};

use super::table::{Entry, hash_of};

/// Seed, segment length, length of all segments but two.
const HEADER_BYTES: usize = 16;

/// Bytes an id that building a filter takes for a while.
pub(super) const BUILD_BYTES_AN_ID: usize = 27;

pub(super) enum Filter {
    Fuse(BinaryFuse16),
    /// None could be built: every id may be in the run. Slower, and as right.
    Any,
}

impl Filter {
    /// Of entries sorted by hash. About 70 ns an entry.
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

    /// `None` where the bytes are no filter. What is returned looks at no place outside of itself.
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
        // A hash names a place below `segment_count_length`, and one in each of the two segments after it.
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
        // Its descriptor has no name outside of the crate: an empty filter's is filled in.
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
                // Whatever is taken for a filter can be asked.
                if let Some(filter) = Filter::decode(&other) {
                    let _ = (0..1_000_u64).filter(|n| filter.contains(n << 50)).count();
                }
            }
        }
    }
}
