//! What a shard has to do beside storing rows, in slices: sort ids into runs, erase people, free what retention
//! dropped, index what was sealed.

use std::time::Duration;

use super::error::ShardError;
use super::file::Shard;
use super::seal::BuiltIndex;

impl Shard {
    /// Whether [`Shard::upkeep`] has something to do now.
    #[must_use]
    pub fn upkeep_due(&self) -> bool {
        self.ids.work_due()
            || self.orders.ids.work_due()
            || self.erasure_due()
            || self.retain_due()
            || self.seal_due()
            || self.orders.seal_due()
    }

    /// One slice, about `budget` long: a short transaction of its own. Call it between batches. Returns an
    /// index that it completed.
    pub fn upkeep(&mut self, budget: Duration) -> Result<Option<BuiltIndex>, ShardError> {
        if self.ids.work_due() {
            self.ids.work(&mut self.connection, budget)?;
            return Ok(None);
        }
        if self.orders.ids.work_due() {
            self.orders.ids.work(&mut self.connection, budget)?;
            return Ok(None);
        }
        if self.erasure_due() {
            self.erase_slice(budget)?;
            return Ok(None);
        }
        if self.retain_due() {
            self.retain(budget)?;
            return Ok(None);
        }
        if self.seal_due() {
            return self.seal(budget);
        }
        if self.orders.seal_due() {
            return self.orders.seal(&mut self.connection, &self.path, budget);
        }
        Ok(None)
    }
}
