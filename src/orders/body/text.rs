//! The strings of an order, as positions in the line or in the unescaped strings.

use super::walk::Span;
use crate::event::{FieldError, TextRule, unescape_into};

/// The position of a string.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Text {
    start: u32,
    len: u16,
    is_unescaped: bool,
}

/// The storage that strings are read from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Texts<'d> {
    line: &'d str,
    unescaped: &'d str,
}

impl<'d> Texts<'d> {
    /// Combines the line and the unescaped strings. `unescaped` consists of whole strings, each of which was checked
    /// when it was added.
    #[inline]
    pub(super) fn new(line: &'d str, unescaped: &'d [u8]) -> Texts<'d> {
        Texts { line, unescaped: std::str::from_utf8(unescaped).unwrap_or_default() }
    }

    #[inline]
    pub(super) fn get(self, text: Text) -> &'d str {
        let whole = if text.is_unescaped { self.unescaped } else { self.line };
        let start = text.start as usize;
        whole.get(start..start + usize::from(text.len)).unwrap_or_default()
    }
}

/// A line whose strings are read.
pub(super) struct Line<'l> {
    pub(super) text: &'l str,
    /// Set if the line has no escapes, only ASCII and no DEL. Every string then equals its raw bytes and has no
    /// control characters. Most lines are plain, and one check of the line costs less than one check per string.
    is_plain: bool,
}

impl<'l> Line<'l> {
    #[inline]
    pub(super) fn new(text: &'l str) -> Line<'l> {
        // Bytes below 0x20 need no check: valid JSON has them only as whitespace outside of strings.
        Line { text, is_plain: is_plain(text.as_bytes()) }
    }

    /// Returns a string's bytes.
    #[inline]
    pub(super) fn bytes<'t>(&self, text: Text, unescaped: &'t [u8]) -> &'t [u8]
    where
        'l: 't,
    {
        let whole = if text.is_unescaped { unescaped } else { self.text.as_bytes() };
        let start = text.start as usize;
        whole.get(start..start + usize::from(text.len)).unwrap_or_default()
    }

    /// Returns a string's position. Checks the string against the rule's maximum length.
    #[inline]
    pub(super) fn text_or_empty(
        &self,
        span: Span,
        rule: &'static TextRule,
        unescaped: &mut Vec<u8>,
    ) -> Result<Text, &'static FieldError> {
        let value = span.of(self.text).ok_or(&rule.missing)?;
        let [b'"', raw @ .., b'"'] = value else { return Err(&rule.not_a_string) };
        if !self.is_plain && !is_plain(raw) {
            return special(raw, span, rule, unescaped);
        }
        if raw.len() > rule.bytes_max {
            return Err(&rule.too_long);
        }
        Ok(Text { start: span.start + 1, len: raw.len() as u16, is_unescaped: false })
    }

    /// Like [`Line::text_or_empty`], but refuses an empty string.
    #[inline]
    pub(super) fn text(
        &self,
        span: Span,
        rule: &'static TextRule,
        unescaped: &mut Vec<u8>,
    ) -> Result<Text, &'static FieldError> {
        let text = self.text_or_empty(span, rule, unescaped)?;
        if text.len == 0 { Err(&rule.empty) } else { Ok(text) }
    }
}

/// Returns `true` if the bytes are plain. There is no early exit, so that the compiler vectorises the loop.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    !bytes.iter().fold(false, |special, &byte| special | (byte >= 0x7f) | (byte == b'\\'))
}

/// Unescapes and checks a string that has escapes or bytes other than printable ASCII.
fn special(
    raw: &[u8],
    span: Span,
    rule: &'static TextRule,
    unescaped: &mut Vec<u8>,
) -> Result<Text, &'static FieldError> {
    // A byte of the text takes at most six bytes of JSON, such as `\u0041`.
    if raw.len() > 6 * rule.bytes_max {
        return Err(&rule.too_long);
    }
    let before = unescaped.len();
    let is_unescaped = memchr::memchr(b'\\', raw).is_some();
    let bytes = if is_unescaped {
        if !unescape_into(raw, unescaped) {
            unescaped.truncate(before);
            return Err(&rule.lone_surrogate);
        }
        &unescaped[before..]
    } else {
        raw
    };
    let fault = match std::str::from_utf8(bytes) {
        Err(_) => &rule.lone_surrogate,
        Ok(text) if text.len() > rule.bytes_max => &rule.too_long,
        Ok(text) if text.chars().any(char::is_control) => &rule.control_character,
        Ok(text) => {
            let start = if is_unescaped { before as u32 } else { span.start + 1 };
            return Ok(Text { start, len: text.len() as u16, is_unescaped });
        }
    };
    unescaped.truncate(before);
    Err(fault)
}
