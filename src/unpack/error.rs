//! Errors in an upload, with their positions. All of them are the sender's fault, and a retry of the same bytes
//! cannot succeed.

use std::fmt;

/// The reason why an upload ends early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// A limit: the upload decompresses to more bytes than permitted.
    #[error("the upload exceeds {decoded_bytes_max} bytes after decompression ({place})")]
    TooLarge { decoded_bytes_max: u64, place: Place },
    /// A limit: the compression ratio is that of a decompression bomb.
    #[error("the upload decompresses to more than {ratio_max} times its size ({place})")]
    Ratio { ratio_max: u32, place: Place },
    /// A limit: the archive has too many entries.
    #[error("the archive has more than {entries_max} entries ({place})")]
    TooManyEntries { entries_max: u32, place: Place },
    /// Damage: the upload ends too early.
    #[error("the upload is truncated ({place})")]
    Truncated { place: Place },
    /// Damage: the decoded bytes are not the ones that were compressed.
    #[error("{what} ({place})")]
    Checksum { what: &'static str, place: Place },
    /// Damage: the upload breaks the rules of its format.
    #[error("{what} ({place})")]
    Damaged { what: &'static str, place: Place },
    /// The upload is apparently complete, but in an unsupported format.
    #[error("{what} ({place})")]
    Unsupported { what: &'static str, place: Place },
}

/// The position that the reader had reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Upload bytes read when the error was found. For zstd, this excludes the bytes of the chunk in which the
    /// decoder failed.
    pub offset_bytes: u64,
    /// Lines read before the error, including blank ones.
    pub lines: u64,
    /// The name of the archive's entry, shortened and without control characters.
    pub entry: Option<Box<str>>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}, after line {}", self.offset_bytes, self.lines)?;
        match &self.entry {
            Some(entry) => write!(f, ", entry {entry:?}"),
            None => Ok(()),
        }
    }
}

impl UnpackError {
    /// Returns `true` if a limit ended the upload (413), rather than damage or an unsupported format (400, 415).
    #[must_use]
    pub fn is_limit(&self) -> bool {
        matches!(
            self,
            UnpackError::TooLarge { .. } | UnpackError::Ratio { .. } | UnpackError::TooManyEntries { .. }
        )
    }

    #[must_use]
    pub fn place(&self) -> &Place {
        match self {
            UnpackError::TooLarge { place, .. }
            | UnpackError::Ratio { place, .. }
            | UnpackError::TooManyEntries { place, .. }
            | UnpackError::Truncated { place }
            | UnpackError::Checksum { place, .. }
            | UnpackError::Damaged { place, .. }
            | UnpackError::Unsupported { place, .. } => place,
        }
    }
}

/// An [`UnpackError`] from a decoder, which does not know the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    TooLarge(u64),
    Ratio(u32),
    TooManyEntries(u32),
    Truncated,
    Checksum(&'static str),
    Damaged(&'static str),
    Unsupported(&'static str),
}

impl Fault {
    pub(super) fn at(self, place: Place) -> UnpackError {
        match self {
            Fault::TooLarge(decoded_bytes_max) => UnpackError::TooLarge { decoded_bytes_max, place },
            Fault::Ratio(ratio_max) => UnpackError::Ratio { ratio_max, place },
            Fault::TooManyEntries(entries_max) => UnpackError::TooManyEntries { entries_max, place },
            Fault::Truncated => UnpackError::Truncated { place },
            Fault::Checksum(what) => UnpackError::Checksum { what, place },
            Fault::Damaged(what) => UnpackError::Damaged { what, place },
            Fault::Unsupported(what) => UnpackError::Unsupported { what, place },
        }
    }
}
