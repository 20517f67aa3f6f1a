//! The pairs of a query string: the values of known parameters, and the errors of all others.
//!
//! Every route has the same rule: a parameter that the route does not have, one without a value, and one that is
//! repeated are errors. A filter that is silently dropped would return more rows than requested, and a mode that is
//! dropped would change what is done to them.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::plan::ParameterError;
use crate::config::near;

/// The position from which a stream continues, for clients that cannot set the header `Last-Event-ID`. They spell the
/// name in many ways, and all of them are known.
pub const LAST_EVENT_ID: &str = "last_event_id";

/// The longest unknown name that an error repeats.
const SHOWN_BYTES_MAX: usize = 64;

/// The values of the known parameters, in the order of their names, and the errors.
pub(super) struct Pairs {
    pub values: Vec<Option<String>>,
    pub errors: Vec<ParameterError>,
}

impl Pairs {
    /// Splits a query string. Only these names are known.
    pub(super) fn read<N: AsRef<str>>(query: &str, known: &[N]) -> Pairs {
        let mut pairs = Pairs { values: vec![None; known.len()], errors: Vec::new() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
                pairs.wrong("", "invalid_encoding", "a parameter is not percent-encoded UTF-8".to_owned());
                continue;
            };
            let Some(at) = known.iter().position(|known| is_named(known.as_ref(), &name)) else {
                pairs.wrong(shown(&name), "unknown_parameter", unknown(&name, known));
                continue;
            };
            let name = known[at].as_ref();
            if value.is_empty() {
                let detail = format!("{name} has no value: leave the parameter out, or give it one");
                pairs.wrong(name, "empty_value", detail);
            } else if pairs.values[at].replace(value).is_some() {
                pairs.wrong(name, "repeated", format!("{name} must not be repeated"));
            }
        }
        pairs
    }

    fn wrong(&mut self, name: &str, code: &'static str, detail: String) {
        self.errors.push(ParameterError { name: Cow::Owned(name.to_owned()), code, detail });
    }
}

/// Returns the errors in the names of a query string's parameters, and in their values as far as every route has the
/// same rule.
#[must_use]
pub fn pair_errors<N: AsRef<str>>(query: &str, known: &[N]) -> Vec<ParameterError> {
    Pairs::read(query, known).errors
}

/// Returns the first value of a parameter, decoded.
#[must_use]
pub fn query_value(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut named = pairs.filter(|(known, _)| decoded(known).as_deref() == Some(name));
    named.next().map(|(_, value)| decoded(value).unwrap_or_default())
}

fn is_named(known: &str, name: &str) -> bool {
    known == name || (known == LAST_EVENT_ID && is_last_event_id(name))
}

/// Returns `true` for `lastEventId` (event-source-polyfill), `Last-Event-ID`, `lastEventID`, `evs_last_event_id`, …
fn is_last_event_id(name: &str) -> bool {
    let letters = || name.chars().filter(|sign| !matches!(sign, '-' | '_'));
    ["lasteventid", "evslasteventid"]
        .iter()
        .any(|known| letters().map(|letter| letter.to_ascii_lowercase()).eq(known.chars()))
}

/// Returns the name if it looks like one. Anything else may be data that a client has put in the wrong place.
fn shown(name: &str) -> &str {
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte);
    if name.len() <= SHOWN_BYTES_MAX && name.bytes().all(is_sign) { name } else { "" }
}

fn unknown<N: AsRef<str>>(name: &str, known: &[N]) -> String {
    let said = match shown(name) {
        "" => "unknown parameter".to_owned(),
        name => format!("unknown parameter {name}"),
    };
    let known: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
    if known.is_empty() {
        return format!("{said}; this operation has no parameters");
    }
    let meant = near(name, known.iter().copied());
    let meant = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
    let stop = if meant.is_empty() { ";" } else { "" };
    format!("{said}{meant}{stop} the known parameters are {}", known.join(", "))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(query: &str) -> Vec<(String, &'static str)> {
        let errors = pair_errors(query, &["from", "to", "last_event_id"]);
        errors.into_iter().map(|error| (error.name.into_owned(), error.code)).collect()
    }

    #[test]
    fn a_parameter_that_is_unknown_empty_or_repeated_is_an_error_with_its_name() {
        let at = |name: &str, code| (name.to_owned(), code);
        for query in ["", "&", "from=1&&to=2&", "fr%6fm=1", "lastEventId=7", "evs_last_event_id=7"] {
            assert_eq!(errors(query), [], "{query}");
        }
        assert_eq!(errors("form=1"), [at("form", "unknown_parameter")]);
        assert_eq!(errors("From=1"), [at("From", "unknown_parameter")]);
        assert_eq!(errors("from=&to"), [at("from", "empty_value"), at("to", "empty_value")]);
        assert_eq!(errors("from=1&from=1"), [at("from", "repeated")]);
        assert_eq!(errors("lastEventId=7&Last-Event-ID=7"), [at("last_event_id", "repeated")]);
        assert_eq!(errors("from=%"), [at("", "invalid_encoding")]);
        // A response repeats only text that looks like a name.
        assert_eq!(
            errors("ann@example.com=1&=1"),
            [at("", "unknown_parameter"), at("", "unknown_parameter")]
        );
        assert_eq!(errors(&"x".repeat(65)), [at("", "unknown_parameter")]);
    }

    #[test]
    fn an_unknown_name_leads_to_the_one_that_is_near() {
        let detail = |query: &str, known: &[&str]| pair_errors(query, known)[0].detail.clone();
        assert_eq!(
            detail("form=1", &["from", "to"]),
            "unknown parameter form; did you mean from? the known parameters are from, to"
        );
        assert_eq!(
            detail("colour=1", &["from", "to"]),
            "unknown parameter colour; the known parameters are from, to"
        );
        assert_eq!(detail("x=1", &[]), "unknown parameter x; this operation has no parameters");
        assert_eq!(detail("a b=1", &["to"]), "unknown parameter; the known parameters are to");
    }
}
