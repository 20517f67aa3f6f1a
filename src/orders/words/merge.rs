//! Merges the word index's segments until none contains a deleted entry, a few pages at a time.
//!
//! FTS5 deletes an entry by marking its words as deleted in a new segment. A merge drops the marks only if its output
//! is the only segment of the last level. Levels are never removed, and small segments are promoted to earlier
//! levels. In such an index, `'optimize'` merges all segments into one that is not on the last level, keeps the marks
//! with their words, and finds nothing to do from then on. Therefore, the levels are checked first. An index that
//! would end up like this gets one more segment, which makes the merge write to a new last level.

use rusqlite::Connection;

use super::{delete_entry, rebuild, tenant_word};
use crate::shard::ShardError;

/// The number of pages that one step of a merge writes: 250 KB.
const MERGE_PAGES: i64 = 64;
/// An index with at most this many pages (a few hundred customers) is rebuilt at once.
const REBUILD_PAGES_MAX: u64 = 8;
/// No customer has this number.
const NO_CUSTOMER: i64 = 0;
/// The row of `customer_text_data` that describes the segments.
const STRUCTURE_ROW: i64 = 10;

/// Runs one step. Each step needs its own transaction. Returns `true` once the index contains no entry that was
/// deleted before the first step. `level` is the level that the merge reads from. It is `None` before the first step.
pub(crate) fn merge_words(transaction: &Connection, level: &mut Option<usize>) -> Result<bool, ShardError> {
    match level {
        None => {
            let mut structure = Structure::read(transaction)?;
            if structure.pages <= REBUILD_PAGES_MAX {
                rebuild(transaction)?;
                return Ok(true);
            }
            // FTS5 does not merge a single segment.
            if structure.segments() == 1 {
                add_segment(transaction)?;
                structure = Structure::read(transaction)?;
            }
            // Merges one page into the next level, then adds a segment that is not part of that merge.
            if structure.would_keep_deleted() {
                merge(transaction, -1)?;
                add_segment(transaction)?;
                structure = Structure::read(transaction)?;
            }
            if structure.would_keep_deleted() {
                rebuild(transaction)?;
                return Ok(true);
            }
            // A negative number merges all segments.
            merge(transaction, -MERGE_PAGES)?;
        }
        // A positive number continues the merge. If as many new segments have arrived in the meantime as are being
        // merged, FTS5 merges the new segments instead.
        Some(_) => {
            if !merge(transaction, MERGE_PAGES)? {
                merge(transaction, -MERGE_PAGES)?;
            }
        }
    }
    // Segments that arrive in the meantime may also be merged, but on levels before this one.
    let reads_from = Structure::read(transaction)?.merges_from();
    *level = reads_from.filter(|reads_from| level.is_none_or(|level| *reads_from >= level));
    Ok(level.is_none())
}

/// Merges this many pages. Returns `true` if anything was merged.
fn merge(connection: &Connection, pages: i64) -> Result<bool, ShardError> {
    let before = connection.total_changes();
    connection
        .prepare_cached("INSERT INTO customer_text (customer_text, rank) VALUES ('merge', ?1)")?
        .execute([pages])?;
    // Each such statement itself counts as one change.
    Ok(connection.total_changes() - before > 1)
}

/// Adds a segment to the first level, by inserting and deleting an entry.
fn add_segment(connection: &Connection) -> Result<(), ShardError> {
    let tenant = tenant_word(NO_CUSTOMER);
    let sql = "INSERT INTO customer_text (rowid, name, email, tenant) VALUES (?1, '', '', ?2)";
    connection.prepare_cached(sql)?.execute((NO_CUSTOMER, &tenant))?;
    delete_entry(connection, NO_CUSTOMER, ["", "", &tenant])?;
    // Writes the segment without merging anything.
    merge(connection, 0)?;
    Ok(())
}

/// The levels of the index. The newest segments are on the first level.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Structure {
    levels: Vec<Level>,
    pages: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Level {
    segments: u64,
    /// The number of segments that are being merged into one segment of the next level.
    merging: u64,
}

impl Structure {
    pub(super) fn read(connection: &Connection) -> Result<Structure, ShardError> {
        let sql = "SELECT block FROM customer_text_data WHERE id = ?1";
        let block: Vec<u8> = connection.prepare_cached(sql)?.query_row([STRUCTURE_ROW], |row| row.get(0))?;
        Structure::decode(&block)
            .ok_or_else(|| ShardError::Corrupt("the structure of customer_text cannot be read".to_owned()))
    }

    /// Decodes the structure. It has a four-byte cookie, followed by variable-length numbers: the number of levels,
    /// the number of segments and a counter; for each level, the number of segments being merged and the number of
    /// segments; for each segment, its number, first page and last page.
    fn decode(block: &[u8]) -> Option<Structure> {
        let mut rest = block.get(4..)?;
        let (levels, _segments, _written) = (number(&mut rest)?, number(&mut rest)?, number(&mut rest)?);
        let mut structure = Structure::default();
        for _ in 0..levels {
            let (merging, segments) = (number(&mut rest)?, number(&mut rest)?);
            for _ in 0..segments {
                let (_number, first, last) = (number(&mut rest)?, number(&mut rest)?, number(&mut rest)?);
                structure.pages += (last + 1).checked_sub(first)?;
            }
            structure.levels.push(Level { segments, merging });
        }
        Some(structure)
    }

    fn segments(&self) -> u64 {
        self.levels.iter().map(|level| level.segments).sum()
    }

    /// Returns `true` if a merge of all segments would end on a level that is not the last. FTS5 merges from the
    /// level that contains all segments, or all except the output of a merge from that level. The result is not on
    /// the last level if at least two levels follow.
    fn would_keep_deleted(&self) -> bool {
        let all = self.segments();
        let is_merged_from = |level: &Level| {
            level.segments > 0
                && (level.segments == all || (level.segments + 1 == all && level.merging == level.segments))
        };
        self.levels.iter().position(is_merged_from).is_some_and(|at| self.levels.len() > at + 2)
    }

    /// Returns the last level from which segments are being merged.
    fn merges_from(&self) -> Option<usize> {
        self.levels.iter().rposition(|level| level.merging > 0)
    }
}

/// Decodes SQLite's variable-length number: seven bits per byte, most significant first, and eight bits in the ninth
/// byte.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for at in 0..9 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if at == 8 {
            return Some(number << 8 | u64::from(*byte));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
