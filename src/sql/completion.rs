//! Completion at the prompt: views after FROM and JOIN, elsewhere columns, functions and keywords.

use super::commands::COMMANDS;
use super::statements;
use super::view::View;
use super::views::{self, VIEWS};

const KEYWORDS: &str = "SELECT FROM WHERE GROUP BY ORDER HAVING LIMIT OFFSET JOIN LEFT INNER CROSS ON USING AND OR NOT IN \
    BETWEEN LIKE GLOB IS NULL CASE WHEN THEN ELSE END AS DISTINCT UNION ALL EXCEPT INTERSECT WITH RECURSIVE VALUES DESC \
    ASC EXISTS EXPLAIN QUERY PLAN OVER PARTITION WINDOW FILTER COLLATE NOCASE PRAGMA";

const FUNCTIONS: &str = "count( sum( avg( min( max( total( coalesce( substr( round( date( datetime( strftime( julianday( \
    json_extract( group_concat( row_number( lag( lead( length( lower( upper( table_info(";

/// Keywords that begin a list of views, and those that end one.
const BEFORE_VIEWS: [&str; 5] = ["FROM", "JOIN", "INTO", "UPDATE", "TABLE"];
const AFTER_VIEWS: [&str; 10] =
    ["SELECT", "WHERE", "GROUP", "ORDER", "HAVING", "LIMIT", "ON", "USING", "SET", "VALUES"];

/// Texts that replace the text between a place and the cursor.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Completion {
    pub(super) from: usize,
    pub(super) texts: Vec<String>,
}

/// Completes the word before the cursor, which is at byte `at` of `line`. `pending` has the earlier lines of the
/// statement.
///
/// A tab in pasted text must not disappear or complete a word by chance. Where nothing can be completed, the completion
/// is therefore white space.
pub(super) fn complete(pending: &str, line: &str, at: usize) -> Completion {
    let (before, after) = line.split_at(at);
    let whole = format!("{pending}{before}");
    let mut statement = whole.as_str();
    while let Some(end) = statements::first(statement) {
        statement = &statement[end..];
    }
    let start = before.rfind(|sign: char| !is_part(sign)).map_or(0, |at| at + 1);
    let start = start.min(at);
    let word = &before[start..];
    if statements::ends_in_text(statement) || (word.is_empty() && before.trim().is_empty()) {
        return Completion { from: at, texts: vec!["\t".to_owned()] };
    }
    let (from, texts) = if statements::is_blank(pending) && line.trim_start().starts_with('.') {
        let (from, texts) = of_command(before.trim_start());
        (at - (before.trim_start().len() - from), texts)
    } else if let Some((name, column)) = word.rsplit_once('.') {
        let named = Named::of(statement, after);
        (at - column.len(), starting_with(column, named.columns_of(name).into_iter()))
    } else {
        (start, of_statement(statement, after, word))
    };
    match texts.as_slice() {
        [] => Completion { from: at, texts: vec!["\t".to_owned()] },
        [only] if only.eq_ignore_ascii_case(&before[from..]) => {
            Completion { from, texts: vec![format!("{only} ")] }
        }
        _ => Completion { from, texts },
    }
}

fn is_part(sign: char) -> bool {
    sign.is_alphanumeric() || sign == '_' || sign == '.'
}

/// Returns the candidates that begin with a word, each once, in their order.
fn starting_with<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for candidate in candidates {
        let is_match = candidate.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        if is_match && !found.iter().any(|known| known == candidate) {
            found.push(candidate.to_owned());
        }
    }
    found
}

fn view_names<'n>() -> impl Iterator<Item = &'n str> {
    VIEWS.iter().map(|(name, _)| *name)
}

/// Completes a command or its argument. Returns the place of the completed word.
fn of_command(line: &str) -> (usize, Vec<String>) {
    let Some((name, argument)) = line.split_once(' ') else {
        return (0, starting_with(line, COMMANDS.iter().map(|(name, ..)| *name)));
    };
    let texts = match name {
        ".tables" | ".schema" => starting_with(argument, view_names()),
        ".format" | ".mode" => starting_with(argument, ["table", "csv", "json", "ndjson"].into_iter()),
        ".headers" | ".timer" | ".stats" => starting_with(argument, ["on", "off"].into_iter()),
        _ => Vec::new(),
    };
    (line.len() - argument.len(), texts)
}

fn of_statement(statement: &str, after: &str, word: &str) -> Vec<String> {
    let earlier = tokens(&statement[..statement.len() - word.len()]);
    let named = Named::of(statement, after);
    if is_view_next(&earlier) {
        let found = starting_with(word, view_names().chain(named.queries.iter().map(String::as_str)));
        if !found.is_empty() {
            return found;
        }
    }
    let columns = named.columns();
    if word.is_empty() {
        return starting_with(word, columns.into_iter());
    }
    let others = FUNCTIONS.split_whitespace().chain(KEYWORDS.split_whitespace());
    let all = VIEWS.iter().flat_map(|(_, view)| view.columns).map(|column| column.name);
    let all = all.filter(|_| named.views.is_empty());
    starting_with(word, columns.into_iter().chain(all).chain(others).chain(view_names()))
}

/// Returns `true` if the name of a view follows these words.
fn is_view_next(earlier: &[&str]) -> bool {
    let is_one_of = |word: &str, of: &[&str]| of.iter().any(|known| known.eq_ignore_ascii_case(word));
    match earlier.last() {
        Some(&",") => {
            let keyword = |word: &&&str| is_one_of(word, &BEFORE_VIEWS) || is_one_of(word, &AFTER_VIEWS);
            earlier.iter().rev().find(keyword).is_some_and(|word| is_one_of(word, &BEFORE_VIEWS))
        }
        Some(&"(") => earlier.iter().rev().nth(1).is_some_and(|word| word.eq_ignore_ascii_case("table_info")),
        Some(word) => is_one_of(word, &BEFORE_VIEWS),
        None => false,
    }
}

/// The views that a statement names.
struct Named {
    /// Each with its alias, or its name.
    views: Vec<(String, &'static View)>,
    /// The queries of a WITH clause.
    queries: Vec<String>,
}

impl Named {
    fn of(before: &str, after: &str) -> Named {
        let after = &after[..statements::first(after).unwrap_or(after.len())];
        let text = format!("{before}{after}");
        let words = tokens(&text);
        let word = |at: usize| words.get(at).copied().unwrap_or_default();
        let (mut views, mut queries) = (Vec::new(), Vec::new());
        for at in 0..words.len() {
            if word(at + 1).eq_ignore_ascii_case("AS") && word(at + 2) == "(" {
                queries.push(word(at).to_owned());
            }
            let is_column = at > 0 && word(at - 1) == ".";
            let Some(view) = views::find(word(at)).filter(|_| !is_column) else { continue };
            let alias = if word(at + 1).eq_ignore_ascii_case("AS") { word(at + 2) } else { word(at + 1) };
            let is_keyword = KEYWORDS.split(' ').any(|keyword| keyword.eq_ignore_ascii_case(alias));
            let is_name = alias.starts_with(|sign: char| sign.is_alphabetic() || sign == '_') && !is_keyword;
            views.push((if is_name { alias } else { word(at) }.to_owned(), view));
        }
        Named { views, queries }
    }

    /// Returns the columns of every named view.
    fn columns(&self) -> Vec<&'static str> {
        self.views.iter().flat_map(|(_, view)| view.columns).map(|column| column.name).collect()
    }

    /// Returns the columns of the view with this name or alias; those of every named view if there is none.
    fn columns_of(&self, name: &str) -> Vec<&'static str> {
        let is_named = |(alias, _): &&(String, &View)| alias.eq_ignore_ascii_case(name);
        let by_alias = self.views.iter().find(is_named).map(|(_, view)| *view);
        match by_alias.or_else(|| views::find(name)) {
            Some(view) => view.columns.iter().map(|column| column.name).collect(),
            None => self.columns(),
        }
    }
}

/// Splits a text into words and signs. The content of strings does not matter here.
fn tokens(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |sign: char| sign.is_alphanumeric() || sign == '_';
        let length = match is_word(first) {
            true => rest.find(|sign| !is_word(sign)).unwrap_or(rest.len()),
            false => first.len_utf8(),
        };
        found.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(line: &str) -> Vec<String> {
        complete("", line, line.len()).texts
    }

    #[test]
    fn a_view_is_offered_after_from_and_join() {
        let all: Vec<_> = view_names().collect();
        for before in
            ["SELECT * FROM ", "select a from", "SELECT 1 FROM orders JOIN ", "SELECT 1 FROM orders o, "]
        {
            let line = format!("{} ", before.trim_end());
            assert_eq!(completed(&line), all, "{before}");
        }
        assert_eq!(completed("SELECT * FROM or"), ["orders", "order_items"]);
        assert_eq!(completed("SELECT * FROM orders o JOIN c"), ["clicks", "customers"]);
        assert_eq!(completed("PRAGMA table_info(ten"), ["tenants"]);
        assert_eq!(completed("WITH sale AS (SELECT 1) SELECT * FROM sa"), ["sale"]);
        assert_eq!(complete("SELECT *\nFROM\n", "ten", 3).texts, ["tenants"], "after earlier lines");
        assert_eq!(completed("SELECT 1 FROM nothing; SELECT * FROM ten"), ["tenants"]);
    }

    #[test]
    fn a_column_of_the_named_views_is_offered_first() {
        let columns = completed("SELECT tenant_id FROM tenants WHERE ");
        assert_eq!(columns, ["tenant_id"]);
        assert_eq!(completed("SELECT line FROM order_items WHERE o")[..2], ["order_row", "order_id"]);
        let line = "SELECT c FROM orders";
        let texts = complete("", line, "SELECT c".len()).texts;
        assert_eq!(texts[..4], ["customer_id", "customer_name", "customer_email", "currency"]);
        assert!(texts.contains(&"count(".to_owned()) && !texts.contains(&"category".to_owned()));
        assert_eq!(completed("SELECT 1 FROM orders o JOIN order_items AS i ON i.order_r"), ["order_row"]);
        assert_eq!(
            complete("", "SELECT 1 FROM stock s WHERE s.q", 31),
            Completion { from: 30, texts: vec!["quantity".to_owned()] }
        );
        assert_eq!(completed("sel"), ["SELECT"]);
        assert_eq!(completed("SELECT order_"), ["order_id", "order_row", "order_items"]);
    }

    #[test]
    fn a_command_and_its_argument_are_completed() {
        assert_eq!(completed(".t"), [".tables", ".timer"]);
        assert_eq!(
            complete("", ".schema ten", 11),
            Completion { from: 8, texts: vec!["tenants".to_owned()] }
        );
        assert_eq!(completed(".mode n"), ["ndjson"]);
    }

    #[test]
    fn a_tab_that_completes_nothing_remains_white_space() {
        for line in ["", "  ", "SELECT 'a", "SELECT 1 -- or", "SELECT nil", "SELECT é"] {
            assert_eq!(
                complete("", line, line.len()),
                Completion { from: line.len(), texts: vec!["\t".into()] }
            );
        }
        assert_eq!(completed("SELECT"), ["SELECT "]);
        assert_eq!(completed("SELECT * FROM order_items"), ["order_items "]);
    }
}
