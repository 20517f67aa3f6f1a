//! The frame of building an index of a sealed partition in slices of a few milliseconds, so that no commit waits for it.
//!
//! A thread reads and sorts the entries of the partition, which no longer changes. The writer appends them, slice by
//! slice, to a table that finally becomes the index (`built.rs`).

use std::ops::Range;
use std::thread::JoinHandle;
use std::time::Duration;

use super::error::ShardError;
use super::stages::BuiltIndex;
use crate::base::clock;

/// The number of entries written between two reads of the clock.
const ENTRIES_PER_CHECK: usize = 256;

/// An index that is being built. `E` are its sorted entries, and the permit `P` is held while they are in memory.
#[derive(Debug)]
pub struct IndexBuild<E, P> {
    pub partition: String,
    /// The entries, once the thread has sorted them.
    pub entries: E,
    /// The number of committed entries.
    pub written: usize,
    started_us: u64,
    sort: Option<JoinHandle<Result<E, ShardError>>>,
    _permit: P,
}

/// The state of a build's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entries {
    Awaited,
    /// They have arrived with this call.
    Arrived,
    Present,
}

impl<E: Default + Send + 'static, P> IndexBuild<E, P> {
    /// Starts the thread. If it cannot start, the caller begins again later.
    pub fn begin(
        partition: String,
        permit: P,
        sort: impl FnOnce() -> Result<E, ShardError> + Send + 'static,
    ) -> Result<IndexBuild<E, P>, ShardError> {
        let sort = Some(std::thread::Builder::new().name("seal".to_owned()).spawn(sort)?);
        let (started_us, entries) = (clock::monotonic_us(), E::default());
        Ok(IndexBuild { partition, entries, written: 0, started_us, sort, _permit: permit })
    }

    /// Returns `true` while the thread is sorting.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.sort.as_ref().is_some_and(|sort| !sort.is_finished())
    }

    /// Receives the entries if the thread has ended. After an error, the shard is reopened and the build begins again.
    pub fn receive(&mut self) -> Result<Entries, ShardError> {
        if self.is_waiting() {
            return Ok(Entries::Awaited);
        }
        let Some(sort) = self.sort.take() else { return Ok(Entries::Present) };
        let gone = |_| ShardError::Other("the thread that sorts an index is gone".to_owned());
        self.entries = sort.join().map_err(gone)??;
        Ok(Entries::Arrived)
    }

    /// Writes entries until `until_us`, at least one piece of them, and returns the number that is written then. `count` is
    /// the number of all. The caller stores the result in [`IndexBuild::written`] once it is committed.
    pub fn write(
        &self,
        count: usize,
        until_us: u64,
        mut write: impl FnMut(&E, Range<usize>) -> Result<(), ShardError>,
    ) -> Result<usize, ShardError> {
        let mut written = self.written;
        while written < count {
            let end = count.min(written + ENTRIES_PER_CHECK);
            write(&self.entries, written..end)?;
            written = end;
            // The check follows the piece, so that every slice makes progress.
            if clock::monotonic_us() >= until_us {
                break;
            }
        }
        Ok(written)
    }

    /// Returns the report of the completed index.
    #[must_use]
    pub fn built(self, index: String) -> BuiltIndex {
        let took = Duration::from_micros(clock::monotonic_us() - self.started_us);
        BuiltIndex { partition: self.partition, index, rows: self.written as u64, took }
    }
}
