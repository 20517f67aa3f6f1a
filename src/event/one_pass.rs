//! The fields of a JSON object in one pass over its bytes, without a copy or a tape.
//!
//! It accepts what RFC 8259 permits, up to a depth that events have. What it does not accept may still be JSON, and
//! gets the parser's verdict and error.

use super::fields::Collect;
use super::json::skip_whitespace;
use super::quotes::Quotes;

/// The maximum depth of arrays and objects in a member's value: a bit of a word for each.
const DEPTH_MAX: u32 = u32::BITS;

/// Returns the fields of a valid object. `None` for anything else, and for deeper values. Takes 80 ns for 200 bytes.
#[inline]
pub(super) fn fields<'b, F: Collect<'b>>(body: &'b [u8]) -> Option<F> {
    let mut fields = F::default();
    let mut quotes = Quotes::new(body);
    note_members(body, &mut quotes, &mut fields)?;
    // Bytes above 0x7F are only accepted in strings.
    (quotes.are_ascii() || std::str::from_utf8(body).is_ok()).then_some(fields)
}

/// Notes the members of a valid object. The fields are a reference, because a value that is returned is stored and read
/// in pieces of different sizes, for which the processor waits.
#[inline(always)]
fn note_members<'b, F: Collect<'b>>(body: &'b [u8], quotes: &mut Quotes<'b>, fields: &mut F) -> Option<()> {
    let mut at = byte_at(body, space(body, 0), b'{')?;
    at = space(body, at);
    if body.get(at) != Some(&b'}') {
        loop {
            let key = byte_at(body, at, b'"')?;
            let key_end = quotes.string_end(key)?;
            let start = colon(body, key_end)?;
            let end = match *body.get(start)? {
                b'{' | b'[' => nested_end(body, quotes, start)?,
                _ => scalar_end(body, quotes, start)?,
            };
            fields.note(&body[key..key_end - 1], &body[start..end]);
            at = space(body, end);
            match *body.get(at)? {
                b',' => at = space(body, at + 1),
                b'}' => break,
                _ => return None,
            }
        }
    }
    (space(body, at + 1) == body.len()).then_some(())
}

/// Returns the offset after the array or object that begins at `at`.
fn nested_end(body: &[u8], quotes: &mut Quotes<'_>, mut at: usize) -> Option<usize> {
    // The last bit of `kinds` is set in an object, the bit before it if that is in an object, and so on.
    let (mut kinds, mut depth) = (0_u32, 0);
    loop {
        // A value begins here.
        match *body.get(at)? {
            bracket @ (b'{' | b'[') => {
                if depth == DEPTH_MAX {
                    return None;
                }
                let is_object = bracket == b'{';
                depth += 1;
                kinds = kinds << 1 | u32::from(is_object);
                at = space(body, at + 1);
                // Brackets of one kind differ by two.
                if *body.get(at)? != bracket + 2 {
                    if is_object {
                        at = name_end(body, quotes, at)?;
                    }
                    continue;
                }
            }
            _ => at = space(body, scalar_end(body, quotes, at)?),
        }
        // A value has ended, or an array or object without one.
        loop {
            let is_object = kinds & 1 == 1;
            match *body.get(at)? {
                b',' => {
                    at = space(body, at + 1);
                    if is_object {
                        at = name_end(body, quotes, at)?;
                    }
                    break;
                }
                bracket if bracket == if is_object { b'}' } else { b']' } => {
                    at += 1;
                    (kinds, depth) = (kinds >> 1, depth - 1);
                    if depth == 0 {
                        return Some(at);
                    }
                    at = space(body, at);
                }
                _ => return None,
            }
        }
    }
}

/// Returns the offset of the value after the name and the colon at `at`.
#[inline(always)]
fn name_end(body: &[u8], quotes: &mut Quotes<'_>, at: usize) -> Option<usize> {
    let key = byte_at(body, at, b'"')?;
    colon(body, quotes.string_end(key)?)
}

/// Returns the offset of the value after the colon, which may have whitespace on both sides.
#[inline(always)]
fn colon(body: &[u8], at: usize) -> Option<usize> {
    Some(space(body, byte_at(body, space(body, at), b':')?))
}

/// Returns the offset after this byte, if it is at `at`.
#[inline(always)]
fn byte_at(body: &[u8], at: usize, byte: u8) -> Option<usize> {
    (*body.get(at)? == byte).then_some(at + 1)
}

/// Skips whitespace. Most texts have none.
#[inline(always)]
fn space(body: &[u8], at: usize) -> usize {
    if body.get(at).is_some_and(|byte| *byte <= b' ') { skip_whitespace(body, at) } else { at }
}

/// Returns the offset after the string, number or literal at `at`.
#[inline(always)]
fn scalar_end(body: &[u8], quotes: &mut Quotes<'_>, at: usize) -> Option<usize> {
    let literal = |text: &[u8]| body[at..].starts_with(text).then_some(at + text.len());
    match *body.get(at)? {
        b'"' => quotes.string_end(at + 1),
        b'-' | b'0'..=b'9' => number_end(body, at),
        b't' => literal(b"true"),
        b'f' => literal(b"false"),
        b'n' => literal(b"null"),
        _ => None,
    }
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH_BITS: u64 = ONES << 7;

/// Returns the offset after the closing quote of the string whose content begins at `at`.
#[inline(always)]
pub(super) fn string_end(body: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let rest = body.get(at..)?;
        let special = match rest.first_chunk::<8>() {
            Some(bytes) => {
                // A byte is zero if subtracting one sets its high bit, which was not set ("Bit Twiddling Hacks", S. E.
                // Anderson). Only bytes after the first such byte may be reported in error. Bytes below a space
                // likewise.
                let word = u64::from_le_bytes(*bytes);
                let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
                let quotes = zeros(word ^ (ONES * b'"' as u64));
                let escapes = zeros(word ^ (ONES * b'\\' as u64));
                let controls = word.wrapping_sub(ONES * b' ' as u64) & !word;
                let found = (quotes | escapes | controls) & HIGH_BITS;
                if found == 0 {
                    at += 8;
                    continue;
                }
                (found.trailing_zeros() / 8) as usize
            }
            None => rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..b' '))?,
        };
        at += special;
        match body[at] {
            b'"' => return Some(at + 1),
            b'\\' => at = escape_end(body, at + 1)?,
            _ => return None,
        }
    }
}

/// Returns the offset after the escape whose backslash is before `at`. A lone surrogate is permitted.
fn escape_end(body: &[u8], at: usize) -> Option<usize> {
    match *body.get(at)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 1),
        b'u' => body.get(at + 1..at + 5)?.iter().all(u8::is_ascii_hexdigit).then_some(at + 5),
        _ => None,
    }
}

/// Returns the offset after the number at `at`, which begins with a minus or a digit.
#[inline(always)]
fn number_end(body: &[u8], at: usize) -> Option<usize> {
    let first = at + usize::from(body[at] == b'-');
    let mut end = match *body.get(first)? {
        b'0' => first + 1,
        _ => digits_end(body, first)?,
    };
    if body.get(end) == Some(&b'.') {
        end = digits_end(body, end + 1)?;
    }
    if let Some(b'e' | b'E') = body.get(end) {
        let has_sign = matches!(body.get(end + 1), Some(b'+' | b'-'));
        end = digits_end(body, end + 1 + usize::from(has_sign))?;
    }
    Some(end)
}

/// Returns the offset after one or more digits.
#[inline(always)]
fn digits_end(body: &[u8], at: usize) -> Option<usize> {
    let mut end = at;
    while body.get(end).is_some_and(u8::is_ascii_digit) {
        end += 1;
    }
    (end > at).then_some(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::decode::second_look;
    use super::super::json;
    use super::*;

    /// All members, in order.
    #[derive(Debug, Default, PartialEq)]
    struct Members<'b>(Vec<(&'b [u8], &'b [u8])>);

    impl<'b> Collect<'b> for Members<'b> {
        fn note(&mut self, key: &'b [u8], value: &'b [u8]) {
            self.0.push((key, value));
        }
    }

    /// Returns the members of a body that serde_json accepts.
    fn expected(body: &[u8]) -> Option<Members<'_>> {
        second_look(body).ok()?;
        let mut members = Members::default();
        json::members(body, |key, value| members.note(key, value)).then_some(members)
    }

    #[test]
    fn objects_are_accepted_whatever_is_in_them() {
        for body in [
            "{}",
            " { } \n",
            r#"{"a":1,"b":-0,"c":0.0,"d":-1.5e+9,"e":1E400,"f":123456789012345678901234567890}"#,
            r#"{"a":true,"b":false,"c":null,"":""}"#,
            r#"{"a":[],"b":{},"c":[{}],"d":{"e":[1,[2,{"f":"g"}],"h"],"i":{"j":null}} , "k" : [ 1 , 2 ] }"#,
            r#"{"\"\\\/\b\f\n\r\t\u00e9\ud800":"a\"b","long":"0123456789abcdef\\","x":"}]"}"#,
            "{\"\u{e4}\":\"\u{1f600} and more text behind it\u{7f}\"}",
        ] {
            let found = fields::<Members<'_>>(body.as_bytes());
            assert!(found.is_some(), "{body}");
            assert_eq!(found, expected(body.as_bytes()), "{body}");
            for cut in 0..body.trim_end().len() {
                assert_eq!(fields::<Members<'_>>(&body.as_bytes()[..cut]), None, "{body} to {cut}");
            }
        }
        for depth in 1..40 {
            for (open, close) in [("[", "]"), ("{\"b\":", "}")] {
                let body = format!("{{\"a\":{}1{}}}", open.repeat(depth), close.repeat(depth));
                assert_eq!(fields::<Members<'_>>(body.as_bytes()).is_some(), depth <= 32, "{body}");
            }
        }
    }

    #[test]
    fn what_is_no_object_is_left_to_the_parser() {
        for body in [
            "",
            " ",
            "[]",
            "1",
            "\"a\"",
            "{",
            "}",
            "{}}",
            "{},",
            "{} x",
            "{a:1}",
            "{'a':1}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,\"a\":1}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":[1,]}",
            "{\"a\":[,1]}",
            "{\"a\":[1 2]}",
            "{\"a\":{\"b\"}}",
            "{\"a\":{\"b\":1,}}",
            "{\"a\":[1}}",
            "{\"a\":{\"b\":1]}",
            "{\"a\":{]}",
            "{\"a\":[}}",
            "{\"a\":01}",
            "{\"a\":-}",
            "{\"a\":1.}",
            "{\"a\":.5}",
            "{\"a\":1e}",
            "{\"a\":1e+}",
            "{\"a\":+1}",
            "{\"a\":0x1}",
            "{\"a\":tru}",
            "{\"a\":truex}",
            "{\"a\":NaN}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"0123456\u{1}\"}",
            "{\"a\":1}\u{b}",
            "{\"a\":1}\0",
            "\u{feff}{}",
        ] {
            assert_eq!(fields::<Members<'_>>(body.as_bytes()), None, "{body:?}");
            assert_eq!(expected(body.as_bytes()), None, "{body:?}");
        }
        for body in [&b"{\"a\":\"\xff\"}"[..], b"{\"\xc3\":1}", b"{\"a\":\"\xed\xa0\x80\"}", b"{\xc3\xa4}"] {
            assert_eq!(fields::<Members<'_>>(body), None, "{body:?}");
        }
    }

    #[test]
    fn every_byte_at_every_place_of_a_string_gets_the_parsers_verdict() {
        for byte in 0..=u8::MAX {
            for place in 0..20 {
                let mut body = b"{\"a\":\"0123456789abcdefghij\",\"b\":1}".to_vec();
                body[6 + place] = byte;
                assert_eq!(fields::<Members<'_>>(&body), expected(&body), "{body:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn bytes_get_the_parsers_verdict_and_members(
            parts in prop::collection::vec(prop_oneof![
                8 => prop::sample::select(vec![
                    "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\"a\":", "\"b\":[", "\"c\":{", "1", "-0", "2.5", "1e9",
                    "true", "null", "false", " ", "\n", "\\", "\\n", "\\u00e9", "\\ud800", "\u{e4}", "text of some length",
                ]).prop_map(|text: &str| text.as_bytes().to_vec()),
                1 => any::<u8>().prop_map(|byte| vec![byte]),
            ], 0..14),
            is_closed in any::<bool>(),
        ) {
            let mut body = parts.concat();
            if is_closed {
                body.splice(0..0, *b"{\"x\":");
                body.push(b'}');
            }
            // These bodies are not deep, so both agree in both directions.
            prop_assert_eq!(fields::<Members<'_>>(&body), expected(&body));
        }
    }
}
