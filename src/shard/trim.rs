//! Deletes from the feed of changes what every sink has confirmed long enough ago, or everything if there is no sink. Changes of prices
//! stay as long as their anomalies. The newest row stays, so that numbers only rise, and the change of an unfinished
//! erasure, which waits for the sinks.

use std::time::Duration;

use rusqlite::{Row, TransactionBehavior};

use super::change::{ChangeKind, last_change};
use super::error::ShardError;
use super::file::Shard;
use super::retention::Retention;
use super::trimmed::Trim;
use crate::base::clock;

/// The time between two looks at the sinks' notes.
const LOOK_EVERY_US: u64 = 10_000_000;
/// The number of changes that are read between two checks of the clock.
const ROWS: i64 = if cfg!(test) { 3 } else { 256 };

/// The next changes, and whether a change is of an unfinished erasure.
const NEXT_SQL: &str = "SELECT c.seq, c.kind, c.kind = 'erasure' AND e.number IS NOT NULL AND e.finished_us IS NULL \
    FROM change c LEFT JOIN erasure e ON e.number = c.ref WHERE c.seq > ?1 AND c.seq <= ?2 ORDER BY c.seq LIMIT ?3";
const DELETE_SQL: &str = "DELETE FROM change WHERE seq = ?1";

impl Shard {
    /// Returns `true` if [`Shard::trim`] has work now.
    pub(super) fn trim_due(&self) -> bool {
        self.options.ship.is_some() && (self.trim.upto > 0 || clock::monotonic_us() >= self.trim.look_at_us)
    }

    /// Looks at the notes of the sinks, and deletes for about `budget`.
    pub(crate) fn trim(&mut self, budget: Duration) -> Result<(), ShardError> {
        let until_us = clock::monotonic_us() + budget.as_micros() as u64;
        if self.trim.upto == 0 {
            self.trim.look_at_us = clock::monotonic_us() + LOOK_EVERY_US;
            let newest = last_change(&self.connection)?;
            let upto = self.kept_changes()?.min(newest - 1);
            if upto <= self.trim.done {
                return Ok(());
            }
            (self.trim.upto, self.trim.held) = (upto, None);
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut trim = Trim { ..self.trim };
        loop {
            let found: Vec<(i64, String, bool)> = {
                let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
                let mut next = transaction.prepare_cached(NEXT_SQL)?;
                next.query_map([trim.done, trim.upto, ROWS], read)?.collect::<Result<_, _>>()?
            };
            let is_done = (found.len() as i64) < ROWS;
            for (seq, kind, is_unfinished) in found {
                trim.done = seq;
                match ChangeKind::parse(&kind) {
                    Some(ChangeKind::Erasure) if is_unfinished => {
                        trim.held.get_or_insert(seq);
                    }
                    Some(ChangeKind::Status | ChangeKind::Erasure | ChangeKind::Erased) => {
                        transaction.prepare_cached(DELETE_SQL)?.execute([seq])?;
                    }
                    _ => {}
                }
            }
            if is_done {
                // The next look begins at the change that is held.
                trim.done = trim.held.map_or(trim.upto, |held| held - 1);
                trim.upto = 0;
                break;
            }
            if clock::monotonic_us() >= until_us {
                break;
            }
        }
        transaction.commit()?;
        self.trim = trim;
        Ok(())
    }

    /// Returns the last change that every sink has confirmed long enough ago, or the greatest number if there is no sink. A
    /// target that is set back gets the changes after it again.
    fn kept_changes(&mut self) -> Result<i64, ShardError> {
        let Some(ship) = &self.options.ship else { return Ok(0) };
        let Retention { holds, clock, .. } = &mut self.retention;
        holds.kept_changes(&self.connection, ship, clock)
    }

    /// Looks at the notes at the next upkeep, for tests.
    #[cfg(test)]
    pub(crate) fn trim_now(&mut self) {
        self.trim.look_at_us = 0;
    }
}

/// Returns the statements, for checking query plans.
pub fn trim_statements() -> Vec<(String, String)> {
    [("the feed of changes, to trim it", NEXT_SQL), ("deletion of a change", DELETE_SQL)]
        .map(|(name, sql)| (name.to_owned(), sql.to_owned()))
        .into()
}
