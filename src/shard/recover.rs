//! The first look at a shard after a stop: whether its WAL is still what the last checkpoint requires.
//!
//! SQLite drops a WAL from its first damaged frame on. While a checkpoint was copying, the database file may contain
//! pages of commits that are dropped with it, and such a file is neither the earlier state nor the later one. The record
//! of checkpoints ([`PassRecord`]) makes this visible. Nothing can be visible in a file alone, because each page is
//! valid.

use std::io;
use std::path::{Path, PathBuf};

use super::catalog::ShardFolder;
use super::error::ShardError;
use super::family::Families;
use super::healed::remove;
use super::identity::{Identity, beside};
use super::inspect::verify;
use super::pass_record::{PassRecord, PassState};
use super::wal::Wal;
use crate::base::durable;
use crate::base::ids::hex;

/// The measure taken against a damaged WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// The WAL was removed. The database file contains everything that the journals do not have.
    WithoutWal,
    /// The database file was moved to this path, with the rest of its WAL. It is a mixture of two states. The journals
    /// restore what they have to a new file.
    SetAside(PathBuf),
}

/// Checks the WAL of a shard that no connection has open, and puts away what would be read wrongly. Call it before
/// anything else opens the file. Reads the checkpointed part of the WAL after a kill, at about 1 GB/s, and otherwise
/// only the record. If the WAL is damaged, it may verify the whole file, which takes about two seconds per gigabyte.
///
/// # Errors
/// Files cannot be read or moved.
pub fn recover(folder: &ShardFolder, families: &Families) -> Result<Option<Recovered>, ShardError> {
    let path = folder.database();
    let Some(record) = PassRecord::read(&path)? else { return Ok(None) };
    if Identity::of(&path)?.is_none() {
        PassRecord::remove(&path)?;
        return Ok(None);
    }
    let is_copying = record.state == PassState::Copying;
    let wal = Wal::read(&wal_of(&path), record.frames)?;
    if is_sound(&record, wal) {
        return Ok(None);
    }
    let is_whole = || verify(&path, families).is_ok_and(|verified| verified.problems.is_empty());
    // A power cut may lose frames that were not synced. SQLite would have synced them before it copied a page, so
    // nothing was copied, and the rest of the WAL may have rows that no journal has.
    if matches!(wal, Wal::Sound { frames, .. } if is_copying && frames >= record.synced) && is_whole() {
        return Ok(None);
    }
    if !is_copying {
        remove_wal(&path)?;
        return finish(&path, Recovered::WithoutWal);
    }
    // The checkpoint may have been complete, or not have begun to copy. The name is the same after another stop here.
    let aside = beside(&path, &format!(".damaged-{}", hex(&record.salts)));
    move_file(&wal_of(&path), &wal_of(&aside))?;
    remove_wal(&path)?;
    let is_whole = is_whole();
    // Files that the verification made.
    remove_wal(&path)?;
    if is_whole {
        remove(&wal_of(&aside))?;
        return finish(&path, Recovered::WithoutWal);
    }
    move_file(&path, &aside)?;
    finish(&path, Recovered::SetAside(aside))
}

/// Checks, without changing anything, that [`recover`] would do nothing: what it would put away is not to be read, copied
/// or believed. A server may be writing the shard.
///
/// # Errors
/// The sentence for the user, if there is something to do or the files cannot be read.
pub fn check_recovered(folder: &ShardFolder) -> Result<(), String> {
    let path = folder.database();
    let is_sound = || -> io::Result<bool> {
        let Some(record) = PassRecord::read(&path)? else { return Ok(true) };
        Ok(!path.try_exists()? || is_sound(&record, Wal::read(&wal_of(&path), record.frames)?))
    };
    let failed = |error: io::Error| format!("its WAL cannot be read ({error})");
    // The second look is for a WAL whose header a commit was writing.
    if is_sound().map_err(failed)? || is_sound().map_err(failed)? {
        return Ok(());
    }
    Err("its WAL is damaged or was removed while it was being copied, so the database is not to be relied on; serve the \
         folder once, which restores what the journals have"
        .to_owned())
}

/// Returns `true` if the WAL has what the last checkpoint requires of it.
fn is_sound(record: &PassRecord, wal: Wal) -> bool {
    match wal {
        // A WAL begins again only after everything was copied, and is removed only then.
        Wal::Sound { salts, .. } if salts != record.salts => true,
        Wal::Sound { frames, .. } => frames >= record.frames,
        Wal::Missing => record.state != PassState::Copying,
        Wal::Headless => false,
    }
}

fn wal_of(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

fn finish(path: &Path, recovered: Recovered) -> Result<Option<Recovered>, ShardError> {
    PassRecord::remove(path)?;
    durable::sync_folder(durable::holder_of(path))?;
    Ok(Some(recovered))
}

fn remove_wal(path: &Path) -> io::Result<()> {
    remove(&wal_of(path))?;
    remove(&beside(path, "-shm"))
}

fn move_file(from: &Path, to: &Path) -> Result<(), ShardError> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(durable::sync_folder(durable::holder_of(to))?),
    }
}
