//! Content codings of request bodies, decompressed with a limit on the decoded bytes.

use std::io::{self, Read, Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
}

/// The value of `Accept-Encoding` in a 415 response.
pub const CODINGS: &str = "gzip, deflate, zstd, identity";

/// The largest response that is not compressed. It fits into one or two TCP segments without compression.
pub const UNPACKED_MAX: usize = 1024;

/// A zstd window above 8 MiB would cost that much memory for a few input bytes.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    #[error("the decoded body exceeds {0} bytes")]
    TooLarge(usize),
    #[error("the body does not match its Content-Encoding or is truncated")]
    Malformed,
}

/// Removes the byte order mark that some programs put at the start of a document. JSON does not permit it (RFC 8259
/// §8.1).
#[inline]
#[must_use]
pub fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Returns the maximum size of a body as sent, if it may have `decoded_max` decoded bytes. A compressed body may be
/// slightly larger than its content.
#[must_use]
pub fn sent_bytes_max(coding: Option<Coding>, decoded_max: usize) -> usize {
    if coding == Some(Coding::Identity) { decoded_max } else { decoded_max + 1024 }
}

impl Coding {
    /// Parses the header. `None` for an unsupported coding, or for several.
    #[must_use]
    pub fn from_header(value: &[u8]) -> Option<Coding> {
        let value = value.trim_ascii();
        [
            (&b"gzip"[..], Coding::Gzip),
            (b"x-gzip", Coding::Gzip),
            (b"deflate", Coding::Deflate),
            (b"zstd", Coding::Zstd),
            (b"identity", Coding::Identity),
            (b"", Coding::Identity),
        ]
        .into_iter()
        .find_map(|(name, coding)| value.eq_ignore_ascii_case(name).then_some(coding))
    }

    /// Decompresses `body` into `out`, which it clears first, up to `limit` decoded bytes. The limit bounds the work,
    /// regardless of the compression ratio. Bytes after the end of the stream are an error.
    pub fn inflate(self, body: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), InflateError> {
        out.clear();
        // An empty input is not a valid stream. It is refused here, because the decoders do not agree on that.
        if body.is_empty() && self != Coding::Identity {
            return Err(InflateError::Malformed);
        }
        let mut out = Capped { out, limit };
        let outcome = match self {
            Coding::Identity => out.write_all(body),
            Coding::Gzip => {
                let mut decoder = flate2::write::MultiGzDecoder::new(&mut out);
                decoder.write_all(body).and_then(|()| decoder.finish().map(|_| ()))
            }
            // In RFC 9110, `deflate` is the zlib format, but many clients send raw DEFLATE.
            Coding::Deflate if is_zlib(body) => {
                whole(flate2::bufread::ZlibDecoder::new(body), &mut out, |d| d.get_ref().is_empty())
            }
            Coding::Deflate => {
                whole(flate2::bufread::DeflateDecoder::new(body), &mut out, |d| d.get_ref().is_empty())
            }
            Coding::Zstd => zstd::stream::read::Decoder::with_buffer(body).and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                io::copy(&mut decoder, &mut out).map(|_| ())
            }),
        };
        outcome.map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => InflateError::TooLarge(limit),
            _ => InflateError::Malformed,
        })
    }
}

/// Returns `true` for a zlib header (RFC 1950 §2.2): method 8, and a multiple of 31.
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [cmf, flags, ..] if cmf & 0x0f == 8 && (u16::from(*cmf) << 8 | u16::from(*flags)).is_multiple_of(31))
}

fn whole<D: Read>(mut decoder: D, out: &mut Capped<'_>, at_end: impl Fn(&D) -> bool) -> io::Result<()> {
    io::copy(&mut decoder, out)?;
    if at_end(&decoder) { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

struct Capped<'o> {
    out: &'o mut Vec<u8>,
    limit: usize,
}

impl Write for Capped<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.out.len() + bytes.len() > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(coding: Coding, body: &[u8]) -> Vec<u8> {
        let level = flate2::Compression::default();
        match coding {
            Coding::Identity => body.to_vec(),
            Coding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(body).unwrap();
                encoder.finish().unwrap()
            }
            Coding::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(body).unwrap();
                encoder.finish().unwrap()
            }
            Coding::Zstd => zstd::bulk::compress(body, 3).unwrap(),
        }
    }

    #[test]
    fn every_coding_reads_back_and_every_cut_is_an_error() {
        let body = br#"{"user_id":1,"timestamp":"2024-01-14T10:30:00Z","metadata":{"a":"aaaaaaaaaaaaaaaaaaaaaaaa"}}"#;
        let mut out = Vec::new();
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Zstd] {
            let whole = encoded(coding, body);
            coding.inflate(&whole, body.len(), &mut out).unwrap();
            assert_eq!(out, body, "{coding:?}");
            for cut in 0..whole.len() {
                assert_eq!(
                    coding.inflate(&whole[..cut], 1000, &mut out),
                    Err(InflateError::Malformed),
                    "{coding:?} {cut}"
                );
            }
            let mut longer = whole.clone();
            longer.extend_from_slice(b"rubbish");
            assert_eq!(coding.inflate(&longer, 1000, &mut out), Err(InflateError::Malformed), "{coding:?}");
        }
        let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        raw.write_all(body).unwrap();
        Coding::Deflate.inflate(&raw.finish().unwrap(), 1000, &mut out).unwrap();
        assert_eq!(out, body);
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let mut out = Vec::new();
        let zeros = vec![b' '; 64 << 20];
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Zstd] {
            let bomb = encoded(coding, &zeros);
            assert_eq!(
                coding.inflate(&bomb, 1000, &mut out),
                Err(InflateError::TooLarge(1000)),
                "{coding:?}"
            );
            assert!(out.capacity() < 1 << 20);
        }
    }
}
