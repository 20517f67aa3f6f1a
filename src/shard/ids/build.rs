//! Sorting a full table of ids into a run, on a thread of its own.

use std::path::PathBuf;
use std::thread::JoinHandle;

use xorf::BinaryFuse16;

use super::run::{ENTRY_BYTES, Run, chunk_of};
use super::{HASH_BYTES, Spread, corrupt};
use crate::shard::error::ShardError;
use crate::shard::open;

/// Entries of a chunk on average: 8 KiB, half a page.
const CHUNK_ENTRIES: usize = 400;

/// A run that is being made, or is made and waits to be written.
pub(super) struct Build {
    thread: Option<JoinHandle<Result<Built, ShardError>>>,
    built: Option<Built>,
}

/// A run, sorted, not yet written or in part.
pub(super) struct Built {
    pub(super) first_id: i64,
    pub(super) last_id: i64,
    /// Sorted, as they go into the chunks.
    entries: Vec<u8>,
    /// Where each chunk ends, in entries.
    ends: Vec<u32>,
    pub(super) filter: BinaryFuse16,
    /// Chunks that are committed.
    pub(super) written: i64,
}

impl Build {
    /// Reads the hashes of these rows back from id_recent and sorts them. It has a connection of its own, so
    /// that a table's worth of hashes need not be held while it fills.
    pub(super) fn start(path: PathBuf, first_id: i64, last_id: i64) -> Result<Build, ShardError> {
        let work = move || build(&path, first_id, last_id);
        let thread = std::thread::Builder::new().name("ids".to_owned()).spawn(work)?;
        Ok(Build { thread: Some(thread), built: None })
    }

    pub(super) fn is_ready(&self) -> bool {
        self.built.is_some() || self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// The run, once it is ready. After an error the shard is opened again, and everything is still in
    /// id_recent.
    pub(super) fn built(&mut self) -> Result<&mut Built, ShardError> {
        let gone = || ShardError::Other("the thread that sorts ids is gone".to_owned());
        if let Some(thread) = self.thread.take() {
            self.built = Some(thread.join().map_err(|_| gone())??);
        }
        self.built.as_mut().ok_or_else(gone)
    }
}

impl Built {
    pub(super) fn chunks(&self) -> i64 {
        self.ends.len() as i64
    }

    pub(super) fn chunk(&self, number: i64) -> &[u8] {
        let number = number as usize;
        let start = if number == 0 { 0 } else { self.ends[number - 1] as usize };
        &self.entries[start * ENTRY_BYTES..self.ends[number] as usize * ENTRY_BYTES]
    }

    pub(super) fn run(&self, number: i64) -> Run {
        let (first_id, last_id, chunks) = (self.first_id, self.last_id, self.chunks());
        Run { number, first_id, last_id, chunks, filter: self.filter.clone() }
    }
}

fn build(path: &std::path::Path, first_id: i64, last_id: i64) -> Result<Built, ShardError> {
    let mut rows: Vec<(u128, u32)> = Vec::with_capacity((last_id - first_id + 1) as usize);
    {
        let reader = open::open_reader(path)?;
        let mut statement = reader.prepare(
            "SELECT first_id, hashes FROM id_recent WHERE first_id >= ?1 AND first_id <= ?2 ORDER BY first_id",
        )?;
        let mut found = statement.query([first_id, last_id])?;
        while let Some(row) = found.next()? {
            let start: i64 = row.get(0)?;
            let hashes = row.get_ref(1)?.as_blob().map_err(|_| corrupt("id_recent"))?;
            for (row_id, hash) in (start..).zip(hashes.as_chunks::<HASH_BYTES>().0) {
                rows.push((u128::from_be_bytes(*hash), (row_id - first_id) as u32));
            }
        }
    }
    if rows.len() as i64 != last_id - first_id + 1 {
        return Err(corrupt("id_recent"));
    }
    rows.sort_unstable();
    let chunks = (rows.len() / CHUNK_ENTRIES).max(1) as i64;
    let mut ends = vec![0_u32; chunks as usize];
    let mut entries = Vec::with_capacity(rows.len() * ENTRY_BYTES);
    let mut tags = Vec::with_capacity(rows.len());
    for (count, (hash, row)) in (1..).zip(&rows) {
        entries.extend_from_slice(&hash.to_be_bytes());
        entries.extend_from_slice(&row.to_be_bytes());
        let spread = Spread(*hash);
        tags.push(spread.tag());
        ends[chunk_of(spread, chunks) as usize] = count;
    }
    drop(rows);
    // A chunk that nothing fell into ends where the one before it does.
    for at in 1..ends.len() {
        ends[at] = ends[at].max(ends[at - 1]);
    }
    tags.dedup();
    let filter = BinaryFuse16::try_from(&tags)
        .map_err(|error| ShardError::Other(format!("no filter over {} ids: {error}", tags.len())))?;
    Ok(Built { first_id, last_id, entries, ends, filter, written: 0 })
}
