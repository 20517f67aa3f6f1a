//! Identifiers as separate types, so that a core cannot be mistaken for a shard.

use std::fmt;
use std::str::FromStr;

/// Returns 128 random bits as 32 lower-case hexadecimal digits.
///
/// # Errors
/// The system provides no random bytes.
pub fn random_hex() -> Result<String, getrandom::Error> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bits)))
}

/// Encodes bytes as lower-case hexadecimal digits, two per byte.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns `true` if a string has the form of [`random_hex`] and can therefore name a folder.
#[must_use]
pub fn is_random_hex(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A pinned core: its index in the server's list of cores, not the kernel's CPU number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoreId(pub u16);

/// One SQLite file and the journals that feed it; written as `shard-00` on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// One journal of a shard: one producer, one consumer. A listener of the hot lane writes even lanes (`hot`, `hot-1`,
/// …), an executor writes odd ones (`keyed`, `keyed-1`, …). There is more than one of each only if more cores than
/// shards serve a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub u8);

/// A record's number within its lane. The first is 1, and there are no gaps. [`Sequence::NONE`] precedes the
/// first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The number that precedes the first record.
    pub const NONE: Sequence = Sequence(0);

    #[must_use]
    pub fn next(self) -> Sequence {
        Sequence(self.0 + 1)
    }
}

impl LaneId {
    /// The maximum number of lanes in a shard. The low six bits of a receipt's number identify the lane.
    pub const COUNT_MAX: u64 = 64;

    #[must_use]
    pub fn hot(index: u8) -> LaneId {
        LaneId(index * 2)
    }

    #[must_use]
    pub fn keyed(index: u8) -> LaneId {
        LaneId(index * 2 + 1)
    }

    #[must_use]
    pub fn is_hot(self) -> bool {
        self.0.is_multiple_of(2)
    }

    /// Returns the name of this lane's folder in the shard's folder.
    #[must_use]
    pub fn folder(self) -> String {
        let name = if self.is_hot() { "hot" } else { "keyed" };
        match self.0 / 2 {
            0 => name.to_owned(),
            index => format!("{name}-{index}"),
        }
    }

    /// Returns a folder's lane. `None` if [`LaneId::folder`] never returns this name.
    #[must_use]
    pub fn from_folder(name: &str) -> Option<LaneId> {
        let (kind, index) = match name.split_once('-') {
            Some((kind, index)) => (kind, index.parse::<u8>().ok()?),
            None => (name, 0),
        };
        if u64::from(index) >= LaneId::COUNT_MAX / 2 {
            return None;
        }
        let lane = match kind {
            "hot" => LaneId::hot(index),
            "keyed" => LaneId::keyed(index),
            _ => return None,
        };
        (lane.folder() == name).then_some(lane)
    }
}

impl ShardId {
    /// Returns the name of this shard's folder in the data folder.
    #[must_use]
    pub fn folder(self) -> String {
        format!("shard-{:02}", self.0)
    }
}

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The position of an accepted event's record, given to the client. Written `<shard>-<number>`, where the number is
/// `sequence * 64 + lane`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub shard: ShardId,
    pub lane: LaneId,
    pub sequence: Sequence,
}

impl Receipt {
    /// Returns the number after the dash.
    #[must_use]
    pub fn number(self) -> u64 {
        self.sequence.0 * LaneId::COUNT_MAX + u64::from(self.lane.0)
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.shard, self.number())
    }
}

/// The string is not a receipt that this server could have issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAReceipt;

impl FromStr for Receipt {
    type Err = NotAReceipt;

    fn from_str(text: &str) -> Result<Receipt, NotAReceipt> {
        let (shard, number) = text.split_once('-').ok_or(NotAReceipt)?;
        let number: u64 = number.parse().map_err(|_| NotAReceipt)?;
        let receipt = Receipt {
            shard: ShardId(shard.parse().map_err(|_| NotAReceipt)?),
            lane: LaneId((number % LaneId::COUNT_MAX) as u8),
            sequence: Sequence(number / LaneId::COUNT_MAX),
        };
        // A receipt has one spelling: no leading zero and no plus sign.
        (receipt.to_string() == text && receipt.sequence > Sequence::NONE)
            .then_some(receipt)
            .ok_or(NotAReceipt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_reads_back_as_written_and_has_one_spelling() {
        let receipt = Receipt { shard: ShardId(3), lane: LaneId::keyed(1), sequence: Sequence(77) };
        assert_eq!(receipt.to_string(), "3-4931");
        assert_eq!("3-4931".parse(), Ok(receipt));
        for text in ["", "3", "3-", "-1", "03-4931", "3-+4931", "3-0", "3-63", "70000-64", "a-b", "3-4931 "] {
            assert_eq!(text.parse::<Receipt>(), Err(NotAReceipt), "{text:?}");
        }
    }

    #[test]
    fn a_lane_has_one_folder() {
        for lane in (0..LaneId::COUNT_MAX as u8).map(LaneId) {
            assert_eq!(LaneId::from_folder(&lane.folder()), Some(lane));
        }
        for name in ["hot-0", "hot-01", "hot-32", "cold", "keyed-", ""] {
            assert_eq!(LaneId::from_folder(name), None, "{name:?}");
        }
    }
}
