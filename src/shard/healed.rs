//! The copy of a database that lost its name. It is written under one name, complete under another, and installed at
//! the next open.

use std::path::Path;
use std::{fs, io};

use super::error::ShardError;
use super::identity::{Identity, beside};
use crate::base::durable;

/// The suffix of an unfinished copy, and that of a complete copy that is going to be `shard.db`.
pub(super) const PART: &str = ".healed-part";
pub(super) const HEALED: &str = ".healed";

/// Gives a complete copy its name, unless another file has the name by now. Called before each open.
pub(super) fn install(path: &Path) -> Result<(), ShardError> {
    let healed = beside(path, HEALED);
    let Some(copy) = Identity::of(&healed)? else { return Ok(()) };
    if Identity::of(path)?.is_none() {
        // These belong to the file that lost its name. SQLite would replay the WAL into the copy, which already has
        // everything.
        remove(&beside(path, "-wal"))?;
        remove(&beside(path, "-shm"))?;
        // A link instead of a rename, because it fails if someone created a file there in the meantime.
        match fs::hard_link(&healed, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => done?,
        }
        // The folder is synced before the other name is removed.
        durable::sync_folder(durable::holder_of(path))?;
    }
    // If another file has the name, the copy remains next to it for the operator.
    if Identity::of(path)? == Some(copy) {
        remove(&healed)?;
        durable::sync_folder(durable::holder_of(path))?;
    }
    Ok(())
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
