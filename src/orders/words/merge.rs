//! Merging the segments of the index of words until none names a deleted entry, a few pages at a time.
//!
//! FTS5 deletes an entry by marking its words as deleted in a new segment. A merge drops the marks only if its output
//! is the one segment of the last level there is. Levels are never taken away, and small segments move up to lower
//! ones: then `'optimize'` merges all segments into one that is not on the last level, keeps the marks with their
//! words, and finds nothing to do from then on. So the levels are looked at first, and an index that would end like
//! this gets a segment that puts all of them on a new last level.

use rusqlite::Connection;

use super::{delete_entry, rebuild, tenant_word};
use crate::shard::ShardError;

/// Pages that one step of merging writes: 250 KB.
const MERGE_PAGES: i64 = 64;
/// An index of so many pages (some hundred customers) is made again at once.
const REBUILD_PAGES_MAX: u64 = 8;
/// No customer has this number.
const NO_CUSTOMER: i64 = 0;
/// The row of `customer_text_data` that says which segments there are.
const STRUCTURE_ROW: i64 = 10;

/// One step, in a transaction of its own; whether no deleted entry is left that was there when the first step was
/// made. `level` is where the merge reads from, `None` before the first step.
pub(crate) fn merge_words(transaction: &Connection, level: &mut Option<usize>) -> Result<bool, ShardError> {
    match level {
        None => {
            let mut structure = Structure::read(transaction)?;
            if structure.pages <= REBUILD_PAGES_MAX {
                rebuild(transaction)?;
                return Ok(true);
            }
            // A segment by itself is not merged.
            if structure.segments() == 1 {
                add_segment(transaction)?;
                structure = Structure::read(transaction)?;
            }
            // One page into the next level, then a segment that is not part of that merge.
            if structure.would_keep_deleted() {
                merge(transaction, -1)?;
                add_segment(transaction)?;
                structure = Structure::read(transaction)?;
            }
            if structure.would_keep_deleted() {
                rebuild(transaction)?;
                return Ok(true);
            }
            // A negative number takes all segments in.
            merge(transaction, -MERGE_PAGES)?;
        }
        // A positive one continues, unless as many segments came meanwhile as are being merged: then with those.
        Some(_) => {
            if !merge(transaction, MERGE_PAGES)? {
                merge(transaction, -MERGE_PAGES)?;
            }
        }
    }
    // What comes meanwhile may be merged too, on levels before this one.
    let reads_from = Structure::read(transaction)?.merges_from();
    *level = reads_from.filter(|reads_from| level.is_none_or(|level| *reads_from >= level));
    Ok(level.is_none())
}

/// Merges so many pages; whether anything was.
fn merge(connection: &Connection, pages: i64) -> Result<bool, ShardError> {
    let before = connection.total_changes();
    connection
        .prepare_cached("INSERT INTO customer_text (customer_text, rank) VALUES ('merge', ?1)")?
        .execute([pages])?;
    // Every such statement counts as one change.
    Ok(connection.total_changes() - before > 1)
}

/// An entry that comes and goes leaves a segment on the first level.
fn add_segment(connection: &Connection) -> Result<(), ShardError> {
    let tenant = tenant_word(NO_CUSTOMER);
    let sql = "INSERT INTO customer_text (rowid, name, email, tenant) VALUES (?1, '', '', ?2)";
    connection.prepare_cached(sql)?.execute((NO_CUSTOMER, &tenant))?;
    delete_entry(connection, NO_CUSTOMER, ["", "", &tenant])?;
    // Written out, with nothing merged.
    merge(connection, 0)?;
    Ok(())
}

/// The levels of the index, the first one with the newest segments.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Structure {
    levels: Vec<Level>,
    pages: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Level {
    segments: u64,
    /// Those that are being merged into one of the next level.
    merging: u64,
}

impl Structure {
    pub(super) fn read(connection: &Connection) -> Result<Structure, ShardError> {
        let sql = "SELECT block FROM customer_text_data WHERE id = ?1";
        let block: Vec<u8> = connection.prepare_cached(sql)?.query_row([STRUCTURE_ROW], |row| row.get(0))?;
        Structure::decode(&block)
            .ok_or_else(|| ShardError::Corrupt("the structure of customer_text cannot be read".to_owned()))
    }

    /// A cookie of four bytes, then variable-length numbers: levels, segments, a counter; for each level segments that
    /// are being merged, segments; for each of those its number, first and last page.
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

    /// Whether a merge of all segments would end on a level that is not the last: all are on one level or being merged
    /// from it, so that FTS5 merges them from there, and two levels or more follow.
    fn would_keep_deleted(&self) -> bool {
        let all = self.segments();
        let is_merged_from = |level: &Level| {
            level.segments > 0
                && (level.segments == all || (level.segments + 1 == all && level.merging == level.segments))
        };
        self.levels.iter().position(is_merged_from).is_some_and(|at| self.levels.len() > at + 2)
    }

    /// The last level that segments are being merged from.
    fn merges_from(&self) -> Option<usize> {
        self.levels.iter().rposition(|level| level.merging > 0)
    }
}

/// SQLite's variable-length number: seven bits a byte, the highest first, eight in the ninth.
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
