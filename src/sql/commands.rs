//! The commands that begin with a dot.

use std::fmt::Write as _;

use clap::ValueEnum as _;

use super::output::Format;
use super::session::Session;
use super::views::{self, VIEWS};

/// What follows a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Continue,
    Quit,
}

const HELP: &str = "\
.tables           lists the views
.schema [NAME]    shows the columns of a view, and the conditions that its indexes serve
.format FORMAT    table, csv, json or ndjson
.timer on|off     shows the time of each statement
.help             shows this list
.quit             ends the session
A statement ends with a semicolon. EXPLAIN QUERY PLAN shows the conditions that reach the shards.
";

/// Runs a command, and returns what it prints.
pub(super) fn run(session: &mut Session, line: &str) -> Result<(String, Next), String> {
    let mut words = line.trim().trim_end_matches(';').split_whitespace();
    let (name, argument) = (words.next().unwrap_or_default(), words.next());
    if words.next().is_some() {
        return Err(format!("{name} has at most one argument"));
    }
    let text = match (name, argument) {
        (".tables", None) => VIEWS.iter().fold(String::new(), |text, (name, _)| text + name + "\n"),
        (".schema", None) => VIEWS.iter().filter_map(|(name, _)| schema(name)).collect::<Vec<_>>().join("\n"),
        (".schema", Some(name)) => {
            schema(name).ok_or_else(|| format!("there is no view {name}; .tables lists them"))?
        }
        (".format", Some(format)) => {
            let choices = "the formats are table, csv, json and ndjson";
            session.format = Format::from_str(format, true).map_err(|_| choices.to_owned())?;
            String::new()
        }
        (".timer", Some(state @ ("on" | "off"))) => {
            session.has_timer = state == "on";
            String::new()
        }
        (".help", None) => HELP.to_owned(),
        (".quit" | ".exit", None) => return Ok((String::new(), Next::Quit)),
        _ => return Err(format!("{} is not a command; .help lists them", line.trim())),
    };
    Ok((text, Next::Continue))
}

/// Describes a view as a statement with comments.
fn schema(name: &str) -> Option<String> {
    let view = views::find(name)?;
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
    Some(text)
}
