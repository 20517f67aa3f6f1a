//! Finds a person in a text, and replaces the person there.
//!
//! A customer is identified by id and e-mail address. A name is not sufficient, because another person may have it
//! too.
//!
//! - An e-mail address matches anywhere if it is a whole address. Case is ignored.
//! - An id matches as a whole JSON string. An id of at least [`FREE_ID_BYTES_MIN`] bytes that is not a plain number
//!   also matches as a word within a longer text. A number that happens to equal the id does not match.
//!
//! Both are searched for in the text as written, and in the text with its JSON escapes resolved.

use std::borrow::Cow;

use memchr::memmem;

/// The minimum length of an id that also matches as a word. Shorter ids may be ordinary words.
const FREE_ID_BYTES_MIN: usize = 6;
/// The minimum length of an address to search for. The address must also contain an @.
const EMAIL_BYTES_MIN: usize = 6;

/// The strings to search for.
#[derive(Clone, Debug, Default)]
pub struct PersonMatcher {
    ids: Vec<String>,
    /// The addresses in lower case.
    emails: Vec<String>,
    /// The names, which are only replaced and never searched for.
    names: Vec<String>,
}

impl PersonMatcher {
    #[must_use]
    pub fn new<'a>(
        ids: impl IntoIterator<Item = &'a str>,
        emails: impl IntoIterator<Item = &'a str>,
        names: impl IntoIterator<Item = &'a str>,
    ) -> PersonMatcher {
        let kept = |text: &&str| !text.trim().is_empty();
        let is_address = |text: &&str| text.len() >= EMAIL_BYTES_MIN && text.contains('@');
        let mut names: Vec<String> = names.into_iter().filter(kept).map(str::to_owned).collect();
        // The longest name comes first, because it may start with a shorter one.
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        PersonMatcher {
            ids: ids.into_iter().filter(kept).map(str::to_owned).collect(),
            emails: emails.into_iter().filter(is_address).map(str::to_ascii_lowercase).collect(),
            names,
        }
    }

    pub(super) fn ids(&self) -> &[String] {
        &self.ids
    }

    /// Returns strings of which at least one occurs in every text that [`PersonMatcher::matches`], in any case.
    pub(super) fn text_patterns(&self) -> Vec<String> {
        let id = |id: &String| if may_be_free(id) { id.clone() } else { format!("\"{id}\"") };
        self.ids.iter().map(id).chain(self.emails.iter().cloned()).collect()
    }

    /// Returns strings of which at least one occurs in all bytes that [`PersonMatcher::may_match`], in any case.
    pub(super) fn byte_patterns(&self) -> Vec<String> {
        self.ids.iter().chain(&self.emails).cloned().collect()
    }

    /// Returns `true` if the text refers to the person. The text need not be JSON.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        self.stand_in(text) || memchr::memchr(b'\\', text).is_some_and(|_| self.stand_in(&unescaped(text)))
    }

    fn stand_in(&self, text: &[u8]) -> bool {
        if self.ids.iter().any(|id| places(text, id.as_bytes()).any(|at| is_id(text, at, id))) {
            return true;
        }
        if self.emails.is_empty() || memchr::memchr(b'@', text).is_none() {
            return false;
        }
        let lower = text.to_ascii_lowercase();
        self.emails
            .iter()
            .any(|email| places(&lower, email.as_bytes()).any(|at| is_address(&lower, at, email)))
    }

    /// Returns `true` if a plain identifier (not JSON) equals one of the person's ids, or contains an id or address
    /// of the person.
    #[must_use]
    pub fn matches_name(&self, name: &str) -> bool {
        self.ids.iter().any(|id| id == name) || self.stand_in(name.as_bytes())
    }

    /// Returns `true` if the bytes contain the id or the address anywhere, regardless of the surrounding bytes. This
    /// is for bytes that cannot be parsed.
    #[must_use]
    pub fn may_match(&self, bytes: &[u8]) -> bool {
        let lower = || bytes.to_ascii_lowercase();
        self.ids.iter().any(|id| memmem::find(bytes, id.as_bytes()).is_some())
            || !self.emails.is_empty() && {
                let lower = lower();
                self.emails.iter().any(|email| memmem::find(&lower, email.as_bytes()).is_some())
            }
            || self.matches(bytes)
    }

    /// Returns the JSON object with ids, addresses and names replaced by `token`, regardless of how they are escaped.
    /// Returns an empty object if that is impossible. Only strings are changed, because a name may also be a number
    /// or `null`.
    #[must_use]
    pub fn replaced(&self, text: &str, token: &str) -> String {
        let replaced = self.replaced_in_strings(text, token);
        let is_clean = |out: &String| !self.matches(out.as_bytes()) && is_object(out);
        replaced.filter(is_clean).unwrap_or_else(|| "{}".to_owned())
    }

    /// Replaces the person in all strings. Returns `None` if a string is not terminated, or if it still refers to the
    /// person after the replacement.
    fn replaced_in_strings(&self, text: &str, token: &str) -> Option<String> {
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        while let Some(begin) = memchr::memchr(b'"', rest.as_bytes()) {
            let (before, behind) = rest.split_at(begin + 1);
            out.push_str(before);
            let end = string_end(behind.as_bytes())?;
            let (string, behind) = behind.split_at(end);
            let plain = unescaped(string.as_bytes());
            let plain = String::from_utf8_lossy(&plain);
            let clean = self.replaced_in_string(&plain, token);
            if *plain == clean {
                out.push_str(string);
            } else if self.name_in_string(&clean) {
                return None;
            } else {
                let quoted = serde_json::to_string(&clean).ok()?;
                out.push_str(quoted.strip_prefix('"')?.strip_suffix('"')?);
            }
            out.push('"');
            rest = &behind[1..];
        }
        out.push_str(rest);
        Some(out)
    }

    /// Replaces the person in the unescaped content of one string.
    fn replaced_in_string(&self, text: &str, token: &str) -> String {
        if self.ids.iter().any(|id| id == text) {
            return token.to_owned();
        }
        let mut out = text.to_owned();
        for email in &self.emails {
            let lower = out.to_ascii_lowercase();
            out = put(&out, email.len(), token, places(lower.as_bytes(), email.as_bytes()), |at| {
                is_address(lower.as_bytes(), at, email)
            });
        }
        for id in &self.ids {
            out = put(&out, id.len(), token, places(out.as_bytes(), id.as_bytes()), |at| {
                is_id(out.as_bytes(), at, id)
            });
        }
        for name in &self.names {
            out = put(&out, name.len(), token, places(out.as_bytes(), name.as_bytes()), |at| {
                is_word(out.as_bytes(), at, name.len())
            });
        }
        out
    }

    fn name_in_string(&self, text: &str) -> bool {
        let is_in = |name: &String| {
            places(text.as_bytes(), name.as_bytes()).any(|at| is_word(text.as_bytes(), at, name.len()))
        };
        self.matches_name(text) || self.names.iter().any(is_in)
    }
}

/// Returns the length of the string content at the start of `text`, up to the closing quote. Returns `None` if there
/// is no closing quote.
fn string_end(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

pub(super) fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// Returns every position of `needle`, including overlapping ones. The caller checks the surrounding bytes at each
/// position.
fn places<'t>(text: &'t [u8], needle: &'t [u8]) -> impl Iterator<Item = usize> + 't {
    let finder = memmem::Finder::new(needle);
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = from + finder.find(text.get(from..)?)?;
        from = at + 1;
        Some(at)
    })
}

/// Returns `true` if the bytes contain the number in decimal digits that are not part of a longer number.
pub(super) fn has_number(bytes: &[u8], number: i64) -> bool {
    let digits = number.to_string();
    places(bytes, digits.as_bytes()).any(|at| {
        let (before, behind) = around(bytes, at, digits.len());
        ![before, behind].into_iter().flatten().any(u8::is_ascii_digit)
    })
}

fn put(
    text: &str,
    length: usize,
    token: &str,
    places: impl Iterator<Item = usize>,
    is_it: impl Fn(usize) -> bool,
) -> String {
    let (mut out, mut end) = (String::with_capacity(text.len()), 0);
    for at in places.filter(|at| is_it(*at)) {
        if at < end {
            continue;
        }
        out.push_str(&text[end..at]);
        out.push_str(token);
        end = at + length;
    }
    out.push_str(&text[end..]);
    out
}

/// Returns `true` if a byte continues a word. Bytes above 127 do, because they may belong to a letter in any script.
fn goes_on(byte: Option<&u8>, also: &[u8]) -> bool {
    byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte >= 0x80 || also.contains(byte))
}

fn around(text: &[u8], at: usize, length: usize) -> (Option<&u8>, Option<&u8>) {
    (at.checked_sub(1).and_then(|before| text.get(before)), text.get(at + length))
}

fn is_word(text: &[u8], at: usize, length: usize) -> bool {
    let (before, behind) = around(text, at, length);
    !goes_on(before, b"") && !goes_on(behind, b"")
}

/// Returns `true` if the id also matches as a word.
fn may_be_free(id: &str) -> bool {
    id.len() >= FREE_ID_BYTES_MIN && !id.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_id(text: &[u8], at: usize, id: &str) -> bool {
    let (before, behind) = around(text, at, id.len());
    let is_whole = before == Some(&b'"') && behind == Some(&b'"');
    is_whole || may_be_free(id) && !goes_on(before, b"-_") && !goes_on(behind, b"-_")
}

fn is_address(text: &[u8], at: usize, email: &str) -> bool {
    let (before, behind) = around(text, at, email.len());
    let next = text.get(at + email.len() + 1);
    // A full stop may end a sentence, or be followed by another part of the domain.
    let goes_on_behind = goes_on(behind, b"-_") || behind == Some(&b'.') && goes_on(next, b"");
    !goes_on(before, b"._%+-") && !goes_on_behind
}

/// Returns the text with its JSON escapes resolved, for searching only. An unpaired surrogate becomes U+FFFD.
pub(super) fn unescaped(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', text).is_none() {
        return Cow::Borrowed(text);
    }
    let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
    let unit = |at: usize| {
        let digits = text.get(at..at + 6).filter(|digits| digits.starts_with(b"\\u"))?;
        u16::from_str_radix(std::str::from_utf8(&digits[2..]).ok()?, 16).ok()
    };
    while let Some(byte) = text.get(at) {
        if *byte != b'\\' {
            out.push(*byte);
            at += 1;
            continue;
        }
        if let Some(first) = unit(at) {
            at += 6;
            let pair = [first, unit(at).unwrap_or(0)];
            let is_pair =
                char::decode_utf16(pair).next().is_some_and(|found| found.is_ok_and(|c| c as u32 > 0xffff));
            if is_pair {
                at += 6;
            }
            let found = char::decode_utf16(pair).next().and_then(Result::ok).unwrap_or('\u{fffd}');
            out.extend_from_slice(found.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match text.get(at + 1) {
            Some(b'n') => out.push(b'\n'),
            Some(b't') => out.push(b'\t'),
            Some(b'r') => out.push(b'\r'),
            Some(b'b') => out.push(8),
            Some(b'f') => out.push(12),
            Some(other) => out.push(*other),
            None => {}
        }
        at += 2;
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matcher(id: &str) -> PersonMatcher {
        PersonMatcher::new([id], ["Zaphod@Heart.gold", ""], ["Zaphod Beeblebrox", ""])
    }

    #[test]
    fn a_person_is_found_by_id_and_address_and_taken_for_nobody_else() {
        let matcher = matcher("cust-77");
        for text in [
            r#"{"a":[{"customer":"cust-77"}]}"#,
            r#"{"note":"call cust-77, soon"}"#,
            r#"{"mail":"ZAPHOD@heart.gold"}"#,
            r#"{"note":"mail zaphod@heart.gold."}"#,
            r#"{"c":"\u0063ust\u002d77"}"#,
            r#"{"note":"\"cust-77\""}"#,
            r#"{"note":"a\ncust-77"}"#,
            r#"{"cust-77":1}"#,
        ] {
            assert!(matcher.matches(text.as_bytes()), "{text}");
        }
        for text in [
            "{}",
            r#"{"customer":"cust-771"}"#,
            r#"{"customer":"xcust-77"}"#,
            r#"{"customer":"cust-77-b"}"#,
            r#"{"name":"Zaphod Beeblebrox"}"#,
            r#"{"mail":"xzaphod@heart.gold"}"#,
            r#"{"mail":"zaphod@heart.gold.au"}"#,
            r#"{"c":"\ud800cust"}"#,
        ] {
            assert!(!matcher.matches(text.as_bytes()), "{text}");
        }
        assert!(!matcher.matches("{\"customer\":\"\u{e9}cust-77\"}".as_bytes()));
        assert!(matcher.may_match(b"\0xcust-77x"));
    }

    #[test]
    fn a_short_or_numeric_id_is_a_whole_string_or_nothing() {
        for id in ["42", "1234567"] {
            let matcher = matcher(id);
            assert!(matcher.matches(format!(r#"{{"customer":"{id}"}}"#).as_bytes()));
            assert!(!matcher.matches(format!(r#"{{"quantity":{id},"note":"{id} pieces"}}"#).as_bytes()));
        }
    }

    #[test]
    fn a_number_is_found_whole() {
        for text in ["1", "{\"user_id\":1}", "x1y", "11 1", "-1"] {
            assert!(has_number(text.as_bytes(), 1), "{text}");
        }
        for text in ["", "11", "{\"user_id\":21}", "10 2026"] {
            assert!(!has_number(text.as_bytes(), 1), "{text}");
        }
        assert!(has_number(b"[-7]", -7) && !has_number(b"[-77, 7]", -7));
    }

    #[test]
    fn a_token_takes_the_place_of_everything_that_names_the_person() {
        let text = r#"{"c":"cust-77","n":"Zaphod Beeblebrox","m":"Zaphod@heart.GOLD","x":"cust-771","k":1}"#;
        let replaced = matcher("cust-77").replaced(text, "anon-1");
        assert_eq!(replaced, r#"{"c":"anon-1","n":"anon-1","m":"anon-1","x":"cust-771","k":1}"#);
        for (text, expected) in [
            (r#"{"c":"\u0063ust-77","n":1.50}"#, r#"{"c":"anon-1","n":1.50}"#),
            (r#"{"cust-77":"a\n\"Zaphod\u0020Beeblebrox\""}"#, r#"{"anon-1":"a\n\"anon-1\""}"#),
            (r#"{"c":"\ud800","d":"cust-77"}"#, r#"{"c":"\ud800","d":"anon-1"}"#),
            // Texts that are not a complete JSON object.
            (r#"{"c":"cust-77"#, "{}"),
            (r#"["cust-77"]"#, "{}"),
        ] {
            assert_eq!(matcher("cust-77").replaced(text, "anon-1"), expected, "{text}");
        }
    }

    #[test]
    fn a_name_that_json_has_too_leaves_json() {
        let of = |name| PersonMatcher::new(["cust-77"], [], [name]);
        let text = r#"{"n":1,"k":[null,true,"n\n1","J\u00f6rg, null"],"c":"cust-77"}"#;
        for (name, expected) in [
            ("1", r#"{"n":1,"k":[null,true,"n\na-1","J\u00f6rg, null"],"c":"a-1"}"#),
            ("n", r#"{"a-1":1,"k":[null,true,"a-1\n1","J\u00f6rg, null"],"c":"a-1"}"#),
            ("null", r#"{"n":1,"k":[null,true,"n\n1","Jörg, a-1"],"c":"a-1"}"#),
            ("true", r#"{"n":1,"k":[null,true,"n\n1","J\u00f6rg, null"],"c":"a-1"}"#),
            ("J\u{f6}rg", r#"{"n":1,"k":[null,true,"n\n1","a-1, null"],"c":"a-1"}"#),
        ] {
            // A name that is part of the token cannot be replaced.
            let token = if name == "1" { "a-2" } else { "a-1" };
            let expected = if name == "1" { expected.replace("a-1", "a-2") } else { expected.to_owned() };
            assert_eq!(of(name).replaced(text, token), expected, "{name}");
        }
        assert_eq!(of("a").replaced(r#"{"x":"a"}"#, "a-1"), "{}");
    }

    fn word() -> impl Strategy<Value = String> {
        let of = |words: &'static [&'static str]| prop::sample::select(words).prop_map(str::to_owned);
        prop_oneof![
            of(&["1", "-1", "null", "true", "n", "u", "\"", "\\", "u00f6", "k", "ab ab", "J\u{f6}rg", "{}"]),
            of(&["cust-77", "77-77-77", "a@heart.gold", "A@heart.gold", "anon-1", ",", ":", "\n", " ", ""]),
            "[abn1\\\\\"\u{f6} -]{0,6}",
        ]
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let text = || prop::collection::vec(word(), 0..5).prop_map(|words| words.concat());
        let leaf = prop_oneof![
            text().prop_map(serde_json::Value::from),
            (-20..20_i64).prop_map(serde_json::Value::from),
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, move |inner| {
            let members = prop::collection::vec((text(), inner.clone()), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(serde_json::Value::from),
                members.prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Collects all strings in a value, including the member names.
    fn strings(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::String(text) => found.push(text.clone()),
            serde_json::Value::Array(values) => values.iter().for_each(|value| strings(value, found)),
            serde_json::Value::Object(members) => {
                for (name, value) in members {
                    found.push(name.clone());
                    strings(value, found);
                }
            }
            _ => {}
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_replaced_is_json_and_names_nobody(
            members in prop::collection::vec((word(), value()), 0..4),
            [id, name, other] in [word(), word(), word()],
            is_escaped in any::<bool>(),
        ) {
            let object = serde_json::Value::Object(members.into_iter().collect());
            let mut text = object.to_string();
            if is_escaped {
                text = text.replace('\u{f6}', "\\u00f6").replace('b', "\\u0062");
            }
            let matcher = PersonMatcher::new([id.as_str()], ["a@heart.gold"], [name.as_str(), other.as_str()]);
            let replaced = matcher.replaced(&text, "anon-7");
            let parsed = serde_json::from_str::<serde_json::Value>(&replaced);
            let mut found = Vec::new();
            strings(&parsed.expect("JSON"), &mut found);
            prop_assert!(!matcher.matches(replaced.as_bytes()), "{text} {replaced}");
            for text in found {
                prop_assert!(!matcher.name_in_string(&text), "{text} in {replaced}");
            }
        }
    }

    #[test]
    fn escapes_are_resolved_as_json_has_them() {
        for (text, expected) in [
            (r"\u00fc\n\/\\", "\u{fc}\n/\\"),
            (r"\ud83d\ude00x", "\u{1f600}x"),
            (r"\ud83dx", "\u{fffd}x"),
            (r"\u12", "u12"),
            ("\\", ""),
        ] {
            assert_eq!(unescaped(text.as_bytes()).as_ref(), expected.as_bytes(), "{text}");
        }
    }
}
