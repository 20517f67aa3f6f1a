//! What any thread may look at: the positions of a lane, lock-free, one cache line a writer.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use super::format::HEADER_BYTES;
use crate::base::counters::Cell;
use crate::base::ids::{LaneId, Sequence};

/// The published positions of one lane. Offsets are logical bytes that grow for ever.
#[derive(Debug)]
pub struct LaneState {
    lane: LaneId,
    dir: PathBuf,
    produced: CachePadded<Produced>,
    consumed: CachePadded<Consumed>,
    sync: CachePadded<Durable>,
}

/// Written by the appender; `end` last, so that whoever sees it sees the rest.
#[derive(Debug, Default)]
struct Produced {
    appended: Cell,
    segment: Cell,
    disk_bytes: Cell,
    writes: Cell,
    end: Cell,
}

/// Written by the reader.
#[derive(Debug, Default)]
struct Consumed {
    read: Cell,
    released: Cell,
    freed_bytes: Cell,
    damaged_records: Cell,
    damaged_ranges: Cell,
}

/// `synced` is written by whoever syncs; a failure may be found by the reader as well.
#[derive(Debug, Default)]
struct Durable {
    synced: Cell,
    failed_upto: AtomicU64,
    /// Segments with a base below this are not to be appended to.
    segments_left: AtomicU64,
    /// Segments with a base below this are to be left even if nothing comes.
    rotate_below: AtomicU64,
}

/// Where a lane stands when it is opened.
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
        // What was recovered may be in the page cache only: nothing counts as synced yet.
        state.consumed.released.set(start.oldest);
        state.sync.synced.set(start.oldest);
        state
    }

    #[must_use]
    pub fn lane(&self) -> LaneId {
        self.lane
    }

    /// The lane's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The last record published.
    #[must_use]
    pub fn appended(&self) -> Sequence {
        Sequence(self.produced.appended.get())
    }

    /// Offset behind the last record published.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.produced.end.get()
    }

    /// Offset the reader has come to.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.consumed.read.get()
    }

    /// Bytes published and not yet read, segment headers included.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        let read = self.read();
        self.end().saturating_sub(read)
    }

    /// Bytes of all segment files of the lane; what the cap counts. Quarantined copies are not in it.
    #[must_use]
    pub fn bytes_on_disk(&self) -> u64 {
        let freed = self.consumed.freed_bytes.get();
        self.produced.disk_bytes.get().saturating_sub(freed)
    }

    /// Everything below this offset survives a power cut: it was synced, or the database holds it.
    #[must_use]
    pub fn synced(&self) -> u64 {
        self.sync.synced.get().max(self.released())
    }

    /// For whoever syncs without a [`super::Syncer`]; one thread only, never backwards.
    pub fn set_synced(&self, offset: u64) {
        if offset > self.sync.synced.get() {
            self.sync.synced.set(offset);
        }
    }

    /// Whether an fsync failed for bytes the database does not hold yet: [`LaneState::synced`] stands
    /// still until it does, and an `ack=disk` cannot be given meanwhile.
    #[must_use]
    pub fn sync_failed(&self) -> bool {
        self.sync.failed_upto.load(Ordering::Acquire) > self.released()
    }

    /// Offset up to which [`super::Reader::release`] was told that the database holds the records.
    #[must_use]
    pub fn released(&self) -> u64 {
        self.consumed.released.get()
    }

    /// `pwrite` calls so far.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.produced.writes.get()
    }

    /// Records the reader had to skip because their bytes were damaged or gone.
    #[must_use]
    pub fn damaged_records(&self) -> u64 {
        self.consumed.damaged_records.get()
    }

    /// Damaged stretches the reader had to skip.
    #[must_use]
    pub fn damaged_ranges(&self) -> u64 {
        self.consumed.damaged_ranges.get()
    }

    /// As [`LaneState::synced`], by fsync alone.
    pub(super) fn fsynced(&self) -> u64 {
        self.sync.synced.get()
    }

    /// Base offset of the newest segment.
    pub(super) fn segment(&self) -> u64 {
        self.produced.segment.get()
    }

    pub(super) fn count_write(&self) {
        self.produced.writes.add(1);
    }

    /// By the appender, after the bytes are written.
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

    /// An fsync failed: of everything written so far and not synced nothing may be claimed, because
    /// the kernel may have dropped the pages and the next fsync would say yes.
    pub(super) fn note_sync_failure(&self) {
        self.sync.failed_upto.fetch_max(self.end(), Ordering::AcqRel);
        self.sync.segments_left.fetch_max(self.segment() + 1, Ordering::AcqRel);
    }

    /// Whether the appender must not write to the segment at `base` any more.
    #[inline]
    pub(super) fn must_leave(&self, base: u64) -> bool {
        base < self.sync.segments_left.load(Ordering::Relaxed)
            || base < self.sync.rotate_below.load(Ordering::Relaxed)
    }

    /// Asks the producer to begin another segment, so that the newest one can be released when all of it is in
    /// the database. Returns the offset that the newest segment has to begin behind; a lane without a segment
    /// has nothing to leave.
    pub fn ask_rotation(&self) -> Option<u64> {
        let base = self.segment();
        let is_empty = self.bytes_on_disk() == 0 || self.end() <= base + HEADER_BYTES as u64;
        if is_empty {
            return (self.bytes_on_disk() > 0).then_some(base);
        }
        self.sync.rotate_below.fetch_max(base + 1, Ordering::AcqRel);
        Some(base + 1)
    }

    /// Whether the newest segment begins at or behind this offset.
    #[must_use]
    pub fn is_rotated(&self, from: u64) -> bool {
        self.segment() >= from
    }

    /// Whether the newest segment is to be left although nothing came.
    #[inline]
    pub(super) fn rotation_asked(&self) -> bool {
        self.segment() < self.sync.rotate_below.load(Ordering::Relaxed) && self.bytes_on_disk() > 0
    }
}
