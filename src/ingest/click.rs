//! The journal record of a click, which the listener writes: three integers, then the metadata as received.

use crate::base::kinds::Kind;

/// One event of `POST /event`.
pub const CLICK: Kind = Kind::new(1);

/// The size of the fields that precede the metadata.
pub const CLICK_HEADER_BYTES: usize = 24;

/// Encodes the first [`CLICK_HEADER_BYTES`] of a payload, in little-endian order. The metadata follows unchanged.
#[inline]
#[must_use]
pub fn encode_header(user_id: i64, timestamp_us: i64, received_us: i64) -> [u8; CLICK_HEADER_BYTES] {
    let mut header = [0; CLICK_HEADER_BYTES];
    header[0..8].copy_from_slice(&user_id.to_le_bytes());
    header[8..16].copy_from_slice(&timestamp_us.to_le_bytes());
    header[16..24].copy_from_slice(&received_us.to_le_bytes());
    header
}
