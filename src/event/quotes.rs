//! The ends of a JSON text's strings, from the positions of its quotes, found 64 bytes at a time.
//!
//! A scan of one string has to end before the next can begin, because it yields where that begins. The quotes of 64
//! bytes are a word instead, and passing one takes two instructions that depend on nothing else.
#![allow(
    unsafe_code,
    reason = "instructions for 16 bytes halve the time of a scan, and have no safe wrapper in std"
)]

use super::one_pass::string_end;

const BLOCK_BYTES: usize = 64;
const PART_BYTES: usize = 16;

/// The quotes of a text that were not passed yet. Escapes have quotes that end nothing: from the first block that has a
/// backslash, or a byte below a space, each string is scanned.
pub(super) struct Quotes<'b> {
    body: &'b [u8],
    /// The quotes that were not passed in the last block that was read, lowest bit first.
    unpassed: u64,
    /// The offset after that block.
    next: usize,
    has_other_letters: bool,
    is_plain: bool,
}

impl<'b> Quotes<'b> {
    #[inline(always)]
    pub(super) fn new(body: &'b [u8]) -> Quotes<'b> {
        Quotes { body, unpassed: 0, next: 0, has_other_letters: false, is_plain: true }
    }

    /// Returns the offset after the closing quote of the string whose content begins at `at`. Every earlier string must
    /// have been passed, and no quote may be between them.
    #[inline(always)]
    pub(super) fn string_end(&mut self, at: usize) -> Option<usize> {
        if self.is_plain {
            let opening = self.pass();
            debug_assert!(opening == Some(at) || !self.is_plain, "a quote outside of a string");
            let closing = self.pass();
            if self.is_plain {
                return closing;
            }
        }
        string_end(self.body, at)
    }

    /// Returns `true` if no string that was passed has a byte above 0x7F.
    #[inline(always)]
    pub(super) fn are_ascii(&self) -> bool {
        if self.is_plain { !self.has_other_letters } else { self.body.is_ascii() }
    }

    /// Returns the offset after the next quote. `None` if there is none, or if a block is not plain.
    #[inline(always)]
    fn pass(&mut self) -> Option<usize> {
        while self.unpassed == 0 {
            if !self.read_block() {
                return None;
            }
        }
        let end = self.next - BLOCK_BYTES + self.unpassed.trailing_zeros() as usize + 1;
        self.unpassed &= self.unpassed - 1;
        Some(end)
    }

    /// Reads the next block. Returns `false` if there is none, or if it is not plain.
    #[inline(never)]
    fn read_block(&mut self) -> bool {
        let Some(rest) = self.body.get(self.next..).filter(|rest| !rest.is_empty()) else { return false };
        let mut marks = Marks::default();
        match (rest.first_chunk::<BLOCK_BYTES>(), self.body.last_chunk::<BLOCK_BYTES>()) {
            (Some(block), _) => marks.note_block(block),
            (None, Some(last)) => {
                marks.note_block(last);
                marks.quotes >>= BLOCK_BYTES - rest.len();
            }
            (None, None) => marks.note_short(rest),
        }
        self.next += BLOCK_BYTES;
        self.unpassed = marks.quotes;
        self.has_other_letters |= marks.has_other_letters();
        self.is_plain = !marks.has_special();
        self.is_plain
    }
}

impl Marks {
    /// Notes fewer bytes than a block has.
    fn note_short(&mut self, bytes: &[u8]) {
        let (parts, rest) = bytes.as_chunks::<PART_BYTES>();
        for (at, part) in parts.iter().enumerate() {
            self.note(part, at * PART_BYTES);
        }
        if !rest.is_empty() {
            let mut part = [b' '; PART_BYTES];
            part[..rest.len()].copy_from_slice(rest);
            self.note(&part, bytes.len() - rest.len());
        }
    }

    #[inline(always)]
    fn note_block(&mut self, block: &[u8; BLOCK_BYTES]) {
        for (at, part) in block.as_chunks::<PART_BYTES>().0.iter().enumerate() {
            self.note(part, at * PART_BYTES);
        }
    }
}

#[cfg(target_arch = "x86_64")]
use x86_64::Marks;

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x,
        _mm_set1_epi8, _mm_setzero_si128,
    };

    use super::PART_BYTES;

    /// The content of a block.
    pub(super) struct Marks {
        pub(super) quotes: u64,
        /// The bytes of each part that are special, and those of all parts.
        special: __m128i,
        all: __m128i,
    }

    impl Default for Marks {
        #[inline(always)]
        fn default() -> Marks {
            // SAFETY: every processor of this architecture has SSE2.
            let zero = unsafe { _mm_setzero_si128() };
            Marks { quotes: 0, special: zero, all: zero }
        }
    }

    impl Marks {
        /// Notes the bytes at offset `at` of the block.
        #[inline(always)]
        pub(super) fn note(&mut self, part: &[u8; PART_BYTES], at: usize) {
            let bits = u128::from_le_bytes(*part);
            // SAFETY: every processor of this architecture has SSE2.
            unsafe {
                let bytes = _mm_set_epi64x((bits >> 64) as i64, bits as i64);
                let quotes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
                let escapes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
                let controls = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(b' ' as i8 - 1)), bytes);
                self.quotes |= u64::from(_mm_movemask_epi8(quotes) as u16) << at;
                self.special = _mm_or_si128(self.special, _mm_or_si128(escapes, controls));
                self.all = _mm_or_si128(self.all, bytes);
            }
        }

        /// Returns `true` if the block has a backslash or a byte below a space.
        #[inline(always)]
        pub(super) fn has_special(&self) -> bool {
            // SAFETY: every processor of this architecture has SSE2.
            unsafe { _mm_movemask_epi8(self.special) != 0 }
        }

        /// Returns `true` if the block has a byte above 0x7F.
        #[inline(always)]
        pub(super) fn has_other_letters(&self) -> bool {
            // SAFETY: every processor of this architecture has SSE2.
            unsafe { _mm_movemask_epi8(self.all) != 0 }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
use portable::Marks;

#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable {
    use super::PART_BYTES;

    /// The content of a block.
    #[derive(Default)]
    pub(super) struct Marks {
        pub(super) quotes: u64,
        special: bool,
        all: u8,
    }

    impl Marks {
        pub(super) fn note(&mut self, part: &[u8; PART_BYTES], at: usize) {
            for (place, byte) in part.iter().enumerate() {
                self.quotes |= u64::from(*byte == b'"') << (at + place);
                self.special |= *byte == b'\\' || *byte < b' ';
                self.all |= byte;
            }
        }

        pub(super) fn has_special(&self) -> bool {
            self.special
        }

        pub(super) fn has_other_letters(&self) -> bool {
            self.all > 0x7f
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_byte_at_every_place_is_marked() {
        for byte in 0..=u8::MAX {
            for place in 0..PART_BYTES {
                let mut part = *b"0123456789abcdef";
                part[place] = byte;
                for at in (0..BLOCK_BYTES).step_by(PART_BYTES) {
                    let (mut marks, mut expected) = (Marks::default(), portable::Marks::default());
                    marks.note(&part, at);
                    expected.note(&part, at);
                    assert_eq!(marks.quotes, expected.quotes, "{byte} at {at} + {place}");
                    assert_eq!(marks.has_special(), expected.has_special(), "{byte}");
                    assert_eq!(marks.has_other_letters(), expected.has_other_letters(), "{byte}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn strings_end_where_a_scan_of_each_says(
            strings in prop::collection::vec(
                ("[a-z ]{0,20}", prop_oneof![
                    20 => "[a-z]{0,9}",
                    3 => "[a-z]{60,140}",
                    1 => prop::sample::select(vec!["\\\"\\\\", "\u{e4}", "\u{1}"]).prop_map(str::to_owned),
                ]),
                0..12,
            ),
            is_open in any::<bool>(),
        ) {
            let mut body: String = strings.iter().map(|(gap, text)| format!("{gap}\"{text}\"")).collect();
            if is_open {
                body.push_str("\"open");
            }
            let body = body.as_bytes();
            let (mut quotes, mut at) = (Quotes::new(body), 0);
            while let Some(gap) = body[at..].iter().position(|byte| *byte == b'"') {
                let expected = string_end(body, at + gap + 1);
                prop_assert_eq!(quotes.string_end(at + gap + 1), expected);
                let Some(end) = expected else { break };
                at = end;
                prop_assert!(quotes.are_ascii() || !body.is_ascii());
            }
            if at > 0 && body[..at].iter().any(|byte| *byte > 0x7f) {
                prop_assert!(!quotes.are_ascii());
            }
        }
    }
}
