//! Counts over time, merged over the shards. Days and hours of a time zone are built from smaller buckets.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::count::{Bucket, bucket_counts};
use super::query::BucketsPlan;
use crate::base::bucket_size::BucketSize;
use crate::query::{ParameterError, QueryError, Readers, local};
use crate::shard::read::TimeRange;

/// The maximum number of buckets in one answer, and in one shard's contribution to it.
const BUCKETS_MAX: usize = 100_000;
/// A duration that is longer than any civil day.
const DAY_MAX_US: i64 = 26 * BucketSize::Hour.us();
/// Only a zone's transitions in these years decide how its buckets are built, because local mean times of the 19th
/// century had odd seconds.
const YEARS_US: (i64, i64) = (0, 4_102_444_800_000_000);

/// Returns the buckets that begin in the plan's range, in order of (start, source, type).
pub async fn buckets(readers: &Readers, plan: &BucketsPlan) -> Result<Vec<Bucket>, QueryError> {
    let _permit = readers.permit()?;
    let zone = plan.zone.as_ref().filter(|_| plan.size != BucketSize::Minute);
    let size = zone.map_or(plan.size, |zone| pieces(zone, &plan.range));
    let mut range = plan.range;
    if size != plan.size {
        // A bucket that begins in the range may end after it.
        range.to_us = range.to_us.map(|to| to.saturating_add(DAY_MAX_US));
        range.from_us = range.from_us.map(|from| size.floor(from));
    }
    let limit = BUCKETS_MAX * if size == plan.size { 1 } else { 24 };
    let of = plan.of.clone();
    let shares = readers
        .ask_all(Vec::new(), move |connection| bucket_counts(connection, size, (&of, &range), limit + 1))
        .await?;
    let too_many = || {
        let detail = format!("more than {BUCKETS_MAX} buckets; use a shorter range or a larger bucket_size");
        QueryError::Parameters(vec![ParameterError { name: "from".into(), code: "range_too_large", detail }])
    };
    let mut merged: BTreeMap<(i64, String, String), (i64, i64, i64)> = BTreeMap::new();
    let mut starts = Starts::new(zone.filter(|_| size != plan.size), plan.size);
    for share in shares {
        if share.len() > limit {
            return Err(too_many());
        }
        for part in share {
            let start_us = starts.of(part.start_us);
            let is_in = plan.range.from_us.is_none_or(|from| start_us >= from)
                && plan.range.to_us.is_none_or(|to| start_us < to);
            if !is_in {
                continue;
            }
            let sum =
                merged.entry((start_us, part.source, part.event_type)).or_insert((0, i64::MAX, i64::MIN));
            *sum = (sum.0 + part.count, sum.1.min(part.first_us), sum.2.max(part.last_us));
        }
        if merged.len() > BUCKETS_MAX {
            return Err(too_many());
        }
    }
    let bucket = |((start_us, source, event_type), (count, first_us, last_us))| Bucket {
        start_us,
        source,
        event_type,
        count,
        first_us,
        last_us,
    };
    Ok(merged.into_iter().map(bucket).collect())
}

/// Returns the size of the pieces that a zone's buckets are built from. These are hours if all of the zone's offsets
/// in the range are whole hours, and minutes otherwise.
pub(super) fn pieces(zone: &TimeZone, range: &TimeRange) -> BucketSize {
    let from = range.from_us.unwrap_or(i64::MIN).clamp(YEARS_US.0, YEARS_US.1);
    let to = range.to_us.unwrap_or(i64::MAX).clamp(YEARS_US.0, YEARS_US.1);
    let Ok(start) = Timestamp::from_microsecond(from) else { return BucketSize::Minute };
    let is_whole = |seconds: i32| seconds % 3_600 == 0;
    let mut following = zone
        .following(start)
        .take_while(|transition| transition.timestamp().as_microsecond() < to.saturating_add(DAY_MAX_US));
    let whole_hours = is_whole(zone.to_offset(start).seconds())
        && following.all(|transition| is_whole(transition.offset().seconds()));
    // With offsets of whole hours, an hour of the zone is an hour of UTC.
    if whole_hours { BucketSize::Hour } else { BucketSize::Minute }
}

/// Finds the starts of a zone's buckets. Remembers the last day, because neighbouring pieces mostly share it.
pub(super) struct Starts<'z> {
    zone: Option<&'z TimeZone>,
    size: BucketSize,
    /// The start of the last day, and the start of the day after it.
    last: Option<(i64, i64)>,
}

impl<'z> Starts<'z> {
    /// Without a zone, a bucket's start is that of its piece.
    pub(super) fn new(zone: Option<&'z TimeZone>, size: BucketSize) -> Starts<'z> {
        Starts { zone, size, last: None }
    }

    pub(super) fn of(&mut self, us: i64) -> i64 {
        let Some(zone) = self.zone else { return us };
        if let Some((start, end)) = self.last
            && (start..end).contains(&us)
        {
            return start;
        }
        if self.size != BucketSize::Day {
            return local::hour_start(zone, us);
        }
        let start = local::day_start(zone, us);
        self.last = Some((start, local::next_day(zone, us)));
        start
    }
}
