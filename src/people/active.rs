//! The running erasure: one person, or the people of one request, and the current step.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::many::PeopleMatcher;
use super::matcher;
use super::record::{ErasureRecord, Subject};
use super::report::{self, ErasureReport};
use super::rows::Walk;
use super::steps::{CLICKS, FINISHED, PAGES, SHIPS, WAL, is_shared};
use crate::base::clock;
use crate::base::ids::{LaneId, Sequence};
use crate::clicks;
use crate::shard::{ChangeKind, ErasureMode, Scrub, ShardError, append_change, partitions_of};

/// One person who is being erased.
#[derive(Debug)]
pub(super) struct ErasedSubject {
    number: i64,
    /// The number of the erasure's change in the shard's feed, once it has one.
    seq: Option<i64>,
    /// The subject, or `None` once it is deleted.
    pub(super) subject: Option<Subject>,
    report: ErasureReport,
    /// Set if the stored report is older.
    is_changed: bool,
}

/// The numbers of the customers under which a shard has orders of the people.
#[derive(Debug, Default)]
pub(super) struct Owners {
    pub(super) tenant: Option<i64>,
    pub(super) people: HashMap<i64, usize>,
    /// The number of people whose numbers were looked up.
    pub(super) looked_up: usize,
}

/// The running erasure.
#[derive(Debug)]
pub(super) struct ActiveErasure {
    /// The people, in the order of their numbers. The progress is stored with the first.
    pub(super) people: Vec<ErasedSubject>,
    batch: Option<String>,
    pub(super) mode: ErasureMode,
    /// Finds the people by their positions in `people`.
    pub(super) matcher: PeopleMatcher,
    /// The name of the current step.
    pub(super) step: String,
    pub(super) walk: Walk,
    /// The positions that the lanes must reach.
    pub(super) lanes: Option<Vec<(LaneId, Sequence)>>,
    /// The tenant's number, and the customers found so far, each with its person. They are found once for all
    /// partitions.
    pub(super) owners: Owners,
    /// The orders in one partition that are still to be changed, each with its person.
    pub(super) orders: Option<(String, Vec<(i64, usize)>)>,
    /// The last stored response that was searched.
    pub(super) answers: Option<(String, String)>,
    /// The level of the word index that the merge reads from, once it has started.
    pub(super) merging: Option<usize>,
    /// The scrub of unused bytes, and what it knows about the file.
    pub(super) scrub: Option<Scrub>,
}

fn damaged() -> ShardError {
    ShardError::Corrupt("an erasure cannot be read".to_owned())
}

type Progress = (i64, String, String, i64, String, Option<String>);

fn progress(row: &Row<'_>) -> rusqlite::Result<Progress> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
}

impl ActiveErasure {
    /// Loads the erasures in shared steps or, without any, the oldest one that is not finished and does not wait for a sink,
    /// with all people of its request that are at the same step. People whose records arrived later follow in an
    /// erasure of their own.
    pub(super) fn load(connection: &Connection) -> Result<Option<ActiveErasure>, ShardError> {
        let sql = "SELECT number, step, place, at, mode, batch FROM erasure WHERE finished_us IS NULL AND step <> ?1 \
                   ORDER BY step IN (?2, ?3) DESC, number LIMIT 1";
        let Some((number, step, place, at, mode, batch)) =
            connection.query_row(sql, [SHIPS, PAGES, WAL], progress).optional()?
        else {
            return Ok(None);
        };
        let mut erasing = ActiveErasure {
            people: Vec::new(),
            batch,
            mode: ErasureMode::parse(&mode).ok_or_else(damaged)?,
            matcher: PeopleMatcher::default(),
            // The positions that the first step waits for are not stored. An erasure that is loaded in this step
            // requests them again.
            step,
            walk: Walk { place, at },
            lanes: None,
            owners: Owners::default(),
            orders: None,
            answers: None,
            merging: None,
            scrub: None,
        };
        erasing.load_people(connection, number)?;
        Ok(Some(erasing))
    }

    /// Loads the people at the current step.
    fn load_people(&mut self, connection: &Connection, first: i64) -> Result<(), ShardError> {
        let mut statement = connection.prepare(
            "SELECT number, subject, report, seq FROM erasure WHERE number = ?1 \
             OR (step = ?3 AND finished_us IS NULL AND (?5 OR batch = ?2 AND mode = ?4)) ORDER BY number",
        )?;
        let is_shared = is_shared(&self.step);
        let mut rows =
            statement.query(params![first, self.batch, self.step, self.mode.as_str(), is_shared])?;
        self.people.clear();
        while let Some(row) = rows.next()? {
            let subject = match row.get::<_, Option<Vec<u8>>>(1)?.as_deref().map(ErasureRecord::decode) {
                None => None,
                Some(Some(ErasureRecord::Erase { subject, .. })) => Some(subject),
                Some(_) => return Err(damaged()),
            };
            let report = report::parse(&row.get::<_, String>(2)?)?;
            let (number, seq) = (row.get(0)?, row.get(3)?);
            self.people.push(ErasedSubject { number, seq, subject, report, is_changed: false });
        }
        if is_shared {
            self.matcher = PeopleMatcher::default();
            return Ok(());
        }
        let matcher = |person: &ErasedSubject| {
            person.subject.as_ref().map(|subject| subject.matcher(self.mode)).unwrap_or_default()
        };
        self.matcher = PeopleMatcher::new(self.people.iter().map(matcher).collect());
        Ok(())
    }

    /// Returns the number of a person's erasure.
    pub(super) fn number(&self, person: usize) -> Option<i64> {
        Some(self.people.get(person)?.number)
    }

    /// Returns `true` if a person is no longer known.
    pub(super) fn has_forgotten(&self) -> bool {
        self.people.iter().any(|person| person.subject.is_none())
    }

    pub(super) fn is_user(&self) -> bool {
        self.user_id().is_some()
    }

    pub(super) fn user_id(&self) -> Option<i64> {
        match self.people.first()?.subject {
            Some(Subject::User { user_id }) => Some(user_id),
            _ => None,
        }
    }

    /// Returns the tenant of the customers, who all have the same.
    pub(super) fn tenant_id(&self) -> Option<&str> {
        match self.people.first()?.subject.as_ref()? {
            Subject::Customer { tenant_id, .. } => Some(tenant_id),
            Subject::User { .. } => None,
        }
    }

    /// Returns the ids under which a person may have orders, and the token.
    pub(super) fn customer(&self, person: usize) -> Option<(Vec<&str>, &str)> {
        let Some(Subject::Customer { customer_id, token, .. }) = self.people.get(person)?.subject.as_ref()
        else {
            return None;
        };
        let mut ids = vec![customer_id.as_str()];
        if self.mode == ErasureMode::Erase {
            ids.push(token);
        }
        Some((ids, token))
    }

    /// Returns the people whom bytes that cannot be parsed may contain.
    pub(super) fn who_may(&self, bytes: &[u8]) -> Vec<usize> {
        match self.user_id() {
            // Searches for the id as stored in a row, and as written by a client.
            Some(user_id) => {
                let is_in = memchr::memmem::find(bytes, &user_id.to_le_bytes()).is_some()
                    || matcher::has_number(bytes, user_id);
                if is_in { vec![0] } else { Vec::new() }
            }
            None => self.matcher.who_may(bytes),
        }
    }

    /// Changes the counts of one person.
    pub(super) fn count(&mut self, person: usize, change: impl FnOnce(&mut ErasureReport)) {
        if let Some(person) = self.people.get_mut(person) {
            change(&mut person.report);
            person.is_changed = true;
        }
    }

    /// Changes the counts of everyone, for what the people share.
    pub(super) fn count_all(&mut self, change: impl Fn(&mut ErasureReport)) {
        for person in 0..self.people.len() {
            self.count(person, &change);
        }
    }

    /// Saves the progress, in the transaction of the work itself.
    pub(super) fn save(&mut self, transaction: &Transaction<'_>) -> Result<(), ShardError> {
        for person in self.people.iter_mut().filter(|person| person.is_changed) {
            let report = serde_json::to_string(&person.report)
                .map_err(|error| ShardError::Other(error.to_string()))?;
            transaction
                .prepare_cached("UPDATE erasure SET report = ?2 WHERE number = ?1")?
                .execute(params![person.number, report])?;
            person.is_changed = false;
        }
        let Some(first) = self.people.first() else { return Ok(()) };
        transaction
            .prepare_cached("UPDATE erasure SET place = ?2, at = ?3 WHERE number = ?1")?
            .execute(params![first.number, self.walk.place, self.walk.at])?;
        Ok(())
    }

    /// Starts the next step for everyone. The first step ends with everyone whose record has arrived by then.
    pub(super) fn advance(
        &mut self,
        transaction: &Transaction<'_>,
        is_first: bool,
        step: &str,
    ) -> Result<(), ShardError> {
        if is_first && let Some(first) = self.people.first().map(|person| person.number) {
            self.load_people(transaction, first)?;
        }
        if self.step == CLICKS {
            self.note_clicks(transaction)?;
        }
        step.clone_into(&mut self.step);
        (self.walk, self.orders, self.answers) = (Walk::default(), None, None);
        if step == SHIPS {
            self.announce(transaction)?;
        }
        for person in &self.people {
            transaction
                .prepare_cached("UPDATE erasure SET step = ?2, place = '', at = 0 WHERE number = ?1")?
                .execute(params![person.number, step])?;
        }
        self.save(transaction)
    }

    /// Stores up to which click the user's are gone, once the last of them is. Later ones are not part of the erasure.
    fn note_clicks(&self, transaction: &Transaction<'_>) -> Result<(), ShardError> {
        let upto = partitions_of(transaction, &clicks::CLICKS)?.last().map_or(0, |last| last.end_id - 1);
        for person in &self.people {
            transaction
                .prepare_cached("UPDATE erasure SET clicks_upto = ?2 WHERE number = ?1")?
                .execute([person.number, upto])?;
        }
        Ok(())
    }

    /// Appends an erasure's change to the shard's feed. It comes after the last row was deleted: a sink that applies it has
    /// got every row that it can ever get of the person, and reads no more of them. It is also appended if there is no
    /// sink, because one may be registered until the step ends.
    fn announce(&mut self, transaction: &Transaction<'_>) -> Result<(), ShardError> {
        for person in self.people.iter_mut().filter(|person| person.seq.is_none() && person.subject.is_some())
        {
            let (kind, now_us) = (ChangeKind::Erasure, clock::unix_us());
            let seq = append_change(transaction, kind, None, person.number, None, now_us)?;
            transaction
                .prepare_cached("UPDATE erasure SET seq = ?2 WHERE number = ?1")?
                .execute([person.number, seq])?;
            person.seq = Some(seq);
        }
        Ok(())
    }

    /// Ends the last step at this time: those whose subject is deleted are finished, and the others, which are done in this
    /// shard, wait for the sinks. Removes the oldest finished erasures beyond `kept_max`. Returns `true` if someone waits.
    pub(super) fn finish(
        &self,
        transaction: &Transaction<'_>,
        now_us: i64,
        kept_max: i64,
    ) -> Result<bool, ShardError> {
        for person in &self.people {
            let (step, finished_us) = match person.subject {
                None => (FINISHED, Some(now_us)),
                Some(_) => (SHIPS, None),
            };
            transaction
                .prepare_cached(
                    "UPDATE erasure SET step = ?2, finished_us = ?3, local_us = coalesce(local_us, ?4), \
                     sinks = CASE WHEN ?3 IS NULL THEN sinks ELSE coalesce(sinks, '[]') END, place = '', at = 0 \
                     WHERE number = ?1",
                )?
                .execute(params![person.number, step, finished_us, now_us])?;
        }
        let first = self.people.first().map_or(0, |person| person.number);
        transaction.execute(
            "DELETE FROM erasure WHERE finished_us IS NOT NULL AND number <= ?1",
            [first - kept_max],
        )?;
        Ok(self.people.iter().any(|person| person.subject.is_some()))
    }
}
