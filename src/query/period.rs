//! The period that a request selects, in all the ways in which a client may write it.
//!
//! `from` (inclusive) and `to` (exclusive), or `start_date` and `end_date` (inclusive days), each a date or a time,
//! and `tz`, the zone of dates and of times without an offset. In: [`Parameters`]. Out: microseconds since 1970 UTC,
//! within the storable times. Every route that filters by time reads its period here.

use std::borrow::Cow;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::local;
use super::plan::Parameters;
use crate::base::limits::{TIME_US_MAX, TIME_US_MIN};
use crate::event::parse_rfc3339_bound;
use crate::shard::read::TimeRange;

/// The parameters of a period. Every route that filters by time has all of them.
pub(super) const PERIOD: [&str; 5] = ["from", "to", "start_date", "end_date", "tz"];

/// An older name of `from`, on routes that know it.
const SINCE: &str = "since";

/// A period: the bounds that a request gives, and the zone of its days and hours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Period {
    /// The first time, inclusive.
    pub from_us: Option<i64>,
    /// The end, exclusive.
    pub to_us: Option<i64>,
    /// The time zone. `None` means UTC.
    pub zone: Option<TimeZone>,
}

impl Period {
    /// Takes the period from the parameters. An error names its parameter and the accepted forms. A bound outside the
    /// storable times is equivalent to the first of these, or to the microsecond after the last. A period that is
    /// empty or ends before it begins is an error, except where clamping or a skipped day makes it empty.
    pub fn read(parameters: &mut Parameters) -> Period {
        let has_zone = parameters.is_given("tz");
        let zone = zone(parameters);
        let clock = has_zone.then(|| zone.clone().unwrap_or(TimeZone::UTC));
        let (from_us, to_us) = bounds(parameters, clock.as_ref()).unwrap_or_default();
        Period { from_us, to_us, zone }
    }

    #[must_use]
    pub fn range(&self, descending: bool) -> TimeRange {
        TimeRange { from_us: self.from_us, to_us: self.to_us, descending }
    }
}

/// One end of a period, as requested.
#[derive(Clone, Copy)]
enum Bound {
    /// A day in the zone.
    Day(Date),
    /// Microseconds since 1970 UTC, possibly outside the times that may be stored.
    Time(i64),
}

impl Bound {
    /// Returns the beginning of the bound.
    fn us(self, zone: &TimeZone) -> i64 {
        match self {
            Bound::Day(date) => local::start_of(zone, date),
            Bound::Time(us) => us,
        }
    }

    /// Returns the end of the bound if it is included: the end of a day, or the time itself.
    fn end_us(self, zone: &TimeZone) -> i64 {
        match self {
            // No day follows the last one.
            Bound::Day(date) => date.tomorrow().map_or(i64::MAX, |next| Bound::Day(next).us(zone)),
            Bound::Time(us) => us,
        }
    }
}

fn zone(parameters: &mut Parameters) -> Option<TimeZone> {
    let zone = TimeZone::get(&parameters.value("tz")?).ok().filter(|zone| !zone.is_unknown());
    if zone.is_none() {
        parameters.wrong("tz", "unknown_value", "tz must be an IANA time zone such as Europe/Berlin");
    }
    zone
}

/// Takes both bounds. Returns `None` if they contradict each other.
fn bounds(parameters: &mut Parameters, clock: Option<&TimeZone>) -> Option<(Option<i64>, Option<i64>)> {
    let [by_day, by_time] =
        [["end_date", "start_date", ""], ["to", "from", SINCE]].map(|names| given(parameters, names));
    if let (Some(day), Some(time)) = (by_day, by_time) {
        let detail = format!(
            "{day} cannot be combined with {time}: use from and to (exclusive), or start_date and end_date \
             (the whole day)"
        );
        parameters.wrong(day, "not_with_from_and_to", &detail);
        return None;
    }
    if parameters.is_given(SINCE) && parameters.is_given("from") {
        parameters.wrong(SINCE, "not_with_from", "since is another name of from: use one of them");
        return None;
    }
    let [first, last] = match by_day {
        Some(_) => ["start_date", "end_date"],
        None => [if parameters.is_given(SINCE) { SINCE } else { "from" }, "to"],
    };
    let (start, end) = (bound(parameters, first, clock), bound(parameters, last, clock));
    let utc = TimeZone::UTC;
    let zone = clock.unwrap_or(&utc);
    let from_us = start.map(|start| start.us(zone));
    let to_us = end.map(|end| if by_day.is_some() { end.end_us(zone) } else { end.us(zone) });
    let (is_backwards, rule) = match (start, end) {
        // Days are compared by date, because a day that a zone skipped begins and ends at the same time.
        (Some(Bound::Day(start)), Some(Bound::Day(end))) if by_day.is_some() => {
            (start > end, "must not be before")
        }
        (Some(Bound::Day(start)), Some(Bound::Day(end))) => (start >= end, "must be later than"),
        _ => (from_us.zip(to_us).is_some_and(|(from, to)| from >= to), "must be later than"),
    };
    if is_backwards {
        parameters.wrong(last, "out_of_range", &format!("{last} {rule} {first}"));
    }
    let clamped = |us: i64| us.clamp(TIME_US_MIN, TIME_US_MAX + 1);
    Some((from_us.map(clamped), to_us.map(clamped)))
}

/// Returns the last of these parameters that has a value.
fn given(parameters: &Parameters, names: [&'static str; 3]) -> Option<&'static str> {
    names.into_iter().rev().find(|name| parameters.is_given(name))
}

/// Takes a day, a time in the format of bodies or, with a zone, a time of its clock.
fn bound(parameters: &mut Parameters, name: &'static str, clock: Option<&TimeZone>) -> Option<Bound> {
    let text = parameters.value(name)?;
    if let Some(day) = day(&text) {
        return Some(Bound::Day(day));
    }
    if let Ok(us) = parse_rfc3339_bound(with_plus(&text).as_bytes()) {
        return Some(Bound::Time(us));
    }
    match (date_time(&text), clock) {
        (Some(time), Some(clock)) => return Some(Bound::Time(local::time_of(clock, time))),
        (Some(_), None) => {
            let detail = format!(
                "{name} has no offset from UTC: add one, as in 2024-01-15T10:30:00Z, or name its time zone in tz"
            );
            parameters.wrong(name, "invalid_timestamp", &detail);
        }
        (None, _) => {
            let detail = format!(
                "{name} must be a date such as 2024-01-15, an RFC 3339 time with an offset such as \
                 2024-01-15T10:30:00Z or, with tz, a local time such as 2024-01-15T10:30:00"
            );
            parameters.wrong(name, "invalid_timestamp", &detail);
        }
    }
    None
}

/// Parses a date in the format that bodies use for the date of a time.
fn day(text: &str) -> Option<Date> {
    let is_one = text.len() == 10 && text.starts_with(|first: char| first.is_ascii_digit());
    if is_one { text.parse().ok() } else { None }
}

/// Parses a date and a time of day without an offset.
fn date_time(text: &str) -> Option<DateTime> {
    let of_day = text.get(10..)?;
    if of_day.len() <= 5 || of_day.contains(['Z', 'z', '+', '-', '[']) {
        return None;
    }
    let time: DateTime = text.parse().ok()?;
    // A leap second becomes the last microsecond before it, as it does in a time with an offset.
    let is_leap = of_day.get(6..9) == Some(":60");
    if is_leap { time.with().subsec_nanosecond(999_999_000).build().ok() } else { Some(time) }
}

/// Restores a plus that was not encoded and therefore arrived as a space, at the start of an offset to the east. The
/// space between a date and a time remains.
fn with_plus(text: &str) -> Cow<'_, str> {
    match text.as_bytes() {
        [.., b' ', _, _, b':', _, _] if text.len() > "2024-01-15 10:30".len() => {
            let at = text.len() - " 01:00".len();
            Cow::Owned([&text[..at], "+", &text[at + 1..]].concat())
        }
        _ => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, ToSpan as _};
    use proptest::prelude::*;

    use super::*;
    use crate::base::clock::rfc3339;

    type Bounds = (Option<i64>, Option<i64>);
    type Codes = Vec<(&'static str, &'static str)>;

    fn read(query: &str) -> Result<Bounds, Codes> {
        let mut parameters = Parameters::with_period(Some(query), &[SINCE]);
        let period = Period::read(&mut parameters);
        let codes = |error: &super::super::ParameterError| {
            let name = [&PERIOD[..], &[SINCE]].concat().into_iter().find(|name| **name == *error.name);
            (name.unwrap_or_default(), error.code)
        };
        parameters.done((period.from_us, period.to_us)).map_err(|errors| errors.iter().map(codes).collect())
    }

    fn detail(query: &str) -> String {
        let mut parameters = Parameters::with_period(Some(query), &[SINCE]);
        Period::read(&mut parameters);
        parameters.done(()).unwrap_err().remove(0).detail
    }

    fn us(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    /// Finds the first minute at which the zone's clock shows the date or a later one.
    fn first_minute(zone: &TimeZone, date: Date) -> i64 {
        let noon = date.at(12, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp().as_microsecond();
        let mut minutes = (-40 * 60..40 * 60).map(|minute| noon + minute * 60_000_000);
        let date_at = |us| Timestamp::from_microsecond(us).unwrap().to_zoned(zone.clone()).date();
        minutes.find(|us| date_at(*us) >= date).unwrap()
    }

    /// Zones whose clocks change near midnight, over it, by a whole day, or by half an hour, and the date of a change.
    const CHANGES: [(&str, &str); 14] = [
        ("UTC", "2024-02-29"),
        ("Europe/Berlin", "2024-03-31"),
        ("Europe/Berlin", "2024-10-27"),
        ("America/Sao_Paulo", "2018-11-04"),
        ("America/Sao_Paulo", "2018-02-18"),
        ("America/Toronto", "1919-03-31"),
        ("America/Goose_Bay", "2010-11-07"),
        ("America/St_Johns", "2011-11-06"),
        ("Pacific/Apia", "2011-12-30"),
        ("Australia/Lord_Howe", "2026-04-05"),
        ("Asia/Kathmandu", "2024-01-01"),
        ("Africa/Cairo", "2024-04-26"),
        ("Asia/Beirut", "2024-03-31"),
        ("America/New_York", "2024-11-03"),
    ];

    #[test]
    fn a_day_begins_where_its_clock_first_shows_it() {
        for (name, date) in CHANGES {
            let (zone, change): (_, Date) = (zone(name), date.parse().unwrap());
            for days in -2..=2 {
                let date = change.saturating_add(days.days());
                let (start, end) = (first_minute(&zone, date), first_minute(&zone, date.tomorrow().unwrap()));
                let next = date.tomorrow().unwrap();
                let days = read(&format!("start_date={date}&end_date={date}&tz={name}"));
                assert_eq!(days, Ok((Some(start), Some(end))), "{name} {date}");
                assert_eq!(read(&format!("from={date}&to={next}&tz={name}")), days, "{name} {date}");
                // Days follow one another, and every time is in one of them.
                for at in
                    [start, (start + end) / 2, end - 1].into_iter().filter(|at| (start..end).contains(at))
                {
                    let day = (local::day_start(&zone, at), local::next_day(&zone, at));
                    assert_eq!(day, (start, end), "{name} {date} {}", rfc3339(at));
                }
            }
        }
        let midnight_is_skipped = read("from=2018-11-04&tz=America/Sao_Paulo").unwrap().0;
        assert_eq!(midnight_is_skipped, Some(us("2018-11-04T01:00:00-02:00")));
        let gap_begins_before_midnight = read("from=1919-03-31&tz=America/Toronto").unwrap().0;
        assert_eq!(gap_begins_before_midnight, Some(us("1919-03-31T00:30:00-04:00")));
        let a_day_of_23_hours = read("start_date=2024-03-31&end_date=2024-03-31&tz=Europe/Berlin").unwrap();
        assert_eq!(a_day_of_23_hours, (Some(us("2024-03-30T23:00:00Z")), Some(us("2024-03-31T22:00:00Z"))));
    }

    #[test]
    fn every_form_of_a_time_is_one_time() {
        let at = Ok((Some(us("2024-01-15T10:30:00Z")), None));
        for text in [
            "2024-01-15T10:30:00Z",
            "2024-01-15t10:30:00z",
            "2024-01-15t11:30:00%2b01:00",
            "2024-01-15+11:30:00+01:00",
            "2024-01-15T10:30:00.0000009Z",
            "2024-01-15T11:30:00&tz=Europe/Berlin",
            "2024-01-15t11:30&tz=europe/berlin",
            "2024-01-15T10:30:00Z&tz=Asia/Tokyo",
        ] {
            for name in ["from", "start_date", "since"] {
                assert_eq!(read(&format!("{name}={text}")), at, "{name}={text}");
            }
            for name in ["to", "end_date"] {
                assert_eq!(
                    read(&format!("{name}={text}")),
                    at.clone().map(|at| (at.1, at.0)),
                    "{name}={text}"
                );
            }
        }
        // A leap second is the last microsecond before it, with an offset and on a local clock.
        for text in ["2016-12-31T23:59:60Z", "2016-12-31t23:59:60.5z", "2017-01-01T00:59:60&tz=Europe/Berlin"]
        {
            let folded = us("2016-12-31T23:59:59.999999Z");
            assert_eq!(read(&format!("to={text}")), Ok((None, Some(folded))), "{text}");
        }
        // A clock that skips an hour shows its times as if it had not been changed; of two, the first one counts.
        let skipped = read("from=2024-03-31T02:30:00&to=2024-10-27T02:30:00&tz=Europe/Berlin");
        assert_eq!(skipped, Ok((Some(us("2024-03-31T01:30:00Z")), Some(us("2024-10-27T00:30:00Z")))));
    }

    #[test]
    fn bounds_outside_the_stored_times_are_clamped() {
        let (first, end) = (Some(TIME_US_MIN), Some(TIME_US_MAX + 1));
        for (query, wanted) in [
            ("from=0000-01-01&to=9999-12-31", (first, end)),
            ("start_date=0000-01-01&end_date=9999-12-31&tz=Asia/Tokyo", (first, end)),
            ("from=0000-01-01T00:00:00%2B23:59&to=9999-12-31T23:59:59-23:59", (first, end)),
            ("from=9999-12-31T00:00:00Z&to=9999-12-31T23:59:59Z", (end, end)),
            ("start_date=9999-12-31&end_date=9999-12-31", (end, end)),
            ("from=0000-01-01T00:00:00%2B05:00&to=0000-01-01T00:00:00%2B04:00", (first, first)),
        ] {
            assert_eq!(read(query), Ok(wanted), "{query}");
        }
    }

    #[test]
    fn what_contradicts_itself_or_is_no_time_is_refused() {
        for (query, errors) in [
            ("from=2024-01-15&start_date=2024-01-16", &[("start_date", "not_with_from_and_to")][..]),
            ("from=2024-01-15&end_date=2024-01-16", &[("end_date", "not_with_from_and_to")]),
            ("to=2024-01-15&start_date=2024-01-14", &[("start_date", "not_with_from_and_to")]),
            ("to=x&end_date=x", &[("end_date", "not_with_from_and_to")]),
            ("since=2024-01-15&end_date=2024-01-16", &[("end_date", "not_with_from_and_to")]),
            ("since=2024-01-15&from=2024-01-15", &[("since", "not_with_from")]),
            ("since=2024-01-15&to=2024-01-15", &[("to", "out_of_range")]),
            ("from=2024-01-15&to=2024-01-15", &[("to", "out_of_range")]),
            ("from=2024-01-15&to=2024-01-15T00:00:00Z", &[("to", "out_of_range")]),
            ("from=2024-01-15T00:00:01Z&to=2024-01-15", &[("to", "out_of_range")]),
            ("start_date=2024-01-16&end_date=2024-01-15", &[("end_date", "out_of_range")]),
            ("start_date=2024-01-15&end_date=2024-01-15T00:00:00Z", &[("end_date", "out_of_range")]),
            ("from=2024-01-15T10:30:00", &[("from", "invalid_timestamp")]),
            ("from=2024-01-15T10:30:00&tz=Mars", &[("tz", "unknown_value")]),
            ("tz=Etc/Unknown", &[("tz", "unknown_value")]),
            ("tz=%2B02:00", &[("tz", "unknown_value")]),
            ("from=2024-02-30&to=x", &[("from", "invalid_timestamp"), ("to", "invalid_timestamp")]),
            ("from=2024-W03-1", &[("from", "invalid_timestamp")]),
            ("from=20240115", &[("from", "invalid_timestamp")]),
            ("from=%2D001-01-15", &[("from", "invalid_timestamp")]),
            ("from=2024-01-15T10:30:61&tz=UTC", &[("from", "invalid_timestamp")]),
            ("from=2024-01-15T10:30[UTC]&tz=UTC", &[("from", "invalid_timestamp")]),
            ("from=1705314600", &[("from", "invalid_timestamp")]),
        ] {
            assert_eq!(read(query), Err(errors.to_vec()), "{query}");
        }
        assert!(detail("from=2024-01-15T10:30:00").contains("add one, as in 2024-01-15T10:30:00Z"));
        for form in ["2024-01-15,", "2024-01-15T10:30:00Z", "with tz"] {
            assert!(detail("to=yesterday").contains(form));
        }
        assert!(detail("to=2024-01-15&end_date=2024-01-15").contains("use from and to"));
        // A bound without a value is not an absent one.
        assert_eq!(
            read("from=&to=2024-01-15&tz="),
            Err(vec![("from", "empty_value"), ("tz", "empty_value")])
        );
        // A day that a zone skips is empty, and not backwards.
        let skipped = read("start_date=2011-12-30&end_date=2011-12-30&tz=Pacific/Apia").unwrap();
        assert_eq!((skipped.0, skipped.1), (Some(us("2011-12-30T10:00:00Z")), skipped.0));
    }

    proptest! {
        #[test]
        fn every_way_to_write_a_period_reads_as_the_same_period(
            (at, day, length) in (0..CHANGES.len(), -3..4_i64, 0..5_i64),
            (minute, minutes) in (-3_000..3_000_i64, 1..3_000_i64), forms in prop::array::uniform2(0..4_usize),
        ) {
            let (name, change) = CHANGES[at];
            let (zone, change): (_, Date) = (zone(name), change.parse().unwrap());
            let first = change.saturating_add(day.days());
            let last = first.saturating_add(length.days());
            let (start, end) = (first_minute(&zone, first), first_minute(&zone, last.tomorrow().unwrap()));
            let tz = format!("&tz={name}");
            let whole = Ok((Some(start), Some(end)));
            prop_assert_eq!(&read(&format!("start_date={first}&end_date={last}{tz}")), &whole);
            prop_assert_eq!(&read(&format!("from={first}&to={}{tz}", last.tomorrow().unwrap())), &whole);
            // A bound may be a day and the other a time.
            if start < end {
                prop_assert_eq!(&read(&format!("from={first}&to={}{tz}", rfc3339(end))), &whole);
                prop_assert_eq!(&read(&format!("start_date={first}&end_date={}{tz}", rfc3339(end))), &whole);
                prop_assert_eq!(&read(&format!("start_date={}&end_date={last}{tz}", rfc3339(start))), &whole);
            }
            let from = start + minute * 60_000_000;
            let to = from + minutes * 60_000_000;
            let [from_text, to_text] = [(from, forms[0]), (to, forms[1])].map(|(at, form)| {
                let local = Timestamp::from_microsecond(at).unwrap().to_zoned(zone.clone());
                let is_local = form == 3 && local.datetime().to_zoned(zone.clone()).unwrap() == local;
                match form {
                    1 => rfc3339(at).to_lowercase(),
                    2 => local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().replace('+', "%2B"),
                    _ if is_local => local.datetime().to_string(),
                    _ => rfc3339(at),
                }
            });
            for [first, last] in [["from", "to"], ["start_date", "end_date"], ["since", "to"]] {
                let query = format!("{first}={from_text}&{last}={to_text}{tz}");
                prop_assert_eq!(read(&query), Ok((Some(from), Some(to))), "{}", query);
                let query = format!("{first}={to_text}&{last}={from_text}{tz}");
                prop_assert_eq!(read(&query), Err(vec![(last, "out_of_range")]), "{}", query);
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,30}", at in 0..5_usize) {
            let text = percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC);
            let _ = read(&format!("{}={text}&tz=Europe/Berlin", PERIOD[at]));
        }
    }
}
