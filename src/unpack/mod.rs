//! Splits the bytes of an uploaded body into lines, regardless of its encoding, with constant memory.
//!
//! In: chunks of the body, as they arrive. Out: [`Next::Line`], or the [`UnpackError`] that ends the upload. Owns:
//! the detection of encodings (magic bytes), the decoders, every limit on the decompressed size of a body, the
//! fingerprint of its rows. Never: does I/O, reads a clock, interprets a line, makes an allocation whose size depends
//! on a length in the input (except the window of a zstd frame, which is limited).
//!
//! ```text
//! chunk ─► magic ─┬─ plain ────────────────────────────────────────────┐
//!                 ├─ gzip: member, member, …                           ├─► block ─► lines ─► Line
//!                 ├─ zstd: frame, frame, …                             │   ≤ 64 KiB     └─► fingerprint
//!                 └─ zip: header, data, descriptor, …, directory, end ─┘   or part of the chunk
//! ```
//! Each call returns the next line of the block. If the block has no more lines, the decoder creates the next block
//! from the chunk. If the chunk is consumed, [`Next::Hungry`] requests another chunk.
//!
//! Data may be compressed twice: a compressed entry of an archive, or a compressed file sent with a content coding.
//! The first decoded bytes show this, and a second decoder ([`layer`]) reads the output of the first. Three levels of
//! compression are refused.
//!
//! # Memory, at most
//!
//! The chunk that was fed, and:
//! - 64 KiB decoded (nothing for plain and stored bytes, which are borrowed from the chunk),
//! - 64 KiB to be hashed,
//! - a line that spans blocks (`line_bytes_max` plus 4 bytes),
//! - for gzip and zip, the inflater (48 KiB), and for zip, also one header (256 KiB),
//! - for zstd, the window (at most 8 MiB) and one block of the frame,
//! - a second decoder and block if data is compressed twice.
//!
//! [`Unpacker::memory_bytes`] reports the current memory use.
//!
//! # Checks
//!
//! Damage is an error, never a shorter result. The checks cover the CRC-32 and the sizes of gzip members and zip
//! entries, the checksum of a zstd frame if it has one, and the end of each member, entry and frame. A zip's
//! directory is compared with the entries that were read, so that no entry is accepted that other programs would not
//! see in the archive. Lines are returned before their checksum is known. After an error, the lines since the last
//! complete member, frame or entry may be wrong. A truncation between two members or frames cannot be detected, nor
//! can a truncation of plain lines.

mod block;
mod error;
mod fingerprint;
mod gzip;
mod inflate;
mod input;
mod layer;
mod limits;
mod lines;
mod magic;
mod pipe;
mod skipped;
mod source;
mod unpacker;
mod zip;
mod zstd;

#[cfg(test)]
mod tests;

pub use error::{Place, UnpackError};
pub use limits::Limits;
pub use magic::Encoding;
pub use skipped::{SKIPPED_MAX, Skipped};
pub use unpacker::{Line, Next, Resume, Unpacker};
