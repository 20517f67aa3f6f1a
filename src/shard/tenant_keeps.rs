//! How long rows of individual tenants are kept. The layer that owns the tenants sets it, also while shards are open.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

/// How long a tenant's rows of one kind are kept after their arrival, or after their partition was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantKeep {
    pub tenant_id: Box<str>,
    /// The setting of their stream or ledger.
    pub setting: &'static str,
    pub keep: Duration,
}

/// The current list of all tenants, shared by the shards of a process. Tenants that are not listed have no age of their
/// own.
#[derive(Clone, Debug, Default)]
pub struct TenantKeeps(Arc<ArcSwap<Vec<TenantKeep>>>);

impl TenantKeeps {
    /// Replaces the list if it differs. Every shard takes it over within a turn of its writer.
    pub fn set(&self, keeps: Vec<TenantKeep>) {
        if **self.0.load() != keeps {
            self.0.store(Arc::new(keeps));
        }
    }

    pub(super) fn current(&self) -> Arc<Vec<TenantKeep>> {
        self.0.load_full()
    }

    /// Returns `true` if this list is not the current one. Takes a few nanoseconds.
    pub(super) fn has_changed(&self, known: &Arc<Vec<TenantKeep>>) -> bool {
        !Arc::ptr_eq(&self.0.load(), known)
    }
}
