//! The shutdown stages, visible to every thread.

use std::sync::atomic::{AtomicU8, Ordering};

/// The current stage. It only advances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Running,
    /// `/ready` reports not ready, but every request is still served.
    Unready,
    /// No new connections are accepted, and every response closes its connection.
    Draining,
    /// Lanes end. Writers empty the journals and close.
    Flushing,
}

#[derive(Debug, Default)]
pub struct Stop(AtomicU8);

impl Stop {
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.0.load(Ordering::Acquire) {
            0 => Stage::Running,
            1 => Stage::Unready,
            2 => Stage::Draining,
            _ => Stage::Flushing,
        }
    }

    pub fn advance(&self, stage: Stage) {
        self.0.fetch_max(stage as u8, Ordering::AcqRel);
    }
}
