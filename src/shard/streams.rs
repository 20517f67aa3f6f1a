//! An open shard's streams: for each, the open partition, the earlier ones, and the number of rows.

use rusqlite::Connection;

use super::error::ShardError;
use super::options::ShardOptions;
use super::partition::{Partition, firsts, table_of};
use super::stream::Stream;
use super::totals::load_total;

/// One stream of an open shard, as committed.
#[derive(Debug)]
pub struct StreamState {
    pub stream: &'static Stream,
    /// `None` before the first row.
    pub open: Option<Partition>,
    /// The first row id and table of every partition, oldest first.
    pub firsts: Vec<(i64, String)>,
    /// Rows over all partitions.
    pub rows: u64,
    /// The maximum number of rows of a partition.
    pub partition_rows_max: u64,
}

/// The streams of all families.
#[derive(Debug)]
pub struct Streams(Vec<StreamState>);

impl Streams {
    pub(super) fn load(
        connection: &Connection,
        streams: impl Iterator<Item = &'static Stream>,
        options: &ShardOptions,
    ) -> Result<Streams, ShardError> {
        let load = |stream: &'static Stream| {
            Ok(StreamState {
                stream,
                open: Partition::load(connection, stream)?,
                firsts: firsts(connection, stream)?,
                rows: load_total(connection, stream.total)?,
                // With a limit of 0, partitions would be empty and have the same first id.
                partition_rows_max: options.partition_rows_max(stream).max(1),
            })
        };
        streams.map(load).collect::<Result<_, ShardError>>().map(Streams)
    }

    /// Returns a stream's state.
    ///
    /// # Panics
    /// Panics if no family of the shard has the stream.
    #[must_use]
    pub fn get(&self, stream: &'static Stream) -> &StreamState {
        let found = self.0.iter().find(|state| state.stream == stream);
        found.unwrap_or_else(|| unreachable!("the shard has no stream {}", stream.name))
    }

    /// Returns a stream's state, as [`Streams::get`] does.
    pub fn get_mut(&mut self, stream: &'static Stream) -> &mut StreamState {
        let found = self.0.iter_mut().find(|state| state.stream == stream);
        found.unwrap_or_else(|| unreachable!("the shard has no stream {}", stream.name))
    }

    pub fn iter(&self) -> impl Iterator<Item = &StreamState> {
        self.0.iter()
    }

    pub(super) fn changes(&self) -> Vec<StreamChange<'_>> {
        self.0.iter().map(StreamChange::of).collect()
    }

    /// Applies a committed batch's changes.
    pub(super) fn commit(&mut self, done: Vec<StreamDone>) {
        for (state, done) in self.0.iter_mut().zip(done) {
            state.open = done.open;
            state.firsts.extend(done.firsts);
            state.rows += done.rows;
        }
    }
}

impl StreamState {
    /// Returns the tables of all partitions, oldest first.
    #[must_use]
    pub fn tables(&self) -> Vec<&str> {
        self.firsts.iter().map(|(_, name)| name.as_str()).collect()
    }

    /// Makes the next partition the open one, after the commit that created it.
    pub fn opened(&mut self, next: Partition) {
        self.firsts.push((next.next_id, next.name.clone()));
        self.open = Some(next);
    }
}

/// The changes of one transaction to a stream's state in memory. They are applied after the commit.
#[derive(Debug)]
pub struct StreamChange<'t> {
    before: &'t StreamState,
    open: Option<Partition>,
    firsts: Vec<(i64, String)>,
    is_sealed: bool,
}

/// A [`StreamChange`] that no longer borrows the stream's state.
pub(super) struct StreamDone {
    open: Option<Partition>,
    firsts: Vec<(i64, String)>,
    rows: u64,
}

impl<'t> StreamChange<'t> {
    fn of(before: &'t StreamState) -> StreamChange<'t> {
        StreamChange { before, open: before.open.clone(), firsts: Vec::new(), is_sealed: false }
    }

    #[must_use]
    pub fn stream(&self) -> &'static Stream {
        self.before.stream
    }

    /// Returns the partition for new rows: the open one, or a new one if there is none or it is full. Called in the
    /// batch's transaction.
    pub fn partition(&mut self, transaction: &Connection) -> Result<&mut Partition, ShardError> {
        let rows_max = self.before.partition_rows_max;
        let is_kept = self.open.as_ref().is_some_and(|open| open.rows < rows_max);
        self.partition_unless(transaction, !is_kept, false)
    }

    /// Returns the partition for new rows: the open one, or a new one of the given kind if there is none or if it
    /// `is_over`. Called in the batch's transaction.
    pub fn partition_unless(
        &mut self,
        transaction: &Connection,
        is_over: bool,
        is_unordered: bool,
    ) -> Result<&mut Partition, ShardError> {
        let open = match self.open.take() {
            Some(open) if open.rows == 0 || !is_over => open,
            full => {
                self.is_sealed |= full.is_some();
                let next = Partition::create(transaction, self.before.stream, full.as_ref(), is_unordered)?;
                self.firsts.push((next.next_id, next.name.clone()));
                next
            }
        };
        Ok(self.open.insert(open))
    }

    /// Returns the maximum number of rows of a partition.
    #[must_use]
    pub fn partition_rows_max(&self) -> u64 {
        self.before.partition_rows_max
    }

    /// Returns the open partition, if there is one.
    #[inline]
    pub fn open(&mut self) -> Option<&mut Partition> {
        self.open.as_mut()
    }

    /// Returns the table that contains a row id.
    #[must_use]
    pub fn table_of(&self, row_id: i64) -> Option<&str> {
        let is_new = self.firsts.first().is_some_and(|(first, _)| *first <= row_id);
        table_of(if is_new { &self.firsts } else { &self.before.firsts }, row_id)
    }

    /// Returns the tables of all partitions, oldest first.
    #[must_use]
    pub fn tables(&self) -> Vec<&str> {
        let mut tables = self.before.tables();
        tables.extend(self.firsts.iter().map(|(_, name)| name.as_str()));
        tables
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.is_sealed
    }

    /// Writes the counters of the open partition.
    pub(super) fn save(&self, transaction: &Connection) -> Result<(), ShardError> {
        self.open.as_ref().map_or(Ok(()), |open| open.save(transaction))
    }

    pub(super) fn done(self, rows: u64) -> StreamDone {
        StreamDone { open: self.open, firsts: self.firsts, rows }
    }
}
