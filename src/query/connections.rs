//! One reading thread's connections to the shards, each with a cache of pages.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;

use super::readers::ReadShard;
use crate::base::clock;
use crate::shard::{ShardError, is_current, is_made, open_reader};

/// Maximum connections that a thread keeps open.
const CONNECTIONS_MAX: usize = 32;

/// How long a step waits for a file of an earlier schema version. Most migrations take milliseconds.
const MIGRATION_WAIT: Duration = Duration::from_secs(2);
/// The pause between two looks at such a file.
const LOOK: Duration = Duration::from_millis(5);

/// One thread's connections.
pub(super) struct Connections {
    cache_kib: i64,
    open: HashMap<PathBuf, Opened>,
    used: u64,
}

struct Opened {
    connection: Connection,
    file: (u64, u64),
    used: u64,
}

impl Connections {
    pub(super) fn new(cache_kib: i64) -> Connections {
        Connections { cache_kib, open: HashMap::new(), used: 0 }
    }

    /// Runs a step on a shard, in a read transaction.
    pub(super) fn read<T>(
        &mut self,
        known: &ReadShard,
        absent: T,
        step: impl FnOnce(&Connection) -> Result<T, ShardError>,
    ) -> Result<T, ShardError> {
        let path = &*known.path;
        // This is read before the file is looked up, because a file that is being created is not missing.
        let was_open = known.status.was_open();
        let missing = |absent| if was_open { Err(ShardError::Missing) } else { Ok(absent) };
        let file = match std::fs::metadata(path) {
            Ok(file) => (file.dev(), file.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.open.remove(path);
                return missing(absent);
            }
            Err(error) => return Err(error.into()),
        };
        // A file that replaced another is opened again. SQLite would otherwise continue to read the old file.
        if self.open.get(path).is_some_and(|opened| opened.file != file) {
            self.open.remove(path);
        }
        self.used += 1;
        if !self.open.contains_key(path) {
            if self.open.len() >= CONNECTIONS_MAX
                && let Some(oldest) =
                    self.open.iter().min_by_key(|(_, opened)| opened.used).map(|(path, _)| path.clone())
            {
                self.open.remove(&oldest);
            }
            let connection = open_reader(path)?;
            if !is_made(&connection)? {
                return missing(absent);
            }
            await_migration(&connection)?;
            connection.pragma_update(None, "cache_size", -self.cache_kib)?;
            connection.set_prepared_statement_cache_capacity(64);
            self.open.insert(path.to_owned(), Opened { connection, file, used: 0 });
        }
        let Some(opened) = self.open.get_mut(path) else { return missing(absent) };
        opened.used = self.used;
        let outcome = (|| {
            let snapshot = opened.connection.unchecked_transaction()?;
            let answer = step(&snapshot)?;
            snapshot.commit()?;
            Ok(answer)
        })();
        if outcome.is_err() {
            self.open.remove(path);
        }
        outcome
    }
}

/// Waits until the writer has migrated a file, because the statements of a step are those of the newest version. A file
/// that is locked for longer is read as it is.
fn await_migration(connection: &Connection) -> Result<(), ShardError> {
    let until_us = clock::monotonic_us() + MIGRATION_WAIT.as_micros() as u64;
    while !is_current(connection)? && clock::monotonic_us() < until_us {
        clock::pause(LOOK);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::{APPLICATION_ID, VERSION};

    #[test]
    fn a_step_reads_a_file_of_an_earlier_version_once_it_is_migrated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shard.db");
        let writer = Connection::open(&path).unwrap();
        writer.pragma_update(None, "journal_mode", "wal").unwrap();
        writer.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        writer.pragma_update(None, "user_version", 1).unwrap();
        let (tell, told) = async_channel::bounded(1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut connections = Connections::new(64);
                tell.send_blocking(()).unwrap();
                let version = connections.read(&ReadShard::alone(0, &path), 0, |shard| {
                    Ok(shard.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))?)
                });
                assert_eq!(version.unwrap(), VERSION);
            });
            told.recv_blocking().unwrap();
            clock::pause(LOOK * 4);
            writer.pragma_update(None, "user_version", VERSION).unwrap();
        });
    }
}
