//! Decides which JSON texts `jsonb` can hold.
//!
//! `jsonb` refuses some JSON: the character U+0000, surrogates without their partner, numbers outside the range
//! of `numeric`, and texts that are nested too deeply for the server's stack.

use memchr::{memchr_iter, memchr2};

/// Far below the depth that the smallest stack of a server can parse.
const DEPTH_MAX: usize = 512;
/// The limits of `numeric`: digits before and after the point.
const DIGITS_BEFORE_MAX: i64 = 131_072;
const DIGITS_AFTER_MAX: i64 = 16_383;
/// A number of so many bytes without an exponent is in range. One with an exponent is always computed.
const PLAIN_BYTES: usize = 16_000;

/// Returns `true` if `jsonb` can hold this JSON text. Texts that are not JSON are judged by the same rules only.
pub(super) fn holds(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(next) = bytes.get(at) {
        match next {
            b'"' => match string_end(bytes, at + 1) {
                Some(end) => at = end + 1,
                None => return false,
            },
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return false;
                }
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            b'0'..=b'9' => {
                let length = number_length(&bytes[at..]);
                if !is_numeric(&bytes[at..at + length]) {
                    return false;
                }
                at += length;
            }
            0 => return false,
            _ => at += 1,
        }
    }
    true
}

/// Returns the position of the quote that ends a string, or `None` if `jsonb` cannot hold the string.
fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        if *bytes.get(at + 1)? != b'u' {
            at += 2;
            continue;
        }
        let unit = unit(bytes, at)?;
        at += 6;
        match unit {
            0 | 0xDC00..=0xDFFF => return None,
            0xD800..=0xDBFF => {
                let is_pair = bytes.get(at..at + 2) == Some(b"\\u".as_slice())
                    && matches!(self::unit(bytes, at)?, 0xDC00..=0xDFFF);
                if !is_pair {
                    return None;
                }
                at += 6;
            }
            _ => {}
        }
    }
}

/// Returns the value of an escape `\uXXXX` at this position.
fn unit(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at + 2..at + 6)?;
    digits.iter().try_fold(0, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))
}

fn number_length(bytes: &[u8]) -> usize {
    let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
    bytes.iter().position(|byte| !is_part(byte)).unwrap_or(bytes.len())
}

/// Returns `true` if a number without its sign is in the range of `numeric`.
fn is_numeric(number: &[u8]) -> bool {
    let Some(e) = memchr2(b'e', b'E', number) else {
        return number.len() <= PLAIN_BYTES || in_range(number, 0);
    };
    let exponent = std::str::from_utf8(&number[e + 1..]).ok();
    // A longer exponent is out of range, except that of a zero, which is no loss as a text.
    let exponent = exponent.and_then(|digits| digits.parse::<i32>().ok());
    exponent.is_some_and(|exponent| in_range(&number[..e], i64::from(exponent)))
}

fn in_range(mantissa: &[u8], exponent: i64) -> bool {
    let point = memchr_iter(b'.', mantissa).next();
    let before = point.unwrap_or(mantissa.len()) as i64;
    let after = point.map_or(0, |point| mantissa.len() - point - 1) as i64;
    before + exponent <= DIGITS_BEFORE_MAX && after - exponent <= DIGITS_AFTER_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_jsonb_refuses_are_recognised() {
        for text in [
            r#"{"a":"\u0000"}"#,
            r#"{"\u0000":1}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\uD83Dx"}"#,
            r#"{"a":"\ud83d\ud83d"}"#,
            r#"{"a":"\ud83d\n"}"#,
            r#"{"a":"\ude00"}"#,
            r#"{"a":1e200000}"#,
            r#"{"a":-1E+200000}"#,
            r#"{"a":1e-20000}"#,
            r#"{"a":1e99999999999999}"#,
        ] {
            assert!(!holds(text), "{text}");
        }
        assert!(!holds(&format!("{}{}", "[".repeat(513), "]".repeat(513))));
        assert!(!holds(&format!("[{}]", "9".repeat(131_073))));
        assert!(!holds(&format!("[0.{}]", "9".repeat(16_384))));
    }

    #[test]
    fn texts_that_jsonb_holds_are_not_kept_from_it() {
        for text in [
            r#"{"a":"\\u0000"}"#,
            r#"{"a":"\ud83d\ude00 \" \\"}"#,
            r#"{"a":"\u00e9","b":[1.5,-2,1e400,1E-400,true,false,null],"a":{}}"#,
            "{}",
            r#"{"e":"1e200000"}"#,
        ] {
            assert!(holds(text), "{text}");
        }
        assert!(holds(&format!("{}{}", "[".repeat(128), "]".repeat(128))));
        assert!(holds(&format!("[{}]", "9".repeat(131_072))));
    }
}
