//! Walks valid JSON by its structural characters, member by member and element by element.

use crate::event as json;
use crate::event::{skip_nested, trim_end};

/// The position of a value in the line. A member's value never starts at 0.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub(super) start: u32,
    end: u32,
}

impl Span {
    /// Returns the value's bytes, or `None` if there is no value.
    #[inline]
    pub(super) fn of(self, line: &str) -> Option<&[u8]> {
        if self.start == 0 { None } else { line.as_bytes().get(self.start as usize..self.end as usize) }
    }
}

/// An iterator over the structural characters of valid JSON. It reads every byte and yields the same positions as
/// simd-json's index, without that index's memory.
#[derive(Clone)]
pub(super) struct Scan<'b> {
    text: &'b [u8],
    at: usize,
}

impl<'b> Scan<'b> {
    pub(super) fn new(text: &'b [u8]) -> Scan<'b> {
        Scan { text, at: 0 }
    }
}

impl Iterator for Scan<'_> {
    type Item = (usize, u8);

    fn next(&mut self) -> Option<(usize, u8)> {
        let at = json::skip_whitespace(self.text, self.at);
        let byte = *self.text.get(at)?;
        self.at = match byte {
            b'{' | b'}' | b'[' | b']' | b':' | b',' => at + 1,
            _ => json::value_end(self.text, at),
        };
        Some((at, byte))
    }
}

/// Calls `member` for every member of an object whose opening brace was the last character read. It passes the raw
/// key (between its quotes, with escapes), the value's span, and the structural characters inside the value. Reads
/// the closing brace.
#[inline]
pub(super) fn members<I: Iterator<Item = (usize, u8)> + Clone>(
    text: &[u8],
    structurals: &mut I,
    mut member: impl FnMut(&[u8], Span, &I),
) {
    // Each iteration reads one member: key, colon, value, and the comma or brace after it.
    while let Some((key, b'"')) = structurals.next() {
        let Some((colon, _)) = structurals.next() else { break };
        let Some((start, first)) = structurals.next() else { break };
        let inside = structurals.clone();
        if matches!(first, b'{' | b'[') {
            skip_nested(structurals);
        }
        let Some((after, last)) = structurals.next() else { break };
        let key = trim_end(text.get(key + 1..colon).unwrap_or_default());
        let value = trim_end(text.get(start..after).unwrap_or_default());
        let span = Span { start: start as u32, end: (start + value.len()) as u32 };
        member(&key[..key.len().saturating_sub(1)], span, &inside);
        if last == b'}' {
            break;
        }
    }
}

/// Calls `element` with the first byte of every element of an array whose opening bracket was the last character
/// read, until `element` returns `false`. `element` must read a nested object or array to its end.
#[inline]
pub(super) fn elements<I: Iterator<Item = (usize, u8)>>(
    structurals: &mut I,
    mut element: impl FnMut(u8, &mut I) -> bool,
) {
    while let Some((_, first)) = structurals.next() {
        if first == b']' || !element(first, structurals) {
            break;
        }
        let Some((_, b',')) = structurals.next() else { break };
    }
}
