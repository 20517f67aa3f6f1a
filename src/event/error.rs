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
    #[error("the JSON is not a valid event: {0}")]
    Fields(FieldErrors),
}

impl DecodeError {
    /// What is wrong, for programs; of several broken fields the first.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            DecodeError::Empty => Code::Empty,
            DecodeError::NotUtf8 => Code::NotUtf8,
            DecodeError::NotJson { .. } => Code::NotJson,
            DecodeError::TooDeep => Code::TooDeep,
            DecodeError::Fields(errors) => errors.first().map_or(Code::NotAnObject, |error| error.code),
        }
    }

    /// JSON Pointer to what is wrong, within the event; of several broken fields the first.
    #[must_use]
    pub fn pointer(&self) -> &'static str {
        match self {
            DecodeError::Fields(errors) => errors.first().map_or("", |error| error.pointer),
            _ => "",
        }
    }
}

/// Why a body holds no rows at all: what is wrong with one row is that row's [`DecodeError`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BulkError {
    /// 400 or 422, as for one event: no JSON in UTF-8, or nested too deep outside the rows.
    #[error(transparent)]
    Body(#[from] DecodeError),
    /// 422: JSON, but without rows.
    #[error("{}", .0.detail)]
    Rows(FieldError),
    /// 413: more than [`BULK_EVENTS_MAX`] rows. Told before anything that is wrong further on.
    #[error("more than {BULK_EVENTS_MAX} events in one request")]
    TooManyRows,
}

impl BulkError {
    /// What is wrong, for programs.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            BulkError::Body(error) => error.code(),
            BulkError::Rows(error) => error.code,
            BulkError::TooManyRows => Code::TooManyRows,
        }
    }
}

/// One broken field or more, in the order in which the event's struct has them.
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
    /// There is nothing in it: a body, a text of no bytes, no rows.
    Empty,
    /// The text has more bytes than its field may have.
    TooLong,
    /// The text has a control character in it (U+0000 to U+001F, U+007F to U+009F).
    ControlCharacter,
    /// The text has an escape of half a surrogate pair in it.
    InvalidUnicode,
    /// The value has more bytes than its field may have.
    TooLarge,
    /// Nested too deep.
    TooDeep,
    /// Not one JSON value.
    NotJson,
    /// Not UTF-8.
    NotUtf8,
    /// More rows than one request may have.
    TooManyRows,
    /// The text names no status of an order.
    UnknownStatus,
    /// The text is no active currency code of ISO 4217.
    UnknownCurrency,
    /// The text is neither empty nor has an at sign with something on both sides.
    InvalidEmail,
    /// The number has a fraction or an exponent.
    NotAnInteger,
    /// The text is no decimal number.
    NotADecimal,
    /// The amount has a minus sign.
    Negative,
    /// The amount has more digits after the point than its currency.
    TooManyDigits,
    /// The order has no items.
    EmptyItems,
    /// The order has more items than one may have.
    TooManyItems,
    /// The sum of all items cannot be represented.
    TotalTooLarge,
    /// The row is another tenant's than the key it came with.
    WrongTenant,
    /// The text names no mode of putting updates together.
    UnknownMode,
    /// An update of stock has both a quantity and a delta.
    QuantityAndDelta,
    /// The mode needs a quantity and there is a delta.
    NeedsQuantity,
    /// The mode needs a delta and there is a quantity.
    NeedsDelta,
    /// A stock would be below zero.
    NegativeStock,
    /// An event id that stands for something else already.
    EventIdReused,
    /// A known key is there twice in one object.
    RepeatedKey,
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
        Code::InvalidUnicode,
        Code::TooLarge,
        Code::TooDeep,
        Code::NotJson,
        Code::NotUtf8,
        Code::TooManyRows,
        Code::UnknownStatus,
        Code::UnknownCurrency,
        Code::InvalidEmail,
        Code::NotAnInteger,
        Code::NotADecimal,
        Code::Negative,
        Code::TooManyDigits,
        Code::EmptyItems,
        Code::TooManyItems,
        Code::TotalTooLarge,
        Code::WrongTenant,
        Code::UnknownMode,
        Code::QuantityAndDelta,
        Code::NeedsQuantity,
        Code::NeedsDelta,
        Code::NegativeStock,
        Code::EventIdReused,
        Code::RepeatedKey,
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
            Code::InvalidUnicode => "invalid_unicode",
            Code::TooLarge => "too_large",
            Code::TooDeep => "too_deep",
            Code::NotJson => "not_json",
            Code::NotUtf8 => "not_utf8",
            Code::TooManyRows => "too_many_rows",
            Code::UnknownStatus => "unknown_status",
            Code::UnknownCurrency => "unknown_currency",
            Code::InvalidEmail => "invalid_email",
            Code::NotAnInteger => "not_an_integer",
            Code::NotADecimal => "not_a_decimal",
            Code::Negative => "negative",
            Code::TooManyDigits => "too_many_digits",
            Code::EmptyItems => "empty_items",
            Code::TooManyItems => "too_many_items",
            Code::TotalTooLarge => "total_too_large",
            Code::WrongTenant => "wrong_tenant",
            Code::UnknownMode => "unknown_mode",
            Code::QuantityAndDelta => "quantity_and_delta",
            Code::NeedsQuantity => "needs_quantity",
            Code::NeedsDelta => "needs_delta",
            Code::NegativeStock => "negative_stock",
            Code::EventIdReused => "event_id_reused",
            Code::RepeatedKey => "repeated_key",
        }
    }
}
