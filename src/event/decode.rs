//! The decoder: simd-json first, an exact second look at what it refuses, spans in the bytes received.

use simd_json::tape::Tape;
use simd_json::{Buffers, INPUT_PADDING};

use super::error::DecodeError;
use super::fields::{Click, RawFields, not_an_object};
use super::json;
use crate::base::limits::JSON_DEPTH_MAX;

/// A body above this gives its buffers back afterwards: what simd-json keeps is up to 28 times the
/// body (a tape node a bracket), and large bodies are rare enough to pay for an allocation.
const BODY_BYTES_KEPT: usize = 64 * 1024;

/// Reads events; reused, one a core. Keeps a padded copy of the body, simd-json's buffers and its tape:
/// some 4 KiB for small events, at most 2 MiB.
pub struct Decoder {
    /// simd-json rewrites its input and leaves rubbish on an error, so it gets a copy.
    copy: Vec<u8>,
    buffers: Buffers,
    /// Always empty here: only its allocation is kept.
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

    /// The event in the decoded body of `POST /event`. Allocates nothing for a valid event once the
    /// buffers have grown to its size. For 200 bytes some 300 ns when events are alike, 400 ns when no two
    /// are, 800 ns where a second look is needed.
    ///
    /// # Errors
    /// What is wrong, and for JSON every broken field at once.
    pub fn click<'b>(&mut self, body: &'b [u8]) -> Result<Click<'b>, DecodeError> {
        let fields = if self.simd_json_accepts(body) {
            fields_by_index(body, self.buffers.structural_indexes())
        } else {
            fields_by_second_look(body)?
        };
        if body.len() > BODY_BYTES_KEPT {
            *self = Decoder::new();
        }
        fields.ok_or_else(not_an_object)?.check()
    }

    /// Whether simd-json takes the body as one JSON value no deeper than the limit. It never takes what
    /// RFC 8259 does not allow, and leaves the offsets of all structural characters behind.
    fn simd_json_accepts(&mut self, body: &[u8]) -> bool {
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

/// The fields of a valid document, by the offsets of its structural characters: brackets, colons,
/// commas, opening quotes, first bytes of other scalars. `None` if it is no object.
fn fields_by_index<'b>(body: &'b [u8], indexes: &[u32]) -> Option<RawFields<'b>> {
    let mut structurals = indexes.iter().map(|&at| (at as usize, body[at as usize]));
    let Some((_, b'{')) = structurals.next() else { return None };
    let mut fields = RawFields::default();
    // Each turn is one member: key, colon, value, and the comma or brace after it.
    while let Some((key, b'"')) = structurals.next() {
        let Some((colon, _)) = structurals.next() else { break };
        let Some((start, first)) = structurals.next() else { break };
        if matches!(first, b'{' | b'[') {
            let mut depth = 1_usize;
            for (_, byte) in structurals.by_ref() {
                match byte {
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => continue,
                }
                if depth == 0 {
                    break;
                }
            }
        }
        let Some((after, _)) = structurals.next() else { break };
        let key = trim_end(&body[key + 1..colon]);
        fields.note(&key[..key.len().saturating_sub(1)], trim_end(&body[start..after]));
    }
    Some(fields)
}

#[inline]
fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., last] = bytes
        && json::is_whitespace(*last)
    {
        bytes = rest;
    }
    bytes
}

/// The fields of what simd-json refused, if RFC 8259 allows it after all. Depth first, so that nothing
/// ever follows nesting further than the limit.
#[cold]
fn fields_by_second_look(body: &[u8]) -> Result<Option<RawFields<'_>>, DecodeError> {
    if body.is_empty() {
        return Err(DecodeError::Empty);
    }
    if json::is_deeper_than(body, JSON_DEPTH_MAX) {
        return Err(DecodeError::TooDeep);
    }
    let text = std::str::from_utf8(body).map_err(|_| DecodeError::NotUtf8)?;
    serde_json::from_str::<&serde_json::value::RawValue>(text)
        .map_err(|error| DecodeError::NotJson { offset: offset(body, &error) })?;
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
