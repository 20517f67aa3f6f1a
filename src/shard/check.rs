//! Whether the path of an open shard still names its file, and whether that is as long as it was left.

use super::error::ShardError;
use super::file::Shard;
use super::identity::{Identity, beside};

impl Shard {
    /// [`ShardError::Truncated`] where the open file is shorter than the last checkpoint left it: only a checkpoint of
    /// ours makes it shorter. Pages that are not in the WAL are gone then, and the next checkpoint would hide that.
    pub(super) fn check_size(&self) -> Result<(), ShardError> {
        match Identity::with_bytes(&self.path)? {
            Some((identity, found)) if identity == self.identity => self.check_bytes(found),
            // Under another name or none it is looked after elsewhere.
            _ => Ok(()),
        }
    }

    fn check_bytes(&self, found: u64) -> Result<(), ShardError> {
        match found < self.file_bytes {
            true => Err(ShardError::Truncated { found, expected: self.file_bytes }),
            false => Ok(()),
        }
    }

    /// [`ShardError::Missing`] or [`ShardError::Replaced`] where the path (or its WAL's) is no longer
    /// the file that is open here.
    pub fn check_identity(&self) -> Result<(), ShardError> {
        match Identity::with_bytes(&self.path)? {
            None => return Err(ShardError::Missing),
            Some((found, _)) if found != self.identity => return Err(ShardError::Replaced),
            Some((_, bytes)) => self.check_bytes(bytes)?,
        }
        // A removed WAL takes every commit since the last checkpoint with it when this process ends.
        if self.wal_identity.is_some() && Identity::of(&beside(&self.path, "-wal"))? != self.wal_identity {
            return Err(ShardError::Missing);
        }
        Ok(())
    }
}
