//! One SQLite file and its folder. This module is the kernel, which stores the records of all families. It knows a
//! family only by a trait, and knows nothing about its callers.
//!
//! In: records from the journals. Out: rows, journal positions and counters, committed together. Owns: `shard.db`,
//! the only calls that open SQLite, the data folder's manifest and lock; partitions, ids, retention, the overwriting
//! of unused bytes. Never: names a feature, waits, retries, or decides what happens after an error; the writer above
//! does that. Logs only an untrusted clock and a refused folder for temporary files.
//!
//! The life of a batch: [`Shard::check_identity`] → [`Shard::apply`] (rows, positions and counters in one
//! transaction) → a pass of the [`Copier`], or [`Shard::checkpoint`] (copies them durably into the database file) → the
//! journal may delete them. [`recover`] comes first, before anything opens the file.
//! [`Family`] is the interface to a feature.

mod apply;
mod backup;
mod built;
mod carried;
mod carry;
mod catalog;
mod change;
mod check;
mod checkpoint;
mod checkpointed;
pub mod commit_page;
mod copied;
mod copier;
mod drop_slice;
mod dropped;
mod epochs;
mod error;
mod family;
mod file;
mod free;
mod heal;
mod healed;
mod hold;
mod holds;
mod identity;
pub mod ids;
mod index_build;
mod inspect;
mod lag;
mod lock;
mod manifest;
mod moving;
mod names;
mod open;
mod options;
mod outcome;
mod page;
pub mod partition;
mod partitions;
mod pass;
mod pass_record;
mod positions;
mod private;
pub mod read;
mod rebuild;
mod recover;
mod resharded;
mod retain;
mod retain_clock;
mod retain_tenants;
mod retention;
mod schema;
mod scrub;
mod sinks;
mod size;
mod sizes;
mod stages;
mod status;
mod stores;
mod stream;
mod streams;
pub mod suppressed;
mod tenant_keeps;
mod tenant_marks;
mod tenant_rows;
mod totals;
mod trim;
mod trimmed;
mod upkeep;
pub mod view;
mod wal;
mod wal_file;

pub use apply::{Entry, Records};
pub use backup::backup;
pub use built::{IndexNames, become_index, reload_schema};
pub use carried::Carried;
pub use carry::{carry, carry_stream};
pub use catalog::{DataFolder, ShardFolder};
pub use change::{CHANGES, ChangeKind, append_change};
pub use checkpoint::{Checkpoint, CheckpointMode, sync_commits};
pub use checkpointed::checkpointed;
pub use copier::{Copier, Ended, JournalWork, PassOrder, PassStep, Passed};
pub use drop_slice::{DropSlice, DroppedSlice};
pub use dropped::{DropReason, DroppedRows, dropped_rows};
pub use epochs::{EPOCH, Epoch, EpochReason, epochs, is_copy, is_epoch_of_file};
pub use error::{FolderError, ShardError};
pub use family::{
    Applied, Batch, BatchWriter, CountLeaving, EachRecord, Families, Family, Opening, Record, Renewed,
    Stateless, Store, TenantSlice, WriteRecord,
};
pub use file::Shard;
pub use hold::Upto;
pub use holds::{HeldRows, hold_statements};
pub use identity::{Identity, beside};
pub use index_build::{Entries, IndexBuild};
pub use inspect::{
    Inspection, Problems, Verified, differences, inspect, ledger_rows, verify, verify_aggregates,
    with_snapshot,
};
pub use lag::{Lag, lag};
pub use lock::{Lock, hold};
pub use manifest::Manifest;
pub use moving::Earlier;
pub use names::{RecentNumbers, TENANT_SQL, TenantNumbers, tenant_number};
pub use open::{open_private, open_reader, open_small, try_temporary_file};
pub use options::{ShardOptions, ShipOptions};
pub use outcome::Outcome;
pub use partitions::{PartitionInfo, partitions_of};
pub use pass::Mark;
pub use positions::journal_positions;
pub use private::{
    LooseMode, TENANTS_FILE, copy_cursor_secret, cursor_secret, loose, make_secret_file, restrict_new_files,
};
pub use rebuild::load_ids;
pub use recover::{Recovered, check_recovered, recover};
#[cfg(test)]
pub(crate) use schema::APPLICATION_ID;
pub use schema::{VERSION, check_current, is_current, is_made, migrate};
pub use scrub::Scrub;
pub use sinks::{
    Confirmed, SINK_NAME_MAX, SINKS_FOLDER, SinkEntry, confirmed, confirmed_by, is_sink_name, register_sink,
    remove_sink, sink, sinks, write_confirmed,
};
pub use stages::{BuiltIndex, SortPermit, Stage, WriterTask};
pub use status::{CommitTimes, Outage, ShardState, ShardStatus};
pub use stores::committing;
pub use stream::{Ledger, STREAMS_MAX, SideTable, Stream, TenantColumn};
pub use streams::{StreamChange, StreamState, Streams};
pub use suppressed::{ErasureMode, is_erasing, is_erasing_clicks, is_pseudonymising, unfinished_erasures};
pub use tenant_keeps::{TenantKeep, TenantKeeps};
pub use tenant_marks::dropped_upto;
pub use tenant_rows::tenant_statements;
pub use totals::{subtract_rejected, total};
pub use trim::trim_statements;
