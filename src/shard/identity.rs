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
        Ok(Identity::with_bytes(path)?.map(|(identity, _)| identity))
    }

    /// With the length of the file.
    fn with_bytes(path: &Path) -> io::Result<Option<(Identity, u64)>> {
        match std::fs::metadata(path) {
            Ok(found) => Ok(Some((Identity { device: found.dev(), inode: found.ino() }, found.len()))),
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
    /// [`ShardError::Truncated`] where the open file is shorter than the last checkpoint left it: only a checkpoint of
    /// ours makes it shorter. Pages that are not in the WAL are gone then, and the next checkpoint would hide that.
    pub(super) fn check_size(&self) -> Result<(), ShardError> {
        match Identity::with_bytes(&self.path)? {
            Some((identity, found)) if identity == self.identity => self.check_bytes(found),
            // Under another name or none it is looked after elsewhere.
            _ => Ok(()),
        }
    }

    fn check_bytes(&self, found: u64) -> Result<(), ShardError> {
        match found < self.file_bytes {
            true => Err(ShardError::Truncated { found, expected: self.file_bytes }),
            false => Ok(()),
        }
    }

    /// [`ShardError::Missing`] or [`ShardError::Replaced`] where the path (or its WAL's) is no longer
    /// the file that is open here.
    pub fn check_identity(&self) -> Result<(), ShardError> {
        match Identity::with_bytes(&self.path)? {
            None => return Err(ShardError::Missing),
            Some((found, _)) if found != self.identity => return Err(ShardError::Replaced),
            Some((_, bytes)) => self.check_bytes(bytes)?,
        }
        // A removed WAL takes every commit since the last checkpoint with it when this process ends.
        if self.wal_identity.is_some() && Identity::of(&beside(&self.path, "-wal"))? != self.wal_identity {
            return Err(ShardError::Missing);
        }
        Ok(())
    }
}
