//! Compressed pieces: gzip members (RFC 1952 §2.2) and zstd frames (RFC 8878 §3.1). Pieces concatenated in a file
//! decompress as one stream.

use std::io::{self, Write as _};

use flate2::write::GzEncoder;

use super::body::Compression;

/// The default levels. The output is a tenth larger than with the best levels, at several times the speed.
const GZIP_LEVEL: u32 = 6;
pub(super) const ZSTD_LEVEL: i32 = 3;

/// Appends the bytes, compressed as a separate piece. The piece contains neither a time nor a name, so the same bytes
/// always produce the same piece.
///
/// # Errors
/// Returns the compressor's errors. Writing to memory does not fail.
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
