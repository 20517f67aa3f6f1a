//! One open shard: the connection, and what the file says about itself, kept in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::hooks::Wal;
use rusqlite::{Connection, TransactionBehavior};

use super::apply::{BESIDE, Positions};
use super::buckets::Buckets;
use super::catalog::ShardFolder;
use super::error::ShardError;
use super::identity::{Identity, beside};
use super::ids::{self, Ids};
use super::orders::Orders;
use super::partition::{self, Partition};
use super::people::Erasures;
use super::rebuild;
use super::retain::Retention;
use super::seal::{self, Sealing};
use super::stream::Stream;
use super::{heal, open};
use crate::base::counters::Cell;
use crate::base::durable;
use crate::base::ids::{LaneId, Sequence};
use crate::base::keys::KeyHasher;

/// How a shard is written. The defaults were measured (200-byte events, two cores, ext4).
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// Of a file that is made now. 16 KiB: 1.2 to 1.4 M rows/s at 1,000 to 10,000 rows a commit against
    /// 0.9 to 1.1 M with 4 KiB; 32 KiB gains nothing more and costs small commits.
    pub page_bytes: u32,
    /// SQLite's page cache. Appending needs little; an index build sorts within it.
    pub cache_bytes: u64,
    /// Rows of a partition before it is sealed. Its index in order of time grows to 6 MB: times that jump about
    /// dirty all of it in every commit, which costs 0.4 us a row; at 1 M rows it would be 2 us.
    pub partition_rows_max: u64,
    /// Orders of a partition before it is sealed.
    pub order_partition_rows_max: u64,
    /// WAL bytes after which a checkpoint is due: 32 MiB takes 50 to 120 ms.
    pub checkpoint_wal_bytes: u64,
    /// The data folder's id: what its event ids are hashed with.
    pub folder_id: [u8; 16],
    /// How long clicks are kept after their partition was sealed; `None` for ever.
    pub retention_clicks: Option<std::time::Duration>,
    /// The same for events.
    pub retention_events: Option<std::time::Duration>,
    /// Leaves the buckets out, for measuring what they cost; such a file fails `verify_aggregates`.
    #[doc(hidden)]
    pub without_buckets: bool,
}

impl Default for ShardOptions {
    fn default() -> ShardOptions {
        ShardOptions {
            page_bytes: 16 * 1024,
            cache_bytes: 16 * 1024 * 1024,
            partition_rows_max: 250_000,
            order_partition_rows_max: 100_000,
            checkpoint_wal_bytes: 32 * 1024 * 1024,
            folder_id: [0; 16],
            retention_clicks: None,
            retention_events: None,
            without_buckets: false,
        }
    }
}

/// One shard, open for writing by this thread. Dropping it closes the file.
#[derive(Debug)]
pub struct Shard {
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    pub(super) wal_identity: Option<Identity>,
    pub(super) connection: Connection,
    pub(super) options: ShardOptions,
    pub(super) click: Partition,
    /// None before the first idempotent event.
    pub(super) event: Option<Partition>,
    /// First row id and table of every partition of events.
    pub(super) event_firsts: Vec<(i64, String)>,
    pub(super) keys: KeyHasher,
    pub(super) ids: Ids,
    pub(super) buckets: Buckets,
    pub(super) orders: Orders,
    pub(super) order_count: u64,
    pub(super) positions: Positions,
    pub(super) rows: u64,
    /// Records that were taken and are none of these.
    pub(super) beside: u64,
    pub(super) service_events: u64,
    pub(super) rejected: u64,
    /// A sealed partition may want its index.
    pub(super) seal_due: bool,
    pub(super) sealing: Option<Sealing>,
    pub(super) retention: Retention,
    pub(super) erasures: Erasures,
    /// Frames in the WAL, as SQLite says after each commit.
    pub(super) wal_frames: Arc<Cell>,
    /// How many of them a checkpoint has carried over.
    pub(super) wal_frames_carried: u64,
    pub(super) frame_bytes: u64,
    /// How long the last checkpoint left the file.
    pub(super) file_bytes: u64,
}

impl Shard {
    /// Opens `shard.db` of a folder, making the folder and the file where they are absent, finishing a
    /// heal that was interrupted, migrating an older schema. Milliseconds; more after a crash, when
    /// SQLite reads the WAL (its last valid commit counts).
    pub fn open(folder: &ShardFolder, options: &ShardOptions) -> Result<Shard, ShardError> {
        let path = folder.database();
        durable::create_folder(folder.dir())?;
        heal::install(&path)?;
        let before = Identity::of(&path)?;
        let mut connection = open::open_writer(&path, options)?;
        let identity = Identity::of(&path)?.ok_or(ShardError::Missing)?;
        let keys = KeyHasher::new(&options.folder_id);
        if before.is_some_and(|before| before != identity) {
            return Err(ShardError::Replaced);
        }
        let click = match Partition::load(&connection, Stream::Click)? {
            Some(partition) => partition,
            None => {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let partition = Partition::create(&transaction, Stream::Click, None)?;
                transaction.commit()?;
                partition
            }
        };
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
            ids: rebuild::load_ids(&mut connection, &keys, ids::EVENTS)?,
            orders: Orders::load(&mut connection, &keys)?,
            order_count: load_total(&connection, Stream::Order.total())?,
            event: Partition::load(&connection, Stream::ServiceEvent)?,
            event_firsts: partition::firsts(&connection, Stream::ServiceEvent)?,
            keys,
            buckets: Buckets::default(),
            retention: Retention::load(&connection, &path)?,
            path,
            positions: Positions::load(&connection)?,
            rows: load_total(&connection, Stream::Click.total())?,
            service_events: load_total(&connection, Stream::ServiceEvent.total())?,
            rejected: load_total(&connection, "rejected_records")?,
            beside: load_total(&connection, BESIDE)?,
            seal_due: seal::is_due(&connection)?,
            sealing: None,
            erasures: Erasures::load(&connection)?,
            connection,
            // A partition without a row would give the next one the same first id.
            options: ShardOptions {
                partition_rows_max: options.partition_rows_max.max(1),
                order_partition_rows_max: options.order_partition_rows_max.max(1),
                ..options.clone()
            },
            click,
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

    /// Clicks committed, over all partitions.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Records committed that are no click, event or order: statuses, stock, prices, what is known of ingests and people.
    #[must_use]
    pub fn beside(&self) -> u64 {
        self.beside
    }

    /// Idempotent events committed, over all partitions.
    #[must_use]
    pub fn service_events(&self) -> u64 {
        self.service_events
    }

    /// Orders committed, over all partitions.
    #[must_use]
    pub fn orders(&self) -> u64 {
        self.order_count
    }

    /// Memory of what is known of the ids of events and orders.
    #[must_use]
    pub fn id_memory_bytes(&self) -> usize {
        self.ids.memory_bytes() + self.orders.ids.memory_bytes()
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

fn load_total(connection: &Connection, name: &str) -> Result<u64, ShardError> {
    let value: i64 = connection.query_row(
        "SELECT coalesce((SELECT value FROM total WHERE name = ?1), 0)",
        [name],
        |row| row.get(0),
    )?;
    u64::try_from(value).map_err(|_| ShardError::Corrupt(format!("total {name} is {value}")))
}
