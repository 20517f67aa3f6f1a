//! Ids on their way from the newest ones to a run: their table stays as it is and is asked, while a thread
//! sorts them and builds their filter; then they are written, chunk by chunk.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::filter::{BUILD_BYTES_AN_ID, Filter};
use super::run::Run;
use super::table::{Entry, Table};

pub(super) struct Frozen {
    pub(super) first_id: i64,
    pub(super) chunks: u32,
    table: Arc<Table>,
    /// It has the table and nothing else: dropped here, it ends by itself.
    thread: Option<JoinHandle<Sorted>>,
    /// Empty until the thread is joined.
    sorted: Sorted,
}

/// What goes into the file, and how much of it is there.
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

    /// About 100 ns an id.
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
            // No thread to be had: this one stands still for a moment.
            Err(_) => (None, Sorted::build(&table)),
        };
        Frozen { first_id, chunks, table, thread, sorted }
    }

    /// Whether there is nothing to do before the thread is done.
    pub(super) fn is_waiting(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// The sorted entries; waits for the thread.
    pub(super) fn sorted(&mut self) -> &mut Sorted {
        if let Some(thread) = self.thread.take() {
            // A thread that did not end well costs the filter: slower to ask, and as right.
            let failed = |_| Sorted::new(self.table.sorted(), Filter::Any);
            self.sorted = thread.join().unwrap_or_else(failed);
        }
        &mut self.sorted
    }

    /// What it is when all of it is in the file.
    pub(super) fn into_run(self) -> Run {
        let ids = self.ids() as u32;
        Run { first_id: self.first_id, ids, chunks: self.chunks, filter: self.sorted.filter }
    }

    /// Whether all chunks are in the file.
    pub(super) fn is_written(&self) -> bool {
        self.thread.is_none() && self.sorted.chunks_written == self.chunks
    }

    pub(super) fn ids(&self) -> usize {
        self.table.count()
    }

    /// The id of the row after its last one.
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
