//! When a price is out of line: the limits that a tenant sets, as whole numbers, so that a verdict is the same
//! wherever and whenever it is reached.

/// The limits in force when a price event is taken in. Journaled with it: a replay decides as it was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriceRules {
    /// Hundredths of a percent that a price may differ from the accepted one before it.
    pub change_bp: u32,
    /// Thousandths of a modified z-score that a price may have among the accepted ones.
    pub score_milli: u32,
    /// Accepted prices that the score looks at.
    pub window: u16,
}

impl PriceRules {
    /// A million percent: a limit above it would let everything pass, as this does for all that is sold.
    pub const CHANGE_BP_MAX: u32 = 100_000_000;
    pub const SCORE_MILLI_MAX: u32 = 1_000_000_000;
    /// Read from an index for every price event: a page of it.
    pub const WINDOW_MAX: u16 = 200;
}
