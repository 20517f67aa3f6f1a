//! The filters of an export: one list of their names, from which parsing, pointers and messages follow.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::body::ExportRows;
use crate::api::members::{Member, Wrong};
use crate::base::money::without_exponent;
use crate::query::{ParameterError, Parameters};

/// How a filter is written in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    /// An array of strings, or one string.
    Texts,
    /// A decimal string, or a number with the same digits.
    Amount,
    /// An integer of 64 bits.
    Integer,
}

/// One filter, and the rows that have it.
#[derive(Debug)]
struct FilterRow {
    name: &'static str,
    pointer: &'static str,
    kind: Kind,
    rows: &'static [ExportRows],
    /// Set if the value may be the name of a person. The other values are words of the server's own, times, amounts,
    /// or names of goods, and equal the id of a person only by chance.
    may_name_people: bool,
}

macro_rules! filter {
    ($name:literal, $kind:ident, $rows:expr, $may_name_people:literal) => {
        FilterRow {
            name: $name,
            pointer: concat!("/filters/", $name),
            kind: Kind::$kind,
            rows: $rows,
            may_name_people: $may_name_people,
        }
    };
}

const ALL: &[ExportRows] = &[ExportRows::Orders, ExportRows::Items, ExportRows::Events, ExportRows::Clicks];
const ORDERS: &[ExportRows] = &[ExportRows::Orders, ExportRows::Items];
const EVENTS: &[ExportRows] = &[ExportRows::Events];
const CLICKS: &[ExportRows] = &[ExportRows::Clicks];

/// Every filter. The values have the rules of the query parameters of the same name.
const FILTERS: &[FilterRow] = &[
    filter!("from", Text, ALL, false),
    filter!("to", Text, ALL, false),
    filter!("start_date", Text, ALL, false),
    filter!("end_date", Text, ALL, false),
    filter!("tz", Text, ALL, false),
    filter!("order_id", Text, ORDERS, true),
    filter!("customer_id", Text, ORDERS, true),
    filter!("product_id", Texts, ORDERS, false),
    filter!("category", Text, ORDERS, false),
    filter!("min_price", Amount, ORDERS, false),
    filter!("max_price", Amount, ORDERS, false),
    filter!("currency", Text, ORDERS, false),
    filter!("status", Texts, ORDERS, false),
    filter!("min_total", Amount, ORDERS, false),
    filter!("max_total", Amount, ORDERS, false),
    filter!("q", Text, ORDERS, true),
    filter!("source", Text, EVENTS, true),
    filter!("event_type", Text, EVENTS, true),
    filter!("user_id", Integer, CLICKS, false),
];

/// Returns the names of the filters that these rows have.
pub(super) fn names(rows: ExportRows) -> impl Iterator<Item = &'static str> {
    FILTERS.iter().filter(move |row| row.rows.contains(&rows)).map(|row| row.name)
}

/// Returns the JSON Pointer of a filter.
pub(super) fn pointer_of(name: &str) -> &'static str {
    FILTERS.iter().find(|row| row.name == name).map_or("/filters", |row| row.pointer)
}

/// The value of one filter, as in the request, so that people can read it later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum FilterValue {
    Integer(i64),
    Text(String),
    Texts(Vec<String>),
}

/// The filters that select rows, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Filters(BTreeMap<String, FilterValue>);

/// Returns a JSON number as an amount, which has no exponent.
fn amount(number: &str) -> Option<String> {
    match number.contains(['e', 'E']) {
        true => without_exponent(number.as_bytes()),
        false => Some(number.to_owned()),
    }
}

impl Filters {
    /// Parses the filters of these rows. Reports every error to `wrong`.
    pub(super) fn read(value: Option<Member<'_>>, rows: ExportRows, wrong: &mut Wrong<'_>) -> Filters {
        let mut filters = Filters::default();
        let Some(value) = value else { return filters };
        let Some(mut members) = value.members() else {
            wrong("/filters", "not_an_object", "filters must be an object with the parameters of a search");
            return filters;
        };
        for row in FILTERS.iter().filter(|row| row.rows.contains(&rows)) {
            let Some(value) = members.take(row.name, row.pointer, wrong) else { continue };
            let text = || value.text().map(|text| FilterValue::Text(text.into_owned()));
            let (read, code, detail) = match row.kind {
                Kind::Text | Kind::Texts if value.has_lone_surrogate() => {
                    (None, "invalid_unicode", "must not contain an unpaired surrogate escape")
                }
                Kind::Text => (text(), "not_a_text", "must be a string"),
                Kind::Texts => (
                    value.texts().map(FilterValue::Texts),
                    "not_a_list",
                    "must be an array of non-empty strings",
                ),
                Kind::Amount => (
                    text().or_else(|| value.number().and_then(amount).map(FilterValue::Text)),
                    "not_a_decimal",
                    "must be a decimal number of at most 400 digits, preferably a string",
                ),
                Kind::Integer => (
                    value.number().and_then(|number| number.parse().ok()).map(FilterValue::Integer),
                    "not_an_integer",
                    "must be an integer of 64 bits",
                ),
            };
            match read {
                Some(FilterValue::Text(text)) if text.is_empty() => {
                    wrong(
                        row.pointer,
                        "empty_value",
                        "the filter has no value: leave it out, or give it one",
                    );
                }
                Some(FilterValue::Texts(texts)) if texts.is_empty() => {
                    let detail =
                        "the list must have at least one value; leave the filter out to select every row";
                    wrong(row.pointer, "too_few", detail);
                }
                Some(read) => _ = filters.0.insert(row.name.to_owned(), read),
                None => wrong(row.pointer, code, detail),
            }
        }
        if !members.is_empty() {
            let all: Vec<_> = names(rows).collect();
            let (last, others) = all.split_last().unwrap_or((&"", &[]));
            let detail = format!(
                "unknown filters; the known filters of these rows are {} and {last}",
                others.join(", ")
            );
            wrong("/filters", "unknown_member", &detail);
        }
        filters
    }

    /// Returns the filters as the parameters of a query of these rows.
    pub(super) fn parameters(&self, rows: ExportRows) -> Parameters {
        let text = |value: &FilterValue| match value {
            FilterValue::Integer(number) => number.to_string(),
            FilterValue::Text(text) => text.clone(),
            FilterValue::Texts(texts) => texts.join(","),
        };
        let pairs: Vec<_> = names(rows).map(|name| (name, self.0.get(name).map(text))).collect();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (*name, value)).collect();
        Parameters::of(&pairs)
    }

    /// Returns the strings of a filter that has several. An id may contain the comma that separates parameters.
    pub(super) fn texts(&self, name: &str) -> &[String] {
        match self.0.get(name) {
            Some(FilterValue::Texts(texts)) => texts,
            Some(FilterValue::Text(text)) => std::slice::from_ref(text),
            _ => &[],
        }
    }

    /// Returns `true` if the filter is present.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Returns the texts of those filters that may name people.
    pub(super) fn that_may_name_people(&self) -> impl Iterator<Item = &str> {
        let rows = FILTERS.iter().filter(|row| row.may_name_people);
        rows.flat_map(|row| self.texts(row.name)).map(String::as_str)
    }

    /// Returns the user whose clicks are selected.
    pub(super) fn user_id(&self) -> Option<i64> {
        match self.0.get("user_id") {
            Some(FilterValue::Integer(user_id)) => Some(*user_id),
            _ => None,
        }
    }
}

/// Converts an error in a parameter to its pointer.
pub(super) fn fault(error: ParameterError) -> super::ExportFault {
    super::ExportFault { pointer: pointer_of(&error.name), code: error.code, detail: error.detail }
}
