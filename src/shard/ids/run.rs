//! The older ids, in runs. A run contains the ids of consecutive rows, sorted by hash and divided into chunks on disk.
//! A filter in memory selects the ids that require reading a chunk.

use rusqlite::{Connection, OptionalExtension as _};

use super::filter::Filter;
use super::table::Entry;
use super::{IdsOf, store};
use crate::shard::error::ShardError;

const ENTRY_BYTES: usize = 12;

/// The rows of a run, and the location of its chunks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) first_id: i64,
    pub(super) ids: u32,
    pub(super) chunks: u32,
}

pub(super) struct Run {
    pub(super) first_id: i64,
    pub(super) ids: u32,
    pub(super) chunks: u32,
    pub(super) filter: Filter,
}

/// Divides the range of hashes into `parts` equal parts, and returns the index of the part that contains a hash
/// (Lemire 2019).
#[inline]
pub(super) fn part_of(hash: u64, parts: u32) -> u32 {
    ((u128::from(hash) * u128::from(parts)) >> 64) as u32
}

pub(super) fn encode_chunk(entries: &[Entry], out: &mut Vec<u8>) {
    for field in entries.as_flattened() {
        out.extend_from_slice(&field.to_le_bytes());
    }
}

impl Run {
    /// Returns the id of the row after its last one.
    pub(super) fn end(&self) -> i64 {
        self.first_id + i64::from(self.ids)
    }

    /// Loads all runs, oldest first.
    pub(super) fn load(connection: &Connection, of: &IdsOf) -> Result<Vec<Run>, ShardError> {
        let table = format!("{}id_run", of.prefix);
        let mut runs: Vec<Run> = Vec::new();
        let mut statement = connection
            .prepare(&format!("SELECT first_id, ids, chunks, filter FROM {table} ORDER BY first_id"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let first_id: i64 = row.get(0)?;
            let (ids, chunks): (i64, i64) = (row.get(1)?, row.get(2)?);
            let damaged = || ShardError::Corrupt(format!("run {first_id} of {table} is invalid"));
            let blob = row.get_ref(3)?.as_blob().map_err(|_| damaged())?;
            let filter = Filter::decode(store::unseal(&table, first_id, blob)?).ok_or_else(damaged)?;
            let (Ok(ids), Ok(chunks)) = (u32::try_from(ids), u32::try_from(chunks)) else {
                return Err(damaged());
            };
            let is_next = runs.last().is_none_or(|before| before.end() == first_id);
            let ends = first_id.checked_add(i64::from(ids)).is_some();
            if !is_next || !ends || chunks == 0 || chunks > ids {
                return Err(damaged());
            }
            runs.push(Run { first_id, ids, chunks, filter });
        }
        Ok(runs)
    }

    pub(super) fn span(&self) -> Span {
        Span { first_id: self.first_id, ids: self.ids, chunks: self.chunks }
    }
}

impl Span {
    /// Reads the chunks of these hashes (sorted, each with its index in the batch) and adds their rows to
    /// `candidates`. Takes about 4 us per chunk.
    pub(super) fn settle(
        &self,
        connection: &Connection,
        of: &IdsOf,
        hits: &[(u64, u32)],
        candidates: &mut Vec<(u32, i64)>,
    ) -> Result<(), ShardError> {
        let table = format!("{}id_chunk", of.prefix);
        let mut statement =
            connection.prepare_cached(&format!("SELECT entries FROM {table} WHERE id = ?1"))?;
        let chunk_of = |hit: &(u64, u32)| part_of(hit.0, self.chunks);
        for hits in hits.chunk_by(|one, next| chunk_of(one) == chunk_of(next)) {
            let Some(hit) = hits.first() else { continue };
            let id = self.first_id + i64::from(chunk_of(hit));
            let damaged = || ShardError::Corrupt(format!("row {id} of {table} is invalid"));
            let read = statement
                .query_row([id], |row| {
                    let Ok(blob) = row.get_ref(0)?.as_blob() else { return Ok(Err(damaged())) };
                    Ok(store::unseal(&table, id, blob)
                        .and_then(|entries| self.find(entries, hits, candidates).ok_or_else(damaged)))
                })
                .optional()?;
            read.unwrap_or_else(|| Err(damaged()))?;
        }
        Ok(())
    }

    /// Adds the rows with these hashes from one chunk. Returns `None` if an entry names a row outside of the run.
    fn find(&self, entries: &[u8], hits: &[(u64, u32)], candidates: &mut Vec<(u32, i64)>) -> Option<()> {
        let (entries, torn) = entries.as_chunks::<ENTRY_BYTES>();
        if !torn.is_empty() {
            return None;
        }
        for (hash, place) in hits {
            let from = entries.partition_point(|entry| split(entry).0 < *hash);
            let same = entries.get(from..)?.iter().map(split).take_while(|entry| entry.0 == *hash);
            for (_, offset) in same {
                if offset >= self.ids {
                    return None;
                }
                candidates.push((*place, self.first_id + i64::from(offset)));
            }
        }
        Some(())
    }
}

#[inline]
fn split(entry: &[u8; ENTRY_BYTES]) -> (u64, u32) {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *entry;
    (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u32::from_le_bytes([i, j, k, l]))
}
