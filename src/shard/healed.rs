//! The copy of a database that lost its name: made under one name, complete under another, installed at the next open.

use std::path::Path;
use std::{fs, io};

use super::error::ShardError;
use super::identity::{Identity, beside};
use crate::base::durable;

/// A copy that is being made, and one that is complete and waits to become `shard.db`.
pub(super) const PART: &str = ".healed-part";
pub(super) const HEALED: &str = ".healed";

/// Gives a complete copy its name, unless something has that name by now. Called before each open.
pub(super) fn install(path: &Path) -> Result<(), ShardError> {
    let healed = beside(path, HEALED);
    let Some(copy) = Identity::of(&healed)? else { return Ok(()) };
    if Identity::of(path)?.is_none() {
        // Left by the file that lost its name; SQLite would replay it into the copy, which has it all.
        remove(&beside(path, "-wal"))?;
        remove(&beside(path, "-shm"))?;
        // A link, not a rename: it fails where someone has put a file there in the meantime.
        match fs::hard_link(&healed, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => done?,
        }
        // Before the other name goes.
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
