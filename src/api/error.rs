//! Refusals that several features share, as responses: status, problem, headers. A feature implements [`Refuse`] for its
//! own errors.

use std::borrow::Cow;

use super::problem::{CONTENT_TYPE, ErrorItem, write};
use super::{Problem, access};
use crate::base::counters::Cell;
use crate::event::{BulkError, DecodeError};
use crate::http::{Answer, CODINGS, InflateError, Refusal};
use crate::ingest::{Pressure, Refused};
use crate::query::QueryError;
use crate::tenants::Denied;

/// Why an event was not accepted.
#[derive(Debug)]
pub enum EventRefused {
    /// The `ack` parameter is neither `os` nor `disk`.
    AckParameter,
    /// Parameters that the operation does not have, or that have no value.
    Query(QueryError),
    /// The `Content-Encoding` is not supported.
    UnknownCoding,
    /// The event is possibly stored, but not synced: an earlier fdatasync failed.
    Unsynced,
    /// Records with an id are possibly stored, but not synced: an earlier fdatasync failed.
    UnsyncedKeyed,
    Refused(Refused),
    /// An invalid bulk request.
    Bulk(BulkError),
    /// A bulk request without one valid row.
    Rows(Vec<RowErrors>),
    /// The core that handles the key has too many waiting requests.
    CoreBusy,
    /// The memory for requests in progress is exhausted.
    MemorySpent,
    /// The core that handles the key did not respond.
    OutcomeUnknown,
    /// The caller has no access, or has exceeded a quota.
    Denied(Denied),
}

/// Why rows were refused while other rows of the request were accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowRefusal {
    QueueFull,
    JournalFull,
    Overloaded,
    OutcomeUnknown,
}

impl RowRefusal {
    /// Returns the code for a response.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            RowRefusal::QueueFull => "queue_full",
            RowRefusal::JournalFull => "journal_full",
            RowRefusal::Overloaded => "overloaded",
            RowRefusal::OutcomeUnknown => "outcome_unknown",
        }
    }
}

/// The errors in one row of a bulk request.
#[derive(Debug)]
pub struct RowErrors {
    pub index: usize,
    /// The line number, from 1, if the body has lines.
    pub line: Option<usize>,
    pub error: DecodeError,
}

/// The maximum number of errors listed for one request. The counts cover all of them.
const ROW_ERRORS_MAX: usize = 1_000;

impl RowErrors {
    /// Returns every invalid field of the row, or the row as a whole.
    fn items(&self) -> Vec<ErrorItem<'_>> {
        let row = ErrorItem { index: Some(self.index), line: self.line, ..ErrorItem::default() };
        match &self.error {
            DecodeError::Fields(fields) => fields
                .iter()
                .map(|field| ErrorItem { index: row.index, line: row.line, ..ErrorItem::from(field) })
                .collect(),
            whole => {
                let (code, detail) = (whole.code().as_str(), whole_row(whole));
                vec![ErrorItem { pointer: Some(whole.pointer()), code, detail, ..row }]
            }
        }
    }
}

/// Returns the detail for a row that is not an event at all.
fn whole_row(error: &DecodeError) -> &'static str {
    match error {
        DecodeError::Empty => "the row is empty",
        DecodeError::NotUtf8 => "the row is not UTF-8",
        DecodeError::NotJson { .. } => "the row is not JSON",
        DecodeError::TooDeep => "the row is nested too deeply",
        DecodeError::Fields(_) => "one or more fields of the row are invalid",
    }
}

impl From<Refused> for EventRefused {
    fn from(refused: Refused) -> EventRefused {
        EventRefused::Refused(refused)
    }
}

impl From<Denied> for EventRefused {
    fn from(denied: Denied) -> EventRefused {
        EventRefused::Denied(denied)
    }
}

/// The recipient of a refusal, and the parts of the request that the refusal needs.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    pub request_id: &'a str,
    /// The calling thread's own problem counters.
    pub problems: &'a [Cell],
    /// The endpoint's limit on the decoded bytes of a body.
    pub body_bytes_max: u64,
}

/// An error that a client receives.
pub trait Refuse {
    fn answer(&self, asker: &Asker<'_>) -> Answer;
}

impl Refuse for EventRefused {
    fn answer(&self, asker: &Asker<'_>) -> Answer {
        refused(self, asker.body_bytes_max, asker.request_id, asker.problems)
    }
}

impl Refuse for Refusal {
    fn answer(&self, asker: &Asker<'_>) -> Answer {
        refusal(*self, asker.body_bytes_max, asker.request_id, asker.problems)
    }
}

impl Refuse for Denied {
    fn answer(&self, asker: &Asker<'_>) -> Answer {
        access::denied(*self, asker.request_id, asker.problems)
    }
}

/// Renders a problem and counts it in the calling thread's own cells.
#[must_use]
pub fn problem(
    kind: Problem,
    detail: &str,
    request_id: &str,
    errors: &[ErrorItem<'_>],
    extra: &[(&'static str, u64)],
    problems: &[Cell],
) -> Answer {
    if let Some(cell) = problems.get(kind as usize) {
        cell.add(1);
    }
    let mut body = Vec::with_capacity(256);
    write(&mut body, kind, detail, request_id, errors, extra);
    let answer = Answer::new(kind.status(), CONTENT_TYPE, body);
    match kind.status() {
        429 => answer,
        503 | 507 => answer.with("Retry-After", RETRY_AFTER_S),
        415 => answer.with("Accept-Encoding", CODINGS),
        _ => answer,
    }
}

/// The value of `Retry-After` if nothing better is known.
const RETRY_AFTER_S: &str = "2";

/// Returns the response to events that were not accepted. `body_bytes_max` is the endpoint's limit.
#[must_use]
pub fn refused(refused: &EventRefused, body_bytes_max: u64, request_id: &str, problems: &[Cell]) -> Answer {
    let tell = |kind, detail: &str| problem(kind, detail, request_id, &[], &[], problems);
    match refused {
        EventRefused::Denied(denied) => access::denied(*denied, request_id, problems),
        EventRefused::AckParameter => tell(Problem::BadParameter, "`ack` must be `os` or `disk`"),
        EventRefused::Query(error) => super::reads::refused(error, request_id, problems),
        EventRefused::UnknownCoding => {
            tell(Problem::UnsupportedEncoding, &format!("Content-Encoding must be one of {CODINGS}"))
        }
        EventRefused::Unsynced => tell(
            Problem::JournalUnsynced,
            "the journal could not be synced to disk; the event may be stored, and a retry may store it \
             twice",
        ),
        EventRefused::UnsyncedKeyed => tell(
            Problem::JournalUnsynced,
            "the journal could not be synced to disk; the records may be stored, and a retry is safe",
        ),
        EventRefused::CoreBusy => tell(
            Problem::Overloaded,
            "the core that stores these events has too many waiting requests; nothing was stored",
        ),
        EventRefused::MemorySpent => tell(
            Problem::Overloaded,
            "the requests in progress use all of buffer_bytes_max; nothing was stored",
        ),
        EventRefused::OutcomeUnknown => tell(
            Problem::OutcomeUnknown,
            "the core that stores these events did not respond; a retry is safe",
        ),
        EventRefused::Bulk(error) => {
            let errors: Vec<_> = match error {
                BulkError::Rows(field) => vec![ErrorItem::from(field)],
                _ => Vec::new(),
            };
            problem(Problem::from(error), &error.to_string(), request_id, &errors, &[], problems)
        }
        EventRefused::Rows(rows) => {
            let errors: Vec<_> = rows.iter().flat_map(RowErrors::items).take(ROW_ERRORS_MAX).collect();
            let detail =
                format!("none of the {} rows is a valid event; the first errors are listed", rows.len());
            problem(Problem::InvalidEvents, &detail, request_id, &errors, &[], problems)
        }
        EventRefused::Refused(Refused::Decode(error)) => {
            let errors: Vec<_> = match error {
                DecodeError::Fields(fields) => fields.iter().map(ErrorItem::from).collect(),
                _ => Vec::new(),
            };
            problem(Problem::from(error), &error.to_string(), request_id, &errors, &[], problems)
        }
        EventRefused::Refused(Refused::TooLarge | Refused::Inflate(InflateError::TooLarge(_))) => {
            tell(Problem::PayloadTooLarge, &format!("the body exceeds {body_bytes_max} decoded bytes"))
        }
        EventRefused::Refused(Refused::Inflate(error)) => tell(Problem::BadEncoding, &error.to_string()),
        EventRefused::Refused(Refused::Pressure(Pressure::JournalFull)) => {
            tell(Problem::JournalFull, "the journal is full; the event was not stored")
        }
        EventRefused::Refused(Refused::Pressure(Pressure::JournalBroken)) => {
            tell(Problem::Overloaded, "the journal could not be written; the event was not stored")
        }
        EventRefused::Refused(Refused::Pressure(Pressure::Unsynced)) => tell(
            Problem::JournalUnsynced,
            "an earlier sync of the journal failed, so the server cannot promise durability on disk; \
             nothing was stored",
        ),
        EventRefused::Refused(Refused::Pressure(Pressure::QueueFull { events, bytes, delay_s })) => problem(
            Problem::QueueFull,
            "events arrive faster than they can be stored; this one was not stored",
            request_id,
            &[],
            &[("queue_size", *events), ("queue_bytes", *bytes), ("expected_delay_seconds", *delay_s)],
            problems,
        )
        .with("Retry-After", Cow::Owned(delay_s.to_string())),
    }
}

/// Returns the response to bytes that are not a request. The connection closes after it.
#[must_use]
pub fn refusal(refusal: Refusal, body_bytes_max: u64, request_id: &str, problems: &[Cell]) -> Answer {
    let kind = match refusal {
        Refusal::BareLineFeed
        | Refusal::FoldedHeader
        | Refusal::MalformedHead
        | Refusal::MalformedTarget
        | Refusal::Host
        | Refusal::MalformedLength
        | Refusal::RepeatedLength
        | Refusal::LengthAndChunked
        | Refusal::MalformedTransferEncoding
        | Refusal::MalformedChunk
        | Refusal::BodyIncomplete => Problem::BadRequest,
        Refusal::UnknownTransferCoding => Problem::UnsupportedTransferCoding,
        Refusal::Version => Problem::UnsupportedVersion,
        Refusal::UnknownExpectation => Problem::ExpectationFailed,
        Refusal::TargetTooLong => Problem::UriTooLong,
        Refusal::HeadTooLarge | Refusal::TooManyHeaders => Problem::HeadTooLarge,
        Refusal::HeadTimeout | Refusal::BodyTimeout => Problem::RequestTimeout,
        Refusal::BodyTooLarge => Problem::PayloadTooLarge,
        Refusal::BuffersFull | Refusal::ConnectionsFull => Problem::Overloaded,
    };
    let detail = match refusal {
        Refusal::BodyTooLarge => format!("{refusal}: {body_bytes_max} bytes"),
        _ => refusal.to_string(),
    };
    Answer { close: true, ..problem(kind, &detail, request_id, &[], &[], problems) }
}
