//! The one map from every error to what a client is told: status, problem, headers.

use std::borrow::Cow;

use super::Problem;
use super::problem::{CONTENT_TYPE, write};
use crate::base::counters::Cell;
use crate::event::FieldError;
use crate::http::{Answer, CODINGS, InflateError, Refusal};
use crate::ingest::{Pressure, Refused};

/// Why an event was not accepted.
#[derive(Debug)]
pub enum EventRefused {
    /// The `ack` parameter is neither `os` nor `disk`.
    AckParameter,
    /// The `Content-Encoding` is not understood.
    UnknownCoding,
    /// Stored perhaps, but not synced: an earlier fdatasync failed.
    Unsynced,
    Refused(Refused),
}

impl From<Refused> for EventRefused {
    fn from(refused: Refused) -> EventRefused {
        EventRefused::Refused(refused)
    }
}

/// Renders a problem and counts it in the asking thread's own cells.
#[must_use]
pub fn problem(
    kind: Problem,
    detail: &str,
    request_id: &str,
    errors: &[FieldError],
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

/// What a client is asked to wait where nobody can know better.
const RETRY_AFTER_S: &str = "2";

/// The answer to an event that was not accepted.
#[must_use]
pub fn refused(refused: &EventRefused, event_bytes_max: u64, request_id: &str, problems: &[Cell]) -> Answer {
    let tell = |kind, detail: &str| problem(kind, detail, request_id, &[], &[], problems);
    match refused {
        EventRefused::AckParameter => tell(Problem::BadParameter, "`ack` may be `os` or `disk`"),
        EventRefused::UnknownCoding => {
            tell(Problem::UnsupportedEncoding, &format!("Content-Encoding may be one of {CODINGS}"))
        }
        EventRefused::Unsynced => tell(
            Problem::JournalUnsynced,
            "the journal could not be synced to disk; whether the event will be stored is not certain",
        ),
        EventRefused::Refused(Refused::Decode(error)) => {
            let errors = match error {
                crate::event::DecodeError::Fields(fields) => &fields[..],
                _ => &[],
            };
            problem(Problem::from(error), &error.to_string(), request_id, errors, &[], problems)
        }
        EventRefused::Refused(Refused::TooLarge | Refused::Inflate(InflateError::TooLarge(_))) => {
            tell(Problem::PayloadTooLarge, &format!("an event may have {event_bytes_max} bytes, decoded"))
        }
        EventRefused::Refused(Refused::Inflate(error)) => tell(Problem::BadEncoding, &error.to_string()),
        EventRefused::Refused(Refused::Pressure(Pressure::JournalFull)) => {
            tell(Problem::JournalFull, "the journal has no room; the event was not stored")
        }
        EventRefused::Refused(Refused::Pressure(Pressure::JournalBroken)) => {
            tell(Problem::Overloaded, "the journal could not be written; the event was not stored")
        }
        EventRefused::Refused(Refused::Pressure(Pressure::QueueFull { events, bytes, delay_s })) => problem(
            Problem::QueueFull,
            "events arrive faster than they can be stored; this one was not",
            request_id,
            &[],
            &[("queue_size", *events), ("queue_bytes", *bytes), ("expected_delay_seconds", *delay_s)],
            problems,
        )
        .with("Retry-After", Cow::Owned(delay_s.to_string())),
    }
}

/// The answer to bytes that are no request; the connection closes behind it.
#[must_use]
pub fn refusal(refusal: Refusal, event_bytes_max: u64, request_id: &str, problems: &[Cell]) -> Answer {
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
        Refusal::BodyTooLarge => format!("{refusal}: {event_bytes_max} bytes"),
        _ => refusal.to_string(),
    };
    Answer { close: true, ..problem(kind, &detail, request_id, &[], &[], problems) }
}
