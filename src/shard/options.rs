//! How a shard is written.

use super::stream::Stream;

/// How a shard is written. The defaults were measured (200-byte events, two cores, ext4).
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// Of a file that is made now. 16 KiB: 1.2 to 1.4 M rows/s at 1,000 to 10,000 rows a commit against
    /// 0.9 to 1.1 M with 4 KiB; 32 KiB gains nothing more and costs small commits.
    pub page_bytes: u32,
    /// SQLite's page cache. Appending needs little; an index build sorts within it.
    pub cache_bytes: u64,
    /// Rows of a partition before it is sealed, unless its stream says otherwise. Its index in order of time grows to
    /// 6 MB: times that jump about dirty all of it in every commit, which costs 0.4 us a row; at 1 M rows it would be
    /// 2 us.
    pub partition_rows_max: u64,
    /// The same for single streams.
    pub partition_rows_max_of: Vec<(&'static Stream, u64)>,
    /// WAL bytes after which a checkpoint is due: 32 MiB takes 50 to 120 ms.
    pub checkpoint_wal_bytes: u64,
    /// The data folder's id: what its event ids are hashed with.
    pub folder_id: [u8; 16],
    /// How long rows of a stream are kept after their partition was sealed; for ever where it is not listed.
    pub retention: Vec<(&'static Stream, std::time::Duration)>,
    /// Leaves derived tables out where a family can, for measuring what they cost; such a file fails
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
            checkpoint_wal_bytes: 32 * 1024 * 1024,
            folder_id: [0; 16],
            retention: Vec::new(),
            without_aggregates: false,
        }
    }
}

impl ShardOptions {
    pub(super) fn partition_rows_max(&self, stream: &'static Stream) -> u64 {
        let own = self.partition_rows_max_of.iter().find(|(of, _)| *of == stream).map(|(_, rows)| *rows);
        own.or(stream.partition_rows_max).unwrap_or(self.partition_rows_max)
    }
}
