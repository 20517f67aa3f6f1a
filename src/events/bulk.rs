//! The rows of `POST /events/bulk`: an envelope or NDJSON, detected, split into rows and parsed.
//!
//! In: the decoded body. Out: every row in body order, each an event or its errors. Owns: nothing; the buffers belong
//! to the [`Decoder`]. Never: reports a row of a body that is refused, or uses memory that grows with anything but
//! the number of rows (136 bytes each, at most [`BULK_EVENTS_MAX`]).
//!
//! ```text
//! NDJSON ───► lines ──────────────────────────────────────────────────────► each a row ─┐
//! envelope ─► members one by one ─► elements of the last `events` ────────► each a row ─┴► field rules
//!                  └─► the text around the elements, as one JSON value
//! ```
//! Each row is parsed separately, so a row that simd-json refuses does not affect others. Parsing many rows at once
//! as one array took 410 ns per row instead of 450, which does not justify the code.

mod envelope;
mod lines;

use self::envelope::NoEnvelope;
use super::body::ServiceEvent;
use crate::base::limits::BULK_EVENTS_MAX;
use crate::event::{BulkError, DecodeError, Decoder, is_json};

type RowEvent<'b> = Result<ServiceEvent<'b>, DecodeError>;

/// A row and its line number.
struct Row<'b> {
    line: Option<usize>,
    event: RowEvent<'b>,
}

/// The rows read so far.
struct Rows<'b>(Vec<Row<'b>>);

impl<'b> Rows<'b> {
    fn push(&mut self, line: Option<usize>, event: RowEvent<'b>) -> Result<(), BulkError> {
        if self.0.len() == BULK_EVENTS_MAX {
            return Err(BulkError::TooManyRows);
        }
        self.0.push(Row { line, event });
        Ok(())
    }
}

impl Decoder {
    /// Calls `row` for every row in the decoded body of `POST /events/bulk`, in body order, with its index, its line
    /// (from 1, NDJSON only) and its result. Returns the number of rows. The result is that of
    /// [`Decoder::service_event`] for the row's bytes. A row of 300 bytes takes about 450 ns, or 700 ns if the rows
    /// contain text that resembles the boundary between rows. A row that must be parsed again takes three times as
    /// long.
    ///
    /// If `is_ndjson`, the body is NDJSON: one object per line, blank lines skipped. Otherwise, the body is the
    /// envelope `{"events":[…]}` if it is one JSON object with such a member, and NDJSON if its first non-blank line
    /// is an object. Other members of an envelope are ignored and the last `events` counts, but the limit on rows
    /// applies to all `events` members together.
    ///
    /// # Errors
    /// Returns an error if the body cannot be split into rows. In that case, `row` has not been called.
    pub fn bulk<'b>(
        &mut self,
        body: &'b [u8],
        is_ndjson: bool,
        row: &mut dyn FnMut(usize, Option<usize>, Result<ServiceEvent<'b>, DecodeError>),
    ) -> Result<usize, BulkError> {
        if body.is_empty() {
            return Err(BulkError::Body(DecodeError::Empty));
        }
        let mut rows = Rows(Vec::with_capacity((body.len() / 128).min(BULK_EVENTS_MAX)));
        if is_ndjson {
            self.lines(body, &mut rows)?;
        } else {
            match self.envelope(body, &mut rows) {
                Ok(()) => {}
                Err(NoEnvelope::Refused(error)) => return Err(error),
                Err(_) if lines::first_is_object(body) => self.lines(body, &mut rows)?,
                Err(NoEnvelope::NoEvents(error)) => return Err(BulkError::Rows(error)),
                Err(NoEnvelope::NotJson) => {
                    is_json(body)?;
                    // This is unreachable as long as both implementations of the grammar agree. If they do not,
                    // nothing is stored.
                    return Err(BulkError::Body(DecodeError::NotJson { offset: 0 }));
                }
            }
        }
        let count = rows.0.len();
        for (index, Row { line, event }) in rows.0.into_iter().enumerate() {
            row(index, line, event);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
