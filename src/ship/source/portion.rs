//! The bounds of one read: rows, bytes and time, whichever ends first, and the place that it reaches.

use rusqlite::{Connection, Row, params};

use crate::base::clock;
use crate::shard::{ShardError, Stream, partition};

/// The number of rows between two checks of the clock.
const ROWS_PER_LOOK: usize = 32;

/// The limits on what one snapshot reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    pub rows: usize,
    /// Bytes in memory.
    pub bytes: usize,
    pub time_us: u64,
}

impl ReadLimits {
    /// The limits for one shard alone.
    pub const MAX: ReadLimits = ReadLimits { rows: 20_000, bytes: 8 << 20, time_us: 50_000 };
}

/// One read in progress.
#[derive(Debug)]
pub(super) struct Portion {
    after: i64,
    limit: i64,
    limits: ReadLimits,
    until_us: u64,
    rows: usize,
    bytes: usize,
    skipped: u64,
    /// The place after the rows so far. `None`: no row ended the read, so it reaches the limit.
    ended_at: Option<i64>,
}

/// The decision whether a read continues after a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Continue,
    End,
}

impl Portion {
    /// Begins a read of the ids in `(after, limit]`.
    pub(super) fn new((after, limit): (i64, i64), limits: ReadLimits) -> Portion {
        let until_us = clock::monotonic_us().saturating_add(limits.time_us);
        Portion { after, limit, limits, until_us, rows: 0, bytes: 0, skipped: 0, ended_at: None }
    }

    /// Returns the place that the read has reached.
    pub(super) fn last(&self) -> i64 {
        self.ended_at.unwrap_or(self.limit)
    }

    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Counts a row of this size in memory.
    pub(super) fn count(&mut self, id: i64, bytes: usize) -> Next {
        self.rows += 1;
        self.bytes += bytes;
        let is_late = || self.rows.is_multiple_of(ROWS_PER_LOOK) && clock::monotonic_us() >= self.until_us;
        if self.rows >= self.limits.rows || self.bytes >= self.limits.bytes || is_late() {
            self.ended_at = Some(id);
            return Next::End;
        }
        Next::Continue
    }

    /// Counts a row that is not sent, because what it names no longer exists.
    pub(super) fn skip(&mut self, id: i64) -> Next {
        self.skipped += 1;
        self.count(id, 0)
    }

    /// Ends the read before a row.
    pub(super) fn end_before(&mut self, id: i64) -> Next {
        self.ended_at = Some(id - 1);
        Next::End
    }

    /// Calls `each` with the rows of a table in order of id. `sql` has the condition `id > ?1 AND id <= ?2`.
    pub(super) fn read_table(
        &mut self,
        snapshot: &Connection,
        sql: &str,
        mut each: impl FnMut(&mut Portion, &Row<'_>) -> Result<Next, ShardError>,
    ) -> Result<Next, ShardError> {
        let mut statement = snapshot.prepare_cached(sql)?;
        let mut rows = statement.query(params![self.after, self.limit])?;
        while let Some(row) = rows.next()? {
            if each(self, row)? == Next::End {
                return Ok(Next::End);
            }
        }
        Ok(Next::Continue)
    }

    /// Calls `each` with the rows of a stream's partitions in order of id, and with the partition's name. `sql` returns
    /// the statement for a partition.
    pub(super) fn read_stream(
        &mut self,
        snapshot: &Connection,
        stream: &'static Stream,
        sql: impl Fn(&str) -> String,
        mut each: impl FnMut(&mut Portion, &Row<'_>, &str) -> Result<Next, ShardError>,
    ) -> Result<(), ShardError> {
        let firsts = partition::firsts(snapshot, stream)?;
        // The partition of the next id, and all after it.
        let from = firsts.partition_point(|(first, _)| *first <= self.after + 1).saturating_sub(1);
        for (first, name) in &firsts[from..] {
            if *first > self.limit {
                break;
            }
            if self.read_table(snapshot, &sql(name), |portion, row| each(portion, row, name))? == Next::End {
                break;
            }
        }
        Ok(())
    }
}

/// The memory of a row beyond its texts.
pub(super) const ROW_BYTES: usize = 160;

/// Returns a column's text.
pub(super) fn text(row: &Row<'_>, at: usize) -> Result<String, ShardError> {
    Ok(row.get_ref(at)?.as_str().map_err(rusqlite::Error::from)?.to_owned())
}
