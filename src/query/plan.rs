//! From a query string to a plan, with everything that is wrong with it.

use std::borrow::Cow;

use jiff::tz::TimeZone;
use percent_encoding::percent_decode_str;

use crate::base::limits::{IDENTIFIER_BYTES_MAX, NAME_BYTES_MAX};
use crate::event::parse_rfc3339;
use crate::shard::BucketSize;
use crate::shard::read::{Filter, Of};

/// Rows of a page, unless it says; and at most.
const PAGE_SIZE: usize = 100;
const PAGE_SIZE_MAX: usize = 1_000;
/// Rows that `page=` steps over; beyond, only a cursor is quick.
const SKIP_MAX: u64 = 1_000_000;

/// What is wrong with one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterError {
    /// As it was named, where it is one of ours; empty for a name that is not.
    pub name: &'static str,
    pub code: &'static str,
    pub detail: String,
}

/// Which page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paging {
    pub page_size: usize,
    /// From 1; not with a cursor.
    pub page: u64,
    pub cursor: Option<String>,
}

/// Rows in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowsPlan {
    pub filter: Filter,
    pub paging: Paging,
}

/// Counts over time.
#[derive(Clone, Debug)]
pub struct BucketsPlan {
    pub tenant_id: String,
    pub size: BucketSize,
    pub filter: Filter,
    /// `None`: UTC.
    pub zone: Option<TimeZone>,
}

/// The parameters of a query string by name, and what was wrong so far.
pub struct Parameters {
    known: &'static [&'static str],
    values: Vec<Option<String>>,
    errors: Vec<ParameterError>,
}

impl Parameters {
    pub fn read(query: Option<&str>, known: &'static [&'static str]) -> Parameters {
        let mut parameters = Parameters { known, values: vec![None; known.len()], errors: Vec::new() };
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
                parameters.wrong("", "invalid_encoding", "a parameter is not percent-encoded UTF-8");
                continue;
            };
            let Some(at) = known.iter().position(|known| *known == name) else {
                let detail = format!("there is no such parameter here; known are {}", known.join(", "));
                parameters.wrong("", "unknown_parameter", &detail);
                continue;
            };
            if parameters.values[at].replace(value).is_some() {
                parameters.wrong(known[at], "repeated", "a parameter may be given once");
            }
        }
        parameters
    }

    /// The same of values that come by themselves.
    #[must_use]
    pub fn of(known: &'static [&'static str], given: &[(&str, &Option<String>)]) -> Parameters {
        let value = |name: &&str| {
            given.iter().find(|(given, _)| given == name).and_then(|(_, value)| (*value).clone())
        };
        Parameters { known, values: known.iter().map(value).collect(), errors: Vec::new() }
    }

    pub fn wrong(&mut self, name: &'static str, code: &'static str, detail: &str) {
        self.errors.push(ParameterError { name, code, detail: detail.to_owned() });
    }

    pub fn take(&mut self, name: &'static str) -> Option<String> {
        let at = self.known.iter().position(|known| *known == name)?;
        self.values[at].take()
    }

    pub fn text(&mut self, name: &'static str, bytes_max: usize) -> Option<String> {
        let text = self.take(name)?;
        if text.is_empty() || text.len() > bytes_max || text.chars().any(char::is_control) {
            let detail = format!("{name} must have 1 to {bytes_max} bytes without control characters");
            self.wrong(name, "invalid_text", &detail);
            return None;
        }
        Some(text)
    }

    pub fn time(&mut self, name: &'static str) -> Option<i64> {
        // A plus that was not encoded means an offset to the east.
        let text = self.take(name)?.replace(' ', "+");
        let time = parse_rfc3339(text.as_bytes()).ok();
        if time.is_none() {
            let detail = format!("{name} must be RFC 3339 with an offset, such as 2024-01-15T10:30:00Z");
            self.wrong(name, "invalid_timestamp", &detail);
        }
        time
    }

    pub fn number<T>(&mut self, name: &'static str, least: T, most: T) -> Option<T>
    where
        T: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        let text = self.take(name)?;
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
        let text = self.take(name)?;
        let chosen = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if chosen.is_none() {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            self.wrong(name, "unknown_value", &format!("{name} may be {}", words.join(" or ")));
        }
        chosen
    }

    pub fn range(&mut self) -> (Option<i64>, Option<i64>) {
        let (from, to) = (self.time("from"), self.time("to"));
        if from.zip(to).is_some_and(|(from, to)| from >= to) {
            self.wrong("to", "out_of_range", "to must be later than from");
        }
        (from, to)
    }

    fn tenant(&mut self) -> String {
        if !self.values.first().is_some_and(Option::is_some) {
            self.wrong("tenant_id", "missing_parameter", "tenant_id is required");
        }
        self.text("tenant_id", IDENTIFIER_BYTES_MAX).unwrap_or_default()
    }

    fn names(&mut self, tenant_id: String) -> Of {
        let (source, event_type) =
            (self.text("source", NAME_BYTES_MAX), self.text("event_type", NAME_BYTES_MAX));
        Of::Events { tenant_id, source, event_type }
    }

    fn paging(&mut self) -> Paging {
        let page_size = self.number("page_size", 1, PAGE_SIZE_MAX).unwrap_or(PAGE_SIZE);
        let page = self.number("page", 1, u64::MAX / PAGE_SIZE_MAX as u64);
        let cursor = self.take("cursor");
        if page.is_some() && cursor.is_some() {
            self.wrong("page", "not_with_cursor", "a cursor says by itself where its page begins");
        }
        let page = page.unwrap_or(1);
        if (page - 1) * page_size as u64 > SKIP_MAX {
            let detail = format!("pages beyond {SKIP_MAX} rows are read by following next_cursor");
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
    /// Of `GET /events`.
    pub fn events(query: Option<&str>) -> Result<RowsPlan, Vec<ParameterError>> {
        let known =
            &["tenant_id", "source", "event_type", "from", "to", "order", "page", "page_size", "cursor"];
        let mut parameters = Parameters::read(query, known);
        let tenant_id = parameters.tenant();
        let of = parameters.names(tenant_id);
        RowsPlan::finish(parameters, of)
    }

    /// Of `GET /clicks`.
    pub fn clicks(query: Option<&str>) -> Result<RowsPlan, Vec<ParameterError>> {
        let mut parameters =
            Parameters::read(query, &["user_id", "from", "to", "order", "page", "page_size", "cursor"]);
        let user_id = parameters.number("user_id", i64::MIN, i64::MAX);
        RowsPlan::finish(parameters, Of::Clicks { user_id })
    }

    fn finish(mut parameters: Parameters, of: Of) -> Result<RowsPlan, Vec<ParameterError>> {
        let (from_us, to_us) = parameters.range();
        let filter = Filter { of, from_us, to_us, descending: parameters.descending() };
        let paging = parameters.paging();
        parameters.done(RowsPlan { filter, paging })
    }
}

impl BucketsPlan {
    /// Of `GET /metrics?tenant_id=…`.
    pub fn new(query: Option<&str>) -> Result<BucketsPlan, Vec<ParameterError>> {
        let known = &["tenant_id", "source", "event_type", "from", "to", "bucket_size", "tz"];
        let mut parameters = Parameters::read(query, known);
        let tenant_id = parameters.tenant();
        let of = parameters.names(tenant_id.clone());
        let (from_us, to_us) = parameters.range();
        let sizes = [("minute", BucketSize::Minute), ("hour", BucketSize::Hour), ("day", BucketSize::Day)];
        if parameters.values[5].is_none() {
            parameters.wrong(
                "bucket_size",
                "missing_parameter",
                "bucket_size is required: minute, hour or day",
            );
        }
        let size = parameters.choice("bucket_size", &sizes).unwrap_or(BucketSize::Hour);
        let zone = parameters.take("tz").and_then(|name| match TimeZone::get(&name) {
            Ok(zone) => Some(zone),
            Err(_) => {
                parameters.wrong("tz", "unknown_value", "tz must be an IANA time zone such as Europe/Berlin");
                None
            }
        });
        let filter = Filter { of, from_us, to_us, descending: false };
        parameters.done(BucketsPlan { tenant_id, size, filter, zone })
    }
}

/// Percent-decoding, `+` as a space; `None` where a `%` has no two digits behind it or that is not UTF-8.
fn decoded(text: &str) -> Option<String> {
    let is_escape =
        |rest: &str| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    if !text.split('%').skip(1).all(is_escape) {
        return None;
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(Cow::into_owned)
}
