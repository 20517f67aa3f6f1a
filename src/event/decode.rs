//! The decoder: one pass over an object, then simd-json, then an exact second look at what both refuse. Fields are spans
//! of the received bytes.

use simd_json::tape::Tape;
use simd_json::{Buffers, INPUT_PADDING};

use super::error::DecodeError;
use super::fields::{Click, Collect, RawFields, not_an_object};
use super::json;
use super::one_pass;
use super::structurals::Structurals;
use crate::base::limits::JSON_DEPTH_MAX;

/// The buffers are freed after a body above this size. simd-json keeps up to 28 times the body's size (a tape node
/// per bracket), and large bodies are so rare that allocating again does not matter.
const BODY_BYTES_KEPT: usize = 64 * 1024;

/// A body above this size gets the second look at once, which needs no memory. On each core, simd-json may briefly
/// need up to 28 times this size.
pub const SIMD_BYTES_MAX: usize = 256 * 1024;

/// Parses events. Each core has one decoder and reuses it. It keeps a padded copy of the body, simd-json's buffers
/// and its tape: about 4 KiB for small events, at most 2 MiB.
pub struct Decoder {
    /// simd-json rewrites its input and leaves garbage after an error, so it gets a copy.
    copy: Vec<u8>,
    pub(super) buffers: Buffers,
    /// Always empty here. Only its allocation is kept.
    tape: Tape<'static>,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

impl Decoder {
    #[must_use]
    pub fn new() -> Decoder {
        Decoder {
            copy: Vec::new(),
            buffers: Buffers::with_max_depth(1024, JSON_DEPTH_MAX),
            tape: Tape(Vec::new()),
        }
    }

    /// Parses the decoded body of `POST /event`. Allocates nothing for a valid event once the buffers have grown to its
    /// size. For 200 bytes it takes about 110 ns, and 800 ns if a second look is needed.
    ///
    /// # Errors
    /// The error in the body. For JSON that is not an event, it lists every invalid field.
    pub fn click<'b>(&mut self, body: &'b [u8]) -> Result<Click<'b>, DecodeError> {
        self.fields::<RawFields<'b>>(body)?.check()
    }

    /// Returns the raw fields of one kind of event.
    ///
    /// # Errors
    /// The body is not a JSON object.
    #[inline]
    pub fn fields<'b, F: Collect<'b>>(&mut self, body: &'b [u8]) -> Result<F, DecodeError> {
        if let Some(fields) = one_pass::fields(body) {
            return Ok(fields);
        }
        let fields = if self.simd_json_accepts(body) {
            fields_by_index(body, self.buffers.structural_indexes())
        } else {
            fields_by_second_look(body)?
        };
        self.give_back();
        fields.ok_or_else(not_an_object)
    }

    /// Does what [`Decoder::fields`] does for input that simd-json accepts. Returns `None` for any other input.
    pub fn fields_at_first_look<'b, F: Collect<'b>>(
        &mut self,
        body: &'b [u8],
    ) -> Option<Result<F, DecodeError>> {
        let is_accepted = self.simd_json_accepts(body);
        let fields =
            if is_accepted { fields_by_index(body, self.buffers.structural_indexes()) } else { None };
        self.give_back();
        is_accepted.then(|| fields.ok_or_else(not_an_object))
    }

    /// Returns the structural characters of a body that [`Decoder::simd_json_accepts`] just accepted.
    #[must_use]
    pub fn structurals<'b>(&self, body: &'b [u8]) -> Structurals<'b, '_> {
        Structurals::new(body, self.buffers.structural_indexes())
    }

    /// Frees the parser's buffers if a large body made them large.
    #[inline]
    pub fn give_back(&mut self) {
        if self.copy.len() > BODY_BYTES_KEPT + INPUT_PADDING {
            *self = Decoder::new();
        }
    }

    /// Returns the memory held by the buffers whose size is known.
    #[cfg(test)]
    pub(crate) fn bytes_kept(&self) -> usize {
        self.copy.capacity()
            + self.tape.0.capacity() * size_of::<simd_json::Node<'static>>()
            + size_of_val(self.buffers.structural_indexes())
    }

    /// Returns `true` if simd-json accepts the body as one JSON value within the depth limit. simd-json accepts
    /// only documents that RFC 8259 permits. Afterwards, the offsets of all structural characters are available.
    pub fn simd_json_accepts(&mut self, body: &[u8]) -> bool {
        if body.len() > SIMD_BYTES_MAX {
            return false;
        }
        let padded_len = body.len() + INPUT_PADDING;
        if self.copy.len() < padded_len {
            self.copy.resize(padded_len, 0);
        }
        self.copy[..body.len()].copy_from_slice(body);
        let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let accepted = simd_json::fill_tape_padded(
            &mut self.copy[..padded_len],
            body.len(),
            &mut self.buffers,
            &mut tape,
        )
        .is_ok();
        self.tape = tape.reset();
        accepted
    }
}

/// Returns the fields of a valid document, found by the offsets of its structural characters. `None` if it is not an
/// object.
#[inline]
fn fields_by_index<'b, F: Collect<'b>>(body: &'b [u8], indexes: &[u32]) -> Option<F> {
    let mut structurals = Structurals::new(body, indexes);
    let Some((_, b'{')) = structurals.next() else { return None };
    Some(structurals.members())
}

/// Returns the fields of a body that simd-json refused, if RFC 8259 permits the body.
#[cold]
fn fields_by_second_look<'b, F: Collect<'b>>(body: &'b [u8]) -> Result<Option<F>, DecodeError> {
    second_look(body)?;
    let mut fields = F::default();
    Ok(json::members(body, |key, value| fields.note(key, value)).then_some(fields))
}

/// Checks a body that simd-json refused, and returns its error if it has one. Checks the depth first, so that nothing
/// ever recurses beyond the limit.
#[cold]
pub fn second_look(body: &[u8]) -> Result<(), DecodeError> {
    if body.is_empty() {
        return Err(DecodeError::Empty);
    }
    if json::is_deeper_than(body, JSON_DEPTH_MAX) {
        return Err(DecodeError::TooDeep);
    }
    is_json(body)
}

/// Checks that the bytes are one JSON value of any depth. Needs one byte of memory per level.
pub fn is_json(body: &[u8]) -> Result<(), DecodeError> {
    let text = std::str::from_utf8(body).map_err(|_| DecodeError::NotUtf8)?;
    serde_json::from_str::<&serde_json::value::RawValue>(text)
        .map(|_| ())
        .map_err(|error| DecodeError::NotJson { offset: offset(body, &error) })
}

/// Converts serde_json's line and column (both from 1, columns in bytes) to an offset. The result is the length of
/// the body if the body ends too early.
fn offset(body: &[u8], error: &serde_json::Error) -> usize {
    if error.is_eof() {
        return body.len();
    }
    let line_start = match error.line() {
        0 | 1 => 0,
        line => memchr::memchr_iter(b'\n', body).nth(line - 2).map_or(body.len(), |at| at + 1),
    };
    (line_start + error.column().saturating_sub(1)).min(body.len().saturating_sub(1))
}

#[cfg(test)]
mod tests;
