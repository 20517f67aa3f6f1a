//! What can be wrong with a body. All of it is the sender's fault and none of it is worth a retry;
//! nothing here carries text of the payload.

use std::fmt;
use std::ops::Deref;

use crate::base::limits::{BULK_EVENTS_MAX, JSON_DEPTH_MAX};

/// Why a body is not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// 400: there is no body.
    #[error("the body is empty")]
    Empty,
    /// 400: JSON is UTF-8 (RFC 8259 §8.1).
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// 400: not one JSON value. `offset` is the byte at which the parser gave up, at most the length
    /// of the body.
    #[error("the body is not JSON: unexpected input at byte {offset}")]
    NotJson { offset: usize },
    /// 422: nested deeper than [`JSON_DEPTH_MAX`]. Told before anything that is wrong further on.
    #[error("the JSON is nested deeper than {JSON_DEPTH_MAX} levels")]
    TooDeep,
    /// 422: JSON, but not an event; every broken field is named.
    #[error("the JSON is not an event: {0}")]
    Fields(FieldErrors),
}

/// Why a body holds no rows that could be told apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BulkError {
    /// 400 or 422: the body is no JSON, or nested too deeply.
    #[error("{0}")]
    Body(#[from] DecodeError),
    /// 422: one JSON value, but no object with an array `events` in it.
    #[error(
        "the body is JSON, but not an object with an array `events`; for one event a line say Content-Type: application/x-ndjson"
    )]
    NoEnvelope,
    /// 422: not one row.
    #[error("there are no events in the body")]
    NoRows,
    /// 413.
    #[error("one request may hold {BULK_EVENTS_MAX} events, this one has more")]
    TooMany,
}

/// The broken fields, in the order of the event's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldErrors(Box<[FieldError]>);

impl FieldErrors {
    /// Takes one error or more.
    #[must_use]
    pub fn new(errors: Vec<FieldError>) -> FieldErrors {
        FieldErrors(errors.into_boxed_slice())
    }
}

impl Deref for FieldErrors {
    type Target = [FieldError];

    fn deref(&self) -> &[FieldError] {
        &self.0
    }
}

/// The details of all, in one sentence.
impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "; " })?;
            f.write_str(error.detail)?;
        }
        Ok(())
    }
}

/// One broken field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// JSON Pointer (RFC 6901) to the field; `""` is the whole document.
    pub pointer: &'static str,
    pub code: Code,
    /// One sentence for people.
    pub detail: &'static str,
}

/// What is wrong with a field, for programs. Append-only: a code once given out keeps its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The document is JSON but no object.
    NotAnObject,
    /// A required field is not there.
    MissingField,
    /// The field is there with a value of another type.
    InvalidType,
    /// The string is no date-time, or no date there ever was.
    InvalidTimestamp,
    /// The value is of the right type but cannot be represented.
    OutOfRange,
    /// A text that must say something is empty.
    Empty,
    /// The text has more bytes than it may.
    TooLong,
    /// The text contains a control character.
    ControlCharacter,
    /// The text contains an escape of half a surrogate pair.
    LoneSurrogate,
    /// The value has more bytes than it may.
    TooLarge,
}

impl Code {
    /// Every code, in the order they were introduced.
    pub const ALL: &[Code] = &[
        Code::NotAnObject,
        Code::MissingField,
        Code::InvalidType,
        Code::InvalidTimestamp,
        Code::OutOfRange,
        Code::Empty,
        Code::TooLong,
        Code::ControlCharacter,
        Code::LoneSurrogate,
        Code::TooLarge,
    ];

    /// As it stands in a problem document.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::NotAnObject => "not_an_object",
            Code::MissingField => "missing_field",
            Code::InvalidType => "invalid_type",
            Code::InvalidTimestamp => "invalid_timestamp",
            Code::OutOfRange => "out_of_range",
            Code::Empty => "empty",
            Code::TooLong => "too_long",
            Code::ControlCharacter => "control_character",
            Code::LoneSurrogate => "lone_surrogate",
            Code::TooLarge => "too_large",
        }
    }
}
