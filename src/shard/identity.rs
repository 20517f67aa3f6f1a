//! Which file a path names. SQLite goes on answering OK after its file was unlinked or replaced, so the
//! writer looks before each batch (one `stat` a file, about a microsecond).

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::ShardError;
use super::file::Shard;

/// Device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// `None` where nothing has that name.
    pub(super) fn of(path: &Path) -> io::Result<Option<Identity>> {
        match std::fs::metadata(path) {
            Ok(found) => Ok(Some(Identity { device: found.dev(), inode: found.ino() })),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// `shard.db` → `shard.db-wal` and the like.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

impl Shard {
    /// [`ShardError::Missing`] or [`ShardError::Replaced`] where the path (or its WAL's) is no longer
    /// the file that is open here.
    pub fn check_identity(&self) -> Result<(), ShardError> {
        match Identity::of(&self.path)? {
            None => return Err(ShardError::Missing),
            Some(found) if found != self.identity => return Err(ShardError::Replaced),
            Some(_) => {}
        }
        // A removed WAL takes every commit since the last checkpoint with it when this process ends.
        if self.wal_identity.is_some() && Identity::of(&beside(&self.path, "-wal"))? != self.wal_identity {
            return Err(ShardError::Missing);
        }
        Ok(())
    }
}
