//! Stores erasure records, and runs the erasure slice by slice.

use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};

use super::active::{ActiveErasure, ErasurePhase};
use super::matcher::PersonMatcher;
use super::record::{ErasureRecord, Subject};
use super::report::ErasureReport;
use super::rows::{
    erase_answers, erase_clicks, erase_customers, erase_events, erase_orders, erase_rejected, merge_words,
};
use crate::base::clock;
use crate::base::ids::{LaneId, Sequence};
use crate::shard::{
    Batch, BatchWriter, BuiltIndex, EachRecord, Outcome, Record, Renewed, Scrub, Shard, ShardError, Stage,
    Store, WriterTask, suppressed, unfinished_erasures,
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
}

impl PeopleStore {
    pub(super) fn open(connection: &Connection) -> Result<PeopleStore, ShardError> {
        Ok(PeopleStore { is_due: unfinished_erasures(connection)? > 0, is_staged: false, active: None })
    }

    fn is_slice_due(&self, shard: &Shard) -> bool {
        match &self.active {
            None => self.is_due,
            Some(erasing) => match erasing.step {
                ErasurePhase::Waiting => {
                    let is_there = |(lane, upto): &(LaneId, Sequence)| shard.position(*lane) >= *upto;
                    erasing.lanes.as_ref().is_some_and(|lanes| lanes.iter().all(is_there))
                }
                ErasurePhase::Journals | ErasurePhase::Wal => false,
                _ => true,
            },
        }
    }

    /// Runs one slice of about `budget`.
    fn erase_slice(&mut self, shard: &mut Shard, budget: Duration) -> Result<(), ShardError> {
        let until_us = clock::monotonic_us() + budget.as_micros() as u64 / 2;
        let Some(mut erasing) = self.active.take() else {
            self.active = ActiveErasure::load(shard.connection())?.map(Box::new);
            self.is_due = self.active.is_some();
            return Ok(());
        };
        // Stops running index builds. Deleted rows that a build has already read or counted would otherwise reappear
        // in its index.
        shard.stop_building();
        let is_done = match erasing.step {
            ErasurePhase::Waiting => true,
            ErasurePhase::Orders => erase_orders(shard, &mut erasing, until_us)?,
            ErasurePhase::Customers => erase_customers(shard, &mut erasing, until_us)?,
            ErasurePhase::Words => merge_words(shard, &mut erasing)?,
            ErasurePhase::Events => erase_events(shard, &mut erasing, until_us)?,
            ErasurePhase::Clicks => erase_clicks(shard, &mut erasing, until_us)?,
            ErasurePhase::Rejected => erase_rejected(shard, &mut erasing, until_us)?,
            ErasurePhase::Answers => erase_answers(shard, &mut erasing, until_us)?,
            // Rows that retention has removed from the views are still in their tables, which are freed first.
            ErasurePhase::Pages if shard.free_dropped(budget)? => false,
            ErasurePhase::Pages => {
                let transaction =
                    shard.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
                let scrub = erasing.scrub.get_or_insert_with(|| Scrub::at((&erasing.place, erasing.at)));
                let (pages, is_done) = scrub.slice(&transaction, until_us)?;
                let (direction, next) = scrub.place();
                (erasing.place, erasing.at) = (direction.to_owned(), next);
                erasing.report.pages += pages;
                erasing.save(&transaction)?;
                transaction.commit()?;
                is_done
            }
            ErasurePhase::Journals | ErasurePhase::Wal => false,
        };
        if is_done {
            erasing.advance();
            let transaction = shard.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
            erasing.save(&transaction)?;
            transaction.commit()?;
        }
        // This line is not reached after an error. The erasure is then loaded again, in the state of the last
        // transaction.
        self.active = Some(erasing);
        Ok(())
    }
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
        match &self.active {
            Some(erasing) if erasing.step == ErasurePhase::Waiting && erasing.lanes.is_none() => {
                WriterTask::ReportLanes
            }
            Some(erasing) if erasing.step == ErasurePhase::Journals => WriterTask::RotateJournals,
            Some(erasing) if erasing.step == ErasurePhase::Wal => WriterTask::TruncateWal,
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
        self.active.as_ref().is_some_and(|erasing| erasing.may_match(bytes))
    }

    /// Deletes the subject. From then on, only unused bytes may still identify the person.
    fn journals_renewed(&mut self, connection: &mut Connection, renewed: Renewed) -> Result<(), ShardError> {
        let Some(mut erasing) = self.active.take() else { return Ok(()) };
        erasing.report.journals = renewed.journals;
        erasing.report.journal_bytes = renewed.bytes;
        erasing.report.quarantined_segments = renewed.quarantined;
        erasing.advance();
        (erasing.subject, erasing.matcher) = (None, PersonMatcher::default());
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        erasing.save(&transaction)?;
        transaction.execute("UPDATE erasure SET subject = NULL WHERE number = ?1", [erasing.number])?;
        transaction.commit()?;
        self.active = Some(erasing);
        Ok(())
    }

    /// Finishes the erasure. No file contains the person's data any more.
    fn wal_truncated(&mut self, connection: &mut Connection) -> Result<(), ShardError> {
        let Some(erasing) = self.active.take() else { return Ok(()) };
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute(
            "UPDATE erasure SET step = 'finished', finished_us = ?2, place = '', at = 0 WHERE number = ?1",
            params![erasing.number, clock::unix_us()],
        )?;
        transaction.execute(
            "DELETE FROM erasure WHERE finished_us IS NOT NULL AND number <= ?1",
            [erasing.number - FINISHED_MAX],
        )?;
        transaction.commit()?;
        self.is_due = unfinished_erasures(connection)? > 0;
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
        ErasureRecord::Erase { id, began_us, mode, subject, names_truncated, removed } => {
            let tenant_id = match &subject {
                Subject::Customer { tenant_id, .. } => Some(tenant_id),
                Subject::User { .. } => None,
            };
            let report = serde_json::to_string(&ErasureReport::default()).unwrap_or_default();
            let (uploads, exports) = (removed.uploads as i64, removed.exports as i64);
            connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO erasure (id, tenant_id, mode, began_us, step, place, at, uploads, exports, \
                     names_truncated, subject, report) VALUES (?1, ?2, ?3, ?4, 'waiting', '', 0, ?5, ?6, ?7, ?8, ?9)",
                )?
                .execute(params![id, tenant_id, mode.as_str(), began_us, uploads, exports, names_truncated, payload, report])?;
        }
    }
    Ok(())
}
