//! The identity of the file that a path names. SQLite still returns OK after its file was unlinked or replaced, so
//! the writer checks the identity before each batch (one `stat` per file, about a microsecond).

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Device and inode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Returns the identity of the file at `path`, or `None` if there is no such file.
    pub fn of(path: &Path) -> io::Result<Option<Identity>> {
        Ok(Identity::with_bytes(path)?.map(|(identity, _)| identity))
    }

    /// Returns the identity and the length of the file.
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

/// Returns the path with a suffix, such as `shard.db-wal` for `shard.db`.
#[must_use]
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
