//! Entity tags in conditions (RFC 9110 §13.1).

use hyper::HeaderMap;

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
