//! Which file a path names. SQLite goes on answering OK after its file was unlinked or replaced, so the
//! writer looks before each batch (one `stat` a file, about a microsecond).

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// `None` where nothing has that name.
    pub fn of(path: &Path) -> io::Result<Option<Identity>> {
        Ok(Identity::with_bytes(path)?.map(|(identity, _)| identity))
    }

    /// With the length of the file.
    pub(super) fn with_bytes(path: &Path) -> io::Result<Option<(Identity, u64)>> {
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
