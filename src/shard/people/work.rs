//! An erasure under way: which step it is at, and one slice after the other until it is finished.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::super::error::ShardError;
use super::super::file::Shard;
use super::needles::{self, Needles};
use super::record::{ErasureMode, ErasureRecord, Subject};
use super::report::{self, ErasureReport};
use super::scrub::Scrub;
use crate::base::clock;
use crate::base::ids::{LaneId, Sequence};

/// Finished erasures that are remembered; their reports hold nothing of anybody.
const FINISHED_MAX: i64 = 10_000;

/// What is done, in this order. Who it is has to be known up to the journals, and is written down until then; what is
/// left of that is overwritten with everything else that is unused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// For the records that the journals held when it began.
    Waiting,
    Orders,
    Customers,
    /// The index of words is merged until no segment has a deleted entry.
    Words,
    Events,
    Clicks,
    Rejected,
    Answers,
    /// The writer's part: they are begun anew, and what of them is quarantined is looked through.
    Journals,
    /// The unused bytes of every page.
    Pages,
    /// The writer cuts it: it has pages as they were before that.
    Wal,
}

impl Step {
    const ALL: [Step; 11] = [
        Step::Waiting,
        Step::Orders,
        Step::Customers,
        Step::Words,
        Step::Events,
        Step::Clicks,
        Step::Rejected,
        Step::Answers,
        Step::Journals,
        Step::Pages,
        Step::Wal,
    ];

    fn name(self) -> &'static str {
        match self {
            Step::Waiting => "waiting",
            Step::Orders => "orders",
            Step::Customers => "customers",
            Step::Words => "words",
            Step::Events => "events",
            Step::Clicks => "clicks",
            Step::Rejected => "rejected",
            Step::Answers => "answers",
            Step::Journals => "journals",
            Step::Pages => "pages",
            Step::Wal => "wal",
        }
    }

    /// The next one of the same subject.
    fn next(self, is_user: bool) -> Step {
        match self {
            Step::Waiting if is_user => Step::Clicks,
            Step::Events => Step::Rejected,
            Step::Rejected if is_user => Step::Journals,
            _ => {
                let at = Step::ALL.iter().position(|step| *step == self).unwrap_or_default();
                Step::ALL.get(at + 1).copied().unwrap_or(Step::Wal)
            }
        }
    }
}

/// The erasure that is being worked on.
#[derive(Debug)]
pub(in crate::shard) struct Erasing {
    pub(super) number: i64,
    pub(super) mode: ErasureMode,
    /// `None` once it is known no more.
    pub(super) subject: Option<Subject>,
    pub(super) needles: Needles,
    pub(super) step: Step,
    pub(super) place: String,
    pub(super) at: i64,
    pub(super) report: ErasureReport,
    /// Where the lanes must have come to.
    lanes: Option<Vec<(LaneId, Sequence)>>,
    /// Orders of `place` that are to be changed.
    pub(super) orders: Option<Vec<i64>>,
    /// The level of the index of words that is being merged, once that was begun.
    pub(super) merging: Option<usize>,
    /// With what it knows of the file.
    scrub: Option<Scrub>,
}

/// What a shard has to erase.
#[derive(Debug, Default)]
pub(in crate::shard) struct Erasures {
    /// There may be one that is not finished.
    is_due: bool,
    active: Option<Box<Erasing>>,
}

impl Erasures {
    pub(in crate::shard) fn load(connection: &Connection) -> Result<Erasures, ShardError> {
        Ok(Erasures { is_due: report::erasures_under_way(connection)? > 0, active: None })
    }

    /// A record came.
    pub(in crate::shard) fn look(&mut self) {
        self.is_due = true;
    }
}

/// What the writer is to do for an erasure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErasureWants {
    Nothing,
    /// To say how far the journals are.
    Lanes,
    /// To begin the journals anew and look through what is quarantined, then [`Shard::erasure_journals`].
    Journals,
    /// To cut the WAL, then [`Shard::erasure_finished`].
    Wal,
}

impl Erasing {
    fn load(connection: &Connection) -> Result<Option<Erasing>, ShardError> {
        let sql = "SELECT number, step, place, at, subject, report, mode FROM erasure WHERE finished_us IS NULL \
                   ORDER BY number LIMIT 1";
        let read = |row: &rusqlite::Row<'_>| {
            let of: (i64, String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            Ok((of, row.get::<_, Option<Vec<u8>>>(4)?, row.get::<_, String>(5)?, row.get::<_, String>(6)?))
        };
        let Some(((number, step, place, at), subject, report, mode)) =
            connection.query_row(sql, [], read).optional()?
        else {
            return Ok(None);
        };
        let damaged = || ShardError::Corrupt("an erasure cannot be read".to_owned());
        let subject = match subject.as_deref().map(ErasureRecord::decode) {
            None => None,
            Some(Some(ErasureRecord::Erase { subject, .. })) => Some(subject),
            Some(_) => return Err(damaged()),
        };
        let mode = ErasureMode::parse(&mode).ok_or_else(damaged)?;
        let step = Step::ALL.into_iter().find(|known| known.name() == step).ok_or_else(damaged)?;
        if subject.is_none() && !matches!(step, Step::Pages | Step::Wal) {
            return Err(damaged());
        }
        let needles = match &subject {
            Some(Subject::Customer { customer_id, token, names, emails, .. }) => Needles::new(
                // In erasing, also what stood for the person since an earlier time.
                [Some(customer_id.as_str()), (mode == ErasureMode::Erase).then_some(token.as_str())]
                    .into_iter()
                    .flatten(),
                emails.iter().map(String::as_str),
                names.iter().map(String::as_str),
            ),
            Some(Subject::User { .. }) | None => Needles::default(),
        };
        Ok(Some(Erasing {
            number,
            mode,
            subject,
            needles,
            // What it waited for is not known any more.
            step,
            place,
            at,
            report: report::parse(&report)?,
            lanes: None,
            orders: None,
            merging: None,
            scrub: None,
        }))
    }

    /// Whether bytes that cannot be taken apart may be of the person.
    pub(super) fn may_be_in(&self, bytes: &[u8]) -> bool {
        match self.subject {
            // As a row has it, or as a client wrote it.
            Some(Subject::User { user_id }) => {
                memchr::memmem::find(bytes, &user_id.to_le_bytes()).is_some()
                    || needles::has_number(bytes, user_id)
            }
            Some(Subject::Customer { .. }) | None => self.needles.may_be_in(bytes),
        }
    }

    fn is_user(&self) -> bool {
        matches!(self.subject, Some(Subject::User { .. }))
    }

    /// What was done and where it goes on; in the transaction that did it.
    pub(super) fn save(&self, transaction: &Transaction<'_>) -> Result<(), ShardError> {
        let report =
            serde_json::to_string(&self.report).map_err(|error| ShardError::Other(error.to_string()))?;
        transaction
            .prepare_cached(
                "UPDATE erasure SET step = ?2, place = ?3, at = ?4, report = ?5 WHERE number = ?1",
            )?
            .execute(params![self.number, self.step.name(), self.place, self.at, report])?;
        Ok(())
    }

    /// On to the next step, from its beginning.
    fn advance(&mut self) {
        self.step = self.step.next(self.is_user());
        (self.place, self.at) = (String::new(), 0);
        self.orders = None;
    }
}

impl Shard {
    /// What an erasure waits for that only the writer can do.
    #[must_use]
    pub fn erasure_wants(&self) -> ErasureWants {
        match &self.erasures.active {
            Some(erasing) if erasing.step == Step::Waiting && erasing.lanes.is_none() => ErasureWants::Lanes,
            Some(erasing) if erasing.step == Step::Journals => ErasureWants::Journals,
            Some(erasing) if erasing.step == Step::Wal => ErasureWants::Wal,
            _ => ErasureWants::Nothing,
        }
    }

    /// Whether data of anybody is kept out, so that an old journal may hold some.
    pub fn keeps_out_anybody(&self) -> Result<bool, ShardError> {
        Ok(super::forgotten::is_anybody(&self.connection)?
            || super::forgotten::is_any_event(&self.connection)?)
    }

    /// The journals' newest records: those up to them are applied before anything is looked for.
    pub fn erasure_lanes(&mut self, lanes: Vec<(LaneId, Sequence)>) {
        if let Some(erasing) = &mut self.erasures.active {
            erasing.lanes = Some(lanes);
        }
    }

    /// Whether bytes that cannot be taken apart may be of the person; `None` while nobody is being erased.
    #[must_use]
    pub fn erasure_may_be_in(&self, bytes: &[u8]) -> Option<bool> {
        let erasing = self.erasures.active.as_ref()?;
        Some(erasing.may_be_in(bytes))
    }

    /// Whether [`Shard::erase_slice`] has something to do now.
    pub(in crate::shard) fn erasure_due(&self) -> bool {
        match &self.erasures.active {
            None => self.erasures.is_due,
            Some(erasing) => match erasing.step {
                Step::Waiting => {
                    let is_there = |(lane, upto): &(LaneId, Sequence)| self.position(*lane) >= *upto;
                    erasing.lanes.as_ref().is_some_and(|lanes| lanes.iter().all(is_there))
                }
                Step::Journals | Step::Wal => false,
                _ => true,
            },
        }
    }

    /// One slice, about `budget` long.
    pub(in crate::shard) fn erase_slice(&mut self, budget: Duration) -> Result<(), ShardError> {
        let until_us = clock::monotonic_us() + budget.as_micros() as u64 / 2;
        let Some(mut erasing) = self.erasures.active.take() else {
            self.erasures.active = Erasing::load(&self.connection)?.map(Box::new);
            self.erasures.is_due = self.erasures.active.is_some();
            return Ok(());
        };
        // What was read of rows for building indexes, or counted, would bring them back.
        self.orders.stop_building();
        self.retention.stop_counting();
        let is_done = match erasing.step {
            Step::Waiting => true,
            Step::Orders => self.erase_orders(&mut erasing, until_us)?,
            Step::Customers => self.erase_customers(&mut erasing, until_us)?,
            Step::Words => self.merge_words(&mut erasing)?,
            Step::Events => self.erase_events(&mut erasing, until_us)?,
            Step::Clicks => self.erase_clicks(&mut erasing, until_us)?,
            Step::Rejected => self.erase_rejected(&mut erasing, until_us)?,
            Step::Answers => self.erase_answers(&mut erasing, until_us)?,
            // Rows that retention took out of the views are in their tables still.
            Step::Pages if self.retention.is_freeing() => {
                self.retain(budget)?;
                false
            }
            Step::Pages => {
                let transaction =
                    self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let scrub = erasing.scrub.get_or_insert_with(|| Scrub::at((&erasing.place, erasing.at)));
                let (pages, is_done) = scrub.slice(&transaction, until_us)?;
                let (direction, next) = scrub.place();
                (erasing.place, erasing.at) = (direction.to_owned(), next);
                erasing.report.pages += pages;
                erasing.save(&transaction)?;
                transaction.commit()?;
                is_done
            }
            Step::Journals | Step::Wal => false,
        };
        if is_done {
            erasing.advance();
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            erasing.save(&transaction)?;
            transaction.commit()?;
        }
        // After an error it is loaded again, as of the last transaction.
        self.erasures.active = Some(erasing);
        Ok(())
    }

    /// So many journals were begun anew, which freed so many bytes, and so many quarantined segments went. Nothing
    /// says any more who it was, but for bytes that are unused.
    pub fn erasure_journals(
        &mut self,
        journals: u64,
        journal_bytes: u64,
        quarantined: u64,
    ) -> Result<(), ShardError> {
        let Some(mut erasing) = self.erasures.active.take() else { return Ok(()) };
        erasing.report.journals = journals;
        erasing.report.journal_bytes = journal_bytes;
        erasing.report.quarantined_segments = quarantined;
        erasing.advance();
        (erasing.subject, erasing.needles) = (None, Needles::default());
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        erasing.save(&transaction)?;
        transaction.execute("UPDATE erasure SET subject = NULL WHERE number = ?1", [erasing.number])?;
        transaction.commit()?;
        self.erasures.active = Some(erasing);
        Ok(())
    }

    /// The WAL is cut: no file has anything of the person.
    pub fn erasure_finished(&mut self) -> Result<(), ShardError> {
        let Some(erasing) = self.erasures.active.take() else { return Ok(()) };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute(
            "UPDATE erasure SET step = 'finished', finished_us = ?2, place = '', at = 0 WHERE number = ?1",
            params![erasing.number, clock::unix_us()],
        )?;
        transaction.execute(
            "DELETE FROM erasure WHERE finished_us IS NOT NULL AND number <= ?1",
            [erasing.number - FINISHED_MAX],
        )?;
        transaction.commit()?;
        self.erasures.is_due = report::erasures_under_way(&self.connection)? > 0;
        Ok(())
    }
}
