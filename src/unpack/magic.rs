//! An upload's encoding, detected from its first four bytes.

use std::str;

use super::error::Fault;

/// An upload's encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Uncompressed NDJSON.
    Plain,
    /// RFC 1952, at least one member.
    Gzip,
    /// RFC 8878, at least one frame.
    Zstd,
    /// PKWARE APPNOTE 6.3, read from the front.
    Zip,
}

/// The number of bytes needed to detect an encoding.
pub(super) const MAGIC_BYTES: usize = 4;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// These bytes follow a first byte of 0x50 to 0x5f in a skippable frame.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];
/// The signatures of an entry, of the end of an archive without entries, and of the 64-bit end.
const ZIP: [[u8; 4]; 3] = [*b"PK\x03\x04", *b"PK\x05\x06", *b"PK\x06\x06"];
const ZIP_SPLIT: [[u8; 4]; 2] = [*b"PK\x07\x08", *b"PK00"];

impl Encoding {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Encoding::Plain => "plain",
            Encoding::Gzip => "gzip",
            Encoding::Zstd => "zstd",
            Encoding::Zip => "zip",
        }
    }

    /// Detects the encoding from the first [`MAGIC_BYTES`] of an upload, or fewer if it has no more.
    ///
    /// No JSON text begins with a magic or with the first bytes of one. An upload without a magic must at least look
    /// like text. An archive of another type, or UTF-16 text, therefore results in a better error than invalid rows.
    pub(super) fn detect(head: &[u8]) -> Result<Encoding, Fault> {
        let is_skippable =
            |head: &[u8]| head.len() > 1 && head[0] & 0xf0 == 0x50 && ZSTD_SKIPPABLE.starts_with(&head[1..]);
        if head.starts_with(&GZIP) {
            return Ok(Encoding::Gzip);
        }
        if ZIP_SPLIT.iter().any(|magic| magic == head) {
            return Err(Fault::Unsupported("the zip archive is one part of a multi-part archive"));
        }
        if head.len() == MAGIC_BYTES {
            if head == ZSTD || is_skippable(head) {
                return Ok(Encoding::Zstd);
            }
            if ZIP.iter().any(|magic| magic == head) {
                return Ok(Encoding::Zip);
            }
        } else if !head.is_empty() {
            let is_cut = GZIP.starts_with(head)
                || ZSTD.starts_with(head)
                || is_skippable(head)
                || ZIP.iter().any(|magic| magic.starts_with(head));
            if is_cut {
                return Err(Fault::Truncated);
            }
        }
        let is_text = match str::from_utf8(head) {
            Ok(_) => true,
            // If a character continues after the four bytes, the error has no length.
            Err(error) => error.error_len().is_none(),
        };
        let is_control = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
        match is_text && !head.iter().any(is_control) {
            true => Ok(Encoding::Plain),
            false => Err(Fault::Unsupported("the upload is not NDJSON, zip, gzip or zstd")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_bytes_tell() {
        let told = |head: &[u8]| Encoding::detect(head);
        assert_eq!(told(b"\x1f\x8b\x08\x00"), Ok(Encoding::Gzip));
        assert_eq!(told(b"\x28\xb5\x2f\xfd"), Ok(Encoding::Zstd));
        assert_eq!(told(b"\x5e\x2a\x4d\x18"), Ok(Encoding::Zstd));
        assert_eq!(told(b"PK\x03\x04"), Ok(Encoding::Zip));
        assert_eq!(told(b"PK\x05\x06"), Ok(Encoding::Zip));
        for plain in [
            &b""[..],
            b"{",
            b"{}",
            b"{\"a\"",
            b"\xef\xbb\xbf{",
            b"\xef\xbb\xbf",
            b"\r\n\t ",
            b"a\xf0\x9f\x98",
            b"Pete",
        ] {
            assert_eq!(told(plain), Ok(Encoding::Plain), "{plain:?}");
        }
        for cut in [&b"\x1f"[..], b"(", b"(\xb5\x2f", b"P", b"PK", b"PK\x03", b"\x51\x2a\x4d"] {
            assert_eq!(told(cut), Err(Fault::Truncated), "{cut:?}");
        }
        // Split zip, xz, 7z, UTF-16 with and without a mark, a gzip with a wrong first byte.
        for other in [b"PK00", b"\xfd7zX", b"7z\xbc\xaf", b"\xff\xfe{\0", b"{\0\"\0", b"\x1e\x8b\x08\x00"] {
            assert!(matches!(told(other), Err(Fault::Unsupported(_))), "{other:?}");
        }
    }
}
