//! The commands that begin with a dot.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::ValueEnum as _;

use super::output::Format;
use super::session::Session;
use super::views::{self, VIEWS};

/// What follows a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Continue,
    /// The statements and commands of a file follow.
    Read(PathBuf),
    Quit,
}

/// The name of each command, its argument, and what it does, in the order of `.help`.
pub(super) const COMMANDS: [(&str, &str, &str); 11] = [
    (".tables", "[PATTERN]", "lists the views, or those whose names match (% and _ as in LIKE)"),
    (".schema", "[PATTERN]", "shows the columns of the views, and the conditions that their indexes serve"),
    (".format", "[FORMAT]", "sets or shows the format: table, csv, json or ndjson"),
    (".mode", "[FORMAT]", "is another name of .format"),
    (".headers", "on|off", "shows or hides the names of the columns in table and csv"),
    (".timer", "on|off", "shows the time of each statement"),
    (".stats", "on|off", "shows what each statement asked the shards for"),
    (".read", "FILE", "runs the statements and commands of a file"),
    (".help", "", "shows this list"),
    (".quit", "", "ends the session"),
    (".exit", "", "is another name of .quit"),
];

const FORMATS: &str = "the formats are table, csv, json and ndjson";

/// Runs a command, and returns what it prints.
pub(super) fn run(session: &mut Session, line: &str) -> Result<(String, Next), String> {
    let line = line.trim().trim_end_matches(';').trim_end();
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let argument = unquoted(rest.trim());
    let has_argument = COMMANDS.iter().find(|known| known.0 == name).map(|known| !known.1.is_empty());
    match has_argument {
        None => return Err(unknown(name)),
        Some(false) if !argument.is_empty() => return Err(format!("{name} has no argument")),
        Some(_) => {}
    }
    let mut text = String::new();
    match (name, argument) {
        (".read", "") => return Err(".read needs the name of a file".to_owned()),
        (".read", path) => return Ok((text, Next::Read(PathBuf::from(path)))),
        (".quit" | ".exit", _) => return Ok((text, Next::Quit)),
        (".help", _) => text = help(),
        (".tables", pattern) => matching(pattern)?.iter().for_each(|name| text += &format!("{name}\n")),
        (".schema", pattern) => {
            text = matching(pattern)?.into_iter().map(schema).collect::<Vec<_>>().join("\n")
        }
        (".format" | ".mode", "") => {
            let format = session.format.to_possible_value();
            text = format!("{}\n", format.map_or_else(String::new, |format| format.get_name().to_owned()));
        }
        (".format" | ".mode", format) => session.format = parse_format(format)?,
        (".headers", state) => session.has_header = is_on(name, state)?,
        (".timer", state) => session.has_timer = is_on(name, state)?,
        (_, state) => session.has_stats = is_on(name, state)?,
    }
    Ok((text, Next::Continue))
}

fn unquoted(text: &str) -> &str {
    let within = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    within('\'').or_else(|| within('"')).unwrap_or(text)
}

fn is_on(name: &str, state: &str) -> Result<bool, String> {
    match state {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("{name} needs on or off")),
    }
}

/// Returns a format by its name, or by that of the same one in sqlite3.
fn parse_format(name: &str) -> Result<Format, String> {
    match name {
        "column" | "box" => Ok(Format::Table),
        name => Format::from_str(name, true).map_err(|_| FORMATS.to_owned()),
    }
}

/// Explains an unknown command. Those of sqlite3 have a replacement.
fn unknown(name: &str) -> String {
    let instead = match name {
        ".output" | ".once" | ".excel" => "firehose sql writes to standard output, so redirect it to a file",
        ".dump" | ".backup" | ".save" | ".clone" => "`firehose backup` copies the folder",
        ".import" | ".load" | ".restore" | ".recover" => "firehose sql only reads",
        ".open" | ".databases" => "a session has one folder, which --data selects",
        ".indexes" | ".indices" => ".schema shows the indexes",
        ".nullvalue" | ".separator" | ".width" | ".show" => FORMATS,
        _ => return format!("{name} is not a command; .help lists the commands"),
    };
    format!("{name} is not a command here: {instead}; .help lists the commands")
}

fn help() -> String {
    let width = COMMANDS.iter().map(|(name, argument, _)| name.len() + argument.len() + 1).max().unwrap_or(0);
    let lines = COMMANDS.iter().map(|(name, argument, about)| {
        let usage = format!("{name} {argument}");
        format!("{usage:<width$}  {about}\n")
    });
    let statements = "A statement ends with a semicolon. EXPLAIN QUERY PLAN shows the conditions that reach the \
                      shards.\nCtrl-C ends a query or an unfinished statement, Ctrl-D the session.\n";
    lines.collect::<String>() + statements
}

/// Returns the names of the views that match a pattern, or of all views if it is empty.
fn matching(pattern: &str) -> Result<Vec<&'static str>, String> {
    let names = VIEWS.iter().map(|(name, _)| *name);
    let found: Vec<_> = names.filter(|name| pattern.is_empty() || is_like(name, pattern)).collect();
    match found.is_empty() {
        true => Err(format!("there is no view {pattern}; .tables lists them")),
        false => Ok(found),
    }
}

/// Compares a name with a pattern, as LIKE does.
fn is_like(name: &str, pattern: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => name.is_empty(),
        Some('%') => {
            let rest = rest.as_str();
            (0..=name.len()).any(|from| name.get(from..).is_some_and(|name| is_like(name, rest)))
        }
        Some(sign) => {
            let mut names = name.chars();
            names.next().is_some_and(|first| sign == '_' || first.eq_ignore_ascii_case(&sign))
                && is_like(names.as_str(), rest.as_str())
        }
    }
}

/// Describes a view as a statement with comments.
fn schema(name: &str) -> String {
    let Some(view) = views::find(name) else { return String::new() };
    let mut text = format!("-- {}\nCREATE VIEW {name} (\n", view.about);
    let last = view.columns.len() - 1;
    for (index, column) in view.columns.iter().enumerate() {
        // Writing to a String cannot fail.
        let comma = if index == last { "" } else { "," };
        let _ = writeln!(text, "  {}{comma}  -- {}", column.name, column.kind.shown());
    }
    text.push_str(");\n");
    for index in view.indexes {
        let _ = writeln!(text, "-- index: {}", index.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_selects_views_as_like_does() {
        assert_eq!(matching("ORDER%"), Ok(vec!["orders", "order_items"]));
        assert_eq!(matching("_rders"), Ok(vec!["orders"]));
        assert_eq!(matching("%stock"), Ok(vec!["stock"]));
        assert_eq!(matching("").map(|all| all.len()), Ok(VIEWS.len()));
        assert!(matching("order").is_err() && matching("orders_").is_err());
    }
}
