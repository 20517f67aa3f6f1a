//! Bytes of an uploaded body to lines, whatever the body is packed in, with flat memory.
//!
//! In: chunks of the body, as they come. Out: [`Next::Line`], or the [`UnpackError`] that ends the upload.
//! Owns: what tells the encodings apart (magic bytes), the decoders, every limit on what a body may unfold
//! to, the fingerprint of its rows. Never: I/O, a clock, a look at what a line says, an allocation whose
//! size a length in the input decides (the window of a zstd frame aside, which is capped).
//!
//! ```text
//! chunk ─► magic ─┬─ plain ────────────────────────────────────────────┐
//!                 ├─ gzip: member, member, …                           ├─► block ─► lines ─► Line
//!                 ├─ zstd: frame, frame, …                             │   ≤ 64 KiB     └─► fingerprint
//!                 └─ zip: header, data, descriptor, …, directory, end ─┘   or part of the chunk
//! ```
//! One turn: the next line of the block is handed out; where there is none left, the decoder makes the next
//! block out of the chunk; where that is used up, [`Next::Hungry`] asks for another.
//!
//! A text may be packed twice: a packed entry of an archive, a packed file that was sent with a coding. Its first bytes
//! tell that too, and a second decoder ([`layer`]) reads what the first one makes. Three times is once too often.
//!
//! # What is held, at most
//!
//! The chunk that was fed, and: 64 KiB decoded (nothing for plain and stored bytes, which are lent from the
//! chunk), 64 KiB to be hashed, a line cut by the end of a block (`line_bytes_max` and 4 bytes), for gzip and
//! zip the 48 KiB of an inflater, for zip one header (256 KiB), for zstd the window (8 MiB
//! at most) and one block of it; a second decoder and block where a text is packed twice. [`Unpacker::memory_bytes`]
//! tells it.
//!
//! # What is checked
//!
//! Damage is an error, never a shorter answer: CRC-32 and sizes of gzip members and zip entries, the
//! checksum of a zstd frame where it has one, the end of each, and a zip's directory against the entries
//! that were read, so that nothing is taken from an archive that other programs would not see in it. Lines
//! are handed out before their checksum comes by: an error says that those since the last member, frame or
//! entry may be wrong. A cut between two members or frames cannot be seen; nor can one of plain lines.

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
mod skipped;
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
