//! Results for each shard that one step of a query caches for the following steps.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::customers::CustomerSet;
use super::render::Products;
use crate::base::ids::ShardId;
use crate::base::limits::SHARD_COUNT_MAX;
use crate::shard::ShardError;

/// The results for one shard.
#[derive(Default)]
struct ShardCache {
    customers: OnceLock<Arc<CustomerSet>>,
    products: OnceLock<Products>,
}

/// The results for all shards. Clones share the results.
#[derive(Clone)]
pub struct QueryCache(Arc<[ShardCache]>);

impl Default for QueryCache {
    fn default() -> QueryCache {
        QueryCache((0..SHARD_COUNT_MAX).map(|_| ShardCache::default()).collect())
    }
}

impl fmt::Debug for QueryCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueryCache")
    }
}

/// Two caches are always equal, because the results are not part of the query.
impl PartialEq for QueryCache {
    fn eq(&self, _: &QueryCache) -> bool {
        true
    }
}

impl Eq for QueryCache {}

impl QueryCache {
    /// Returns the customers that match the query's words. The first step looks them up.
    pub(super) fn customers(
        &self,
        shard: ShardId,
        search: impl FnOnce() -> Result<CustomerSet, ShardError>,
    ) -> Result<Arc<CustomerSet>, ShardError> {
        let Some(met) = self.0.get(usize::from(shard.0)) else { return Ok(Arc::new(search()?)) };
        if let Some(known) = met.customers.get() {
            return Ok(known.clone());
        }
        // A shard runs one step of a query at a time, so no other step is searching.
        let found = Arc::new(search()?);
        Ok(met.customers.get_or_init(|| found).clone())
    }

    /// Returns the shard's product names.
    pub(super) fn products(&self, shard: ShardId) -> Option<&Products> {
        self.0.get(usize::from(shard.0)).map(|met| met.products.get_or_init(Products::default))
    }
}
