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
mod completion;
mod error;
mod folder;
mod guard;
mod kept;
mod list;
mod output;
mod plan;
mod prompt;
mod rows;
mod scan;
mod script;
mod select;
mod session;
mod statements;
mod stop;
mod table;
mod terminal;
mod times;
mod view;
mod views;
mod work;

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use signal_hook::consts::SIGINT;

pub use self::attach::AttachScript;
use self::commands::Next;
pub use self::error::SqlError;
pub use self::output::Format;
use self::script::{Script, Source};
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
        Input::Texts(texts) => {
            for text in texts {
                if Script::new(Source::Argument).run(&mut session, text)? == Next::Quit {
                    break;
                }
            }
            Ok(())
        }
        Input::Stdin if io::stdin().is_terminal() => prompt::run(&mut session),
        Input::Stdin => Script::new(Source::Stdin).read(&mut session, io::stdin().lock()).map(drop),
    }
}

/// Returns the script that attaches up to ten shards to the stock sqlite3 shell.
///
/// # Errors
/// The reason why there is none.
pub fn attach_script(data: &Path, group: usize) -> Result<AttachScript, String> {
    attach::script(data, group)
}
