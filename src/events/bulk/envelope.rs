//! The envelope `{"events":[…]}`: the positions of its rows, and whether the text around them is JSON.

use std::borrow::Cow;

use memchr::memmem;

use super::{RowEvent, Rows};
use crate::base::limits::JSON_DEPTH_MAX;
use crate::event::{
    BulkError, Code, DecodeError, Decoder, FieldError, SIMD_BYTES_MAX, field, is_deeper_than, is_json,
    skip_whitespace, string_end, unescape, value_end,
};

const NOT_AN_ENVELOPE: FieldError =
    field("", Code::NotAnObject, "the body must be a JSON object with an array events, or NDJSON");
const EVENTS_MISSING: FieldError = field("/events", Code::MissingField, "events is required");
const EVENTS_TYPE: FieldError = field("/events", Code::InvalidType, "events must be an array");
const NO_EVENTS: FieldError = field("/events", Code::Empty, "events must contain at least one event");

/// The longest spelling of `events`: every byte as `\u0000`.
const ESCAPED_KEY_BYTES_MAX: usize = 6 * "events".len();

/// The maximum number of bytes between two rows, including the start of the second one, that serve as the boundary to
/// search for.
const BOUNDARY_BYTES_MAX: usize = 256;

/// How many rows are scanned after a wrong guess. A wrong guess costs about as much as a row, so it is not repeated
/// for every row.
const ROWS_SCANNED_AFTER_A_MISS: usize = 16;

/// Why a body is not an envelope with rows.
pub(super) enum NoEnvelope {
    /// The body is not one JSON value.
    NotJson,
    /// The body is JSON without an `events` member.
    NoEvents(FieldError),
    /// The body is an envelope that must be refused.
    Refused(BulkError),
}

impl From<BulkError> for NoEnvelope {
    fn from(error: BulkError) -> NoEnvelope {
        NoEnvelope::Refused(error)
    }
}

impl Decoder {
    /// Parses the rows of an envelope.
    pub(super) fn envelope<'b>(&mut self, body: &'b [u8], rows: &mut Rows<'b>) -> Result<(), NoEnvelope> {
        let mut at = skip_whitespace(body, 0);
        if body.get(at) != Some(&b'{') {
            is_json(body).map_err(|_| NoEnvelope::NotJson)?;
            return Err(NoEnvelope::NoEvents(NOT_AN_ENVELOPE));
        }
        // `skeleton` is the body without the rows. Rows are checked as they are read, and the skeleton is checked at
        // the end. Only then is it certain that the members that were found are members of a JSON object.
        let mut skeleton = Cow::Borrowed(body);
        let mut skeleton_until = 0;
        let mut events_are_array = None;
        let mut first_row = 0;
        at = skip_whitespace(body, at + 1);
        if body.get(at) != Some(&b'}') {
            loop {
                if body.get(at) != Some(&b'"') {
                    return Err(NoEnvelope::NotJson);
                }
                let key_end = string_end(body, at);
                let is_events = body.get(at + 1..key_end - 1).is_some_and(is_events);
                at = skip_whitespace(body, key_end);
                if body.get(at) != Some(&b':') {
                    return Err(NoEnvelope::NotJson);
                }
                at = skip_whitespace(body, at + 1);
                let is_array = body.get(at) == Some(&b'[');
                if is_events {
                    events_are_array = Some(is_array);
                }
                if is_events && is_array {
                    if skeleton_until == 0 {
                        skeleton = Cow::Owned(Vec::new());
                    }
                    skeleton.to_mut().extend_from_slice(&body[skeleton_until..=at]);
                    first_row = rows.0.len();
                    skeleton_until = self.array(body, at + 1, rows)?;
                    at = skeleton_until + 1;
                } else {
                    at = value_end(body, at);
                }
                at = skip_whitespace(body, at);
                match body.get(at) {
                    Some(b',') => at = skip_whitespace(body, at + 1),
                    Some(b'}') => break,
                    _ => return Err(NoEnvelope::NotJson),
                }
            }
        }
        if skip_whitespace(body, at + 1) != body.len() {
            return Err(NoEnvelope::NotJson);
        }
        if skeleton_until > 0 {
            skeleton.to_mut().extend_from_slice(&body[skeleton_until..]);
        }
        if is_deeper_than(&skeleton, JSON_DEPTH_MAX) {
            return Err(NoEnvelope::Refused(DecodeError::TooDeep.into()));
        }
        is_json(&skeleton).map_err(|_| NoEnvelope::NotJson)?;
        // Rows of earlier `events` members have counted towards the limit, because they cost as much.
        rows.0.drain(..first_row);
        match events_are_array {
            None => Err(NoEnvelope::NoEvents(EVENTS_MISSING)),
            Some(false) => Err(NoEnvelope::Refused(BulkError::Rows(EVENTS_TYPE))),
            Some(true) if rows.0.is_empty() => Err(NoEnvelope::Refused(BulkError::Rows(NO_EVENTS))),
            Some(true) => Ok(()),
        }
    }

    /// Parses the rows of the array whose bracket precedes `at`. Returns the offset of the closing bracket.
    fn array<'b>(&mut self, body: &'b [u8], at: usize, rows: &mut Rows<'b>) -> Result<usize, NoEnvelope> {
        let mut start = skip_whitespace(body, at);
        if body.get(start) == Some(&b']') {
            return Ok(start);
        }
        let mut boundary: Option<memmem::Finder<'b>> = None;
        let mut rows_to_scan = 0;
        loop {
            let rest = &body[start..];
            let guess = boundary.as_ref().and_then(|boundary| row_before(rest, boundary));
            // A JSON object is never a prefix of another one, so whatever simd-json accepts is the row.
            let event = guess.and_then(|row| self.service_event_at_first_look(row));
            let (row, event) = match (guess, event) {
                (Some(row), Some(event)) => (row, event),
                _ => self.scanned_row(rest)?,
            };
            // A row that ends where it was expected to end, but that simd-json refuses, is not a miss.
            if boundary.is_some() && guess.is_none_or(|guess| guess.len() != row.len()) {
                (boundary, rows_to_scan) = (None, ROWS_SCANNED_AFTER_A_MISS);
            }
            rows.push(None, event)?;
            let end = start + row.len();
            let after = skip_whitespace(body, end);
            match body.get(after) {
                Some(b',') => {}
                Some(b']') => return Ok(after),
                _ => return Err(NoEnvelope::NotJson),
            }
            start = skip_whitespace(body, after + 1);
            if boundary.is_none() {
                rows_to_scan = usize::saturating_sub(rows_to_scan, 1);
                if rows_to_scan == 0 {
                    boundary = boundary_between(body, end, start).map(memmem::Finder::new);
                }
            }
        }
    }

    /// Returns the row at the start of `text`, found by counting brackets.
    fn scanned_row<'b>(&mut self, text: &'b [u8]) -> Result<(&'b [u8], RowEvent<'b>), NoEnvelope> {
        let row = &text[..value_end(text, 0)];
        let event = self.service_event(row);
        match event {
            Ok(_) | Err(DecodeError::Fields(_)) => {}
            // The rest of the body can be separated from this row only if the row is valid JSON apart from its depth.
            Err(DecodeError::TooDeep) => is_json(row).map_err(|_| NoEnvelope::NotJson)?,
            Err(_) => return Err(NoEnvelope::NotJson),
        }
        Ok((row, event))
    }
}

fn is_events(key: &[u8]) -> bool {
    key == b"events"
        || (key.len() <= ESCAPED_KEY_BYTES_MAX
            && memchr::memchr(b'\\', key).is_some()
            && *unescape(key) == *b"events")
}

/// Returns the text up to the next occurrence of the boundary, including the boundary's brace.
fn row_before<'b>(text: &'b [u8], boundary: &memmem::Finder<'_>) -> Option<&'b [u8]> {
    let window = &text[..text.len().min(SIMD_BYTES_MAX)];
    boundary.find(window).map(|brace| &window[..=brace])
}

/// Returns the bytes from the closing brace of a row that ends at `end` to the first colon of the row at `start`. Two
/// objects that begin with the same member have the same boundary, and objects nested in them rarely do.
fn boundary_between(body: &[u8], end: usize, start: usize) -> Option<&[u8]> {
    let brace = end.checked_sub(1)?;
    if (body.get(brace), body.get(start)) != (Some(&b'}'), Some(&b'{')) {
        return None;
    }
    let text = &body[brace..body.len().min(brace + BOUNDARY_BYTES_MAX)];
    let colon = memchr::memchr(b':', text.get(start - brace..)?)?;
    Some(&text[..start - brace + colon])
}
