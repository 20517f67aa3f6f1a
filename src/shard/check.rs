//! Checks that the path of an open shard still names its file, and that the file was not truncated.

use super::error::ShardError;
use super::file::Shard;
use super::identity::{Identity, beside};

impl Shard {
    /// Returns [`ShardError::Truncated`] if the open file is shorter than it was after the last checkpoint. Only
    /// checkpoints may shorten the file, so another program must have truncated it. Pages that are not in the WAL are
    /// then lost, and the next checkpoint would hide this.
    pub(super) fn check_size(&self) -> Result<(), ShardError> {
        match Identity::with_bytes(&self.path)? {
            Some((identity, found)) if identity == self.identity => self.check_bytes(found),
            // [`Shard::check_identity`] handles a file that was moved, replaced or removed.
            _ => Ok(()),
        }
    }

    fn check_bytes(&self, found: u64) -> Result<(), ShardError> {
        let may_shrink = self.can_shrink && self.is_copying;
        match found < self.file_bytes && !may_shrink {
            true => Err(ShardError::Truncated { found, expected: self.file_bytes }),
            false => Ok(()),
        }
    }

    /// Returns [`ShardError::Missing`] or [`ShardError::Replaced`] if the path (or that of the WAL) no longer names
    /// the file that is open here.
    pub fn check_identity(&self) -> Result<(), ShardError> {
        match Identity::with_bytes(&self.path)? {
            None => return Err(ShardError::Missing),
            Some((found, _)) if found != self.identity => return Err(ShardError::Replaced),
            Some((_, bytes)) => self.check_bytes(bytes)?,
        }
        // If the WAL was removed, every commit since the last checkpoint is lost when this process ends.
        if self.wal_identity.is_some() && Identity::of(&beside(&self.path, "-wal"))? != self.wal_identity {
            return Err(ShardError::Missing);
        }
        Ok(())
    }
}
