//! The only module that opens SQLite files: shards for the writer and for readers, the small files next to the
//! shards, and plain files for locks and copies.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::error::ShardError;
use super::family::Families;
use super::options::ShardOptions;
use super::schema;

/// The time that a reader waits for a lock. The writer never waits inside SQLite.
const READER_PATIENCE: Duration = Duration::from_secs(1);

/// The maximum number of compiled statements that a writer's connection caches. A writer uses about forty, plus one
/// for each partition whose orders arrive again.
const STATEMENTS_MAX: usize = 128;

/// Opens the writer's connection. Creates the file, or migrates it to the current schema.
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
    // The page size takes effect only on an empty file.
    connection.pragma_update(None, "page_size", options.page_bytes)?;
    // If a page of a memory map vanishes, an access to it causes SIGBUS. A failed read only returns an error.
    connection.pragma_update(None, "mmap_size", 0)?;
    // The owner is checked before anything is written, so that a foreign file is not changed.
    schema::check_owner(&connection)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(ShardError::Other(format!("the file system allows no WAL (journal mode {mode})")));
    }
    // A commit does not sync: the journal is the durability layer, and a checkpoint syncs.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // `journal_size_limit` has no limit, because the commit that starts the WAL from its beginning would cut the file.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "cache_size", -((options.cache_bytes / 1024) as i64))?;
    // Index builds sort in files instead of memory. By measurement, this is twice as fast (0.60 instead of 1.26 s per
    // million rows) and uses no memory beyond the page cache. Sorting in memory used 60 MB per million rows.
    connection.pragma_update(None, "temp_store", "FILE")?;
    schema::migrate(&mut connection, families)?;
    Ok(connection)
}

/// Opens a shard for reading, for tools and queries. Works while a server writes.
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

/// Opens the connection that copies the WAL into the file. It never writes a row, and leaves the WAL when it is closed.
pub(super) fn open_copier(path: &Path) -> Result<Connection, ShardError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::ZERO)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(connection)
}

/// Makes SQLite plan a statement once, independently of the bound values. Otherwise it inspects the bound values of
/// most statements with an ORDER BY or a join, and recompiles them for the next values, which takes 10 us or more
/// each time.
fn fix_plans(connection: &Connection) -> Result<(), ShardError> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Keeps SQLite's temporary files (statement journals, sorts of index builds) in the shard's folder. Without this, a
/// server in a sandbox that has no writable `/tmp` could store nothing. SQLite has one such folder for the whole
/// process. The last shard that was opened sets it, and any shard's folder works. The files are unlinked as soon as
/// they are open.
fn keep_temporary_files_beside(connection: &Connection, path: &Path) {
    let folder = path.parent().and_then(Path::to_str).filter(|folder| !folder.is_empty());
    // SQLite refuses a read-only folder and keeps its previous setting.
    if let Some(Err(error)) = folder.map(|folder| connection.pragma_update(None, TEMPORARY_FOLDER, folder)) {
        tracing::debug!(%error, "temporary files are not kept next to the shard");
    }
}

/// SQLite calls this setting deprecated because it does not belong to one connection. The alternative is an
/// environment variable, which must not be changed once the process has threads.
const TEMPORARY_FOLDER: &str = "temp_store_directory";

/// Keeps SQLite's temporary files in its own folder for them (`SQLITE_TMPDIR`, `TMPDIR`, `/var/tmp`, `/tmp`) until the
/// next shard is opened.
pub(super) fn keep_temporary_files_elsewhere(connection: &Connection) -> Result<(), ShardError> {
    Ok(connection.pragma_update(None, TEMPORARY_FOLDER, "")?)
}

/// Checks that SQLite can create a temporary file in the folder of a shard.
///
/// # Errors
/// The reason why it cannot.
pub fn try_temporary_file(folder: &Path) -> Result<(), ShardError> {
    // An empty name opens a private file, which is deleted with the connection.
    let connection = open_plain(Path::new(""), true)?;
    connection.pragma_update(None, TEMPORARY_FOLDER, folder.to_string_lossy())?;
    connection.pragma_update(None, "cache_size", 1)?;
    Ok(connection
        .execute_batch("CREATE TABLE scratch (x); INSERT INTO scratch VALUES (zeroblob(1000000))")?)
}

/// Opens a private database in memory, for queries over virtual tables. Its sorts use SQLite's own folder for temporary
/// files (`SQLITE_TMPDIR`, `TMPDIR`, `/var/tmp`, `/tmp`), not the shard that was opened last, because a query must not
/// fill the disk of the data. Call it after the shards are open.
pub fn open_private() -> Result<Connection, ShardError> {
    let connection = Connection::open_in_memory()?;
    keep_temporary_files_elsewhere(&connection)?;
    connection.pragma_update(None, "temp_store", "FILE")?;
    Ok(connection)
}

/// Opens a small file next to the shards, for the layer that owns its tables. The connection syncs the file at every
/// commit, uses a rollback journal (one file to copy, nothing to checkpoint), and waits up to a second for a lock. A
/// commit survives a power cut: `EXTRA` also syncs the folder after the journal is unlinked. Otherwise the journal
/// could reappear and roll the commit back.
pub fn open_small(path: &Path, create: bool) -> Result<Connection, ShardError> {
    let connection = open_plain(path, create)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "synchronous", "EXTRA")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

/// Opens a file without checking its content, for locks and copies.
pub(super) fn open_plain(path: &Path, create: bool) -> Result<Connection, ShardError> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, create);
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(READER_PATIENCE)?;
    Ok(connection)
}
