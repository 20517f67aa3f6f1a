//! Limits for price anomalies. A tenant sets them as whole numbers, so that a verdict is the same everywhere and at
//! any time.

/// The limits in force when a price event is accepted. They are journaled with it, so that a replay reaches the same
/// verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriceRules {
    /// Maximum difference from the previous accepted price, in hundredths of a percent.
    pub change_bp: u32,
    /// Maximum modified z-score among the accepted prices, in thousandths.
    pub score_milli: u32,
    /// Number of accepted prices that the score uses.
    pub window: u16,
}

impl PriceRules {
    /// A million percent. A higher limit would make no difference, because this one already accepts every realistic
    /// price.
    pub const CHANGE_BP_MAX: u32 = 100_000_000;
    pub const SCORE_MILLI_MAX: u32 = 1_000_000_000;
    /// A window of this size is one page of the index, which is read for every price event.
    pub const WINDOW_MAX: u16 = 200;
}
