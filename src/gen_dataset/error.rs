//! The errors of dataset generation.

use std::io;
use std::path::{Path, PathBuf};

use super::units::bytes_text;

/// Why no dataset was generated.
#[derive(Debug, thiserror::Error)]
pub enum GenError {
    /// Parameters are invalid. The caller must correct them.
    #[error("{0}")]
    Parameters(String),

    #[error("{} already contains a dataset ({found}); use another folder or add --force", folder.display())]
    Occupied { folder: PathBuf, found: &'static str },

    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },

    /// A file system has less space than the dataset is expected to take.
    #[error(
        "{place} has {} free, and the dataset needs about {}{}; free some space, generate less, or add --force",
        bytes_text(*free_bytes), bytes_text(*needed_bytes), found_text(*found_bytes)
    )]
    NoSpace {
        place: String,
        needed_bytes: u64,
        free_bytes: u64,
        /// The bytes of a data folder that exists, or 0.
        found_bytes: u64,
    },

    /// The server did not respond to any attempt.
    #[error(
        "{request}: {reason}; gave up after {tries} attempts; the same command continues where this one ended"
    )]
    GivenUp { request: String, tries: u32, reason: String },

    /// The server refused the request, and would refuse it again.
    #[error("{request} was refused with status {status}: {detail}")]
    Refused { request: String, status: u16, detail: String },

    /// The response is not what a client may expect.
    #[error("{request}: the response is not a summary ({reason})")]
    Answer { request: String, reason: String },

    /// Everything was sent, but some rows failed.
    #[error("{failed} of {sent} {what} failed; the first: {first}")]
    RowsFailed { failed: u64, sent: u64, what: &'static str, first: String },

    #[error("a thread that sends rows panicked")]
    Panicked,

    #[error("a chunk could not be compressed: {0}")]
    Packing(std::io::Error),

    /// A shard of the data folder did not store all rows.
    #[error("{}: {source}", database.display())]
    NotLoaded { database: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },

    /// A sink outside this crate failed.
    #[error(transparent)]
    Sink(Box<dyn std::error::Error + Send + Sync>),
}

/// A part of the dataset that an interrupted load has left needs no space a second time, but only the load finds out.
fn found_text(found_bytes: u64) -> String {
    match found_bytes {
        0 => String::new(),
        _ => format!(
            ", less what an interrupted load of it has left ({} are there; if they are a part of this dataset, \
             continue with --force)",
            bytes_text(found_bytes)
        ),
    }
}

impl GenError {
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> GenError + '_ {
        |source| GenError::File { path: path.to_owned(), source }
    }
}
