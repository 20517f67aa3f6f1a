//! The order responses: ingest summaries, a status, one order, and refusals.

use std::borrow::Cow;

use super::ingest::{IngestError, SkippedPart, Summary};
use super::status::OrderStatus;
use crate::api::Problem;
use crate::api::error::{Asker, Refuse, problem};
use crate::api::members::{self, Member};
use crate::api::problem::ErrorItem;
use crate::api::write::{WriteRefused, refused};
use crate::base::counters::Cell;
use crate::config::AckLevel;
use crate::event::parse_rfc3339;
use crate::http::Answer;
use crate::query::QueryError;

/// Returns the response to a finished ingest: its summary.
#[must_use]
pub(super) fn ingested(summary: Vec<u8>, level: AckLevel) -> Answer {
    Answer::new(200, "application/json", summary).with("Firehose-Ack", level.word())
}

/// Returns the stored response to an earlier request.
#[must_use]
pub(super) fn replayed(response: String, level: AckLevel) -> Answer {
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

/// Returns the response to an ingest that ended early. Its committed rows remain and are counted.
#[must_use]
pub(super) fn ingest_refused(
    error: &WriteRefused,
    summary: Option<&Summary>,
    request_id: &str,
    problems: &[Cell],
) -> Answer {
    let answer = refused(error, request_id, problems);
    match (error, summary) {
        (_, None) | (WriteRefused::Query(_) | WriteRefused::Denied(_), _) => answer,
        (WriteRefused::NothingKnown(_), Some(summary)) => {
            with_members(with_members(answer, &Counts::of(summary)), &faults(summary))
        }
        (_, Some(summary)) => with_members(answer, &Counts::of(summary)),
    }
}

/// The row counts of an ingest that ended early.
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

/// The line errors and the skipped parts. A summary has the same members.
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

/// Appends members to a problem document.
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

/// Why a status change is refused.
#[derive(Debug, thiserror::Error)]
pub enum StatusRefused {
    #[error(
        "the body must be a JSON object with a status: pending, paid, shipped, delivered, cancelled or \
         refunded"
    )]
    Invalid,
    #[error("the body has more than one {}", &.0[1..])]
    Repeated(&'static str),
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

/// Returns the response for one order. `line` is the order as a line of JSON.
#[must_use]
pub(super) fn order(mut line: Vec<u8>) -> Answer {
    line.pop_if(|last| *last == b'\n');
    Answer::new(200, "application/json", line).with("Cache-Control", "no-store")
}

/// The maximum time by which `occurred_at` may be ahead of the clock. A status from the far future would block every
/// other status change until that time.
const AHEAD_US: i64 = 86_400_000_000;

/// Parses the status in a body, and its time. The default time is now.
pub(super) fn status(body: &[u8], now_us: i64) -> Result<(OrderStatus, i64), StatusRefused> {
    let mut members = Member::of(body).and_then(Member::members).ok_or(StatusRefused::Invalid)?;
    let mut repeated = None;
    let mut wrong = |pointer, _: &str, _: &str| repeated = repeated.or(Some(pointer));
    let status = members.take("status", "/status", &mut wrong);
    let occurred_at = members.take("occurred_at", "/occurred_at", &mut wrong);
    if let Some(pointer) = repeated {
        return Err(StatusRefused::Repeated(pointer));
    }
    let status = status.and_then(Member::text).and_then(|status| OrderStatus::parse(&status));
    let status = status.filter(|_| members.is_empty()).ok_or(StatusRefused::Invalid)?;
    let occurred_us = match occurred_at {
        None => now_us,
        Some(at) => {
            let at = at.text().ok_or(StatusRefused::Invalid)?;
            parse_rfc3339(at.as_bytes()).map_err(|_| StatusRefused::OccurredAt)?
        }
    };
    let is_ahead = occurred_us > now_us.saturating_add(AHEAD_US);
    if is_ahead { Err(StatusRefused::OccurredAt) } else { Ok((status, occurred_us)) }
}

/// Returns the response to a status that is older than the last applied one.
#[must_use]
pub(super) fn status_superseded(order_id: &str, status: OrderStatus, level: AckLevel) -> Answer {
    let body = serde_json::json!({
        "order_id": order_id, "status": status.as_str(), "changed": false, "superseded": true,
    });
    Answer::new(200, "application/json", body.to_string().into_bytes()).with("Firehose-Ack", level.word())
}

/// Returns the response to a committed status.
#[must_use]
pub(super) fn status_changed(order_id: &str, status: OrderStatus, changed: bool, level: AckLevel) -> Answer {
    let body = serde_json::json!({"order_id": order_id, "status": status.as_str(), "changed": changed});
    Answer::new(200, "application/json", body.to_string().into_bytes()).with("Firehose-Ack", level.word())
}

impl Refuse for StatusRefused {
    fn answer(&self, asker: &Asker<'_>) -> Answer {
        status_refused(self, asker.request_id, asker.problems)
    }
}

/// Returns the response to a refused status.
#[must_use]
pub(super) fn status_refused(error: &StatusRefused, request_id: &str, problems: &[Cell]) -> Answer {
    let detail = error.to_string();
    let kind = match error {
        StatusRefused::Invalid | StatusRefused::OccurredAt => Problem::InvalidStatus,
        StatusRefused::NoSuchOrder => Problem::NoSuchOrder,
        StatusRefused::Repeated(pointer) => {
            let item = members::repeated(pointer);
            return problem(Problem::InvalidStatus, &detail, request_id, &[item], &[], problems);
        }
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

    use super::*;

    #[test]
    fn a_status_is_one_of_six() {
        assert!(matches!(status(br#"{"status":"refunded"}"#, 9), Ok((OrderStatus::Refunded, 9))));
        for body in [&b"{}"[..], b"", br#"{"status":"lost"}"#, br#"{"status":"paid","x":1}"#, b"[1]"] {
            assert!(matches!(status(body, 9), Err(StatusRefused::Invalid)));
        }
    }

    #[test]
    fn a_status_or_a_time_that_is_repeated_is_refused_by_its_name() {
        for (body, expected) in [
            (r#"{"status":"paid","status":"refunded"}"#, "/status"),
            (r#"{"status":"paid","stat\u0075s":"paid","x":1}"#, "/status"),
            (r#"{"status":"paid","occurred_at":null,"occurred_at":"1970-01-01T00:00:00Z"}"#, "/occurred_at"),
        ] {
            match status(body.as_bytes(), 9) {
                Err(StatusRefused::Repeated(pointer)) => assert_eq!(pointer, expected, "{body}"),
                other => panic!("{body}: {other:?}"),
            }
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
}
