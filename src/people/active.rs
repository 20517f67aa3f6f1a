//! The running erasure and its current step.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::matcher::{self, PersonMatcher};
use super::record::{ErasureRecord, Subject};
use super::report::{self, ErasureReport};
use crate::base::ids::{LaneId, Sequence};
use crate::shard::{ErasureMode, Scrub, ShardError};

/// The steps, in execution order. The steps up to `Journals` require the subject, which is deleted at the end of
/// `Journals`. The bytes that it leaves in the file are overwritten together with all other unused bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErasurePhase {
    /// Waits for the records that were in the journals when the erasure started.
    Waiting,
    Orders,
    Customers,
    /// Merges the word index until no segment contains a deleted entry.
    Words,
    Events,
    Clicks,
    Rejected,
    Answers,
    /// The writer makes each journal start a new segment, and searches quarantined segments.
    Journals,
    /// Overwrites the unused bytes of every page.
    Pages,
    /// The writer truncates the WAL, which contains earlier versions of pages.
    Wal,
}

impl ErasurePhase {
    const ALL: [ErasurePhase; 11] = [
        ErasurePhase::Waiting,
        ErasurePhase::Orders,
        ErasurePhase::Customers,
        ErasurePhase::Words,
        ErasurePhase::Events,
        ErasurePhase::Clicks,
        ErasurePhase::Rejected,
        ErasurePhase::Answers,
        ErasurePhase::Journals,
        ErasurePhase::Pages,
        ErasurePhase::Wal,
    ];

    fn name(self) -> &'static str {
        match self {
            ErasurePhase::Waiting => "waiting",
            ErasurePhase::Orders => "orders",
            ErasurePhase::Customers => "customers",
            ErasurePhase::Words => "words",
            ErasurePhase::Events => "events",
            ErasurePhase::Clicks => "clicks",
            ErasurePhase::Rejected => "rejected",
            ErasurePhase::Answers => "answers",
            ErasurePhase::Journals => "journals",
            ErasurePhase::Pages => "pages",
            ErasurePhase::Wal => "wal",
        }
    }

    /// Returns the next step for the same kind of subject.
    fn next(self, is_user: bool) -> ErasurePhase {
        match self {
            ErasurePhase::Waiting if is_user => ErasurePhase::Clicks,
            ErasurePhase::Events => ErasurePhase::Rejected,
            ErasurePhase::Rejected if is_user => ErasurePhase::Journals,
            _ => {
                let at = ErasurePhase::ALL.iter().position(|step| *step == self).unwrap_or_default();
                ErasurePhase::ALL.get(at + 1).copied().unwrap_or(ErasurePhase::Wal)
            }
        }
    }
}

/// The running erasure.
#[derive(Debug)]
pub(super) struct ActiveErasure {
    pub(super) number: i64,
    pub(super) mode: ErasureMode,
    /// The subject, or `None` once it is deleted.
    pub(super) subject: Option<Subject>,
    pub(super) matcher: PersonMatcher,
    pub(super) step: ErasurePhase,
    pub(super) place: String,
    pub(super) at: i64,
    pub(super) report: ErasureReport,
    /// The positions that the lanes must reach.
    pub(super) lanes: Option<Vec<(LaneId, Sequence)>>,
    /// The orders in the current partition that are still to be changed.
    pub(super) orders: Option<Vec<i64>>,
    /// The level of the word index that the merge reads from, once it has started.
    pub(super) merging: Option<usize>,
    /// The scrub of unused bytes, and what it knows about the file.
    pub(super) scrub: Option<Scrub>,
}

impl ActiveErasure {
    pub(super) fn load(connection: &Connection) -> Result<Option<ActiveErasure>, ShardError> {
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
        let step = ErasurePhase::ALL.into_iter().find(|known| known.name() == step).ok_or_else(damaged)?;
        if subject.is_none() && !matches!(step, ErasurePhase::Pages | ErasurePhase::Wal) {
            return Err(damaged());
        }
        let matcher = match &subject {
            Some(Subject::Customer { customer_id, token, names, emails, .. }) => PersonMatcher::new(
                // An erasure also removes the token of an earlier pseudonymisation.
                [Some(customer_id.as_str()), (mode == ErasureMode::Erase).then_some(token.as_str())]
                    .into_iter()
                    .flatten(),
                emails.iter().map(String::as_str),
                names.iter().map(String::as_str),
            ),
            Some(Subject::User { .. }) | None => PersonMatcher::default(),
        };
        Ok(Some(ActiveErasure {
            number,
            mode,
            subject,
            matcher,
            // The positions that `Waiting` waits for are not stored. An erasure that is loaded in this step requests
            // them again.
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

    /// Returns `true` if bytes that cannot be parsed may belong to the person.
    pub(super) fn may_match(&self, bytes: &[u8]) -> bool {
        match self.subject {
            // Searches for the id as stored in a row, and as written by a client.
            Some(Subject::User { user_id }) => {
                memchr::memmem::find(bytes, &user_id.to_le_bytes()).is_some()
                    || matcher::has_number(bytes, user_id)
            }
            Some(Subject::Customer { .. }) | None => self.matcher.may_match(bytes),
        }
    }

    pub(super) fn is_user(&self) -> bool {
        matches!(self.subject, Some(Subject::User { .. }))
    }

    /// Saves the progress, in the transaction of the work itself.
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

    /// Starts the next step.
    pub(super) fn advance(&mut self) {
        self.step = self.step.next(self.is_user());
        (self.place, self.at) = (String::new(), 0);
        self.orders = None;
    }
}
