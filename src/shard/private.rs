//! Permissions of the data folder. Its owner may read it, and optionally a group. Only the owner may read files with
//! secrets.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

use super::error::FolderError;
use crate::base::durable;

/// The mode of files with secrets: only the owner may use them, regardless of the folder's mode.
pub(super) const SECRET_MODE: u32 = 0o600;
/// The file with the secrets of webhooks and the hashes of keys.
pub const TENANTS_FILE: &str = "tenants.db";
/// The file with the key that seals cursors.
const CURSORS_FILE: &str = "cursors.key";
/// A key file's length.
const KEY_BYTES: usize = 32;

/// Limits the mode of folders that this process creates to `folder_mode`, and the mode of files to its read and write
/// bits. SQLite gives the WAL the mode of its database.
pub fn restrict_new_files(folder_mode: u32) {
    rustix::process::umask(Mode::from_raw_mode(0o777 & !folder_mode));
}

/// Creates an empty file for secrets if there is none, so that its mode is never too permissive.
///
/// # Errors
/// The file neither exists nor can be created.
pub fn make_secret_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(SECRET_MODE).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop),
    }
}

/// Returns the random key of a data folder's cursors. Creates it at the first start. Every folder has a different
/// key. If the key is lost, cursors and positions in streams that were already issued become invalid.
///
/// # Errors
/// The file cannot be read or created, or is not a key.
pub fn cursor_secret(folder: &Path) -> Result<[u8; KEY_BYTES], FolderError> {
    let path = folder.join(CURSORS_FILE);
    secret_in(&path).map_err(|error| FolderError::io(&path, error))
}

/// Copies a data folder's key to a copy of the folder, so that issued cursors remain valid there.
///
/// # Errors
/// Those of [`cursor_secret`], or the copy's folder cannot be written.
pub fn copy_cursor_secret(from: &Path, to: &Path) -> Result<(), FolderError> {
    let secret = cursor_secret(from)?;
    let path = to.join(CURSORS_FILE);
    durable::replace_with_mode(&path, &secret, SECRET_MODE).map_err(|error| FolderError::io(&path, error))
}

fn secret_in(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let mut secret = [0; KEY_BYTES];
    match fs::File::open(path) {
        Ok(mut file) => {
            let whole = file.metadata()?.len() == KEY_BYTES as u64;
            let no_key = || {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "it is not a key of 32 bytes; remove it, and the server generates a new one",
                )
            };
            whole.then_some(()).ok_or_else(no_key)?;
            file.read_exact(&mut secret)?;
            Ok(secret)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            getrandom::fill(&mut secret).map_err(io::Error::other)?;
            durable::replace_with_mode(path, &secret, SECRET_MODE)?;
            Ok(secret)
        }
        Err(error) => Err(error),
    }
}

/// A file or folder whose mode permits more than it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LooseMode {
    pub path: PathBuf,
    pub mode: u32,
    pub mode_max: u32,
}

impl std::fmt::Display for LooseMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let LooseMode { path, mode, mode_max } = self;
        write!(f, "{} has mode {mode:04o}; it should be at most {mode_max:04o}", path.display())
    }
}

/// Checks the modes of a data folder and of its files with secrets. Returns those that permit more than they should.
/// A private folder protects all its other files. Secrets are checked anyway, because a folder may later be moved or
/// made readable for other users. Returns nothing for an absent folder.
#[must_use]
pub fn loose(folder: &Path, folder_mode: u32) -> Vec<LooseMode> {
    let mut found = Vec::new();
    let mut look = |path: PathBuf, mode_max: u32| {
        let Ok(metadata) = fs::symlink_metadata(&path) else { return };
        let mode = metadata.permissions().mode() & 0o777;
        if mode & !mode_max != 0 {
            found.push(LooseMode { path, mode, mode_max });
        }
    };
    look(folder.to_owned(), folder_mode);
    for name in [TENANTS_FILE, CURSORS_FILE] {
        look(folder.join(name), SECRET_MODE);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_cursors_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let secret = cursor_secret(folder.path()).unwrap();
        assert_eq!(cursor_secret(folder.path()).unwrap(), secret);
        assert_ne!(secret, [0; KEY_BYTES]);
        let path = folder.path().join(CURSORS_FILE);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), SECRET_MODE);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(cursor_secret(other.path()).unwrap(), secret);
        fs::write(&path, "short").unwrap();
        let said = cursor_secret(folder.path()).unwrap_err().to_string();
        assert!(said.contains("cursors.key") && said.contains("remove it"), "{said}");
    }

    #[test]
    fn what_is_looser_than_it_should_be_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        make_secret_file(&folder.path().join(TENANTS_FILE)).unwrap();
        set(folder.path(), 0o750);
        assert_eq!(loose(folder.path(), 0o750), []);
        let tight = loose(folder.path(), 0o700);
        assert_eq!((tight.len(), tight[0].mode, tight[0].mode_max), (1, 0o750, 0o700));
        set(&folder.path().join(TENANTS_FILE), 0o640);
        let secrets = loose(folder.path(), 0o750);
        assert_eq!((secrets.len(), secrets[0].mode_max), (1, SECRET_MODE));
        assert!(secrets[0].to_string().contains("tenants.db has mode 0640; it should be at most 0600"));
        assert_eq!(loose(&folder.path().join("absent"), 0o700), []);
    }
}
