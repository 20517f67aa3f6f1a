//! One open shard: the connection, and what the file says about itself, kept in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use super::catalog::ShardFolder;
use super::error::ShardError;
use super::family::{Families, KindTable, Opening, Store};
use super::identity::{Identity, beside};
use super::names::TenantNumbers;
use super::options::ShardOptions;
use super::partition::Gone;
use super::positions::Positions;
use super::retention::Retention;
use super::stores::Stores;
use super::stream::Stream;
use super::streams::{StreamState, Streams};
use super::totals::{OTHER, REJECTED, load_total};
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
    /// Records that were stored and are no row of a stream.
    pub(super) other: u64,
    pub(super) rejected: u64,
    pub(super) retention: Retention,
    /// Frames in the WAL, as SQLite says after each commit.
    pub(super) wal_frames: Arc<Cell>,
    /// How many of them a checkpoint has carried over.
    pub(super) wal_frames_carried: u64,
    pub(super) frame_bytes: u64,
    /// How long the last checkpoint left the file.
    pub(super) file_bytes: u64,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Shard {
    /// Opens `shard.db` of a folder for these families, making the folder and the file where they are absent,
    /// finishing a heal that was interrupted, migrating an older schema. Milliseconds; more after a crash, when
    /// SQLite reads the WAL (its last valid commit counts).
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
        let wal_frames = Arc::new(Cell::default());
        let hook_frames = Arc::clone(&wal_frames);
        connection.wal_hook(Some(move |_: &mut Wal, frames: i32| {
            hook_frames.set(u64::from(frames.unsigned_abs()));
            Ok(())
        }))?;
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
            retention: Retention::load(&connection, &path)?,
            path,
            positions: Positions::load(&connection)?,
            rejected: load_total(&connection, REJECTED)?,
            other: load_total(&connection, OTHER)?,
            connection,
            wal_frames,
            wal_frames_carried: 0,
            frame_bytes: page_bytes.unsigned_abs() + 24,
            file_bytes: fs::metadata(folder.database())?.len(),
        })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last record of a lane whose row is committed; [`Sequence::NONE`] for a lane never seen.
    #[must_use]
    pub fn position(&self, lane: LaneId) -> Sequence {
        self.positions.get(lane)
    }

    /// Every lane with a position.
    #[must_use]
    pub fn positions(&self) -> Vec<(LaneId, Sequence)> {
        self.positions.list()
    }

    /// Rows of a stream committed, over all partitions.
    #[must_use]
    pub fn stored(&self, stream: &'static Stream) -> u64 {
        self.streams.get(stream).rows
    }

    /// Rows of all streams.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.streams.iter().map(|state| state.rows).sum()
    }

    /// The streams of its families, with what is committed.
    pub fn streams(&self) -> impl Iterator<Item = &StreamState> {
        self.streams.iter()
    }

    /// Records committed that are no row of a stream.
    #[must_use]
    pub fn other(&self) -> u64 {
        self.other
    }

    /// Memory of what the families know of ids.
    #[must_use]
    pub fn id_memory_bytes(&self) -> usize {
        self.stores.iter().map(Store::memory_bytes).sum()
    }

    /// Records that could not be stored as rows.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Bytes of `shard.db`, as the file system says; 0 where it does not answer.
    #[must_use]
    pub fn database_bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |found| found.len())
    }

    /// Tables of all streams. Reads the catalogue: a few rows of one page that is in memory.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn partitions(&self) -> Result<u64, ShardError> {
        let mut statement = self.connection.prepare_cached("SELECT count(*) FROM partition")?;
        Ok(statement.query_row([], |row| row.get::<_, i64>(0))?.unsigned_abs())
    }

    /// What a family works with outside of batches.
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

    /// The part of another family; `None` where the shard has none, or it is at work.
    #[must_use]
    pub fn store<T: Store>(&self) -> Option<&T> {
        self.stores.get()
    }

    /// As [`Shard::store`], with the connection and the streams that it works with.
    pub fn store_mut<T: Store>(&mut self) -> Option<(&mut T, &mut Connection, &Streams)> {
        Some((self.stores.get_mut()?, &mut self.connection, &self.streams))
    }

    /// Forgets what was read of rows for indexes in the making, and for what leaves: rows are about to be erased.
    pub fn stop_building(&mut self) {
        self.stores.iter_mut().for_each(|store| store.stop_building());
        self.retention.stop_counting();
    }

    /// Rejected records were deleted, in a transaction that is committed.
    pub fn rejected_gone(&mut self, records: u64) {
        self.rejected -= records;
    }

    /// Rows of a table were deleted, in a transaction that is committed and in which
    /// [`partition::count_gone`] said what is left.
    pub fn rows_gone(&mut self, stream: &'static Stream, table: &str, gone: &Gone) {
        let state = self.streams.get_mut(stream);
        state.rows -= gone.rows;
        if let Some(open) = state.open.as_mut().filter(|open| gone.rows > 0 && open.name == table) {
            open.erased(gone.rows, gone.times_left);
        }
    }

    /// Whether data of anybody is kept out, so that an old journal may hold some.
    pub fn keeps_out_anybody(&self) -> Result<bool, ShardError> {
        super::kept_out::is_anything(&self.connection)
    }

    /// A full disk, for tests: the database cannot grow beyond so many pages more.
    #[cfg(test)]
    pub(crate) fn limit_growth(&self, pages: i64) {
        let now: i64 = self.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        self.connection.pragma_update_and_check(None, "max_page_count", now + pages, |_| Ok(())).unwrap();
    }

    /// Closes the connection after a failure, carrying nothing over. What it holds is not trusted.
    pub fn poison(self) {
        let keep = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        // If even that fails, closing does a checkpoint, which SQLite guards by itself.
        let _ = self.connection.set_db_config(keep, true);
    }
}
