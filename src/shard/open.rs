//! The only place that opens SQLite: one way for the writer, one for everybody who reads.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::error::ShardError;
use super::family::Families;
use super::options::ShardOptions;
use super::schema;

/// How long a tool waits for a lock. The writer does not wait inside SQLite at all.
const READER_PATIENCE: Duration = Duration::from_secs(1);

/// Statements a writer keeps compiled: some forty, and one for each partition that orders come again of.
const STATEMENTS_MAX: usize = 128;

/// Opens the writer's connection, making the file or bringing it to the current schema.
pub(super) fn open_writer(
    path: &Path,
    options: &ShardOptions,
    families: &Families,
) -> Result<Connection, ShardError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::ZERO)?;
    keep_temporary_files_beside(&connection, path);
    fix_plans(&connection)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // Both take effect only on an empty file, and change nothing in one that is not.
    connection.pragma_update(None, "page_size", options.page_bytes)?;
    // A page that vanishes under a memory map is SIGBUS; as a read it is an error.
    connection.pragma_update(None, "mmap_size", 0)?;
    // Before anything is written: someone else's file stays as it is.
    schema::check_owner(&connection)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(ShardError::Other(format!("the file system allows no WAL (journal mode {mode})")));
    }
    // A commit does not sync: the journal is the durability, a checkpoint syncs.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", (options.checkpoint_wal_bytes * 2) as i64)?;
    connection.pragma_update(None, "cache_size", -((options.cache_bytes / 1024) as i64))?;
    // Files, not memory, for the sort of an index build: measured twice as fast (0.60 against 1.26 s a
    // million rows) and it stays inside the cache (memory grew by 60 MB a million rows).
    connection.pragma_update(None, "temp_store", "FILE")?;
    schema::migrate(&mut connection, families)?;
    Ok(connection)
}

/// Opens a shard for reading, for tools and queries; works while a server writes.
pub fn open_reader(path: &Path) -> Result<Connection, ShardError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(READER_PATIENCE)?;
    keep_temporary_files_beside(&connection, path);
    fix_plans(&connection)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "query_only", true)?;
    schema::check_owner(&connection)?;
    Ok(connection)
}

/// A plan is made once, whatever is bound. Without it SQLite looks at the bound values of most statements that have
/// an order or a join, and compiles them anew for the next ones: 10 us and more each time.
fn fix_plans(connection: &Connection) -> Result<(), ShardError> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// SQLite's temporary files (statement journals, sorts of index builds) go where the shard is: a sandbox may have no
/// `/tmp` to write, and then nothing would be stored. It has one such folder for the whole process, which the last
/// shard that was opened names; any of them will do. The files have no name from the moment they are opened on.
fn keep_temporary_files_beside(connection: &Connection, path: &Path) {
    let folder = path.parent().and_then(Path::to_str).filter(|folder| !folder.is_empty());
    // A folder that may only be read is refused, and SQLite goes on looking elsewhere.
    if let Some(Err(error)) = folder.map(|folder| connection.pragma_update(None, TEMPORARY_FOLDER, folder)) {
        tracing::debug!(%error, "temporary files are not kept next to the shard");
    }
}

/// SQLite calls it deprecated because it is no setting of one connection; the other way is the environment, which
/// may not change once there are threads.
const TEMPORARY_FOLDER: &str = "temp_store_directory";

/// Whether SQLite can make a temporary file in a folder that shards are in.
///
/// # Errors
/// What keeps it from that.
pub fn try_temporary_file(folder: &Path) -> Result<(), ShardError> {
    // Without a name: a file of its own that is gone with the connection.
    let connection = open_plain(Path::new(""), true)?;
    connection.pragma_update(None, TEMPORARY_FOLDER, folder.to_string_lossy())?;
    connection.pragma_update(None, "cache_size", 1)?;
    Ok(connection
        .execute_batch("CREATE TABLE scratch (x); INSERT INTO scratch VALUES (zeroblob(1000000))")?)
}

/// Opens a small file beside the shards, for the layer that owns its tables: synced at every commit, with a
/// rollback journal (one file to copy, nothing to checkpoint), waiting a second for a lock. What was committed survives
/// a power cut: `EXTRA` also syncs the folder once the journal is unlinked, without which a journal that comes back
/// rolls the commit back.
pub fn open_small(path: &Path, create: bool) -> Result<Connection, ShardError> {
    let connection = open_plain(path, create)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "synchronous", "EXTRA")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

/// Opens without looking at what is inside: for locks and copies.
pub(super) fn open_plain(path: &Path, create: bool) -> Result<Connection, ShardError> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, create);
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(READER_PATIENCE)?;
    Ok(connection)
}
