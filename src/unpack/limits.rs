//! Limits on an upload's decompressed size, and the meter that enforces them.

use super::error::Fault;

/// The maximum length of a line. An order of a thousand items, with strings of maximum length written in escapes, is
/// shorter.
const LINE_BYTES_MAX: usize = 2 << 20;

/// Limits on one upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum length of a line, without CR LF. A longer line is returned truncated, and the other lines are not
    /// affected.
    pub line_bytes_max: usize,
    /// Maximum decoded bytes, including those of skipped entries that must be decoded.
    pub decoded_bytes_max: u64,
    /// Maximum decoded bytes per byte of the upload.
    pub ratio_max: u32,
    /// Decoded bytes up to which the ratio is not checked, because short bodies of similar rows compress well.
    pub ratio_grace_bytes: u64,
    /// Maximum number of entries in an archive, including skipped ones and directories.
    pub entries_max: u32,
}

impl Default for Limits {
    /// Permits lines of 2 MiB and a total of 1 TiB. The size of similar rows shrinks by a factor of 20 to 50, and
    /// that of zeros by a factor of 1,000 or more.
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

/// Counts decoded bytes.
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

    /// Continues from the count of another meter of the same upload.
    pub(super) fn follow(&mut self, other: &Meter) {
        self.decoded_bytes = other.decoded_bytes;
    }

    pub(super) fn entries_max(&self) -> u32 {
        self.limits.entries_max
    }

    /// Counts more decoded bytes. `consumed_bytes` is the number of upload bytes read so far.
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
