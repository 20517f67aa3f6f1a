//! The rules of the six fields of an idempotent event, applied to raw values, all of them before anything
//! is said.

use std::borrow::Cow;

use super::error::{Code, DecodeError, FieldError, FieldErrors};
use super::json::unescape;
use super::time::{TimeError, parse_iso8601_lenient, parse_rfc3339};
use crate::base::limits::{IDENTIFIER_BYTES_MAX, NAME_BYTES_MAX, PAYLOAD_BYTES_MAX};

/// One event of `POST /events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEvent<'b> {
    pub event_id: Cow<'b, str>,
    pub tenant_id: Cow<'b, str>,
    pub source: Cow<'b, str>,
    pub event_type: Cow<'b, str>,
    /// Microseconds since 1970 UTC.
    pub timestamp_us: i64,
    /// One JSON object, exactly the bytes received.
    pub payload: &'b str,
}

/// The raw values of the fields that were found: bytes of one valid JSON value each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RawService<'b> {
    event_id: Option<&'b [u8]>,
    tenant_id: Option<&'b [u8]>,
    source: Option<&'b [u8]>,
    event_type: Option<&'b [u8]>,
    timestamp: Option<&'b [u8]>,
    payload: Option<&'b [u8]>,
}

/// The longest spelling of a name: every byte of `event_type` as `\u0000`.
const ESCAPED_KEY_BYTES_MAX: usize = 6 * "event_type".len();

impl<'b> RawService<'b> {
    /// Keeps the value if the key (between its quotes, escapes as written) is one of ours. Of two
    /// with one name the last stays, as in JavaScript.
    #[inline]
    pub(super) fn note(&mut self, key: &'b [u8], value: &'b [u8]) {
        match self.slot(key) {
            Some(slot) => *slot = Some(value),
            None => self.note_escaped(key, value),
        }
    }

    #[inline]
    fn slot(&mut self, key: &[u8]) -> Option<&mut Option<&'b [u8]>> {
        match key {
            b"event_id" => Some(&mut self.event_id),
            b"tenant_id" => Some(&mut self.tenant_id),
            b"source" => Some(&mut self.source),
            b"event_type" => Some(&mut self.event_type),
            b"timestamp" => Some(&mut self.timestamp),
            b"payload" => Some(&mut self.payload),
            _ => None,
        }
    }

    #[cold]
    fn note_escaped(&mut self, key: &'b [u8], value: &'b [u8]) {
        if key.len() > ESCAPED_KEY_BYTES_MAX || memchr::memchr(b'\\', key).is_none() {
            return;
        }
        if let Some(slot) = self.slot(&unescape(key)) {
            *slot = Some(value);
        }
    }

    /// Every rule on every field. The values are of a document that is UTF-8.
    #[inline]
    pub(super) fn check(self) -> Result<ServiceEvent<'b>, DecodeError> {
        let event_id = name(self.event_id, &EVENT_ID);
        let tenant_id = name(self.tenant_id, &TENANT_ID);
        let source = name(self.source, &SOURCE);
        let event_type = name(self.event_type, &EVENT_TYPE);
        let timestamp = timestamp(self.timestamp);
        let payload = payload(self.payload);
        match (event_id, tenant_id, source, event_type, timestamp, payload) {
            (Ok(event_id), Ok(tenant_id), Ok(source), Ok(event_type), Ok(timestamp_us), Ok(payload)) => {
                Ok(ServiceEvent { event_id, tenant_id, source, event_type, timestamp_us, payload })
            }
            (event_id, tenant_id, source, event_type, timestamp, payload) => Err(broken([
                event_id.err(),
                tenant_id.err(),
                source.err(),
                event_type.err(),
                timestamp.err(),
                payload.err(),
            ])),
        }
    }
}

#[cold]
fn broken(errors: [Option<FieldError>; 6]) -> DecodeError {
    DecodeError::Fields(FieldErrors::new(errors.into_iter().flatten().collect()))
}

/// A field that holds a short text, and what is said when it does not.
struct Name {
    bytes_max: usize,
    missing: FieldError,
    wrong_type: FieldError,
    empty: FieldError,
    too_long: FieldError,
    control: FieldError,
    not_text: FieldError,
}

macro_rules! text_field {
    ($name:ident, $field:literal, $bytes_max:expr, $most:literal) => {
        static $name: Name = Name {
            bytes_max: $bytes_max,
            missing: field(concat!("/", $field), Code::MissingField, concat!($field, " is required")),
            wrong_type: field(concat!("/", $field), Code::InvalidType, concat!($field, " must be a string")),
            empty: field(concat!("/", $field), Code::Empty, concat!($field, " must not be empty")),
            too_long: field(
                concat!("/", $field),
                Code::TooLong,
                concat!($field, " may have ", $most, " bytes of UTF-8"),
            ),
            control: field(
                concat!("/", $field),
                Code::ControlCharacter,
                concat!($field, " must not contain control characters"),
            ),
            not_text: field(
                concat!("/", $field),
                Code::LoneSurrogate,
                concat!($field, " contains half of a surrogate pair"),
            ),
        };
    };
}

text_field!(EVENT_ID, "event_id", IDENTIFIER_BYTES_MAX, "200");
text_field!(TENANT_ID, "tenant_id", IDENTIFIER_BYTES_MAX, "200");
text_field!(SOURCE, "source", NAME_BYTES_MAX, "100");
text_field!(EVENT_TYPE, "event_type", NAME_BYTES_MAX, "100");
const _: () = assert!(IDENTIFIER_BYTES_MAX == 200 && NAME_BYTES_MAX == 100, "as the details say");

#[inline]
fn name<'b>(value: Option<&'b [u8]>, rules: &Name) -> Result<Cow<'b, str>, FieldError> {
    let value = value.ok_or(rules.missing)?;
    let [b'"', inside @ .., b'"'] = value else { return Err(rules.wrong_type) };
    let text = match std::str::from_utf8(inside) {
        Ok(text) if memchr::memchr(b'\\', inside).is_none() => Cow::Borrowed(text),
        // Unlike our own, its unescaping refuses lone surrogates.
        _ => match serde_json::from_slice::<String>(value) {
            Ok(text) => Cow::Owned(text),
            Err(_) => return Err(rules.not_text),
        },
    };
    if text.is_empty() {
        return Err(rules.empty);
    }
    if text.len() > rules.bytes_max {
        return Err(rules.too_long);
    }
    // Bytes first: nearly every name is printable ASCII.
    let is_plain = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if !is_plain && text.chars().any(char::is_control) {
        return Err(rules.control);
    }
    Ok(text)
}

#[inline]
fn timestamp(value: Option<&[u8]>) -> Result<i64, FieldError> {
    let value = value.ok_or(TIMESTAMP_MISSING)?;
    let [b'"', text @ .., b'"'] = value else { return Err(TIMESTAMP_TYPE) };
    let unescaped;
    let text = if memchr::memchr(b'\\', text).is_some() {
        unescaped = unescape(text);
        &*unescaped
    } else {
        text
    };
    parse_rfc3339(text).map_err(|error| match error {
        TimeError::Syntax if parse_iso8601_lenient(text).is_ok() => TIMESTAMP_OFFSET,
        TimeError::Syntax => TIMESTAMP_SYNTAX,
        TimeError::NoSuchTime => TIMESTAMP_NO_SUCH,
        TimeError::OutOfRange => TIMESTAMP_RANGE,
    })
}

#[inline]
fn payload(value: Option<&[u8]>) -> Result<&str, FieldError> {
    let value = value.ok_or(PAYLOAD_MISSING)?;
    if value.first() != Some(&b'{') {
        return Err(PAYLOAD_TYPE);
    }
    if value.len() > PAYLOAD_BYTES_MAX {
        return Err(PAYLOAD_SIZE);
    }
    std::str::from_utf8(value).map_err(|_| PAYLOAD_TYPE)
}

const fn field(pointer: &'static str, code: Code, detail: &'static str) -> FieldError {
    FieldError { pointer, code, detail }
}

const TIMESTAMP_MISSING: FieldError = field("/timestamp", Code::MissingField, "timestamp is required");
const TIMESTAMP_TYPE: FieldError = field("/timestamp", Code::InvalidType, "timestamp must be a string");
const TIMESTAMP_OFFSET: FieldError = field(
    "/timestamp",
    Code::InvalidTimestamp,
    "timestamp must be RFC 3339 with an offset, such as 2024-01-15T10:30:00Z",
);
const TIMESTAMP_SYNTAX: FieldError = field(
    "/timestamp",
    Code::InvalidTimestamp,
    "timestamp must be an RFC 3339 date-time such as 2024-01-15T10:30:00Z",
);
const TIMESTAMP_NO_SUCH: FieldError = field(
    "/timestamp",
    Code::InvalidTimestamp,
    "timestamp names a date, time of day or offset that does not exist",
);
const TIMESTAMP_RANGE: FieldError =
    field("/timestamp", Code::OutOfRange, "timestamp must not be later than 9999-12-30T22:00:00Z");
const PAYLOAD_MISSING: FieldError =
    field("/payload", Code::MissingField, "payload is required; it may be an empty object");
const PAYLOAD_TYPE: FieldError = field("/payload", Code::InvalidType, "payload must be a JSON object");
const PAYLOAD_SIZE: FieldError = field("/payload", Code::TooLarge, "payload may have 65536 bytes");
const _: () = assert!(PAYLOAD_BYTES_MAX == 65_536, "as the detail says");
