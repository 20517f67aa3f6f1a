//! The decoder: simd-json first, an exact second look at what it refuses, spans in the bytes received.

use simd_json::tape::Tape;
use simd_json::{Buffers, INPUT_PADDING};

use super::bulk::ENVELOPE_DEPTH;
use super::error::DecodeError;
use super::fields::{Click, RawFields, not_an_object};
use super::json;
use super::structure::Structure;
use crate::base::limits::JSON_DEPTH_MAX;

/// A body above this gives its buffers back afterwards: what simd-json keeps is up to 28 times the
/// body (a tape node a bracket), and large bodies are rare enough to pay for an allocation.
const BODY_BYTES_KEPT: usize = 64 * 1024;

/// The same for bodies of many events, where large ones are the rule.
const BULK_BODY_BYTES_KEPT: usize = 4 * 1024 * 1024;

/// Brackets, commas and colons of a body that simd-json is given: its tape takes 16 bytes and more for each.
/// A body with more of them takes the second way, which keeps nothing.
const STRUCTURALS_MAX: usize = 2 * 1024 * 1024;

/// simd-json as a validator, with its buffers.
pub(super) struct Validator {
    /// simd-json rewrites its input and leaves rubbish on an error, so it gets a copy.
    copy: Vec<u8>,
    buffers: Buffers,
    /// Always empty here: only its allocation is kept.
    tape: Tape<'static>,
    depth_max: usize,
    bytes_kept: usize,
}

impl Validator {
    fn new(depth_max: usize, bytes_kept: usize) -> Validator {
        Validator {
            copy: Vec::new(),
            buffers: Buffers::with_max_depth(1024, depth_max),
            tape: Tape(Vec::new()),
            depth_max,
            bytes_kept,
        }
    }

    /// Whether simd-json takes the body as one JSON value no deeper than the limit. It never takes what
    /// RFC 8259 does not allow, and leaves the offsets of all structural characters behind.
    pub(super) fn accepts(&mut self, body: &[u8]) -> bool {
        if body.len() > STRUCTURALS_MAX && structurals(body) > STRUCTURALS_MAX {
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

    /// Offsets into the body last accepted.
    pub(super) fn structural_indexes(&self) -> &[u32] {
        self.buffers.structural_indexes()
    }

    /// Frees what a large body left.
    pub(super) fn give_back(&mut self) {
        if self.copy.len() > self.bytes_kept + INPUT_PADDING {
            *self = Validator::new(self.depth_max, self.bytes_kept);
        }
    }
}

fn structurals(body: &[u8]) -> usize {
    body.iter().filter(|byte| matches!(byte, b'[' | b'{' | b',' | b':' | b'}' | b']')).count()
}

/// Reads events; reused, one a core. Keeps padded copies of the bodies, simd-json's buffers and its tapes:
/// some 4 KiB for small events, at most 2 MiB, and after bulk requests their size several times over.
pub struct Decoder {
    pub(super) one: Validator,
    pub(super) many: Validator,
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
            one: Validator::new(JSON_DEPTH_MAX, BODY_BYTES_KEPT),
            many: Validator::new(JSON_DEPTH_MAX + ENVELOPE_DEPTH, BULK_BODY_BYTES_KEPT),
        }
    }

    /// The event in the decoded body of `POST /event`. Allocates nothing for a valid event once the
    /// buffers have grown to its size. For 200 bytes some 300 ns when events are alike, 400 ns when no two
    /// are, 800 ns where a second look is needed.
    ///
    /// # Errors
    /// What is wrong, and for JSON every broken field at once.
    pub fn click<'b>(&mut self, body: &'b [u8]) -> Result<Click<'b>, DecodeError> {
        let fields = if self.one.accepts(body) {
            fields_by_index(body, self.one.structural_indexes())
        } else {
            fields_by_second_look(body)?
        };
        self.one.give_back();
        fields.ok_or_else(not_an_object)?.check()
    }
}

/// The fields of a valid document; `None` if it is no object.
fn fields_by_index<'b>(body: &'b [u8], indexes: &[u32]) -> Option<RawFields<'b>> {
    let mut structure = Structure::new(body, indexes);
    let mut fields = RawFields::default();
    structure.open_object().then(|| {
        structure.members(|key, value| fields.note(key, value));
        fields
    })
}

/// Whether RFC 8259 allows what simd-json refused. Depth first, so that nothing ever follows nesting
/// further than the limit.
#[cold]
pub(super) fn second_look(body: &[u8], depth_max: usize) -> Result<(), DecodeError> {
    if body.is_empty() {
        return Err(DecodeError::Empty);
    }
    if json::is_deeper_than(body, depth_max) {
        return Err(DecodeError::TooDeep);
    }
    let text = std::str::from_utf8(body).map_err(|_| DecodeError::NotUtf8)?;
    serde_json::from_str::<&serde_json::value::RawValue>(text)
        .map_err(|error| DecodeError::NotJson { offset: offset(body, &error) })?;
    Ok(())
}

/// The fields of what simd-json refused.
#[cold]
fn fields_by_second_look(body: &[u8]) -> Result<Option<RawFields<'_>>, DecodeError> {
    second_look(body, JSON_DEPTH_MAX)?;
    let mut fields = RawFields::default();
    Ok(json::members(body, |key, value| fields.note(key, value)).then_some(fields))
}

/// The byte that serde_json's line and column (both from 1, columns in bytes) mean; the length of the
/// body where it ended too early.
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
