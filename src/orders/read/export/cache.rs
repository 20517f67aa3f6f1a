//! What the steps of an export have read of a shard, for the next steps.

use rusqlite::Connection;

use super::columns::HeldSegment;
use super::names::NameCache;
use crate::base::ids::ShardId;
use crate::shard::{Identity, ShardError};

/// Names and a segment that earlier steps have read.
#[derive(Debug, Default)]
pub struct StepCache {
    /// The shard and its database file. If another file replaces it, the numbers change.
    of: Option<(ShardId, Identity)>,
    pub(super) names: NameCache,
    pub(super) segment: HeldSegment,
}

impl StepCache {
    /// Prepares the cache for a shard. Clears it if it holds the content of another file.
    pub(super) fn begin(&mut self, connection: &Connection, shard: ShardId) -> Result<(), ShardError> {
        let path = connection.path().unwrap_or_default();
        let of = Identity::of(path.as_ref())?.map(|identity| (shard, identity));
        if of.is_none() || of != self.of {
            self.of = of;
            self.names.clear();
            self.segment.clear();
        }
        Ok(())
    }
}
