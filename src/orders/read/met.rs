//! What the steps of one query have met in each shard, for the steps that follow.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::customers::CustomerSet;
use super::render::Products;
use crate::base::ids::ShardId;
use crate::base::limits::SHARD_COUNT_MAX;
use crate::shard::ShardError;

/// Of one shard.
#[derive(Default)]
struct InShard {
    customers: OnceLock<Arc<CustomerSet>>,
    products: OnceLock<Products>,
}

/// Of all shards; clones share it.
#[derive(Clone)]
pub struct Met(Arc<[InShard]>);

impl Default for Met {
    fn default() -> Met {
        Met((0..SHARD_COUNT_MAX).map(|_| InShard::default()).collect())
    }
}

impl fmt::Debug for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Met")
    }
}

/// What was met is no part of the question.
impl PartialEq for Met {
    fn eq(&self, _: &Met) -> bool {
        true
    }
}

impl Eq for Met {}

impl Met {
    /// The customers that the question's words find, looked up by the first step.
    pub(super) fn customers(
        &self,
        shard: ShardId,
        search: impl FnOnce() -> Result<CustomerSet, ShardError>,
    ) -> Result<Arc<CustomerSet>, ShardError> {
        let Some(met) = self.0.get(usize::from(shard.0)) else { return Ok(Arc::new(search()?)) };
        if let Some(known) = met.customers.get() {
            return Ok(known.clone());
        }
        // One step at a time asks a shard, so nobody else is searching.
        let found = Arc::new(search()?);
        Ok(met.customers.get_or_init(|| found).clone())
    }

    /// Names of products.
    pub(super) fn products(&self, shard: ShardId) -> Option<&Products> {
        self.0.get(usize::from(shard.0)).map(|met| met.products.get_or_init(Products::default))
    }
}
