//! A value in a payload: the path that names it, and a hash that is equal for equal values.
//!
//! Two values are equal if they have the same JSON type and the same content. Strings are compared after their escapes
//! are decoded, numbers as decimal numbers of any size (`1`, `1.0` and `10e-1` are equal, `"1"` is a string), arrays by
//! their elements in order, objects by their members in any order. Of members with the same name, the last one counts.

use serde::Deserializer as _;

use crate::base::keys::KeyHasher;
use crate::base::limits::JSON_DEPTH_MAX;
use crate::event::{members, skip_whitespace, string_end, value_end};

/// The maximum number of members and elements in a path.
pub(super) const PATH_PARTS_MAX: usize = 32;
/// The maximum number of characters in a path.
pub(super) const PATH_CHARS_MAX: usize = 500;

/// The way to a value in a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ValuePath(Vec<String>);

impl ValuePath {
    /// Parses `payload.member.member`, or a JSON Pointer (RFC 6901) that begins with `/payload/`, which can name every
    /// member. A whole number names an element of an array, from 0. Returns `None` for anything else.
    pub(super) fn parse(text: &str) -> Option<ValuePath> {
        if text.chars().count() > PATH_CHARS_MAX {
            return None;
        }
        let parts = match text.strip_prefix("/payload/") {
            Some(pointer) => pointer.split('/').map(pointer_part).collect::<Option<Vec<_>>>()?,
            None => {
                let parts = text.strip_prefix("payload.")?.split('.');
                parts.map(|part| (!part.is_empty()).then(|| part.to_owned())).collect::<Option<Vec<_>>>()?
            }
        };
        (parts.len() <= PATH_PARTS_MAX).then_some(ValuePath(parts))
    }

    /// Returns the value at this path, or `None` if the payload has none there.
    pub(super) fn find<'p>(&self, payload: &'p [u8]) -> Option<&'p [u8]> {
        self.0.iter().try_fold(payload, |value, part| {
            let start = skip_whitespace(value, 0);
            match value.get(start)? {
                b'{' => member(value, part),
                b'[' => element(&value[start..], index(part)?),
                _ => None,
            }
        })
    }
}

fn pointer_part(part: &str) -> Option<String> {
    let is_escape = |rest: &str| rest.starts_with(['0', '1']);
    part.split('~').skip(1).all(is_escape).then(|| part.replace("~1", "/").replace("~0", "~"))
}

fn index(part: &str) -> Option<usize> {
    let is_canonical = part == "0" || part.starts_with(|digit: char| matches!(digit, '1'..='9'));
    let is_number = is_canonical && part.bytes().all(|digit| digit.is_ascii_digit());
    if is_number { part.parse().ok() } else { None }
}

/// Returns the value of the last member of this name.
fn member<'p>(object: &'p [u8], name: &str) -> Option<&'p [u8]> {
    let mut found = None;
    members(object, |key, value| {
        let is_it = match memchr::memchr(b'\\', key) {
            None => key == name.as_bytes(),
            Some(_) => decoded(key) == name.as_bytes(),
        };
        if is_it {
            found = Some(value);
        }
    });
    found
}

/// Returns an element of an array that begins with its bracket.
fn element(array: &[u8], index: usize) -> Option<&[u8]> {
    let mut at = skip_whitespace(array, 1);
    for _ in 0..index {
        let end = skip_whitespace(array, value_end(array, at));
        if array.get(end) != Some(&b',') {
            return None;
        }
        at = skip_whitespace(array, end + 1);
    }
    let is_there = array.get(at).is_some_and(|byte| *byte != b']');
    if is_there { array.get(at..value_end(array, at)) } else { None }
}

/// Decodes the escapes of a string's content. A lone surrogate gets the bytes that UTF-8 would give it, so that no two
/// strings become equal.
fn decoded(raw: &[u8]) -> Vec<u8> {
    struct Bytes;
    impl serde::de::Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a string")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }
    let quoted = [b"\"", raw, b"\""].concat();
    let text = serde_json::Deserializer::from_slice(&quoted).deserialize_bytes(Bytes);
    text.unwrap_or_else(|_| raw.to_vec())
}

/// Hashes values with the key of a data folder.
#[derive(Debug)]
pub(super) struct ValueHasher {
    keys: KeyHasher,
    /// The canonical form of the value that is hashed. Only its allocation is kept.
    scratch: Vec<u8>,
}

impl ValueHasher {
    pub(super) fn new(keys: KeyHasher) -> ValueHasher {
        ValueHasher { keys, scratch: Vec::new() }
    }

    /// Returns the hash of a JSON value. Takes one pass over its bytes.
    pub(super) fn hash(&mut self, value: &[u8]) -> u128 {
        self.node(value, skip_whitespace(value, 0), 0).0
    }

    /// Returns the hash of the value that begins at `at`, and its end.
    fn node(&mut self, json: &[u8], at: usize, depth: usize) -> (u128, usize) {
        match json.get(at) {
            Some(b'{') if depth < JSON_DEPTH_MAX => self.object(json, at, depth),
            Some(b'[') if depth < JSON_DEPTH_MAX => self.array(json, at, depth),
            _ => {
                let end = value_end(json, at).max(at + 1).min(json.len());
                (self.scalar(json.get(at..end).unwrap_or_default()), end)
            }
        }
    }

    fn object(&mut self, json: &[u8], at: usize, depth: usize) -> (u128, usize) {
        let mut members: Vec<(Vec<u8>, u128)> = Vec::new();
        let mut at = skip_whitespace(json, at + 1);
        while json.get(at) == Some(&b'"') {
            let key_end = string_end(json, at);
            let key = string_content(json.get(at..key_end).unwrap_or_default()).into_owned();
            let colon = skip_whitespace(json, key_end);
            let (hash, end) = self.node(json, skip_whitespace(json, colon + 1), depth + 1);
            members.push((key, hash));
            let comma = skip_whitespace(json, end);
            at = skip_whitespace(json, comma + usize::from(json.get(comma) == Some(&b',')));
        }
        // The sort is stable, so the last of several members with one name is last here, too.
        members.sort_by(|one, other| one.0.cmp(&other.0));
        let mut form = vec![b'{'];
        for (at, (key, hash)) in members.iter().enumerate() {
            if members.get(at + 1).is_some_and(|next| next.0 == *key) {
                continue;
            }
            form.extend_from_slice(&(key.len() as u64).to_le_bytes());
            form.extend_from_slice(key);
            form.extend_from_slice(&hash.to_le_bytes());
        }
        (self.keys.wide_digest(&form), (at + 1).min(json.len()))
    }

    fn array(&mut self, json: &[u8], at: usize, depth: usize) -> (u128, usize) {
        let mut form = vec![b'['];
        let mut at = skip_whitespace(json, at + 1);
        while json.get(at).is_some_and(|byte| *byte != b']') {
            let (hash, end) = self.node(json, at, depth + 1);
            form.extend_from_slice(&hash.to_le_bytes());
            let comma = skip_whitespace(json, end);
            at = skip_whitespace(json, comma + usize::from(json.get(comma) == Some(&b',')));
        }
        (self.keys.wide_digest(&form), (at + 1).min(json.len()))
    }

    fn scalar(&mut self, value: &[u8]) -> u128 {
        self.scratch.clear();
        match value.first() {
            Some(b'"') => {
                self.scratch.push(b'"');
                self.scratch.extend_from_slice(&string_content(value));
            }
            Some(b'-' | b'0'..=b'9') => write_number(&mut self.scratch, value),
            _ => self.scratch.extend_from_slice(value),
        }
        self.keys.wide_digest(&self.scratch)
    }
}

/// Returns the content of a string with its quotes, with decoded escapes.
fn string_content(quoted: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    let raw = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    match memchr::memchr(b'\\', raw) {
        None => raw.into(),
        Some(_) => decoded(raw).into(),
    }
}

/// Writes a number in a form that is equal for equal numbers: sign, digits without zeros at either end, and exponent.
/// An exponent of more than 18 digits is kept as text.
fn write_number(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'0');
    let (is_negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let e = memchr::memchr2(b'e', b'E', text);
    let (mantissa, exponent) = e.map_or((text, &b""[..]), |at| (&text[..at], &text[at + 1..]));
    let point = memchr::memchr(b'.', mantissa).unwrap_or(mantissa.len());
    let fraction_digits = mantissa.len().saturating_sub(point + 1);
    let digits: Vec<u8> = mantissa.iter().copied().filter(u8::is_ascii_digit).collect();
    let first = digits.iter().position(|digit| *digit != b'0');
    let (Some(first), Some(last)) = (first, digits.iter().rposition(|digit| *digit != b'0')) else { return };
    out.push(if is_negative { b'-' } else { b'+' });
    out.extend_from_slice(&digits[first..=last]);
    out.push(b'e');
    let zeros = digits.len() - 1 - last;
    match exponent_of(exponent) {
        Some(exponent) => {
            let exponent = exponent + zeros as i64 - fraction_digits as i64;
            out.extend_from_slice(exponent.to_string().as_bytes());
        }
        None => {
            out.extend_from_slice(exponent);
            out.extend_from_slice(format!(" {zeros} {fraction_digits}").as_bytes());
        }
    }
}

fn exponent_of(text: &[u8]) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    let text = std::str::from_utf8(text).ok()?;
    let exponent: i64 = text.strip_prefix('+').unwrap_or(text).parse().ok()?;
    (exponent.unsigned_abs() < 1_000_000_000_000_000_000).then_some(exponent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn hash(value: &str) -> u128 {
        ValueHasher::new(KeyHasher::new(&[3; 16])).hash(value.as_bytes())
    }

    fn found<'p>(path: &str, payload: &'p str) -> Option<&'p str> {
        let path = ValuePath::parse(path).unwrap_or_else(|| panic!("{path}"));
        path.find(payload.as_bytes()).map(|value| std::str::from_utf8(value).unwrap())
    }

    #[test]
    fn a_path_names_members_and_elements() {
        let payload = r#" { "a" : {"b.c":[ 10 , {"d":"x"} ],"0":null}, "a/b":1,"~":2, "":{"":3}, "\u0062":4,
            "twice":1, "twice":[true] , "e":[] } "#;
        for (path, value) in [
            ("payload.a.0", Some("null")),
            ("payload.a.b", None),
            ("/payload/a/b.c/0", Some("10")),
            ("/payload/a/b.c/1/d", Some("\"x\"")),
            ("/payload/a/b.c/2", None),
            ("/payload/a/b.c/01", None),
            ("/payload/a/b.c/-1", None),
            ("/payload/a/b.c/99999999999999999999999", None),
            ("/payload/a~1b", Some("1")),
            ("/payload/~0", Some("2")),
            ("/payload//", Some("3")),
            ("payload.b", Some("4")),
            ("payload.twice", Some("[true]")),
            ("payload.twice.0", Some("true")),
            ("payload.twice.0.x", None),
            ("payload.e.0", None),
            ("payload.none", None),
        ] {
            assert_eq!(found(path, payload), value, "{path}");
        }
        for wrong in [
            "",
            "a",
            "payload",
            "payload.",
            "payload..a",
            "payload.a.",
            "/payload",
            "/a",
            "/payload/~2",
            "/payload/~",
        ] {
            assert_eq!(ValuePath::parse(wrong), None, "{wrong}");
        }
        assert!(ValuePath::parse(&format!("payload{}", ".a".repeat(PATH_PARTS_MAX))).is_some());
        assert!(ValuePath::parse(&format!("payload{}", ".a".repeat(PATH_PARTS_MAX + 1))).is_none());
        assert!(ValuePath::parse(&format!("payload.{}", "a".repeat(PATH_CHARS_MAX))).is_none());
    }

    #[test]
    fn equal_values_have_equal_hashes_and_others_do_not() {
        let classes: [&[&str]; 17] = [
            &["1", "1.0", "1e0", "10e-1", "0.1E+1", "1.000000000000000000000000000000"],
            &["-1", "-1.0"],
            &["0", "-0", "0.0", "0e99999999999999999999999"],
            &["100", "1e2", "1E02"],
            &["12345678901234567890123456789", "12345678901234567890123456789.0"],
            &["12345678901234567890123456788"],
            &["1e400"],
            &["1e99999999999999999999999"],
            &["\"1\"", "\"\\u0031\""],
            &["\"\u{fffd}\"", "\"\\ufffd\""],
            &["\"\\ud800\"", "\"\\uD800\""],
            &["\"\u{1f600}\"", "\"\\ud83d\\ude00\""],
            &["true", " true"],
            &["null"],
            &["\"null\""],
            &[
                "{\"a\":1,\"b\":[2, 3]}",
                "{ \"b\" : [2.0,3], \"\\u0061\":1 }",
                "{\"a\":9,\"b\":[2,3],\"a\":1}",
            ],
            &["[{\"a\":1}]", "[ {\"a\" : 1.0 } ]"],
        ];
        for (at, class) in classes.iter().enumerate() {
            for one in *class {
                for (other_at, other) in classes.iter().enumerate() {
                    for other in *other {
                        assert_eq!(hash(one) == hash(other), at == other_at, "{one} {other}");
                    }
                }
            }
        }
        for different in [
            "[]",
            "[[]]",
            "{}",
            "[{}]",
            "{\"a\":{}}",
            "{\"a\":[]}",
            "\"\"",
            "[1,2]",
            "[2,1]",
            "[12]",
            "{\"\":0}",
        ] {
            assert_ne!(hash(different), hash("[0]"), "{different}");
        }
        // Nesting to the limit needs little stack, and a deeper value is still one value.
        for depth in [JSON_DEPTH_MAX, JSON_DEPTH_MAX * 50] {
            let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            assert_eq!(hash(&deep), hash(&deep));
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3..3_i64).prop_map(Value::from),
            prop::sample::select(vec!["", "a", "1", "\"\\", "ü"]).prop_map(Value::from),
        ];
        scalar.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::hash_map(prop::sample::select(vec!["a", "b", ""]), inner, 0..3).prop_map(
                    |members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
                ),
            ]
        })
    }

    proptest! {
        #[test]
        fn hashes_are_equal_exactly_for_equal_documents(one in json(), other in json()) {
            let pretty = serde_json::to_string_pretty(&one).unwrap();
            prop_assert_eq!(hash(&one.to_string()), hash(&pretty));
            prop_assert_eq!(hash(&one.to_string()) == hash(&other.to_string()), one == other);
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            bytes in prop::collection::vec(prop::sample::select(br#"{}[]":,\ u1eE.-~/0"#.to_vec()), 0..60)
        ) {
            let _ = ValueHasher::new(KeyHasher::new(&[3; 16])).hash(&bytes);
            let _ = ValuePath::parse(std::str::from_utf8(&bytes).unwrap());
            let _ = ValuePath::parse("payload.u.1").unwrap().find(&bytes);
            let _ = ValuePath::parse("/payload/1/0").unwrap().find(&[b"[", &bytes[..]].concat());
        }
    }
}
