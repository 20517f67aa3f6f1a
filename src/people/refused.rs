//! Why a request about people is refused, and the responses to it.

use crate::api::Problem;
use crate::api::error::{Asker, EventRefused, Refuse, problem};
use crate::api::problem::ErrorItem;
use crate::api::write::{self, WriteRefused};
use crate::base::counters::Cell;
use crate::http::Answer;
use crate::query::QueryError;
use crate::tenants::Denied;
use crate::uploads::{UploadRefused, refused as upload_refused};

/// An error in the body of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeopleFault {
    /// JSON Pointer.
    pub pointer: String,
    pub code: &'static str,
    pub detail: String,
}

/// The reason why an erasure is not started, or why its state is not returned.
#[derive(Debug, thiserror::Error)]
pub enum PeopleRefused {
    #[error(
        "a customer id must have 1 to 200 bytes without control characters; a user id must be a 64-bit \
             integer"
    )]
    NoSuchPerson,
    #[error("nothing is held of this customer")]
    NothingHeld,
    #[error("there is no erasure with this id")]
    NoSuchErasure,
    #[error("{0} in the data folder contains rows that the server cannot erase; remove it first")]
    InTheWay(String),
    #[error("the body cannot be read")]
    Body(EventRefused),
    #[error("the body is invalid")]
    Invalid(Vec<PeopleFault>),
    #[error("the customer was erased in the meantime")]
    ErasedMeanwhile,
    #[error("more than 1000 customers in one request")]
    TooMany,
    #[error("another request is starting an erasure of this person")]
    Beginning,
    #[error("the task ended without a response; a retry is safe")]
    Lost,
    #[error("disk error: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Ingest(#[from] WriteRefused),
    #[error(transparent)]
    Upload(#[from] UploadRefused),
}

impl From<EventRefused> for PeopleRefused {
    fn from(refused: EventRefused) -> PeopleRefused {
        PeopleRefused::Body(refused)
    }
}

impl From<Denied> for PeopleRefused {
    fn from(denied: Denied) -> PeopleRefused {
        PeopleRefused::Ingest(WriteRefused::Denied(denied))
    }
}

impl Refuse for PeopleRefused {
    fn answer(&self, asker: &Asker<'_>) -> Answer {
        refused(self, asker)
    }
}

/// Returns the response if nothing, or not everything, was erased. A retry is safe.
#[must_use]
fn refused(error: &PeopleRefused, asker: &Asker<'_>) -> Answer {
    let Asker { request_id, problems, .. } = *asker;
    let kind = match error {
        PeopleRefused::NoSuchPerson | PeopleRefused::NothingHeld => Problem::NotFound,
        PeopleRefused::NoSuchErasure => Problem::NoSuchErasure,
        PeopleRefused::InTheWay(_) | PeopleRefused::Beginning | PeopleRefused::ErasedMeanwhile => {
            Problem::ErasureBlocked
        }
        PeopleRefused::TooMany => Problem::PayloadTooLarge,
        PeopleRefused::Lost | PeopleRefused::Io(_) => Problem::Internal,
        PeopleRefused::Body(refused) => return refused.answer(asker),
        PeopleRefused::Invalid(faults) => return invalid(faults, request_id, problems),
        PeopleRefused::Query(error) => return crate::api::reads::refused(error, request_id, problems),
        PeopleRefused::Ingest(error) => {
            return Answer { close: false, ..write::refused(error, request_id, problems) };
        }
        PeopleRefused::Upload(error) => return upload_refused(error, request_id, problems),
    };
    let answer = problem(kind, &error.to_string(), request_id, &[], &[], problems);
    match error {
        PeopleRefused::Beginning => answer.with("Retry-After", "2"),
        _ => answer,
    }
}

/// Returns the response to a body with these errors.
fn invalid(faults: &[PeopleFault], request_id: &str, problems: &[Cell]) -> Answer {
    let items: Vec<_> = faults
        .iter()
        .map(|fault| ErrorItem {
            pointer: Some(&fault.pointer),
            code: fault.code,
            detail: &fault.detail,
            ..ErrorItem::default()
        })
        .collect();
    let detail = faults.first().map_or("the body is invalid", |fault| &*fault.detail);
    problem(Problem::InvalidErasure, detail, request_id, &items, &[], problems)
}
