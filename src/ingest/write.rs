//! The writer of one shard. It commits the records of the journals until it is stopped.
//!
//! In: the lanes' readers. Out: rows, published positions, freed segments. Owns: the shard's connection and its copier
//! (W3), on its own blocking thread, which may wait for hours without affecting the listener. Never: loses its position, trusts a
//! connection after a failure, or ends because of one.
//!
//! One turn: identity → read the lanes → one transaction → publish → passes and release → one slice of upkeep.

mod failure;
mod lanes;
mod passes;
mod stop;
#[cfg(test)]
mod tests;
mod upkeep;

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use failure::{FailureState, WriteError};
pub use lanes::Journals;
use lanes::{Lanes, Rotation};
use passes::Passes;
pub use stop::Stop;

use crate::base::clock;
use crate::base::ids::{LaneId, Sequence, ShardId};
use crate::journal::Gap;
use crate::shard::{
    Applied, CheckpointMode, CommitTimes, Families, Outcome, Shard, ShardFolder, ShardOptions, ShardState,
    ShardStatus,
};

/// The pause between two upkeep slices, if the writer has nothing else to do.
const UPKEEP_PAUSE: Duration = Duration::from_millis(1);

/// Sets the CPU and the priority of the calling thread.
#[derive(Clone)]
pub struct Settle(Arc<dyn Fn() + Send + Sync>);

impl Settle {
    pub fn new(settle: impl Fn() + Send + Sync + 'static) -> Settle {
        Settle(Arc::new(settle))
    }

    fn run(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Settle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Settle")
    }
}

/// A writer's settings.
#[derive(Clone, Debug)]
pub struct WriteSettings {
    /// How long rows may wait for further rows when few arrive. A full batch does not wait.
    pub flush_interval: Duration,
    /// The maximum number of rows in one transaction. More than 10,000 rows gain nothing.
    pub batch_rows_max: usize,
    /// The maximum number of journal bytes in one transaction. A single record may be larger.
    pub batch_bytes_max: usize,
    /// New WAL after which the copier begins a pass. 2 MiB take 10 to 20 ms of a disk, and leave the writer little to
    /// wait for.
    pub checkpoint_bytes: u64,
    /// A WAL that contains data is checkpointed at least this often, so that the journal can release segments.
    pub checkpoint_age_max: Duration,
    /// How often a quarantined file is checked.
    pub quarantine_look: Duration,
    /// Places the thread that copies the WAL into the database file. It runs first on that thread.
    pub settle_copier: Settle,
    pub shard: ShardOptions,
    /// The record families that the shard stores.
    pub families: &'static Families,
}

impl WriteSettings {
    /// Returns the settings that performed well in measurements, for shards of these families.
    #[must_use]
    pub fn new(families: &'static Families) -> WriteSettings {
        WriteSettings {
            flush_interval: Duration::from_millis(20),
            batch_rows_max: 10_000,
            batch_bytes_max: 8 * 1024 * 1024,
            checkpoint_bytes: 2 << 20,
            checkpoint_age_max: Duration::from_secs(10),
            quarantine_look: Duration::from_secs(5),
            settle_copier: Settle::new(|| {}),
            shard: ShardOptions::default(),
            families,
        }
    }
}

/// Receives the outcomes of keyed rows.
pub trait Outcomes {
    /// Receives the outcome of a row, inside the transaction. It is valid once the row's position is published.
    fn note(&self, lane: LaneId, sequence: Sequence, outcome: Outcome);
    /// Runs after a transaction was committed and its positions were published.
    fn committed(&self);
    /// Runs after a transaction with numbered changes was committed and their count was published.
    fn changed(&self) {}
}

/// Ignores all outcomes.
impl Outcomes for () {
    fn note(&self, _: LaneId, _: Sequence, _: Outcome) {}
    fn committed(&self) {}
}

/// Writes one shard until `stop` is requested and everything in the journals is committed, or until the deadline has
/// passed. Blocks the calling thread. Other threads may unpark it to end an idle wait early. A database failure never
/// ends the writer: it waits, restores the file or reopens it, and reports the failure in `status`.
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
            // This is inside the closure, so that a second panic does not end the thread either.
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

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// A batch was committed, and at least half of another batch waits.
    Behind,
    /// A batch was committed, and little or nothing waits.
    Wrote,
    /// The journals contain nothing that is not committed.
    Idle,
}

struct Writer {
    id: ShardId,
    folder: ShardFolder,
    lanes: Lanes,
    status: Arc<ShardStatus>,
    stop: Arc<Stop>,
    settings: WriteSettings,
    /// The copier, which ends before the shard is closed.
    passes: Option<Passes>,
    /// The last records that the database file contains, if their journals were not asked yet to release them.
    releasable: Vec<(LaneId, Sequence)>,
    shard: Option<Shard>,
    times: CommitTimes,
    trouble: FailureState,
    outcomes: Box<dyn Outcomes>,
    checkpoint_tried_us: u64,
    /// When the last batch was committed, and whether the WAL was truncated since.
    written_us: u64,
    is_trimmed: bool,
    /// When checkpoints stopped completing; `None` while they complete.
    incomplete_since_us: Option<u64>,
    /// The earliest time for the next upkeep after upkeep has found no disk space.
    upkeep_from_us: u64,
    /// The journal rotation that an erasure has requested.
    rotation: Option<Rotation>,
    /// The journal rotation that was started because erased people's data arrived again. The next one does not start
    /// before `forget_from_us`.
    forgetting: Option<Rotation>,
    forget_from_us: u64,
    /// Runs once, directly after a turn has read the lanes.
    #[cfg(test)]
    after_read: Option<Box<dyn FnOnce() + Send>>,
    #[cfg(test)]
    pass_hook: Option<Arc<dyn Fn(crate::shard::PassStep) + Send + Sync>>,
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
        let trouble = FailureState::new(status.clone());
        Writer {
            id,
            folder,
            lanes,
            status,
            stop,
            settings,
            passes: None,
            releasable: Vec::new(),
            shard: None,
            times: CommitTimes::new(),
            trouble,
            outcomes: Box::new(()),
            checkpoint_tried_us: clock::monotonic_us(),
            written_us: clock::monotonic_us(),
            is_trimmed: false,
            incomplete_since_us: None,
            upkeep_from_us: 0,
            rotation: None,
            forgetting: None,
            forget_from_us: 0,
            #[cfg(test)]
            after_read: None,
            #[cfg(test)]
            pass_hook: None,
        }
    }

    /// Runs turn after turn. Returns when a stop is requested and everything is committed, or when the deadline has
    /// passed.
    fn work(&mut self) {
        loop {
            // What was appended before the request is in what a turn after the request reads.
            let is_stopping = self.stop.requested();
            match self.turn() {
                Ok(turn) => {
                    self.trouble.over(self.lanes.pending());
                    match turn {
                        Turn::Behind => {}
                        Turn::Idle if is_stopping => return self.finish(),
                        _ if self.stop.requested() => {}
                        // The next slice follows, unless a record arrives first.
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
        if self.shard.is_none() {
            self.open()?;
        }
        let Some(shard) = &mut self.shard else { return Ok(Turn::Idle) };
        shard.check_identity()?;
        // After a failure, the same batches are still in memory.
        if self.lanes.is_empty() {
            self.lanes.read(self.settings.batch_rows_max, self.settings.batch_bytes_max)?;
        }
        #[cfg(test)]
        if let Some(after_read) = self.after_read.take() {
            after_read();
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
        self.carry_over(turn)?;
        self.keep_up()?;
        self.help_shard()?;
        self.forget_again()?;
        Ok(turn)
    }

    /// Opens the shard and moves every lane to its stored position.
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
        // The number of other records is set before the positions, which include those records.
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
        // The journals of an earlier run may contain suppressed people's data.
        self.status.suppressed.set(u64::from(shard.suppresses_anyone()?));
        self.status.set_state(ShardState::Open);
        let (path, kinds) = (shard.path().display(), rows_by_kind(&shard));
        tracing::info!(shard = self.id.0, %path, rows = shard.rows(), kinds, "shard open");
        self.passes = Some(self.start_passes(&shard)?);
        self.shard = Some(shard);
        Ok(())
    }

    fn publish(&mut self, applied: &Applied, took_us: u64) {
        let Some(shard) = &self.shard else { return };
        // The number of other records is set before the positions, which include those records.
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
        if applied.suppressed {
            self.status.suppressed.set(1);
        }
        if applied.rejected > 0 {
            tracing::error!(
                shard = self.id.0,
                records = applied.rejected,
                "records that could not be stored as rows are in rejected_record"
            );
        }
        self.times.record(took_us, applied.rows());
        (self.written_us, self.is_trimmed) = (clock::monotonic_us(), false);
        self.trouble.applied();
    }

    /// Waits after a failure, in slices, so that a stop is noticed.
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

    /// Ends the writer once everything is committed: moves the WAL into the file, empties the journals and closes the
    /// file.
    fn finish(&mut self) {
        if let Err(error) = self.last_checkpoint() {
            tracing::warn!(shard = self.id.0, %error, "the last checkpoint failed; the journal keeps the \
                                                       rows");
        }
        self.times.publish(&self.status);
        let kinds = self.shard.as_ref().map(rows_by_kind);
        drop(self.take_shard());
        self.status.set_state(ShardState::Stopped);
        tracing::info!(shard = self.id.0, rows = self.status.rows(), kinds, "shard closed");
    }

    /// Moves the WAL into the file, and then the row that says so.
    fn last_checkpoint(&mut self) -> Result<(), WriteError> {
        self.checkpoint(CheckpointMode::Truncate)?;
        match self.shard.as_mut().map_or(Ok(false), Shard::save_checkpointed)? {
            true => self.checkpoint(CheckpointMode::Truncate),
            false => Ok(()),
        }
    }

    /// Ends the writer because time has run out. Uncommitted records remain in the journal.
    fn give_up(&mut self) {
        let pending = self.lanes.pending();
        tracing::warn!(
            shard = self.id.0,
            records = pending,
            "stopped; the journal keeps the records that \
                                                              are not stored"
        );
        // A pass may wait for a disk that never answers.
        if let Some(passes) = self.passes.take() {
            passes.abandon();
        }
        if let Some(shard) = self.shard.take() {
            shard.poison();
        }
        self.status.set_state(ShardState::Stopped);
    }

    /// Recovers from a panic in a turn. After that, nothing that the connection reports is trusted.
    fn recover(&mut self, cause: Box<dyn std::any::Any + Send>) {
        self.lanes.forget();
        let said = cause.downcast_ref::<&str>().copied();
        let said = said.or(cause.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        let pause = self.weather(WriteError::Panicked(said.to_owned()));
        self.wait(pause);
    }
}

/// Returns the rows of each stream, and the number of other records that were ever stored (price events, stock
/// changes, statuses), for the log.
fn rows_by_kind(shard: &Shard) -> String {
    let streams = shard.streams().map(|state| format!("{} {}, ", state.stream.name, state.rows));
    streams.chain([format!("other records {}", shard.other())]).collect()
}

fn publish_rows(status: &ShardStatus, shard: &Shard) {
    for state in shard.streams() {
        status.set_stored(state.stream, state.rows);
    }
    status.set_held(shard.held());
    shard.dropped().for_each(|(place, reason, rows)| status.set_dropped(place, reason, rows));
}
