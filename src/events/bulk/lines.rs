//! NDJSON: one row per line.

use super::Rows;
use crate::event::{BulkError, Code, Decoder, FieldError, field, is_json, skip_whitespace};

const NO_LINES: FieldError = field("", Code::Empty, "the body contains no event");

impl Decoder {
    /// Parses the rows of an NDJSON body.
    pub(super) fn lines<'b>(&mut self, body: &'b [u8], rows: &mut Rows<'b>) -> Result<(), BulkError> {
        rows.0.clear();
        let (mut start, mut line) = (0, 1);
        while start < body.len() {
            let text = first_line(&body[start..]);
            if !is_blank(text) {
                rows.push(Some(line), self.service_event(text))?;
            }
            line += 1;
            start += text.len() + 1;
        }
        if rows.0.is_empty() { Err(BulkError::Rows(NO_LINES)) } else { Ok(()) }
    }
}

/// Returns `true` if the first non-blank line is an object.
pub(super) fn first_is_object(body: &[u8]) -> bool {
    let text = first_line(&body[skip_whitespace(body, 0)..]);
    text.first() == Some(&b'{') && is_json(text).is_ok()
}

fn first_line(rest: &[u8]) -> &[u8] {
    &rest[..memchr::memchr(b'\n', rest).unwrap_or(rest.len())]
}

fn is_blank(line: &[u8]) -> bool {
    skip_whitespace(line, 0) == line.len()
}
