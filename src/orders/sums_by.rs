//! The groupings of sales sums and their tables.

use crate::base::bucket_size::BucketSize;

/// The grouping of sums. Each grouping has its own table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SumsBy {
    Hour,
    Day,
    Category,
    Product,
}

impl SumsBy {
    pub const ALL: [SumsBy; 4] = [SumsBy::Hour, SumsBy::Day, SumsBy::Category, SumsBy::Product];
    /// The groupings with a table of the sums of all orders. Sums by product are kept of dropped orders only. Those of
    /// other orders are computed from segments and rows.
    pub const WITH_SKETCHES: [SumsBy; 3] = [SumsBy::Hour, SumsBy::Day, SumsBy::Category];

    /// Returns the table of the sums, which for products are those of dropped orders.
    pub const fn table(self) -> &'static str {
        match self {
            SumsBy::Hour => "sales_hour",
            SumsBy::Day => "sales_day",
            SumsBy::Category => "sales_category",
            SumsBy::Product => self.dropped_table(),
        }
    }

    /// Returns the table of the sums of dropped orders.
    pub const fn dropped_table(self) -> &'static str {
        match self {
            SumsBy::Hour => "dropped_sales_hour",
            SumsBy::Day => "dropped_sales_day",
            SumsBy::Category => "dropped_sales_category",
            SumsBy::Product => "dropped_sales_by_product",
        }
    }

    /// Returns the category or product column, if the sums are grouped by one in addition to the time.
    pub const fn column(self) -> Option<&'static str> {
        match self {
            SumsBy::Hour | SumsBy::Day => None,
            SumsBy::Category => Some("category"),
            SumsBy::Product => Some("product"),
        }
    }

    pub(super) const fn size(self) -> BucketSize {
        if matches!(self, SumsBy::Hour) { BucketSize::Hour } else { BucketSize::Day }
    }

    /// Returns the length of a sum's period in microseconds.
    #[must_use]
    pub const fn us(self) -> i64 {
        self.size().us()
    }
}
