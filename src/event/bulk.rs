//! The rows of `POST /events/bulk`: an envelope or NDJSON, told apart, cut into rows and read.
//!
//! In: the decoded body. Out: every row in order, each an event or what is wrong with it. Owns: nothing,
//! the buffers are the [`Decoder`]'s. Never: a row reported of a body that is refused, memory that grows
//! with anything but the number of rows (136 bytes each, at most [`BULK_EVENTS_MAX`]).
//!
//! ```text
//! NDJSON ───► lines ──────────────────────────────────────────────────────► each a row ─┐
//! envelope ─► members one by one ─► elements of the last `events` ────────► each a row ─┴► field rules
//!                  └─► the text around the elements, as one JSON value
//! ```
//! Each row is read by itself, so that one which simd-json does not take costs nothing but itself. Reading
//! many at once as one array was tried: 410 ns a row instead of 450, not worth its code.

mod envelope;
mod lines;

use self::envelope::NoEnvelope;
use super::decode::{Decoder, is_json};
use super::error::{BulkError, DecodeError};
use super::service_event::ServiceEvent;
use crate::base::limits::BULK_EVENTS_MAX;

type RowEvent<'b> = Result<ServiceEvent<'b>, DecodeError>;

/// A row, and the line it stands on.
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
    /// Calls `row` with the index, the line (from 1, NDJSON only) and the verdict of every row in the
    /// decoded body of `POST /events/bulk`, in order, and tells how many there were. The verdict is what
    /// [`Decoder::service_event`] says of the row's text. For 300-byte rows some 450 ns each; 700 ns where
    /// the rows look inside like what parts them, three times as much for one that needs a second look.
    ///
    /// `is_ndjson` says that the body is NDJSON: one object a line, blank lines skipped. Otherwise it is
    /// the envelope `{"events":[…]}` if it is one JSON object with such a member (other members are
    /// ignored, the last `events` counts, the rows of all of them are limited), and NDJSON if its first line that is not blank is an object.
    ///
    /// # Errors
    /// Where there is no telling the rows apart; `row` has not been called then.
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
                    // Unreachable as long as both readings of the grammar agree; nothing is stored if not.
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
