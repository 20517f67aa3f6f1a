//! Releases the records that the database has stored: syncs segments where necessary, then deletes segments.

use std::io;
use std::sync::Arc;

use super::applied::sync_segment;
use super::error::JournalError;
use super::read::Reader;
use super::state::LaneState;
use super::{scan, segment};
use crate::base::ids::{LaneId, Sequence};

/// Segments to delete, prepared by a reader. Deleting one of 64 MiB takes milliseconds, so it may run on another thread
/// than the reader's. Only one release of a lane may run at a time.
#[derive(Debug)]
pub struct SegmentRelease {
    state: Arc<LaneState>,
    /// Base offsets, in order.
    segments: Vec<u64>,
    /// The newest segment, if it must be synced first.
    unsynced: Option<u64>,
    /// The number of segments that are gone, and their bytes.
    deleted: usize,
    freed: u64,
    result: Result<(), JournalError>,
}

impl SegmentRelease {
    #[must_use]
    pub fn lane(&self) -> LaneId {
        self.state.lane()
    }

    /// Deletes the segments now, on the calling thread. [`Reader::released`] takes over the result.
    pub fn run(&mut self) {
        self.result = self.delete();
    }

    fn delete(&mut self) -> Result<(), JournalError> {
        if let Some(newest) = self.unsynced {
            sync_segment(&self.state, newest)?;
            segment::sync_folder(self.state.dir())?;
        }
        for base in &self.segments {
            let path = segment::path(self.state.dir(), *base);
            match std::fs::metadata(&path).and_then(|file| std::fs::remove_file(&path).map(|()| file.len())) {
                Ok(bytes) => {
                    self.freed += bytes;
                    self.state.count_freed(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(JournalError::io(&path)(error)),
            }
            self.deleted += 1;
        }
        Ok(())
    }
}

impl Reader {
    /// Releases the records up to `durable`, all of which the database has stored durably. Prepares the deletion of each
    /// segment without a later record, but never of the newest one. Returns `None` if there is no such segment.
    pub fn plan_release(&mut self, durable: Sequence) -> Option<SegmentRelease> {
        while let Some((last, offset)) = self.marks.front().copied() {
            if last > durable {
                break;
            }
            self.state.set_released(offset);
            self.marks.pop_front();
        }
        let pairs = self.segments.iter().zip(self.segments.iter().skip(1));
        let gone = pairs.take_while(|(_, next)| next.first <= durable.next());
        let segments: Vec<u64> = gone.map(|(oldest, _)| oldest.base).collect();
        if segments.is_empty() {
            return None;
        }
        // The newest segment's name and header continue the sequence when the older segments are deleted.
        let newest = self.state.segment();
        let is_unsynced = self.state.fsynced() <= newest && self.synced.0 < Some(newest);
        Some(SegmentRelease {
            state: Arc::clone(&self.state),
            segments,
            unsynced: is_unsynced.then_some(newest),
            deleted: 0,
            freed: 0,
            result: Ok(()),
        })
    }

    /// Takes over the result of a release that this reader prepared. Returns the number of bytes freed.
    ///
    /// # Errors
    /// A segment could not be deleted, or the newest one not synced. The next release tries again.
    pub fn released(&mut self, release: SegmentRelease) -> Result<u64, JournalError> {
        let SegmentRelease { segments, deleted, freed, result, .. } = release;
        if let Some(last) = segments[..deleted].last() {
            // The reader may have moved in the meantime, and listed the segments again.
            while self.segments.len() > 1 && self.segments.front().is_some_and(|oldest| oldest.base <= *last)
            {
                self.segments.pop_front();
            }
        }
        result.map(|()| freed)
    }

    /// Deletes on this thread what [`Reader::plan_release`] prepares. Returns the number of bytes freed.
    ///
    /// # Errors
    /// As [`Reader::released`].
    pub fn release(&mut self, durable: Sequence) -> Result<u64, JournalError> {
        let Some(mut release) = self.plan_release(durable) else { return Ok(0) };
        release.run();
        self.released(release)
    }

    /// Returns `true` if no segment begins below this offset, so that all their records were released.
    #[must_use]
    pub fn is_released_below(&self, base: u64) -> bool {
        self.segments.front().is_some_and(|oldest| oldest.base >= base)
    }

    /// Syncs the folder, so that the names of deleted segments do not reappear after a power cut.
    pub fn sync_deletions(&self) -> Result<(), JournalError> {
        let quarantine = self.state.dir().join(segment::QUARANTINE);
        if quarantine.is_dir() {
            segment::sync_folder(&quarantine)?;
        }
        segment::sync_folder(self.state.dir())
    }

    /// Deletes the lane's segments in `quarantine/` that contain a section for which `is_wanted` returns `true`. The
    /// function is called with overlapping sections of each file. Returns the number of deleted files. A file may be
    /// as large as a segment, and is searched at 1 GB/s.
    pub fn purge_quarantine(&self, is_wanted: &dyn Fn(&[u8]) -> bool) -> Result<u64, JournalError> {
        let mut gone = 0;
        for path in scan::quarantined(self.state.dir())? {
            if scan::has_section(&path, &mut |section| is_wanted(section))? {
                std::fs::remove_file(&path).map_err(JournalError::io(&path))?;
                gone += 1;
            }
        }
        Ok(gone)
    }
}
