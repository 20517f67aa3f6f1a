//! Price events, anomalies and decisions: path and header parsing, responses, refusals.

use super::query::AnomaliesPage;
use super::read::{FirstAnswer, StoredAnomaly};
use crate::api::Problem;
use crate::api::error::{Asker, EventRefused, Refuse, problem, refused as event_refused};
use crate::api::members::{Fault, details};
use crate::api::problem::ErrorItem;
use crate::api::request::{self, Repeated};
use crate::api::write::{self, WriteRefused};
use crate::base::counters::Cell;
use crate::base::ids::Receipt;
use crate::config::AckLevel;
use crate::http::Answer;
use crate::query::QueryError;
use crate::tenants::{Denied, SignatureFault};

/// Why a price event or a decision was refused.
#[derive(Debug, thiserror::Error)]
pub enum PriceRefused {
    #[error("the body is not a valid price event")]
    Body(Vec<Fault>),
    #[error("the request has no event_id, and no Idempotency-Key or webhook-id to use in its place")]
    NoEventId,
    #[error(
        "an Idempotency-Key or webhook-id used as the event_id must have 1 to 200 visible ASCII characters"
    )]
    BadHeader,
    #[error("the product has a price event with this event_id and other content; the first one remains")]
    Conflict,
    #[error("the Idempotency-Key or webhook-id was used with another event_id of this product")]
    KeyReused,
    #[error(transparent)]
    Key(WriteRefused),
    #[error("{0}")]
    Signature(SignatureFault),
    #[error("the body is not a valid review")]
    InvalidReview(Vec<Fault>),
    #[error("this tenant or product has no anomaly with this id")]
    NoSuchAnomaly,
    #[error("the anomaly was decided otherwise")]
    Reviewed,
    #[error("the decision is in the journal, but its shard does not commit; a retry is safe")]
    NotCommitted,
    #[error("the journal record could not be stored as a row")]
    NotStored,
    #[error(transparent)]
    Query(QueryError),
    #[error("refused like any event")]
    Event(EventRefused),
}

impl From<SignatureFault> for PriceRefused {
    fn from(fault: SignatureFault) -> PriceRefused {
        PriceRefused::Signature(fault)
    }
}

impl<E: Into<EventRefused>> From<E> for PriceRefused {
    fn from(refused: E) -> PriceRefused {
        PriceRefused::Event(refused.into())
    }
}

impl Refuse for PriceRefused {
    fn answer(&self, asker: &Asker<'_>) -> Answer {
        refused(self, asker.body_bytes_max, asker.request_id, asker.problems)
    }
}

/// Returns the header value used as an event's id: `Idempotency-Key`, or else `webhook-id`. In a signed request, only
/// `webhook-id` counts, because only this header is signed. If `Idempotency-Key` counted too, anyone could replay the
/// request with another key and create another event.
pub(super) fn event_id(headers: &hyper::HeaderMap, is_signed: bool) -> Result<String, PriceRefused> {
    let key = if is_signed { Err(WriteRefused::KeyMissing) } else { request::idempotency_key(headers) };
    let given = match key {
        Ok(key) => key,
        Err(WriteRefused::KeyMissing) => {
            let id = request::header(headers, "webhook-id").map_err(|Repeated| PriceRefused::BadHeader)?;
            let id = std::str::from_utf8(id.ok_or(PriceRefused::NoEventId)?);
            id.map_err(|_| PriceRefused::BadHeader)?.to_owned()
        }
        Err(_) => return Err(PriceRefused::BadHeader),
    };
    let is_id = request::is_identifier(&given) && given.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if is_id { Ok(given) } else { Err(PriceRefused::BadHeader) }
}

/// Returns a request's key, which may accompany or replace an event's id. In a signed request, only the signed header
/// counts. A malformed key is ignored.
#[must_use]
pub(super) fn key(headers: &hyper::HeaderMap, is_signed: bool) -> Option<String> {
    event_id(headers, is_signed).ok()
}

const JSON: &str = "application/json";

/// Returns the response to a committed price event. Every repetition of the event gets the content of the first
/// response.
#[must_use]
pub(super) fn recorded(first: &FirstAnswer, is_new: bool, level: AckLevel) -> Answer {
    let body = format!("{{\"status\":\"recorded\",\"anomaly\":{}}}", first.anomaly).into_bytes();
    let answer = Answer::new(if is_new { 201 } else { 200 }, JSON, body).with("Firehose-Ack", level.word());
    if is_new { answer } else { answer.with("Idempotent-Replayed", "true") }
}

/// Returns the response to a journaled price event. The event is judged at commit, and a retry returns the result.
#[must_use]
pub(super) fn accepted(event_id: &str, level: AckLevel, receipt: Receipt) -> Answer {
    let body = serde_json::json!({"status": "accepted", "event_id": event_id}).to_string().into_bytes();
    Answer::new(202, JSON, body)
        .with("Firehose-Ack", level.word())
        .with("Firehose-Receipt", receipt.to_string())
}

/// Returns the response to a committed decision.
#[must_use]
pub(super) fn reviewed_as(stored: &StoredAnomaly, is_new: bool, level: AckLevel) -> Answer {
    let answer = Answer::new(200, JSON, stored.json.clone()).with("Firehose-Ack", level.word());
    if is_new { answer } else { answer.with("Idempotent-Replayed", "true") }
}

/// Returns the response with a list of anomalies.
#[must_use]
pub(super) fn page(page: &AnomaliesPage) -> Answer {
    let mut body = b"{\"anomalies\":[".to_vec();
    for (place, line) in page.anomalies.iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&line.json);
    }
    let cursor = page.next_cursor.as_ref().map_or("null".to_owned(), |cursor| format!("\"{cursor}\""));
    body.extend_from_slice(format!("],\"next_cursor\":{cursor}}}").as_bytes());
    Answer::new(200, JSON, body).with("Cache-Control", "no-store")
}

/// Returns the response head of a stream.
#[must_use]
pub(super) fn streamed() -> Answer {
    // `X-Accel-Buffering` makes nginx forward events without buffering.
    Answer::new(200, "text/event-stream", &b""[..])
        .with("Cache-Control", "no-store")
        .with("X-Accel-Buffering", "no")
}

/// Returns the response to a refusal. `body_bytes_max` is the endpoint's limit.
#[must_use]
pub(super) fn refused(
    refused: &PriceRefused,
    body_bytes_max: u64,
    request_id: &str,
    problems: &[Cell],
) -> Answer {
    let kind = match refused {
        PriceRefused::Body(faults) => {
            let detail = format!("the JSON is not a valid price event: {}", details(faults));
            let items: Vec<_> = faults.iter().map(ErrorItem::from).collect();
            return problem(Problem::InvalidEvent, &detail, request_id, &items, &[], problems);
        }
        PriceRefused::InvalidReview(faults) => {
            let items: Vec<_> = faults.iter().map(ErrorItem::from).collect();
            return problem(Problem::InvalidReview, &details(faults), request_id, &items, &[], problems);
        }
        PriceRefused::NoEventId => {
            let detail = "event_id is missing, and the request has no Idempotency-Key or webhook-id to use \
                          in its place";
            let item = ErrorItem {
                pointer: Some("/event_id"),
                code: "missing_field",
                detail,
                ..ErrorItem::default()
            };
            return problem(Problem::InvalidEvent, detail, request_id, &[item], &[], problems);
        }
        PriceRefused::BadHeader => Problem::IdempotencyKeyMissing,
        PriceRefused::Conflict | PriceRefused::KeyReused => Problem::PriceEventConflict,
        PriceRefused::Key(error) => {
            return Answer { close: false, ..write::refused(error, request_id, problems) };
        }
        PriceRefused::Signature(_) => {
            let answer = problem(Problem::BadSignature, &refused.to_string(), request_id, &[], &[], problems);
            return answer.with("WWW-Authenticate", "Webhook-Signature realm=\"firehose\"");
        }
        PriceRefused::NoSuchAnomaly => Problem::NoSuchAnomaly,
        PriceRefused::Reviewed => Problem::AlreadyReviewed,
        PriceRefused::NotCommitted => Problem::OutcomeUnknown,
        PriceRefused::NotStored => Problem::Internal,
        PriceRefused::Query(error) => return crate::api::reads::refused(error, request_id, problems),
        PriceRefused::Event(EventRefused::Denied(denied @ Denied::Limited(_))) => {
            return crate::api::access::denied(*denied, request_id, problems);
        }
        PriceRefused::Event(refused) => return event_refused(refused, body_bytes_max, request_id, problems),
    };
    problem(kind, &refused.to_string(), request_id, &[], &[], problems)
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::*;

    #[test]
    fn a_header_stands_for_the_id() {
        let id = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            (event_id(&headers, false), event_id(&headers, true))
        };
        let unsigned = |pairs: &[(&'static str, &str)]| id(pairs).0;
        let signed = |pairs: &[(&'static str, &str)]| id(pairs).1;
        let both = [("webhook-id", "m"), ("idempotency-key", "\"k\"")];
        assert_eq!((unsigned(&both).unwrap(), signed(&both).unwrap()), ("k".to_owned(), "m".to_owned()));
        assert_eq!(unsigned(&both[..1]).unwrap(), "m");
        assert!(matches!(unsigned(&[]), Err(PriceRefused::NoEventId)));
        assert!(matches!(signed(&both[1..]), Err(PriceRefused::NoEventId)));
        let long = "x".repeat(201);
        for pairs in [
            &[("webhook-id", "a"), ("webhook-id", "b")][..],
            &[("webhook-id", "")],
            &[("idempotency-key", long.as_str())],
        ] {
            assert!(matches!(unsigned(pairs), Err(PriceRefused::BadHeader)), "{pairs:?}");
        }
    }

    #[test]
    fn a_key_that_can_be_no_id_stands_for_nothing() {
        let key_of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.append("idempotency-key", value.parse().unwrap());
            key(&headers, false)
        };
        assert_eq!(key_of("\"k 1\"").as_deref(), Some("k 1"));
        for value in ["", "\"\"", "\u{e9}", &"x".repeat(201)] {
            assert_eq!(key_of(value), None, "{value:?}");
        }
    }
}
