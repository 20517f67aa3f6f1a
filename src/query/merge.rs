//! Merges the shards' partials into one order. While one partial of a shard is consumed, its next one is read.

use std::cmp::Ordering;

use super::QueryError;
use super::cursor::{Cursor, CursorKey};
use super::filter::{Filter, Step};
use super::readers::{Answer, Permit, Readers, received};
use crate::base::ids::ShardId;
use crate::shard::read::{Bounds, Partial, Position};

/// The maximum memory for all partials of one query.
const QUERY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The largest size of one partial.
const PARTIAL_BYTES_MAX: usize = 256 * 1024;
pub(super) const PARTIAL_ROWS_MAX: usize = 2_048;
/// A chunk is returned once it reaches this size.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// Returns the maximum size of one partial, of which memory holds two for each shard.
pub(super) fn partial_bytes_max(shard_count: usize) -> usize {
    (QUERY_BYTES_MAX / shard_count.max(1) / 2).min(PARTIAL_BYTES_MAX)
}

/// Whole rows, each ending in a line feed.
#[derive(Debug, Default)]
pub struct Chunk {
    pub bytes: Vec<u8>,
    pub rows: usize,
}

impl Chunk {
    /// Appends the rows as members of a JSON array.
    pub fn join(&self, is_first: bool, out: &mut Vec<u8>) {
        if !is_first && self.rows > 0 {
            out.push(b',');
        }
        // A line feed within a row is escaped.
        let rows = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        out.extend(rows.iter().map(|byte| if *byte == b'\n' { b',' } else { *byte }));
    }
}

/// A running query. [`Merged::next`] returns its rows; dropping it ends the query.
#[derive(Debug)]
pub struct Merged {
    readers: Readers,
    filter: Filter,
    shards: Vec<ShardCursor>,
    bounds: Bounds,
    keys_only: bool,
    /// The last row that was returned.
    last: Option<(ShardId, Position)>,
    _permit: Permit,
}

/// The sort key of a row (time, user, event id), followed by its row id.
type Head<'p> = (i64, i64, &'p [u8], i64);

/// One shard's side of the merge.
#[derive(Debug)]
struct ShardCursor {
    shard: ShardId,
    pin: i64,
    partial: Partial,
    /// Index of the partial's next row.
    at: usize,
    coming: Option<Answer<Partial>>,
}

impl ShardCursor {
    fn head(&self) -> Option<Head<'_>> {
        let row = self.partial.rows.get(self.at)?;
        let before = self.at.checked_sub(1).and_then(|at| self.partial.rows.get(at));
        let id_start = before.map_or(0, |row| row.id_end) as usize;
        Some((row.timestamp_us, row.user_id, &self.partial.ids[id_start..row.id_end as usize], row.id))
    }

    fn line(&self) -> &[u8] {
        let Some(row) = self.partial.rows.get(self.at) else { return &[] };
        let before = self.at.checked_sub(1).and_then(|at| self.partial.rows.get(at));
        &self.partial.bytes[before.map_or(0, |row| row.line_end) as usize..row.line_end as usize]
    }

    fn position(&self) -> Option<Position> {
        let (timestamp_us, user_id, event_id, id) = self.head()?;
        let event_id = String::from_utf8_lossy(event_id).into_owned();
        Some(Position { timestamp_us, user_id, event_id, id })
    }
}

impl Merged {
    /// Starts a merge at the first row or after `after`, among the rows up to the pins (one per shard, in shard
    /// order).
    pub fn begin(
        readers: &Readers,
        permit: Permit,
        filter: Filter,
        pins: &[i64],
        after: Option<&Cursor>,
        rows_wanted: Option<usize>,
        keys_only: bool,
    ) -> Result<Merged, QueryError> {
        let count = readers.shard_count().max(1);
        let bounds = Bounds {
            rows: rows_wanted.map_or(PARTIAL_ROWS_MAX, |rows| rows.clamp(1, PARTIAL_ROWS_MAX)),
            bytes: partial_bytes_max(count),
        };
        let mut merged = Merged {
            readers: readers.clone(),
            shards: Vec::with_capacity(count),
            bounds,
            keys_only,
            last: None,
            _permit: permit,
            filter,
        };
        for (shard, pin) in readers.shards().zip(pins) {
            let start = match after {
                Some(cursor) => resume(&merged.filter, cursor, shard),
                None => merged.filter.start(),
            };
            let coming = Some(merged.ask(shard, *pin, start)?);
            merged.shards.push(ShardCursor { shard, pin: *pin, partial: Partial::default(), at: 0, coming });
        }
        Ok(merged)
    }

    fn ask(&self, shard: ShardId, pin: i64, from: Position) -> Result<Answer<Partial>, QueryError> {
        let (filter, bounds, keys_only) = (self.filter.clone(), self.bounds, self.keys_only);
        self.readers.ask(shard, Partial::default(), move |connection| {
            let range = &filter.range();
            filter.of.step(connection, &Step { shard, range, pin, position: &from, bounds, keys_only })
        })
    }

    /// Makes sure that every shard has its next row in memory, or has none left.
    async fn fill(&mut self) -> Result<(), QueryError> {
        for index in 0..self.shards.len() {
            while self.shards[index].at >= self.shards[index].partial.rows.len() {
                let Some(coming) = self.shards[index].coming.take() else { break };
                let partial = received(coming.recv().await)?;
                let (shard, pin) = (self.shards[index].shard, self.shards[index].pin);
                let next = partial.next.clone().map(|from| self.ask(shard, pin, from)).transpose()?;
                let side = &mut self.shards[index];
                (side.partial, side.at, side.coming) = (partial, 0, next);
            }
        }
        Ok(())
    }

    /// Returns the shard whose row is next. Between equal rows, the first shard wins.
    fn best(&self) -> Option<usize> {
        let mut best: Option<(usize, Head<'_>)> = None;
        for (index, side) in self.shards.iter().enumerate() {
            let Some(head) = side.head() else { continue };
            let is_better = best.is_none_or(|(_, (at, user, event_id, _))| {
                let order = (head.0, head.1, head.2).cmp(&(at, user, event_id));
                if self.filter.descending { order != Ordering::Less } else { order == Ordering::Less }
            });
            if is_better {
                best = Some((index, head));
            }
        }
        best.map(|(index, _)| index)
    }

    /// Returns the next chunk of whole rows, or `None` after the last. A chunk has at most `rows_max` rows.
    pub async fn next(&mut self, rows_max: usize) -> Result<Option<Chunk>, QueryError> {
        let mut chunk = Chunk::default();
        while chunk.rows < rows_max && chunk.bytes.len() < CHUNK_BYTES {
            // Waiting is only necessary if a shard's partial is exhausted.
            if self.shards.iter().any(|side| side.at >= side.partial.rows.len() && side.coming.is_some()) {
                self.fill().await?;
            }
            let Some(index) = self.best() else { break };
            let side = &mut self.shards[index];
            chunk.bytes.extend_from_slice(side.line());
            chunk.rows += 1;
            let is_last = chunk.rows >= rows_max || chunk.bytes.len() >= CHUNK_BYTES;
            if is_last {
                self.last = side.position().map(|position| (side.shard, position));
            }
            side.at += 1;
        }
        Ok((chunk.rows > 0).then_some(chunk))
    }

    /// Returns the cursor after the last returned row, which filled a chunk. Returns `None` if no row follows it.
    pub async fn next_cursor(
        &mut self,
        key: &CursorKey,
        total: u64,
        pins: Vec<i64>,
    ) -> Result<Option<String>, QueryError> {
        self.fill().await?;
        let Some((shard, position)) = self.best().and(self.last.clone()) else { return Ok(None) };
        key.seal(&self.filter, &Cursor { total, shard, position, pins }).map(Some)
    }

    /// Returns the last row of the last full chunk.
    pub(super) fn last(&self) -> Option<&(ShardId, Position)> {
        self.last.as_ref()
    }
}

/// Returns where one shard continues after a row of any shard. Events differ in (time, id), so the row's own position
/// is enough. Clicks with the same time and user are in the order of the shards.
fn resume(filter: &Filter, cursor: &Cursor, shard: ShardId) -> Position {
    let id = match (shard.cmp(&cursor.shard), filter.descending) {
        (Ordering::Equal, _) => cursor.position.id,
        (Ordering::Less, false) => i64::MAX,
        (Ordering::Greater, false) => -1,
        (Ordering::Less, true) => i64::MAX,
        (Ordering::Greater, true) => i64::MIN,
    };
    Position { id, ..cursor.position.clone() }
}
