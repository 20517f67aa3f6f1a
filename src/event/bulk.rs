//! Many idempotent events in one body: an envelope `{"events":[…]}` or NDJSON, told apart by the bytes
//! where the sender does not say.

use super::Decoder;
use super::decode::{Validator, second_look};
use super::error::{BulkError, Code, DecodeError, FieldError, FieldErrors};
use super::json;
use super::service::{RawService, ServiceEvent};
use super::structure::Structure;
use crate::base::limits::{BULK_EVENTS_MAX, JSON_DEPTH_MAX};

/// What the envelope adds to the nesting of its rows.
pub(super) const ENVELOPE_DEPTH: usize = 2;

/// Told of every row: its index, its line where there are lines, and what it is.
type Row<'r, 'b> = &'r mut dyn FnMut(usize, Option<usize>, Result<ServiceEvent<'b>, DecodeError>);

impl Decoder {
    /// The event in the decoded body of `POST /events`. As [`Decoder::click`], in errors and cost.
    pub fn service_event<'b>(&mut self, body: &'b [u8]) -> Result<ServiceEvent<'b>, DecodeError> {
        let mut fields = RawService::default();
        let is_object = if self.one.accepts(body) {
            let mut structure = Structure::new(body, self.one.structural_indexes());
            let is_object = structure.open_object();
            if is_object {
                structure.members(|key, value| fields.note(key, value));
            }
            is_object
        } else {
            second_look(body, JSON_DEPTH_MAX)?;
            json::members(body, |key, value| fields.note(key, value))
        };
        self.one.give_back();
        if is_object { fields.check() } else { Err(not_an_object()) }
    }

    /// The rows of `POST /events/bulk`, in order; returns how many there are. A row that is no event is an
    /// error of that row only. 0.4 us a row of 300 bytes.
    ///
    /// # Errors
    /// What keeps rows from being told apart, or that there are none or too many; no row was told then.
    pub fn bulk<'b>(
        &mut self,
        body: &'b [u8],
        is_ndjson: bool,
        row: Row<'_, 'b>,
    ) -> Result<usize, BulkError> {
        if is_ndjson {
            return self.lines(body, row);
        }
        if self.many.accepts(body) {
            let told = envelope_by_index(&self.many, body, row);
            self.many.give_back();
            return told;
        }
        match second_look(body, JSON_DEPTH_MAX + ENVELOPE_DEPTH) {
            Ok(()) => self.envelope_by_second_look(body, row),
            Err(error @ DecodeError::NotJson { .. }) if !self.begins_with_a_row(body) => Err(error.into()),
            Err(DecodeError::NotJson { .. }) => self.lines(body, row),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the first line that is not blank is an object by itself.
    fn begins_with_a_row(&mut self, body: &[u8]) -> bool {
        let Some((_, line)) = lines(body).next() else { return false };
        line.first() == Some(&b'{') && (self.one.accepts(line) || second_look(line, JSON_DEPTH_MAX).is_ok())
    }

    fn lines<'b>(&mut self, body: &'b [u8], row: Row<'_, 'b>) -> Result<usize, BulkError> {
        let count = lines(body).take(BULK_EVENTS_MAX + 1).count();
        check_count(count)?;
        for (index, (line, bytes)) in lines(body).enumerate() {
            let event = self.service_event(bytes);
            row(index, Some(line), event);
        }
        Ok(count)
    }

    /// Where simd-json refuses the body, for one exotic number perhaps: each row by itself.
    #[cold]
    fn envelope_by_second_look<'b>(&mut self, body: &'b [u8], row: Row<'_, 'b>) -> Result<usize, BulkError> {
        let mut events = None;
        let is_object = json::members(body, |key, value| {
            if is_events(key) {
                events = Some(value);
            }
        });
        let events = events.filter(|value| is_object && value.first() == Some(&b'['));
        let events = events.ok_or(BulkError::NoEnvelope)?;
        let mut count = 0;
        json::elements(events, |_| {
            count += 1;
            count <= BULK_EVENTS_MAX
        });
        check_count(count)?;
        let mut index = 0;
        json::elements(events, |bytes| {
            let event = self.service_event(bytes);
            row(index, None, event);
            index += 1;
            true
        });
        Ok(count)
    }
}

fn envelope_by_index<'b>(valid: &Validator, body: &'b [u8], row: Row<'_, 'b>) -> Result<usize, BulkError> {
    let indexes = valid.structural_indexes();
    let mut structure = Structure::new(body, indexes);
    let mut events = None;
    if structure.open_object() {
        structure.members(|key, value| {
            if is_events(key) {
                events = Some(value);
            }
        });
    }
    let events = events.filter(|value| value.first() == Some(&b'[')).ok_or(BulkError::NoEnvelope)?;
    // Where the array begins among the structural characters; its bracket is one of them.
    let start = (events.as_ptr() as usize - body.as_ptr() as usize) as u32;
    let inside = &indexes[indexes.partition_point(|at| *at <= start)..];
    let count = Structure::new(body, inside).elements(|_, _| true);
    check_count(count)?;
    let mut index = 0;
    Structure::new(body, inside).elements(|structure, first| {
        let event = if first == b'{' {
            let mut fields = RawService::default();
            let depth = structure.members(|key, value| fields.note(key, value));
            if depth > JSON_DEPTH_MAX { Err(DecodeError::TooDeep) } else { fields.check() }
        } else {
            if first == b'[' {
                structure.close();
            }
            Err(not_an_object())
        };
        row(index, None, event);
        index += 1;
        false
    });
    Ok(count)
}

fn is_events(key: &[u8]) -> bool {
    const ESCAPED_BYTES_MAX: usize = 6 * "events".len();
    key == b"events"
        || (key.len() <= ESCAPED_BYTES_MAX
            && memchr::memchr(b'\\', key).is_some()
            && &*json::unescape(key) == b"events")
}

fn check_count(count: usize) -> Result<(), BulkError> {
    match count {
        0 => Err(BulkError::NoRows),
        count if count > BULK_EVENTS_MAX => Err(BulkError::TooMany),
        _ => Ok(()),
    }
}

/// The lines that are not blank, without their ends, numbered from 1.
fn lines(body: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut rest = Some(body);
    let pieces = std::iter::from_fn(move || {
        let bytes = rest?;
        match memchr::memchr(b'\n', bytes) {
            Some(end) => {
                rest = Some(&bytes[end + 1..]);
                Some(&bytes[..end])
            }
            None => {
                rest = None;
                Some(bytes)
            }
        }
    });
    let trimmed = |bytes: &'_ [u8]| bytes.iter().all(|byte| json::is_whitespace(*byte));
    (1..).zip(pieces).filter(move |(_, line)| !trimmed(line)).map(|(number, line)| (number, trim(line)))
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && json::is_whitespace(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && json::is_whitespace(*last)
    {
        bytes = rest;
    }
    bytes
}

#[cold]
fn not_an_object() -> DecodeError {
    let error = FieldError { pointer: "", code: Code::NotAnObject, detail: "an event is a JSON object" };
    DecodeError::Fields(FieldErrors::new(vec![error]))
}

#[cfg(test)]
mod tests;
