//! Checkpoints: passes of the shard's copier, during which commits continue, and the writer's own.
//!
//! A pass is due after some MiB of new WAL or at the configured age. The WAL grows until it has its configured
//! size and a pass has left little of it. The writer copies that rest itself, so that the next commit starts the WAL
//! from its beginning. What a complete pass has copied, the journals release: the copier deletes the segments.

use std::time::Duration;

use super::failure::WriteError;
use super::{Turn, Writer};
use crate::base::clock;
use crate::journal::{AppliedSync, SegmentRelease};
use crate::shard::{Checkpoint, CheckpointMode, Copier, Ended, JournalWork, Mark, Shard, ShardError};

/// The pause after an incomplete pass. A server's own reader ends within milliseconds.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// The pause between two attempts at a checkpoint that readers have delayed for this time.
pub(super) const CHECKPOINT_PAUSE: Duration = Duration::from_millis(250);
/// How long checkpoints may remain incomplete before a reader outside the server is reported.
const PINNED_AFTER: Duration = Duration::from_secs(5);
/// The part of the WAL's size that the writer copies itself.
const REST_SHARE: u64 = 16;
/// The multiple of the WAL's size at which the writer waits for the copier, so that the WAL does not grow faster than it
/// is copied.
const WAIT_AT: u64 = 4;
/// The multiple of the WAL's size at which the file is truncated as soon as nobody reads it. Only a reader that stays
/// lets the WAL grow to this size.
const TRUNCATE_AT: u64 = 16;
/// An idle shard's WAL file is truncated if it has at least this part of the WAL's size.
const IDLE_SHARE: u64 = 4;

/// The syncs and deletions of journals that the copier runs.
#[derive(Debug, Default)]
struct Journals {
    syncs: Vec<AppliedSync>,
    releases: Vec<SegmentRelease>,
}

/// A shard's copier, with the mark of the pass that is under way.
pub(super) struct Passes {
    copier: Copier<Journals>,
    /// `None` while no pass is under way. The copier may be deleting segments then.
    mark: Option<Mark>,
}

impl Passes {
    /// Ends the copier without waiting for a pass under way.
    pub(super) fn abandon(self) {
        self.copier.abandon();
    }
}

impl Writer {
    /// Starts the copier of the shard that was opened.
    pub(super) fn start_passes(&self, shard: &Shard) -> Result<Passes, ShardError> {
        let work = JournalWork {
            sync: |journals: &mut Journals| journals.syncs.iter_mut().for_each(AppliedSync::run),
            release: |journals: &mut Journals| journals.releases.iter_mut().for_each(SegmentRelease::run),
        };
        let settle = self.settings.settle_copier.clone();
        let name = format!("copy-{}", self.id);
        #[cfg(test)]
        let at = {
            let hook = self.pass_hook.clone();
            move |step| hook.iter().for_each(|hook| hook(step))
        };
        #[cfg(not(test))]
        let at = |_| {};
        let copier = Copier::start(name, shard.path().to_owned(), work, move || settle.run(), at)?;
        Ok(Passes { copier, mark: None })
    }

    /// Ends a pass that has ended, and begins what is due.
    pub(super) fn carry_over(&mut self, turn: Turn) -> Result<(), WriteError> {
        let mut has_ended = self.end_pass(false)?;
        let limit = self.settings.shard.checkpoint_wal_bytes;
        let whole = |writer: &Writer| writer.shard.as_ref().map_or(0, Shard::wal_whole_bytes);
        if self.is_passing() {
            if whole(self) < WAIT_AT * limit {
                return Ok(());
            }
            has_ended |= self.end_pass(true)?;
        }
        self.begin_release();
        let Some(shard) = &mut self.shard else { return Ok(()) };
        shard.save_checkpointed()?;
        let (rest, whole) = (shard.wal_bytes(), shard.wal_whole_bytes());
        let now_us = clock::monotonic_us();
        let since_us = now_us - self.checkpoint_tried_us;
        let age_us = self.settings.checkpoint_age_max.as_micros() as u64;
        let pause = match self.incomplete_since_us {
            None => Duration::ZERO,
            Some(since_us) if now_us - since_us >= CHECKPOINT_PAUSE.as_micros() as u64 => CHECKPOINT_PAUSE,
            // The WAL must not grow in the meantime.
            Some(_) if whole >= WAIT_AT * limit => Duration::ZERO,
            Some(_) => RETRY_PAUSE,
        };
        if rest == 0 {
            return self.trim(turn, now_us);
        }
        // A small rest directly after a pass. Otherwise, the WAL would grow while passes follow each other.
        let is_small = has_ended && rest <= limit / REST_SHARE;
        if self.incomplete_since_us.is_none() && whole >= limit && (is_small || whole >= WAIT_AT * limit) {
            return self.checkpoint_now(CheckpointMode::Passive);
        }
        if since_us < pause.as_micros() as u64 {
            return Ok(());
        }
        if whole >= TRUNCATE_AT * limit {
            return self.checkpoint(CheckpointMode::Truncate);
        }
        let is_due = rest >= self.settings.checkpoint_bytes.min(limit / 2)
            || since_us >= age_us
            || self.incomplete_since_us.is_some();
        if is_due { self.begin_pass() } else { Ok(()) }
    }

    /// Truncates the WAL file of a shard that has been idle for the age of a checkpoint.
    fn trim(&mut self, turn: Turn, now_us: u64) -> Result<(), WriteError> {
        let Some(shard) = &self.shard else { return Ok(()) };
        let idle_us = now_us.saturating_sub(self.written_us);
        let is_idle = turn == Turn::Idle && idle_us >= self.settings.checkpoint_age_max.as_micros() as u64;
        if !is_idle || self.is_trimmed {
            return Ok(());
        }
        self.is_trimmed = true;
        match shard.wal_file_bytes() >= self.settings.shard.checkpoint_wal_bytes / IDLE_SHARE {
            true => self.checkpoint(CheckpointMode::Truncate),
            false => Ok(()),
        }
    }

    pub(super) fn is_passing(&self) -> bool {
        self.passes.as_ref().is_some_and(|passes| passes.mark.is_some())
    }

    /// Returns `true` while the copier runs a pass or deletes segments.
    pub(super) fn is_copier_busy(&self) -> bool {
        self.passes.as_ref().is_some_and(|passes| passes.copier.is_busy())
    }

    /// Begins a pass of the copier, unless it is busy.
    pub(super) fn begin_pass(&mut self) -> Result<(), WriteError> {
        if self.is_copier_busy() {
            return Ok(());
        }
        // A repair that failed has ended the copier, and the file is there again.
        if let (Some(shard), None) = (&self.shard, &self.passes) {
            self.passes = Some(self.start_passes(shard)?);
        }
        let (Some(shard), Some(passes)) = (&mut self.shard, &mut self.passes) else { return Ok(()) };
        self.checkpoint_tried_us = clock::monotonic_us();
        let (mark, order) = shard.begin_checkpoint()?;
        passes.mark = Some(mark);
        passes.copier.begin(order, Journals { syncs: self.lanes.plan_sync(), ..Journals::default() });
        Ok(())
    }

    /// Takes over the result of what the copier has done, or with `waits` waits until it is done. Returns `true` if a
    /// pass has ended.
    fn end_pass(&mut self, waits: bool) -> Result<bool, WriteError> {
        let Some(passes) = &mut self.passes else { return Ok(false) };
        let Some((journals, ended)) = passes.copier.ended(waits) else { return Ok(false) };
        let Journals { syncs, releases } = journals.unwrap_or_default();
        self.note_synced(syncs);
        self.note_released(releases);
        let Ended::Pass(passed) = ended else { return Ok(false) };
        let mark = self.passes.as_mut().and_then(|passes| passes.mark.take());
        let Some(mark) = mark else {
            passed?;
            return Ok(false);
        };
        let Some(shard) = &mut self.shard else { return Ok(false) };
        let done = shard.end_checkpoint(mark, passed)?;
        self.checkpointed(done)?;
        Ok(true)
    }

    /// Syncs the journals, checkpoints on this thread after any pass under way, and waits until the journals have
    /// released what is durable now.
    pub(super) fn checkpoint(&mut self, mode: CheckpointMode) -> Result<(), WriteError> {
        self.checkpoint_now(mode)?;
        while self.is_copier_busy() {
            self.end_pass(true)?;
        }
        self.begin_release();
        while self.is_copier_busy() {
            self.end_pass(true)?;
        }
        Ok(())
    }

    /// As [`Writer::checkpoint`], but does not wait for the journals. The copier may be deleting segments.
    fn checkpoint_now(&mut self, mode: CheckpointMode) -> Result<(), WriteError> {
        while self.is_passing() {
            self.end_pass(true)?;
        }
        // A failed journal sync does not keep rows out of the database file. After a power cut, the journal continues
        // after the database's position.
        let mut syncs = self.lanes.plan_sync();
        syncs.iter_mut().for_each(AppliedSync::run);
        self.note_synced(syncs);
        self.checkpoint_tried_us = clock::monotonic_us();
        let Some(shard) = &mut self.shard else { return Ok(()) };
        let done = shard.checkpoint(mode)?;
        self.checkpointed(done)
    }

    fn note_synced(&mut self, syncs: Vec<AppliedSync>) {
        if let Err(error) = self.lanes.synced(syncs) {
            tracing::error!(shard = self.id.0, %error, "the journal could not be synced");
        }
    }

    fn note_released(&mut self, releases: Vec<SegmentRelease>) {
        for release in releases {
            let lane = release.lane().0;
            if let Err(error) = self.lanes.released(release) {
                tracing::error!(shard = self.id.0, lane, %error, "journal segments not deleted");
            }
        }
    }

    /// Lets the copier delete the segments that the file makes superfluous, as soon as it does nothing else. This
    /// thread deletes them if there is no copier.
    fn begin_release(&mut self) {
        if self.releasable.is_empty() || self.is_copier_busy() {
            return;
        }
        let mut releases = self.lanes.plan_release(&std::mem::take(&mut self.releasable));
        match &mut self.passes {
            _ if releases.is_empty() => {}
            Some(passes) => passes.copier.begin_release(Journals { releases, ..Journals::default() }),
            None => {
                releases.iter_mut().for_each(SegmentRelease::run);
                self.note_released(releases);
            }
        }
    }

    /// Publishes a checkpoint. The journals may release what it made durable.
    fn checkpointed(&mut self, done: Checkpoint) -> Result<(), WriteError> {
        let Some(shard) = &self.shard else { return Ok(()) };
        self.status.checkpoints.add(1);
        self.status.wal_bytes.set(done.wal_bytes);
        self.status.database_bytes.set(shard.database_bytes());
        self.status.partitions.set(shard.partitions()?);
        if done.complete {
            self.releasable = done.durable;
        }
        self.note_pin(done.complete);
        Ok(())
    }

    /// Reports a reader that prevents checkpoints from completing. The server's own readers read for milliseconds, so
    /// a reader that takes longer belongs to another program. Until it ends, the WAL and the journals grow.
    fn note_pin(&mut self, is_complete: bool) {
        let (now_us, pinned_us) = (clock::monotonic_us(), &self.status.wal_pinned_us);
        if is_complete {
            self.incomplete_since_us = None;
            if pinned_us.get() > 0 {
                pinned_us.set(0);
                tracing::warn!(shard = self.id.0, "outage over: the WAL is copied into the database again");
            }
            return;
        }
        let since_us = now_us - *self.incomplete_since_us.get_or_insert(now_us);
        if since_us >= PINNED_AFTER.as_micros() as u64 && pinned_us.get() == 0 {
            pinned_us.set((clock::unix_us() - since_us as i64).max(1) as u64);
            let wal_bytes = self.status.wal_bytes.get();
            tracing::warn!(
                shard = self.id.0,
                wal_bytes,
                "another program holds a read transaction on the database, so the WAL cannot be \
                 checkpointed: the WAL and the journals grow until that transaction ends"
            );
        }
    }

    /// Takes the shard away from its copier, after any pass under way, to close it. What the next file makes
    /// superfluous is not known yet.
    pub(super) fn take_shard(&mut self) -> Option<Shard> {
        self.passes = None;
        self.releasable.clear();
        self.shard.take()
    }
}
