//! Overwrites every unused byte of a shard's file, page by page, in slices between batches.
//!
//! SQLite leaves deleted content where it was until other content replaces it: in free pages, in the free blocks of a
//! page, and as copies in the gap of pages whose cells were moved to other pages. `secure_delete` does not reach
//! these copies, no matter how long it has been on. After a person's rows are deleted, all of that is set to zero
//! through SQLite's own pager (`sqlite_dbpage`). Therefore the WAL, readers and SQLite's cache see whole pages, and
//! no stale copy reappears.
//!
//! While other rows are stored, SQLite may move an unprocessed page to the number of a page that was already
//! processed. Therefore the pages are processed once upwards and once downwards. One case remains: a page is missed
//! if it is moved in both passes, each time to a number that the pass has already processed.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::ShardError;
use super::page::{self, FILE_HEADER_BYTES, Overflow};
use crate::base::clock;

/// Pages between two checks of the clock.
const PAGES_PER_LOOK: u32 = 8;
/// The two directions, as they are stored.
const UP: &str = "up";
const DOWN: &str = "down";
/// The byte that SQLite locks. Its page is unused.
const LOCK_BYTE: u64 = 1 << 30;

/// The free pages, as last read. A page in use that is wrongly treated as free would lose its rows. Therefore an
/// entry is valid only while the bytes of the free list are unchanged.
#[derive(Debug, Default)]
struct Free {
    /// Pages that list other free pages, with their bytes.
    trunks: HashMap<u32, Vec<u8>>,
    leaves: HashSet<u32>,
}

/// The progress of the work.
#[derive(Debug)]
pub struct Scrub {
    is_upwards: bool,
    /// The next page; 0 before the first of this direction.
    next: u32,
    free: Free,
}

impl Scrub {
    #[cfg(test)]
    pub(super) fn new() -> Scrub {
        Scrub::at((UP, 0))
    }

    /// Continues at a position that [`Scrub::place`] returned.
    pub fn at((direction, next): (&str, i64)) -> Scrub {
        let next = u32::try_from(next).unwrap_or(0);
        Scrub { is_upwards: direction != DOWN, next, free: Free::default() }
    }

    /// Returns the position, as it is stored.
    pub fn place(&self) -> (&'static str, i64) {
        (if self.is_upwards { UP } else { DOWN }, i64::from(self.next))
    }

    /// Runs one slice, in the caller's transaction. Returns the number of changed pages, and whether everything is
    /// done. While any part of the list of free pages is unknown, a slice only reads the list.
    pub fn slice(&mut self, transaction: &Connection, until_us: u64) -> Result<(u64, bool), ShardError> {
        let count: u32 = transaction.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let mut file = Pages::open(transaction, count, &mut self.free)?;
        if !file.learn_free(until_us)? {
            return Ok((0, false));
        }
        let first = if self.is_upwards { 1 } else { count };
        let mut next = if self.next == 0 { first } else { self.next };
        let mut is_at_end = false;
        for step in 1_u32.. {
            // Pages added in the meantime never held older content.
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
struct Pages<'t, 's> {
    connection: &'t Connection,
    page_bytes: usize,
    usable: usize,
    count: u32,
    /// The distance between pointer-map pages, which state the parents of the pages after them. They exist with
    /// `auto_vacuum`, which another program may have enabled.
    map_every: Option<u32>,
    first_trunk: u32,
    free: &'s mut Free,
    overflows: Vec<Overflow>,
    changed: u64,
}

impl<'t, 's> Pages<'t, 's> {
    fn open(connection: &'t Connection, count: u32, free: &'s mut Free) -> Result<Pages<'t, 's>, ShardError> {
        let page_bytes: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let page_bytes = page_bytes as usize;
        let mut pages = Pages {
            connection,
            page_bytes,
            usable: page_bytes,
            count,
            map_every: None,
            first_trunk: 0,
            free,
            overflows: Vec::new(),
            changed: 0,
        };
        let first = pages.read(1)?;
        let reserved = first.get(20).copied().ok_or_else(|| damaged(1))?;
        pages.usable = page_bytes - usize::from(reserved);
        let is_mapped = page::u32_at(&first, 52).is_some_and(|root| root != 0);
        pages.map_every = is_mapped.then_some(pages.usable as u32 / 5 + 1);
        pages.first_trunk = page::u32_at(&first, 32).ok_or_else(|| damaged(1))?;
        Ok(pages)
    }

    /// Updates the set of known free pages. Returns `true` if it is complete. Each call reads every page of the list
    /// (one page lists about four thousand free pages) and updates the entries of at least one page that changed, if
    /// any did.
    fn learn_free(&mut self, until_us: u64) -> Result<bool, ShardError> {
        let (mut known, mut changed) = (HashMap::new(), Vec::new());
        let mut trunk = self.first_trunk;
        while trunk != 0 {
            let bytes = self.read(trunk)?;
            let next = page::u32_at(&bytes, 0).ok_or_else(|| damaged(trunk))?;
            match self.free.trunks.remove_entry(&trunk) {
                Some((trunk, before)) if before == bytes => {
                    known.insert(trunk, before);
                }
                before => {
                    self.free.trunks.extend(before);
                    changed.push((trunk, bytes));
                }
            }
            if known.len() + changed.len() > self.count as usize {
                return Err(damaged(trunk));
            }
            trunk = next;
        }
        // Outdated entries are removed first, because a page may have moved from one list to another.
        for (trunk, bytes) in std::mem::replace(&mut self.free.trunks, known) {
            for leaf in self.leaves_of(trunk, &bytes)? {
                self.free.leaves.remove(&leaf);
            }
        }
        let mut left = changed.len();
        for (trunk, bytes) in changed {
            self.free.leaves.extend(self.leaves_of(trunk, &bytes)?);
            self.free.trunks.insert(trunk, bytes);
            left -= 1;
            if clock::monotonic_us() >= until_us {
                break;
            }
        }
        Ok(left == 0)
    }

    /// Returns the free pages that this page lists.
    fn leaves_of<'b>(
        &self,
        trunk: u32,
        bytes: &'b [u8],
    ) -> Result<impl ExactSizeIterator<Item = u32> + use<'b>, ShardError> {
        let count = page::u32_at(bytes, 4).ok_or_else(|| damaged(trunk))? as usize;
        let end = count.checked_mul(4).map(|bytes| bytes + 8).filter(|end| *end <= self.usable);
        let list = end.and_then(|end| bytes.get(8..end)).ok_or_else(|| damaged(trunk))?;
        Ok(list.as_chunks::<4>().0.iter().map(|number| u32::from_be_bytes(*number)))
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

    /// Overwrites the unused bytes of one page, and those after the ends of its overflow chains.
    fn scrub(&mut self, number: u32) -> Result<(), ShardError> {
        let is_map = self.map_every.is_some_and(|every| number >= 2 && (number - 2).is_multiple_of(every));
        if is_map || u64::from(number - 1) == LOCK_BYTE / self.page_bytes as u64 {
            return Ok(());
        }
        let mut bytes = self.read(number)?;
        let usable = self.usable;
        let was_dirty = if self.free.leaves.contains(&number) {
            page::wipe(&mut bytes, 0..usable)
        } else if self.free.trunks.contains_key(&number) {
            let leaves = self.leaves_of(number, &bytes)?.len();
            page::wipe(&mut bytes, 8 + 4 * leaves..usable)
        } else {
            let header = if number == 1 { FILE_HEADER_BYTES } else { 0 };
            // An overflow page is processed from the cell that it belongs to. It begins with the number of the next
            // page. In a file of 33 million pages (512 GB) or more, the first byte of this number may equal that of a
            // b-tree page. A page that may be of either kind is then left unchanged.
            let may_be_overflow = bytes.get(header).is_none_or(|kind| u32::from(*kind) <= self.count >> 24);
            if !page::is_tree(&bytes, header) || may_be_overflow {
                return Ok(());
            }
            self.overflows.clear();
            page::wipe_unused(&mut bytes, header, usable, &mut self.overflows).map_err(|_| damaged(number))?
        };
        if was_dirty {
            self.write(number, &bytes)?;
        }
        for overflow in std::mem::take(&mut self.overflows) {
            self.scrub_tail(overflow)?;
        }
        Ok(())
    }

    /// Overwrites the bytes after the end of a chain of overflow pages.
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
    ShardError::Corrupt(format!("page {page} does not match its position"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates a file whose rows of many lengths were moved and deleted, so that every kind of page contains remains
    /// of deleted rows.
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
    fn e1_what_was_deleted_leaves_no_byte_and_what_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file.db");
        let connection = busy(&path);
        let truncate = |connection: &Connection| {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        };
        truncate(&connection);
        let before = content(&connection);
        assert!(count(&path, b"ecret") > 100, "SQLite leaves what was deleted");
        // Slices with no budget: each processes a few pages.
        let (mut scrub, mut changed, mut slices) = (Scrub::new(), 0, 0);
        loop {
            let transaction = connection.unchecked_transaction().unwrap();
            let (pages, is_done) = scrub.slice(&transaction, 0).unwrap();
            transaction.commit().unwrap();
            changed += pages;
            if is_done {
                break;
            }
            // Occasionally, the work resumes at the stored position, as after a crash.
            slices += 1;
            if slices % 7 == 0 {
                scrub = Scrub::at(scrub.place());
            }
        }
        assert!(changed > 10);
        truncate(&connection);
        assert_eq!(count(&path, b"ecret"), 0);
        assert_eq!(content(&connection), before);
        let ok: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(ok, "ok");
        connection.execute_batch("INSERT INTO words (words) VALUES ('integrity-check')").unwrap();
        // Nothing is left to do, and the file accepts more rows.
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

    /// Between two slices, other statements free pages and reuse them, so a page that was free a moment ago has rows.
    #[test]
    fn what_is_known_of_free_pages_is_never_older_than_the_slice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file.db");
        let connection = busy(&path);
        // A free list of many pages.
        connection
            .execute_batch(
                "CREATE TABLE bulk (id INTEGER PRIMARY KEY, text BLOB);
                 WITH n(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < 6000)
                 INSERT INTO bulk SELECT n, replace(hex(zeroblob(1700)), '0', 'b') FROM n;
                 DELETE FROM bulk WHERE id > 20;",
            )
            .unwrap();
        let pages = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, u32>(0)).unwrap();
        assert!(pages("freelist_count") > 5_000);
        let (mut scrub, mut slices, mut first) = (Scrub::new(), 0, None);
        let mut check = Vec::new();
        loop {
            slices += 1;
            let text = format!("{slices:05}").repeat(900);
            match slices % 3 {
                0 => connection
                    .execute("INSERT INTO bulk (text) VALUES (?1)", [&text])
                    .map(|_| check.push(text)),
                1 => connection
                    .execute("DELETE FROM bulk WHERE id < 20 AND id % 9 = ?1", [slices % 9])
                    .map(|_| ()),
                _ => connection
                    .execute("UPDATE plain SET text = text || 'more' WHERE id % 97 = ?1", [slices % 97])
                    .map(|_| ()),
            }
            .unwrap();
            let transaction = connection.unchecked_transaction().unwrap();
            let (_, is_done) = scrub.slice(&transaction, 0).unwrap();
            transaction.commit().unwrap();
            if first.is_none() && scrub.next > 0 {
                first = Some(slices);
            }
            if is_done {
                break;
            }
        }
        // Reading the list took several slices.
        assert!(first.is_some_and(|first| first > 3), "{first:?}");
        let mut statement = connection.prepare("SELECT text FROM bulk WHERE id > 20 ORDER BY id").unwrap();
        let kept: Vec<String> =
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert!(kept == check);
        let ok: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(ok, "ok");
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        assert_eq!(count(&path, b"ecret"), 0);
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
