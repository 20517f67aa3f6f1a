//! Errors of a shard or its folder, and their cause. Their texts apply to every program that opens a shard. What the
//! server does about an error is the writer's reaction (`ingest/write/failure.rs`), which adds it to the text.

use std::io;
use std::path::PathBuf;

use rusqlite::{ErrorCode, ffi};

/// The reason why an operation on a shard failed. In all of these cases, nothing from the batch was stored.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// Another process holds a lock, which is not a fault.
    #[error("another program holds an exclusive lock on the database; it must end or release it")]
    Busy,
    /// The disk (or a quota) is full. One small successful write does not prove that there is space.
    #[error("there is no space for the database; free some")]
    Full,
    /// The file is damaged.
    #[error("the database is damaged ({0}); restore it from a backup, or move it away")]
    Corrupt(String),
    /// A valid SQLite file that this program did not create. It is treated like a damaged one.
    #[error("another program created the database ({0}); restore it from a backup, or move it away")]
    Foreign(String),
    /// A newer version wrote the file. It is not changed. The operator runs that version or moves the file away.
    #[error(
        "the database has schema version {found}, but this program supports versions up to {known}; use \
             a newer program"
    )]
    TooNew {
        /// The version of the file.
        found: u32,
        /// The newest version that this program supports.
        known: u32,
    },
    /// The path no longer exists, but the file is still open here.
    #[error("the database file was removed from its folder")]
    Missing,
    /// The path names a different file from the open one.
    #[error("the database file was replaced")]
    Replaced,
    /// Another program truncated the open file. The lost content is in no file of the shard.
    #[error(
        "the database file has {found} bytes instead of {expected}: it was truncated; restore it from a \
         backup, or move it away"
    )]
    Truncated {
        /// The current length, in bytes.
        found: u64,
        /// The length after the last checkpoint, in bytes.
        expected: u64,
    },
    /// The environment failed. The connection is no longer trusted.
    #[error("{0}")]
    Other(String),
}

impl ShardError {
    /// Returns `true` if the file does not have what it must have. Otherwise, nothing is known of its content: a lock,
    /// a full disk or another version of the program prevented the operation.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            ShardError::Corrupt(_) | ShardError::Foreign(_) | ShardError::Truncated { .. } => true,
            // SQLite's words for a table or a column of the schema that the file lacks.
            ShardError::Other(why) => why.starts_with("no such "),
            ShardError::Busy | ShardError::Full | ShardError::TooNew { .. } => false,
            ShardError::Missing | ShardError::Replaced => false,
        }
    }
}

impl From<rusqlite::Error> for ShardError {
    fn from(error: rusqlite::Error) -> ShardError {
        // The index of a WAL in shared memory grows with it, on the disk of the database.
        if error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHMSIZE) {
            return ShardError::Full;
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ShardError::Busy,
            Some(ErrorCode::DiskFull) => ShardError::Full,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                ShardError::Corrupt(error.to_string())
            }
            _ => ShardError::Other(error.to_string()),
        }
    }
}

impl From<io::Error> for ShardError {
    fn from(error: io::Error) -> ShardError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ShardError::Full,
            _ => ShardError::Other(error.to_string()),
        }
    }
}

/// The reason why a data folder cannot be used. The operator has to fix it. A retry helps only after
/// [`FolderError::Held`].
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} is in use by another process of firehose (pid {pid}); stop it, or choose another folder",
        dir.display()
    )]
    Held {
        dir: PathBuf,
        /// The pid that the holder wrote, or `unknown` if no pid can be read from the lock file.
        pid: String,
    },
    #[error(
        "{} is being resharded; finish with the same `firehose reshard --to N` (while its reshard.json \
         contains \"swapping\":false, deleting that file and the folder reshard cancels the reshard)",
        .0.display()
    )]
    Resharding(PathBuf),
    #[error("{} contains files but no manifest.json; choose an empty folder", .0.display())]
    NotOurs(PathBuf),
    #[error("{} has no manifest.json: no server has used this folder yet", .0.display())]
    NoManifest(PathBuf),
    #[error("{} cannot be read ({why}); restore it from a copy", path.display())]
    BadManifest { path: PathBuf, why: String },
    #[error(
        "{} has format {found}, but this program supports formats up to {known}; use a newer program",
        path.display()
    )]
    TooNew { path: PathBuf, found: u64, known: u64 },
    #[error(
        "{} has {found} shards and the settings ask for {wanted}; the number is fixed when the folder is \
         created: omit --shards, or start with a new folder",
        dir.display()
    )]
    OtherShardCount { dir: PathBuf, found: u16, wanted: u16 },
    #[error("{0} shards were requested; the limit is 1 to {max}", max = crate::base::limits::SHARD_COUNT_MAX)]
    ShardCount(u16),
}

impl FolderError {
    pub(super) fn io(path: &std::path::Path, source: io::Error) -> FolderError {
        FolderError::Io { path: path.to_owned(), source }
    }
}
