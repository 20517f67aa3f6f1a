//! The hours and days of a local clock: the start of the hour or day that contains a time, and the start of the next.
//!
//! Some offsets change by less than an hour (Lord Howe). In that case, an hour includes its repeated part, or begins
//! after its skipped part. An hour that is repeated completely counts as two hours. A time without a date (at the
//! ends of the calendar) is its own beginning.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{Timestamp, ToSpan as _};

use crate::base::bucket_size::BucketSize;
use crate::base::clock;
use crate::base::limits::{TIME_US_MAX, TIME_US_MIN};

/// The first date whose year is written with four digits. Times that a zone still assigns to the day before it count
/// as part of this date.
const FIRST_DATE: Date = Date::constant(0, 1, 1);

/// Returns the instant at which a zone's clock shows a time. The result is clamped to the storable times and the
/// microsecond after them.
pub fn time_of(zone: &TimeZone, time: DateTime) -> i64 {
    clamped(time.date(), instant(zone, time))
}

/// Returns the beginning of a zone's day: the first instant at which its clock shows this date or, if it skips the date,
/// a later one. The result is clamped as in [`time_of`].
pub fn start_of(zone: &TimeZone, date: Date) -> i64 {
    clamped(date, beginning(zone, date))
}

/// A date for which the calendar has no instant is before or after all times that have one.
fn clamped(date: Date, us: Option<i64>) -> i64 {
    us.unwrap_or(if date.year() > 0 { i64::MAX } else { i64::MIN }).clamp(TIME_US_MIN, TIME_US_MAX + 1)
}

fn instant(zone: &TimeZone, time: DateTime) -> Option<i64> {
    time.to_zoned(zone.clone()).map(|zoned| zoned.timestamp().as_microsecond()).ok()
}

fn beginning(zone: &TimeZone, date: Date) -> Option<i64> {
    let midnight = date.to_datetime(Time::midnight());
    let us = instant(zone, midnight)?;
    if !matches!(zone.to_ambiguous_timestamp(midnight).offset(), AmbiguousOffset::Gap { .. }) {
        return Some(us);
    }
    // The clock skips midnight. `us` is as long after the change as midnight is after the beginning of the gap.
    let change = zone.preceding(Timestamp::from_microsecond(us + 1).ok()?).next()?;
    Some(change.timestamp().as_microsecond())
}

/// Returns the date that contains a time.
pub fn date_of(zone: &TimeZone, us: i64) -> Date {
    clock::timestamp(us).to_zoned(zone.clone()).date().max(FIRST_DATE)
}

/// Returns the beginning of the hour that contains a time.
pub fn hour_start(zone: &TimeZone, us: i64) -> i64 {
    let us_of = |offset: Offset| i64::from(offset.seconds()) * 1_000_000;
    let Ok(time) = Timestamp::from_microsecond(us) else { return us };
    let offset = zone.to_offset(time);
    let start = BucketSize::Hour.floor(us + us_of(offset)) - us_of(offset);
    // A change at exactly this time counts too.
    let behind = Timestamp::from_microsecond(us + 1).unwrap_or(time);
    let Some(change) = zone.preceding(behind).next().map(|change| change.timestamp()) else { return start };
    let changed_us = change.as_microsecond();
    if start >= changed_us {
        return start;
    }
    let before = Timestamp::from_microsecond(changed_us - 1).map_or(offset, |time| zone.to_offset(time));
    // The hour that began before the change continues only if the change interrupted or ended it.
    let begun = start + us_of(offset) - us_of(before);
    let goes_on = begun < changed_us && changed_us <= begun + BucketSize::Hour.us();
    if goes_on { begun } else { changed_us }
}

/// Returns the end of the hour that contains a time.
pub fn next_hour(zone: &TimeZone, us: i64) -> i64 {
    // A clock hour lasts longer than an hour if part of it is repeated.
    let mut at = us + BucketSize::Hour.us();
    let mut next = hour_start(zone, at);
    while next <= us {
        at += BucketSize::Hour.us();
        next = hour_start(zone, at);
    }
    // If part of an hour is skipped, a shorter hour may precede the one found. There is no such hour after the last
    // storable time.
    while next <= TIME_US_MAX {
        let before = hour_start(zone, next - 1);
        if before <= us {
            return next;
        }
        next = before;
    }
    next
}

/// Returns the beginning of the day that contains a time. If a clock is set back over midnight and shows the date before
/// again, this time is part of the later day.
pub fn day_start(zone: &TimeZone, us: i64) -> i64 {
    let Ok(time) = Timestamp::from_microsecond(us) else { return us };
    let date = time.to_zoned(zone.clone()).date();
    if date <= FIRST_DATE {
        let first = FIRST_DATE.to_zoned(zone.clone()).map(|zoned| zoned.timestamp().as_microsecond());
        return first.unwrap_or(us).min(TIME_US_MIN).min(us);
    }
    let next = date.tomorrow().ok().and_then(|next| beginning(zone, next));
    next.filter(|next| *next <= us).or_else(|| beginning(zone, date)).unwrap_or(us)
}

/// Returns the end of the day that contains a time.
pub fn next_day(zone: &TimeZone, us: i64) -> i64 {
    let Ok(time) = Timestamp::from_microsecond(us) else { return us + BucketSize::Day.us() };
    let date = time.to_zoned(zone.clone()).date().max(FIRST_DATE);
    let mut following = date.series(1.day()).skip(1).map_while(|next| beginning(zone, next));
    following.find(|next| *next > us).unwrap_or(us + BucketSize::Day.us())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn us(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    #[test]
    fn days_and_hours_begin_where_the_zone_says() {
        let berlin = zone("Europe/Berlin");
        let day = us("2026-03-28T23:00:00Z");
        // This day has 23 hours.
        assert_eq!(next_day(&berlin, day), us("2026-03-29T22:00:00Z"));
        assert_eq!(
            next_hour(&zone("Asia/Kathmandu"), us("2026-01-01T00:00:00Z")),
            us("2026-01-01T00:15:00Z")
        );
        assert_eq!(next_hour(&berlin, day), day + BucketSize::Hour.us());
        let hours = |name: &str, from: &str, until: &str| {
            let (zone, until) = (zone(name), us(until));
            let mut found = vec![us(from)];
            while *found.last().unwrap() < until {
                found.push(next_hour(&zone, *found.last().unwrap()));
            }
            let local = |us: &i64| {
                let time = Timestamp::from_microsecond(*us).unwrap().to_zoned(zone.clone());
                time.strftime("%H:%M%:::z").to_string()
            };
            found.iter().map(local).collect::<Vec<_>>().join(" ")
        };
        // Lord Howe sets the clock back by half an hour at 02:00, so that the hour before has 90 minutes. In the
        // other direction, the clock skips half an hour, so that the hour after has 30.
        assert_eq!(
            hours("Australia/Lord_Howe", "2026-04-04T13:00:00Z", "2026-04-04T16:30:00Z"),
            "00:00+11 01:00+11 02:00+10:30 03:00+10:30"
        );
        assert_eq!(
            hours("Australia/Lord_Howe", "2026-10-03T14:30:00Z", "2026-10-03T17:00:00Z"),
            "01:00+10:30 02:30+11 03:00+11 04:00+11"
        );
        assert_eq!(
            hours("Europe/Berlin", "2026-10-24T23:00:00Z", "2026-10-25T02:00:00Z"),
            "01:00+02 02:00+02 02:00+01 03:00+01"
        );
        assert_eq!(
            hours("America/New_York", "2026-03-08T06:00:00Z", "2026-03-08T08:00:00Z"),
            "01:00-05 03:00-04 04:00-04"
        );
    }

    #[test]
    fn hours_begin_where_the_clock_says_also_when_it_is_changed() {
        let start = |zone: &str, time: &str| {
            let zone = self::zone(zone);
            let start = hour_start(&zone, us(time));
            Timestamp::from_microsecond(start).unwrap().to_zoned(zone).strftime("%H:%M%:::z").to_string()
        };
        for (zone, time, wanted) in [
            ("Australia/Lord_Howe", "2026-04-04T14:59:59Z", "01:00+11"),
            ("Australia/Lord_Howe", "2026-04-04T15:00:00Z", "01:00+11"),
            ("Australia/Lord_Howe", "2026-04-04T15:29:59Z", "01:00+11"),
            ("Australia/Lord_Howe", "2026-04-04T15:30:00Z", "02:00+10:30"),
            ("Australia/Lord_Howe", "2026-10-03T15:29:59Z", "01:00+10:30"),
            ("Australia/Lord_Howe", "2026-10-03T15:30:00Z", "02:30+11"),
            ("Australia/Lord_Howe", "2026-10-03T16:00:00Z", "03:00+11"),
            ("Europe/Berlin", "2026-10-25T00:30:00Z", "02:00+02"),
            ("Europe/Berlin", "2026-10-25T01:30:00Z", "02:00+01"),
            ("Asia/Kathmandu", "2026-01-01T00:14:00Z", "05:00+05:45"),
            // At a minute past midnight, the clock goes back into the hour before.
            ("America/Goose_Bay", "2010-11-07T02:59:00Z", "23:00-03"),
            ("America/Goose_Bay", "2010-11-07T03:00:30Z", "00:00-03"),
            ("America/Goose_Bay", "2010-11-07T03:30:00Z", "23:01-04"),
        ] {
            assert_eq!(start(zone, time), wanted, "{zone} {time}");
        }
    }

    #[test]
    fn hours_follow_one_another_round_every_change_of_every_zone() {
        let (from, until) = ("1970-01-01T00:00:00Z".parse().unwrap(), us("2040-01-01T00:00:00Z"));
        let mut changes = 0;
        for name in jiff::tz::db().available() {
            let zone = zone(name.as_str());
            for change in zone.following(from) {
                let change_us = change.timestamp().as_microsecond();
                if change_us > until {
                    break;
                }
                changes += 1;
                let mut at = hour_start(&zone, change_us - BucketSize::Hour.us());
                while at < change_us + 2 * BucketSize::Hour.us() {
                    let next = next_hour(&zone, at);
                    let starts = [at, next - 1, next].map(|us| hour_start(&zone, us));
                    assert_eq!(starts, [at, at, next], "{} at {}", name.as_str(), change.timestamp());
                    at = next;
                }
            }
        }
        assert!(changes > 10_000, "{changes}");
    }
}
