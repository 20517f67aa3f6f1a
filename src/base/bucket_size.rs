//! The lengths of the time buckets in which events and sales are counted.

/// A bucket's length. Buckets are in UTC, and each starts at a multiple of its length since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketSize {
    Minute,
    Hour,
    Day,
}

impl BucketSize {
    pub const ALL: [BucketSize; 3] = [BucketSize::Minute, BucketSize::Hour, BucketSize::Day];

    #[must_use]
    pub const fn us(self) -> i64 {
        match self {
            BucketSize::Minute => 60_000_000,
            BucketSize::Hour => 3_600_000_000,
            BucketSize::Day => 86_400_000_000,
        }
    }

    /// Returns the start of the bucket that contains a time. Times before 1970 are supported too.
    #[must_use]
    pub const fn floor(self, us: i64) -> i64 {
        us - us.rem_euclid(self.us())
    }
}
