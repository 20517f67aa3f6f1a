//! Settings of a shard.

use std::path::PathBuf;
use std::time::Duration;

use super::stream::{Ledger, Stream};
use super::tenant_keeps::TenantKeeps;
use crate::base::ids::ShardId;

/// The sinks that a shard's rows are shipped to, as far as they hold rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShipOptions {
    /// The data folder.
    pub data: PathBuf,
    pub shard: ShardId,
    /// The time that rows stay after every sink has confirmed them.
    pub keep: Duration,
    /// The maximum bytes of this shard that stay only because a sink has not confirmed them.
    pub hold_bytes_max: u64,
    /// Set if retention drops rows beyond that, confirmed or not.
    pub drops_when_full: bool,
}

impl ShipOptions {
    /// Returns the options of a shard of the data folder `data`, with the defaults.
    #[must_use]
    pub fn of(data: PathBuf, shard: ShardId) -> ShipOptions {
        ShipOptions {
            data,
            shard,
            keep: Duration::from_secs(24 * 60 * 60),
            hold_bytes_max: 16 << 30,
            drops_when_full: false,
        }
    }
}

/// A shard's settings. The defaults were measured (200-byte events, two cores, ext4).
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// The page size of a new file. With 16 KiB, a shard stores 1.2 to 1.4 M rows/s at 1,000 to 10,000 rows per
    /// commit, compared with 0.9 to 1.1 M rows/s with 4 KiB. 32 KiB is not faster, and makes small commits slower.
    pub page_bytes: u32,
    /// SQLite's page cache. Appending needs little; an index build sorts within it.
    pub cache_bytes: u64,
    /// The maximum number of rows of a partition, unless its stream has its own limit. With the default, the
    /// partition's index by time grows to 6 MB. Rows in random time order change all of this index in every commit,
    /// which takes 0.4 us per row. With a limit of 1 M rows, it would take 2 us per row.
    pub partition_rows_max: u64,
    /// The maximum number of rows of a partition, for individual streams.
    pub partition_rows_max_of: Vec<(&'static Stream, u64)>,
    /// WAL bytes after which the WAL starts from its beginning again, as soon as everything was copied. Without a
    /// copier, a checkpoint is due at this size; it takes 50 to 120 ms for 32 MiB.
    pub checkpoint_wal_bytes: u64,
    /// The data folder's id: the key of the event ids' hashes.
    pub folder_id: [u8; 16],
    /// How long rows of a stream are kept after their partition was sealed. Streams that are not listed are kept
    /// permanently.
    pub retention: Vec<(&'static Stream, std::time::Duration)>,
    /// How long rows of a ledger are kept after their arrival. Ledgers that are not listed are kept permanently.
    pub ledger_retention: Vec<(&'static Ledger, std::time::Duration)>,
    /// The maximum bytes of a stream in this shard, with its indexes. Streams that are not listed have no limit.
    pub retention_bytes: Vec<(&'static Stream, u64)>,
    /// The maximum bytes of a ledger in this shard, with its indexes. Ledgers that are not listed have no limit.
    pub ledger_bytes: Vec<(&'static Ledger, u64)>,
    /// How long rows of individual tenants are kept. It may change while the shard is open.
    pub tenant_keeps: TenantKeeps,
    /// Whether the sums of a period are deleted once no row of the period is left. Otherwise they are kept.
    pub drops_sums: bool,
    /// The sinks, or `None` for a shard whose rows are not shipped.
    pub ship: Option<ShipOptions>,
    /// If true, families that can do so write no derived tables, to measure their cost. Such a file fails
    /// `verify_aggregates`.
    #[doc(hidden)]
    pub without_aggregates: bool,
}

impl Default for ShardOptions {
    fn default() -> ShardOptions {
        ShardOptions {
            page_bytes: 16 * 1024,
            cache_bytes: 16 * 1024 * 1024,
            partition_rows_max: 250_000,
            partition_rows_max_of: Vec::new(),
            checkpoint_wal_bytes: 64 * 1024 * 1024,
            folder_id: [0; 16],
            retention: Vec::new(),
            ledger_retention: Vec::new(),
            retention_bytes: Vec::new(),
            ledger_bytes: Vec::new(),
            tenant_keeps: TenantKeeps::default(),
            drops_sums: false,
            ship: None,
            without_aggregates: false,
        }
    }
}

impl ShardOptions {
    /// Returns `true` if any kind of row is not kept permanently.
    pub(super) fn retains(&self) -> bool {
        !(self.retention.is_empty()
            && self.ledger_retention.is_empty()
            && self.retention_bytes.is_empty()
            && self.ledger_bytes.is_empty())
    }

    pub(super) fn partition_rows_max(&self, stream: &'static Stream) -> u64 {
        let own = self.partition_rows_max_of.iter().find(|(of, _)| *of == stream).map(|(_, rows)| *rows);
        own.or(stream.partition_rows_max).unwrap_or(self.partition_rows_max)
    }
}
