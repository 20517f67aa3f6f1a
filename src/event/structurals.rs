//! Walks a JSON text by the offsets of its structural characters: brackets, colons, commas, opening quotes, first bytes
//! of other scalars.

use super::fields::Collect;
use super::json;

/// The structural characters of a JSON text, by ascending offset.
#[derive(Clone)]
pub struct Structurals<'b, 'i> {
    text: &'b [u8],
    indexes: std::slice::Iter<'i, u32>,
}

impl<'b, 'i> Structurals<'b, 'i> {
    #[inline]
    pub(super) fn new(text: &'b [u8], indexes: &'i [u32]) -> Structurals<'b, 'i> {
        Structurals { text, indexes: indexes.iter() }
    }

    /// Returns the fields of the object whose opening brace was the last character read. The object is the whole
    /// text.
    #[inline]
    pub(super) fn members<F: Collect<'b>>(&mut self) -> F {
        let text = self.text;
        let mut fields = F::default();
        // Each iteration reads one member: key, colon, value, and the comma or brace after it.
        while let Some((key, b'"')) = self.next() {
            let Some((colon, _)) = self.next() else { break };
            let Some((start, first)) = self.next() else { break };
            if matches!(first, b'{' | b'[') {
                skip_nested(self);
            }
            let Some((after, _)) = self.next() else { break };
            let key = trim_end(&text[key + 1..colon]);
            fields.note(&key[..key.len().saturating_sub(1)], trim_end(&text[start..after]));
        }
        fields
    }
}

/// Skips to the bracket that closes the last one that was read.
#[inline]
pub fn skip_nested(structurals: &mut impl Iterator<Item = (usize, u8)>) {
    let mut depth = 1_usize;
    for (_, byte) in structurals {
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

impl Iterator for Structurals<'_, '_> {
    /// An offset in the text, and the byte there.
    type Item = (usize, u8);

    #[inline]
    fn next(&mut self) -> Option<(usize, u8)> {
        let at = *self.indexes.next()? as usize;
        Some((at, *self.text.get(at)?))
    }
}

/// Removes trailing whitespace.
#[inline]
pub fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., last] = bytes
        && json::is_whitespace(*last)
    {
        bytes = rest;
    }
    bytes
}
