//! Walking a valid document by the offsets of its structural characters: brackets, colons, commas, opening
//! quotes, first bytes of other scalars. simd-json leaves them behind when it validates.

use super::json;

/// A cursor over the structural characters of one valid JSON document.
pub(super) struct Structure<'b, 'i> {
    body: &'b [u8],
    indexes: std::slice::Iter<'i, u32>,
}

impl<'b, 'i> Structure<'b, 'i> {
    pub(super) fn new(body: &'b [u8], indexes: &'i [u32]) -> Structure<'b, 'i> {
        Structure { body, indexes: indexes.iter() }
    }

    #[inline]
    fn next(&mut self) -> Option<(usize, u8)> {
        self.indexes.next().map(|&at| (at as usize, self.body[at as usize]))
    }

    /// Calls `element` at the first byte of every element of the array whose bracket was just passed; it
    /// either reads the element to its end or returns `true` to have it stepped over. Returns how many
    /// there are.
    #[inline]
    pub(super) fn elements(&mut self, mut element: impl FnMut(&mut Self, u8) -> bool) -> usize {
        let mut count = 0;
        while let Some((_, first)) = self.next() {
            if first == b']' {
                break;
            }
            count += 1;
            if element(self, first) && matches!(first, b'{' | b'[') {
                self.close();
            }
            if !matches!(self.next(), Some((_, b','))) {
                break;
            }
        }
        count
    }

    /// Steps behind the bracket that closes the one just passed; how deep brackets nest, that one included.
    #[inline]
    pub(super) fn close(&mut self) -> usize {
        let (mut depth, mut deepest) = (1_usize, 1);
        while let Some((_, byte)) = self.next() {
            match byte {
                b'{' | b'[' => {
                    depth += 1;
                    deepest = deepest.max(depth);
                }
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
                _ => {}
            }
        }
        deepest
    }

    /// Steps over the opening brace of an object; `false` (and nothing to be read) where there is none.
    #[inline]
    pub(super) fn open_object(&mut self) -> bool {
        matches!(self.next(), Some((_, b'{')))
    }

    /// Raw key and raw value of each member of the object just opened, up to and over its closing brace; how
    /// deep brackets nest in it, its own included.
    #[inline]
    pub(super) fn members(&mut self, mut member: impl FnMut(&'b [u8], &'b [u8])) -> usize {
        let mut deepest = 1;
        // Each turn is one member: key, colon, value, and the comma or brace after it.
        while let Some((key, b'"')) = self.next() {
            let Some((colon, _)) = self.next() else { break };
            let Some((start, first)) = self.next() else { break };
            let depth = if matches!(first, b'{' | b'[') { self.close() } else { 0 };
            let Some((after, end)) = self.next() else { break };
            let key = trim_end(&self.body[key + 1..colon]);
            let bytes = trim_end(&self.body[start..after]);
            deepest = deepest.max(depth + 1);
            member(&key[..key.len().saturating_sub(1)], bytes);
            if end == b'}' {
                break;
            }
        }
        deepest
    }
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
