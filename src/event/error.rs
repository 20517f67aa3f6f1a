//! The errors in a body. All of them are the sender's fault, and a retry cannot succeed. No error contains payload
//! text.

use std::fmt;
use std::ops::Deref;

use crate::base::limits::{BULK_EVENTS_MAX, JSON_DEPTH_MAX};

/// The reason why a body is not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// 400: there is no body.
    #[error("the body is empty")]
    Empty,
    /// 400: JSON is UTF-8 (RFC 8259 §8.1).
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// 400: not one JSON value. `offset` is the byte at which parsing stopped, at most the length of the body.
    #[error("the body is not JSON: unexpected input at byte {offset}")]
    NotJson { offset: usize },
    /// 422: nested deeper than [`JSON_DEPTH_MAX`]. It takes precedence over any later error.
    #[error("the JSON is nested deeper than {JSON_DEPTH_MAX} levels")]
    TooDeep,
    /// 422: JSON, but not an event. It lists every invalid field.
    #[error("the JSON is not a valid event: {0}")]
    Fields(FieldErrors),
}

impl DecodeError {
    /// Returns the error's code. If several fields are invalid, it is the code of the first.
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

    /// Returns a JSON Pointer to the error within the event. If several fields are invalid, it points to the first.
    #[must_use]
    pub fn pointer(&self) -> &'static str {
        match self {
            DecodeError::Fields(errors) => errors.first().map_or("", |error| error.pointer),
            _ => "",
        }
    }
}

/// The reason why a body has no rows. The error in a single row is that row's [`DecodeError`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BulkError {
    /// 400 or 422, as for one event: not JSON in UTF-8, or nested too deeply outside the rows.
    #[error(transparent)]
    Body(#[from] DecodeError),
    /// 422: JSON without rows.
    #[error("{}", .0.detail)]
    Rows(FieldError),
    /// 413: more than [`BULK_EVENTS_MAX`] rows. It takes precedence over any later error.
    #[error("more than {BULK_EVENTS_MAX} events in one request")]
    TooManyRows,
}

impl BulkError {
    /// Returns the error's code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            BulkError::Body(error) => error.code(),
            BulkError::Rows(error) => error.code,
            BulkError::TooManyRows => Code::TooManyRows,
        }
    }
}

/// At least one invalid field, in the order of the event's struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldErrors(Box<[FieldError]>);

impl FieldErrors {
    /// Creates the list from at least one error.
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

/// Writes the details of all errors, in one sentence.
impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "; " })?;
            f.write_str(error.detail)?;
        }
        Ok(())
    }
}

/// One invalid field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// JSON Pointer (RFC 6901) to the field; `""` is the whole document.
    pub pointer: &'static str,
    pub code: Code,
    /// One sentence for people.
    pub detail: &'static str,
}

/// An invalid field's code, for programs. Codes are only added. A code never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The document is JSON but not an object.
    NotAnObject,
    /// A required field is missing.
    MissingField,
    /// The field's value has the wrong type.
    InvalidType,
    /// The string is not a date-time, or not a date that exists.
    InvalidTimestamp,
    /// The value has the right type but cannot be represented.
    OutOfRange,
    /// The body, a string or the list of rows is empty.
    Empty,
    /// The string has more bytes than its field allows.
    TooLong,
    /// The string contains a control character (U+0000 to U+001F, U+007F to U+009F).
    ControlCharacter,
    /// The string contains an unpaired surrogate escape.
    InvalidUnicode,
    /// The value has more bytes than its field allows.
    TooLarge,
    /// The JSON is nested too deeply.
    TooDeep,
    /// The body is not one JSON value.
    NotJson,
    /// The body is not UTF-8.
    NotUtf8,
    /// The request has more rows than permitted.
    TooManyRows,
    /// The string is not an order status.
    UnknownStatus,
    /// The string is not an active ISO 4217 code.
    UnknownCurrency,
    /// The string is not empty, and it has no at sign with characters on both sides.
    InvalidEmail,
    /// The number has a fraction or an exponent.
    NotAnInteger,
    /// The string is not a decimal number.
    NotADecimal,
    /// The amount is negative.
    Negative,
    /// The amount has more digits after the point than its currency allows.
    TooManyDigits,
    /// The order has no items.
    EmptyItems,
    /// The order has more items than permitted.
    TooManyItems,
    /// The items' total cannot be represented.
    TotalTooLarge,
    /// The row belongs to a tenant other than the key's.
    WrongTenant,
    /// The string is not a stock mode.
    UnknownMode,
    /// A stock update has both a quantity and a delta.
    QuantityAndDelta,
    /// The mode requires a quantity and the update has a delta.
    NeedsQuantity,
    /// The mode requires a delta and the update has a quantity.
    NeedsDelta,
    /// A stock would be below zero.
    NegativeStock,
    /// The event id already identifies another event.
    EventIdReused,
    /// A known key is repeated in one object.
    RepeatedKey,
}

impl Code {
    /// Every code, in the order of introduction.
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

    /// Returns the code as problem documents contain it.
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
