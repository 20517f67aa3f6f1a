//! A shard's work in addition to storing rows, in slices between batches, stage by stage; and its requests to
//! the writer.

use std::time::Duration;

use super::copied::CopiedFile;
use super::error::ShardError;
use super::family::Renewed;
use super::file::Shard;
use super::stages::{BuiltIndex, Stage, WriterTask};
use crate::base::ids::{LaneId, Sequence};

impl Shard {
    /// Returns `true` if [`Shard::upkeep`] has work now.
    #[must_use]
    pub fn upkeep_due(&self) -> bool {
        self.retain_due()
            || self.trim_due()
            || Stage::ALL.iter().any(|stage| self.stores.iter().any(|store| store.upkeep_due(*stage, self)))
    }

    /// Returns `true` until nothing is left to do.
    #[must_use]
    pub fn upkeep_pending(&self) -> bool {
        self.upkeep_due() || self.upkeep_waits()
    }

    /// Returns `true` while [`Shard::upkeep`] waits for a sort or for another shard.
    #[must_use]
    pub fn upkeep_waits(&self) -> bool {
        self.stores.iter().any(|store| store.upkeep_waits())
    }

    /// Returns `true` if reads are slow until the upkeep is done.
    #[must_use]
    pub fn is_upkeep_urgent(&self) -> bool {
        self.stores.iter().any(|store| store.is_upkeep_urgent())
    }

    /// Runs one slice of about `budget`, in short separate transactions. Call it between batches. Returns an index if
    /// the slice completed one.
    pub fn upkeep(&mut self, budget: Duration) -> Result<Option<BuiltIndex>, ShardError> {
        CopiedFile::begin_epoch(&mut self.copied, &mut self.connection)?;
        for stage in Stage::ALL {
            if stage == Stage::Retain {
                if self.retain_due() {
                    self.retain(budget)?;
                    return Ok(None);
                }
                continue;
            }
            let due = self.stores.iter().position(|store| store.upkeep_due(stage, self));
            let Some((family, mut store)) = due.and_then(|family| Some((family, self.stores.take(family)?)))
            else {
                continue;
            };
            let done = store.upkeep(stage, self, budget);
            self.stores.put_back(family, store);
            return done;
        }
        if self.trim_due() {
            self.trim(budget)?;
        }
        Ok(None)
    }

    /// Returns the task that a family waits for and that only the writer can do.
    #[must_use]
    pub fn writer_task(&self) -> WriterTask {
        let mut tasks = self.stores.iter().map(|store| store.writer_task());
        tasks.find(|task| *task != WriterTask::Nothing).unwrap_or(WriterTask::Nothing)
    }

    /// Passes the newest records of the journals to the families, after [`WriterTask::ReportLanes`].
    pub fn lanes_reported(&mut self, lanes: &[(LaneId, Sequence)]) {
        self.stores.iter_mut().for_each(|store| store.lanes_reported(lanes));
    }

    /// Returns `true` if undecodable bytes may contain what [`WriterTask::RotateJournals`] has to remove.
    #[must_use]
    pub fn may_contain_erased(&self, bytes: &[u8]) -> bool {
        self.stores.iter().any(|store| store.may_contain_erased(bytes))
    }

    /// Passes the result of [`WriterTask::RotateJournals`] to the families.
    pub fn journals_renewed(&mut self, renewed: Renewed) -> Result<(), ShardError> {
        let Shard { stores, connection, .. } = self;
        stores.iter_mut().try_for_each(|store| store.journals_renewed(connection, renewed))
    }

    /// Notifies the families after [`WriterTask::TruncateWal`].
    pub fn wal_truncated(&mut self) -> Result<(), ShardError> {
        let Shard { stores, connection, .. } = self;
        stores.iter_mut().try_for_each(|store| store.wal_truncated(connection))
    }
}
