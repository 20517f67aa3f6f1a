//! The commerce endpoints: parsing of requests, responses, and refusals.

use std::borrow::Cow;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::Problem;
use super::error::{Asker, EventRefused, Refuse, problem, refused as event_refused};
use super::problem::ErrorItem;
use super::write::WriteRefused;
use crate::base::counters::Cell;
use crate::base::limits::IDENTIFIER_BYTES_MAX;
use crate::base::order_status::OrderStatus;
use crate::commerce::{IngestError, SkippedPart, Summary};
use crate::config::AckLevel;
use crate::event::parse_rfc3339;
use crate::http::{Answer, Refusal};
use crate::ingest;
use crate::query::QueryError;
use crate::unpack::UnpackError;

/// Maximum length of an idempotency key.
pub(super) const KEY_BYTES_MAX: usize = 255;

/// A header that must not be repeated is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated;

/// The value of a header that must not be repeated.
pub fn header<'h>(headers: &'h hyper::HeaderMap, name: &str) -> Result<Option<&'h [u8]>, Repeated> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(hyper::header::HeaderValue::as_bytes);
    if values.next().is_some() { Err(Repeated) } else { Ok(value) }
}

/// The key of a request, without its quotes.
pub fn ingest_key(headers: &hyper::HeaderMap) -> Result<String, WriteRefused> {
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

/// The summary of a finished ingest.
#[must_use]
pub fn ingested(summary: Vec<u8>, level: AckLevel) -> Answer {
    Answer::new(200, "application/json", summary).with("Firehose-Ack", level.word())
}

/// The stored response of an earlier request.
#[must_use]
pub fn replayed(response: String, level: AckLevel) -> Answer {
    ingested(response.into_bytes(), level).with("Idempotent-Replayed", "true")
}

/// An ingest that ended early, and the outcome of its rows so far.
#[derive(Debug)]
pub struct IngestEnded {
    pub refused: WriteRefused,
    pub summary: Option<Summary>,
}

impl From<WriteRefused> for IngestEnded {
    fn from(refused: WriteRefused) -> IngestEnded {
        IngestEnded { refused, summary: None }
    }
}

impl Refuse for IngestEnded {
    fn answer(&self, asker: &Asker<'_>) -> Answer {
        ingest_refused(&self.refused, self.summary.as_ref(), asker.request_id, asker.problems)
    }
}

/// The response to an ingest that ended early. Rows that were committed remain and are counted.
#[must_use]
pub fn ingest_refused(
    error: &WriteRefused,
    summary: Option<&Summary>,
    request_id: &str,
    problems: &[Cell],
) -> Answer {
    let kind = match error {
        WriteRefused::KeyMissing | WriteRefused::KeyMalformed => Problem::IdempotencyKeyMissing,
        WriteRefused::KeyReused => Problem::IdempotencyKeyReused,
        WriteRefused::Running => Problem::IngestRunning,
        WriteRefused::AckParameter => Problem::BadParameter,
        WriteRefused::ContentType | WriteRefused::ContentCoding => Problem::UnsupportedMediaType,
        WriteRefused::Multipart(_) => Problem::DamagedUpload,
        WriteRefused::Unpack(error) if error.is_limit() => Problem::PayloadTooLarge,
        WriteRefused::Unpack(UnpackError::Unsupported { .. }) => Problem::UnsupportedMediaType,
        WriteRefused::Unpack(_) => Problem::DamagedUpload,
        WriteRefused::NothingKnown(_) => Problem::NoOrders,
        WriteRefused::Refusal(Refusal::BodyTimeout) => Problem::RequestTimeout,
        WriteRefused::Refusal(Refusal::BuffersFull) => Problem::Overloaded,
        WriteRefused::Refusal(_) => Problem::BadRequest,
        WriteRefused::NotCommitted => Problem::OutcomeUnknown,
        WriteRefused::Unsynced => Problem::JournalUnsynced,
        WriteRefused::Pressure(pressure) => {
            let refused = EventRefused::Refused(ingest::Refused::Pressure(*pressure));
            let answer = event_refused(&refused, 0, request_id, problems);
            // The rest of the body is not read.
            let answer = Answer { close: true, ..answer };
            return summary.map_or(answer.clone(), |summary| with_members(answer, &Counts::of(summary)));
        }
        WriteRefused::CoreBusy => Problem::Overloaded,
        WriteRefused::Query(error) => return super::reads::refused(error, request_id, problems),
        WriteRefused::Denied(denied) => {
            return Answer { close: true, ..super::access::denied(*denied, request_id, problems) };
        }
    };
    let mut answer = problem(kind, &error.to_string(), request_id, &[], &[], problems);
    if let Some(summary) = summary {
        answer = with_members(answer, &Counts::of(summary));
        if matches!(error, WriteRefused::NothingKnown(_)) {
            answer = with_members(answer, &faults(summary));
        }
    }
    // If the body was not read to its end, the next request cannot be found.
    let is_unread = !matches!(
        error,
        WriteRefused::KeyReused | WriteRefused::NotCommitted | WriteRefused::NothingKnown(_)
    );
    let answer = Answer { close: is_unread, ..answer };
    match kind {
        Problem::IngestRunning => answer.with("Retry-After", Cow::Borrowed("2")),
        _ => answer,
    }
}

/// The outcome of the rows of an ingest that ended early.
#[derive(serde::Serialize)]
struct Counts {
    rows_received: u64,
    rows_inserted: u64,
    rows_duplicate: u64,
    rows_failed: u64,
}

impl Counts {
    fn of(summary: &Summary) -> Counts {
        Counts {
            rows_received: summary.received(),
            rows_inserted: summary.inserted,
            rows_duplicate: summary.duplicate,
            rows_failed: summary.failed,
        }
    }
}

/// The errors of the lines, and the skipped parts: members that a summary has too.
#[derive(serde::Serialize)]
struct Faults<'s> {
    errors: &'s [IngestError],
    errors_truncated: bool,
    skipped: &'s [SkippedPart],
    skipped_truncated: bool,
}

fn faults(summary: &Summary) -> Faults<'_> {
    let (errors_truncated, skipped_truncated) = summary.is_truncated();
    Faults { errors: summary.errors(), errors_truncated, skipped: summary.skipped(), skipped_truncated }
}

/// The problem document with more members at its end.
fn with_members(answer: Answer, members: &impl serde::Serialize) -> Answer {
    let (mut body, more) = (answer.body.into_owned(), serde_json::to_vec(members).unwrap_or_default());
    if let ([.., b'}'], [b'{', more @ ..]) = (&body[..], &more[..])
        && more != b"}"
    {
        body.pop();
        body.push(b',');
        body.extend_from_slice(more);
    }
    Answer { body: Cow::Owned(body), ..answer }
}

/// Whether a text is a valid id of a tenant, an order or a product.
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    (1..=IDENTIFIER_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Percent-decodes a part of a path. A result that is not UTF-8 is not a valid identifier either.
pub(super) fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8().map(Cow::into_owned).unwrap_or_default()
}

/// Percent-encodes a part of a path.
#[must_use]
pub fn encoded(part: &str) -> String {
    percent_encode(part.as_bytes(), NON_ALPHANUMERIC).to_string()
}

/// The response to a path with an invalid tenant.
#[must_use]
pub fn no_such_tenant(request_id: &str, problems: &[Cell]) -> Answer {
    let detail = format!(
        "a tenant name must have 1 to {IDENTIFIER_BYTES_MAX} bytes without control \
                          characters"
    );
    problem(Problem::NotFound, &detail, request_id, &[], &[], problems)
}

/// Why a status change is refused.
#[derive(Debug, thiserror::Error)]
pub enum StatusRefused {
    #[error(
        "the body must be a JSON object with a status: pending, paid, shipped, delivered, cancelled or \
         refunded"
    )]
    Invalid,
    #[error("occurred_at must be RFC 3339 with an offset, and at most 24 hours ahead of the server's clock")]
    OccurredAt,
    #[error("this tenant has no order with this id")]
    NoSuchOrder,
    #[error(
        "this order would take the sales of its day in its currency beyond 9223372036854775807 units or \
         minor units; nothing was changed"
    )]
    SumTooLarge,
    #[error(transparent)]
    Ingest(#[from] WriteRefused),
}

/// Why an order is not returned.
#[derive(Debug)]
pub enum OrderNotRead {
    NoSuchOrder,
    Query(QueryError),
}

impl From<QueryError> for OrderNotRead {
    fn from(error: QueryError) -> OrderNotRead {
        OrderNotRead::Query(error)
    }
}

impl Refuse for OrderNotRead {
    fn answer(&self, asker: &Asker<'_>) -> Answer {
        match self {
            OrderNotRead::NoSuchOrder => StatusRefused::NoSuchOrder.answer(asker),
            OrderNotRead::Query(error) => error.answer(asker),
        }
    }
}

/// One order, from its line.
#[must_use]
pub fn order(mut line: Vec<u8>) -> Answer {
    line.pop_if(|last| *last == b'\n');
    Answer::new(200, "application/json", line).with("Cache-Control", "no-store")
}

/// Maximum time by which `occurred_at` may be ahead of the clock: a status from the far future would block all others
/// until then.
const AHEAD_US: i64 = 86_400_000_000;

/// The status in a body, and its time. Default: now.
pub fn status(body: &[u8], now_us: i64) -> Result<(OrderStatus, i64), StatusRefused> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Change {
        status: String,
        occurred_at: Option<String>,
    }
    let change: Change = serde_json::from_slice(body).map_err(|_| StatusRefused::Invalid)?;
    let status = OrderStatus::parse(&change.status).ok_or(StatusRefused::Invalid)?;
    let occurred_us = match &change.occurred_at {
        None => now_us,
        Some(at) => parse_rfc3339(at.as_bytes()).map_err(|_| StatusRefused::OccurredAt)?,
    };
    let is_ahead = occurred_us > now_us.saturating_add(AHEAD_US);
    if is_ahead { Err(StatusRefused::OccurredAt) } else { Ok((status, occurred_us)) }
}

/// The response to a status that is older than the last applied one.
#[must_use]
pub fn status_superseded(order_id: &str, status: OrderStatus, level: AckLevel) -> Answer {
    let body = serde_json::json!({
        "order_id": order_id, "status": status.as_str(), "changed": false, "superseded": true,
    });
    Answer::new(200, "application/json", body.to_string().into_bytes()).with("Firehose-Ack", level.word())
}

/// The response to a committed status.
#[must_use]
pub fn status_changed(order_id: &str, status: OrderStatus, changed: bool, level: AckLevel) -> Answer {
    let body = serde_json::json!({"order_id": order_id, "status": status.as_str(), "changed": changed});
    Answer::new(200, "application/json", body.to_string().into_bytes()).with("Firehose-Ack", level.word())
}

impl Refuse for StatusRefused {
    fn answer(&self, asker: &Asker<'_>) -> Answer {
        status_refused(self, asker.request_id, asker.problems)
    }
}

/// The response to a refused status.
#[must_use]
pub fn status_refused(error: &StatusRefused, request_id: &str, problems: &[Cell]) -> Answer {
    let detail = error.to_string();
    let kind = match error {
        StatusRefused::Invalid | StatusRefused::OccurredAt => Problem::InvalidStatus,
        StatusRefused::NoSuchOrder => Problem::NoSuchOrder,
        StatusRefused::SumTooLarge => {
            let item = ErrorItem {
                pointer: Some("/status"),
                code: "amount_out_of_range",
                detail: &detail,
                ..ErrorItem::default()
            };
            return problem(Problem::InvalidStatus, &detail, request_id, &[item], &[], problems);
        }
        StatusRefused::Ingest(error) => {
            return Answer { close: false, ..ingest_refused(error, None, request_id, problems) };
        }
    };
    problem(kind, &detail, request_id, &[], &[], problems)
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
    fn a_status_is_one_of_six() {
        assert!(matches!(status(br#"{"status":"refunded"}"#, 9), Ok((OrderStatus::Refunded, 9))));
        for body in [&b"{}"[..], b"", br#"{"status":"lost"}"#, br#"{"status":"paid","x":1}"#, b"[1]"] {
            assert!(matches!(status(body, 9), Err(StatusRefused::Invalid)));
        }
    }

    #[test]
    fn a_status_may_say_when_it_became_so() {
        let at =
            |time: &str| status(format!("{{\"status\":\"paid\",\"occurred_at\":\"{time}\"}}").as_bytes(), 9);
        assert!(matches!(at("1969-12-31T23:59:59Z"), Ok((OrderStatus::Paid, -1_000_000))));
        assert!(matches!(at("1970-01-02T00:00:00.000009Z"), Ok((_, 86_400_000_009))));
        for time in ["1970-01-02T00:00:00.000010Z", "1970-01-01T00:00:00", "soon", ""] {
            assert!(matches!(at(time), Err(StatusRefused::OccurredAt)), "{time}");
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
        assert!(matches!(key(&[]), Err(WriteRefused::KeyMissing)));
        let long = "x".repeat(256);
        for values in [&["a", "b"][..], &[""], &["\"\""], &[long.as_str()]] {
            assert!(matches!(key(values), Err(WriteRefused::KeyMalformed)), "{values:?}");
        }
    }
}
