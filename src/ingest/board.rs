//! The state of every path from a journal to its shard. It consists of positions that any thread reads without a
//! lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use super::drain;
use crate::base::clock;
use crate::base::counters::Cell;
use crate::base::ids::{LaneId, Receipt, Sequence, ShardId};
use crate::journal::LaneState;
use crate::shard::{ShardState, ShardStatus};

/// One shard and the lanes that feed it. Totals count from the creation of the data folder. They are the journal's
/// own sequence numbers, so accepted = stored + pending at every moment (W4).
#[derive(Debug)]
pub struct ShardBoard {
    pub shard: ShardId,
    pub status: Arc<ShardStatus>,
    pub lanes: Vec<Arc<LaneState>>,
    /// Records per second at which the backlog was last drained; 0 while nothing drains it. The watcher writes it.
    pub drained_per_s: Cell,
    /// The writer's thread, once it runs.
    pub writer: OnceLock<Thread>,
}

/// The event counts of one shard or of all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    pub received: u64,
    pub processed: u64,
    pub pending_bytes: u64,
}

impl Flow {
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.received - self.processed
    }
}

impl ShardBoard {
    /// Wakes an idle writer, because a request waits for the next commit. The writer then starts at once instead of
    /// at its next interval.
    pub fn wake_writer(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// Returns how far behind the shard is: an upper bound on how long its oldest unstored event has waited, in
    /// microseconds. Returns 0 if no event waits. Waiting events arrived after the newest stored one, and after the
    /// writer was last idle, so time in which no event arrived does not count.
    #[must_use]
    pub fn behind_us(&self) -> u64 {
        if self.flow().pending() == 0 {
            return 0;
        }
        let since_us = self.status.received_us_max.get().max(self.status.caught_up_us.get());
        clock::unix_us().saturating_sub(since_us as i64).max(0).unsigned_abs()
    }

    /// Returns the number of seconds after which a refused client should retry.
    #[must_use]
    pub fn wait_s(&self) -> u64 {
        // A writer that cannot write drains nothing, whatever its last rate was.
        let is_written = self.status.state() == ShardState::Open;
        drain::wait_s(self.flow().pending(), if is_written { self.drained_per_s.get() } else { 0 })
    }

    #[must_use]
    pub fn flow(&self) -> Flow {
        let mut flow = Flow::default();
        for lane in &self.lanes {
            // The applied position is read first. A record is appended before it is applied, so every record that
            // counts as processed also counts as received.
            let applied = self.status.applied(lane.lane()).0;
            flow.processed += applied;
            flow.received += lane.appended().0.max(applied);
            flow.pending_bytes += lane.pending_bytes();
        }
        flow
    }
}

/// What is known about an accepted event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventState {
    Stored,
    Pending,
    /// No such receipt was ever issued.
    Unknown,
}

#[derive(Debug)]
pub struct Board {
    pub shards: Vec<ShardBoard>,
    /// Set while less than the reserve is free on the data disk.
    disk_low: AtomicBool,
    pub disk_free_bytes: Cell,
}

impl Board {
    #[must_use]
    pub fn new(shards: Vec<ShardBoard>) -> Board {
        Board { shards, disk_low: AtomicBool::new(false), disk_free_bytes: Cell::new(u64::MAX) }
    }

    #[must_use]
    pub fn flow(&self) -> Flow {
        self.shards.iter().map(ShardBoard::flow).fold(Flow::default(), |sum, flow| Flow {
            received: sum.received + flow.received,
            processed: sum.processed + flow.processed,
            pending_bytes: sum.pending_bytes + flow.pending_bytes,
        })
    }

    #[must_use]
    pub fn find(&self, receipt: Receipt) -> EventState {
        let Some(shard) = self.shards.iter().find(|board| board.shard == receipt.shard) else {
            return EventState::Unknown;
        };
        let applied = shard.status.applied(receipt.lane);
        if receipt.sequence <= applied {
            return EventState::Stored;
        }
        let appended =
            shard.lanes.iter().find(|lane| lane.lane() == receipt.lane).map(|lane| lane.appended());
        if receipt.sequence <= appended.unwrap_or(Sequence::NONE) {
            EventState::Pending
        } else {
            EventState::Unknown
        }
    }

    #[must_use]
    pub fn lane(&self, shard: ShardId, lane: LaneId) -> Option<&Arc<LaneState>> {
        self.shards.iter().find(|board| board.shard == shard)?.lanes.iter().find(|state| state.lane() == lane)
    }

    #[must_use]
    pub fn disk_low(&self) -> bool {
        self.disk_low.load(Ordering::Relaxed)
    }

    /// Returns the free bytes on the data disk, or `None` before the watcher's first check.
    #[must_use]
    pub fn disk_free(&self) -> Option<u64> {
        let free_bytes = self.disk_free_bytes.get();
        (free_bytes != u64::MAX).then_some(free_bytes)
    }

    pub fn set_disk_low(&self, low: bool) {
        self.disk_low.store(low, Ordering::Relaxed);
    }
}
