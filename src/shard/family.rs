//! What a shard knows of a feature: its record kinds, its streams and tables, and how it stores a batch.
//!
//! A [`Family`] is what is true without a file; a [`Store`] is what one open shard keeps in memory of it; a
//! [`BatchWriter`] lives for one transaction. The closed list of families is handed in where a shard is opened. A
//! call through one of these traits serves a run of records of one family, not a record.

use std::any::Any;
use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::carried::Carried;
use super::error::ShardError;
use super::file::Shard;
use super::options::ShardOptions;
use super::outcome::Outcome;
use super::partitions::PartitionInfo;
use super::stages::{BuiltIndex, Stage, WriterTask};
use super::stream::{STREAMS_MAX, Stream};
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

/// One feature's share of every shard.
pub trait Family: Sync {
    /// The kinds of its records.
    fn kinds(&self) -> &'static [KindRow];

    /// The streams of its rows.
    fn streams(&self) -> &'static [&'static Stream] {
        &[]
    }

    /// The key that names the shard of a good record; `None` where the kind has no key, or the payload is no such
    /// record.
    fn key_of(&self, keys: &KeyHasher, kind: Kind, payload: &[u8]) -> Option<KeyHash>;

    /// Its part of the migration to a schema version, in the migration's transaction. What was released is not edited.
    fn migrate(&self, connection: &Connection, version: u32) -> Result<(), ShardError>;

    /// What it keeps in memory of an open shard.
    fn open(&self, opening: Opening<'_>) -> Result<Box<dyn Store>, ShardError>;

    /// Every row as the record it came from, in a fixed order.
    fn carry(
        &self,
        connection: &Connection,
        take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
    ) -> Result<(), ShardError>;

    /// Forgets in a copy of a shard what came since then and speaks of rows in other shards: their copies may be of an
    /// earlier moment.
    fn forget_since(&self, _copy: &Connection, _began_us: i64) -> Result<(), ShardError> {
        Ok(())
    }

    /// What it can check of its tables without sorting the rows.
    fn verify(&self, _connection: &Connection, _problems: &mut Vec<String>) -> Result<(), ShardError> {
        Ok(())
    }

    /// Its derived tables against a recount of the rows, and that no id is there twice. Returns the rows it recounted.
    fn verify_aggregates(
        &self,
        _connection: &Connection,
        _problems: &mut Vec<String>,
    ) -> Result<u64, ShardError> {
        Ok(0)
    }
}

/// What a family opens its store from.
pub struct Opening<'o> {
    pub connection: &'o mut Connection,
    pub keys: &'o KeyHasher,
    pub options: &'o ShardOptions,
    pub streams: &'o mut Streams,
}

/// What the rows of a partition leave behind in derived tables, counted before the partition is dropped.
pub type CountLeaving = fn(&Path, &str) -> Result<Box<dyn Any + Send>, ShardError>;

/// One family's part of an open shard.
pub trait Store: Any + Debug + Send {
    /// Prepares for the records of one batch, which come in runs; in the batch's transaction. Called only for a batch
    /// that has some.
    fn begin<'t>(
        &'t mut self,
        batch: &mut Batch<'t>,
        runs: &[&[Record<'t>]],
    ) -> Result<Box<dyn BatchWriter<'t> + 't>, ShardError>;

    /// A transaction that changed its tables is committed.
    fn committed(&mut self) {}

    /// Such a transaction was rolled back: what it staged in memory is forgotten.
    fn rolled_back(&mut self) {}

    /// A partition of one of its streams was sealed.
    fn sealed(&mut self) {}

    /// Bytes that grow with the rows.
    fn memory_bytes(&self) -> usize {
        0
    }

    /// Whether [`Store::upkeep`] has something to do in this stage.
    fn upkeep_due(&self, _stage: Stage, _shard: &Shard) -> bool {
        false
    }

    /// One slice of a stage, about `budget` long, in transactions of its own.
    fn upkeep(
        &mut self,
        _stage: Stage,
        _shard: &mut Shard,
        _budget: Duration,
    ) -> Result<Option<BuiltIndex>, ShardError> {
        Ok(None)
    }

    /// Forgets what was read of rows for an index in the making: rows are about to be erased.
    fn stop_building(&mut self) {}

    /// How to count what leaves with a partition; `None` where rows are all there is.
    fn count_leaving(&self, _stream: &'static Stream) -> Option<CountLeaving> {
        None
    }

    /// Takes what was counted out of its tables, in the transaction in which a partition is dropped; `others` stay.
    fn leave(
        &mut self,
        _transaction: &Connection,
        _counted: Box<dyn Any + Send>,
        _others: &[PartitionInfo],
    ) -> Result<(), ShardError> {
        Ok(())
    }

    /// What it waits for that only the shard's writer can do.
    fn writer_task(&self) -> WriterTask {
        WriterTask::Nothing
    }

    /// After [`WriterTask::ReportLanes`]: the newest record of every lane.
    fn lanes_are(&mut self, _lanes: &[(LaneId, Sequence)]) {}

    /// Whether bytes that cannot be taken apart may be what [`WriterTask::RenewJournals`] is about.
    fn may_concern(&self, _bytes: &[u8]) -> bool {
        false
    }

    /// After [`WriterTask::RenewJournals`].
    fn journals_renewed(
        &mut self,
        _connection: &mut Connection,
        _renewed: Renewed,
    ) -> Result<(), ShardError> {
        Ok(())
    }

    /// After [`WriterTask::CutWal`].
    fn wal_cut(&mut self, _connection: &mut Connection) -> Result<(), ShardError> {
        Ok(())
    }
}

/// What the writer did for [`WriterTask::RenewJournals`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// Journals that were begun again, and the bytes that this freed.
    pub journals: u64,
    pub bytes: u64,
    /// Quarantined segments that were deleted.
    pub quarantined: u64,
}

/// Stores the records of one family in one transaction.
pub trait BatchWriter<'t> {
    /// Stores records that follow each other, and pushes the outcome of each; `None` for one that is no row.
    fn write(
        &mut self,
        batch: &mut Batch<'t>,
        run: &[Record<'t>],
        outcomes: &mut Vec<Option<Outcome>>,
    ) -> Result<(), ShardError>;

    /// After the last record, before COMMIT: writes what was added up.
    fn finish(self: Box<Self>, _batch: &mut Batch<'t>) -> Result<(), ShardError> {
        Ok(())
    }
}

/// Decides one record. A call through this pointer is for records that cost microseconds.
pub type WriteRecord = for<'t> fn(&mut Batch<'t>, &Record<'t>) -> Result<Option<Outcome>, ShardError>;

/// A [`BatchWriter`] that decides one record after the other.
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

/// What the writers of one batch share.
pub struct Batch<'t> {
    /// Within the batch's transaction.
    pub connection: &'t Connection,
    pub keys: &'t KeyHasher,
    pub options: &'t ShardOptions,
    pub tenants: &'t mut super::names::TenantNumbers,
    pub applied: Applied,
    /// Whether anybody is kept out; known once it was asked.
    pub(super) keeps_out: Option<bool>,
    pub(super) changes: Vec<StreamChange<'t>>,
}

impl<'t> Batch<'t> {
    /// The open partition of a stream, and those before it.
    ///
    /// # Panics
    /// The stream is of no family of the shard.
    pub fn stream(&mut self, stream: &'static Stream) -> &mut StreamChange<'t> {
        let found = self.changes.iter_mut().find(|change| change.stream() == stream);
        found.unwrap_or_else(|| unreachable!("the shard has no stream {}", stream.name))
    }

    /// Counts stored rows.
    #[inline]
    pub fn count(&mut self, stream: &'static Stream, rows: u64) {
        self.applied.stored[stream.place] += rows;
    }

    /// Records were accepted then, or earlier.
    #[inline]
    pub fn received(&mut self, received_us: Option<i64>) {
        self.applied.received_us_max = self.applied.received_us_max.max(received_us);
    }

    /// Counts the outcome of a record with an id of its own.
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

    /// Whether anybody is kept out ([`super::kept_out`]).
    pub fn keeps_out_anybody(&mut self) -> Result<bool, ShardError> {
        match self.keeps_out {
            Some(known) => Ok(known),
            None => {
                let found = super::kept_out::is_anybody(self.connection)?;
                self.keeps_out = Some(found);
                Ok(found)
            }
        }
    }

    /// From this record on somebody is kept out.
    pub fn keep_out(&mut self) {
        self.keeps_out = Some(true);
    }
}

/// What one [`Shard::apply`] committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Rows stored, by the place of their stream.
    pub stored: [u64; STREAMS_MAX],
    /// Records whose id was there already, conflicts included.
    pub duplicates: u64,
    /// Those of them that had other content.
    pub conflicts: u64,
    /// Records at or below the stored position: they were applied before.
    pub skipped: u64,
    /// Records kept in `rejected_record` because they are no rows.
    pub rejected: u64,
    /// The newest acceptance time among the rows; microseconds since 1970.
    pub received_us_max: Option<i64>,
    /// Whether a partition was sealed and the next one opened.
    pub sealed: bool,
    /// Numbered changes that became known, for those who follow them.
    pub changes: u64,
    /// Records that were stored and are no row of a stream.
    pub other: u64,
    /// Records came of people who are kept out: the journals have what the rows have not.
    pub kept_out: bool,
}

impl Applied {
    /// Rows stored of a stream.
    #[must_use]
    pub fn stored(&self, stream: &'static Stream) -> u64 {
        self.stored[stream.place]
    }

    /// Rows stored of all streams.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.stored.iter().sum()
    }
}

/// The closed list of families of a data folder.
#[derive(Clone, Copy)]
pub struct Families {
    /// In the order in which they migrate, open and are carried.
    pub list: &'static [&'static dyn Family],
    /// The number of families before the rejected records in what is carried. An interrupted reshard resumes at the
    /// number of a record, so this place never changes.
    pub rejected_behind: usize,
    /// What each schema version brought, as the table `migration` says it; the first is version 1.
    pub versions: &'static [&'static str],
}

impl Debug for Families {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.list.iter().map(|family| family.kinds())).finish()
    }
}

impl Families {
    /// The row of a kind by its number, and the place of its family; `None` for a number that a newer program wrote.
    #[inline]
    #[must_use]
    pub fn find(&self, number: u8) -> Option<(usize, &'static KindRow)> {
        self.list.iter().enumerate().find_map(|(place, family)| {
            let row = family.kinds().iter().find(|row| row.kind.number() == number)?;
            Some((place, row))
        })
    }

    /// The row of a kind by its number.
    #[must_use]
    pub fn kind(&self, number: u8) -> Option<&'static KindRow> {
        self.find(number).map(|(_, row)| row)
    }

    /// Every kind, in order of the families.
    pub fn kinds(&self) -> impl Iterator<Item = &'static KindRow> {
        self.list.iter().flat_map(|family| family.kinds())
    }

    /// Every stream, in order of the families.
    pub fn streams(&self) -> impl Iterator<Item = &'static Stream> {
        self.list.iter().flat_map(|family| family.streams().iter().copied())
    }

    /// The place of the family that has a stream.
    pub(super) fn family_of(&self, stream: &'static Stream) -> usize {
        let has_it = |family: &&dyn Family| family.streams().contains(&stream);
        self.list.iter().position(has_it).unwrap_or(usize::MAX)
    }

    /// Whether a record adds one to the counts of the shard that takes it: rows of streams and rejected records
    /// together. Every rejected record does, also of a kind whose rows do not.
    #[must_use]
    pub fn counts(&self, carried: &Carried) -> bool {
        match carried {
            Carried::Row(kind, _) => self.kind(kind.number()).is_some_and(|row| row.is_counted),
            Carried::Rejected(..) => true,
        }
    }

    /// The key that names the shard of a good record.
    #[must_use]
    pub fn key_of(&self, keys: &KeyHasher, kind: Kind, payload: &[u8]) -> Option<KeyHash> {
        let (family, _) = self.find(kind.number())?;
        self.list[family].key_of(keys, kind, payload)
    }
}

/// The kinds of all families by number, with the place of the family.
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
