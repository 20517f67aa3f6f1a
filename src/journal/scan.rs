//! Reads a lane's records and its quarantined segments from outside, piece by piece, while a server may append to
//! the lane. Changes nothing.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::batch::{Batch, Loaded, Stretch, read_up_to};
use super::error::JournalError;
use super::format::HEADER_BYTES;
use super::resync::{self, Found};
use super::segment::{self, Segment};
use crate::base::ids::Sequence;

/// Bytes of a segment that are in memory at a time.
const PIECE_BYTES: usize = 256 * 1024;
/// Bytes of a quarantined file that are examined at once.
const LOOK_BYTES: usize = 1024 * 1024;
/// Bytes that two consecutive sections share.
const OVERLAP_BYTES: usize = 4 * 1024;

/// A read of the records that a lane contained when the scan was opened.
#[derive(Debug)]
pub struct Scan {
    dir: PathBuf,
    bases: VecDeque<u64>,
    current: Option<Current>,
    batch: Batch,
}

#[derive(Debug)]
struct Current {
    segment: Segment,
    salt: u32,
    at: u64,
    expected: Sequence,
}

impl Scan {
    /// Lists the lane's segments. A lane without a folder has none.
    pub fn open(dir: &Path) -> Result<Scan, JournalError> {
        let bases = if dir.is_dir() { segment::list_ours(dir)? } else { Vec::new() };
        Ok(Scan { dir: dir.to_owned(), bases: bases.into(), current: None, batch: Batch::new() })
    }

    /// Returns the next records, or `None` after the last. Skips segments that were released in the meantime, and
    /// damaged bytes: the lane's reader keeps a damaged segment in `quarantine/`.
    pub fn read(&mut self) -> Result<Option<&Batch>, JournalError> {
        loop {
            let Some(current) = &mut self.current else {
                let Some(base) = self.bases.pop_front() else { return Ok(None) };
                self.current = Segment::open(&self.dir, base, None)?.and_then(Current::of);
                continue;
            };
            let path = current.segment.path.clone();
            if current.load(&mut self.batch).map_err(JournalError::io(&path))? {
                return Ok(Some(&self.batch));
            }
            self.current = None;
        }
    }
}

impl Current {
    fn of(segment: Segment) -> Option<Current> {
        let header = segment.header()?;
        let at = segment.base + HEADER_BYTES as u64;
        Some(Current { segment, salt: header.salt, at, expected: header.first })
    }

    /// Loads the next records. Returns `false` at the end of the segment.
    fn load(&mut self, batch: &mut Batch) -> io::Result<bool> {
        let limit = self.segment.base + self.segment.bytes;
        while self.at < limit {
            let stretch = Stretch {
                file: &self.segment.file,
                base: self.segment.base,
                salt: self.salt,
                at: self.at,
                limit,
                expected: self.expected,
                jump: false,
            };
            if stretch.load(batch, usize::MAX, PIECE_BYTES)? == Loaded::Records {
                self.at += batch.bytes() as u64;
                self.expected = batch.last().map_or(self.expected, Sequence::next);
                return Ok(true);
            }
            match resync::next_sound(&stretch)? {
                Found::Record { at, sequence } => (self.at, self.expected) = (at, sequence),
                Found::Nothing | Found::GivenUp => return Ok(false),
            }
        }
        Ok(false)
    }
}

/// Returns the lane's segments in `quarantine/`.
pub fn quarantined(dir: &Path) -> Result<Vec<PathBuf>, JournalError> {
    let folder = dir.join(segment::QUARANTINE);
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(JournalError::io(&folder))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        found.push(entry.map_err(JournalError::io(&folder))?.path());
    }
    found.sort();
    Ok(found)
}

/// Returns `true` if the file contains a section for which `is_wanted` returns `true`. The function is called with
/// overlapping sections of the file, at 1 GB/s.
pub fn has_section(path: &Path, is_wanted: &mut dyn FnMut(&[u8]) -> bool) -> Result<bool, JournalError> {
    let io = |error| JournalError::io(path)(error);
    let file = File::open(path).map_err(io)?;
    let (mut buffer, mut at) = (vec![0; LOOK_BYTES], 0);
    loop {
        let filled = read_up_to(&file, &mut buffer, at).map_err(io)?;
        if is_wanted(&buffer[..filled]) {
            return Ok(true);
        }
        if filled < LOOK_BYTES {
            return Ok(false);
        }
        at += (LOOK_BYTES - OVERLAP_BYTES) as u64;
    }
}
