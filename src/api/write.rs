//! The reasons for refusing a journaled write, common to every feature that writes. The reasons about the format of a
//! body apply to ingests only.

use std::borrow::Cow;

use super::Problem;
use super::error::{EventRefused, problem, refused as event_refused};
use super::request::KEY_BYTES_MAX;
use crate::base::counters::Cell;
use crate::http::{Answer, Refusal};
use crate::ingest::{self, Pressure};
use crate::query::QueryError;
use crate::tenants::Denied;
use crate::unpack::UnpackError;

/// Why a write is refused.
#[derive(Debug, thiserror::Error)]
pub enum WriteRefused {
    #[error("the Idempotency-Key header is missing")]
    KeyMissing,
    #[error("an Idempotency-Key must have 1 to {KEY_BYTES_MAX} visible ASCII characters, quoted or unquoted")]
    KeyMalformed,
    #[error("this Idempotency-Key was used with other rows")]
    KeyReused,
    #[error("a request with this Idempotency-Key is still running")]
    Running,
    #[error("the content type is not supported for orders")]
    ContentType,
    #[error("the content coding is not supported for orders")]
    ContentCoding,
    #[error("the form cannot be parsed: {0}")]
    Multipart(String),
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    #[error("no row was stored: {0}")]
    NothingKnown(String),
    #[error("{0}")]
    Refusal(Refusal),
    #[error("the rows are in the journal, but their shard does not commit")]
    NotCommitted,
    #[error("the journal could not be synced to disk; the rows may or may not be stored")]
    Unsynced,
    #[error("the journal accepts no more records")]
    Pressure(Pressure),
    #[error("the core that stores these rows did not respond in time")]
    CoreBusy,
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("{}", .0.detail())]
    Denied(Denied),
    #[error("`ack` must be `os` or `disk`")]
    AckParameter,
}

impl From<Refusal> for WriteRefused {
    fn from(refusal: Refusal) -> WriteRefused {
        WriteRefused::Refusal(refusal)
    }
}

/// Returns the response to a refused write. If the body was not read to its end, the start of the next request is
/// unknown, so the connection closes.
#[must_use]
pub fn refused(error: &WriteRefused, request_id: &str, problems: &[Cell]) -> Answer {
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
            return Answer { close: true, ..event_refused(&refused, 0, request_id, problems) };
        }
        WriteRefused::CoreBusy => Problem::Overloaded,
        // A request is refused because of its parameters before its body is read.
        WriteRefused::Query(error @ QueryError::Parameters(_)) => {
            return Answer { close: true, ..super::reads::refused(error, request_id, problems) };
        }
        WriteRefused::Query(error) => return super::reads::refused(error, request_id, problems),
        WriteRefused::Denied(denied) => {
            return Answer { close: true, ..super::access::denied(*denied, request_id, problems) };
        }
    };
    let answer = problem(kind, &error.to_string(), request_id, &[], &[], problems);
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
