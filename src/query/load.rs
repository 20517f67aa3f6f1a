//! The figures of queries: how many run, how many steps wait, and how many queries were refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::shares::{Full, Shares};

/// The figures, which observers read at any time.
#[derive(Debug, Default)]
pub struct QueryLoad {
    places: Option<Arc<Shares>>,
    waiting: Vec<Arc<Shares>>,
    refused: AtomicU64,
    refused_shares: AtomicU64,
}

impl QueryLoad {
    pub(super) fn new(places: Arc<Shares>, waiting: Vec<Arc<Shares>>) -> QueryLoad {
        QueryLoad { places: Some(places), waiting, ..QueryLoad::default() }
    }

    pub(super) fn refused(&self, full: Full) {
        let counter = match full {
            Full::All => &self.refused,
            Full::Share => &self.refused_shares,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of open queries.
    #[must_use]
    pub fn running(&self) -> usize {
        self.places.as_ref().map_or(0, |places| places.held())
    }

    /// Returns the number of steps that wait for a reader.
    #[must_use]
    pub fn waiting_steps(&self) -> usize {
        self.waiting.iter().map(|waiting| waiting.held()).sum()
    }

    /// Returns the number of refusals because all places were taken, and because a tenant had its share of them.
    #[must_use]
    pub fn refusals(&self) -> (u64, u64) {
        (self.refused.load(Ordering::Relaxed), self.refused_shares.load(Ordering::Relaxed))
    }
}
