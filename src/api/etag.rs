//! Entity tags in conditions (RFC 9110 §13.1).

use hyper::HeaderMap;

use crate::http::Answer;

/// How tags are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// A weak tag never matches: `If-Match`.
    Strong,
    /// A weak tag matches like a strong one: `If-None-Match`.
    Weak,
}

/// Returns `true` if the header, on one or more lines, lists this tag or is a star.
pub fn header_lists(headers: &HeaderMap, name: &str, tag: &str, comparison: Comparison) -> bool {
    headers.get_all(name).iter().any(|value| lists(value.as_bytes(), tag, comparison))
}

/// Returns `true` if one header line lists this tag or is a star.
pub fn lists(line: &[u8], tag: &str, comparison: Comparison) -> bool {
    line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|known| {
        let known = match comparison {
            Comparison::Strong => known,
            Comparison::Weak => known.strip_prefix(b"W/").unwrap_or(known),
        };
        known == b"*" || known == tag.as_bytes()
    })
}

/// Returns the response with a JSON body that has this tag, or 304 if the client already has it.
pub fn tagged(tag: String, headers: &HeaderMap, body: impl FnOnce() -> Vec<u8>) -> Answer {
    let answer = match header_lists(headers, "if-none-match", &tag, Comparison::Weak) {
        true => Answer::new(304, "", &b""[..]),
        false => Answer::new(200, "application/json", body()),
    };
    answer.with("ETag", tag).with("Cache-Control", "no-cache")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weak_tag_matches_where_that_is_enough() {
        for (line, strong, weak) in [
            ("\"a\"", true, true),
            ("\"b\", \"a\"", true, true),
            ("W/\"a\"", false, true),
            ("\"b\",W/\"a\" ", false, true),
            ("*", true, true),
            ("a", false, false),
            ("\"b\"", false, false),
            ("", false, false),
        ] {
            assert_eq!(lists(line.as_bytes(), "\"a\"", Comparison::Strong), strong, "{line}");
            assert_eq!(lists(line.as_bytes(), "\"a\"", Comparison::Weak), weak, "{line}");
        }
    }
}
