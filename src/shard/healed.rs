//! The copy of a database whose file was moved or removed. It is written under one name, renamed when it is complete,
//! and installed at the next open.

use std::path::Path;
use std::{fs, io};

use super::error::ShardError;
use super::identity::{Identity, beside};
use crate::base::durable;

/// The suffix of an unfinished copy, and the suffix of a complete copy, which becomes `shard.db`.
pub(super) const PART: &str = ".healed-part";
pub(super) const HEALED: &str = ".healed";
/// The suffix of the record of checkpoints, which belongs to one file and its WAL.
pub(super) const RECORD: &str = "-pass";

/// Gives a complete copy the name `path`, unless another file already has this name. Called before each open.
pub(super) fn install(path: &Path) -> Result<(), ShardError> {
    let healed = beside(path, HEALED);
    let Some(copy) = Identity::of(&healed)? else { return Ok(()) };
    if Identity::of(path)?.is_none() {
        // These two files belong to the database that the copy replaces. SQLite would replay the WAL into the copy,
        // which already has everything.
        remove(&beside(path, "-wal"))?;
        remove(&beside(path, "-shm"))?;
        remove(&beside(path, RECORD))?;
        // A link is used instead of a rename, because linking fails if another file was created there in the
        // meantime.
        match fs::hard_link(&healed, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => done?,
        }
        // The folder is synced before the name with the suffix is removed.
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
