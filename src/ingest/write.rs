//! The writer of one shard: takes what the journals hold and commits it, for ever.
//!
//! In: the lanes' readers. Out: rows, published positions, freed segments. Owns: the shard's connection
//! (W3), on a blocking thread of its own that may wait for hours; the listener does not notice.
//! Never: loses its place, trusts a connection after a failure, or ends because of one.
//!
//! One turn: identity → read the lanes → one transaction → publish → checkpoint and release → one slice of
//! upkeep.

mod lanes;
mod stop;
#[cfg(test)]
mod tests;
mod trouble;
mod upkeep;

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

pub use lanes::Journals;
use lanes::{Lanes, Rotation};
pub use stop::Stop;
use trouble::{Trouble, WriteError};

use crate::base::clock;
use crate::base::ids::{LaneId, Sequence, ShardId};
use crate::journal::Gap;
use crate::shard::{
    Applied, CheckpointMode, CommitTimes, Families, Outcome, Shard, ShardFolder, ShardOptions, ShardState,
    ShardStatus,
};

/// Between two slices of upkeep of a writer that has nothing else to do.
const UPKEEP_PAUSE: Duration = Duration::from_millis(1);

/// How a writer works.
#[derive(Clone, Debug)]
pub struct WriteSettings {
    /// How long rows may wait for company when little arrives; a full batch does not wait.
    pub flush_interval: Duration,
    /// Rows of one transaction: from 10,000 on, more gain nothing.
    pub batch_rows_max: usize,
    /// Journal bytes of one transaction; one record may be larger.
    pub batch_bytes_max: usize,
    /// A WAL with data in it is carried over at least this often, so that the journal can let go.
    pub checkpoint_age_max: Duration,
    /// How often a quarantined file is looked at.
    pub quarantine_look: Duration,
    pub shard: ShardOptions,
    /// What the shard stores.
    pub families: &'static Families,
}

impl WriteSettings {
    /// What was measured to be good, for shards of these families.
    #[must_use]
    pub fn new(families: &'static Families) -> WriteSettings {
        WriteSettings {
            flush_interval: Duration::from_millis(20),
            batch_rows_max: 10_000,
            batch_bytes_max: 8 * 1024 * 1024,
            checkpoint_age_max: Duration::from_secs(10),
            quarantine_look: Duration::from_secs(5),
            shard: ShardOptions::default(),
            families,
        }
    }
}

/// Who is told what became of keyed rows.
pub trait Outcomes {
    /// A row's fate, inside the transaction: it holds once the row's position is published.
    fn note(&self, lane: LaneId, sequence: Sequence, outcome: Outcome);
    /// A transaction was committed and its positions are published.
    fn committed(&self);
    /// One was committed with numbered changes in it, and their count is published.
    fn changed(&self) {}
}

/// Nobody.
impl Outcomes for () {
    fn note(&self, _: LaneId, _: Sequence, _: Outcome) {}
    fn committed(&self) {}
}

/// Writes one shard until `stop` is requested and everything the journals hold is committed, or its
/// deadline has passed. Blocks the calling thread, which others may unpark to end an idle wait early.
/// A failure of the database never ends it: it waits, heals or reopens, and says so in `status`.
pub fn run(
    shard: ShardId,
    folder: ShardFolder,
    journals: impl Into<Journals>,
    status: Arc<ShardStatus>,
    outcomes: impl Outcomes + 'static,
    stop: Arc<Stop>,
    settings: WriteSettings,
) {
    let mut writer = Writer::new(shard, folder, journals.into(), status, stop, settings);
    writer.outcomes = Box::new(outcomes);
    let mut panicked = None;
    loop {
        let ended = panic::catch_unwind(AssertUnwindSafe(|| {
            // Inside, so that a second panic does not end the thread either.
            if let Some(cause) = panicked.take() {
                writer.recover(cause);
            }
            writer.work();
        }));
        match ended {
            Ok(()) => return,
            Err(cause) => panicked = Some(cause),
        }
    }
}

/// What a turn leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// A batch was committed and about another one waits.
    Behind,
    /// A batch was committed, little or nothing waits.
    Wrote,
    /// The journals hold nothing that is not committed.
    Idle,
}

struct Writer {
    id: ShardId,
    folder: ShardFolder,
    lanes: Lanes,
    status: Arc<ShardStatus>,
    stop: Arc<Stop>,
    settings: WriteSettings,
    shard: Option<Shard>,
    times: CommitTimes,
    trouble: Trouble,
    outcomes: Box<dyn Outcomes>,
    checkpoint_tried_us: u64,
    /// Since when no checkpoint came to its end.
    incomplete_since_us: Option<u64>,
    /// Upkeep that found no room is left alone until then.
    upkeep_from_us: u64,
    /// Journals that an erasure has begun anew.
    rotation: Option<Rotation>,
    /// The same because data of people who were erased came again; the next ones not before this moment.
    forgetting: Option<Rotation>,
    forget_from_us: u64,
    #[cfg(test)]
    fault: Option<fn()>,
}

impl Writer {
    fn new(
        id: ShardId,
        folder: ShardFolder,
        journals: Journals,
        status: Arc<ShardStatus>,
        stop: Arc<Stop>,
        settings: WriteSettings,
    ) -> Writer {
        let lanes = Lanes::new(journals);
        let trouble = Trouble::new(status.clone());
        Writer {
            id,
            folder,
            lanes,
            status,
            stop,
            settings,
            shard: None,
            times: CommitTimes::new(),
            trouble,
            outcomes: Box::new(()),
            checkpoint_tried_us: clock::monotonic_us(),
            incomplete_since_us: None,
            upkeep_from_us: 0,
            rotation: None,
            forgetting: None,
            forget_from_us: 0,
            #[cfg(test)]
            fault: None,
        }
    }

    /// Turn after turn. Returns when asked to stop and done, or out of time.
    fn work(&mut self) {
        loop {
            match self.turn() {
                Ok(turn) => {
                    self.trouble.over(self.lanes.pending());
                    match turn {
                        Turn::Behind => {}
                        Turn::Idle if self.stop.requested() => return self.finish(),
                        _ if self.stop.requested() => {}
                        // The next slice, unless a record comes first.
                        _ if self.upkeep_due() => thread::park_timeout(UPKEEP_PAUSE),
                        _ => thread::park_timeout(self.settings.flush_interval),
                    }
                }
                Err(error) => {
                    let pause = self.weather(error);
                    if self.status.state() == ShardState::Quarantined && self.stop.requested() {
                        return self.give_up();
                    }
                    self.wait(pause);
                }
            }
            if self.stop.expired() {
                return self.give_up();
            }
        }
    }

    fn turn(&mut self) -> Result<Turn, WriteError> {
        #[cfg(test)]
        if let Some(fault) = self.fault.take() {
            fault();
        }
        if self.shard.is_none() {
            self.open()?;
        }
        let Some(shard) = &mut self.shard else { return Ok(Turn::Idle) };
        shard.check_identity()?;
        // After a failure the same batch is still here.
        if self.lanes.is_empty() {
            self.lanes.read(self.settings.batch_rows_max, self.settings.batch_bytes_max)?;
        }
        let mut turn = Turn::Idle;
        if self.lanes.is_empty() {
            self.status.caught_up_us.set(clock::unix_us().max(0) as u64);
        } else {
            let started_us = clock::monotonic_us();
            let outcomes = &self.outcomes;
            let applied = shard.apply(&self.lanes.batches(), &mut |lane, sequence, outcome| {
                outcomes.note(lane, sequence, outcome);
            })?;
            self.lanes.committed();
            self.publish(&applied, clock::monotonic_us() - started_us);
            let is_behind = self.lanes.pending() >= self.settings.batch_rows_max as u64 / 2;
            turn = if is_behind { Turn::Behind } else { Turn::Wrote };
        }
        self.status.set_state(ShardState::Open);
        self.times.publish_if_due(&self.status);
        self.carry_over()?;
        self.keep_up()?;
        self.help_shard()?;
        self.forget_again()?;
        Ok(turn)
    }

    /// Opens the shard and puts every lane where its position says.
    fn open(&mut self) -> Result<(), WriteError> {
        self.trouble.check_quarantine(&self.folder)?;
        let shard = Shard::open(&self.folder, &self.settings.shard, self.settings.families)?;
        let (id, status) = (self.id.0, &self.status);
        let missing = |lane: LaneId, gap: Gap| {
            let records = gap.found.0 - gap.expected.0;
            let (lane, from) = (lane.0, gap.expected.0);
            if !gap.promised {
                tracing::warn!(
                    shard = id,
                    lane,
                    from,
                    records,
                    "records that were not synced before a power cut are missing"
                );
                return;
            }
            status.lost_records.add(records);
            tracing::error!(
                shard = id,
                lane,
                from,
                records,
                "records in neither the database nor the journal"
            );
        };
        self.lanes.seek(|lane| shard.position(lane), missing)?;
        // Before the positions, which count these too.
        self.status.other.set(shard.other());
        for lane in self.lanes.ids() {
            self.status.set_applied(lane, shard.position(lane));
        }
        for (lane, position) in shard.positions() {
            self.status.set_applied(lane, position);
        }
        publish_rows(&self.status, &shard);
        self.status.rejected.set(shard.rejected());
        self.status.database_bytes.set(shard.database_bytes());
        self.status.partitions.set(shard.partitions()?);
        // The journals of an earlier life may hold what came of them.
        self.status.kept_out.set(u64::from(shard.keeps_out_anybody()?));
        self.status.set_state(ShardState::Open);
        tracing::info!(shard = self.id.0, path = %shard.path().display(), rows = shard.rows(), "shard open");
        self.shard = Some(shard);
        Ok(())
    }

    fn publish(&mut self, applied: &Applied, took_us: u64) {
        let Some(shard) = &self.shard else { return };
        // Before the positions, which count these too.
        self.status.other.set(shard.other());
        for lane in self.lanes.ids() {
            self.status.set_applied(lane, shard.position(lane));
        }
        self.outcomes.committed();
        if applied.changes > 0 {
            self.status.changes.add(applied.changes);
            self.outcomes.changed();
        }
        publish_rows(&self.status, shard);
        self.status.duplicates.add(applied.duplicates);
        self.status.conflicts.add(applied.conflicts);
        self.status.rejected.set(shard.rejected());
        self.status.commits.add(1);
        self.status.last_commit_us.set(clock::unix_us().max(0) as u64);
        self.status.wal_bytes.set(shard.wal_bytes());
        if let Some(received_us) = applied.received_us_max {
            self.status.received_us_max.set(received_us.max(0) as u64);
        }
        if applied.kept_out {
            self.status.kept_out.set(1);
        }
        if applied.rejected > 0 {
            tracing::error!(
                shard = self.id.0,
                records = applied.rejected,
                "records that could not be stored as rows are in rejected_record"
            );
        }
        self.times.record(took_us, applied.rows());
        self.trouble.applied();
    }

    /// Waits out a failure, in slices, so that a stop is noticed.
    fn wait(&self, pause: Duration) {
        let until_us = clock::monotonic_us() + pause.as_micros() as u64;
        let was_requested = self.stop.requested();
        loop {
            let left_us = until_us.saturating_sub(clock::monotonic_us());
            if left_us == 0 || self.stop.expired() || self.stop.requested() != was_requested {
                return;
            }
            thread::park_timeout(Duration::from_micros(left_us).min(Duration::from_millis(50)));
        }
    }

    /// Everything is committed: the WAL goes into the file, the journals are emptied, the file is closed.
    fn finish(&mut self) {
        if let Err(error) = self.checkpoint(CheckpointMode::Truncate) {
            tracing::warn!(shard = self.id.0, %error, "the last checkpoint failed; the journal keeps the \
                                                       rows");
        }
        self.times.publish(&self.status);
        self.shard = None;
        self.status.set_state(ShardState::Stopped);
        tracing::info!(shard = self.id.0, rows = self.status.rows(), "shard closed");
    }

    /// Out of time: what is not committed stays in the journal.
    fn give_up(&mut self) {
        let pending = self.lanes.pending();
        tracing::warn!(
            shard = self.id.0,
            records = pending,
            "stopped; the journal keeps the records that \
                                                              are not stored"
        );
        if let Some(shard) = self.shard.take() {
            shard.poison();
        }
        self.status.set_state(ShardState::Stopped);
    }

    /// After a panic in a turn: nothing the connection says is trusted.
    fn recover(&mut self, cause: Box<dyn std::any::Any + Send>) {
        self.lanes.forget();
        let said = cause.downcast_ref::<&str>().copied();
        let said = said.or(cause.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        let pause = self.weather(WriteError::Panicked(said.to_owned()));
        self.wait(pause);
    }
}

fn publish_rows(status: &ShardStatus, shard: &Shard) {
    for state in shard.streams() {
        status.set_stored(state.stream, state.rows);
    }
}
