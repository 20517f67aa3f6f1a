//! The prompt: lines with history and completion, until a statement is complete.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use super::commands::Next;
use super::completion::{Completion, complete};
use super::error::SqlError;
use super::script::{Script, Source};
use super::session::Session;
use super::stop::Reason;
use super::terminal::Terminal;

/// Statements in the history.
const HISTORY_MAX: usize = 1_000;

const SIGN: &str = "firehose> ";
/// The sign of a line that continues a statement.
const CONTINUED: &str = "     ...> ";

/// Runs the prompt until the end of the input.
pub(super) fn run(session: &mut Session) -> Result<(), SqlError> {
    let failed = |error: ReadlineError| SqlError::Output(std::io::Error::other(error));
    let config = Config::builder().max_history_size(HISTORY_MAX).map_err(failed)?.auto_add_history(false);
    // A paste is text, whose tabs complete nothing. Every candidate is shown, as in other shells.
    let config = config.bracketed_paste(true).completion_type(CompletionType::List);
    let config = config.completion_show_all_if_ambiguous(true).build();
    let with_history =
        |history| Editor::<Words, FileHistory>::with_history(config.clone(), history).map_err(failed);
    let mut editor = with_history(FileHistory::with_config(&config))?;
    // Until the end of the prompt, also while a statement runs.
    let _terminal = Terminal::uncooked();
    let history = history_file();
    if let Some(history) = &history {
        // The first session has none.
        let _ = editor.load_history(history);
    }
    if std::io::stdout().is_terminal() {
        println!("All shards, read-only. A statement ends with a semicolon; .help lists the commands.");
    }
    let mut script = Script::new(Source::Prompt);
    loop {
        let pending = script.pending().to_owned();
        let is_first = pending.is_empty();
        editor.set_helper(Some(Words { pending: pending.clone() }));
        // A Ctrl-C from here on is for the next statement.
        session.stop.resume();
        let text = match editor.readline(if is_first { SIGN } else { CONTINUED }) {
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => {
                script.clear();
                continue;
            }
            Err(ReadlineError::Eof) => {
                if !is_first {
                    eprintln!("the last statement has no semicolon and was not run");
                }
                return Ok(());
            }
            Err(error) => return Err(failed(error)),
        };
        let is_over = match add(&mut script, session, &text) {
            Ok(Next::Quit) => true,
            Ok(_) => false,
            Err(SqlError::Closed) => return Err(SqlError::Closed),
            Err(error) => {
                eprintln!("{error}");
                script.clear();
                false
            }
        };
        if session.stop.ended() == Some(Reason::Interrupted) {
            // The editor has read ahead. As in other shells, Ctrl-C drops what is typed ahead.
            editor = with_history(std::mem::take(editor.history_mut()))?;
        }
        let whole = format!("{pending}{text}");
        if script.pending().is_empty() && !whole.trim().is_empty() {
            // A history that cannot be written is not worth an error.
            let _ = editor.add_history_entry(whole.trim());
            if let Some(history) = &history {
                let _ = editor.append_history(history);
            }
        }
        if is_over {
            return Ok(());
        }
    }
}

/// Adds a line, or the lines of a paste.
fn add(script: &mut Script, session: &mut Session, text: &str) -> Result<Next, SqlError> {
    // Users of other shells end them so.
    if script.pending().is_empty() && ["quit", "exit", "\\q"].contains(&text.trim()) {
        return Ok(Next::Quit);
    }
    for line in text.split('\n') {
        if script.add(session, &format!("{line}\n"))? == Next::Quit {
            return Ok(Next::Quit);
        }
    }
    Ok(Next::Continue)
}

/// Returns `$XDG_STATE_HOME/firehose/sql_history`, or that below `~/.local/state`. Creates its folder.
fn history_file() -> Option<PathBuf> {
    let folder = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let folder = folder.or_else(home)?.join("firehose");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("sql_history"))
}

/// The completion, with the earlier lines of the statement.
struct Words {
    pending: String,
}

impl Helper for Words {}

impl Highlighter for Words {}

impl Hinter for Words {
    type Hint = String;
}

impl Validator for Words {}

impl Completer for Words {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let Completion { from, texts } = complete(&self.pending, line, at);
        Ok((from, texts))
    }
}
