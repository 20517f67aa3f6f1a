//! The order responses: ingest summaries, a status, one order, and refusals.

use std::borrow::Cow;

use super::ingest::{IngestError, SkippedPart, Summary};
use super::status::OrderStatus;
use crate::api::Problem;
use crate::api::error::{Asker, EventRefused, Refuse, problem};
use crate::api::members::{Fault, Member, REPEATED, details};
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
    #[error("the body cannot be read")]
    Body(EventRefused),
    #[error("{}", details(.0))]
    Invalid(Vec<Fault>),
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

impl From<EventRefused> for StatusRefused {
    fn from(refused: EventRefused) -> StatusRefused {
        StatusRefused::Body(refused)
    }
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

const STATUSES: &str = "status must be pending, paid, shipped, delivered, cancelled or refunded";

/// Parses the status in a body, and its time. The default time is now.
///
/// # Errors
/// Returns every error in the body.
pub(super) fn status(body: Member<'_>, now_us: i64) -> Result<(OrderStatus, i64), Vec<Fault>> {
    let mut faults = Vec::new();
    let mut wrong = |pointer, code, detail| faults.push(Fault { pointer, code, detail });
    let Some(mut members) = body.members() else {
        wrong("", "not_an_object", "the body must be a JSON object with a status");
        return Err(faults);
    };
    let mut repeated =
        |pointer: &'static str, _: &'static str, _: &str| wrong(pointer, REPEATED.0, REPEATED.1);
    let status = members.take("status", "/status", &mut repeated);
    let occurred_at = members.take("occurred_at", "/occurred_at", &mut repeated);
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut wrong = |pointer, code, detail| faults.push(Fault { pointer, code, detail });
    let named = status.and_then(Member::text).and_then(|status| OrderStatus::parse(&status));
    match (status, named) {
        (None, _) => wrong("/status", "missing_field", "status is required"),
        (Some(_), None) => wrong("/status", "unknown_status", STATUSES),
        _ => {}
    }
    let at = occurred_at.map(|at| at.text().and_then(|at| parse_rfc3339(at.as_bytes()).ok()));
    match at {
        Some(None) => {
            wrong("/occurred_at", "invalid_timestamp", "occurred_at must be RFC 3339 with an offset")
        }
        Some(Some(at)) if at > now_us.saturating_add(AHEAD_US) => {
            let detail = "occurred_at must be at most 24 hours ahead of the server's clock";
            wrong("/occurred_at", "out_of_range", detail);
        }
        _ => {}
    }
    if !members.is_empty() {
        wrong("", "unknown_member", "unknown members; the known members are status and occurred_at");
    }
    match named {
        Some(named) if faults.is_empty() => Ok((named, at.flatten().unwrap_or(now_us))),
        _ => Err(faults),
    }
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
        status_refused(self, asker)
    }
}

/// Returns the response to a refused status.
#[must_use]
fn status_refused(error: &StatusRefused, asker: &Asker<'_>) -> Answer {
    let Asker { request_id, problems, .. } = *asker;
    let detail = error.to_string();
    match error {
        StatusRefused::Body(refused) => refused.answer(asker),
        StatusRefused::NoSuchOrder => problem(Problem::NoSuchOrder, &detail, request_id, &[], &[], problems),
        StatusRefused::Invalid(faults) => {
            let items: Vec<_> = faults.iter().map(ErrorItem::from).collect();
            problem(Problem::InvalidStatus, &detail, request_id, &items, &[], problems)
        }
        StatusRefused::SumTooLarge => {
            let item = ErrorItem {
                pointer: Some("/status"),
                code: "amount_out_of_range",
                detail: &detail,
                ..ErrorItem::default()
            };
            problem(Problem::InvalidStatus, &detail, request_id, &[item], &[], problems)
        }
        StatusRefused::Ingest(error) => {
            Answer { close: false, ..ingest_refused(error, None, request_id, problems) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<(OrderStatus, i64), Vec<(&'static str, &'static str)>> {
        let faults = |faults: Vec<Fault>| faults.iter().map(|fault| (fault.pointer, fault.code)).collect();
        status(Member::of(body.as_bytes()).unwrap(), 9).map_err(faults)
    }

    #[test]
    fn a_status_is_one_of_six() {
        assert_eq!(read(r#"{"status":"refunded"}"#), Ok((OrderStatus::Refunded, 9)));
        assert!(OrderStatus::ALL.iter().all(|status| STATUSES.contains(status.as_str())));
        for (body, expected) in [
            ("{}", &[("/status", "missing_field")][..]),
            (r#"{"status":null}"#, &[("/status", "missing_field")]),
            (r#"{"status":"lost"}"#, &[("/status", "unknown_status")]),
            (r#"{"status":"\ud800"}"#, &[("/status", "unknown_status")]),
            (r#"{"status":"paid","x":1}"#, &[("", "unknown_member")]),
            (
                r#"{"status":7,"occurred_at":7,"\ud800":1}"#,
                &[
                    ("/status", "unknown_status"),
                    ("/occurred_at", "invalid_timestamp"),
                    ("", "unknown_member"),
                ],
            ),
            ("[1]", &[("", "not_an_object")]),
        ] {
            assert_eq!(read(body), Err(expected.to_vec()), "{body}");
        }
    }

    #[test]
    fn a_status_or_a_time_that_is_repeated_is_refused_by_its_name() {
        for (body, expected) in [
            (r#"{"status":"paid","status":"refunded"}"#, "/status"),
            (r#"{"status":"paid","stat\u0075s":"paid","x":1}"#, "/status"),
            (r#"{"status":"paid","occurred_at":null,"occurred_at":"1970-01-01T00:00:00Z"}"#, "/occurred_at"),
        ] {
            assert_eq!(read(body), Err(vec![(expected, "repeated")]), "{body}");
        }
    }

    #[test]
    fn a_status_may_say_when_it_became_so() {
        let at = |time: &str| read(&format!("{{\"status\":\"paid\",\"occurred_at\":\"{time}\"}}"));
        assert_eq!(at("1969-12-31T23:59:59Z"), Ok((OrderStatus::Paid, -1_000_000)));
        assert_eq!(at("1970-01-02T00:00:00.000009Z"), Ok((OrderStatus::Paid, 86_400_000_009)));
        for (time, code) in [
            ("1970-01-02T00:00:00.000010Z", "out_of_range"),
            ("1970-01-01T00:00:00", "invalid_timestamp"),
            ("soon", "invalid_timestamp"),
            ("", "invalid_timestamp"),
        ] {
            assert_eq!(at(time), Err(vec![("/occurred_at", code)]), "{time}");
        }
    }
}
