//! The conversion of a query string to a plan, or to a list of all its errors.

use std::borrow::Cow;

use super::filter::{Filter, Selection};
use super::pairs::Pairs;
use super::period::{PERIOD, Period};
use crate::base::limits::IDENTIFIER_BYTES_MAX;
use crate::base::money::parse_bound;

/// The default number of rows on a page.
const PAGE_SIZE: usize = 100;
/// The maximum number of rows on a page.
const PAGE_SIZE_MAX: usize = 1_000;
/// Rows that `page=` may skip. Beyond that, only a cursor is fast.
const SKIP_MAX: u64 = 1_000_000;

/// An error in one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterError {
    /// The parameter's name; empty if it does not look like one.
    pub name: Cow<'static, str>,
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

/// The parameters of a query string by name, and the errors so far.
pub struct Parameters {
    known: Cow<'static, [&'static str]>,
    values: Vec<Option<String>>,
    errors: Vec<ParameterError>,
}

impl Parameters {
    /// Parses a query string. Only these parameters are known.
    pub fn read(query: Option<&str>, known: &'static [&'static str]) -> Parameters {
        Parameters::parse(query, known.into())
    }

    /// Parses a query string of a route that filters by time. The parameters of a [`Period`] are known, too.
    pub fn with_period(query: Option<&str>, known: &[&'static str]) -> Parameters {
        Parameters::parse(query, [known, &PERIOD].concat().into())
    }

    fn parse(query: Option<&str>, known: Cow<'static, [&'static str]>) -> Parameters {
        let Pairs { values, errors } = Pairs::read(query.unwrap_or_default(), &known);
        Parameters { known, values, errors }
    }

    /// Creates parameters from names and values. Only these names are known.
    #[must_use]
    pub fn of(given: &[(&'static str, &Option<String>)]) -> Parameters {
        let (known, values): (Vec<_>, _) =
            given.iter().map(|(name, value)| (*name, (*value).clone())).unzip();
        Parameters { known: known.into(), values, errors: Vec::new() }
    }

    pub fn wrong(&mut self, name: &'static str, code: &'static str, detail: &str) {
        self.errors.push(ParameterError { name: name.into(), code, detail: detail.to_owned() });
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

    /// Returns a whole number that bounds others. It may lie beyond every stored number.
    pub fn whole_bound(&mut self, name: &'static str) -> Option<i128> {
        let bound = parse_bound(self.value(name)?.as_bytes(), 0).ok();
        if bound.is_none() {
            self.wrong(name, "not_a_whole_number", &format!("{name} must be a whole number such as 10"));
        }
        bound
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

    /// Returns `true` if the parameter has a value.
    #[must_use]
    pub fn is_given(&self, name: &str) -> bool {
        let at = self.known.iter().position(|known| *known == name);
        at.is_some_and(|at| self.values[at].is_some())
    }

    /// Returns the prefix of ids, which is empty by default.
    pub fn prefix(&mut self) -> String {
        self.text("prefix", IDENTIFIER_BYTES_MAX).unwrap_or_default()
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
        let period = Period::read(&mut parameters);
        let filter = Filter::new(of, period.range(parameters.descending()));
        let paging = parameters.paging();
        parameters.done(RowsPlan { filter, paging })
    }
}
