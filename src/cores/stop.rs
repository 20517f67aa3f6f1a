//! The stages of stopping, seen by every thread.

use std::sync::atomic::{AtomicU8, Ordering};

/// What a thread is to do now. Only ever moves on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Running,
    /// `/ready` says no; everything is still served.
    Unready,
    /// No new connections; answers close theirs.
    Draining,
    /// Lanes end; writers empty the journals and close.
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
