//! `firehose sql`: queries over all shards of a data folder, as if they were one read-only database.
//!
//! In: SQL. Out: rows as a table, CSV or JSON. Owns: the views, which virtual tables of a private database provide; the
//! snapshot that a query sees. Never: writes to the folder, shows a table that is not a view, or answers from some of
//! the shards.
//!
//! # The life of a query
//!
//! 1. [`session`] begins a read transaction in every shard ([`folder`]) and has SQLite plan the statement. [`plan`]
//!    chooses, for each table, the conditions that the shards evaluate.
//! 2. When SQLite opens a table, [`ask`] turns these conditions and their values into a statement for each shard and
//!    partition that may have rows. [`times`] turns texts into microseconds.
//! 3. [`scan`] runs these statements one after the other, or merges them in the order of a time or a name. SQLite
//!    checks every condition again, joins, sorts and aggregates.
//! 4. [`output`] writes each row as it arrives. [`stop`] ends the query after Ctrl-C or at its time limit.

mod ask;
mod attach;
mod commands;
mod error;
mod folder;
mod guard;
mod output;
mod plan;
mod prompt;
mod rows;
mod scan;
mod session;
mod statements;
mod stop;
mod table;
mod times;
mod view;
mod views;

use std::io::{self, BufRead, IsTerminal as _, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use signal_hook::consts::SIGINT;

use self::commands::Next;
pub use self::error::SqlError;
use self::guard::STATEMENT_BYTES_MAX;
pub use self::output::Format;
use self::session::Session;
pub use self::stop::Reason;

/// Where the statements come from.
#[derive(Clone, Copy, Debug)]
pub enum Input<'i> {
    /// These texts, each with one statement or more.
    Texts(&'i [String]),
    /// Standard input: a prompt if it is a terminal.
    Stdin,
}

/// Address space for the stack. SQLite walks an expression recursively, and one of the maximum length is 130,000 deep.
/// Only the used pages take memory.
const STACK_BYTES: usize = 512 << 20;

/// Runs statements on the shards of a data folder, on a thread with a deep stack.
///
/// # Errors
/// The folder cannot be opened, or the first statement that failed.
pub fn query(data: &Path, input: Input<'_>, limit: Option<Duration>, format: Format) -> Result<(), SqlError> {
    let builder = thread::Builder::new().name("sql".to_owned()).stack_size(STACK_BYTES);
    thread::scope(|scope| {
        let queries = builder.spawn_scoped(scope, || run(data, input, limit, format))?;
        queries
            .join()
            .unwrap_or_else(|_| Err(SqlError::Sql("the query failed by a fault of this program".to_owned())))
    })
}

fn run(data: &Path, input: Input<'_>, limit: Option<Duration>, format: Format) -> Result<(), SqlError> {
    let mut session = Session::open(data, limit, format)?;
    // A second Ctrl-C ends the program, whatever it is doing.
    let interrupted = &session.stop.interrupted;
    signal_hook::flag::register_conditional_default(SIGINT, Arc::clone(interrupted))?;
    signal_hook::flag::register(SIGINT, Arc::clone(interrupted))?;
    match input {
        Input::Texts(texts) => texts.iter().try_for_each(|text| {
            if text.trim_start().starts_with('.') {
                return run_command(&mut session, text).map(|_| ());
            }
            run_all(&mut session, text.clone())
        }),
        Input::Stdin if io::stdin().is_terminal() => prompt::run(&mut session),
        Input::Stdin => run_stdin(&mut session),
    }
}

/// Returns the script that attaches up to ten shards to the stock sqlite3 shell.
///
/// # Errors
/// The reason why there is none.
pub fn attach_script(data: &Path, group: usize) -> Result<String, String> {
    attach::script(data, group)
}

/// Runs the statements of a text. The last one needs no semicolon.
fn run_all(session: &mut Session, mut text: String) -> Result<(), SqlError> {
    while let Some(statement) = statements::take(&mut text) {
        if !statements::is_blank(&statement) {
            session.run(&statement)?;
        }
    }
    if statements::is_blank(&text) { Ok(()) } else { session.run(&text) }
}

/// Runs a command that begins with a dot, and prints its text.
fn run_command(session: &mut Session, line: &str) -> Result<Next, SqlError> {
    let (shown, next) = commands::run(session, line).map_err(SqlError::Sql)?;
    session.sink.buffer.extend_from_slice(shown.as_bytes());
    session.sink.flush()?;
    Ok(next)
}

/// Runs the statements and commands of standard input, each as soon as it is complete.
fn run_stdin(session: &mut Session) -> Result<(), SqlError> {
    let mut input = io::stdin().lock();
    let mut text = String::new();
    loop {
        let before = text.len();
        let room = STATEMENT_BYTES_MAX + 1 - before.min(STATEMENT_BYTES_MAX);
        let read =
            (&mut input).take(room as u64).read_line(&mut text).map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => SqlError::Sql("the input is not UTF-8".to_owned()),
                _ => error.into(),
            })?;
        if read == 0 {
            return run_all(session, text);
        }
        if text.len() > STATEMENT_BYTES_MAX {
            return Err(SqlError::Sql(format!("a statement has more than {STATEMENT_BYTES_MAX} bytes")));
        }
        let line = &text[before..];
        if line.trim_start().starts_with('.') && statements::is_blank(&text[..before]) {
            if run_command(session, line)? == Next::Quit {
                return Ok(());
            }
            text.clear();
        } else if line.contains(';') {
            while let Some(statement) = statements::take(&mut text) {
                if !statements::is_blank(&statement) {
                    session.run(&statement)?;
                }
            }
        }
    }
}
