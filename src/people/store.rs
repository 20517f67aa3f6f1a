//! Stores erasure records, and runs the erasure slice by slice.

use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::active::ActiveErasure;
use super::place::Erase;
use super::places;
use super::record::{ErasureRecord, Subject};
use super::report::ErasureReport;
use super::steps::WAITING;
use super::waiting::{WaitPauses, Waiting};
use crate::base::clock;
use crate::base::ids::{LaneId, Sequence};
use crate::shard::{
    Batch, BatchWriter, BuiltIndex, EachRecord, Outcome, Record, Renewed, Shard, ShardError, ShardOptions,
    Stage, Store, WriterTask, suppressed, unfinished_erasures,
};

/// The maximum number of finished erasures that remain stored. Their reports contain no personal data.
const FINISHED_MAX: i64 = 10_000;

/// The state of a shard's erasures.
#[derive(Debug)]
pub struct PeopleStore {
    /// Set if there may be an unfinished erasure.
    is_due: bool,
    /// Set if the current batch contains an erasure record.
    is_staged: bool,
    active: Option<Box<ActiveErasure>>,
    waiting: Waiting,
}

impl PeopleStore {
    pub(super) fn open(connection: &Connection, options: &ShardOptions) -> Result<PeopleStore, ShardError> {
        let is_due = unfinished_erasures(connection)? > 0;
        let waiting = Waiting::open(connection, options)?;
        Ok(PeopleStore { is_due, is_staged: false, active: None, waiting })
    }

    /// Sets how long erasures wait for sinks between their steps.
    pub fn set_pauses(&mut self, pauses: WaitPauses) {
        self.waiting.pauses = pauses;
    }

    fn is_slice_due(&self, shard: &Shard) -> bool {
        let Some(erasing) = &self.active else { return self.is_due || self.waiting.is_due() };
        match places::of_step(&erasing.step).map(|place| &place.erase) {
            Some(Erase::Slices(..)) => true,
            Some(_) => false,
            None => {
                let is_there = |(lane, upto): &(LaneId, Sequence)| shard.position(*lane) >= *upto;
                erasing.lanes.as_ref().is_some_and(|lanes| lanes.iter().all(is_there))
            }
        }
    }

    /// Loads the next erasure, in the state of its last transaction. Erasures that no longer wait for a sink come
    /// first.
    fn load(&mut self, connection: &mut Connection) -> Result<(), ShardError> {
        if self.waiting.is_due() {
            self.waiting.look(connection)?;
        }
        self.active = ActiveErasure::load(connection)?.map(Box::new);
        self.is_due = self.active.is_some();
        let Some(erasing) = &self.active else { return Ok(()) };
        let is_known = erasing.step == WAITING || places::of_step(&erasing.step).is_some();
        if !is_known || erasing.has_forgotten() && places::knows_subject(&erasing.step) {
            return Err(ShardError::Corrupt("an erasure cannot be read".to_owned()));
        }
        Ok(())
    }

    /// Runs one slice of about `budget`.
    fn erase_slice(&mut self, shard: &mut Shard, budget: Duration) -> Result<(), ShardError> {
        let until_us = clock::monotonic_us() + budget.as_micros() as u64 / 2;
        let Some(mut erasing) = self.active.take() else { return self.load(shard.connection()) };
        // Stops running index builds. Deleted rows that a build has already read or counted would otherwise reappear
        // in its index.
        shard.stop_building();
        let is_done = match places::of_step(&erasing.step).map(|place| &place.erase) {
            Some(Erase::Slices(_, slice)) => slice(shard, &mut erasing, until_us)?,
            Some(_) => false,
            // The journals have been read.
            None => true,
        };
        if is_done {
            let transaction = shard.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
            advance(&mut erasing, &transaction)?;
            transaction.commit()?;
        }
        // This line is not reached after an error. The erasure is then loaded again, in the state of the last
        // transaction.
        self.active = Some(erasing);
        Ok(())
    }
}

fn advance(erasing: &mut ActiveErasure, transaction: &Transaction<'_>) -> Result<(), ShardError> {
    let next = places::next_step(&erasing.step, erasing.is_user());
    let is_first = erasing.step == WAITING;
    erasing.advance(transaction, is_first, next)
}

impl Store for PeopleStore {
    fn begin<'t>(
        &'t mut self,
        _batch: &mut Batch<'t>,
        _runs: &[&[Record<'t>]],
    ) -> Result<Box<dyn BatchWriter<'t> + 't>, ShardError> {
        self.is_staged = true;
        Ok(Box::new(EachRecord(write)))
    }

    fn committed(&mut self) {
        self.is_due |= std::mem::take(&mut self.is_staged);
    }

    fn rolled_back(&mut self) {
        self.is_staged = false;
    }

    fn upkeep_due(&self, stage: Stage, shard: &Shard) -> bool {
        stage == Stage::Erase && self.is_slice_due(shard)
    }

    fn upkeep(
        &mut self,
        _stage: Stage,
        shard: &mut Shard,
        budget: Duration,
    ) -> Result<Option<BuiltIndex>, ShardError> {
        self.erase_slice(shard, budget)?;
        Ok(None)
    }

    fn writer_task(&self) -> WriterTask {
        let Some(erasing) = &self.active else { return WriterTask::Nothing };
        match places::of_step(&erasing.step).map(|place| &place.erase) {
            Some(Erase::Writer(_, task)) => *task,
            None if erasing.lanes.is_none() => WriterTask::ReportLanes,
            _ => WriterTask::Nothing,
        }
    }

    /// Sets the positions to wait for. All records up to them are applied before the search for rows starts.
    fn lanes_reported(&mut self, lanes: &[(LaneId, Sequence)]) {
        if let Some(erasing) = &mut self.active {
            erasing.lanes = Some(lanes.to_vec());
        }
    }

    fn may_contain_erased(&self, bytes: &[u8]) -> bool {
        self.active.as_ref().is_some_and(|erasing| !erasing.who_may(bytes).is_empty())
    }

    /// Ends the part of the erasure that requires its subjects. They are deleted once the sinks have the erasure.
    fn journals_renewed(&mut self, connection: &mut Connection, renewed: Renewed) -> Result<(), ShardError> {
        let Some(mut erasing) = self.active.take() else { return Ok(()) };
        erasing.count_all(|report| {
            report.journals = renewed.journals;
            report.journal_bytes = renewed.bytes;
            report.quarantined_segments = renewed.quarantined;
        });
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        advance(&mut erasing, &transaction)?;
        transaction.commit()?;
        self.waiting.begin(false);
        self.is_due = true;
        Ok(())
    }

    /// Finishes the erasures of people whom no file contains any more. The others are done except for the sinks.
    fn wal_truncated(&mut self, connection: &mut Connection) -> Result<(), ShardError> {
        let Some(erasing) = self.active.take() else { return Ok(()) };
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let does_wait = erasing.finish(&transaction, clock::unix_us(), FINISHED_MAX)?;
        transaction.commit()?;
        if does_wait {
            self.waiting.begin(true);
        }
        self.is_due = true;
        Ok(())
    }
}

/// Stores one record of this family.
fn write(batch: &mut Batch<'_>, record: &Record<'_>) -> Result<Option<Outcome>, ShardError> {
    // The suppression applies from this record on.
    batch.suppress();
    let Some(erasure) = ErasureRecord::decode(record.payload) else { return Ok(None) };
    store(batch, record.payload, erasure)?;
    Ok(Some(Outcome::Inserted))
}

fn store(batch: &Batch<'_>, payload: &[u8], record: ErasureRecord) -> Result<(), ShardError> {
    let connection = batch.connection;
    match record {
        ErasureRecord::Suppress {
            mode,
            subject: Subject::Customer { tenant_id, customer_id, token, .. },
        } => {
            let key = suppressed::bytes(batch.keys.hash(&tenant_id, &customer_id));
            suppressed::add(connection, key, mode, &token)?;
        }
        // The collector's events have no ids, so later events cannot be recognised.
        ErasureRecord::Suppress { subject: Subject::User { .. }, .. } => {}
        ErasureRecord::Suppression { key, mode, token } => suppressed::add(connection, key, mode, &token)?,
        ErasureRecord::ErasedEvent { key } => suppressed::add_event(connection, key)?,
        ErasureRecord::Erase { id, began_us, mode, subject, names_truncated, removed, batch: together } => {
            let tenant_id = match &subject {
                Subject::Customer { tenant_id, .. } => Some(tenant_id),
                Subject::User { .. } => None,
            };
            let report = serde_json::to_string(&ErasureReport::default()).unwrap_or_default();
            let (uploads, exports) = (removed.uploads as i64, removed.exports as i64);
            connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO erasure (id, tenant_id, mode, began_us, step, place, at, uploads, exports, \
                     names_truncated, subject, report, batch) VALUES (?1, ?2, ?3, ?4, ?5, '', 0, ?6, ?7, ?8, ?9, ?10, ?11)",
                )?
                .execute(params![
                    id, tenant_id, mode.as_str(), began_us, WAITING, uploads, exports, names_truncated, payload, report,
                    together
                ])?;
        }
    }
    Ok(())
}
