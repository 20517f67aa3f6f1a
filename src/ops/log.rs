//! The log: one JSON object per line on stderr, or text for people, written by a separate thread.
//!
//! In: `tracing` events from any thread. Out: lines. Owns: the thread `log` and a queue of [`LINES_QUEUED_MAX`]
//! lines. When it is full, lines are dropped and counted. Never: makes a core wait for a terminal, a pipe or a disk.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::base::clock;
use crate::config::{Config, LogFormat, LogLevel};

/// The number of lines that may wait for the writer: about 2 MB at 250 bytes a line, a minute of a busy log.
const LINES_QUEUED_MAX: usize = 8192;

/// The log's settings.
#[derive(Clone, Debug)]
pub struct LogSettings {
    pub level: LogLevel,
    pub format: LogFormat,
    /// The file that lines are appended to. `None` means stderr.
    pub file: Option<PathBuf>,
}

impl From<&Config> for LogSettings {
    fn from(config: &Config) -> LogSettings {
        LogSettings { level: config.log_level, format: config.log_format, file: config.log_file.clone() }
    }
}

/// Why the log cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The folder is missing or not writable. The operator can correct this.
    #[error("cannot append to the log file {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// `init` was called twice in one process: the caller's fault.
    #[error("the log was already started in this process")]
    Started,
}

/// Keeps the log running. Dropping it writes the queued lines, and waits at most a second.
#[must_use = "the log ends with its guard"]
#[derive(Debug)]
pub struct LogGuard {
    dropped: DroppedLines,
    _writer: WorkerGuard,
}

impl LogGuard {
    /// The counter of lines lost to a full queue, for the metrics page.
    #[must_use]
    pub fn dropped_lines(&self) -> DroppedLines {
        self.dropped.clone()
    }
}

/// The number of lines dropped because the writer was too slow. Any thread may read it.
#[derive(Clone, Debug)]
pub struct DroppedLines(ErrorCounter);

impl DroppedLines {
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.dropped_lines() as u64
    }
}

/// Starts the log of this process. It also logs panics, each as one line.
///
/// # Errors
/// Returns an error if the file cannot be opened, or if the log was started before.
pub fn init(settings: &LogSettings) -> Result<LogGuard, LogError> {
    let (text, colour) = shape(settings);
    let builder = NonBlockingBuilder::default().buffered_lines_limit(LINES_QUEUED_MAX).thread_name("log");
    let (writer, guard) = match &settings.file {
        Some(path) => builder.finish(append(path)?),
        None => builder.finish(io::stderr()),
    };
    let dropped = DroppedLines(writer.error_counter());
    let level = level(settings.level);
    let started = if text {
        tracing::subscriber::set_global_default(text_lines(writer, level, colour))
    } else {
        tracing::subscriber::set_global_default(json_lines(writer, level))
    };
    started.map_err(|_| LogError::Started)?;
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let what = payload.downcast_ref::<&str>().copied();
        let what = what.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("?");
        tracing::error!(thread = thread.name().unwrap_or("?"), place, what, "panic");
    }));
    Ok(LogGuard { dropped, _writer: guard })
}

/// Returns whether the log is text instead of JSON, and whether it is in colour.
fn shape(settings: &LogSettings) -> (bool, bool) {
    let terminal = settings.file.is_none() && io::stderr().is_terminal();
    match settings.format {
        LogFormat::Json => (false, false),
        LogFormat::Text => (true, terminal),
        LogFormat::Auto => (terminal, terminal),
    }
}

fn append(path: &Path) -> Result<std::fs::File, LogError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|source| LogError::File { path: path.to_owned(), source })
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

fn json_lines(writer: NonBlocking, level: LevelFilter) -> impl tracing::Subscriber + Send + Sync {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_timer(Utc)
        .with_max_level(level)
        .with_writer(writer)
        .finish()
}

fn text_lines(
    writer: NonBlocking,
    level: LevelFilter,
    colour: bool,
) -> impl tracing::Subscriber + Send + Sync {
    tracing_subscriber::fmt()
        .compact()
        .with_ansi(colour)
        .with_target(false)
        .with_timer(Utc)
        .with_max_level(level)
        .with_writer(writer)
        .finish()
}

/// Formats times as RFC 3339 in UTC, from the server's one clock.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        out.write_str(&clock::rfc3339(clock::unix_us()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the lines that `say` logs, as written to the file.
    fn lines(format: LogFormat, level_wanted: LogLevel, say: impl FnOnce()) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let settings = LogSettings { level: level_wanted, format, file: Some(path.clone()) };
        let (writer, guard) = NonBlockingBuilder::default().finish(append(&path).unwrap());
        if shape(&settings).0 {
            tracing::subscriber::with_default(text_lines(writer, level(level_wanted), false), say);
        } else {
            tracing::subscriber::with_default(json_lines(writer, level(level_wanted)), say);
        }
        drop(guard);
        std::fs::read_to_string(&path).unwrap()
    }

    #[test]
    fn a_line_is_one_json_object_with_its_fields_beside_the_message() {
        let log = lines(LogFormat::Auto, LogLevel::Info, || {
            tracing::info!(route = "/event", status = 202, "two\nlines \"quoted\"");
            tracing::debug!("not this one");
            tracing::warn!(shard = 3, "locked");
        });
        let objects: Vec<serde_json::Value> =
            log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects.len(), 2, "{log}");
        assert_eq!(objects[0]["message"], "two\nlines \"quoted\"");
        assert_eq!(objects[0]["route"], "/event");
        assert_eq!(objects[0]["status"], 202);
        assert_eq!(objects[0]["level"], "INFO");
        assert_eq!(objects[1]["shard"], 3);
        let time = objects[0]["timestamp"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    }

    #[test]
    fn text_is_for_people_and_keeps_to_its_level() {
        let log = lines(LogFormat::Text, LogLevel::Error, || {
            tracing::error!(shard = 1, "gone");
            tracing::warn!("not this one");
        });
        assert!(log.contains("ERROR gone shard=1"), "{log}");
        assert_eq!(log.lines().count(), 1, "{log}");
    }

    #[test]
    fn a_log_file_that_cannot_be_opened_is_said() {
        let error = append(Path::new("/nowhere/at/all.log")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/at/all.log"), "{error}");
    }
}
