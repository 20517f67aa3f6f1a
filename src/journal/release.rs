//! Releases the records that the database has stored: syncs segments where necessary, then deletes segments.

use std::fs::File;
use std::io;

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

    /// Fdatasyncs the segments up to the reader's position. This is called before a database checkpoint, so that
    /// after a power cut the journal is not behind the database.
    pub fn sync_applied(&mut self) -> Result<(), JournalError> {
        let from = self.synced.1.max(self.state.synced());
        if from >= self.at {
            return Ok(());
        }
        let mut newest = self.synced.0;
        for (index, known) in self.segments.iter().enumerate() {
            let ends = self.segments.get(index + 1).map_or(self.at, |next| next.base);
            if ends > from {
                self.sync_file(known.base)?;
                newest = Some(known.base);
            }
        }
        if newest != self.synced.0 {
            segment::sync_folder(self.state.dir())?;
        }
        self.synced = (newest, self.at);
        Ok(())
    }

    /// Syncs the newest segment. Its name and header continue the sequence when the older segments are deleted.
    fn sync_newest(&self) -> Result<(), JournalError> {
        let newest = self.state.segment();
        if self.state.fsynced() <= newest {
            self.sync_file(newest)?;
            segment::sync_folder(self.state.dir())?;
        }
        Ok(())
    }

    fn sync_file(&self, base: u64) -> Result<(), JournalError> {
        let path = segment::path(self.state.dir(), base);
        File::open(&path).and_then(|file| file.sync_data()).map_err(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                self.state.note_sync_failure();
            }
            JournalError::io(&path)(error)
        })
    }
}
