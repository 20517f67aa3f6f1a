//! DEFLATE (RFC 1951), one section of input at a time.

use flate2::{Decompress, DecompressError, FlushDecompress, Status};

use super::error::Fault;
use super::input::{Input, Step};

/// The window of 32 KiB, as a power of two.
const WINDOW_BITS: u8 = 15;
/// Memory for the window and the tables.
pub(super) const MEMORY_BYTES: usize = 48 << 10;

#[derive(Debug)]
pub(super) struct Inflate {
    stream: Decompress,
    /// Set if the output buffer was full. The decoder may then have more output without more input.
    holds_output: bool,
}

/// The result of one section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inflated {
    pub(super) read: usize,
    pub(super) written: usize,
    pub(super) is_end: bool,
}

impl Inflated {
    /// Returns `true` if nothing happened, so that the decoder needs more input.
    pub(super) fn is_starved(self) -> bool {
        self.read == 0 && self.written == 0 && !self.is_end
    }

    /// Returns the step for the decoded bytes, if there are any.
    pub(super) fn step(self) -> Option<Step> {
        (self.written > 0).then_some(Step::Block)
    }
}

impl Inflate {
    /// Creates a decoder for a stream without header and trailer.
    pub(super) fn raw() -> Inflate {
        Inflate { stream: Decompress::new(false), holds_output: false }
    }

    /// Creates a decoder for a gzip member. Its CRC-32 and length are checked at its end.
    pub(super) fn gzip() -> Inflate {
        Inflate { stream: Decompress::new_gzip(WINDOW_BITS), holds_output: false }
    }

    /// Restarts a raw stream.
    pub(super) fn restart_raw(&mut self) {
        self.stream.reset(false);
        self.holds_output = false;
    }

    /// Reads up to `bytes_max` bytes of the input and returns the result. After an error, the bytes that were
    /// examined count as read too.
    pub(super) fn run(
        &mut self,
        input: &mut Input,
        bytes_max: u64,
        output: &mut [u8],
    ) -> Result<Inflated, Fault> {
        let bytes = input.rest();
        let bytes = &bytes[..bytes.len().min(usize::try_from(bytes_max).unwrap_or(usize::MAX))];
        if bytes.is_empty() && !self.holds_output {
            return Ok(Inflated { read: 0, written: 0, is_end: false });
        }
        let before = (self.stream.total_in(), self.stream.total_out());
        let outcome = self.stream.decompress(bytes, output, FlushDecompress::None);
        let read = (self.stream.total_in() - before.0) as usize;
        let written = (self.stream.total_out() - before.1) as usize;
        input.advance(read);
        let is_end = outcome.map_err(|error| fault(&error))? == Status::StreamEnd;
        self.holds_output = written == output.len() && !is_end;
        Ok(Inflated { read, written, is_end })
    }
}

/// Converts an error. The library distinguishes its errors only by their messages.
fn fault(error: &DecompressError) -> Fault {
    match error.message() {
        Some("incorrect data check") => Fault::Checksum("the CRC-32 of a gzip member does not match"),
        Some("incorrect length check") => Fault::Checksum("the length of a gzip member does not match"),
        Some("incorrect header check") => Fault::Damaged("unexpected bytes follow a gzip member"),
        Some("unknown compression method" | "unknown header flags set" | "header crc mismatch") => {
            Fault::Damaged("the gzip header is damaged")
        }
        _ => Fault::Damaged("the deflated data is damaged"),
    }
}
