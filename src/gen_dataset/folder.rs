//! The folder of a dataset. Files have temporary names until the dataset is complete.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::error::GenError;

pub(super) const TRUTH: &str = "truth.json";

/// Every file name in a dataset. `truth.json` is first, because its presence means that the dataset is complete.
const NAMES: &[&str] = &[
    TRUTH,
    "tenants.ndjson",
    "customers.ndjson",
    "products.ndjson",
    "orders.ndjson",
    "price_history.ndjson",
    "stock_events.ndjson",
    "tenants.csv",
    "customers.csv",
    "products.csv",
    "orders.csv",
    "order_items.csv",
    "price_history.csv",
    "stock_events.csv",
    "dataset.sql",
];

/// The number of bytes that are buffered before a write.
const BUFFER_BYTES: usize = 1 << 20;

/// A folder for one dataset.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Creates the folder if it is missing.
    ///
    /// # Errors
    /// Returns an error if the folder already contains a dataset and `force` is not set, or if it cannot be created.
    pub(super) fn prepare(path: &Path, force: bool) -> Result<Folder, GenError> {
        fs::create_dir_all(path).map_err(GenError::file(path))?;
        if !force && let Some(found) = NAMES.iter().copied().find(|name| path.join(name).exists()) {
            return Err(GenError::Occupied { folder: path.to_owned(), found });
        }
        Ok(Folder { path: path.to_owned() })
    }

    /// Creates a file under a temporary name. [`Folder::keep`] renames it to `name`.
    pub(super) fn file(&self, name: &'static str) -> Result<Draft, GenError> {
        debug_assert!(NAMES.contains(&name), "{name}");
        let temporary = self.path.join(format!(".{name}.partial"));
        let file = File::create(&temporary).map_err(GenError::file(&temporary))?;
        let buffer = Vec::with_capacity(BUFFER_BYTES + BUFFER_BYTES / 16);
        Ok(Draft { name, temporary, file, buffer, written_bytes: 0, kept: false })
    }

    /// Renames every draft to its final name, `truth.json` last. Before that, it removes an older dataset, regardless
    /// of its format.
    ///
    /// # Errors
    /// Returns file system errors. Files that already have their final name remain, but `truth.json` is missing.
    pub(super) fn keep(&self, mut drafts: Vec<Draft>) -> Result<(), GenError> {
        for draft in &mut drafts {
            draft.flush_buffer().map_err(GenError::file(&draft.temporary))?;
        }
        for path in NAMES.iter().map(|name| self.path.join(name)) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(GenError::File { path, source: error });
                }
                _ => {}
            }
        }
        drafts.sort_by_key(|draft| draft.name == TRUTH);
        for draft in &mut drafts {
            let path = self.path.join(draft.name);
            fs::rename(&draft.temporary, &path).map_err(GenError::file(&path))?;
            draft.kept = true;
        }
        Ok(())
    }
}

/// A file under its temporary name. It is deleted on drop unless [`Folder::keep`] has renamed it.
#[derive(Debug)]
pub(super) struct Draft {
    name: &'static str,
    temporary: PathBuf,
    file: File,
    buffer: Vec<u8>,
    written_bytes: u64,
    kept: bool,
}

impl Draft {
    /// Returns the buffer to which the next row is appended. Call [`Draft::row_done`] afterwards.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Writes the buffer to the file when it is full.
    pub(super) fn row_done(&mut self) -> Result<(), GenError> {
        if self.buffer.len() < BUFFER_BYTES {
            return Ok(());
        }
        self.flush_buffer().map_err(GenError::file(&self.temporary))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.written_bytes + self.buffer.len() as u64
    }

    pub(super) fn temporary(&self) -> &Path {
        &self.temporary
    }

    fn flush_buffer(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Some writers require this trait. They write blocks of bytes. Rows that are written without such a writer use
/// [`Draft::buffer`].
impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush_buffer()?;
        }
        Ok(bytes.len())
    }

    /// Does nothing. The buffer is written to the file at the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            // A file that cannot be removed is left behind.
            _ = fs::remove_file(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn names_appear_at_the_end_and_drafts_vanish_with_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::prepare(dir.path(), false).unwrap();
        let mut draft = folder.file("orders.ndjson").unwrap();
        draft.buffer().extend_from_slice(b"{}\n");
        drop(folder.file("orders.csv").unwrap());
        assert_eq!(names(dir.path()), [".orders.ndjson.partial"]);
        folder.keep(vec![folder.file(TRUTH).unwrap(), draft]).unwrap();
        assert_eq!(names(dir.path()), ["orders.ndjson", "truth.json"]);
        assert_eq!(fs::read(dir.path().join("orders.ndjson")).unwrap(), b"{}\n");
    }

    #[test]
    fn a_dataset_is_replaced_by_force_only_and_then_whole() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("notes.txt"), "mine").unwrap();
        let folder = Folder::prepare(dir.path(), false).unwrap();
        folder.keep(vec![folder.file("orders.csv").unwrap()]).unwrap();
        let refused = Folder::prepare(dir.path(), false).unwrap_err();
        assert!(matches!(refused, GenError::Occupied { found: "orders.csv", .. }), "{refused}");
        let folder = Folder::prepare(dir.path(), true).unwrap();
        folder.keep(vec![folder.file("dataset.sql").unwrap()]).unwrap();
        assert_eq!(names(dir.path()), ["dataset.sql", "notes.txt"]);
    }
}
