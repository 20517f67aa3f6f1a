//! A stream: rows of one sort, stored in partitions of their own.

use std::fmt;

/// Streams that all families together may have: counters of each are kept by its place.
pub const STREAMS_MAX: usize = 8;

/// Another table that each partition has, with a view over all of them.
#[derive(Clone, Copy)]
pub struct SideTable {
    pub view: &'static str,
    pub columns: &'static str,
    /// The table of a partition.
    pub table: fn(&str) -> String,
}

/// What a family says of a stream of rows.
pub struct Stream {
    /// Where its counters are kept; no other stream has it. Below [`STREAMS_MAX`].
    pub place: usize,
    /// Its name in the catalogue, of the view over its partitions, and in front of their numbers.
    pub name: &'static str,
    /// Its counter in `total`.
    pub total: &'static str,
    /// The schema version that brought the counter.
    pub since: u32,
    /// The columns of a partition, in order; `id` first.
    pub columns: &'static str,
    /// What an insert binds to them.
    pub values: &'static str,
    /// The column that its partitions are in order of.
    pub time_column: &'static str,
    /// The table of a partition, and the index that is kept while rows arrive: rows arrive about in order of time, so
    /// nearly every insert meets the page the last one met.
    pub create_sql: fn(&str) -> String,
    pub side_tables: &'static [SideTable],
    /// Whether a sealed partition gets a further index.
    pub has_sealed_index: bool,
    /// Rows of a partition before it is sealed, where it is not what `ShardOptions` says for all streams.
    pub partition_rows_max: Option<u64>,
}

impl Stream {
    pub(super) fn insert_sql(&self, partition: &str) -> String {
        format!("INSERT INTO {partition} ({}) VALUES ({})", self.columns, self.values)
    }

    /// Whether a table is a partition of it: its name and a number of six digits or more.
    pub(super) fn has_partition(&self, table: &str) -> bool {
        let number = table.strip_prefix(self.name).and_then(|rest| rest.strip_prefix('_'));
        number.is_some_and(|digits| digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_digit()))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Stream {
    #[inline]
    fn eq(&self, other: &Stream) -> bool {
        self.place == other.place
    }
}

impl Eq for Stream {}
