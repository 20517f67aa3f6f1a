//! The modes in which stock updates apply, and the codes under which they are stored.

/// The mode of a request. The codes are stored and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum StockMode {
    /// The quantity with the newest time applies, regardless of the order of arrival.
    LastWriteWins = 1,
    /// Deltas are added.
    Merge = 2,
    /// The update applies only if the product is at the version that the sender expects.
    Reject = 3,
}

/// The maximum of a stock level, a quantity or the magnitude of a delta: the largest integer that every JSON reader
/// represents exactly (2^53 - 1, RFC 8259 §6).
pub(super) const STOCK_MAX: i64 = (1 << 53) - 1;

impl StockMode {
    /// Every mode, in ascending order of its code.
    pub const ALL: [StockMode; 3] = [StockMode::LastWriteWins, StockMode::Merge, StockMode::Reject];

    /// Returns the mode with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<StockMode> {
        StockMode::ALL.into_iter().find(|mode| mode.as_str() == name)
    }

    /// Returns the mode's name in a request.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            StockMode::LastWriteWins => "last_write_wins",
            StockMode::Merge => "merge",
            StockMode::Reject => "reject",
        }
    }

    /// Returns the stored code: 1 to 3.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Returns the mode with this stored code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<StockMode> {
        StockMode::ALL.into_iter().find(|mode| mode.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_stay_what_they_are() {
        let known = [("last_write_wins", 1), ("merge", 2), ("reject", 3)];
        assert_eq!(StockMode::ALL.map(|mode| (mode.as_str(), mode.code())), known);
        for mode in StockMode::ALL {
            assert_eq!(StockMode::parse(mode.as_str()), Some(mode));
            assert_eq!(StockMode::from_code(mode.code()), Some(mode));
        }
        assert_eq!((StockMode::parse("Merge"), StockMode::parse("")), (None, None));
        assert_eq!((StockMode::from_code(0), StockMode::from_code(4)), (None, None));
    }
}
