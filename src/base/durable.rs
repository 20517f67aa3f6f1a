//! Files that survive a power cut: bytes first, then the name, then the folder of the name.
//!
//! A rename is atomic for readers, but not on the disk. Without a sync before it, the new name may refer to an empty
//! file. Without a sync after it, the old name may reappear.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Returns the temporary name under which a file is written before it replaces the previous one.
#[must_use]
pub fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, ToOwned::to_owned);
    name.push(".new");
    path.with_file_name(name)
}

/// Syncs the names in a folder.
///
/// # Errors
/// Disk errors.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Returns the folder that contains a name.
#[must_use]
pub fn holder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(holder) if !holder.as_os_str().is_empty() => holder,
        _ => Path::new("."),
    }
}

/// Creates a folder if it is missing, with every missing parent, and syncs each new name.
///
/// # Errors
/// Disk errors.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut at = folder;
    while !at.try_exists()? {
        missing.push(at);
        at = holder_of(at);
    }
    for folder in missing.into_iter().rev() {
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !folder.is_dir() => {
                return Err(error);
            }
            _ => sync_folder(holder_of(folder))?,
        }
    }
    if folder.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

/// Writes a new file, or replaces one, and syncs its bytes. The name is not synced.
///
/// # Errors
/// Disk errors.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fill(File::create(path)?, bytes)
}

fn fill(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

/// Replaces a file as a whole. After a power cut it is the old file or the new one; once this function has returned, it
/// is the new one.
///
/// # Errors
/// Disk errors. In that case, the file is either the old one or the new one.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = draft_of(path);
    write(&draft, bytes)?;
    rename(&draft, path)
}

/// Replaces a file. At no time does the new file have broader permissions than `mode`.
///
/// # Errors
/// See [`replace`].
pub fn replace_with_mode(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let draft = draft_of(path);
    // A draft that remains after a crash may have any mode.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fill(File::options().write(true).create_new(true).mode(mode).open(&draft)?, bytes)?;
    rename(&draft, path)
}

/// Renames a synced file, and syncs the folders of the new and of the old name.
///
/// # Errors
/// Disk errors. In that case, either name may be valid after a power cut.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder(holder_of(to))?;
    if holder_of(from) != holder_of(to) { sync_folder(holder_of(from)) } else { Ok(()) }
}

/// Removes a file, if it exists, and syncs the removal of the name.
///
/// # Errors
/// Disk errors.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync_folder(holder_of(path)),
    }
}

/// Returns `true` if the error says that the disk is full.
#[must_use]
pub fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_comes_with_those_above_it() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        create_folder(&deep).unwrap();
        create_folder(&deep).unwrap();
        assert!(deep.is_dir());
        fs::write(dir.path().join("file"), "x").unwrap();
        assert!(create_folder(&dir.path().join("file")).is_err());
        assert!(create_folder(&dir.path().join("file/below")).is_err());
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(draft_of(&path), dir.path().join("state.json.new"));
        assert!(!draft_of(&path).exists());
        // The permissions are right even if a draft with broad permissions remains after a crash.
        write(&draft_of(&path), b"half").unwrap();
        replace_with_mode(&path, b"three", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
        assert_eq!(holder_of(Path::new("data")), Path::new("."));
    }
}
