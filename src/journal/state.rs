//! A lane's positions for any thread: lock-free, one cache line per writer.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use super::format::HEADER_BYTES;
use crate::base::counters::Cell;
use crate::base::ids::{LaneId, Sequence};

/// The published positions of one lane. Offsets are logical bytes and only increase.
#[derive(Debug)]
pub struct LaneState {
    lane: LaneId,
    dir: PathBuf,
    produced: CachePadded<Produced>,
    consumed: CachePadded<Consumed>,
    sync: CachePadded<Durable>,
}

/// The positions that the appender writes. `end` is written last, so that a thread that sees its new value also sees
/// the other new values.
#[derive(Debug, Default)]
struct Produced {
    appended: Cell,
    segment: Cell,
    disk_bytes: Cell,
    writes: Cell,
    end: Cell,
}

/// The positions that the reader writes.
#[derive(Debug, Default)]
struct Consumed {
    read: Cell,
    released: Cell,
    freed_bytes: Cell,
    damaged_records: Cell,
    damaged_ranges: Cell,
}

/// The positions that the syncing thread and the reader write. Only the syncing thread writes `synced`. The reader
/// may also record a failed sync.
#[derive(Debug, Default)]
struct Durable {
    synced: Cell,
    failed_upto: AtomicU64,
    /// The appender must not write to segments with a base below this.
    segments_left: AtomicU64,
    /// If the base of the newest segment is below this, the appender must begin a new segment, even without a record.
    rotate_below: AtomicU64,
}

/// A lane's positions when it is opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) appended: Sequence,
    pub(super) segment: u64,
    pub(super) oldest: u64,
    pub(super) end: u64,
    pub(super) disk_bytes: u64,
}

impl LaneState {
    pub(super) fn new(lane: LaneId, dir: PathBuf, start: Start) -> LaneState {
        let state = LaneState {
            lane,
            dir,
            produced: CachePadded::default(),
            consumed: CachePadded::default(),
            sync: CachePadded::default(),
        };
        state.produced.appended.set(start.appended.0);
        state.produced.segment.set(start.segment);
        state.produced.disk_bytes.set(start.disk_bytes);
        state.produced.end.set(start.end);
        state.consumed.read.set(start.oldest);
        // Recovered records may be in the page cache only, so nothing counts as synced yet.
        state.consumed.released.set(start.oldest);
        state.sync.synced.set(start.oldest);
        state
    }

    #[must_use]
    pub fn lane(&self) -> LaneId {
        self.lane
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the last published record.
    #[must_use]
    pub fn appended(&self) -> Sequence {
        Sequence(self.produced.appended.get())
    }

    /// Returns the offset after the last published record.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.produced.end.get()
    }

    /// Returns the reader's offset.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.consumed.read.get()
    }

    /// Returns the number of bytes that are published but not read yet, including segment headers.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        let read = self.read();
        self.end().saturating_sub(read)
    }

    /// Returns the total size of the lane's segment files in bytes, to which the limit applies. Quarantined copies
    /// are not included.
    #[must_use]
    pub fn bytes_on_disk(&self) -> u64 {
        let freed = self.consumed.freed_bytes.get();
        self.produced.disk_bytes.get().saturating_sub(freed)
    }

    /// Returns the offset below which everything survives a power cut, because it was synced or the database has it.
    #[must_use]
    pub fn synced(&self) -> u64 {
        self.sync.synced.get().max(self.released())
    }

    /// Sets the synced offset, for code that syncs without a [`super::Syncer`]. Only one thread may call it, and the
    /// offset must not decrease.
    pub fn set_synced(&self, offset: u64) {
        if offset > self.sync.synced.get() {
            self.sync.synced.set(offset);
        }
    }

    /// Returns `true` if an fsync failed for bytes that the database does not have yet. Until the database has them,
    /// [`LaneState::synced`] does not advance, and the lane cannot promise `ack=disk`.
    #[must_use]
    pub fn sync_failed(&self) -> bool {
        self.sync.failed_upto.load(Ordering::Acquire) > self.released()
    }

    /// Returns the offset below which the database has the records, according to [`super::Reader::release`].
    #[must_use]
    pub fn released(&self) -> u64 {
        self.consumed.released.get()
    }

    /// Returns the number of `pwrite` calls so far.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.produced.writes.get()
    }

    /// Returns the number of records that the reader skipped because their bytes were damaged or missing.
    #[must_use]
    pub fn damaged_records(&self) -> u64 {
        self.consumed.damaged_records.get()
    }

    /// Returns the number of damaged sections that the reader skipped.
    #[must_use]
    pub fn damaged_ranges(&self) -> u64 {
        self.consumed.damaged_ranges.get()
    }

    /// Returns the offset below which fsync alone has made everything durable.
    pub(super) fn fsynced(&self) -> u64 {
        self.sync.synced.get()
    }

    /// Returns the base offset of the newest segment.
    pub(super) fn segment(&self) -> u64 {
        self.produced.segment.get()
    }

    pub(super) fn count_write(&self) {
        self.produced.writes.add(1);
    }

    /// Publishes a commit. The appender calls it after the bytes are written.
    pub(super) fn publish(&self, appended: Sequence, segment: u64, end: u64, bytes: u64) {
        self.produced.disk_bytes.add(bytes);
        self.produced.segment.set(segment);
        self.produced.appended.set(appended.0);
        self.produced.end.set(end);
    }

    pub(super) fn set_read(&self, offset: u64) {
        self.consumed.read.set(offset);
    }

    pub(super) fn set_released(&self, offset: u64) {
        if offset > self.consumed.released.get() {
            self.consumed.released.set(offset);
        }
    }

    pub(super) fn count_freed(&self, bytes: u64) {
        self.consumed.freed_bytes.add(bytes);
    }

    pub(super) fn count_damage(&self, records: u64) {
        self.consumed.damaged_ranges.add(1);
        self.consumed.damaged_records.add(records);
    }

    /// Notes that an fsync failed. Bytes that were written so far but not synced must not be reported as durable,
    /// because the kernel may have dropped their pages, and the next fsync would succeed regardless.
    pub(super) fn note_sync_failure(&self) {
        self.sync.failed_upto.fetch_max(self.end(), Ordering::AcqRel);
        self.sync.segments_left.fetch_max(self.segment() + 1, Ordering::AcqRel);
    }

    /// Returns `true` if the appender must no longer write to the segment at `base`.
    #[inline]
    pub(super) fn must_leave(&self, base: u64) -> bool {
        base < self.sync.segments_left.load(Ordering::Relaxed)
            || base < self.sync.rotate_below.load(Ordering::Relaxed)
    }

    /// Asks the producer to begin another segment, so that the newest one can be released once the database has all
    /// of it. Returns the offset at or after which the newest segment must begin, or `None` if the lane has no
    /// segment to rotate.
    pub fn ask_rotation(&self) -> Option<u64> {
        let base = self.segment();
        let is_empty = self.bytes_on_disk() == 0 || self.end() <= base + HEADER_BYTES as u64;
        if is_empty {
            return (self.bytes_on_disk() > 0).then_some(base);
        }
        self.sync.rotate_below.fetch_max(base + 1, Ordering::AcqRel);
        Some(base + 1)
    }

    /// Returns `true` if the newest segment begins at or after this offset.
    #[must_use]
    pub fn is_rotated(&self, from: u64) -> bool {
        self.segment() >= from
    }

    /// Returns `true` if the appender must begin a new segment even if it has no record to write.
    #[inline]
    pub(super) fn rotation_asked(&self) -> bool {
        self.segment() < self.sync.rotate_below.load(Ordering::Relaxed) && self.bytes_on_disk() > 0
    }
}
