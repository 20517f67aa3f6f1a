//! The rules of the six fields of an idempotent event, applied to raw values, all of them before anything
//! is said.

use std::borrow::Cow;

use super::error::{Code, DecodeError, FieldError, FieldErrors};
use super::fields::{
    Collect, TIMESTAMP_MISSING, TIMESTAMP_NO_SUCH, TIMESTAMP_RANGE, TIMESTAMP_TYPE, field, parsed_unescaped,
};
use super::json::{unescape, unescape_exactly};
use super::time::{TimeError, parse_iso8601_lenient, parse_rfc3339};
use crate::base::limits::{IDENTIFIER_BYTES_MAX, NAME_BYTES_MAX, PAYLOAD_BYTES_MAX};

/// One event of `POST /events` and `/events/bulk`. A text is borrowed unless it has escapes in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEvent<'b> {
    /// 1 to 200 bytes, no control characters.
    pub event_id: Cow<'b, str>,
    /// 1 to 200 bytes, no control characters.
    pub tenant_id: Cow<'b, str>,
    /// 1 to 100 bytes, no control characters.
    pub source: Cow<'b, str>,
    /// 1 to 100 bytes, no control characters.
    pub event_type: Cow<'b, str>,
    /// Microseconds since 1970 UTC.
    pub timestamp_us: i64,
    /// One JSON object of at most 64 KiB, exactly the bytes received.
    pub payload: &'b str,
}

/// The raw values of the fields that were found: bytes of one valid JSON value each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawServiceFields<'b> {
    event_id: Option<&'b [u8]>,
    tenant_id: Option<&'b [u8]>,
    source: Option<&'b [u8]>,
    event_type: Option<&'b [u8]>,
    timestamp: Option<&'b [u8]>,
    payload: Option<&'b [u8]>,
}

/// The longest spelling of a name: every byte of `event_type` as `\u0000`.
const ESCAPED_KEY_BYTES_MAX: usize = 6 * "event_type".len();

impl<'b> Collect<'b> for RawServiceFields<'b> {
    #[inline]
    fn note(&mut self, key: &'b [u8], value: &'b [u8]) {
        if let Some(slot) = self.slot(key) {
            *slot = Some(value);
        } else if key.len() <= ESCAPED_KEY_BYTES_MAX && memchr::memchr(b'\\', key).is_some() {
            self.note_escaped(key, value);
        }
    }
}

impl<'b> RawServiceFields<'b> {
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
    fn note_escaped(&mut self, key: &[u8], value: &'b [u8]) {
        if let Some(slot) = self.slot(&unescape(key)) {
            *slot = Some(value);
        }
    }

    /// Every rule on every field.
    #[inline]
    pub(super) fn check(self) -> Result<ServiceEvent<'b>, DecodeError> {
        let event_id = text(self.event_id, &EVENT_ID);
        let tenant_id = text(self.tenant_id, &TENANT_ID);
        let source = text(self.source, &SOURCE);
        let event_type = text(self.event_type, &EVENT_TYPE);
        let (timestamp_us, payload) = (timestamp(self.timestamp), payload(self.payload));
        match (event_id, tenant_id, source, event_type, timestamp_us, payload) {
            (Ok(event_id), Ok(tenant_id), Ok(source), Ok(event_type), Ok(timestamp_us), Ok(payload)) => {
                Ok(ServiceEvent { event_id, tenant_id, source, event_type, timestamp_us, payload })
            }
            (event_id, tenant_id, source, event_type, timestamp_us, payload) => Err(broken([
                event_id.err(),
                tenant_id.err(),
                source.err(),
                event_type.err(),
                timestamp_us.err(),
                payload.err(),
            ])),
        }
    }
}

#[cold]
fn broken(errors: [Option<FieldError>; 6]) -> DecodeError {
    DecodeError::Fields(FieldErrors::new(errors.into_iter().flatten().collect()))
}

/// What a text may be, and what is said where it is not.
pub(super) struct TextRule {
    pub(super) bytes_max: usize,
    pub(super) missing: FieldError,
    pub(super) not_a_string: FieldError,
    pub(super) empty: FieldError,
    pub(super) too_long: FieldError,
    pub(super) control_character: FieldError,
    pub(super) lone_surrogate: FieldError,
}

#[inline]
pub(super) fn text<'b>(value: Option<&'b [u8]>, rule: &TextRule) -> Result<Cow<'b, str>, FieldError> {
    let value = value.ok_or(rule.missing)?;
    let [b'"', raw @ .., b'"'] = value else { return Err(rule.not_a_string) };
    // One byte is never written in more than six.
    if raw.len() > 6 * rule.bytes_max {
        return Err(rule.too_long);
    }
    let raw = std::str::from_utf8(raw).map_err(|_| rule.lone_surrogate)?;
    // No early end: the loop is one for vector instructions. What has nothing special in it is done.
    let is_plain =
        !raw.bytes().fold(false, |special, byte| special | !matches!(byte, 0x20..0x7f) | (byte == b'\\'));
    let text =
        if is_plain { Cow::Borrowed(raw) } else { unescape_exactly(raw).ok_or(rule.lone_surrogate)? };
    if text.is_empty() {
        return Err(rule.empty);
    }
    if text.len() > rule.bytes_max {
        return Err(rule.too_long);
    }
    if !is_plain && text.chars().any(char::is_control) {
        return Err(rule.control_character);
    }
    Ok(text)
}

#[inline]
fn timestamp(value: Option<&[u8]>) -> Result<i64, FieldError> {
    let value = value.ok_or(TIMESTAMP_MISSING)?;
    let [b'"', text @ .., b'"'] = value else { return Err(TIMESTAMP_TYPE) };
    parsed_unescaped(text, parse_rfc3339).map_err(|error| match error {
        TimeError::Syntax if parsed_unescaped(text, parse_without_offset).is_ok() => TIMESTAMP_WITHOUT_OFFSET,
        TimeError::Syntax => TIMESTAMP_SYNTAX,
        TimeError::NoSuchTime => TIMESTAMP_NO_SUCH,
        TimeError::OutOfRange => TIMESTAMP_RANGE,
    })
}

/// A date-time that names no offset: after the date there is no letter and no sign.
pub(super) fn parse_without_offset(text: &[u8]) -> Result<i64, TimeError> {
    match text.get(11..) {
        Some(time) if !time.iter().any(|byte| matches!(byte, b'Z' | b'z' | b'+' | b'-')) => {
            parse_iso8601_lenient(text)
        }
        _ => Err(TimeError::Syntax),
    }
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

/// The rule of one text: pointer, name, limit in bytes as a number and as a text.
macro_rules! text_rule {
    ($name:literal, $bytes_max:expr, $bytes_max_text:literal) => {
        TextRule {
            bytes_max: $bytes_max,
            missing: field(concat!("/", $name), Code::MissingField, concat!($name, " is required")),
            not_a_string: field(concat!("/", $name), Code::InvalidType, concat!($name, " must be a string")),
            empty: field(concat!("/", $name), Code::Empty, concat!($name, " must not be empty")),
            too_long: field(
                concat!("/", $name),
                Code::TooLong,
                concat!($name, " must not have more than ", $bytes_max_text, " bytes of UTF-8"),
            ),
            control_character: field(
                concat!("/", $name),
                Code::ControlCharacter,
                concat!($name, " must not have control characters in it"),
            ),
            lone_surrogate: field(
                concat!("/", $name),
                Code::InvalidUnicode,
                concat!($name, " must not have an escape of half a surrogate pair in it"),
            ),
        }
    };
}
pub(super) use text_rule;

const _: () = assert!(IDENTIFIER_BYTES_MAX == 200 && NAME_BYTES_MAX == 100);
const _: () = assert!(PAYLOAD_BYTES_MAX == 64 * 1024);

static EVENT_ID: TextRule = text_rule!("event_id", IDENTIFIER_BYTES_MAX, "200");
static TENANT_ID: TextRule = text_rule!("tenant_id", IDENTIFIER_BYTES_MAX, "200");
static SOURCE: TextRule = text_rule!("source", NAME_BYTES_MAX, "100");
static EVENT_TYPE: TextRule = text_rule!("event_type", NAME_BYTES_MAX, "100");

const TIMESTAMP_SYNTAX: FieldError = field(
    "/timestamp",
    Code::InvalidTimestamp,
    "timestamp must be an RFC 3339 date-time with an offset, such as 2024-01-15T10:30:00Z",
);
const TIMESTAMP_WITHOUT_OFFSET: FieldError = field(
    "/timestamp",
    Code::InvalidTimestamp,
    "the timestamp's offset from UTC is missing: it ends with Z, or with one such as +01:00",
);
const PAYLOAD_MISSING: FieldError = field("/payload", Code::MissingField, "payload is required");
const PAYLOAD_TYPE: FieldError = field("/payload", Code::InvalidType, "payload must be a JSON object");
const PAYLOAD_SIZE: FieldError =
    field("/payload", Code::TooLarge, "payload must not have more than 65536 bytes as sent");

#[cfg(test)]
mod tests;
