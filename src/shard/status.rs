//! A shard's state that any thread can read without asking its writer: plain cells that the writer sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hdrhistogram::Histogram;

use super::dropped::DropReason;
use super::holds::HeldRows;
use super::stream::{STREAMS_MAX, Stream};
use crate::base::clock;
use crate::base::counters::Cell;
use crate::base::ids::{LaneId, Sequence, ShardId};

/// The current state of a shard's writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ShardState {
    /// Closed after a failure, or not open yet. The writer retries within two seconds.
    Reopening = 0,
    /// The writer stores records, or is ready to store them.
    Open = 1,
    /// Waiting for another process to release a lock.
    Busy = 2,
    /// Waiting for space on the disk.
    Full = 3,
    /// Damaged. Nothing is applied until the file is replaced; the journal keeps new records.
    Quarantined = 4,
    /// The writer has ended.
    Stopped = 5,
}

impl ShardState {
    pub const ALL: &[ShardState] = &[
        ShardState::Reopening,
        ShardState::Open,
        ShardState::Busy,
        ShardState::Full,
        ShardState::Quarantined,
        ShardState::Stopped,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ShardState::Reopening => "reopening",
            ShardState::Open => "open",
            ShardState::Busy => "busy",
            ShardState::Full => "full",
            ShardState::Quarantined => "quarantined",
            ShardState::Stopped => "stopped",
        }
    }
}

/// A period in which the database was not written. Accepted records waited in the journals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// The cause in a word or two: `locked`, `disk full`, `quarantined`, …
    pub what: &'static str,
    /// The failure with which it began. It never contains payload text.
    pub reason: String,
    /// The beginning, in microseconds since 1970.
    pub began_us: i64,
    /// `None` while the outage lasts.
    pub ended_us: Option<i64>,
}

/// One shard's published figures. Only the shard's writer sets the fields (W3).
#[derive(Debug)]
pub struct ShardStatus {
    pub shard: ShardId,
    state: AtomicU8,
    was_open: AtomicBool,
    applied: [Cell; LaneId::COUNT_MAX as usize],
    /// Rows in the database, over all partitions, by the index of their stream.
    stored: [Cell; STREAMS_MAX],
    /// Rows that retention has dropped since the shard was created, by the index of their stream or ledger and by
    /// reason.
    dropped: [[Cell; DropReason::ALL.len()]; STREAMS_MAX],
    /// Stored records that are not rows of a stream, since the shard was created.
    pub other: Cell,
    /// New numbered changes since the start.
    pub changes: Cell,
    /// Records since the start whose id was already stored, including conflicts.
    pub duplicates: Cell,
    pub conflicts: Cell,
    /// Records that could not be stored as rows.
    pub rejected: Cell,
    pub commits: Cell,
    pub checkpoints: Cell,
    /// The number of times that the connection was closed after a failure and opened again.
    pub reopened: Cell,
    /// Records that were neither in the database nor in the journal when the shard was opened. The journal counts
    /// damage separately, so a loss may be in both figures.
    pub lost_records: Cell,
    /// Tables of all streams, as of the last checkpoint.
    pub partitions: Cell,
    pub database_bytes: Cell,
    /// Bytes in the WAL that no checkpoint has copied.
    pub wal_bytes: Cell,
    /// When an outside reader began to prevent complete checkpoints, in microseconds since 1970. 0 while none does.
    pub wal_pinned_us: Cell,
    /// 1 while upkeep is left: ids to sort, sealed partitions to index, rows to erase or to drop.
    pub upkeep_pending: Cell,
    /// When the last commit ended, in microseconds since 1970. 0 before the first.
    pub last_commit_us: Cell,
    /// 1 while a journal may contain data of suppressed people that no row contains.
    pub suppressed: Cell,
    /// The last time at which the writer had nothing to do, in microseconds since 1970. Initially the time of the
    /// start.
    pub caught_up_us: Cell,
    /// The newest acceptance time among the committed rows, in microseconds since 1970. 0 before the first.
    pub received_us_max: Cell,
    /// Bytes of rows that retention would drop, but that a sink has not confirmed.
    pub ship_held_bytes: Cell,
    /// 1 while these are more than allowed.
    pub ship_hold_full: Cell,
    ship_problem: ArcSwapOption<String>,
    commit_us: ArcSwapOption<Histogram<u64>>,
    rows_per_commit: ArcSwapOption<Histogram<u64>>,
    last_error: ArcSwapOption<String>,
    outage: ArcSwapOption<Outage>,
}

impl ShardStatus {
    #[must_use]
    pub fn new(shard: ShardId) -> ShardStatus {
        ShardStatus {
            shard,
            state: AtomicU8::new(ShardState::Reopening as u8),
            was_open: AtomicBool::new(false),
            applied: [const { Cell::new(0) }; LaneId::COUNT_MAX as usize],
            stored: [const { Cell::new(0) }; STREAMS_MAX],
            dropped: [const { [const { Cell::new(0) }; DropReason::ALL.len()] }; STREAMS_MAX],
            other: Cell::default(),
            changes: Cell::default(),
            duplicates: Cell::default(),
            conflicts: Cell::default(),
            rejected: Cell::default(),
            commits: Cell::default(),
            checkpoints: Cell::default(),
            reopened: Cell::default(),
            lost_records: Cell::default(),
            partitions: Cell::default(),
            database_bytes: Cell::default(),
            wal_bytes: Cell::default(),
            wal_pinned_us: Cell::default(),
            // Unknown until the writer has opened the shard.
            upkeep_pending: Cell::new(1),
            last_commit_us: Cell::default(),
            suppressed: Cell::default(),
            caught_up_us: Cell::new(clock::unix_us().max(0) as u64),
            received_us_max: Cell::default(),
            ship_held_bytes: Cell::default(),
            ship_hold_full: Cell::default(),
            ship_problem: ArcSwapOption::empty(),
            commit_us: ArcSwapOption::empty(),
            rows_per_commit: ArcSwapOption::empty(),
            last_error: ArcSwapOption::empty(),
            outage: ArcSwapOption::empty(),
        }
    }

    #[must_use]
    pub fn state(&self) -> ShardState {
        match self.state.load(Ordering::Acquire) {
            0 => ShardState::Reopening,
            1 => ShardState::Open,
            2 => ShardState::Busy,
            3 => ShardState::Full,
            4 => ShardState::Quarantined,
            _ => ShardState::Stopped,
        }
    }

    /// Returns `true` if the database was open at any time since the start. If it was, a database that is not found
    /// is missing; otherwise, it may not have been created yet.
    #[must_use]
    pub fn was_open(&self) -> bool {
        self.was_open.load(Ordering::Acquire)
    }

    /// Returns the last committed record of a lane.
    #[must_use]
    pub fn applied(&self, lane: LaneId) -> Sequence {
        Sequence(self.applied.get(usize::from(lane.0)).map_or(0, Cell::get))
    }

    /// Returns the most recent error, even after the writer has recovered from it.
    #[must_use]
    pub fn last_error(&self) -> Option<Arc<String>> {
        self.last_error.load_full()
    }

    /// Returns the current outage, or the last one since the start.
    #[must_use]
    pub fn outage(&self) -> Option<Arc<Outage>> {
        self.outage.load_full()
    }

    /// Returns why a file of a sink could not be read. Then no row of the shard is dropped.
    #[must_use]
    pub fn ship_problem(&self) -> Option<Arc<String>> {
        self.ship_problem.load_full()
    }

    /// Sets what the shard holds for its sinks. Only the writer calls this.
    pub fn set_held(&self, held: &HeldRows) {
        self.ship_held_bytes.set(held.bytes);
        self.ship_hold_full.set(u64::from(held.is_full));
        if self.ship_problem().as_deref() != held.problem.as_ref() {
            self.ship_problem.store(held.problem.clone().map(Arc::new));
        }
    }

    /// Returns a histogram of the commit latencies since the start, in microseconds. It may be up to about a second out
    /// of date.
    #[must_use]
    pub fn commit_us(&self) -> Option<Arc<Histogram<u64>>> {
        self.commit_us.load_full()
    }

    /// Returns a histogram of the rows per commit since the start. It may be up to about a second out of date.
    #[must_use]
    pub fn rows_per_commit(&self) -> Option<Arc<Histogram<u64>>> {
        self.rows_per_commit.load_full()
    }

    /// Returns a stream's rows in the database, over all partitions.
    #[must_use]
    pub fn stored(&self, stream: &'static Stream) -> u64 {
        self.stored[stream.place].get()
    }

    /// Returns the rows that retention has dropped for a reason, by the index of their stream or ledger.
    #[must_use]
    pub fn dropped(&self, place: usize, reason: DropReason) -> u64 {
        self.dropped.get(place).map_or(0, |of| of[reason as usize].get())
    }

    /// Returns all rows that retention has dropped.
    #[must_use]
    pub fn dropped_rows(&self) -> u64 {
        self.dropped.iter().flatten().map(Cell::get).sum()
    }

    /// Sets the rows that retention has dropped. Only the writer calls this.
    pub fn set_dropped(&self, place: usize, reason: DropReason, rows: u64) {
        if let Some(of) = self.dropped.get(place) {
            of[reason as usize].set(rows);
        }
    }

    /// Returns the rows of all streams.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.stored.iter().map(Cell::get).sum()
    }

    /// Sets a stream's rows. Only the writer calls this.
    pub fn set_stored(&self, stream: &'static Stream, rows: u64) {
        self.stored[stream.place].set(rows);
    }

    /// Sets the state. Only the writer calls this.
    pub fn set_state(&self, state: ShardState) {
        if state == ShardState::Open {
            self.was_open.store(true, Ordering::Release);
        }
        self.state.store(state as u8, Ordering::Release);
    }

    /// Sets a lane's position. Only the writer calls this. A position may decrease after a bit flipped in the WAL.
    pub fn set_applied(&self, lane: LaneId, sequence: Sequence) {
        if let Some(cell) = self.applied.get(usize::from(lane.0)) {
            cell.set(sequence.0);
        }
    }

    /// Sets the most recent error, which must not contain payload text. Only the writer calls this.
    pub fn set_last_error(&self, error: String) {
        self.last_error.store(Some(Arc::new(error)));
    }

    /// Begins an outage, or changes the cause of the current one. Only the writer calls this.
    pub fn begin_outage(&self, what: &'static str, reason: String) {
        let lasting = self.outage().filter(|outage| outage.ended_us.is_none());
        let began_us = lasting.map_or_else(clock::unix_us, |outage| outage.began_us);
        self.outage.store(Some(Arc::new(Outage { what, reason, began_us, ended_us: None })));
    }

    /// Ends the current outage, if any. Only the writer calls this.
    pub fn end_outage(&self) {
        if let Some(outage) = self.outage().filter(|outage| outage.ended_us.is_none()) {
            let ended_us = Some(clock::unix_us().max(outage.began_us));
            self.outage.store(Some(Arc::new(Outage { ended_us, ..(*outage).clone() })));
        }
    }
}

/// The writer's own histograms. It publishes clones of them, 20 KiB each, at most once a second.
#[derive(Debug)]
pub struct CommitTimes {
    commit_us: Histogram<u64>,
    rows: Histogram<u64>,
    published_us: u64,
    is_new: bool,
    last_us: u64,
}

impl CommitTimes {
    const PUBLISH_EVERY: Duration = Duration::from_secs(1);

    #[must_use]
    pub fn new() -> CommitTimes {
        let empty = || {
            // The bounds are constants that satisfy the constructor (low >= 1, high >= 2 low, digits <= 5).
            #[expect(clippy::unwrap_used, reason = "constants")]
            Histogram::new_with_bounds(1, 60_000_000, 2).unwrap()
        };
        CommitTimes { commit_us: empty(), rows: empty(), published_us: 0, is_new: false, last_us: 0 }
    }

    /// Counts one commit, in a few nanoseconds.
    pub fn record(&mut self, took_us: u64, rows: u64) {
        self.commit_us.saturating_record(took_us);
        self.rows.saturating_record(rows);
        self.is_new = true;
        self.last_us = took_us;
    }

    /// Returns how long the last commit took, in microseconds.
    #[must_use]
    pub fn last_us(&self) -> u64 {
        self.last_us
    }

    /// Publishes new values if the last publication was at least a second ago. Call it in every turn of the writer's
    /// loop, even an idle one.
    pub fn publish_if_due(&mut self, status: &ShardStatus) {
        let now_us = clock::monotonic_us();
        let is_due = now_us.saturating_sub(self.published_us) >= Self::PUBLISH_EVERY.as_micros() as u64;
        if self.is_new && is_due {
            self.published_us = now_us;
            self.publish(status);
        }
    }

    /// Publishes now.
    pub fn publish(&mut self, status: &ShardStatus) {
        status.commit_us.store(Some(Arc::new(self.commit_us.clone())));
        status.rows_per_commit.store(Some(Arc::new(self.rows.clone())));
        self.is_new = false;
    }
}

impl Default for CommitTimes {
    fn default() -> CommitTimes {
        CommitTimes::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_keeps_its_beginning_until_it_ends() {
        let status = ShardStatus::new(ShardId(0));
        status.end_outage();
        assert_eq!(status.outage(), None, "nothing ends that has not begun");
        status.begin_outage("locked", "database is locked".to_owned());
        let began = status.outage().unwrap();
        assert_eq!((began.what, began.ended_us), ("locked", None));
        status.begin_outage("disk full", "no room".to_owned());
        let other = status.outage().unwrap();
        assert_eq!((other.what, other.began_us, other.ended_us), ("disk full", began.began_us, None));
        status.end_outage();
        let over = status.outage().unwrap();
        assert_eq!(over.what, "disk full");
        assert!(over.ended_us >= Some(over.began_us), "{over:?}");
        status.end_outage();
        assert_eq!(status.outage(), Some(over.clone()), "it ends once");
        status.begin_outage("locked", "again".to_owned());
        let again = status.outage().unwrap();
        assert!(again.ended_us.is_none() && again.began_us >= over.began_us);
    }
}
