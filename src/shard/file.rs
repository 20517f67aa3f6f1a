//! One open shard: the connection, and the file's catalogue and counters in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use super::catalog::ShardFolder;
use super::checkpointed::Checkpointed;
use super::copied::CopiedFile;
use super::dropped::DropReason;
use super::error::ShardError;
use super::family::{Families, KindTable, Opening, Store};
use super::identity::{Identity, beside};
use super::names::TenantNumbers;
use super::options::ShardOptions;
use super::partition::Deleted;
use super::pass_record::{PassFile, PassRecord};
use super::positions::Positions;
use super::retention::Retention;
use super::stores::Stores;
use super::stream::Stream;
use super::streams::{StreamState, Streams};
use super::totals::{OTHER, REJECTED, load_total};
use super::trimmed::Trim;
use super::wal_file::WalFrames;
use super::{healed, open};
use crate::base::counters::Cell;
use crate::base::durable;
use crate::base::ids::{LaneId, Sequence};
use crate::base::keys::KeyHasher;

/// One shard, open for writing by this thread. Dropping it closes the file.
pub struct Shard {
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    pub(super) wal_identity: Option<Identity>,
    pub(super) connection: Connection,
    pub(super) options: ShardOptions,
    pub(super) families: &'static Families,
    pub(super) kinds: KindTable,
    pub(super) keys: KeyHasher,
    pub(super) streams: Streams,
    pub(super) stores: Stores,
    pub(super) tenants: TenantNumbers,
    pub(super) positions: Positions,
    /// Stored records that are not rows of a stream.
    pub(super) other: u64,
    pub(super) rejected: u64,
    pub(super) retention: Retention,
    /// The number of WAL frames, as SQLite reports it after each commit.
    pub(super) wal_frames: Arc<Cell>,
    /// The number of WAL frames that a checkpoint has copied, at most all of them.
    pub(super) wal_copied: Arc<Cell>,
    pub(super) frame_bytes: u64,
    /// The record of this connection's checkpoints, and their number.
    pub(super) record: PassFile,
    pub(super) passes: u64,
    /// Set while the copier may be copying.
    pub(super) is_copying: bool,
    pub(super) checkpointed: Checkpointed,
    /// Set while the file is another one than that of its newest epoch.
    pub(super) copied: Option<CopiedFile>,
    pub(super) trim: Trim,
    /// Set if a checkpoint may shorten the file, because another program has enabled `auto_vacuum`.
    pub(super) can_shrink: bool,
    /// The length of the file after the last checkpoint.
    pub(super) file_bytes: u64,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Shard {
    /// Opens the `shard.db` of a folder for these families. Creates the folder and the file if they are absent,
    /// finishes an interrupted heal, and migrates an older schema. Takes milliseconds, or more after a crash, when
    /// SQLite reads the WAL up to its last valid commit.
    pub fn open(
        folder: &ShardFolder,
        options: &ShardOptions,
        families: &'static Families,
    ) -> Result<Shard, ShardError> {
        let path = folder.database();
        durable::create_folder(folder.dir())?;
        healed::install(&path)?;
        let before = Identity::of(&path)?;
        let mut connection = open::open_writer(&path, options, families)?;
        let identity = Identity::of(&path)?.ok_or(ShardError::Missing)?;
        let keys = KeyHasher::new(&options.folder_id);
        if before.is_some_and(|before| before != identity) {
            return Err(ShardError::Replaced);
        }
        let mut streams = Streams::load(&connection, families.streams(), options)?;
        let mut stores = Stores::default();
        for family in families.list {
            let (connection, streams) = (&mut connection, &mut streams);
            stores.push(family.open(Opening { connection, keys: &keys, options, streams })?);
        }
        if before.is_none() {
            durable::sync_folder(folder.dir())?;
        }
        let mut copied = CopiedFile::find(&connection, stores.last_numbers(&connection, &streams)?)?;
        // On a full disk, the epoch begins with the next commit.
        let _ = CopiedFile::begin_epoch(&mut copied, &mut connection);
        let found = WalFrames::by(&connection, "NOOP")?;
        let (wal_frames, wal_copied) = (Arc::new(Cell::new(found.whole)), Arc::new(Cell::new(found.copied)));
        let (hook_frames, hook_copied) = (Arc::clone(&wal_frames), Arc::clone(&wal_copied));
        connection.wal_hook(Some(move |_: &mut Wal, frames: i32| {
            let frames = u64::from(frames.unsigned_abs());
            // SQLite starts the WAL from its beginning once everything was copied.
            if frames < hook_frames.get() {
                hook_copied.set(0);
            }
            hook_frames.set(frames);
            Ok(())
        }))?;
        let passes = PassRecord::read(&path)?.map_or(0, |record| record.number);
        let record = PassFile::open(&path)?;
        let page_bytes: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        Ok(Shard {
            wal_identity: Identity::of(&beside(&path, "-wal"))?,
            identity,
            options: options.clone(),
            families,
            kinds: KindTable::new(families),
            keys,
            streams,
            stores,
            tenants: TenantNumbers::default(),
            retention: Retention::load(
                &connection,
                &path,
                families.streams(),
                options.tenant_keeps.current(),
            )?,
            path,
            positions: Positions::load(&connection)?,
            checkpointed: Checkpointed::load(&connection)?,
            copied,
            trim: Trim::default(),
            can_shrink: connection.pragma_query_value(None, "auto_vacuum", |row| row.get::<_, i64>(0))? != 0,
            rejected: load_total(&connection, REJECTED)?,
            other: load_total(&connection, OTHER)?,
            connection,
            wal_frames,
            wal_copied,
            record,
            passes,
            is_copying: false,
            frame_bytes: page_bytes.unsigned_abs() + 24,
            file_bytes: fs::metadata(folder.database())?.len(),
        })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the last committed record of a lane, or [`Sequence::NONE`] for an unknown lane.
    #[must_use]
    pub fn position(&self, lane: LaneId) -> Sequence {
        self.positions.get(lane)
    }

    /// Returns every lane that has a position.
    #[must_use]
    pub fn positions(&self) -> Vec<(LaneId, Sequence)> {
        self.positions.list()
    }

    /// Returns the committed rows of a stream, over all partitions.
    #[must_use]
    pub fn stored(&self, stream: &'static Stream) -> u64 {
        self.streams.get(stream).rows
    }

    /// Returns the committed rows of all streams.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.streams.iter().map(|state| state.rows).sum()
    }

    /// Returns the streams of its families, as committed.
    pub fn streams(&self) -> impl Iterator<Item = &StreamState> {
        self.streams.iter()
    }

    /// Returns the committed records that are not rows of a stream.
    #[must_use]
    pub fn other(&self) -> u64 {
        self.other
    }

    /// Returns the rows that retention has dropped, with the index of their stream or ledger and the reason.
    pub fn dropped(&self) -> impl Iterator<Item = (usize, DropReason, u64)> {
        self.retention.dropped.iter().filter_map(|rows| {
            let reason = DropReason::ALL.into_iter().find(|reason| reason.as_str() == rows.reason)?;
            let place = self.families.kept_kinds().find(|(_, name)| *name == rows.kind)?.0;
            Some((place, reason, rows.rows))
        })
    }

    /// Returns the memory that the families use for ids.
    #[must_use]
    pub fn id_memory_bytes(&self) -> usize {
        self.stores.iter().map(Store::memory_bytes).sum()
    }

    /// Returns the number of rejected records.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Returns the bytes of `shard.db`, or 0 if the file system reports an error.
    #[must_use]
    pub fn database_bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |found| found.len())
    }

    /// Returns the number of tables of all streams. Reads the catalogue: a few rows of one cached page.
    ///
    /// # Errors
    /// SQLite reports an error.
    pub fn partitions(&self) -> Result<u64, ShardError> {
        let mut statement = self.connection.prepare_cached("SELECT count(*) FROM partition_catalog")?;
        Ok(statement.query_row([], |row| row.get::<_, i64>(0))?.unsigned_abs())
    }

    /// Returns the connection, for a family's work outside of batches.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    #[must_use]
    pub fn keys(&self) -> &KeyHasher {
        &self.keys
    }

    #[must_use]
    pub fn options(&self) -> &ShardOptions {
        &self.options
    }

    /// Returns the store of another family. Returns `None` if the shard has no such store, or while that store is
    /// itself working on the shard.
    #[must_use]
    pub fn store<T: Store>(&self) -> Option<&T> {
        self.stores.get()
    }

    /// Returns the store that [`Shard::store`] returns, with the connection and the streams that the store uses.
    pub fn store_mut<T: Store>(&mut self) -> Option<(&mut T, &mut Connection, &Streams)> {
        Some((self.stores.get_mut()?, &mut self.connection, &self.streams))
    }

    /// Discards the data that was read from rows for unfinished indexes and for partitions to drop, because rows are
    /// about to be erased.
    pub fn stop_building(&mut self) {
        self.stores.iter_mut().for_each(|store| store.stop_building());
        self.retention.stop_counting();
    }

    /// Subtracts rejected records that a committed transaction deleted.
    pub fn rejected_gone(&mut self, records: u64) {
        self.rejected -= records;
    }

    /// Subtracts rows that a committed transaction deleted from a table. `gone` is what
    /// [`count_deleted`](super::partition::count_deleted) returned in that transaction.
    pub fn rows_gone(&mut self, stream: &'static Stream, table: &str, gone: &Deleted) {
        let state = self.streams.get_mut(stream);
        state.rows -= gone.rows;
        if let Some(open) = state.open.as_mut().filter(|open| gone.rows > 0 && open.name == table) {
            open.erased(gone.rows, gone.times_left);
        }
    }

    /// Returns `true` if any data is suppressed, which an old journal may still contain.
    pub fn suppresses_anyone(&self) -> Result<bool, ShardError> {
        super::suppressed::is_anything(&self.connection)
    }

    /// Simulates a full disk in tests: the database can grow by at most `pages` pages.
    #[cfg(test)]
    pub(crate) fn limit_growth(&self, pages: i64) {
        let now: i64 = self.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        self.connection.pragma_update_and_check(None, "max_page_count", now + pages, |_| Ok(())).unwrap();
    }

    /// Closes the connection after a failure, without a checkpoint, because the connection is no longer trusted.
    pub fn poison(self) {
        let keep = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        // If this call fails, closing the connection runs a checkpoint, for which only SQLite's own safeguards apply.
        let _ = self.connection.set_db_config(keep, true);
    }
}
