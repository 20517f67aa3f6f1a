//! Releases the records that the database has stored: syncs segments where necessary, then deletes segments.

use std::io;

use super::applied::sync_segment;
use super::error::JournalError;
use super::read::Reader;
use super::{scan, segment};
use crate::base::ids::Sequence;

impl Reader {
    /// Deletes the segments that contain no record after `durable`. The database has stored all records up to
    /// `durable` durably. Never deletes the newest segment. Returns the number of bytes freed.
    pub fn release(&mut self, durable: Sequence) -> Result<u64, JournalError> {
        while let Some((last, offset)) = self.marks.front().copied() {
            if last > durable {
                break;
            }
            self.state.set_released(offset);
            self.marks.pop_front();
        }
        let mut freed = 0;
        while let (Some(oldest), Some(next)) = (self.segments.front(), self.segments.get(1)) {
            if next.first > durable.next() {
                break;
            }
            if freed == 0 {
                self.sync_newest()?;
            }
            let path = segment::path(self.state.dir(), oldest.base);
            match std::fs::metadata(&path).and_then(|file| std::fs::remove_file(&path).map(|()| file.len())) {
                Ok(bytes) => {
                    freed += bytes;
                    self.state.count_freed(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(JournalError::io(&path)(error)),
            }
            self.segments.pop_front();
        }
        Ok(freed)
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

    /// Syncs the newest segment. Its name and header continue the sequence when the older segments are deleted.
    fn sync_newest(&self) -> Result<(), JournalError> {
        let newest = self.state.segment();
        if self.state.fsynced() <= newest && self.synced.0 < Some(newest) {
            sync_segment(&self.state, newest)?;
            segment::sync_folder(self.state.dir())?;
        }
        Ok(())
    }
}
