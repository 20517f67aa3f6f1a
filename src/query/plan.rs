//! The conversion of a query string to a plan, or to a list of all its errors.

use std::borrow::Cow;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use percent_encoding::percent_decode_str;

use super::filter::{Filter, Selection};
use super::local;
use crate::base::limits::{IDENTIFIER_BYTES_MAX, TIME_US_MAX, TIME_US_MIN};
use crate::event::parse_rfc3339_bound;
use crate::shard::read::TimeRange;

/// The default number of rows on a page.
const PAGE_SIZE: usize = 100;
/// The maximum number of rows on a page.
const PAGE_SIZE_MAX: usize = 1_000;
/// Rows that `page=` may skip. Beyond that, only a cursor is fast.
const SKIP_MAX: u64 = 1_000_000;

/// An error in one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterError {
    /// The name of a known parameter; empty for an unknown one.
    pub name: &'static str,
    pub code: &'static str,
    pub detail: String,
}

/// The requested page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paging {
    pub page_size: usize,
    /// The page number, from 1. It cannot be combined with a cursor.
    pub page: u64,
    pub cursor: Option<String>,
}

/// The plan of a query that returns rows in the stream's order.
#[derive(Clone, Debug)]
pub struct RowsPlan {
    pub filter: Filter,
    pub paging: Paging,
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
            Bound::Day(date) => local::time_of(zone, date.to_datetime(jiff::civil::Time::midnight())),
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

/// The parameters of a query string by name, and the errors so far.
pub struct Parameters {
    known: Cow<'static, [&'static str]>,
    values: Vec<Option<String>>,
    errors: Vec<ParameterError>,
}

impl Parameters {
    pub fn read(query: Option<&str>, known: &'static [&'static str]) -> Parameters {
        let mut parameters =
            Parameters { known: known.into(), values: vec![None; known.len()], errors: Vec::new() };
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
                parameters.wrong("", "invalid_encoding", "a parameter is not percent-encoded UTF-8");
                continue;
            };
            let Some(at) = known.iter().position(|known| *known == name) else {
                let detail = format!("unknown parameter; the known parameters are {}", known.join(", "));
                parameters.wrong("", "unknown_parameter", &detail);
                continue;
            };
            // An empty form field counts as absent.
            if value.is_empty() {
                continue;
            }
            if parameters.values[at].replace(value).is_some() {
                parameters.wrong(known[at], "repeated", "a parameter must not be repeated");
            }
        }
        parameters
    }

    /// Creates parameters from names and values. Only these names are known.
    #[must_use]
    pub fn of(given: &[(&'static str, &Option<String>)]) -> Parameters {
        let (known, values): (Vec<_>, _) =
            given.iter().map(|(name, value)| (*name, (*value).clone())).unzip();
        Parameters { known: known.into(), values, errors: Vec::new() }
    }

    pub fn wrong(&mut self, name: &'static str, code: &'static str, detail: &str) {
        self.errors.push(ParameterError { name, code, detail: detail.to_owned() });
    }

    pub fn value(&mut self, name: &'static str) -> Option<String> {
        let at = self.known.iter().position(|known| *known == name)?;
        self.values[at].take()
    }

    pub fn text(&mut self, name: &'static str, bytes_max: usize) -> Option<String> {
        let text = self.value(name)?;
        if text.is_empty() || text.len() > bytes_max || text.chars().any(char::is_control) {
            let detail = format!("{name} must have 1 to {bytes_max} bytes without control characters");
            self.wrong(name, "invalid_text", &detail);
            return None;
        }
        Some(text)
    }

    /// Returns a time or the beginning of a day, clamped to the storable times and the microsecond after them.
    pub fn time(&mut self, name: &'static str, zone: Option<&TimeZone>) -> Option<i64> {
        let bound = self.bound(name, zone)?;
        Some(bound.us(zone.unwrap_or(&TimeZone::UTC)).clamp(TIME_US_MIN, TIME_US_MAX + 1))
    }

    /// Parses a day, a time in the format of bodies or, with a zone, a time of its clock.
    fn bound(&mut self, name: &'static str, zone: Option<&TimeZone>) -> Option<Bound> {
        let text = self.value(name)?;
        let of_clock = |zone| date_time(&text).map(|time| Bound::Time(local::time_of(zone, time)));
        let bound = day(&text)
            .map(Bound::Day)
            .or_else(|| parse_rfc3339_bound(with_plus(&text).as_bytes()).ok().map(Bound::Time))
            .or_else(|| zone.and_then(of_clock));
        if bound.is_none() {
            let detail = format!(
                "{name} must be a date such as 2024-01-15, or an RFC 3339 time with an offset such as \
                 2024-01-15T10:30:00Z"
            );
            self.wrong(name, "invalid_timestamp", &detail);
        }
        bound
    }

    /// Returns the zone that `tz` names.
    pub fn zone(&mut self) -> Option<TimeZone> {
        let zone = TimeZone::get(&self.value("tz")?).ok();
        if zone.is_none() {
            self.wrong("tz", "unknown_value", "tz must be an IANA time zone such as Europe/Berlin");
        }
        zone
    }

    pub fn number<T>(&mut self, name: &'static str, least: T, most: T) -> Option<T>
    where
        T: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        let text = self.value(name)?;
        let number = text.parse().ok().filter(|number| *number >= least && *number <= most);
        if number.is_none() {
            self.wrong(
                name,
                "out_of_range",
                &format!("{name} must be a whole number from {least} to {most}"),
            );
        }
        number
    }

    pub fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.value(name)?;
        let chosen = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if chosen.is_none() {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            self.wrong(name, "unknown_value", &format!("{name} must be {}", words.join(" or ")));
        }
        chosen
    }

    /// Returns the beginning (inclusive) and the end (exclusive) of the range. The parameters are `from` and `to`, or
    /// `start_date` and `end_date`. The day of `end_date` is included. Days are those of the zone. Bounds outside the
    /// storable times are equivalent to the first or the last of these.
    pub fn range(&mut self, zone: Option<&TimeZone>) -> (Option<i64>, Option<i64>) {
        let given = |names: [&str; 2]| {
            let of = |name: &str| self.known.iter().position(|known| *known == name);
            names.into_iter().filter_map(of).any(|at| self.values[at].is_some())
        };
        let is_by_dates = given(["start_date", "end_date"]);
        if is_by_dates && given(["from", "to"]) {
            let detail = "use either from and to, or start_date and end_date, not both";
            self.wrong("start_date", "not_with_from_and_to", detail);
            return (None, None);
        }
        let [first, last] = if is_by_dates { ["start_date", "end_date"] } else { ["from", "to"] };
        let (start, end) = (self.bound(first, zone), self.bound(last, zone));
        let utc = zone.cloned().unwrap_or(TimeZone::UTC);
        let from_us = start.map(|start| start.us(&utc));
        let to_us = end.map(|end| if is_by_dates { end.end_us(&utc) } else { end.us(&utc) });
        let is_backwards = match (start, end) {
            // Days are compared by date, because a day that a zone skipped begins and ends at the same time.
            (Some(Bound::Day(start)), Some(Bound::Day(end))) if is_by_dates => start > end,
            (Some(Bound::Day(start)), Some(Bound::Day(end))) => start >= end,
            _ => from_us.zip(to_us).is_some_and(|(from, to)| from >= to),
        };
        if is_backwards {
            let detail = match is_by_dates {
                true => "end_date must not be before start_date",
                false => "to must be later than from",
            };
            self.wrong(last, "out_of_range", detail);
        }
        let clamped = |us: i64| us.clamp(TIME_US_MIN, TIME_US_MAX + 1);
        (from_us.map(clamped), to_us.map(clamped))
    }

    /// Returns `true` if the parameter has a value.
    #[must_use]
    pub fn is_given(&self, name: &str) -> bool {
        let at = self.known.iter().position(|known| *known == name);
        at.is_some_and(|at| self.values[at].is_some())
    }

    /// Returns the value of the required `tenant_id`.
    pub fn tenant(&mut self) -> String {
        if !self.is_given("tenant_id") {
            self.wrong("tenant_id", "missing_parameter", "tenant_id is required");
        }
        self.text("tenant_id", IDENTIFIER_BYTES_MAX).unwrap_or_default()
    }

    fn paging(&mut self) -> Paging {
        let page_size = self.number("page_size", 1, PAGE_SIZE_MAX).unwrap_or(PAGE_SIZE);
        let page = self.number("page", 1, u64::MAX / PAGE_SIZE_MAX as u64);
        let cursor = self.value("cursor");
        if page.is_some() && cursor.is_some() {
            self.wrong("page", "not_with_cursor", "page cannot be combined with cursor");
        }
        let page = page.unwrap_or(1);
        if (page - 1) * page_size as u64 > SKIP_MAX {
            let detail = format!("pages beyond {SKIP_MAX} rows must be read by following next_cursor");
            self.wrong("page", "out_of_range", &detail);
        }
        Paging { page_size, page, cursor }
    }

    fn descending(&mut self) -> bool {
        self.choice("order", &[("asc", false), ("desc", true)]).unwrap_or(false)
    }

    pub fn done<T>(self, plan: T) -> Result<T, Vec<ParameterError>> {
        if self.errors.is_empty() { Ok(plan) } else { Err(self.errors) }
    }
}

impl RowsPlan {
    /// Parses the parameters that every row endpoint has.
    pub fn new(
        mut parameters: Parameters,
        of: impl Selection + 'static,
    ) -> Result<RowsPlan, Vec<ParameterError>> {
        let zone = parameters.zone();
        let (from_us, to_us) = parameters.range(zone.as_ref());
        let filter = Filter::new(of, TimeRange { from_us, to_us, descending: parameters.descending() });
        let paging = parameters.paging();
        parameters.done(RowsPlan { filter, paging })
    }
}

/// Parses a date in the format that bodies use for the date of a time.
fn day(text: &str) -> Option<Date> {
    let is_one = text.len() == 10 && text.starts_with(|first: char| first.is_ascii_digit());
    if is_one { text.parse().ok() } else { None }
}

/// Parses a date and a time of day without an offset.
fn date_time(text: &str) -> Option<DateTime> {
    let is_one =
        text.get(10..).is_some_and(|time| time.len() > 5 && !time.contains(['Z', 'z', '+', '-', '[']));
    if is_one { text.parse().ok() } else { None }
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

/// Decodes percent-encoding, and `+` as a space. Returns `None` if a `%` is not followed by two digits, or if the
/// result is not UTF-8.
fn decoded(text: &str) -> Option<String> {
    let is_escape =
        |rest: &str| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    if !text.split('%').skip(1).all(is_escape) {
        return None;
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(Cow::into_owned)
}
