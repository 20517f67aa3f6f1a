//! Opens a lane: finds what survived, truncates a torn tail, preserves damaged segments, and continues after them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::Path;
use std::sync::Arc;

use super::append::Appender;
use super::error::JournalError;
use super::read::Reader;
use super::state::{LaneState, Start};
use super::survey::{Damage, Survey};
use super::{Options, segment};
use crate::base::durable;
use crate::base::ids::{LaneId, Sequence};

/// The result of opening a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The oldest record.
    pub first: Option<Sequence>,
    /// The last record, or the floor. The next record gets the sequence that follows.
    pub last: Sequence,
    /// Bytes at the end that are not a complete record: a write that the process or the machine did not finish.
    pub torn_bytes_cut: u64,
    /// Damaged bytes before valid records. The reader skips exactly these bytes.
    pub damaged: Vec<Damage>,
    pub segments: usize,
    /// Bytes of the segment files.
    pub bytes: u64,
}

/// Recovers the folder (creating it if it is missing) and opens it. `floor` is the last sequence that the database
/// has applied, or `None` if the database cannot be read. The next sequence is `max(last record, floor) + 1`, so that
/// a new record is never mistaken for an applied one. Reads every segment once, at 3 GB/s from the page cache. The
/// reader starts at the oldest record.
pub fn open(
    dir: &Path,
    lane: LaneId,
    floor: Option<Sequence>,
    options: &Options,
) -> Result<(Appender, Reader, Recovered), JournalError> {
    durable::create_folder(dir).map_err(JournalError::io(dir))?;
    let lock = Arc::new(lock(dir)?);
    let mut survey = Survey::of(dir, &segment::list(dir)?, Some(lane))?;
    let torn_bytes_cut = cut_tail(&survey)?;
    let mut kept = None;
    for damage in &mut survey.damaged {
        if let Some(base) = survey.bases.iter().find(|base| segment::path(dir, **base) == damage.file) {
            let again = kept == Some(*base);
            damage.quarantined = again || segment::quarantine(dir, *base).is_ok();
            kept = damage.quarantined.then_some(*base);
        }
    }
    let recovered = Recovered {
        first: survey.first,
        last: survey.last.max(floor.unwrap_or(Sequence::NONE)),
        torn_bytes_cut,
        damaged: survey.damaged,
        segments: survey.bases.len(),
        bytes: survey.bytes - survey.torn.as_ref().map_or(0, |torn| torn.bytes),
    };
    let start = Start {
        appended: recovered.last,
        segment: survey.bases.last().copied().unwrap_or(survey.end),
        oldest: survey.bases.first().copied().unwrap_or(survey.end),
        end: survey.end,
        disk_bytes: recovered.bytes,
    };
    let state = Arc::new(LaneState::new(lane, dir.to_owned(), start));
    let expected = survey.announced.unwrap_or(recovered.last.next());
    let unpromised = recovered.damaged.iter().filter(|damage| !damage.promised).cloned().collect();
    let reader = Reader::new(state.clone(), lock.clone(), expected, unpromised);
    Ok((Appender::new(state, *options, lock), reader, recovered))
}

/// Locks the folder, because two owners would truncate each other's tails.
fn lock(dir: &Path) -> Result<File, JournalError> {
    let folder = File::open(dir).map_err(JournalError::io(dir))?;
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(JournalError::io(dir)(error)),
    }
}

/// Truncates the torn tail. Returns the number of bytes removed.
fn cut_tail(survey: &Survey) -> Result<u64, JournalError> {
    let mut cut = 0;
    if let Some(torn) = &survey.torn {
        let file = OpenOptions::new().write(true).open(&torn.path).map_err(JournalError::io(&torn.path))?;
        file.set_len(torn.keep).and_then(|()| file.sync_all()).map_err(JournalError::io(&torn.path))?;
        cut += torn.bytes;
    }
    if let Some(path) = &survey.unfinished {
        cut += fs::metadata(path).map_err(JournalError::io(path))?.len();
        fs::remove_file(path).map_err(JournalError::io(path))?;
    }
    Ok(cut)
}
