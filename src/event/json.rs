//! JSON without interpretation: where values begin and end, their depth, and the unescaped content of a string.

use std::borrow::Cow;

/// Returns `true` if brackets outside of strings nest deeper than `depth_max`. Works on any bytes, JSON or not, and
/// stops at the first bracket that is too deep. Takes one pass and needs no memory.
#[must_use]
pub fn is_deeper_than(bytes: &[u8], depth_max: usize) -> bool {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => at = string_end(bytes, at) - 1,
            _ => {}
        }
        at += 1;
    }
    false
}

/// Calls `member` with the raw key (between its quotes, with escapes) and the raw value of every top-level member of
/// `object`, in the order of the text. Returns `false` if the document is not an object. `object` must be one valid
/// JSON value. For anything else the function stays within the bytes, but its results are meaningless.
pub fn members<'b>(object: &'b [u8], mut member: impl FnMut(&'b [u8], &'b [u8])) -> bool {
    let mut at = skip_whitespace(object, 0);
    if object.get(at) != Some(&b'{') {
        return false;
    }
    at = skip_whitespace(object, at + 1);
    while object.get(at) == Some(&b'"') {
        let key_end = string_end(object, at);
        let key = object.get(at + 1..key_end - 1).unwrap_or_default();
        let colon = skip_whitespace(object, key_end);
        let start = skip_whitespace(object, colon + 1);
        let end = value_end(object, start);
        member(key, object.get(start..end).unwrap_or_default());
        let comma = skip_whitespace(object, end);
        at = skip_whitespace(object, comma + 1);
    }
    true
}

/// Returns the raw elements of an array in the order of the text, or `None` if the value is not an array. `array` must
/// be one valid JSON value. For anything else the iterator stays within the bytes and ends, but its results are
/// meaningless.
pub fn elements(array: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let mut at = skip_whitespace(array, 0);
    if array.get(at) != Some(&b'[') {
        return None;
    }
    at = skip_whitespace(array, at + 1);
    Some(std::iter::from_fn(move || {
        let start = at;
        if array.get(start).is_none_or(|byte| *byte == b']') {
            return None;
        }
        let end = value_end(array, start);
        at = skip_whitespace(array, end);
        if array.get(at) == Some(&b',') {
            at = skip_whitespace(array, at + 1);
        }
        array.get(start..end).filter(|element| !element.is_empty())
    }))
}

/// Returns `true` for the four whitespace bytes of RFC 8259 §2.
#[inline]
pub(super) fn is_whitespace(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

pub fn skip_whitespace(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(|&byte| is_whitespace(byte)) {
        at += 1;
    }
    at
}

/// Returns the offset after the closing quote of the string that opens at `at`, or the end of the bytes. It is always
/// greater than `at`.
pub fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        match bytes[at + found] {
            b'"' => return at + found + 1,
            _ => at += found + 2,
        }
    }
    bytes.len().max(1)
}

/// Returns the offset after the last byte of the value that begins at `start`.
pub fn value_end(bytes: &[u8], start: usize) -> usize {
    match bytes.get(start) {
        Some(b'"') => string_end(bytes, start),
        Some(b'{' | b'[') => {
            let mut depth = 0_usize;
            let mut at = start;
            while let Some(&byte) = bytes.get(at) {
                match byte {
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' if depth == 1 => return at + 1,
                    b'}' | b']' => depth -= 1,
                    b'"' => at = string_end(bytes, at) - 1,
                    _ => {}
                }
                at += 1;
            }
            bytes.len()
        }
        _ => {
            let ends = |&byte: &u8| is_whitespace(byte) || matches!(byte, b',' | b'}' | b']');
            bytes
                .get(start..)
                .and_then(|rest| rest.iter().position(ends))
                .map_or(bytes.len(), |len| start + len)
        }
    }
}

/// Unescapes the content of a JSON string. The result is borrowed if there are no escapes. Decoding is lenient: a
/// lone surrogate or a broken escape becomes U+FFFD.
#[must_use]
pub fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    match memchr::memchr(b'\\', raw) {
        None => Cow::Borrowed(raw),
        Some(_) => {
            let mut text = Vec::with_capacity(raw.len());
            unescape_into(raw, &mut text);
            Cow::Owned(text)
        }
    }
}

/// Unescapes the content of a JSON string. `None` for a lone surrogate.
#[must_use]
pub fn unescape_exactly(raw: &str) -> Option<Cow<'_, str>> {
    match memchr::memchr(b'\\', raw.as_bytes()) {
        None => Some(Cow::Borrowed(raw)),
        Some(_) => {
            let mut text = Vec::with_capacity(raw.len());
            let is_exact = unescape_into(raw.as_bytes(), &mut text);
            if is_exact { String::from_utf8(text).ok().map(Cow::Owned) } else { None }
        }
    }
}

/// Unescapes the content of a JSON string and appends it. Returns `true` if every escape is a character. Invalid
/// escapes become U+FFFD. Apart from these, the result is never longer than `raw`.
pub fn unescape_into(raw: &[u8], text: &mut Vec<u8>) -> bool {
    let mut is_exact = true;
    let mut rest = raw;
    while let Some(plain) = memchr::memchr(b'\\', rest) {
        text.extend_from_slice(&rest[..plain]);
        let after = &rest[plain + 1..];
        let (character, after) = match after {
            [b'"', after @ ..] => (Some('"'), after),
            [b'\\', after @ ..] => (Some('\\'), after),
            [b'/', after @ ..] => (Some('/'), after),
            [b'b', after @ ..] => (Some('\u{8}'), after),
            [b'f', after @ ..] => (Some('\u{c}'), after),
            [b'n', after @ ..] => (Some('\n'), after),
            [b'r', after @ ..] => (Some('\r'), after),
            [b't', after @ ..] => (Some('\t'), after),
            [b'u', after @ ..] => utf16(after),
            after => (None, after),
        };
        is_exact &= character.is_some();
        let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
        text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = after;
    }
    text.extend_from_slice(rest);
    is_exact
}

/// Decodes the character of a `\u` escape. Reads a second escape if the first is a high surrogate.
fn utf16(text: &[u8]) -> (Option<char>, &[u8]) {
    let Some((high, after)) = hex4(text) else { return (None, text) };
    if let Some(character) = char::from_u32(u32::from(high)) {
        return (Some(character), after);
    }
    if let [b'\\', b'u', second @ ..] = after
        && let Some((low, after_both)) = hex4(second)
        && let Some(Ok(character)) = char::decode_utf16([high, low]).next()
    {
        return (Some(character), after_both);
    }
    (None, after)
}

fn hex4(text: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, after) = text.split_first_chunk::<4>()?;
    let mut unit = 0;
    for &digit in digits {
        unit = unit * 16 + char::from(digit).to_digit(16)?;
    }
    Some((unit as u16, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn depth_counts_brackets_outside_strings() {
        assert!(!is_deeper_than(b"[[]]", 2));
        assert!(is_deeper_than(b"[[[", 2));
        assert!(is_deeper_than(b"{\"a\":{\"b\":[", 2));
        assert!(!is_deeper_than(br#"["[[[\"[[[\\","{{{"]"#, 1));
        assert!(!is_deeper_than(b"[][][]", 1));
        assert!(!is_deeper_than(b"]]]]\"", 0));
    }

    #[test]
    fn lone_surrogates_and_broken_escapes_become_replacement_characters() {
        assert_eq!(&*unescape(br"\u0041\n\ud83d\ude00"), "A\n\u{1f600}".as_bytes());
        for raw in [&br"\ud83d"[..], br"\ude00", br"\u12", br"\x", b"\\"] {
            assert!(unescape(raw).starts_with("\u{fffd}".as_bytes()), "{raw:?}");
        }
        assert_eq!(&*unescape(br"\ud83d\u0041"), "\u{fffd}A".as_bytes());
    }

    #[test]
    fn an_exact_text_has_no_lone_surrogates() {
        assert_eq!(unescape_exactly(r"\u0041\n\ud83d\ude00").as_deref(), Some("A\n\u{1f600}"));
        assert_eq!(unescape_exactly(r"\ufffd").as_deref(), Some("\u{fffd}"));
        for raw in [r"\ud83d", r"\ude00", r"a\ud83d\u0041", r"\ude00\ud83d", r"\u12", r"\x", "\\"] {
            assert_eq!(unescape_exactly(raw), None, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn unescape_reads_what_serde_json_writes(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(&*unescape(&json.as_bytes()[1..json.len() - 1]), text.as_bytes());
            let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            prop_assert_eq!(&*unescape(escaped.as_bytes()), text.as_bytes());
            let exact = unescape_exactly(&escaped);
            prop_assert_eq!(exact.as_deref(), Some(&*text));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(br#"{}[]":,\ u1"#.to_vec())], 0..60,
        )) {
            let _ = is_deeper_than(&bytes, 3);
            let _ = members(&bytes, |_, _| {});
            let mut object = b"{".to_vec();
            object.extend_from_slice(&bytes);
            let _ = members(&object, |_, _| {});
            let _ = unescape(&bytes);
        }
    }
}
