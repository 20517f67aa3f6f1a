//! The errors of dataset generation.

use std::io;
use std::path::{Path, PathBuf};

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

    /// The server did not respond to any attempt.
    #[error("chunk {chunk}: {reason}; gave up after {tries} attempts")]
    GivenUp { chunk: u64, tries: u32, reason: String },

    /// The server refused the request, and would refuse it again.
    #[error("chunk {chunk} was refused with status {status}: {detail}")]
    Refused { chunk: u64, status: u16, detail: String },

    /// The response is not the summary of an ingest.
    #[error("chunk {chunk}: the response is not a summary ({reason})")]
    Answer { chunk: u64, reason: String },

    /// Everything was sent, but some rows failed.
    #[error("{failed} of {sent} orders failed; the first: {first}")]
    RowsFailed { failed: u64, sent: u64, first: String },

    #[error("a chunk could not be compressed: {0}")]
    Packing(std::io::Error),

    /// A sink outside this crate failed.
    #[error(transparent)]
    Sink(Box<dyn std::error::Error + Send + Sync>),
}

impl GenError {
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> GenError + '_ {
        |source| GenError::File { path: path.to_owned(), source }
    }
}
