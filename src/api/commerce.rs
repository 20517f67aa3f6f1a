//! The commerce endpoints: what is asked of a request, what is answered, and why it is not.

use std::borrow::Cow;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::Problem;
use super::error::{EventRefused, problem, refused as event_refused};
use crate::base::counters::Cell;
use crate::base::limits::IDENTIFIER_BYTES_MAX;
use crate::base::order_status::OrderStatus;
use crate::commerce::Summary;
use crate::http::{Answer, Refusal};
use crate::ingest::{self, Pressure};
use crate::query::QueryError;
use crate::tenants::Denied;
use crate::unpack::UnpackError;

/// Bytes of an idempotency key.
const KEY_BYTES_MAX: usize = 255;

/// Why an ingest of orders has no summary.
#[derive(Debug, thiserror::Error)]
pub enum IngestRefused {
    #[error("the Idempotency-Key header is missing")]
    KeyMissing,
    #[error("an Idempotency-Key has 1 to {KEY_BYTES_MAX} visible ASCII characters, in quotes or not")]
    KeyMalformed,
    #[error("this Idempotency-Key was used for other rows")]
    KeyReused,
    #[error("a request with this Idempotency-Key is running")]
    Running,
    #[error("the content type is not one that orders come in")]
    ContentType,
    #[error("the content coding is not one that orders come in")]
    ContentCoding,
    #[error("the form cannot be read: {0}")]
    Multipart(String),
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    #[error("{0}")]
    Refusal(Refusal),
    #[error("rows are in the journal, but their shard does not commit")]
    NotCommitted,
    #[error("the journal could not be synced to disk; whether the rows will be stored is not certain")]
    Unsynced,
    #[error("the journal takes no more")]
    Pressure(Pressure),
    #[error("the core that keeps these rows does not answer in time")]
    CoreBusy,
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("{}", .0.detail())]
    Denied(Denied),
}

/// A header that may be there once is there several times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated;

/// The value of a header that may be there once.
pub fn header<'h>(headers: &'h hyper::HeaderMap, name: &str) -> Result<Option<&'h [u8]>, Repeated> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(hyper::header::HeaderValue::as_bytes);
    if values.next().is_some() { Err(Repeated) } else { Ok(value) }
}

/// The key of a request, without its quotes.
pub fn ingest_key(headers: &hyper::HeaderMap) -> Result<String, IngestRefused> {
    let key = header(headers, "idempotency-key").map_err(|Repeated| IngestRefused::KeyMalformed)?;
    let key = key.ok_or(IngestRefused::KeyMissing)?;
    let key = match key {
        [b'"', inner @ .., b'"'] => inner,
        bare => bare,
    };
    let is_key =
        (1..=KEY_BYTES_MAX).contains(&key.len()) && key.iter().all(|byte| (0x20..0x7f).contains(byte));
    match std::str::from_utf8(key) {
        Ok(key) if is_key => Ok(key.to_owned()),
        _ => Err(IngestRefused::KeyMalformed),
    }
}

/// What was answered before, once more.
#[must_use]
pub fn replayed(response: String) -> Answer {
    Answer::new(200, "application/json", response.into_bytes()).with("Idempotent-Replayed", "true")
}

/// The answer to an ingest that ended early. What was committed by then stays, and is counted in it.
#[must_use]
pub fn ingest_refused(
    error: &IngestRefused,
    summary: Option<&Summary>,
    request_id: &str,
    problems: &[Cell],
) -> Answer {
    let kind = match error {
        IngestRefused::KeyMissing | IngestRefused::KeyMalformed => Problem::IdempotencyKeyMissing,
        IngestRefused::KeyReused => Problem::IdempotencyKeyReused,
        IngestRefused::Running => Problem::IngestRunning,
        IngestRefused::ContentType | IngestRefused::ContentCoding => Problem::UnsupportedMediaType,
        IngestRefused::Multipart(_) => Problem::DamagedUpload,
        IngestRefused::Unpack(error) if error.is_limit() => Problem::PayloadTooLarge,
        IngestRefused::Unpack(UnpackError::Unsupported { .. }) => Problem::UnsupportedMediaType,
        IngestRefused::Unpack(_) => Problem::DamagedUpload,
        IngestRefused::Refusal(Refusal::BodyTimeout) => Problem::RequestTimeout,
        IngestRefused::Refusal(_) => Problem::BadRequest,
        IngestRefused::NotCommitted => Problem::OutcomeUnknown,
        IngestRefused::Unsynced => Problem::JournalUnsynced,
        IngestRefused::Pressure(pressure) => {
            let refused = EventRefused::Refused(ingest::Refused::Pressure(*pressure));
            return event_refused(&refused, 0, request_id, problems);
        }
        IngestRefused::CoreBusy => Problem::Overloaded,
        IngestRefused::Query(error) => return super::reads::refused(error, request_id, problems),
        IngestRefused::Denied(denied) => {
            return Answer { close: true, ..super::access::denied(*denied, request_id, problems) };
        }
    };
    let counts = summary.map(|summary| {
        [
            ("rows_received", summary.received()),
            ("rows_inserted", summary.inserted),
            ("rows_duplicate", summary.duplicate),
            ("rows_failed", summary.failed),
        ]
    });
    let extra = counts.as_ref().map_or(&[][..], |counts| &counts[..]);
    let answer = problem(kind, &error.to_string(), request_id, &[], extra, problems);
    // Where the body was not read to its end, the next request cannot be found in it.
    let is_unread = !matches!(error, IngestRefused::KeyReused | IngestRefused::NotCommitted);
    let answer = Answer { close: is_unread, ..answer };
    match kind {
        Problem::IngestRunning => answer.with("Retry-After", Cow::Borrowed("2")),
        _ => answer,
    }
}

/// The tenant at the beginning of a path behind `tenants/`.
#[must_use]
pub fn tenant(below: &str) -> String {
    decoded(below.split('/').next().unwrap_or_default())
}

/// Whether it can be one.
#[must_use]
pub fn is_tenant(below: &str) -> bool {
    is_identifier(&tenant(below))
}

/// The order in `{tenant}/orders/{order}`.
#[must_use]
pub fn order(below: &str) -> String {
    decoded(below.split('/').nth(2).unwrap_or_default())
}

/// Whether a text can be a tenant's or an order's id.
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    (1..=IDENTIFIER_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// A part of a path without its percent signs; what is no UTF-8 then is no identifier either.
pub(super) fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8().map(Cow::into_owned).unwrap_or_default()
}

/// A part of a path as it has to be written in one.
#[must_use]
pub fn encoded(part: &str) -> String {
    percent_encode(part.as_bytes(), NON_ALPHANUMERIC).to_string()
}

/// The answer to a path whose tenant cannot be one.
#[must_use]
pub fn no_such_tenant(request_id: &str, problems: &[Cell]) -> Answer {
    let detail = format!("a tenant has 1 to {IDENTIFIER_BYTES_MAX} bytes without control characters");
    problem(Problem::NotFound, &detail, request_id, &[], &[], problems)
}

/// Why an order has no new status.
#[derive(Debug, thiserror::Error)]
pub enum StatusRefused {
    #[error(
        "the body is a JSON object with a status: pending, paid, shipped, delivered, cancelled or refunded"
    )]
    Invalid,
    #[error("the tenant has no order with this id")]
    NoSuchOrder,
    #[error(transparent)]
    Ingest(#[from] IngestRefused),
}

/// The status that a body asks for.
pub fn status(body: &[u8]) -> Result<OrderStatus, StatusRefused> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Change {
        status: String,
    }
    let change: Change = serde_json::from_slice(body).map_err(|_| StatusRefused::Invalid)?;
    OrderStatus::parse(&change.status).ok_or(StatusRefused::Invalid)
}

/// The answer to a status that is committed.
#[must_use]
pub fn status_changed(order_id: &str, status: OrderStatus, changed: bool) -> Answer {
    let body = serde_json::json!({"order_id": order_id, "status": status.as_str(), "changed": changed});
    Answer::new(200, "application/json", body.to_string().into_bytes())
}

/// The answer to one that is not.
#[must_use]
pub fn status_refused(error: &StatusRefused, request_id: &str, problems: &[Cell]) -> Answer {
    let kind = match error {
        StatusRefused::Invalid => Problem::InvalidStatus,
        StatusRefused::NoSuchOrder => Problem::NoSuchOrder,
        StatusRefused::Ingest(error) => {
            return Answer { close: false, ..ingest_refused(error, None, request_id, problems) };
        }
    };
    problem(kind, &error.to_string(), request_id, &[], &[], problems)
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::*;

    #[test]
    fn a_path_names_tenant_and_order() {
        assert_eq!(
            (tenant("a%20b/orders/x%2Fy").as_str(), order("a%20b/orders/x%2Fy").as_str()),
            ("a b", "x/y")
        );
        assert_eq!(tenant("100%/x"), "100%");
        // Two digits, and nothing else that is read as a number.
        assert_eq!((tenant("%+1/x").as_str(), tenant("%-1%2/x").as_str()), ("%+1", "%-1%2"));
        assert!(
            is_tenant("t/orders") && !is_tenant("/orders") && !is_tenant("a%00b/x") && !is_tenant("%ff/x")
        );
    }

    #[test]
    fn a_status_is_one_of_six() {
        assert!(matches!(status(br#"{"status":"refunded"}"#), Ok(OrderStatus::Refunded)));
        for body in [&b"{}"[..], b"", br#"{"status":"lost"}"#, br#"{"status":"paid","x":1}"#, b"[1]"] {
            assert!(matches!(status(body), Err(StatusRefused::Invalid)));
        }
    }

    #[test]
    fn a_key_may_be_quoted_and_must_be_one() {
        let key = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("idempotency-key", value.parse().unwrap());
            }
            ingest_key(&headers)
        };
        assert_eq!(key(&["abc"]).unwrap(), "abc");
        assert_eq!(key(&["\"a b\""]).unwrap(), "a b");
        assert!(matches!(key(&[]), Err(IngestRefused::KeyMissing)));
        let long = "x".repeat(256);
        for values in [&["a", "b"][..], &[""], &["\"\""], &[long.as_str()]] {
            assert!(matches!(key(values), Err(IngestRefused::KeyMalformed)), "{values:?}");
        }
    }
}
