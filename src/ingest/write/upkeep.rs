//! What a writer does between batches: checkpoints, letting the journals forget, indexes of sealed
//! partitions.

use std::time::Duration;

use super::trouble::WriteError;
use super::{Turn, Writer};
use crate::base::clock;
use crate::shard::{CheckpointMode, ShardError};

/// Between two attempts at a checkpoint that readers hold back.
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(250);
/// An index waits for a quiet moment at most this long.
const INDEX_WAIT_MAX: Duration = Duration::from_secs(60);
/// After an index could not be built (no room to sort).
const INDEX_PAUSE: Duration = Duration::from_secs(60);

impl Writer {
    /// The checkpoint that is due by size or by age.
    pub(super) fn carry_over(&mut self) -> Result<(), WriteError> {
        let Some(shard) = &self.shard else { return Ok(()) };
        let since_us = clock::monotonic_us() - self.checkpoint_tried_us;
        let is_old = shard.wal_bytes() > 0 && since_us >= self.settings.checkpoint_age_max.as_micros() as u64;
        let mode = shard.checkpoint_due().or(is_old.then_some(CheckpointMode::Passive));
        match mode {
            Some(mode) if since_us >= CHECKPOINT_PAUSE.as_micros() as u64 => self.checkpoint(mode),
            _ => Ok(()),
        }
    }

    /// Syncs the journals, checkpoints, and lets the journals forget what is durable now.
    pub(super) fn checkpoint(&mut self, mode: CheckpointMode) -> Result<(), WriteError> {
        let Some(shard) = &mut self.shard else { return Ok(()) };
        // A failed sync of the journal is no reason to keep rows out of the database file: after a power
        // cut the journal goes on behind the database's position.
        if let Err(error) = self.lanes.sync_applied() {
            tracing::error!(shard = self.id.0, %error, "the journal could not be synced");
        }
        self.checkpoint_tried_us = clock::monotonic_us();
        let done = shard.checkpoint(mode)?;
        self.status.checkpoints.add(1);
        self.status.wal_bytes.set(done.wal_bytes);
        self.status.database_bytes.set(shard.database_bytes());
        for (lane, durable) in done.durable {
            if let Err(error) = self.lanes.release(lane, durable) {
                tracing::error!(shard = self.id.0, lane = lane.0, %error, "journal segments not deleted");
            }
        }
        Ok(())
    }

    /// One index a turn, when nothing waits or has waited for it too long.
    pub(super) fn build_index(&mut self, turn: Turn) -> Result<(), WriteError> {
        let (Some(shard), Some(since_us)) = (&mut self.shard, self.index_due_since_us) else { return Ok(()) };
        // `since` may lie ahead, after a failure.
        let waited_us = clock::monotonic_us().checked_sub(since_us);
        let is_late = waited_us.is_some_and(|waited| waited >= INDEX_WAIT_MAX.as_micros() as u64);
        if waited_us.is_none() || (turn == Turn::Behind && !is_late) {
            return Ok(());
        }
        match shard.build_index() {
            Ok(built) => {
                if let Some(built) = built {
                    let took_ms = built.took.as_millis() as u64;
                    tracing::info!(
                        shard = self.id.0,
                        index = built.index,
                        rows = built.rows,
                        took_ms,
                        "index built"
                    );
                }
                self.index_due_since_us = shard.indexes_due().then_some(since_us);
            }
            // Sorting wants room elsewhere (temporary files): rows go on without it.
            Err(ShardError::Full) => {
                self.index_due_since_us = Some(clock::monotonic_us() + INDEX_PAUSE.as_micros() as u64);
                tracing::warn!(shard = self.id.0, "no room to build an index; rows are stored without it");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
