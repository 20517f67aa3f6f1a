//! A writer's work between batches apart from checkpoints: slices of upkeep, and what erasures require.

use std::time::Duration;

use super::failure::WriteError;
use super::passes::CHECKPOINT_PAUSE;
use super::{Writer, publish_rows};
use crate::base::clock;
use crate::shard::{CheckpointMode, Renewed, Shard, ShardError, WriterTask};

/// The pause between two attempts to truncate the WAL for an erasure.
const ERASURE_PAUSE: Duration = Duration::from_millis(20);
/// The pause between two journal rotations that are due to erased people's data arriving again.
const FORGET_PAUSE: Duration = Duration::from_secs(60);
/// The length of an upkeep slice between two batches: far below a flush interval.
const UPKEEP_SLICE: Duration = Duration::from_millis(4);
/// The maximum length of a slice of upkeep that reads wait for. It is as long as the last batch took.
const URGENT_SLICE_MAX: Duration = Duration::from_millis(32);
/// The pause after upkeep has found no space.
const UPKEEP_FULL_PAUSE: Duration = Duration::from_secs(60);

impl Writer {
    /// Returns `true` if a slice of upkeep can run now.
    pub(super) fn upkeep_due(&self) -> bool {
        self.shard.as_ref().is_some_and(Shard::upkeep_due) && clock::monotonic_us() >= self.upkeep_from_us
    }

    /// Runs one slice of upkeep per turn. Upkeep makes reads and lookups fast, and frees disk space.
    pub(super) fn keep_up(&mut self) -> Result<(), WriteError> {
        let Some(shard) = &mut self.shard else { return Ok(()) };
        let is_due = shard.upkeep_due();
        self.status.upkeep_pending.set(u64::from(is_due || shard.upkeep_waits()));
        if !is_due || clock::monotonic_us() < self.upkeep_from_us {
            return Ok(());
        }
        let slice = match shard.is_upkeep_urgent() {
            true => Duration::from_micros(self.times.last_us()).clamp(UPKEEP_SLICE, URGENT_SLICE_MAX),
            false => UPKEEP_SLICE,
        };
        match shard.upkeep(slice) {
            Ok(None) => {}
            Ok(Some(built)) => {
                let took_ms = built.took.as_millis() as u64;
                tracing::info!(
                    shard = self.id.0,
                    index = built.index,
                    rows = built.rows,
                    took_ms,
                    "index built"
                );
            }
            // Rows are stored even without upkeep.
            Err(ShardError::Full) => {
                self.upkeep_from_us = clock::monotonic_us() + UPKEEP_FULL_PAUSE.as_micros() as u64;
                tracing::warn!(
                    shard = self.id.0,
                    "no space for upkeep (indexes, sorted ids); it is tried again later"
                );
            }
            Err(error) => return Err(error.into()),
        }
        self.status.wal_bytes.set(shard.wal_bytes());
        publish_rows(&self.status, shard);
        self.status.rejected.set(shard.rejected());
        Ok(())
    }

    /// Does the work on the journals and the WAL that a family has requested.
    pub(super) fn help_shard(&mut self) -> Result<(), WriteError> {
        let Some(shard) = &mut self.shard else { return Ok(()) };
        match shard.writer_task() {
            WriterTask::Nothing => {
                // A rotation for an earlier task does not count for the next one.
                self.rotation = None;
                return Ok(());
            }
            WriterTask::ReportLanes => {
                self.rotation = None;
                shard.lanes_reported(&self.lanes.appended());
                return Ok(());
            }
            WriterTask::RotateJournals => {}
            WriterTask::TruncateWal => return self.truncate_wal(),
        }
        let rotation = self.rotation.get_or_insert_with(|| self.lanes.rotate());
        let since_us = clock::monotonic_us() - self.checkpoint_tried_us;
        if !self.lanes.are_rotated(rotation) || since_us < ERASURE_PAUSE.as_micros() as u64 {
            return Ok(());
        }
        // The journals release what the database file contains, once no reader delays the checkpoint.
        self.checkpoint(CheckpointMode::Truncate)?;
        let (Some(shard), Some(rotation)) = (&mut self.shard, &self.rotation) else { return Ok(()) };
        let Some((journals, bytes)) = self.lanes.are_released(rotation) else { return Ok(()) };
        let quarantined = self.lanes.purge_quarantine(&|bytes| shard.may_contain_erased(bytes))?;
        // The certificate states that the segments are deleted, so the deletions must be durable.
        self.lanes.sync_deletions()?;
        shard.journals_renewed(Renewed { journals, bytes, quarantined })?;
        self.rotation = None;
        Ok(())
    }

    /// Removes erased people's data that arrived again. The rows do not contain it, but the journals may. Such
    /// journals start new segments, and the old segments are deleted, at most once a minute.
    pub(super) fn forget_again(&mut self) -> Result<(), WriteError> {
        let now_us = clock::monotonic_us();
        let is_erasing = self.rotation.is_some();
        let Some(rotation) = &self.forgetting else {
            if self.status.suppressed.get() > 0 && now_us >= self.forget_from_us && !is_erasing {
                // This is cleared before the lanes are read. Data that arrives later is handled next time.
                self.status.suppressed.set(0);
                self.forget_from_us = now_us + FORGET_PAUSE.as_micros() as u64;
                self.forgetting = Some(self.lanes.rotate_keyed());
            }
            return Ok(());
        };
        let since_us = now_us - self.checkpoint_tried_us;
        if !self.lanes.are_rotated(rotation) || since_us < CHECKPOINT_PAUSE.as_micros() as u64 {
            return Ok(());
        }
        if self.lanes.are_released(rotation).is_none() {
            self.begin_pass()?;
        }
        if self.forgetting.as_ref().is_some_and(|rotation| self.lanes.are_released(rotation).is_some()) {
            self.forgetting = None;
        }
        Ok(())
    }

    /// Truncates the WAL for an erasure. After that, the database file contains every page in its current state, and
    /// the WAL, which readers may still use, contains nothing.
    fn truncate_wal(&mut self) -> Result<(), WriteError> {
        if clock::monotonic_us() - self.checkpoint_tried_us < ERASURE_PAUSE.as_micros() as u64 {
            return Ok(());
        }
        self.checkpoint(CheckpointMode::Truncate)?;
        if let Some(shard) = self.shard.as_mut().filter(|shard| shard.is_wal_truncated()) {
            // The WAL is truncated in the page cache only, and its old content must not reappear.
            shard.sync_wal()?;
            shard.wal_truncated()?;
            tracing::info!(shard = self.id.0, "a person was erased");
        }
        Ok(())
    }
}
