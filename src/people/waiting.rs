//! The erasures of a shard that wait for its sinks. Their rows are gone here, and a sink may still have copies.
//!
//! ```text
//!            no sink, or all have it in time
//! journals ─► ships ─────────────────────────► subject deleted ─► pages ─► WAL ─► finished
//!               │ ▲                                        ▲
//!               │ └─ pages ─► WAL ─► done locally ◄─┐      │ all sinks have it
//!               └───────────────────────────────────┘──────┘
//! ```
//!
//! An erasure that begins to wait has a change of the kind `erasure` in the shard's feed, after the deletion of its rows. A
//! sink has the erasure once it has confirmed this change: it reads one portion after the other, so it cannot get a
//! row of the person any more. Until then, the person is stored in the record of the erasure alone: if the
//! sinks do not answer within [`WaitPauses::patience`], the unused bytes of the file are overwritten while the erasure
//! waits, and again after its subject was deleted. All erasures that can share one of these passes over the file do.

use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};

use super::steps::{PAGES, SHIPS};
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::shard::{CHANGES, ShardError, ShardOptions, ShipOptions, SinkEntry, confirmed_by, epochs, sinks};

/// The pauses between the steps of erasures that wait.
#[derive(Clone, Copy, Debug)]
pub struct WaitPauses {
    /// Between two looks at the notes of the sinks.
    pub look: Duration,
    /// The time that an erasure waits before the unused bytes are overwritten without the sinks. A sink that is not behind
    /// answers earlier, so that one pass over the file suffices.
    pub patience: Duration,
    /// Between two passes over the file, while some erasures wait that the sinks do not have.
    pub between: Duration,
}

impl Default for WaitPauses {
    fn default() -> WaitPauses {
        WaitPauses {
            look: Duration::from_secs(1),
            // A sink reads only what a checkpoint has copied, which takes as long as the interval of checkpoints.
            patience: Duration::from_secs(15),
            between: Duration::from_secs(10),
        }
    }
}

/// The erasures in the step [`SHIPS`].
#[derive(Debug)]
pub(super) struct Waiting {
    /// The place of the sinks' notes. `None` if nothing is shipped from the file, as in a shard without a data folder.
    ship: Option<ShipOptions>,
    pub(super) pauses: WaitPauses,
    is_any: bool,
    /// The least number in the feed for which an erasure waits, once it is known.
    seq_min: Option<i64>,
    /// The monotonic time of the next look at the notes.
    look_us: u64,
    /// Since when an erasure waits whose remains in unused bytes were not overwritten. `None` without one.
    unscrubbed_us: Option<u64>,
    /// The monotonic time at which the last pass over the file began.
    passed_us: Option<u64>,
    /// The last reported failure to read the notes.
    failure: Option<String>,
}

fn micros(pause: Duration) -> u64 {
    pause.as_micros() as u64
}

impl Waiting {
    pub(super) fn open(connection: &Connection, options: &ShardOptions) -> Result<Waiting, ShardError> {
        let sql = "SELECT count(*), count(local_us) FROM erasure WHERE finished_us IS NULL AND step = ?1";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (all, scrubbed): (i64, i64) = connection.query_row(sql, [SHIPS], read)?;
        Ok(Waiting {
            ship: options.ship.clone(),
            pauses: WaitPauses::default(),
            is_any: all > 0,
            seq_min: None,
            look_us: 0,
            unscrubbed_us: (all > scrubbed).then(clock::monotonic_us),
            passed_us: None,
            failure: None,
        })
    }

    /// Returns `true` if it is time for [`Waiting::look`].
    pub(super) fn is_due(&self) -> bool {
        self.is_any && clock::monotonic_us() >= self.look_us
    }

    /// Notes that erasures have begun to wait. The next look follows at once.
    pub(super) fn begin(&mut self, are_scrubbed: bool) {
        if !are_scrubbed {
            self.unscrubbed_us.get_or_insert_with(clock::monotonic_us);
        }
        (self.is_any, self.seq_min, self.look_us) = (true, None, 0);
    }

    /// Looks at the notes of the sinks. Returns `true` if erasures have left the step for a pass over the file: those that
    /// every sink has, whose subjects are deleted now, and those that were not scrubbed yet.
    pub(super) fn look(&mut self, connection: &mut Connection) -> Result<bool, ShardError> {
        let now_us = clock::monotonic_us();
        self.look_us = now_us + micros(self.pauses.look);
        let sinks = self.confirmed(connection)?;
        let upto = sinks.upto;
        let is_overdue =
            self.unscrubbed_us.is_some_and(|since| now_us >= since + micros(self.pauses.patience));
        if self.seq_min.is_some_and(|seq| seq > upto) && !is_overdue {
            return Ok(false);
        }
        // Without a sink, an erasure waits for nothing, whatever its number is.
        let sql = "SELECT count(*), count(*) FILTER (WHERE seq <= ?2 OR ?3), min(seq) FILTER (WHERE seq > ?2) \
                   FROM erasure WHERE finished_us IS NULL AND step = ?1";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let (all, ready, seq_min): (i64, i64, Option<i64>) =
            connection.query_row(sql, params![SHIPS, upto, sinks.names.is_empty()], read)?;
        let may_pass = all == ready
            || self.passed_us.is_none_or(|passed| now_us >= passed + micros(self.pauses.between));
        if !(ready > 0 && may_pass || is_overdue) {
            self.is_any = all > 0;
            self.seq_min = if ready > 0 { None } else { seq_min };
            return Ok(false);
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let names = serde_json::to_string(&sinks.names).unwrap_or_default();
        transaction.execute(
            "UPDATE erasure SET subject = NULL, sinks = ?4, step = ?5 \
             WHERE finished_us IS NULL AND step = ?1 AND (seq <= ?2 OR ?3)",
            params![SHIPS, upto, sinks.names.is_empty(), names, PAGES],
        )?;
        // The others take part in the pass, unless they did in an earlier one.
        transaction.execute(
            "UPDATE erasure SET step = ?2 \
             WHERE finished_us IS NULL AND step = ?1 AND local_us IS NULL",
            [SHIPS, PAGES],
        )?;
        // One that was interrupted begins again, so that it overwrites every page for those that join it.
        transaction.execute(
            "UPDATE erasure SET place = '', at = 0 WHERE finished_us IS NULL AND step = ?1",
            [PAGES],
        )?;
        let sql = "SELECT count(*) FROM erasure WHERE finished_us IS NULL AND step = ?1";
        let left: i64 = transaction.query_row(sql, [SHIPS], |row| row.get(0))?;
        transaction.commit()?;
        (self.is_any, self.seq_min) = (left > 0, None);
        (self.unscrubbed_us, self.passed_us) = (None, Some(now_us));
        Ok(true)
    }

    /// Returns how far every sink has the feed. Notes that cannot be read confirm nothing, and are read again later.
    fn confirmed(&mut self, connection: &Connection) -> Result<ConfirmedBySinks, ShardError> {
        let Some(ship) = &self.ship else { return Ok(ConfirmedBySinks::default()) };
        let read = || -> Result<ConfirmedBySinks, NotesError> {
            let mut all = ConfirmedBySinks::default();
            let registered = sinks(&ship.data)?;
            if registered.is_empty() {
                return Ok(all);
            }
            let epoch = newest_epoch(connection)?;
            for (name, sink) in registered {
                all.upto = all.upto.min(confirmed_changes(&ship.data, (&name, &sink), ship.shard, &epoch)?);
                all.names.push(name);
            }
            Ok(all)
        };
        match read() {
            Ok(all) => {
                self.failure = None;
                Ok(all)
            }
            Err(NotesError::Shard(error)) => Err(error),
            Err(NotesError::Io(error)) => {
                let failure = error.to_string();
                if self.failure.as_ref() != Some(&failure) {
                    let shard = ship.shard.0;
                    tracing::warn!(shard, %error, "erasures wait: the notes of a sink cannot be read");
                    self.failure = Some(failure);
                }
                Ok(ConfirmedBySinks { upto: 0, names: vec![String::new()] })
            }
        }
    }
}

/// The part of a shard's feed that all sinks have.
#[derive(Debug)]
struct ConfirmedBySinks {
    upto: i64,
    names: Vec<String>,
}

impl Default for ConfirmedBySinks {
    /// Nobody is waited for.
    fn default() -> ConfirmedBySinks {
        ConfirmedBySinks { upto: i64::MAX, names: Vec::new() }
    }
}

/// The reason why the notes of the sinks are not known.
#[derive(Debug, thiserror::Error)]
enum NotesError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Shard(#[from] ShardError),
}

/// Returns the id of the epoch of a shard's row ids, or an empty string if the file has none yet.
pub(super) fn newest_epoch(connection: &Connection) -> Result<String, ShardError> {
    Ok(epochs(connection)?.pop().map(|epoch| epoch.id).unwrap_or_default())
}

/// Returns the last change of a shard's feed that a sink has confirmed in this epoch; 0 if it has confirmed none. A note of
/// another registration under the same name confirms nothing.
pub(super) fn confirmed_changes(
    data: &Path,
    (name, sink): (&str, &SinkEntry),
    shard: ShardId,
    epoch: &str,
) -> io::Result<i64> {
    let note = confirmed_by(data, (name, sink), shard)?.filter(|note| note.epoch == epoch);
    Ok(note.and_then(|note| note.last.get(CHANGES).copied()).unwrap_or(0))
}

/// Returns `true` if rows of the shard are shipped, or if that is not known.
pub(super) fn is_shipped(options: &ShardOptions) -> bool {
    options.ship.as_ref().is_some_and(|ship| sinks(&ship.data).map_or(true, |sinks| !sinks.is_empty()))
}
