//! What an upload may unfold to, and the meter that holds it to that.

use super::error::Fault;

/// Of a line: an order of a thousand items, its texts as long as they may be and in escapes, has less.
const LINE_BYTES_MAX: usize = 2 << 20;

/// Limits of one upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A longer line costs itself: it is handed out cut. Without CR LF.
    pub line_bytes_max: usize,
    /// Bytes it may unfold to, those of skipped entries included where they have to be decoded.
    pub decoded_bytes_max: u64,
    /// Decoded bytes for each byte of the upload.
    pub ratio_max: u32,
    /// Decoded bytes up to which the ratio is anyone's affair: short bodies of like rows pack well.
    pub ratio_grace_bytes: u64,
    /// Entries of an archive, skipped ones and directories included.
    pub entries_max: u32,
}

impl Default for Limits {
    /// Lines of 2 MiB, 1 TiB in all; like rows pack 20 to 50 times, zeros 1,000 times and more.
    fn default() -> Limits {
        Limits {
            line_bytes_max: LINE_BYTES_MAX,
            decoded_bytes_max: 1 << 40,
            ratio_max: 200,
            ratio_grace_bytes: 64 << 20,
            entries_max: 10_000,
        }
    }
}

/// Counts what was decoded.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    limits: Limits,
    decoded_bytes: u64,
}

impl Meter {
    pub(super) fn new(limits: Limits, decoded_bytes: u64) -> Meter {
        Meter { limits, decoded_bytes }
    }

    pub(super) fn decoded_bytes(&self) -> u64 {
        self.decoded_bytes
    }

    /// Counts on where another meter of the same upload is.
    pub(super) fn follow(&mut self, other: &Meter) {
        self.decoded_bytes = other.decoded_bytes;
    }

    pub(super) fn entries_max(&self) -> u32 {
        self.limits.entries_max
    }

    /// More bytes were decoded, after so many of the upload were read.
    pub(super) fn add(&mut self, bytes: usize, consumed_bytes: u64) -> Result<(), Fault> {
        let Limits { decoded_bytes_max, ratio_max, ratio_grace_bytes, .. } = self.limits;
        self.decoded_bytes = self.decoded_bytes.saturating_add(bytes as u64);
        if self.decoded_bytes > decoded_bytes_max {
            return Err(Fault::TooLarge(decoded_bytes_max));
        }
        let is_bomb = self.decoded_bytes > consumed_bytes.saturating_mul(u64::from(ratio_max));
        match is_bomb && self.decoded_bytes > ratio_grace_bytes {
            true => Err(Fault::Ratio(ratio_max)),
            false => Ok(()),
        }
    }
}
