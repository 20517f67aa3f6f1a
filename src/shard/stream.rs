//! A stream: rows of one kind, stored in separate partitions.

use std::fmt;

/// The maximum number of streams of all families. The index of a stream selects its counters.
pub const STREAMS_MAX: usize = 8;

/// An additional table of each partition, with a view over all of them.
#[derive(Clone, Copy)]
pub struct SideTable {
    pub view: &'static str,
    pub columns: &'static str,
    /// Returns the name of a partition's table.
    pub table: fn(&str) -> String,
}

/// How the rows of a tenant are found in a partition.
#[derive(Clone, Copy, Debug)]
pub struct TenantColumn {
    /// The column with the tenant: the first one of the partition's index by time.
    pub column: &'static str,
    /// `true` if the column contains the tenant's number in `tenant_row`, `false` if it contains the name.
    pub is_number: bool,
    /// The suffix of that index. The partition's name precedes it.
    pub index: &'static str,
    /// The word for these rows in the settings of a tenant.
    pub setting: &'static str,
}

/// A family's description of a stream of rows.
pub struct Stream {
    /// The index of its counters, unique among all streams and below [`STREAMS_MAX`].
    pub place: usize,
    /// Its name in the catalogue, the name of the view over its partitions, and the prefix of the partitions' names.
    pub name: &'static str,
    /// Its counter in `total`.
    pub total: &'static str,
    /// The schema version that added the counter.
    pub since: u32,
    /// The columns of a partition, in order; `id` first.
    pub columns: &'static str,
    /// The values that an insert binds to the columns.
    pub values: &'static str,
    /// The column with the time of a row, by which the partitions are indexed.
    pub time_column: &'static str,
    /// `None` if its rows belong to no tenant.
    pub tenant: Option<TenantColumn>,
    /// Returns the SQL for a partition's table, and for the index that is maintained while rows arrive. Rows arrive
    /// roughly in time order, so nearly every insert changes the same page of the index as the previous insert.
    pub create_sql: fn(&str) -> String,
    /// Returns the SQL for the table alone, if the stream has partitions for rows in no order of time. Such a partition
    /// gets the index once it is sealed.
    pub unordered_sql: Option<fn(&str) -> String>,
    pub side_tables: &'static [SideTable],
    /// Returns the names of all tables that a sealed partition may have.
    pub tables: fn(&str) -> Vec<String>,
    /// The SQL of a partition's bytes in tables that all partitions share. Its parameters are the partition's first
    /// row id and the one after its last.
    pub shared_bytes_sql: Option<&'static str>,
    /// Set if changes of the kind `status` refer to its rows.
    pub has_statuses: bool,
    /// Whether a sealed partition gets an additional index.
    pub has_sealed_index: bool,
    /// The maximum number of rows of a partition, if it differs from the number in `ShardOptions` for all streams.
    pub partition_rows_max: Option<u64>,
}

impl Stream {
    pub(super) fn insert_sql(&self, partition: &str) -> String {
        format!("INSERT INTO {partition} ({}) VALUES ({})", self.columns, self.values)
    }

    /// Returns `true` if a table is a partition of this stream: its name and a number of at least six digits.
    pub(super) fn has_partition(&self, table: &str) -> bool {
        let number = table.strip_prefix(self.name).and_then(|rest| rest.strip_prefix('_'));
        number.is_some_and(|digits| digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_digit()))
    }
}

/// Rows of one kind in tables that are not partitioned. Retention deletes them one by one, in order of their key.
#[derive(Debug)]
pub struct Ledger {
    /// Its index, unique among all streams and ledgers and below [`STREAMS_MAX`].
    pub place: usize,
    /// The name of its main table, which has the column `received_us`.
    pub name: &'static str,
    /// The table or view that has all its rows, also those of an earlier version that are not converted yet.
    pub all: &'static str,
    /// The tables whose rows leave.
    pub tables: &'static [&'static str],
    /// Returns the row id after the highest one that was ever assigned. May read many rows.
    pub next_id_sql: &'static str,
    /// The word for its rows in the settings of a tenant.
    pub setting: &'static str,
}

impl PartialEq for Ledger {
    fn eq(&self, other: &Ledger) -> bool {
        self.place == other.place
    }
}

impl Eq for Ledger {}

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
