//! Splits input into statements, as far as strings, names and comments require.

/// What a position of the text is inside of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Nothing,
    /// Up to this byte, which is doubled within.
    Quotes(u8),
    LineComment,
    BlockComment,
}

/// Returns the length of the first statement including its semicolon, or `None` if the text has no complete one.
pub(super) fn first(text: &str) -> Option<usize> {
    scan(text).err()
}

/// Returns `true` if a text without a complete statement ends within quotes or a comment of several lines.
pub(super) fn is_open(text: &str) -> bool {
    matches!(scan(text), Ok(Inside::Quotes(_) | Inside::BlockComment))
}

/// Returns `true` if a text without a complete statement ends within quotes or a comment.
pub(super) fn ends_in_text(text: &str) -> bool {
    scan(text).is_ok_and(|inside| inside != Inside::Nothing)
}

/// Returns what the end of the text is inside of, or the length of the first statement.
fn scan(text: &str) -> Result<Inside, usize> {
    let bytes = text.as_bytes();
    let mut inside = Inside::Nothing;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let next = bytes.get(at + 1);
        at += 1;
        match (inside, byte) {
            (Inside::Nothing, b';') => return Err(at),
            (Inside::Nothing, b'\'' | b'"' | b'`') => inside = Inside::Quotes(*byte),
            (Inside::Nothing, b'[') => inside = Inside::Quotes(b']'),
            (Inside::Nothing, b'-') if next == Some(&b'-') => inside = Inside::LineComment,
            (Inside::Nothing, b'/') if next == Some(&b'*') => (inside, at) = (Inside::BlockComment, at + 1),
            (Inside::Quotes(end), byte) if *byte == end => inside = Inside::Nothing,
            (Inside::LineComment, b'\n') => inside = Inside::Nothing,
            (Inside::BlockComment, b'*') if next == Some(&b'/') => (inside, at) = (Inside::Nothing, at + 1),
            _ => {}
        }
    }
    Ok(inside)
}

/// Returns `true` if the text has nothing but white space, comments and semicolons.
pub(super) fn is_blank(text: &str) -> bool {
    after_blank(text).is_empty()
}

/// Returns the number of lines before the first word.
pub(super) fn blank_lines(text: &str) -> usize {
    text[..text.len() - after_blank(text).len()].matches('\n').count()
}

/// Returns the rest of the text after white space, comments and semicolons.
fn after_blank(text: &str) -> &str {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|sign: char| sign.is_whitespace() || sign == ';');
        rest = match (rest.strip_prefix("--"), rest.strip_prefix("/*")) {
            (Some(comment), _) => comment.split_once('\n').map_or("", |(_, rest)| rest),
            (_, Some(comment)) => comment.split_once("*/").map_or("", |(_, rest)| rest),
            _ => return rest,
        };
    }
}

/// Takes the first complete statement off the front of a text.
pub(super) fn take(text: &mut String) -> Option<String> {
    let rest = text.split_off(first(text)?);
    Some(std::mem::replace(text, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_semicolon_ends_a_statement_only_outside_of_quotes_and_comments() {
        for whole in [
            "SELECT 1;",
            "SELECT ';';",
            "SELECT 'it''s;';",
            "SELECT \"a;b\", [c;d], `e;`;",
            "SELECT 1 -- one; two\n;",
            "/* ; */ SELECT 1 / 2 - 3;",
            "SELECT '--;' ;",
        ] {
            let mut text = format!("{whole} SELECT 2");
            assert_eq!(take(&mut text).as_deref(), Some(whole));
            assert_eq!(text, " SELECT 2");
            assert_eq!(take(&mut text), None);
        }
        for open in ["SELECT ';", "SELECT 1 -- ;", "/* ;", "", "SELECT \"a;"] {
            assert_eq!(first(open), None, "{open}");
        }
    }

    #[test]
    fn comments_alone_are_blank() {
        for blank in ["", " \n;", "-- a", "-- a\n /* b */ ; ", "/* open"] {
            assert!(is_blank(blank), "{blank}");
        }
        assert!(!is_blank("-- a\nSELECT 1"));
        assert!(!is_blank("/* a */ x"));
        assert_eq!(blank_lines("\n-- a\n  SELECT\n1"), 2);
        assert!(is_open("/* a\n") && is_open("SELECT 'a") && !is_open("SELECT 1 -- a"));
        assert!(ends_in_text("SELECT 1 -- a") && !ends_in_text("SELECT 'a' "));
    }
}
