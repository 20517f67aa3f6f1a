//! Journal errors, their causes, and their remedies.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::ids::{LaneId, Sequence};

/// Opening, reading or releasing failed. The failed call lost nothing. [`JournalError::Io`] may be retried. The other
/// errors require an operator.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is in use by another journal of this or another process", .0.display())]
    Locked(PathBuf),
    #[error("{} is not a journal segment: move it out of the folder", .0.display())]
    Foreign(PathBuf),
    #[error("{} has format {version}, but this program supports formats up to {supported}: use a newer \
             program", .path.display())]
    Newer { path: PathBuf, version: u16, supported: u16 },
    #[error("{} belongs to lane {}, not to lane {}: put it back where it came from", .path.display(), .found.0, .expected.0)]
    OtherLane { path: PathBuf, found: LaneId, expected: LaneId },
    #[error(
        "the database has applied {applied}, but the journal ends at {appended}: open it again with that \
         floor"
    )]
    Behind { applied: Sequence, appended: Sequence },
}

impl JournalError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> JournalError {
        move |source| JournalError::Io { path: path.to_owned(), source }
    }
}

/// The reason why a commit failed. Nothing of the commit is published, and its sequences are used again. All errors
/// except [`AppendError::TooLarge`] resolve themselves when there is space or the disk responds again.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error("the journal has reached its size limit")]
    Full,
    #[error("the journal's disk is full")]
    NoSpace,
    #[error("a record is larger than {} bytes", crate::base::limits::RECORD_BYTES_MAX)]
    TooLarge,
    #[error("writing the journal: {0}")]
    Io(io::Error),
}

impl From<io::Error> for AppendError {
    fn from(error: io::Error) -> AppendError {
        match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => AppendError::NoSpace,
            _ => AppendError::Io(error),
        }
    }
}
