//! Overwriting every unused byte of a shard's file, page by page, in slices between batches.
//!
//! SQLite leaves what was deleted where it was until something else takes the place: in free pages, in the free
//! blocks of a page, and as copies in the gap of pages whose cells were moved to others (which `secure_delete` does
//! not reach, however long it has been on). So after the rows of a person are gone, all of that is set to zero,
//! through SQLite's own pager (`sqlite_dbpage`): the WAL, readers and its cache see whole pages, and no stale copy
//! comes back.
//!
//! While other rows are stored, a page that was not reached yet may change places with one that was: so the pages
//! are gone through once upwards and once downwards.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::error::ShardError;
use super::page::{self, FILE_HEADER_BYTES, Overflow};
use crate::base::clock;

/// Pages between two looks at the clock.
const PAGES_PER_LOOK: u32 = 8;
/// The two directions, as they are kept.
const UP: &str = "up";
const DOWN: &str = "down";
/// The byte that SQLite locks; the page it is on holds nothing.
const LOCK_BYTE: u64 = 1 << 30;

/// What a free page is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Free {
    /// Lists others.
    Trunk,
    Leaf,
}

/// Where the work stands.
#[derive(Clone, Debug)]
pub(super) struct Scrub {
    is_upwards: bool,
    /// The next page; 0 before the first of this direction.
    next: u32,
}

impl Scrub {
    #[cfg(test)]
    pub(super) fn new() -> Scrub {
        Scrub { is_upwards: true, next: 0 }
    }

    /// Where [`Scrub::place`] said.
    pub(super) fn at((direction, next): (&str, i64)) -> Scrub {
        Scrub { is_upwards: direction != DOWN, next: u32::try_from(next).unwrap_or(0) }
    }

    /// As it is kept.
    pub(super) fn place(&self) -> (&'static str, i64) {
        (if self.is_upwards { UP } else { DOWN }, i64::from(self.next))
    }

    /// One slice, in the caller's transaction; pages that were changed, and whether all is done.
    pub(super) fn slice(
        &mut self,
        transaction: &Connection,
        until_us: u64,
    ) -> Result<(u64, bool), ShardError> {
        let count: u32 = transaction.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let mut file = Pages::open(transaction, count)?;
        let first = if self.is_upwards { 1 } else { count };
        let mut next = if self.next == 0 { first } else { self.next };
        let mut is_at_end = false;
        for step in 1_u32.. {
            // Pages that came meanwhile are new altogether.
            if next == 0 || next > count {
                is_at_end = true;
                break;
            }
            file.scrub(next)?;
            next = if self.is_upwards { next + 1 } else { next - 1 };
            if step % PAGES_PER_LOOK == 0 && clock::monotonic_us() >= until_us {
                is_at_end = next == 0;
                break;
            }
        }
        let is_done = is_at_end && !self.is_upwards;
        self.next = if is_at_end { 0 } else { next };
        self.is_upwards &= !is_at_end;
        Ok((file.changed, is_done))
    }
}

/// The pages of the file within one transaction.
struct Pages<'t> {
    connection: &'t Connection,
    page_bytes: usize,
    usable: usize,
    count: u32,
    /// With `auto_vacuum`, which somebody may have turned on, every so many pages one says whose the next ones are.
    map_every: Option<u32>,
    free: HashMap<u32, Free>,
    overflows: Vec<Overflow>,
    changed: u64,
}

impl<'t> Pages<'t> {
    /// Reads the list of free pages: one page for four thousand of them.
    fn open(connection: &'t Connection, count: u32) -> Result<Pages<'t>, ShardError> {
        let page_bytes: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let page_bytes = page_bytes as usize;
        let mut pages = Pages {
            connection,
            page_bytes,
            usable: page_bytes,
            count,
            map_every: None,
            free: HashMap::new(),
            overflows: Vec::new(),
            changed: 0,
        };
        let first = pages.read(1)?;
        let reserved = first.get(20).copied().ok_or_else(|| damaged(1))?;
        pages.usable = page_bytes - usize::from(reserved);
        let is_mapped = page::u32_at(&first, 52).is_some_and(|root| root != 0);
        pages.map_every = is_mapped.then_some(pages.usable as u32 / 5 + 1);
        let mut trunk = page::u32_at(&first, 32).ok_or_else(|| damaged(1))?;
        while trunk != 0 {
            if pages.free.insert(trunk, Free::Trunk).is_some() {
                return Err(damaged(trunk));
            }
            let bytes = pages.read(trunk)?;
            for at in 0..pages.leaves_of(trunk, &bytes)? {
                let leaf = page::u32_at(&bytes, 8 + 4 * at).ok_or_else(|| damaged(trunk))?;
                pages.free.insert(leaf, Free::Leaf);
            }
            trunk = page::u32_at(&bytes, 0).ok_or_else(|| damaged(trunk))?;
        }
        Ok(pages)
    }

    fn leaves_of(&self, trunk: u32, bytes: &[u8]) -> Result<usize, ShardError> {
        let leaves = page::u32_at(bytes, 4).ok_or_else(|| damaged(trunk))? as usize;
        if 8 + 4 * leaves > self.usable { Err(damaged(trunk)) } else { Ok(leaves) }
    }

    fn read(&self, number: u32) -> Result<Vec<u8>, ShardError> {
        let mut statement =
            self.connection.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
        let found = statement.query_row([number], |row| row.get::<_, Vec<u8>>(0)).optional()?;
        found.filter(|bytes| bytes.len() == self.page_bytes).ok_or_else(|| damaged(number))
    }

    fn write(&mut self, number: u32, bytes: &[u8]) -> Result<(), ShardError> {
        let sql = "UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1";
        self.connection.prepare_cached(sql)?.execute(params![number, bytes])?;
        self.changed += 1;
        Ok(())
    }

    /// Overwrites what is unused on one page, and at the ends of what overflows from it.
    fn scrub(&mut self, number: u32) -> Result<(), ShardError> {
        let is_map = self.map_every.is_some_and(|every| number >= 2 && (number - 2).is_multiple_of(every));
        if is_map || u64::from(number - 1) == LOCK_BYTE / self.page_bytes as u64 {
            return Ok(());
        }
        let mut bytes = self.read(number)?;
        let usable = self.usable;
        let was_dirty = match self.free.get(&number) {
            Some(Free::Leaf) => page::wipe(&mut bytes, 0..usable),
            Some(Free::Trunk) => {
                let leaves = self.leaves_of(number, &bytes)?;
                page::wipe(&mut bytes, 8 + 4 * leaves..usable)
            }
            None => {
                let header = if number == 1 { FILE_HEADER_BYTES } else { 0 };
                // What an overflow page holds is looked at from the cell it belongs to. It begins with the number
                // of the next one, which looks like a tree's first byte from 33 million pages on (512 GB): then
                // what may be either is left alone.
                let may_be_overflow =
                    bytes.get(header).is_none_or(|kind| u32::from(*kind) <= self.count >> 24);
                if !page::is_tree(&bytes, header) || may_be_overflow {
                    return Ok(());
                }
                self.overflows.clear();
                page::wipe_unused(&mut bytes, header, usable, &mut self.overflows)
                    .map_err(|_| damaged(number))?
            }
        };
        if was_dirty {
            self.write(number, &bytes)?;
        }
        for overflow in std::mem::take(&mut self.overflows) {
            self.scrub_tail(overflow)?;
        }
        Ok(())
    }

    /// Overwrites what is behind the last byte of a chain of overflow pages.
    fn scrub_tail(&mut self, Overflow { first_page, mut bytes }: Overflow) -> Result<(), ShardError> {
        let room = self.usable - 4;
        let mut number = first_page;
        while bytes > room {
            let page = self.read(number)?;
            number = page::u32_at(&page, 0).filter(|next| *next != 0).ok_or_else(|| damaged(number))?;
            bytes -= room;
        }
        let mut last = self.read(number)?;
        if page::wipe(&mut last, 4 + bytes..self.usable) {
            self.write(number, &last)?;
        }
        Ok(())
    }
}

fn damaged(page: u32) -> ShardError {
    ShardError::Corrupt(format!("page {page} is not what its place says"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of many lengths, moved about and deleted, so that every kind of page has something left over.
    fn busy(path: &std::path::Path) -> Connection {
        let connection = Connection::open(path).unwrap();
        connection
            .execute_batch(
                "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;
                 PRAGMA secure_delete = 0;
                 CREATE TABLE plain (id INTEGER PRIMARY KEY, text TEXT);
                 CREATE TABLE pairs (name TEXT, number INTEGER, PRIMARY KEY (name, number)) WITHOUT ROWID;
                 CREATE INDEX plain_text ON plain (substr(text, 1, 60));
                 CREATE VIRTUAL TABLE words USING fts5(text, content='', contentless_delete=1);
                 WITH n(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < 3000)
                 INSERT INTO plain SELECT n, CASE WHEN n % 7 = 0 THEN 'secret-' ELSE 'public-' END || hex(n * 7919 % 3001)
                   || replace(hex(zeroblob(n % 13 * n % 977)), '0', CASE WHEN n % 7 = 0 THEN 'Secret' ELSE 'p' END) FROM n;
                 INSERT INTO pairs SELECT substr(text, 1, 900), id FROM plain ORDER BY id * 7919 % 3001;
                 INSERT INTO words (rowid, text) SELECT id, substr(text, 1, 30) FROM plain;
                 UPDATE plain SET text = text || 'longer' WHERE id % 11 = 0;
                 DELETE FROM plain WHERE id % 7 = 0 OR id % 5 = 0;
                 DELETE FROM pairs WHERE number % 7 = 0 OR number % 5 = 0;
                 DELETE FROM words WHERE rowid % 7 = 0;
                 INSERT INTO words (words, rank) VALUES ('optimize', 0);",
            )
            .unwrap();
        connection
    }

    fn content(connection: &Connection) -> Vec<(String, i64)> {
        let mut found = Vec::new();
        for sql in ["SELECT text, id FROM plain ORDER BY id", "SELECT name, number FROM pairs ORDER BY 1, 2"]
        {
            let mut statement = connection.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            found.extend(rows.map(Result::unwrap));
        }
        found
    }

    fn count(path: &std::path::Path, word: &[u8]) -> usize {
        memchr::memmem::find_iter(&std::fs::read(path).unwrap(), word).count()
    }

    #[test]
    fn what_was_deleted_leaves_no_byte_and_what_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file.db");
        let connection = busy(&path);
        let truncate = |connection: &Connection| {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        };
        truncate(&connection);
        let before = content(&connection);
        assert!(count(&path, b"ecret") > 100, "SQLite leaves what was deleted");
        // Slices of no time at all: each gets a few pages further.
        let (mut scrub, mut changed) = (Scrub::new(), 0);
        loop {
            let transaction = connection.unchecked_transaction().unwrap();
            let (pages, is_done) = scrub.slice(&transaction, 0).unwrap();
            transaction.commit().unwrap();
            changed += pages;
            if is_done {
                break;
            }
            // As it is read back after a crash.
            scrub = Scrub::at(scrub.place());
        }
        assert!(changed > 10);
        truncate(&connection);
        assert_eq!(count(&path, b"ecret"), 0);
        assert_eq!(content(&connection), before);
        let ok: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(ok, "ok");
        connection.execute_batch("INSERT INTO words (words) VALUES ('integrity-check')").unwrap();
        // Nothing is left to do, and the file takes more.
        assert_eq!(Scrub::new().slice(&connection, u64::MAX).unwrap().0, 0);
        connection
            .execute_batch(
                "INSERT INTO plain (text) SELECT text || hex(zeroblob(3000)) FROM plain;
                 DELETE FROM plain WHERE id % 3 = 0; INSERT INTO pairs SELECT text, -id FROM plain;",
            )
            .unwrap();
        let ok: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(ok, "ok");
    }

    #[test]
    fn a_page_that_contradicts_itself_is_left_alone() {
        let mut page = vec![0; 512];
        page[0] = 13;
        page[4] = 1;
        page[8..10].copy_from_slice(&600_u16.to_be_bytes());
        let before = page.clone();
        assert!(page::wipe_unused(&mut page, 0, 512, &mut Vec::new()).is_err());
        assert_eq!(page, before);
    }
}
