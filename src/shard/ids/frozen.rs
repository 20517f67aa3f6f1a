//! Ids that are being converted from the newest ones to a run. Their table does not change and is still searched,
//! while a thread sorts them and builds their filter. Then they are written chunk by chunk.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::filter::{BUILD_BYTES_AN_ID, Filter};
use super::run::Run;
use super::table::{Entry, Table};

pub(super) struct Frozen {
    pub(super) first_id: i64,
    pub(super) chunks: u32,
    table: Arc<Table>,
    /// The thread owns only a reference to the table. It ends by itself, even if its handle is dropped here.
    thread: Option<JoinHandle<Sorted>>,
    /// Empty until the thread is joined.
    sorted: Sorted,
}

/// The data to write to the file, and the progress of the writing.
pub(super) struct Sorted {
    pub(super) entries: Vec<Entry>,
    pub(super) filter: Filter,
    pub(super) entries_written: usize,
    pub(super) chunks_written: u32,
}

impl Sorted {
    fn new(entries: Vec<Entry>, filter: Filter) -> Sorted {
        Sorted { entries, filter, entries_written: 0, chunks_written: 0 }
    }

    /// Sorts the ids and builds their filter. Takes about 100 ns per id.
    fn build(table: &Table) -> Sorted {
        let entries = table.sorted();
        let filter = Filter::build(&entries);
        Sorted::new(entries, filter)
    }
}

impl Frozen {
    /// Starts the thread. The table is not empty.
    pub(super) fn new(first_id: i64, table: Table, chunk_ids: usize) -> Frozen {
        let chunks = table.count().div_ceil(chunk_ids) as u32;
        let table = Arc::new(table);
        let theirs = Arc::clone(&table);
        let thread = thread::Builder::new().name("ids-sort".to_owned());
        let (thread, sorted) = match thread.spawn(move || Sorted::build(&theirs)) {
            Ok(thread) => (Some(thread), Sorted::new(Vec::new(), Filter::Any)),
            // If no thread can be started, the current thread sorts the ids, which blocks it for a moment.
            Err(_) => (None, Sorted::build(&table)),
        };
        Frozen { first_id, chunks, table, thread, sorted }
    }

    /// Returns `true` while the thread runs, because no other work is possible until it ends.
    pub(super) fn is_waiting(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Returns the sorted entries. Waits for the thread.
    pub(super) fn sorted(&mut self) -> &mut Sorted {
        if let Some(thread) = self.thread.take() {
            // If the thread panicked, there is no filter. Lookups are slower, but still correct.
            let failed = |_| Sorted::new(self.table.sorted(), Filter::Any);
            self.sorted = thread.join().unwrap_or_else(failed);
        }
        &mut self.sorted
    }

    /// Returns the run that exists once everything is in the file.
    pub(super) fn into_run(self) -> Run {
        let ids = self.ids() as u32;
        Run { first_id: self.first_id, ids, chunks: self.chunks, filter: self.sorted.filter }
    }

    /// Returns `true` if all chunks are in the file.
    pub(super) fn is_written(&self) -> bool {
        self.thread.is_none() && self.sorted.chunks_written == self.chunks
    }

    pub(super) fn ids(&self) -> usize {
        self.table.count()
    }

    /// Returns the id of the row after its last one.
    pub(super) fn end(&self) -> i64 {
        self.first_id + self.ids() as i64
    }

    #[inline]
    pub(super) fn find(&self, hash: u64) -> impl Iterator<Item = i64> {
        self.table.find(hash).map(|offset| self.first_id + i64::from(offset))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let sorted = match &self.thread {
            Some(_) => self.ids() * (size_of::<Entry>() + BUILD_BYTES_AN_ID),
            None => size_of_val(&*self.sorted.entries) + self.sorted.filter.memory_bytes(),
        };
        self.table.memory_bytes() + sorted
    }
}
