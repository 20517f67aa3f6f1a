//! The commit page: what nearly every commit changes, in one small table, so that a small commit writes one page for
//! all of it instead of one for each.
//!
//! Totals and positions of journals are always here. The counters of an open partition are here until it is sealed or
//! rows of it are deleted. A family may keep its newest changes here, in a limited number of bytes, and move them to
//! tables of its own. Views show everything under the names that it has otherwise.

use rusqlite::{Connection, params};

use super::error::ShardError;

/// The kinds of rows. The views name them, too.
pub(super) const TOTAL: PageKind = PageKind(1);
pub(super) const POSITION: PageKind = PageKind(2);
pub(super) const PARTITION: PageKind = PageKind(3);
/// The first kind of the families.
const FAMILIES: i64 = 16;

/// The part of a page that the rows of families may fill. The kernel's rows take up to a sixth of 16 KiB with 64 lanes,
/// and a page is not filled to its last byte.
const FAMILY_SHARE: (usize, usize) = (3, 8);
/// The bytes of a row without its names: the key's and the value's integers, and their header.
const ROW_BYTES: usize = 56;

/// The kind of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageKind(i64);

impl PageKind {
    /// Returns a family's kind. The numbers of all families differ, and are never reused.
    #[must_use]
    pub const fn of_family(number: u8) -> PageKind {
        PageKind(FAMILIES + number as i64)
    }

    /// Returns the number in the column `kind`.
    #[must_use]
    pub const fn number(self) -> i64 {
        self.0
    }
}

/// The key of a row. What a kind does not use is empty or 0.
#[derive(Clone, Copy, Debug)]
pub struct PageKey<'k> {
    pub kind: PageKind,
    pub name: &'k str,
    pub at: i64,
    pub names: [&'k str; 2],
}

impl<'k> PageKey<'k> {
    pub(super) fn new(kind: PageKind, name: &'k str, at: i64) -> PageKey<'k> {
        PageKey { kind, name, at, names: ["", ""] }
    }
}

/// Returns the bytes of a row with these names, at most.
#[must_use]
pub fn row_bytes(names: [&str; 3]) -> usize {
    ROW_BYTES + names.iter().map(|name| name.len()).sum::<usize>()
}

/// Returns the bytes that the rows of families may take.
///
/// # Errors
/// SQLite reports an error.
pub fn family_bytes_max(connection: &Connection) -> Result<usize, ShardError> {
    let page_bytes: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    Ok(page_bytes as usize * FAMILY_SHARE.0 / FAMILY_SHARE.1)
}

/// Creates the table and its views, and moves totals and positions to it. The pragma lets SQLite rename a table of a file
/// with a view that is not valid, such as one of the operator.
pub(super) fn create_table(connection: &Connection) -> Result<(), ShardError> {
    connection.execute_batch(
        "
CREATE TABLE commit_page (
  -- What nearly every commit changes, together, so that a commit writes one page for all of it. The views
  -- total, journal_position, partition and bucket_minute, _hour and _day show it under its names. Do not edit.
  kind INTEGER NOT NULL,   -- 1 a total, 2 a journal, 3 an open partition, 16 service events of a minute
  name TEXT NOT NULL,      -- the total; ''; the partition; tenant_id
  at INTEGER NOT NULL,     -- 0; lane; 0; start_us
  name_2 TEXT NOT NULL,    -- source of service events
  name_3 TEXT NOT NULL,    -- event_type
  value INTEGER NOT NULL,  -- its value; sequence; rows; count
  low INTEGER,             -- timestamp_us_min of a partition, first_us of events
  high INTEGER,            -- timestamp_us_max; last_us
  PRIMARY KEY (kind, name, at, name_2, name_3)
) WITHOUT ROWID;
INSERT INTO commit_page SELECT 1, name, 0, '', '', value, NULL, NULL FROM total;
DROP TABLE total;
CREATE VIEW total AS
  -- Counters, equal to a recount at every commit.
SELECT name, value FROM commit_page WHERE kind = 1;
INSERT INTO commit_page SELECT 2, '', lane, '', '', sequence, NULL, NULL FROM journal_position;
DROP TABLE journal_position;
CREATE VIEW journal_position AS
  -- The last record of each journal whose rows are in this file. Written with the rows, so that a
  -- restart goes on exactly there.
SELECT at AS lane, value AS sequence FROM commit_page WHERE kind = 2;
PRAGMA legacy_alter_table = ON;
ALTER TABLE partition RENAME TO partition_catalog;
PRAGMA legacy_alter_table = OFF;
CREATE VIEW partition AS
  -- The tables that hold the rows, oldest first within a stream. Rows are appended to the newest one in
  -- order of arrival; a full one is sealed. The counters of an open one are on commit_page.
SELECT p.name, p.stream, p.first_id, coalesce(c.value, p.rows) AS rows,
  iif(c.kind IS NULL, p.timestamp_us_min, c.low) AS timestamp_us_min,
  iif(c.kind IS NULL, p.timestamp_us_max, c.high) AS timestamp_us_max,
  p.created_at, p.sealed_at, p.indexed_at, p.erased, p.unordered, p.counted
FROM partition_catalog p
LEFT JOIN commit_page c ON c.kind = 3 AND c.name = p.name AND c.at = 0 AND c.name_2 = '' AND c.name_3 = '';
",
    )?;
    Ok(())
}

/// Returns the SQL that inserts a row, or else changes it.
macro_rules! upsert {
    ($change:literal) => {
        concat!(
            "INSERT INTO commit_page (kind, name, at, name_2, name_3, value, low, high) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
             ON CONFLICT (kind, name, at, name_2, name_3) DO UPDATE SET ",
            $change
        )
    };
}

const SET_SQL: &str = upsert!("value = excluded.value, low = excluded.low, high = excluded.high");
const ADD_SQL: &str =
    upsert!("value = value + excluded.value, low = min(low, excluded.low), high = max(high, excluded.high)");

/// Sets a row's value and bounds.
pub(super) fn set(
    transaction: &Connection,
    key: PageKey<'_>,
    value: i64,
    bounds: Option<(i64, i64)>,
) -> Result<(), ShardError> {
    write(transaction, SET_SQL, key, value, bounds)
}

/// Adds to a row's value and widens its bounds. Creates the row if there is none.
///
/// # Errors
/// SQLite reports an error.
pub fn add(
    transaction: &Connection,
    key: PageKey<'_>,
    value: i64,
    bounds: Option<(i64, i64)>,
) -> Result<(), ShardError> {
    write(transaction, ADD_SQL, key, value, bounds)
}

fn write(
    transaction: &Connection,
    sql: &str,
    PageKey { kind, name, at, names: [second, third] }: PageKey<'_>,
    value: i64,
    bounds: Option<(i64, i64)>,
) -> Result<(), ShardError> {
    let (low, high) = bounds.unzip();
    transaction.prepare_cached(sql)?.execute(params![kind.0, name, at, second, third, value, low, high])?;
    Ok(())
}

/// Deletes every row of a kind.
///
/// # Errors
/// SQLite reports an error.
pub fn clear(transaction: &Connection, kind: PageKind) -> Result<(), ShardError> {
    transaction.prepare_cached("DELETE FROM commit_page WHERE kind = ?1")?.execute([kind.0])?;
    Ok(())
}

/// Deletes the row of a name.
pub(super) fn remove(transaction: &Connection, kind: PageKind, name: &str) -> Result<(), ShardError> {
    transaction
        .prepare_cached("DELETE FROM commit_page WHERE kind = ?1 AND name = ?2")?
        .execute(params![kind.0, name])?;
    Ok(())
}
