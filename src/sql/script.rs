//! Statements and commands line by line: each runs as soon as it is complete.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use super::commands::{self, Next};
use super::error::SqlError;
use super::guard::STATEMENT_BYTES_MAX;
use super::session::Session;
use super::statements;

/// Files that read one another.
const DEPTH_MAX: usize = 8;

/// The lines of one source.
pub(super) struct Script {
    /// The statement that is not complete.
    text: String,
    /// The number of its first line.
    line: usize,
    source: Source,
}

/// Where the lines come from, which an error mentions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Prompt,
    /// A command line, whose first line has no number.
    Argument,
    Stdin,
    /// A file, and the number of files that led to it.
    File(String, usize),
}

impl Script {
    pub(super) fn new(source: Source) -> Script {
        Script { text: String::new(), line: 1, source }
    }

    /// Returns the statement that is not complete.
    pub(super) fn pending(&self) -> &str {
        &self.text
    }

    /// Forgets the statement that is not complete.
    pub(super) fn clear(&mut self) {
        (self.line, self.text) = (1, String::new());
    }

    /// Adds a line, and runs what is complete.
    pub(super) fn add(&mut self, session: &mut Session, line: &str) -> Result<Next, SqlError> {
        if line.trim_start().starts_with('.') && statements::is_blank(&self.text) {
            self.line += self.text.matches('\n').count();
            self.text.clear();
            let next = self.run_command(session, line);
            self.line += line.matches('\n').count();
            return next;
        }
        self.text.push_str(line);
        if line.contains(';') {
            while let Some(statement) = statements::take(&mut self.text) {
                let lines = statement.matches('\n').count();
                self.run_statement(session, &statement)?;
                self.line += lines;
            }
        }
        if self.text.len() > STATEMENT_BYTES_MAX {
            let why = format!("a statement has more than {STATEMENT_BYTES_MAX} bytes");
            return Err(self.placed(SqlError::Sql(why), self.line));
        }
        if self.source == Source::Prompt
            && statements::is_blank(&self.text)
            && !statements::is_open(&self.text)
        {
            self.clear();
        }
        Ok(Next::Continue)
    }

    /// Runs the last statement, which needs no semicolon.
    pub(super) fn end(self, session: &mut Session) -> Result<(), SqlError> {
        self.run_statement(session, &self.text)
    }

    /// Adds all lines of a text, and runs the last statement.
    pub(super) fn run(mut self, session: &mut Session, text: &str) -> Result<Next, SqlError> {
        for line in text.split_inclusive('\n') {
            if self.add(session, line)? == Next::Quit {
                return Ok(Next::Quit);
            }
        }
        self.end(session).map(|()| Next::Continue)
    }

    /// Adds all lines of an input, and runs the last statement.
    pub(super) fn read(mut self, session: &mut Session, mut input: impl BufRead) -> Result<Next, SqlError> {
        let mut line = String::new();
        loop {
            line.clear();
            let room = STATEMENT_BYTES_MAX + 1 - self.text.len().min(STATEMENT_BYTES_MAX);
            let read = (&mut input).take(room as u64).read_line(&mut line);
            let read = read.map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => SqlError::Sql("the input is not UTF-8".to_owned()),
                _ => SqlError::Sql(format!("the input cannot be read: {error}")),
            });
            if read.map_err(|error| self.placed(error, self.line))? == 0 {
                return self.end(session).map(|()| Next::Continue);
            }
            if self.add(session, &line)? == Next::Quit {
                return Ok(Next::Quit);
            }
        }
    }

    fn run_statement(&self, session: &mut Session, statement: &str) -> Result<(), SqlError> {
        if statements::is_blank(statement) {
            return Ok(());
        }
        let skipped = statements::blank_lines(statement);
        session.run(statement, self.line).map_err(|error| self.placed(error, self.line + skipped))
    }

    /// Runs a command that begins with a dot, and prints its text.
    fn run_command(&self, session: &mut Session, line: &str) -> Result<Next, SqlError> {
        let run = commands::run(session, line).map_err(SqlError::Sql);
        let (shown, next) = run.map_err(|error| self.placed(error, self.line))?;
        session.sink.buffer.extend_from_slice(shown.as_bytes());
        session.sink.flush()?;
        match next {
            Next::Read(path) => self.run_file(session, &path),
            next => Ok(next),
        }
    }

    fn run_file(&self, session: &mut Session, path: &Path) -> Result<Next, SqlError> {
        let depth = if let Source::File(_, depth) = &self.source { *depth } else { 0 };
        let name = path.display().to_string();
        if depth == DEPTH_MAX {
            let why = format!("{name} is not read: {DEPTH_MAX} files already read one another");
            return Err(self.placed(SqlError::Sql(why), self.line));
        }
        let opened = File::open(path).map_err(|error| SqlError::Sql(format!("{name}: {error}")));
        let file = opened.map_err(|error| self.placed(error, self.line))?;
        match Script::new(Source::File(name, depth + 1)).read(session, BufReader::new(file))? {
            // A file that quits ends the session, as in sqlite3.
            Next::Quit => Ok(Next::Quit),
            _ => Ok(Next::Continue),
        }
    }

    /// Adds the source and the line to an error.
    fn placed(&self, error: SqlError, line: usize) -> SqlError {
        let is_obvious = self.source == Source::Prompt || (self.source == Source::Argument && line == 1);
        let why = match error {
            SqlError::Sql(why) if is_obvious => why,
            SqlError::Sql(why) => format!("{why} (line {line})"),
            SqlError::Marked(why) => why,
            error => return error,
        };
        SqlError::Marked(match &self.source {
            Source::File(name, _) => format!("{name}: {why}"),
            _ => why,
        })
    }
}
