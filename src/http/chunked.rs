//! The chunked transfer coding (RFC 9112 §7.1), parsed strictly and incrementally.

use super::{Refusal, head};

/// Total bytes of extensions, trailers and leading zeros in one body. No client needs them, and without a limit a
/// client could send ignored bytes indefinitely. It is less than hyper's limit, so that a body never passes on one lane
/// and fails on the other.
const IGNORED_BYTES_MAX: u32 = 8 * 1024;

/// Bytes charged for a trailer line before its first byte. They limit the number of lines to 99.
const TRAILER_LINE_COST: u32 = 82;

/// State of the decoder between two bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before the first hexadecimal digit of a chunk size.
    SizeStart,
    Size,
    /// Blanks after a chunk size, before an extension or the line end.
    SizeBlank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// Finds the payload in a chunked body that arrives in pieces of any size. The value takes 16 bytes and has no
/// buffer.
#[derive(Clone, Copy, Debug)]
pub struct Chunked {
    at: At,
    ignored: u32,
    left: u64,
}

/// The result of [`Chunked::advance`]: `taken` bytes of the input are consumed, and the last `data` of them are
/// payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    pub taken: usize,
    pub data: usize,
    pub done: bool,
}

impl Default for Chunked {
    fn default() -> Chunked {
        Chunked { at: At::SizeStart, ignored: 0, left: 0 }
    }
}

impl Chunked {
    /// Reads up to a piece of payload, the end of the body or the end of the input.
    pub fn advance(&mut self, input: &[u8]) -> Result<Advance, Refusal> {
        for (taken, &byte) in input.iter().enumerate() {
            self.at = match (self.at, byte) {
                (At::SizeStart | At::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                    // A size of 15 digits exceeds that of any file system and cannot overflow.
                    if self.left >> 56 != 0 {
                        return Err(Refusal::MalformedChunk);
                    }
                    let digit = (byte as char).to_digit(16).unwrap_or_default();
                    self.left = self.left << 4 | u64::from(digit);
                    if self.left == 0 { self.ignore(1, At::Size)? } else { At::Size }
                }
                (At::Size | At::SizeBlank | At::Extension, b'\r') => At::SizeLf,
                (At::Size | At::SizeBlank, b';') => self.ignore(1, At::Extension)?,
                (At::Size | At::SizeBlank, b' ' | b'\t') => self.ignore(1, At::SizeBlank)?,
                (At::Extension, b'\t' | b' '..=b'~' | 0x80..) => self.ignore(1, At::Extension)?,
                (At::SizeLf, b'\n') if self.left == 0 => At::TrailerStart,
                (At::SizeLf, b'\n') => At::Data,
                (At::Data, _) => {
                    let data = self.left.min((input.len() - taken) as u64);
                    self.left -= data;
                    if self.left == 0 {
                        self.at = At::DataCr;
                    }
                    let data = data as usize;
                    return Ok(Advance { taken: taken + data, data, done: false });
                }
                (At::DataCr, b'\r') => At::DataLf,
                (At::DataLf, b'\n') => At::SizeStart,
                (At::TrailerStart, b'\r') => At::EndLf,
                (At::TrailerStart, b' ' | b'\t') => return Err(Refusal::FoldedHeader),
                (At::TrailerStart, _) if head::is_token(byte) => {
                    self.ignore(TRAILER_LINE_COST, At::TrailerName)?
                }
                (At::TrailerName, b':') => self.ignore(1, At::TrailerValue)?,
                (At::TrailerName, _) if head::is_token(byte) => self.ignore(1, At::TrailerName)?,
                (At::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => self.ignore(1, At::TrailerValue)?,
                (At::TrailerValue, b'\r') => At::TrailerLf,
                (At::TrailerLf, b'\n') => At::TrailerStart,
                (At::EndLf, b'\n') => {
                    self.at = At::Done;
                    return Ok(Advance { taken: taken + 1, data: 0, done: true });
                }
                _ => return Err(Refusal::MalformedChunk),
            };
        }
        Ok(Advance { taken: input.len(), data: 0, done: self.at == At::Done })
    }

    fn ignore(&mut self, bytes: u32, next: At) -> Result<At, Refusal> {
        self.ignored += bytes;
        if self.ignored > IGNORED_BYTES_MAX { Err(Refusal::MalformedChunk) } else { Ok(next) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the payload, and the number of bytes of the body, fed in pieces of `step` bytes.
    fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, Option<usize>), Refusal> {
        let mut decoder = Chunked::default();
        let (mut payload, mut total) = (Vec::new(), 0);
        for piece in input.chunks(step) {
            let mut piece = piece;
            while !piece.is_empty() {
                let found = decoder.advance(piece)?;
                payload.extend_from_slice(&piece[found.taken - found.data..found.taken]);
                total += found.taken;
                piece = &piece[found.taken..];
                if found.done {
                    return Ok((payload, Some(total)));
                }
            }
        }
        Ok((payload, None))
    }

    #[test]
    fn any_split_gives_the_same_payload_and_end() {
        let body = b"4\r\nabcd\r\nA;x=\"y\"\r\n0123456789\r\n0\r\nTrailer: z\r\n\r\nGET /";
        for step in 1..body.len() {
            assert_eq!(decode(body, step), Ok((b"abcd0123456789".to_vec(), Some(body.len() - 5))), "{step}");
        }
        assert_eq!(decode(b"0\r\n\r\n", 9), Ok((vec![], Some(5))));
    }

    #[test]
    fn a_lenient_reading_is_refused() {
        for body in [
            "4\nabcd\r\n",
            "4\r\nabcdX",
            "4\r\nabcd\n",
            "\r\n",
            " 4\r\n",
            "0x4\r\n",
            "-1\r\n",
            "4\r\r\n",
            "10000000000000000\r\n",
            "0\r\n\n",
            "0\r\n x: y\r\n\r\n",
            "4;\n",
            "4 x\r\n",
            "0\r\nx\r\n\r\n",
            "0\r\nx : y\r\n\r\n",
            "0\r\n: y\r\n\r\n",
        ] {
            assert!(decode(body.as_bytes(), 3).is_err(), "{body:?}");
        }
        for endless in [
            format!("4;{}", "x".repeat(IGNORED_BYTES_MAX as usize + 1)),
            format!("1;{}\r\na\r\n", "x".repeat(100)).repeat(90),
            "0".repeat(IGNORED_BYTES_MAX as usize + 1),
            format!("0\r\n{}", "a:\r\n".repeat(100)),
        ] {
            assert_eq!(decode(endless.as_bytes(), 100), Err(Refusal::MalformedChunk), "{:.20}", endless);
        }
    }
}
