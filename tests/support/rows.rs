//! The rows as a user of the sqlite3 shell sees them, and locks as such a user leaves them.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, Row};

use super::{Folder, wait_until};

/// Returns the results of a query in the shards of a data folder, one after the other.
#[track_caller]
pub fn rows_of<T>(data: &Path, sql: &str, mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
    let mut rows = Vec::new();
    for entry in fs::read_dir(data).expect("the data folder is there") {
        let database = entry.expect("an entry").path().join("shard.db");
        if database.exists() {
            rows.extend(rows_in(&database, sql, &mut read));
        }
    }
    rows
}

#[track_caller]
fn rows_in<T>(database: &Path, sql: &str, read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags).expect("the shard opens");
    let mut statement = connection.prepare(sql).expect("what is asked for is there");
    let rows = statement.query_map([], read).expect("the rows are read");
    rows.collect::<Result<_, _>>().expect("every row is read")
}

/// Waits until upkeep has moved the rows of earlier schema versions.
#[track_caller]
pub fn wait_until_moved(folder: &Folder) {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name IN ('stock_event_v11', 'price_row_v14')";
    let version = "PRAGMA user_version";
    wait_until("the rows of earlier versions are moved", || {
        let left: i64 = rows_of(&folder.data(), sql, |row| row.get::<_, i64>(0)).into_iter().sum();
        let versions = rows_of(&folder.data(), version, |row| row.get::<_, i64>(0));
        left == 0 && versions.into_iter().all(|version| version == i64::from(firehose::shard::VERSION))
    });
}

const NUMBERS: &str = "SELECT user_id, metadata ->> '$.n', timestamp FROM events ORDER BY id";

/// Returns the numbers of all rows of all shards of a data folder, sorted.
#[track_caller]
pub fn stored(data: &Path) -> Vec<u64> {
    let mut numbers = rows_of(data, NUMBERS, number);
    numbers.sort_unstable();
    numbers
}

/// Returns the numbers of the rows of one shard, each checked against its metadata.
#[track_caller]
pub fn stored_in(database: &Path) -> Vec<u64> {
    rows_in(database, NUMBERS, number)
}

fn number(row: &Row<'_>) -> rusqlite::Result<u64> {
    let (number, said, timestamp): (i64, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    assert_eq!(number, said, "the metadata belongs to its row");
    assert_eq!(timestamp, "2024-01-14T10:30:00.000000Z");
    Ok(number.unsigned_abs())
}

/// Copies a stopped server's shard with its WAL, so that reads do not change the original.
pub fn copied(database: &Path, to: &Path) -> PathBuf {
    fs::create_dir_all(to).expect("a folder for the copy");
    let copy = to.join("shard.db");
    fs::copy(database, &copy).expect("the shard is copied");
    let mut wal = database.as_os_str().to_owned();
    wal.push("-wal");
    if Path::new(&wal).exists() {
        fs::copy(&wal, to.join("shard.db-wal")).expect("the WAL is copied");
    }
    copy
}

/// An open exclusive transaction of another program. It ends on drop.
pub struct Locked(#[expect(dead_code, reason = "held, not used")] Connection);

/// Runs `BEGIN EXCLUSIVE`, as from the sqlite3 shell.
#[track_caller]
pub fn hold_lock(database: &Path) -> Locked {
    // A server that serves already may still be creating the tables, without which nothing can be read.
    super::wait_until("the shard has tables", || {
        let version =
            |connection: Connection| connection.query_row("PRAGMA user_version", [], |row| row.get(0));
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
        Connection::open_with_flags(database, flags).and_then(version).is_ok_and(|version: i64| version > 0)
    });
    let connection = Connection::open(database).expect("the shard opens");
    connection.busy_timeout(super::PATIENCE).expect("a time limit");
    connection.execute_batch("BEGIN EXCLUSIVE").expect("the shard is locked");
    Locked(connection)
}
