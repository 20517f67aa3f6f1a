//! The lengths of the stretches of time that events and sales are counted in.

/// How long a bucket is. UTC; a bucket begins where its length divides the time since 1970.
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

    /// The beginning of the bucket a time falls into, before 1970 too.
    #[must_use]
    pub const fn floor(self, us: i64) -> i64 {
        us - us.rem_euclid(self.us())
    }
}
