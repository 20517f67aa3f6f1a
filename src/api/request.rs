//! The parts of a request that endpoints read besides its body: identifiers in paths, headers that must not be
//! repeated, the idempotency key.

use std::borrow::Cow;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::Problem;
use super::error::{EventRefused, problem};
use super::write::WriteRefused;
use crate::base::counters::Cell;
use crate::base::limits::IDENTIFIER_BYTES_MAX;
use crate::config::AckLevel;
use crate::http::Answer;
use crate::query::query_value;

/// The maximum length of an idempotency key.
pub(super) const KEY_BYTES_MAX: usize = 255;

/// A header that must not be repeated is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated;

/// Returns the value of a header that must not be repeated.
pub fn header<'h>(headers: &'h hyper::HeaderMap, name: &str) -> Result<Option<&'h [u8]>, Repeated> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(hyper::header::HeaderValue::as_bytes);
    if values.next().is_some() { Err(Repeated) } else { Ok(value) }
}

/// Returns `true` if the response must wait for the disk: because of the server's level, or because of `?ack=disk`.
/// The parameter can only strengthen the server's level.
#[inline]
pub fn wants_disk(query: Option<&str>, level: AckLevel) -> Result<bool, EventRefused> {
    let disk = level == AckLevel::Disk;
    match query {
        None | Some("ack=os") => Ok(disk),
        Some("ack=disk") => Ok(true),
        Some(query) => match query_value(query, "ack").as_deref() {
            Some("disk") => Ok(true),
            Some("os") | None => Ok(disk),
            Some(_) => Err(EventRefused::AckParameter),
        },
    }
}

/// Returns a request's idempotency key, without its quotes.
pub fn idempotency_key(headers: &hyper::HeaderMap) -> Result<String, WriteRefused> {
    let key = header(headers, "idempotency-key").map_err(|Repeated| WriteRefused::KeyMalformed)?;
    let key = key.ok_or(WriteRefused::KeyMissing)?;
    let key = match key {
        [b'"', inner @ .., b'"'] => inner,
        bare => bare,
    };
    let is_key =
        (1..=KEY_BYTES_MAX).contains(&key.len()) && key.iter().all(|byte| (0x20..0x7f).contains(byte));
    match std::str::from_utf8(key) {
        Ok(key) if is_key => Ok(key.to_owned()),
        _ => Err(WriteRefused::KeyMalformed),
    }
}

/// Returns `true` if a string is a valid tenant, order or product id.
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    (1..=IDENTIFIER_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Percent-decodes a part of a path. A result that is not UTF-8 is never a valid identifier.
pub(super) fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8().map(Cow::into_owned).unwrap_or_default()
}

/// Percent-encodes a part of a path.
#[must_use]
pub fn encoded(part: &str) -> String {
    percent_encode(part.as_bytes(), NON_ALPHANUMERIC).to_string()
}

/// Returns the response to a path with an invalid tenant.
#[must_use]
pub fn no_such_tenant(request_id: &str, problems: &[Cell]) -> Answer {
    let detail = format!(
        "a tenant name must have 1 to {IDENTIFIER_BYTES_MAX} bytes without control \
                          characters"
    );
    problem(Problem::NotFound, &detail, request_id, &[], &[], problems)
}

/// Returns the response to a path with an invalid product.
#[must_use]
pub fn no_such_product(request_id: &str, problems: &[Cell]) -> Answer {
    let detail = "a product id must have 1 to 200 bytes without control characters";
    problem(Problem::NotFound, detail, request_id, &[], &[], problems)
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::*;

    #[test]
    fn a_tenant_in_a_path_can_be_one_or_not() {
        let is_tenant = |part| is_identifier(&decoded(part));
        assert!(is_tenant("t") && !is_tenant("") && !is_tenant("a%00b") && !is_tenant("%ff"));
    }

    #[test]
    fn a_key_may_be_quoted_and_must_be_one() {
        let key = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("idempotency-key", value.parse().unwrap());
            }
            idempotency_key(&headers)
        };
        assert_eq!(key(&["abc"]).unwrap(), "abc");
        assert_eq!(key(&["\"a b\""]).unwrap(), "a b");
        assert!(matches!(key(&[]), Err(WriteRefused::KeyMissing)));
        let long = "x".repeat(256);
        for values in [&["a", "b"][..], &[""], &["\"\""], &[long.as_str()]] {
            assert!(matches!(key(values), Err(WriteRefused::KeyMalformed)), "{values:?}");
        }
    }

    #[test]
    fn a_request_may_ask_for_more_never_for_less() {
        assert!(!wants_disk(None, AckLevel::Os).unwrap());
        assert!(wants_disk(Some("a=b&ack=disk"), AckLevel::Os).unwrap());
        assert!(wants_disk(Some("ack=os"), AckLevel::Disk).unwrap());
        assert!(wants_disk(Some("mode=erase&%61ck=disk"), AckLevel::Os).unwrap());
        assert!(!wants_disk(Some("track=disk&back=disk"), AckLevel::Os).unwrap());
        for query in ["ack=memory", "ack=", "a=b&ack"] {
            assert!(wants_disk(Some(query), AckLevel::Os).is_err(), "{query}");
        }
    }
}
