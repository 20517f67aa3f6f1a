//! The request for a writer to stop.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::base::clock;

/// A shared, lock-free request to stop, with a deadline. Unpark the writers' threads after setting it.
#[derive(Debug, Default)]
pub struct Stop {
    requested: AtomicBool,
    deadline_us: AtomicU64,
}

impl Stop {
    #[must_use]
    pub fn new() -> Stop {
        Stop::default()
    }

    /// Asks the writer to spend at most `patience` on committing what the journals contain, and then to end. A second
    /// call moves the deadline.
    pub fn request(&self, patience: Duration) {
        let deadline_us = clock::monotonic_us().saturating_add(patience.as_micros() as u64);
        self.deadline_us.store(deadline_us, Ordering::Relaxed);
        self.requested.store(true, Ordering::Release);
    }

    #[must_use]
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// Returns `true` if a stop was requested and its deadline has passed.
    #[must_use]
    pub fn expired(&self) -> bool {
        self.requested() && clock::monotonic_us() >= self.deadline_us.load(Ordering::Relaxed)
    }
}
