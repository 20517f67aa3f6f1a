//! Packed pieces: gzip members (RFC 1952 §2.2) and zstd frames (RFC 8878 §3.1), which follow one another in a file
//! as if they were one.

use std::io::{self, Write as _};

use flate2::write::GzEncoder;

use super::spec::Compression;

/// The usual levels: a tenth larger than the best, several times as fast.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// Appends the bytes, packed by themselves. No time and no name goes in: the same bytes always give the same piece.
///
/// # Errors
/// None of writing to memory; what the packer says of itself.
pub(super) fn pack(compression: Compression, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    match compression {
        Compression::None => out.extend_from_slice(bytes),
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL));
            encoder.write_all(bytes)?;
            encoder.finish()?;
        }
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(out, ZSTD_LEVEL)?;
            encoder.include_checksum(true)?;
            encoder.set_pledged_src_size(Some(bytes.len() as u64))?;
            encoder.write_all(bytes)?;
            encoder.finish()?;
        }
    }
    Ok(())
}
