//! Exact counts of a period by source, type, hour or day: from the buckets that lie inside the period, and from the
//! index at its ragged ends. Each step reads one shard as of one commit, and continues where the last one ended.
//!
//! Where partitions have rows that the buckets do not contain, a step reads both for one window of time after the other.
//! A window is read as of one commit, so a row is counted once even if its partition is counted between two steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use rusqlite::{Connection, params};

use super::bucket_query::{Starts, pieces};
use super::buckets::{Tally, is_counted};
use super::count::{ceil, group_text, uncounted};
use super::newest::{newest, table_of};
use super::query::GroupBy;
use super::read::EventFilter;
use super::scan;
use super::schema::EVENTS;
use crate::base::bucket_size::BucketSize;
use crate::base::clock;
use crate::base::limits::{TIME_US_MAX, TIME_US_MIN};
use crate::shard::read::{Position, TimeRange};
use crate::shard::{PartitionInfo, ShardError, partitions_of};

/// How long one step may keep its snapshot.
const STEP_US: u64 = 50_000;
/// Buckets between two checks of the clock.
const BUCKETS_PER_LOOK: u64 = 256;
/// The maximum number of groups in one shard's share. A step of more groups ends early, so that merging is brief.
const SHARE_GROUPS_MAX: usize = 4_096;

/// The number of buckets in the first window. Windows grow until one has this many rows and buckets.
const WINDOW_BUCKETS: i64 = 64;
const WINDOW_READ: u64 = 16_384;

/// 1973-01-01. From then on, every offset of every zone is a whole number of minutes, and hours and days of a zone
/// consist of whole minutes. What is earlier is counted from rows.
const WHOLE_MINUTES_US: i64 = 94_694_400_000_000;

/// Groups by the start of a time or by name. Only one of both kinds occurs in an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Groups {
    pub times: BTreeMap<i64, Tally>,
    pub names: BTreeMap<String, Tally>,
}

impl Groups {
    pub(super) fn len(&self) -> usize {
        self.times.len() + self.names.len()
    }

    fn add_time(&mut self, start_us: i64, tally: Tally) {
        self.times.entry(start_us).and_modify(|sum| sum.add(tally)).or_insert(tally);
    }

    fn add_name(&mut self, name: &str, tally: Tally) {
        match self.names.get_mut(name) {
            Some(sum) => sum.add(tally),
            None => drop(self.names.insert(name.to_owned(), tally)),
        }
    }

    pub(super) fn merge(&mut self, other: Groups) {
        other.times.into_iter().for_each(|(start_us, tally)| self.add_time(start_us, tally));
        other.names.iter().for_each(|(name, tally)| self.add_name(name, *tally));
    }

    pub(super) fn total(&self) -> Option<Tally> {
        let tallies = self.times.values().chain(self.names.values()).copied();
        tallies.reduce(|mut sum, tally| {
            sum.add(tally);
            sum
        })
    }
}

/// A part of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    /// The size of the buckets that it consists of. `None` for rows.
    size: Option<BucketSize>,
    from_us: i64,
    to_us: i64,
}

/// The start, source and type of a bucket.
type BucketPosition = (i64, String, String);

/// The position of a count in one shard: a part, and the row or the bucket before.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupPosition {
    part: usize,
    row: Option<Position>,
    bucket: Option<BucketPosition>,
    /// The length of the next window, in buckets; 0 before the first one.
    window: i64,
}

/// The counts of one step.
#[derive(Debug, Default)]
pub(super) struct GroupShare {
    pub groups: Groups,
    /// The number of rows and buckets read.
    pub read: u64,
}

/// A count by group.
#[derive(Clone, Debug)]
pub(super) struct Count {
    of: EventFilter,
    by: GroupBy,
    zone: Option<TimeZone>,
    parts: Arc<[Part]>,
    rows_max: usize,
}

impl Count {
    pub(super) fn new(
        of: EventFilter,
        by: GroupBy,
        range: &TimeRange,
        zone: Option<TimeZone>,
        rows_max: usize,
    ) -> Count {
        let finest = || zone.as_ref().map_or(BucketSize::Hour, |zone| pieces(zone, range));
        let sizes: &[BucketSize] = match (by, &zone) {
            (GroupBy::EventType | GroupBy::Source, _) | (GroupBy::Day, None) => {
                &[BucketSize::Day, BucketSize::Hour, BucketSize::Minute]
            }
            _ if finest() == BucketSize::Hour => &[BucketSize::Hour, BucketSize::Minute],
            _ => &[BucketSize::Minute],
        };
        let from_us = range.from_us.unwrap_or(TIME_US_MIN);
        let to_us = range.to_us.unwrap_or(ceil(BucketSize::Day, TIME_US_MAX + 1));
        let mut parts = Vec::new();
        let is_local = zone.is_some() && matches!(by, GroupBy::Hour | GroupBy::Day);
        let early_us = if is_local { WHOLE_MINUTES_US.clamp(from_us, to_us.max(from_us)) } else { from_us };
        split(from_us, early_us, &[], &mut parts);
        split(early_us, to_us, sizes, &mut parts);
        Count { of, by, zone, parts: parts.into(), rows_max }
    }

    /// Returns `true` if buckets are part of the answer.
    pub(super) fn is_preaggregated(&self) -> bool {
        self.parts.iter().any(|part| part.size.is_some())
    }

    /// Runs one step on one shard.
    pub(super) fn step(
        &self,
        connection: &Connection,
        at: Option<GroupPosition>,
    ) -> Result<(GroupShare, Option<GroupPosition>), ShardError> {
        let until_us = clock::monotonic_us() + STEP_US;
        let mut at = at.unwrap_or_default();
        let mut share = GroupShare::default();
        while let Some(part) = self.parts.get(at.part) {
            let is_done = match part.size {
                None => self.rows(connection, part, &mut at, &mut share)?,
                Some(size) => self.buckets(connection, (part, size), &mut at, &mut share, until_us)?,
            };
            if is_done {
                at = GroupPosition { part: at.part + 1, ..GroupPosition::default() };
            }
            let is_last = at.part == self.parts.len();
            let is_full = share.groups.len() >= SHARE_GROUPS_MAX || clock::monotonic_us() >= until_us;
            if !is_last && (is_full || !is_done) {
                return Ok((share, Some(at)));
            }
        }
        Ok((share, None))
    }

    /// Counts rows of a part. Returns `true` at its end.
    fn rows(
        &self,
        connection: &Connection,
        part: &Part,
        at: &mut GroupPosition,
        share: &mut GroupShare,
    ) -> Result<bool, ShardError> {
        let range = TimeRange { from_us: Some(part.from_us), to_us: Some(part.to_us), descending: false };
        let position = at.row.take().unwrap_or_else(|| range.start());
        let column = match self.by {
            GroupBy::Source => Some(3),
            GroupBy::EventType => Some(4),
            GroupBy::Hour | GroupBy::Day => None,
        };
        let mut starts = self.starts();
        let GroupShare { groups, read } = share;
        at.row =
            scan::names(connection, &self.of, column, (&range, &position), self.rows_max, |us, name| {
                *read += 1;
                match column {
                    Some(_) => groups.add_name(name, Tally::of(us)),
                    None => groups.add_time(starts.of(self.floor(us)), Tally::of(us)),
                }
            })?;
        Ok(at.row.is_none())
    }

    /// Counts buckets of a part, and what they do not contain, window by window. Returns `true` at its end.
    fn buckets(
        &self,
        connection: &Connection,
        (part, size): (&Part, BucketSize),
        at: &mut GroupPosition,
        share: &mut GroupShare,
        until_us: u64,
    ) -> Result<bool, ShardError> {
        let infos = partitions_of(connection, &EVENTS)?;
        let mut after = at.bucket.take().unwrap_or_else(|| (part.from_us, String::new(), String::new()));
        loop {
            let read = share.read;
            let (end_us, is_window) = window(&infos, size, (after.0, part.to_us), at.window);
            let reached = self.stored(connection, size, (&after, end_us), share, until_us)?;
            let upto = reached.as_ref().map_or((end_us, "", ""), as_key);
            self.newest(connection, size, (as_key(&after), upto), share)?;
            if is_window {
                self.uncounted(connection, &infos, size, (as_key(&after), upto), share)?;
                let is_short = share.read - read < WINDOW_READ;
                at.window =
                    if is_short { at.window.max(WINDOW_BUCKETS).saturating_mul(2) } else { WINDOW_BUCKETS };
            }
            let is_stopped = reached.is_some();
            after = reached.unwrap_or((end_us, String::new(), String::new()));
            if !is_stopped && end_us >= part.to_us {
                return Ok(true);
            }
            if is_stopped || share.groups.len() >= SHARE_GROUPS_MAX || clock::monotonic_us() >= until_us {
                at.bucket = Some(after);
                return Ok(false);
            }
        }
    }

    /// Counts what the commit page has of the buckets after a position and up to another one.
    fn newest(
        &self,
        connection: &Connection,
        size: BucketSize,
        (after, upto): ((i64, &str, &str), (i64, &str, &str)),
        share: &mut GroupShare,
    ) -> Result<(), ShardError> {
        let mut starts = self.starts();
        let range = (after.0, upto.0.saturating_add(size.us()));
        newest(connection, self.of.names(), size, range, |key, tally| {
            if key > after && key <= upto {
                share.read += 1;
                self.add(&mut share.groups, &mut starts, key, tally);
            }
        })
    }

    /// Counts the stored buckets after a position that begin before `end_us`. Returns the last one if the step ends
    /// there.
    fn stored(
        &self,
        connection: &Connection,
        size: BucketSize,
        (after, end_us): (&BucketPosition, i64),
        share: &mut GroupShare,
        until_us: u64,
    ) -> Result<Option<BucketPosition>, ShardError> {
        let mut starts = self.starts();
        let (start_us, source, event_type) = after;
        let mut statement = connection.prepare_cached(&group_text(table_of(connection, size)?))?;
        let mut rows = statement.query(params![self.of.tenant_id, start_us, source, event_type, end_us])?;
        let mut seen = 0;
        while let Some(row) = rows.next()? {
            let text =
                |at: usize| Ok::<_, ShardError>(row.get_ref(at)?.as_str().map_err(rusqlite::Error::from)?);
            let (start_us, source, event_type) = (row.get(0)?, text(1)?, text(2)?);
            let is_wanted =
                |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|one| one == name);
            if is_wanted(&self.of.source, source) && is_wanted(&self.of.event_type, event_type) {
                let tally = Tally { count: row.get(3)?, first_us: row.get(4)?, last_us: row.get(5)? };
                self.add(&mut share.groups, &mut starts, (start_us, source, event_type), tally);
            }
            (seen, share.read) = (seen + 1, share.read + 1);
            let is_late = seen % BUCKETS_PER_LOOK == 0 && clock::monotonic_us() >= until_us;
            if is_late || share.groups.len() >= SHARE_GROUPS_MAX {
                return Ok(Some((start_us, source.to_owned(), event_type.to_owned())));
            }
        }
        Ok(None)
    }

    /// Counts the rows that the buckets do not contain, of the buckets after a position and up to another one.
    fn uncounted(
        &self,
        connection: &Connection,
        infos: &[PartitionInfo],
        size: BucketSize,
        (after, upto): ((i64, &str, &str), (i64, &str, &str)),
        share: &mut GroupShare,
    ) -> Result<(), ShardError> {
        let mut starts = self.starts();
        let range = (after.0, upto.0.saturating_add(size.us()));
        uncounted(connection, &self.of, infos, size, range, |us, source, event_type| {
            let key = (size.floor(us), source, event_type);
            if key > after && key <= upto {
                share.read += 1;
                self.add(&mut share.groups, &mut starts, key, Tally::of(us));
            }
        })
    }

    fn add(
        &self,
        groups: &mut Groups,
        starts: &mut Starts<'_>,
        (start_us, source, event_type): (i64, &str, &str),
        tally: Tally,
    ) {
        match self.by {
            GroupBy::Source => groups.add_name(source, tally),
            GroupBy::EventType => groups.add_name(event_type, tally),
            GroupBy::Hour | GroupBy::Day => groups.add_time(starts.of(self.floor(start_us)), tally),
        }
    }

    fn size(&self) -> BucketSize {
        if self.by == GroupBy::Day { BucketSize::Day } else { BucketSize::Hour }
    }

    fn starts(&self) -> Starts<'_> {
        Starts::new(self.zone.as_ref(), self.size())
    }

    /// Without a zone, an hour or a day of UTC begins at a multiple of its length.
    fn floor(&self, us: i64) -> i64 {
        if self.zone.is_some() { us } else { self.size().floor(us) }
    }
}

fn as_key((start_us, source, event_type): &BucketPosition) -> (i64, &str, &str) {
    (*start_us, source, event_type)
}

/// Returns the end of the next window that begins with the bucket at `from_us`, and whether there may be rows in it
/// that buckets of this size do not contain.
fn window(
    infos: &[PartitionInfo],
    size: BucketSize,
    (from_us, to_us): (i64, i64),
    buckets: i64,
) -> (i64, bool) {
    let uncounted = infos.iter().filter(|info| !is_counted(info, size)).filter_map(|info| info.timestamp_us);
    let ahead = uncounted.filter(|(low, high)| *low < to_us && *high >= from_us);
    let Some(low) = ahead.map(|(low, _)| size.floor(low)).min() else { return (to_us, false) };
    if low > from_us {
        return (low, false);
    }
    let length_us = buckets.max(WINDOW_BUCKETS).saturating_mul(size.us());
    (from_us.saturating_add(length_us).min(to_us), true)
}

/// Splits a period into whole buckets of the first size, and its ends into smaller ones and finally rows.
fn split(from_us: i64, to_us: i64, sizes: &[BucketSize], parts: &mut Vec<Part>) {
    if from_us >= to_us {
        return;
    }
    let Some((size, smaller)) = sizes.split_first() else {
        parts.push(Part { size: None, from_us, to_us });
        return;
    };
    let (inner_from, inner_to) = (ceil(*size, from_us), size.floor(to_us));
    if inner_from >= inner_to {
        split(from_us, to_us, smaller, parts);
        return;
    }
    split(from_us, inner_from, smaller, parts);
    parts.push(Part { size: Some(*size), from_us: inner_from, to_us: inner_to });
    split(inner_to, to_us, smaller, parts);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_split_into_the_largest_buckets_and_rows_at_its_ends() {
        use BucketSize::{Day, Hour, Minute};
        let split = |from_us, to_us, sizes: &[BucketSize]| {
            let mut parts = Vec::new();
            super::split(from_us, to_us, sizes, &mut parts);
            let ends = |pair: &[Part]| pair[0].to_us == pair[1].from_us;
            assert!(parts.windows(2).all(ends), "{parts:?}");
            assert!(parts.first().is_none_or(|part| part.from_us == from_us));
            assert!(parts.last().is_none_or(|part| part.to_us == to_us));
            parts.iter().map(|part| part.size).collect::<Vec<_>>()
        };
        let all = [Day, Hour, Minute];
        let day = Day.us();
        assert_eq!(split(0, day, &all), [Some(Day)]);
        assert_eq!(split(-1, day + 1, &all), [None, Some(Day), None]);
        let ragged = Hour.us() - Minute.us() - 1;
        assert_eq!(
            split(ragged, 2 * day + day - ragged, &all),
            [None, Some(Minute), Some(Hour), Some(Day), Some(Hour), Some(Minute), None]
        );
        assert_eq!(split(5, 6, &all), [None]);
        assert_eq!(split(5, 5, &all), []);
        assert_eq!(split(0, day, &[Minute]), [Some(Minute)]);
    }
}
