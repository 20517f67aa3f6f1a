//! Group fdatasync: plans which files must reach the disk, for a runtime that does the I/O itself.
//!
//! A failed fsync is never simply retried: the kernel may have dropped the pages that it could not write, and the
//! next fsync would succeed. The appender therefore stops writing to that segment, nothing written up to then is
//! reported as durable, and `synced` does not advance until the database has those records durably
//! ([`super::Reader::release`]). In the meantime, [`Syncer::plan`] returns `None`, and the consumer still reads the
//! acknowledged records from the page cache. A folder that cannot be listed counts as a failed fsync: a waiting
//! request gets an error instead of waiting for a plan that never comes.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::JournalError;
use super::segment;
use super::state::LaneState;
use crate::base::durable;
use crate::base::ids::LaneId;

/// Plans fdatasyncs for one lane. There is one per lane, on any one thread.
#[derive(Debug)]
pub struct Syncer {
    state: Arc<LaneState>,
    /// The newest segment whose name is known to be on disk.
    segment: Option<u64>,
}

/// Work that makes everything below `upto` survive a power cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncPlan {
    /// Files to fdatasync. A missing file was released, so its records are in the database.
    pub files: Vec<PathBuf>,
    /// Folder to fsync after the files, if a segment is new.
    pub directory: Option<PathBuf>,
    pub upto: u64,
    segment: u64,
}

impl Syncer {
    #[must_use]
    pub fn new(state: Arc<LaneState>) -> Syncer {
        Syncer { state, segment: None }
    }

    #[must_use]
    pub fn lane(&self) -> LaneId {
        self.state.lane()
    }

    /// Returns what to sync now, or `None` if nothing is new. After a failure, also returns `None` until the database
    /// has the records that the failure may have lost. Lists the folder once per segment.
    ///
    /// # Errors
    /// Returns an error if the files cannot be listed. This counts as a failed sync and is already recorded.
    pub fn plan(&mut self) -> Result<Option<SyncPlan>, JournalError> {
        let plan = self.try_plan();
        if plan.is_err() {
            self.state.note_sync_failure();
        }
        plan
    }

    fn try_plan(&self) -> Result<Option<SyncPlan>, JournalError> {
        let upto = self.state.end();
        let newest = self.state.segment();
        let synced = self.state.synced();
        if upto <= synced || self.state.sync_failed() {
            return Ok(None);
        }
        let dir = self.state.dir();
        if self.segment == Some(newest) && synced >= newest {
            return Ok(Some(SyncPlan {
                files: vec![segment::path(dir, newest)],
                directory: None,
                upto,
                segment: newest,
            }));
        }
        let mut bases = segment::list_ours(dir)?;
        bases.retain(|base| *base < upto);
        let from = bases.iter().rposition(|base| *base <= synced).unwrap_or(0);
        let Some(segment) = bases.last().copied() else {
            // The files were released in the meantime, or another program removed them.
            return match self.state.synced() >= upto {
                true => Ok(None),
                false => Err(JournalError::io(dir)(io::ErrorKind::NotFound.into())),
            };
        };
        let files = bases[from..].iter().map(|base| segment::path(dir, *base)).collect();
        Ok(Some(SyncPlan { files, directory: Some(dir.to_owned()), upto, segment }))
    }

    /// Publishes `synced` after everything in the plan succeeded, unless a failure was found in the meantime.
    pub fn done(&mut self, plan: SyncPlan) {
        if !self.state.sync_failed() {
            self.segment = Some(plan.segment);
            self.state.set_synced(plan.upto);
        }
    }

    /// Syncs now, on the calling thread.
    ///
    /// # Errors
    /// Returns disk errors. In that case, nothing is reported as durable.
    pub fn sync(&mut self) -> io::Result<()> {
        let Some(plan) = self.plan().map_err(io::Error::other)? else { return Ok(()) };
        let files = plan.files.iter().try_for_each(|file| File::open(file)?.sync_data());
        match files.and_then(|()| plan.directory.as_deref().map_or(Ok(()), durable::sync_folder)) {
            Ok(()) => self.done(plan),
            Err(error) => {
                self.failed(plan);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Notes that a part of the plan failed (see the module's documentation). Call this also if the result of a part
    /// never arrives.
    pub fn failed(&mut self, plan: SyncPlan) {
        drop(plan);
        self.state.note_sync_failure();
    }
}
