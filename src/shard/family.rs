//! The interface between a shard and a feature: its record kinds, its streams and tables, and how it stores a batch.
//!
//! A [`Family`] is the part of a feature that needs no open file. A [`Store`] is the memory of a family in one open
//! shard. A [`BatchWriter`] lives for one transaction. The caller that opens a shard passes the closed list of
//! families. A call through one of these traits serves a run of records of one family, not a single record.

use std::any::Any;
use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::carried::Carried;
use super::drop_slice::{DropSlice, DroppedSlice};
use super::error::ShardError;
use super::file::Shard;
use super::options::ShardOptions;
use super::outcome::Outcome;
use super::partitions::PartitionInfo;
use super::stages::{BuiltIndex, Stage, WriterTask};
use super::stream::{Ledger, STREAMS_MAX, Stream};
use super::streams::{StreamChange, Streams};
use crate::base::ids::{LaneId, Sequence};
use crate::base::keys::{KeyHash, KeyHasher};
use crate::base::kinds::{Kind, KindRow};

/// One record of a batch that is not stored yet.
#[derive(Clone, Copy, Debug)]
pub struct Record<'t> {
    pub lane: LaneId,
    pub sequence: Sequence,
    pub kind: Kind,
    pub payload: &'t [u8],
}

/// One feature's part in every shard.
pub trait Family: Sync {
    /// Returns the kinds of its records.
    fn kinds(&self) -> &'static [KindRow];

    /// Returns the streams of its rows.
    fn streams(&self) -> &'static [&'static Stream] {
        &[]
    }

    /// Returns the ledgers of its rows.
    fn ledgers(&self) -> &'static [&'static Ledger] {
        &[]
    }

    /// Returns the key that selects the shard of a valid record. Returns `None` if the kind has no key or the payload
    /// is invalid.
    fn key_of(&self, keys: &KeyHasher, kind: Kind, payload: &[u8]) -> Option<KeyHash>;

    /// Runs this family's part of the migration to a schema version, in the migration's transaction. Released
    /// versions are never edited.
    fn migrate(&self, connection: &Connection, version: u32) -> Result<(), ShardError>;

    /// Opens its store: the memory of this family for an open shard.
    fn open(&self, opening: Opening<'_>) -> Result<Box<dyn Store>, ShardError>;

    /// Reads every row as the record it came from, in a fixed order. `keys` are those of the data folder.
    fn carry(
        &self,
        connection: &Connection,
        keys: &KeyHasher,
        take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
    ) -> Result<(), ShardError>;

    /// Deletes rows from a copy of a shard if they were stored after `began_us` and refer to rows of other shards.
    /// The copies of those shards may be older.
    fn forget_since(&self, _copy: &Connection, _began_us: i64) -> Result<(), ShardError> {
        Ok(())
    }

    /// Verifies the properties of its tables that can be checked without sorting the rows.
    fn verify(&self, _connection: &Connection, _problems: &mut Vec<String>) -> Result<(), ShardError> {
        Ok(())
    }

    /// Compares its derived tables with a recount of the rows, and checks that each id is stored once. Returns the
    /// number of recounted rows.
    fn verify_aggregates(
        &self,
        _connection: &Connection,
        _problems: &mut Vec<String>,
    ) -> Result<u64, ShardError> {
        Ok(0)
    }
}

/// The parts of a shard from which a family opens its store.
pub struct Opening<'o> {
    pub connection: &'o mut Connection,
    pub keys: &'o KeyHasher,
    pub options: &'o ShardOptions,
    pub streams: &'o mut Streams,
}

/// A function that counts what a partition's rows contribute to the derived tables, before the partition is dropped.
/// Its arguments are the path of the database and the partition's table.
pub type CountLeaving = fn(&Path, &str) -> Result<Box<dyn Any + Send>, ShardError>;

/// One family's part of an open shard.
pub trait Store: Any + Debug + Send {
    /// Prepares to store one batch's records, within the batch's transaction. The records are passed in runs. Called
    /// only for a batch that has records of this family.
    fn begin<'t>(
        &'t mut self,
        batch: &mut Batch<'t>,
        runs: &[&[Record<'t>]],
    ) -> Result<Box<dyn BatchWriter<'t> + 't>, ShardError>;

    /// Called after the commit of a transaction that changed its tables.
    fn committed(&mut self) {}

    /// Called after the rollback of a transaction that changed its tables. The store discards everything that it
    /// staged in memory.
    fn rolled_back(&mut self) {}

    /// Called after a partition of one of its streams was sealed.
    fn sealed(&mut self) {}

    /// Returns the bytes of memory that grow with the rows.
    fn memory_bytes(&self) -> usize {
        0
    }

    /// Returns the last committed row id of each of its ledgers, by name.
    fn last_ids(&self) -> Vec<(&'static str, i64)> {
        Vec::new()
    }

    /// Returns `true` if [`Store::upkeep`] has work in this stage.
    fn upkeep_due(&self, _stage: Stage, _shard: &Shard) -> bool {
        false
    }

    /// Returns `true` if there is work that [`Store::upkeep`] cannot do yet, because a sort is running.
    fn upkeep_waits(&self) -> bool {
        false
    }

    /// Returns `true` if reads are slow until [`Store::upkeep`] is done. It then gets as much time as the batches.
    fn is_upkeep_urgent(&self) -> bool {
        false
    }

    /// Runs one slice of a stage in separate transactions. The slice takes about `budget`.
    fn upkeep(
        &mut self,
        _stage: Stage,
        _shard: &mut Shard,
        _budget: Duration,
    ) -> Result<Option<BuiltIndex>, ShardError> {
        Ok(None)
    }

    /// Discards what was read from rows for an unfinished index, because rows are about to be erased.
    fn stop_building(&mut self) {}

    /// Returns the function that counts what a partition's rows contribute to the derived tables, before the
    /// partition is dropped. Returns `None` if nothing is derived from the rows of the stream.
    fn count_leaving(&self, _stream: &'static Stream) -> Option<CountLeaving> {
        None
    }

    /// Changes its derived tables in the transaction that drops a partition. `counted` is the result of
    /// [`Store::count_leaving`], and `others` are the remaining partitions. The caller then calls
    /// [`Store::committed`] or [`Store::rolled_back`].
    fn leave(
        &mut self,
        _transaction: &Connection,
        _stream: &'static Stream,
        _counted: Option<Box<dyn Any + Send>>,
        _others: &[PartitionInfo],
    ) -> Result<(), ShardError> {
        Ok(())
    }

    /// Deletes rows of a dropped partition, and what belongs to them, until `until_us`. Returns `true` once its tables
    /// are empty, and `None` if the kernel can delete the rows. Called like [`Store::leave`].
    fn free(
        &mut self,
        _transaction: &Connection,
        _partition: &str,
        _until_us: u64,
    ) -> Result<Option<bool>, ShardError> {
        Ok(None)
    }

    /// Deletes some of a tenant's rows in a sealed partition, with all that belongs to them, until the slice ends.
    /// Returns how many of the row ids it has handled, and how many rows it has deleted. It handles at least one,
    /// unless it is still preparing. Called like [`Store::leave`].
    fn drop_tenant(
        &mut self,
        _transaction: &Connection,
        slice: TenantSlice<'_>,
    ) -> Result<(usize, u64), ShardError> {
        Err(ShardError::Other(format!("the rows of {} belong to no tenant", slice.partition)))
    }

    /// Called once no tenant has rows to delete. The store releases what it kept for [`Store::drop_tenant`].
    fn tenants_dropped(&mut self) {}

    /// Runs one slice of a pass over a ledger. Called like [`Store::leave`].
    fn drop_rows(
        &mut self,
        _transaction: &Connection,
        _slice: DropSlice,
    ) -> Result<DroppedSlice, ShardError> {
        Ok(DroppedSlice { is_done: true, ..DroppedSlice::default() })
    }

    /// Returns the task that this family waits for and that only the shard's writer can do.
    fn writer_task(&self) -> WriterTask {
        WriterTask::Nothing
    }

    /// Receives the newest record of every lane, after [`WriterTask::ReportLanes`].
    fn lanes_reported(&mut self, _lanes: &[(LaneId, Sequence)]) {}

    /// Returns `true` if undecodable bytes may contain what [`WriterTask::RotateJournals`] has to remove.
    fn may_contain_erased(&self, _bytes: &[u8]) -> bool {
        false
    }

    /// Called after [`WriterTask::RotateJournals`].
    fn journals_renewed(
        &mut self,
        _connection: &mut Connection,
        _renewed: Renewed,
    ) -> Result<(), ShardError> {
        Ok(())
    }

    /// Called after [`WriterTask::TruncateWal`].
    fn wal_truncated(&mut self, _connection: &mut Connection) -> Result<(), ShardError> {
        Ok(())
    }
}

/// One slice of the deletion of a tenant's rows in a sealed partition.
#[derive(Clone, Copy, Debug)]
pub struct TenantSlice<'s> {
    pub tenant_id: &'s str,
    pub partition: &'s str,
    /// Some of the tenant's remaining rows in the partition, in ascending order. A row that does not exist counts as handled.
    pub ids: &'s [i64],
    /// All partitions of the stream.
    pub partitions: &'s [PartitionInfo],
    /// The monotonic time at which the slice ends.
    pub until_us: u64,
}

/// The result of [`WriterTask::RotateJournals`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// Journals that began a new segment, and the bytes that this freed.
    pub journals: u64,
    pub bytes: u64,
    /// Quarantined segments that were deleted.
    pub quarantined: u64,
}

/// Stores one family's records in one transaction.
pub trait BatchWriter<'t> {
    /// Stores consecutive records and pushes the outcome of each, or `None` for an invalid one.
    fn write(
        &mut self,
        batch: &mut Batch<'t>,
        run: &[Record<'t>],
        outcomes: &mut Vec<Option<Outcome>>,
    ) -> Result<(), ShardError>;

    /// Writes accumulated changes, after the last record and before COMMIT.
    fn finish(self: Box<Self>, _batch: &mut Batch<'t>) -> Result<(), ShardError> {
        Ok(())
    }
}

/// A function that stores one record. The indirect call per record is acceptable for records that take microseconds.
pub type WriteRecord = for<'t> fn(&mut Batch<'t>, &Record<'t>) -> Result<Option<Outcome>, ShardError>;

/// A [`BatchWriter`] that processes records one at a time.
pub struct EachRecord(pub WriteRecord);

impl<'t> BatchWriter<'t> for EachRecord {
    fn write(
        &mut self,
        batch: &mut Batch<'t>,
        run: &[Record<'t>],
        outcomes: &mut Vec<Option<Outcome>>,
    ) -> Result<(), ShardError> {
        for record in run {
            outcomes.push((self.0)(batch, record)?);
        }
        Ok(())
    }
}

/// The [`Store`] of a family that keeps nothing in memory.
#[derive(Debug)]
pub struct Stateless(pub WriteRecord);

impl Store for Stateless {
    fn begin<'t>(
        &'t mut self,
        _batch: &mut Batch<'t>,
        _runs: &[&[Record<'t>]],
    ) -> Result<Box<dyn BatchWriter<'t> + 't>, ShardError> {
        Ok(Box::new(EachRecord(self.0)))
    }
}

/// The state that the writers of one batch share.
pub struct Batch<'t> {
    /// The connection, within the batch's transaction.
    pub connection: &'t Connection,
    pub keys: &'t KeyHasher,
    pub options: &'t ShardOptions,
    pub tenants: &'t mut super::names::TenantNumbers,
    pub applied: Applied,
    /// Whether any person is suppressed. `None` until the first query.
    pub(super) suppresses: Option<bool>,
    pub(super) changes: Vec<StreamChange<'t>>,
}

impl<'t> Batch<'t> {
    /// Returns a stream's changes: its open partition and those before it.
    ///
    /// # Panics
    /// Panics if no family of the shard has the stream.
    pub fn stream(&mut self, stream: &'static Stream) -> &mut StreamChange<'t> {
        let found = self.changes.iter_mut().find(|change| change.stream() == stream);
        found.unwrap_or_else(|| unreachable!("the shard has no stream {}", stream.name))
    }

    /// Counts stored rows.
    #[inline]
    pub fn count(&mut self, stream: &'static Stream, rows: u64) {
        self.applied.stored[stream.place] += rows;
    }

    /// Raises the newest acceptance time to `received_us`.
    #[inline]
    pub fn received(&mut self, received_us: Option<i64>) {
        self.applied.received_us_max = self.applied.received_us_max.max(received_us);
    }

    /// Counts the outcome of a record that has an id.
    pub fn count_known(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Duplicate | Outcome::Repeated => self.applied.duplicates += 1,
            Outcome::Conflict => {
                self.applied.duplicates += 1;
                self.applied.conflicts += 1;
            }
            _ => {}
        }
    }

    /// Returns `true` if any person is suppressed ([`super::suppressed`]).
    pub fn suppresses_anyone(&mut self) -> Result<bool, ShardError> {
        match self.suppresses {
            Some(known) => Ok(known),
            None => {
                let found = super::suppressed::any_person(self.connection)?;
                self.suppresses = Some(found);
                Ok(found)
            }
        }
    }

    /// Notes that a person is suppressed from this record on.
    pub fn suppress(&mut self) {
        self.suppresses = Some(true);
    }
}

/// The result of one [`Shard::apply`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Stored rows, by the index of their stream.
    pub stored: [u64; STREAMS_MAX],
    /// Records whose id was already stored, including conflicts.
    pub duplicates: u64,
    /// Duplicates with different content.
    pub conflicts: u64,
    /// Records at or below the stored position, which were applied before.
    pub skipped: u64,
    /// Invalid records, stored in `rejected_record`.
    pub rejected: u64,
    /// The newest acceptance time among the rows, in microseconds since 1970.
    pub received_us_max: Option<i64>,
    /// Whether a partition was sealed and the next one opened.
    pub sealed: bool,
    /// New numbered changes, for the clients that follow them.
    pub changes: u64,
    /// Stored records that are not rows of a stream.
    pub other: u64,
    /// Set if there were records of suppressed people, so the journals contain data that the rows do not.
    pub suppressed: bool,
}

impl Applied {
    /// Returns the stored rows of a stream.
    #[must_use]
    pub fn stored(&self, stream: &'static Stream) -> u64 {
        self.stored[stream.place]
    }

    /// Returns the stored rows of all streams.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.stored.iter().sum()
    }
}

/// The closed list of families of a data folder.
#[derive(Clone, Copy)]
pub struct Families {
    /// The families, in the order in which they are migrated, opened and carried.
    pub list: &'static [&'static dyn Family],
    /// The number of families whose rows are carried before the rejected records. An interrupted reshard resumes at a
    /// record number, so this value never changes.
    pub rejected_behind: usize,
    /// The description of each schema version in the table `migration`, starting with version 1.
    pub versions: &'static [&'static str],
}

impl Debug for Families {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.list.iter().map(|family| family.kinds())).finish()
    }
}

impl Families {
    /// Returns a kind's row by its number, and the index of its family. Returns `None` for a number that a newer
    /// program wrote.
    #[inline]
    #[must_use]
    pub fn find(&self, number: u8) -> Option<(usize, &'static KindRow)> {
        self.list.iter().enumerate().find_map(|(place, family)| {
            let row = family.kinds().iter().find(|row| row.kind.number() == number)?;
            Some((place, row))
        })
    }

    /// Returns a kind's row by its number.
    #[must_use]
    pub fn kind(&self, number: u8) -> Option<&'static KindRow> {
        self.find(number).map(|(_, row)| row)
    }

    /// Returns every kind, in the order of the families.
    pub fn kinds(&self) -> impl Iterator<Item = &'static KindRow> {
        self.list.iter().flat_map(|family| family.kinds())
    }

    /// Returns every stream, in the order of the families.
    pub fn streams(&self) -> impl Iterator<Item = &'static Stream> {
        self.list.iter().flat_map(|family| family.streams().iter().copied())
    }

    /// Returns the index of the family that has a stream.
    pub(super) fn family_of(&self, stream: &'static Stream) -> usize {
        let has_it = |family: &&dyn Family| family.streams().contains(&stream);
        self.list.iter().position(has_it).unwrap_or(usize::MAX)
    }

    /// Returns every ledger, in the order of the families.
    pub fn ledgers(&self) -> impl Iterator<Item = &'static Ledger> {
        self.list.iter().flat_map(|family| family.ledgers().iter().copied())
    }

    /// Returns the index and the name of everything that retention may drop.
    pub fn kept_kinds(&self) -> impl Iterator<Item = (usize, &'static str)> {
        let ledgers = self.ledgers().map(|ledger| (ledger.place, ledger.name));
        self.streams().map(|stream| (stream.place, stream.name)).chain(ledgers)
    }

    /// Returns the index of the family that has a ledger.
    pub(super) fn family_of_ledger(&self, ledger: &'static Ledger) -> usize {
        let has_it = |family: &&dyn Family| family.ledgers().contains(&ledger);
        self.list.iter().position(has_it).unwrap_or(usize::MAX)
    }

    /// Returns `true` if a record increases the count of rows and rejected records in the shard that receives it.
    /// Every rejected record increases it, even if the rows of its kind do not.
    #[must_use]
    pub fn counts(&self, carried: &Carried) -> bool {
        match carried {
            Carried::Row(kind, _) => self.kind(kind.number()).is_some_and(|row| row.is_counted),
            Carried::Rejected(..) => true,
        }
    }

    /// Returns the key that selects the shard of a valid record.
    #[must_use]
    pub fn key_of(&self, keys: &KeyHasher, kind: Kind, payload: &[u8]) -> Option<KeyHash> {
        let (family, _) = self.find(kind.number())?;
        self.list[family].key_of(keys, kind, payload)
    }
}

/// The kinds of all families by number, with the index of the family.
pub(super) struct KindTable([Option<(u8, &'static KindRow)>; 256]);

impl KindTable {
    pub(super) fn new(families: &Families) -> KindTable {
        let mut table = [None; 256];
        for (number, slot) in (0..=u8::MAX).zip(&mut table) {
            *slot = families.find(number).map(|(family, row)| (family as u8, row));
        }
        KindTable(table)
    }

    #[inline]
    pub(super) fn find(&self, number: u8) -> Option<(u8, &'static KindRow)> {
        self.0[usize::from(number)]
    }
}
