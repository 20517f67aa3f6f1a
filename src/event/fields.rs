//! The rules for a click's three fields. All of them are applied to the raw values before any error is returned.

use super::error::{Code, DecodeError, FieldError, FieldErrors};
use super::json::unescape;
use super::time::{TimeError, parse_iso8601_lenient};

/// One event of `POST /event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Click<'b> {
    pub user_id: i64,
    /// Microseconds since 1970 UTC.
    pub timestamp_us: i64,
    /// One JSON value in valid UTF-8: exactly the bytes received.
    pub metadata: &'b [u8],
}

/// The raw values of one kind of event's fields, collected member by member.
pub trait Collect<'b>: Default {
    /// Keeps the value if the key (between its quotes, with escapes) is the name of one of the event's fields. If a
    /// name is repeated, the last value is kept, as in JavaScript.
    fn note(&mut self, key: &'b [u8], value: &'b [u8]);
}

/// The raw values of the fields. Each is the bytes of one valid JSON value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RawFields<'b> {
    user_id: Option<&'b [u8]>,
    timestamp: Option<&'b [u8]>,
    metadata: Option<&'b [u8]>,
}

/// The length of the longest spelling of a name, in which every byte of `timestamp` is written as `\u0000`.
const ESCAPED_KEY_BYTES_MAX: usize = 6 * "timestamp".len();

impl<'b> Collect<'b> for RawFields<'b> {
    #[inline(always)]
    fn note(&mut self, key: &'b [u8], value: &'b [u8]) {
        match key {
            b"user_id" => self.user_id = Some(value),
            b"timestamp" => self.timestamp = Some(value),
            b"metadata" => self.metadata = Some(value),
            _ => self.note_escaped(key, value),
        }
    }
}

impl<'b> RawFields<'b> {
    #[cold]
    fn note_escaped(&mut self, key: &'b [u8], value: &'b [u8]) {
        if key.len() > ESCAPED_KEY_BYTES_MAX || memchr::memchr(b'\\', key).is_none() {
            return;
        }
        match &*unescape(key) {
            b"user_id" => self.user_id = Some(value),
            b"timestamp" => self.timestamp = Some(value),
            b"metadata" => self.metadata = Some(value),
            _ => {}
        }
    }

    /// Applies every rule to every field.
    #[inline]
    pub(super) fn check(self) -> Result<Click<'b>, DecodeError> {
        let (user_id, timestamp) = (user_id(self.user_id), timestamp(self.timestamp));
        match (user_id, timestamp, self.metadata) {
            (Ok(user_id), Ok(timestamp_us), Some(metadata)) => Ok(Click { user_id, timestamp_us, metadata }),
            (user_id, timestamp, metadata) => {
                Err(broken(user_id.err(), timestamp.err(), metadata.is_none().then_some(METADATA_MISSING)))
            }
        }
    }
}

/// Returns the error for a document that is JSON but not an object.
#[cold]
pub(super) fn not_an_object() -> DecodeError {
    broken(Some(NOT_AN_OBJECT), None, None)
}

#[cold]
fn broken(first: Option<FieldError>, second: Option<FieldError>, third: Option<FieldError>) -> DecodeError {
    DecodeError::Fields(FieldErrors::new([first, second, third].into_iter().flatten().collect()))
}

#[inline]
fn user_id(value: Option<&[u8]>) -> Result<i64, FieldError> {
    let value = value.ok_or(USER_ID_MISSING)?;
    let (is_negative, digits) = match value {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return Err(USER_ID_TYPE);
    }
    // Accumulates negative numbers, because their range is one larger.
    let mut number = Some(0_i64);
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return Err(USER_ID_TYPE);
        }
        number = number.and_then(|number| number.checked_mul(10)?.checked_sub(i64::from(digit)));
    }
    let number = if is_negative { number } else { number.and_then(i64::checked_neg) };
    number.ok_or(USER_ID_RANGE)
}

#[inline]
fn timestamp(value: Option<&[u8]>) -> Result<i64, FieldError> {
    let value = value.ok_or(TIMESTAMP_MISSING)?;
    let [b'"', text @ .., b'"'] = value else { return Err(TIMESTAMP_TYPE) };
    parsed_unescaped(text, parse_iso8601_lenient).map_err(|error| match error {
        TimeError::Syntax => TIMESTAMP_SYNTAX,
        TimeError::NoSuchTime => TIMESTAMP_NO_SUCH,
        TimeError::OutOfRange => TIMESTAMP_RANGE,
    })
}

/// Parses a time from the content of a JSON string.
#[inline]
pub(super) fn parsed_unescaped(
    text: &[u8],
    parse: impl Fn(&[u8]) -> Result<i64, TimeError>,
) -> Result<i64, TimeError> {
    match parse(text) {
        Err(TimeError::Syntax) if memchr::memchr(b'\\', text).is_some() => parse(&unescape(text)),
        time => time,
    }
}

pub const fn field(pointer: &'static str, code: Code, detail: &'static str) -> FieldError {
    FieldError { pointer, code, detail }
}

/// Returns the error for a known key that is repeated in one object. Parsers disagree on which value counts.
pub const fn repeated(pointer: &'static str) -> FieldError {
    field(pointer, Code::RepeatedKey, "a key must not be repeated in one object")
}

const NOT_AN_OBJECT: FieldError = field("", Code::NotAnObject, "an event must be a JSON object");
const USER_ID_MISSING: FieldError = field("/user_id", Code::MissingField, "user_id is required");
const USER_ID_TYPE: FieldError =
    field("/user_id", Code::InvalidType, "user_id must be an integer, without quotes, fraction or exponent");
const USER_ID_RANGE: FieldError =
    field("/user_id", Code::OutOfRange, "user_id must fit a signed 64-bit integer");
const TIMESTAMP_MISSING: FieldError = field("/timestamp", Code::MissingField, "timestamp is required");
const TIMESTAMP_TYPE: FieldError = field("/timestamp", Code::InvalidType, "timestamp must be a string");
const TIMESTAMP_SYNTAX: FieldError = field(
    "/timestamp",
    Code::InvalidTimestamp,
    "timestamp must be an ISO 8601 date-time such as 2024-01-14T10:30:00Z",
);
const TIMESTAMP_NO_SUCH: FieldError = field(
    "/timestamp",
    Code::InvalidTimestamp,
    "timestamp contains a date, time of day or offset that does not exist",
);
const TIMESTAMP_RANGE: FieldError = field(
    "/timestamp",
    Code::OutOfRange,
    "timestamp must be from 0000-01-01T00:00:00Z to 9999-12-30T22:00:00Z",
);
const METADATA_MISSING: FieldError =
    field("/metadata", Code::MissingField, "metadata is required; it may be any JSON value, including null");
