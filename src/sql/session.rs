//! A session: an open folder, a connection that only reads its views, and the settings of the output.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::error::{SqlError, describe};
use super::folder::Folder;
use super::guard::{self, Refusal};
use super::kept::Repeats;
use super::output::{Format, Rows, Sink};
use super::stop::Stop;
use super::table::create_tables;
use crate::base::clock;
use crate::shard::open_private;

pub(super) struct Session {
    connection: Connection,
    folder: Rc<Folder>,
    repeats: Rc<Repeats>,
    pub(super) stop: Arc<Stop>,
    refusal: Refusal,
    pub(super) format: Format,
    pub(super) has_timer: bool,
    pub(super) has_stats: bool,
    pub(super) has_header: bool,
    pub(super) sink: Sink,
}

impl Session {
    pub(super) fn open(data: &Path, limit: Option<Duration>, format: Format) -> Result<Session, SqlError> {
        let stop = Arc::new(Stop::new(data.to_owned(), limit));
        let folder = Rc::new(Folder::open(data, Arc::clone(&stop))?);
        let failed = |error: rusqlite::Error| describe(&error, 1);
        let repeats = Rc::default();
        let mut connection = open_private().map_err(|error| SqlError::Sql(error.to_string()))?;
        create_tables(&connection, &folder, &repeats).map_err(failed)?;
        let refusal = guard::restrict(&mut connection).map_err(failed)?;
        let ends = Arc::clone(&stop);
        let progress = move || ends.reason().is_some();
        connection.progress_handler(super::stop::STEPS, Some(progress)).map_err(failed)?;
        let (has_timer, has_stats) = (false, false);
        let sink = Sink::new(Arc::clone(&stop));
        Ok(Session {
            connection,
            folder,
            repeats,
            stop,
            refusal,
            format,
            has_timer,
            has_stats,
            has_header: true,
            sink,
        })
    }

    /// Runs one statement, which begins at this line of its source, and writes its result.
    pub(super) fn run(&mut self, sql: &str, line: usize) -> Result<(), SqlError> {
        let began_us = clock::monotonic_us();
        self.stop.begin();
        let result = self.folder.begin().map_err(SqlError::from).and_then(|()| self.write(sql, line));
        self.folder.end();
        self.repeats.clear();
        self.stop.end();
        let result = match (result, self.stop.ended()) {
            (Err(SqlError::Sql(_) | SqlError::Marked(_)), Some(reason)) => {
                Err(SqlError::Stopped(reason, self.stop.explain(reason)))
            }
            (result, _) => result,
        };
        if self.has_timer {
            eprintln!("{:.3} s", (clock::monotonic_us() - began_us) as f64 / 1e6);
        }
        if self.has_stats {
            eprintln!("{}", self.folder.work.describe());
        }
        result
    }

    fn write(&mut self, sql: &str, line: usize) -> Result<(), SqlError> {
        let Session { connection, refusal, format, sink, .. } = self;
        let has_header = self.has_header;
        refusal.take();
        let failed =
            |error: rusqlite::Error| refusal.take().map_or_else(|| describe(&error, line), SqlError::Sql);
        let mut statement = connection.prepare(sql).map_err(failed)?;
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        // VACUUM and REINDEX ask for no permission. Neither is run.
        if columns.is_empty() || !statement.readonly() {
            return Err(SqlError::Sql("the statement is refused: firehose sql only reads".to_owned()));
        }
        if statement.parameter_count() > 0 {
            return Err(SqlError::Sql("the statement has parameters, which have no values here".to_owned()));
        }
        let is_plan = statement.is_explain() == 2;
        let count = columns.len();
        let mut rows = Rows::begin(*format, columns, (is_plan, has_header), &mut sink.buffer);
        let mut found = statement.raw_query();
        let result = loop {
            let row = match found.next() {
                Ok(Some(row)) => row,
                Ok(None) => break Ok(()),
                Err(error) => break Err(failed(error)),
            };
            let values = (0..count).map(|index| row.get_ref(index));
            let values = values.collect::<Result<Vec<_>, _>>().map_err(failed)?;
            rows.row(&values, &mut sink.buffer);
            sink.write_full()?;
        };
        match result {
            Ok(()) => {
                rows.end(&mut sink.buffer);
                sink.flush()
            }
            Err(error) => {
                // An incomplete result has no end: a reader of JSON recognises it.
                sink.flush()?;
                Err(error)
            }
        }
    }
}
