//! The prompt: lines with history and completion, until a statement is complete.

use std::borrow::Cow;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Context, Editor, Helper};

use super::commands::{self, Next};
use super::error::SqlError;
use super::session::Session;
use super::statements;
use super::views::VIEWS;

/// Statements in the history.
const HISTORY_MAX: usize = 1_000;

const KEYWORDS: &str = "SELECT FROM WHERE GROUP BY ORDER HAVING LIMIT OFFSET JOIN LEFT INNER CROSS ON USING AND OR NOT IN \
    BETWEEN LIKE GLOB IS NULL CASE WHEN THEN ELSE END AS DISTINCT UNION ALL EXCEPT INTERSECT WITH RECURSIVE VALUES DESC \
    ASC EXISTS EXPLAIN QUERY PLAN OVER PARTITION WINDOW FILTER COLLATE NOCASE count( sum( avg( min( max( total( \
    coalesce( substr( round( date( datetime( strftime( julianday( json_extract( group_concat( .tables .schema .format \
    .timer .help .quit";

/// Runs the prompt until the end of the input.
pub(super) fn run(session: &mut Session) -> Result<(), SqlError> {
    let failed = |error: ReadlineError| SqlError::Output(std::io::Error::other(error));
    let config =
        Config::builder().max_history_size(HISTORY_MAX).map_err(failed)?.auto_add_history(false).build();
    let mut editor: Editor<Words, FileHistory> = Editor::with_config(config).map_err(failed)?;
    editor.set_helper(Some(Words));
    let history = history_file();
    if let Some(history) = &history {
        // The first session has none.
        let _ = editor.load_history(history);
    }
    if std::io::stdout().is_terminal() {
        println!("All shards, read-only. A statement ends with a semicolon; .help lists the commands.");
    }
    loop {
        let text = match editor.readline("firehose> ") {
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        if statements::is_blank(&text) {
            continue;
        }
        // A history that cannot be written is not worth an error.
        let _ = editor.add_history_entry(text.trim());
        if let Some(history) = &history {
            let _ = editor.append_history(history);
        }
        if text.trim_start().starts_with('.') {
            match commands::run(session, &text) {
                Ok((text, Next::Continue)) => print!("{text}"),
                Ok((_, Next::Quit)) => return Ok(()),
                Err(why) => eprintln!("{why}"),
            }
            continue;
        }
        let mut text = text;
        while let Some(statement) = statements::take(&mut text) {
            session.stop.resume();
            match session.run(&statement) {
                Ok(()) => {}
                Err(SqlError::Closed) => return Err(SqlError::Closed),
                Err(error) => {
                    eprintln!("{error}");
                    break;
                }
            }
        }
    }
}

/// Returns `$XDG_STATE_HOME/firehose/sql_history`, or that below `~/.local/state`. Creates its folder.
fn history_file() -> Option<PathBuf> {
    let folder = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let folder = folder.or_else(home)?.join("firehose");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("sql_history"))
}

/// Completes the names of views and columns, keywords and commands.
struct Words;

impl Helper for Words {}

impl Highlighter for Words {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        Cow::Borrowed(prompt)
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Validator for Words {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        let is_whole = text.trim_start().starts_with('.')
            || statements::is_blank(text)
            || text.rfind(';').is_some_and(|_| is_complete(text));
        Ok(if is_whole { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

/// Returns `true` if nothing follows the last complete statement.
fn is_complete(text: &str) -> bool {
    let mut rest = text;
    while let Some(end) = statements::first(rest) {
        rest = &rest[end..];
    }
    rest.len() < text.len() && statements::is_blank(rest)
}

impl Completer for Words {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let is_part = |sign: char| sign.is_alphanumeric() || sign == '_' || sign == '.';
        let start = line[..at].rfind(|sign| !is_part(sign)).map_or(0, |at| at + 1);
        // Of `o.order_id`, only the column is completed.
        let start = match line[start..at].rfind('.') {
            Some(dot) if start + dot > 0 => start + dot + 1,
            _ => start,
        };
        Ok((start, candidates(&line[start..at])))
    }
}

fn candidates(word: &str) -> Vec<String> {
    let views = VIEWS.iter().map(|(name, _)| *name);
    let columns = VIEWS.iter().flat_map(|(_, view)| view.columns).map(|column| column.name);
    let known = views.chain(columns).chain(KEYWORDS.split_whitespace());
    let matches =
        |known: &&str| known.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    let mut found: Vec<String> = known.filter(matches).map(str::to_owned).collect();
    found.sort();
    found.dedup();
    if word.is_empty() { Vec::new() } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_keywords_are_completed() {
        assert_eq!(candidates("order_"), ["order_id", "order_items", "order_row"]);
        assert_eq!(candidates("sel"), ["SELECT"]);
        assert_eq!(candidates(".t"), [".tables", ".timer"]);
        assert!(candidates("").is_empty() && candidates("é").is_empty());
    }

    #[test]
    fn a_line_is_complete_after_its_last_semicolon() {
        assert!(is_complete("SELECT 1;") && is_complete("SELECT 1; SELECT 2; -- done"));
        assert!(!is_complete("SELECT 1; SELECT") && !is_complete("SELECT ';'") && !is_complete("SELECT 1"));
    }
}
