//! The data descriptor, which follows an entry whose sizes are not in its header (APPNOTE 4.3.9).
//!
//! A descriptor may or may not have a signature, and its sizes have 32 or 64 bits. No field states which of the four
//! forms it has. The values are known when the descriptor is read, so all four forms are tried. A form matches only
//! if a header follows it. In a 32-bit form, sizes of 4 GiB or more are compared by their lower halves, because macOS
//! writes only these.

use super::bytes::{u32_at, u64_at};
use crate::unpack::error::Fault;

/// The length of the longest form and of the signature after it. This many bytes are available even for the shortest
/// form, because at least an entry of the directory and the end record follow it.
pub(super) const REACH_BYTES: usize = 28;

const SIGNATURE: &[u8] = b"PK\x07\x08";
/// The start of every header.
const HEADER: &[u8] = b"PK";

/// The checksum and the sizes of the entry's data, as read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptor {
    pub(super) crc: u32,
    pub(super) packed_bytes: u64,
    pub(super) plain_bytes: u64,
}

impl Descriptor {
    /// Returns the length of the descriptor at the start of `bytes`, which has [`REACH_BYTES`].
    pub(super) fn length_in(self, bytes: &[u8]) -> Result<usize, Fault> {
        let is_signed = bytes.starts_with(SIGNATURE);
        for (crc_at, is_wide) in [(4, false), (4, true), (0, false), (0, true)] {
            let (size_bytes, sizes_at) = (if is_wide { 8 } else { 4 }, crc_at + 4);
            let size = |at: usize| if is_wide { u64_at(bytes, at) } else { u64::from(u32_at(bytes, at)) };
            let whole = |bytes: u64| if is_wide { bytes } else { u64::from(bytes as u32) };
            let length = sizes_at + 2 * size_bytes;
            let fits = (crc_at == 0 || is_signed)
                && u32_at(bytes, crc_at) == self.crc
                && size(sizes_at) == whole(self.packed_bytes)
                && size(sizes_at + size_bytes) == whole(self.plain_bytes)
                && bytes[length..].starts_with(HEADER);
            if fits {
                return Ok(length);
            }
        }
        match is_signed && u32_at(bytes, 4) != self.crc {
            true => Err(Fault::Checksum("the CRC-32 of the entry does not match")),
            false => Err(Fault::Damaged("the entry is not followed by its data descriptor")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(is_signed: bool, is_wide: bool, of: Descriptor) -> Vec<u8> {
        let mut bytes = if is_signed { SIGNATURE.to_vec() } else { Vec::new() };
        bytes.extend(of.crc.to_le_bytes());
        for size in [of.packed_bytes, of.plain_bytes] {
            bytes.extend(&size.to_le_bytes()[..if is_wide { 8 } else { 4 }]);
        }
        bytes
    }

    #[test]
    fn four_kinds_are_told_apart() {
        let signature = u32::from_le_bytes(*b"PK\x07\x08");
        for (crc, packed_bytes, plain_bytes) in [
            (7, 100, 200),
            (0, 2, 0),
            (0, 0, 0),
            (signature, 100, 200),
            (signature, u64::from(signature), 0),
            (9, 5 << 30, 6 << 32),
        ] {
            let of = Descriptor { crc, packed_bytes, plain_bytes };
            for (is_signed, is_wide) in [(true, true), (true, false), (false, true), (false, false)] {
                let mut bytes = written(is_signed, is_wide, of);
                let length = bytes.len();
                bytes.extend(b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\0\0\0\0");
                assert_eq!(of.length_in(&bytes[..REACH_BYTES]), Ok(length), "{of:?} {is_signed} {is_wide}");
                let other = Descriptor { crc: crc ^ 1, ..of };
                assert!(other.length_in(&bytes[..REACH_BYTES]).is_err());
                let other = Descriptor { plain_bytes: plain_bytes + 1, ..of };
                assert!(other.length_in(&bytes[..REACH_BYTES]).is_err());
            }
        }
    }
}
