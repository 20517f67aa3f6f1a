//! Files that survive a power cut: bytes first, then the name, then the folder that holds it.
//!
//! A rename is atomic for whoever reads, not for the disk: without a sync before it the new name may lead to an
//! empty file, without one after it the old name may come back.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What a file is called until it replaces the one before it.
#[must_use]
pub fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, ToOwned::to_owned);
    name.push(".new");
    path.with_file_name(name)
}

/// Syncs the names in a folder.
///
/// # Errors
/// As the disk has them.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The folder that holds a name.
#[must_use]
pub fn holder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(holder) if !holder.as_os_str().is_empty() => holder,
        _ => Path::new("."),
    }
}

/// Creates a folder where it is missing, with every missing folder above it, and syncs each new name.
///
/// # Errors
/// As the disk has them.
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

/// Writes a new file, or another one in its place, and syncs its bytes. The name is not synced.
///
/// # Errors
/// As the disk has them.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fill(File::create(path)?, bytes)
}

fn fill(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

/// Replaces a file as a whole: after a power cut it is the old one or the new one, and the new one once this
/// returned.
///
/// # Errors
/// As the disk has them; the old one is there then, or the new one.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = draft_of(path);
    write(&draft, bytes)?;
    rename(&draft, path)
}

/// The same, of a file that never has a looser mode than this.
///
/// # Errors
/// As those of [`replace`].
pub fn replace_with_mode(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let draft = draft_of(path);
    // One that a crash left may have any mode.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fill(File::options().write(true).create_new(true).mode(mode).open(&draft)?, bytes)?;
    rename(&draft, path)
}

/// Gives a name to what was synced, and syncs the folders of the new and of the old name.
///
/// # Errors
/// As the disk has them; which of the names holds after a power cut is open then.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder(holder_of(to))?;
    if holder_of(from) != holder_of(to) { sync_folder(holder_of(from)) } else { Ok(()) }
}

/// Removes a file; one that is not there needs no removing. The loss of the name is synced.
///
/// # Errors
/// As the disk has them.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync_folder(holder_of(path)),
    }
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
        // However loose what a crash left is.
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
