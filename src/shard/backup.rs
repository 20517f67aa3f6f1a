//! A consistent copy of one shard, created while its server continues to write.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::checkpoint::sync_commits;
use super::checkpointed::write_places;
use super::epochs::{self, EPOCH};
use super::error::ShardError;
use super::family::Families;
use super::identity::beside;
use super::inspect::{Verified, verify};
use super::options::ShardOptions;
use super::stores::Stores;
use super::streams::Streams;
use super::{open, schema};
use crate::base::durable;

/// Pages copied between two progress reports: 16 MiB at the default page size.
const STEP_PAGES: i32 = 1024;

/// Copies the shard at `source` to the new file `copy`, syncs it and verifies it with SQLite's integrity check and a
/// recount of every counter. The backup of the folder began at `began_us`. Newer data that refers to rows of other
/// shards is left out ([`Family::forget_since`](super::Family::forget_since)). `progress` is called with the number
/// of copied pages and the total. The source is read in one transaction, so the copy is a snapshot, and the WAL of a
/// running server cannot restart until the copy is complete. The copy notes that it is complete, and an epoch begins in
/// it when it is opened. Takes about two seconds per gigabyte, including the verification.
pub fn backup(
    source: &Path,
    copy: &Path,
    began_us: i64,
    families: &Families,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verified, ShardError> {
    if let Some(dir) = copy.parent() {
        durable::create_folder(dir)?;
    }
    if copy.exists() {
        return Err(ShardError::Other(format!("{} already exists", copy.display())));
    }
    let reader = open::open_reader(source)?;
    // The transaction keeps the same snapshot from one step to the next.
    let snapshot = reader.unchecked_transaction()?;
    snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let mut target = open::open_plain(copy, true)?;
    {
        let backup = Backup::new(&snapshot, &mut target)?;
        loop {
            let step = backup.step(STEP_PAGES)?;
            let seen = backup.progress();
            let total = u64::from(seen.pagecount.unsigned_abs());
            progress(total - u64::from(seen.remaining.unsigned_abs()), total);
            match step {
                StepResult::Done => break,
                StepResult::More => {}
                _ => return Err(ShardError::Busy),
            }
        }
    }
    families.list.iter().try_for_each(|family| family.forget_since(&target, began_us))?;
    if schema::is_current(&target)? {
        // A power cut must not make the source give out again a row id that the copy has.
        sync_commits(&snapshot)?;
        complete(&target, families)?;
    }
    target.close().map_err(|(_, error)| error)?;
    File::open(copy)?.sync_all()?;
    let verified = verify(copy, families)?;
    // Removes the files that the verification left, because a copy consists of one file.
    for suffix in ["-wal", "-shm"] {
        match fs::remove_file(beside(copy, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    if let Some(dir) = copy.parent() {
        durable::sync_folder(dir)?;
    }
    Ok(verified)
}

/// Returns the last number that a file, which is no open shard, has given out for each stream and ledger and for the feed
/// of changes.
pub(super) fn file_numbers(
    connection: &Connection,
    families: &Families,
) -> Result<BTreeMap<String, i64>, ShardError> {
    let streams = Streams::load(connection, families.streams(), &ShardOptions::default())?;
    let mut places = Stores::default().last_numbers(connection, &streams)?;
    for ledger in families.ledgers() {
        let next: i64 = connection.query_row(ledger.next_id_sql, [], |row| row.get(0))?;
        places.insert(ledger.name.to_owned(), next - 1);
    }
    Ok(places)
}

/// Notes in a copy, which is no open shard, that it is complete, and that it is another file than that of its epochs.
fn complete(copy: &Connection, families: &Families) -> Result<(), ShardError> {
    let mut places = file_numbers(copy, families)?;
    places.insert(EPOCH.to_owned(), epochs::newest_number(copy)?);
    write_places(copy, &places)?;
    epochs::leave_home(copy)
}
