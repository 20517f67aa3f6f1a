//! A question for sales figures, its answer, and the limits of both.

use jiff::tz::TimeZone;

use crate::base::bucket_size::BucketSize;
use crate::base::money::Currency;
use crate::orders::SalesFilter;
use crate::query::QueryError;

/// The maximum number of passes over the sales.
pub(super) const PASSES_MAX: u32 = 64;
/// The maximum number of groups in one answer. Only groups with sales count.
pub(super) const GROUPS_MAX: usize = 200_000;
pub(super) const TOO_MANY_GROUPS: QueryError =
    QueryError::TooLarge("more than 200000 groups have sales in this range; use a shorter one");

pub(super) const TOO_LARGE: QueryError =
    QueryError::TooLarge("an exact answer exceeds the memory limit of a query");

/// The grouping of sales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    Day,
    Hour,
    Product,
    Category,
}

impl GroupBy {
    /// Returns `true` if a group is all sales of the range with one name.
    pub(super) fn is_named(self) -> bool {
        matches!(self, GroupBy::Product | GroupBy::Category)
    }
}

/// A query for sales figures.
#[derive(Clone, Debug)]
pub struct SalesQuery {
    pub of: SalesFilter,
    pub group_by: GroupBy,
    /// The beginning (inclusive) and the end (exclusive) of the range.
    pub range_us: (Option<i64>, Option<i64>),
    /// The zone whose days and hours form the groups.
    pub zone: TimeZone,
    pub exact: bool,
    /// Set if customers and order values are wanted in addition to counts.
    pub with_details: bool,
}

/// One group's figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub orders: i64,
    /// The sum over many rows, in a type that cannot overflow.
    pub units: i128,
    pub revenue: i128,
    /// The number of distinct customers, and the order totals at p50, p95 and p99.
    pub details: Option<(u64, [i64; 3])>,
}

/// One group, identified by the start of its period or by its name.
#[derive(Clone, Debug, PartialEq)]
pub struct SalesGroup {
    pub start_us: i64,
    pub name: String,
    pub currency: Currency,
    pub figures: Figures,
}

/// The answer to a query for sales figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SalesResult {
    /// Ordered by time or name, then by currency.
    pub groups: Vec<SalesGroup>,
    pub rows_scanned: u64,
    pub preaggregated: bool,
    /// Set if customers and order values are estimates.
    pub estimated: bool,
    /// Set if the range had no beginning: the days that are left out, because retention has deleted orders or sums of
    /// them.
    pub incomplete: Option<IncompleteDays>,
    /// The beginning of the first day of the zone that follows the incomplete days.
    pub complete_from_us: Option<i64>,
}

/// Days (UTC) that are left out: their number, and the starts of the first and the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncompleteDays {
    pub count: i64,
    pub first_us: i64,
    pub last_us: i64,
}

impl IncompleteDays {
    pub(super) fn end_us(self) -> i64 {
        self.last_us.saturating_add(BucketSize::Day.us())
    }
}
