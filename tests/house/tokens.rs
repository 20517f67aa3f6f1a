//! Source as tokens: what is left of a file without comments and without what only tests compile.

/// A word, a piece of punctuation or a literal, and the line it begins on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'t> {
    pub(super) text: &'t str,
    pub(super) line: usize,
}

impl Token<'_> {
    pub(super) fn is_name(&self) -> bool {
        self.text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
    }
}

/// The tokens of a source file. `::` is one token; every other sign stands alone.
pub(super) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < source.len() {
        let rest = &source[at..];
        let length = token_length(rest);
        let text = &rest[..length];
        let is_space = text.starts_with(char::is_whitespace);
        if !is_space && !text.starts_with("//") && !text.starts_with("/*") {
            tokens.push(Token { text, line });
        }
        line += text.matches('\n').count();
        at += length;
    }
    tokens
}

/// How many bytes the first token, comment or space takes.
fn token_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return comment_length(rest);
    }
    if let Some(length) = raw_length(rest) {
        return length;
    }
    match bytes[0] {
        b'"' => quoted_length(rest, 0),
        b'b' | b'c' if bytes.get(1) == Some(&b'"') => quoted_length(rest, 1),
        b'b' if bytes.get(1) == Some(&b'\'') => 1 + quote_length(&rest[1..]),
        b'\'' => quote_length(rest),
        b':' if rest.starts_with("::") => 2,
        first if first.is_ascii_whitespace() => span(rest, |next| next.is_ascii_whitespace()),
        first if first.is_ascii_alphanumeric() || first == b'_' => {
            span(rest, |next| next.is_ascii_alphanumeric() || next == '_')
        }
        _ => rest.chars().next().map_or(1, char::len_utf8),
    }
}

fn span(rest: &str, belongs: impl Fn(char) -> bool) -> usize {
    rest.find(|next| !belongs(next)).unwrap_or(rest.len())
}

/// Block comments nest.
fn comment_length(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let tail = &rest.as_bytes()[at..];
        if tail.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if tail.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#` and the same with a `b` or `c` in front.
fn raw_length(rest: &str) -> Option<usize> {
    let marked = rest.strip_prefix(['b', 'c']).unwrap_or(rest).strip_prefix('r')?;
    let hashes = span(marked, |next| next == '#');
    let body = marked[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |found| found + end.len());
    Some(rest.len() - body.len() + length)
}

/// A string that begins with the quotation mark at `from`.
fn quoted_length(rest: &str, from: usize) -> usize {
    let mut escaped = false;
    for (at, next) in rest.char_indices().skip(from + 1) {
        match next {
            '"' if !escaped => return at + 1,
            _ => escaped = next == '\\' && !escaped,
        }
    }
    rest.len()
}

/// A character, or the apostrophe and name of a lifetime.
fn quote_length(rest: &str) -> usize {
    let mut inner = rest.char_indices().skip(1);
    match inner.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(rest.len(), |end| end + 4),
        Some((at, first)) if rest[at + first.len_utf8()..].starts_with('\'') => at + first.len_utf8() + 1,
        _ => 1 + span(&rest[1..], |next| next.is_ascii_alphanumeric() || next == '_'),
    }
}

/// Without what stands behind `#[cfg(test)]`, and the modules that are declared so: whole files of tests.
pub(super) fn without_tests<'t>(all: &[Token<'t>]) -> (Vec<Token<'t>>, Vec<&'t str>) {
    let (mut kept, mut modules, mut at) = (Vec::new(), Vec::new(), 0);
    while at < all.len() {
        if !is_sequence(&all[at..], &["#", "[", "cfg", "(", "test", ")", "]"]) {
            kept.push(all[at]);
            at += 1;
            continue;
        }
        let length = item_length(&all[at + 7..]);
        let item = &all[at + 7..at + 7 + length];
        if item.last().is_some_and(|last| last.text == ";")
            && let Some(name) = item.iter().position(|token| token.text == "mod")
        {
            modules.push(item[name + 1].text);
        }
        at += 7 + length;
    }
    (kept, modules)
}

pub(super) fn is_sequence(tokens: &[Token<'_>], texts: &[&str]) -> bool {
    tokens.len() >= texts.len() && tokens.iter().zip(texts).all(|(token, text)| token.text == *text)
}

/// How many tokens an item, a statement or a field takes.
fn item_length(tokens: &[Token<'_>]) -> usize {
    const ITEMS: [&str; 14] = [
        "async",
        "const",
        "enum",
        "extern",
        "fn",
        "impl",
        "mod",
        "static",
        "struct",
        "trait",
        "type",
        "unsafe",
        "use",
        "macro_rules",
    ];
    let first = match is_sequence(tokens, &["pub", "("]) {
        true => closing(tokens, 1) + 1,
        false => usize::from(is_sequence(tokens, &["pub"])),
    };
    let is_item = tokens.get(first).is_some_and(|token| ITEMS.contains(&token.text));
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].text {
            "(" | "[" => at = closing(tokens, at),
            "{" => {
                let end = closing(tokens, at);
                // `use a::{b};` and `let x = y { … };` end later.
                let is_end = !tokens.get(end + 1).is_some_and(|next| [";", ".", ","].contains(&next.text));
                if is_end {
                    return end + 1;
                }
                at = end;
            }
            "," if !is_item => return at + 1,
            ";" => return at + 1,
            // The end of what it stands in: the last field without a comma.
            "}" | ")" => return at,
            _ => {}
        }
        at += 1;
    }
    tokens.len()
}

/// Where the bracket that opens at `from` closes.
pub(super) fn closing(tokens: &[Token<'_>], from: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(from) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len() - 1
}

/// A function with a body, and the lines from its name to its closing brace.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function<'t> {
    pub(super) name: &'t str,
    pub(super) line: usize,
    pub(super) lines: usize,
}

pub(super) fn functions<'t>(tokens: &[Token<'t>]) -> Vec<Function<'t>> {
    let mut found = Vec::new();
    for at in 0..tokens.len().saturating_sub(1) {
        if tokens[at].text != "fn" || !tokens[at + 1].is_name() {
            continue;
        }
        // A declaration in a trait ends with a semicolon instead; `[u8; 4]` is skipped with its brackets.
        let mut body = at + 2;
        while body < tokens.len() && !["{", ";"].contains(&tokens[body].text) {
            body = if ["(", "["].contains(&tokens[body].text) { closing(tokens, body) + 1 } else { body + 1 };
        }
        if body < tokens.len() && tokens[body].text == "{" {
            let (name, line) = (tokens[at + 1].text, tokens[at].line);
            let lines = tokens[closing(tokens, body)].line - line + 1;
            found.push(Function { name, line, lines });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<&str> {
        tokens(source).iter().map(|token| token.text).collect()
    }

    #[test]
    fn the_tokens_are_those_of_the_language() {
        assert_eq!(texts("a::b(c)"), ["a", "::", "b", "(", "c", ")"]);
        assert_eq!(texts("x // no {\n/* no /* no */ { */ y"), ["x", "y"]);
        assert_eq!(texts(r##"f("a \" {", r#"b " {"#, b'{', '\'', 'c')"##).len(), 12);
        assert_eq!(texts("fn f<'a>(x: &'a str)").iter().filter(|text| **text == "'a").count(), 2);
        assert_eq!(tokens("a\n\n\"two\nlines\" b").last().map(|token| token.line), Some(4));
    }

    #[test]
    fn what_only_tests_compile_is_left_out() {
        let source = "#[cfg(test)]\nmod tests;\nstruct S { #[cfg(test)] fault: Option<fn()>, kept: u8 }\n\
             #[cfg(test)]\nuse a::{b};\n#[cfg(test)]\npub(crate) fn f<A, B>() { g() }\nfn kept() { \
             #[cfg(test)] if x { y() } z() }\n#[cfg(test)] mod inline { use d; }";
        let all = tokens(source);
        let (kept, modules) = without_tests(&all);
        let kept: Vec<_> = kept.iter().map(|token| token.text).collect();
        assert_eq!(kept.join(" "), "struct S { kept : u8 } fn kept ( ) { z ( ) }");
        assert_eq!(modules, ["tests"]);
    }

    #[test]
    fn a_function_is_as_long_as_its_lines() {
        let source = "trait T { fn none(a: [u8; 4]); }\nfn one() {}\nfn three(\n) -> X<fn(u8)> {\n}";
        let tokens = tokens(source);
        let found: Vec<_> = functions(&tokens).iter().map(|one| (one.name, one.line, one.lines)).collect();
        assert_eq!(found, [("one", 2, 1), ("three", 3, 3)]);
    }
}
