//! Rules for strings and times that several kinds of rows share. An error's message names its field.

use std::borrow::Cow;

use super::error::FieldError;
use super::fields::parsed_unescaped;
use super::json::unescape_exactly;
use super::time::{TimeError, parse_iso8601_lenient, parse_rfc3339};

/// The rule for a string, and its errors.
pub struct TextRule {
    pub bytes_max: usize,
    pub missing: FieldError,
    pub not_a_string: FieldError,
    pub empty: FieldError,
    pub too_long: FieldError,
    pub control_character: FieldError,
    pub lone_surrogate: FieldError,
}

#[inline]
pub fn text<'b>(value: Option<&'b [u8]>, rule: &TextRule) -> Result<Cow<'b, str>, FieldError> {
    let value = value.ok_or(rule.missing)?;
    let [b'"', raw @ .., b'"'] = value else { return Err(rule.not_a_string) };
    // The longest spelling of a byte has six bytes.
    if raw.len() > 6 * rule.bytes_max {
        return Err(rule.too_long);
    }
    let raw = std::str::from_utf8(raw).map_err(|_| rule.lone_surrogate)?;
    // No early exit, so that the compiler vectorises the loop. A plain string needs no further check.
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

/// The rule for one string field: its name (which is also its pointer) and its byte limit, as a number and as a
/// string literal.
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
                concat!($name, " must be at most ", $bytes_max_text, " bytes of UTF-8"),
            ),
            control_character: field(
                concat!("/", $name),
                Code::ControlCharacter,
                concat!($name, " must not contain control characters"),
            ),
            lone_surrogate: field(
                concat!("/", $name),
                Code::InvalidUnicode,
                concat!($name, " must not contain an unpaired surrogate escape"),
            ),
        }
    };
}
pub(crate) use text_rule;

/// The errors for a time.
pub struct TimeRule {
    pub missing: FieldError,
    pub not_a_string: FieldError,
    pub syntax: FieldError,
    pub without_offset: FieldError,
    pub no_such: FieldError,
    pub out_of_range: FieldError,
}

/// Parses an RFC 3339 date-time into microseconds since 1970 UTC.
#[inline]
pub fn time<'r>(value: Option<&[u8]>, rule: &'r TimeRule) -> Result<i64, &'r FieldError> {
    let value = value.ok_or(&rule.missing)?;
    let [b'"', text @ .., b'"'] = value else { return Err(&rule.not_a_string) };
    parsed_unescaped(text, parse_rfc3339).map_err(|error| match error {
        TimeError::Syntax if parsed_unescaped(text, parse_without_offset).is_ok() => &rule.without_offset,
        TimeError::Syntax => &rule.syntax,
        TimeError::NoSuchTime => &rule.no_such,
        TimeError::OutOfRange => &rule.out_of_range,
    })
}

/// Parses a date-time without an offset: after the date, it has no letter and no sign.
fn parse_without_offset(text: &[u8]) -> Result<i64, TimeError> {
    match text.get(11..) {
        Some(time) if !time.iter().any(|byte| matches!(byte, b'Z' | b'z' | b'+' | b'-')) => {
            parse_iso8601_lenient(text)
        }
        _ => Err(TimeError::Syntax),
    }
}

/// The rule for one time field, from its name.
macro_rules! time_rule {
    ($name:literal) => {
        TimeRule {
            missing: field(concat!("/", $name), Code::MissingField, concat!($name, " is required")),
            not_a_string: field(concat!("/", $name), Code::InvalidType, concat!($name, " must be a string")),
            syntax: field(
                concat!("/", $name),
                Code::InvalidTimestamp,
                concat!($name, " must be an RFC 3339 date-time with an offset, such as 2024-01-15T10:30:00Z"),
            ),
            without_offset: field(
                concat!("/", $name),
                Code::InvalidTimestamp,
                concat!($name, " must have an offset from UTC: Z, or one such as +01:00"),
            ),
            no_such: field(
                concat!("/", $name),
                Code::InvalidTimestamp,
                concat!($name, " contains a date, time of day or offset that does not exist"),
            ),
            out_of_range: field(
                concat!("/", $name),
                Code::OutOfRange,
                concat!($name, " must be from 0000-01-01T00:00:00Z to 9999-12-30T22:00:00Z"),
            ),
        }
    };
}
pub(crate) use time_rule;
