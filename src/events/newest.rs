//! The newest counts of events: those of minutes, on the commit page, so that a small commit writes one page for all of
//! its counts and no page of the bucket tables. Readers add them to what the tables have.
//!
//! When the minutes would take more than their part of the page, they move to the tables, with those of the batch. A
//! batch with more minutes than fit on the page goes to the tables itself.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use rusqlite::Connection;

use super::buckets::{FibonacciHasher, Tally, older_of, view_of};
use crate::base::bucket_size::BucketSize;
use crate::shard::ShardError;
use crate::shard::commit_page::{self, PageKey, PageKind};

/// The schema version that has the newest counts on the commit page.
pub(super) const NEWEST_SINCE: u32 = 15;
/// A count of one minute.
const MINUTE: PageKind = PageKind::of_family(0);

/// The minutes on the page, as this writer knows them. It does not notice rows that others delete from the page, so it may
/// know more than there are.
#[derive(Debug, Default)]
pub(super) struct PageMinutes {
    /// The number of a group, and the start of a minute.
    minutes: HashSet<(u32, i64), BuildHasherDefault<FibonacciHasher>>,
    bytes: usize,
    bytes_max: usize,
}

impl PageMinutes {
    pub(super) fn new(connection: &Connection) -> Result<PageMinutes, ShardError> {
        Ok(PageMinutes { bytes_max: commit_page::family_bytes_max(connection)?, ..PageMinutes::default() })
    }

    pub(super) fn note(&mut self, minute: (u32, i64), names: [&str; 3]) {
        if self.minutes.insert(minute) {
            self.bytes += commit_page::row_bytes(names);
        }
    }

    /// Returns the state after all minutes were moved.
    pub(super) fn emptied(mut self) -> PageMinutes {
        self.minutes.clear();
        self.bytes = 0;
        self
    }

    /// Returns where the counts of a batch go. Takes as long as the minutes that fit on the page, whatever the batch has.
    pub(super) fn place_of<'n>(
        &self,
        batch: impl ExactSizeIterator<Item = ((u32, i64), [&'n str; 3])>,
    ) -> BatchPlace {
        if batch.len() > self.bytes_max / commit_page::row_bytes([""; 3]) {
            return BatchPlace::Tables;
        }
        let (mut all, mut new) = (0, 0);
        for (minute, names) in batch {
            let bytes = commit_page::row_bytes(names);
            all += bytes;
            new += if self.minutes.contains(&minute) { 0 } else { bytes };
        }
        match self.bytes + new <= self.bytes_max {
            true => BatchPlace::Page,
            false if all <= self.bytes_max / 2 => BatchPlace::TablesWithPage,
            false => BatchPlace::Tables,
        }
    }
}

/// Where the counts of a batch go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchPlace {
    Page,
    /// To the tables, where those of the page go, too, to make room for the next batches.
    TablesWithPage,
    /// To the tables. Such batches do not fit on the page.
    Tables,
}

/// Adds to a minute on the page.
pub(super) fn add(
    transaction: &Connection,
    [tenant, source, event_type]: [&str; 3],
    minute_us: i64,
    Tally { count, first_us, last_us }: Tally,
) -> Result<(), ShardError> {
    let key = PageKey { kind: MINUTE, name: tenant, at: minute_us, names: [source, event_type] };
    commit_page::add(transaction, key, count, Some((first_us, last_us)))
}

/// Calls `each` with the names, the minute and the count of every row on the page.
pub(super) fn on_page(
    connection: &Connection,
    mut each: impl FnMut([&str; 3], i64, Tally),
) -> Result<(), ShardError> {
    let mut statement = connection.prepare_cached(
        "SELECT name, name_2, name_3, at, value, low, high FROM commit_page WHERE kind = ?1",
    )?;
    let mut rows = statement.query([MINUTE.number()])?;
    while let Some(row) = rows.next()? {
        let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
        let tally = Tally { count: row.get(4)?, first_us: row.get(5)?, last_us: row.get(6)? };
        each([text(0)?, text(1)?, text(2)?], row.get(3)?, tally);
    }
    Ok(())
}

/// Deletes the minutes from the page, which the caller has moved.
pub(super) fn clear(transaction: &Connection) -> Result<(), ShardError> {
    commit_page::clear(transaction, MINUTE)
}

/// Calls `each` with the start, source, type and count of each row on the page that belongs to a tenant's buckets in the
/// range. A source and a type limit the rows to theirs. The same bucket may come several times. The caller adds the counts
/// that it reads from the table, in the same transaction.
pub(super) fn newest(
    connection: &Connection,
    (tenant_id, source, event_type): (&str, Option<&str>, Option<&str>),
    size: BucketSize,
    (from, to): (i64, i64),
    mut each: impl FnMut((i64, &str, &str), Tally),
) -> Result<(), ShardError> {
    if !has_page(connection)? {
        return Ok(());
    }
    let mut statement = connection.prepare_cached(NEWEST_SQL)?;
    let mut rows = statement.query((tenant_id, from, to, source, event_type))?;
    while let Some(row) = rows.next()? {
        let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
        let tally = Tally { count: row.get(3)?, first_us: row.get(4)?, last_us: row.get(5)? };
        each((size.floor(row.get(0)?), text(1)?, text(2)?), tally);
    }
    Ok(())
}

/// Returns the table with the counts of a size that are not on the page. A file that is being migrated may be read, and
/// then has all of them under the name of the view. Call it within a read transaction.
pub(super) fn table_of(connection: &Connection, size: BucketSize) -> Result<&'static str, ShardError> {
    Ok(if has_page(connection)? { older_of(size) } else { view_of(size) })
}

fn has_page(connection: &Connection) -> Result<bool, ShardError> {
    let mut statement = connection.prepare_cached("PRAGMA user_version")?;
    Ok(statement.query_row([], |row| row.get::<_, u32>(0))? >= NEWEST_SINCE)
}

/// Reads a tenant's minutes on the page in a range.
pub(super) const NEWEST_SQL: &str = "SELECT at, name_2, name_3, value, low, high FROM commit_page WHERE kind = 16 \
     AND name = ?1 AND at >= ?2 AND at < ?3 AND (?4 IS NULL OR name_2 = ?4) AND (?5 IS NULL OR name_3 = ?5)";

/// Returns the SQL that renames the tables of buckets and creates views over them and the page.
pub(super) fn schema() -> String {
    let mut sql = String::from("PRAGMA legacy_alter_table = ON;\n");
    for size in BucketSize::ALL {
        let (view, older, us) = (view_of(size), older_of(size), size.us());
        let start = match size {
            BucketSize::Minute => "at".to_owned(),
            _ => format!("at - (at % {us} + {us}) % {us}"),
        };
        sql += &format!(
            "ALTER TABLE {view} RENAME TO {older};
CREATE VIEW {view} AS
  -- Service events by {length} (UTC), equal to a recount of the rows at every commit: what {older} has,
  -- and the newest minutes, which are on commit_page.
SELECT tenant_id, start_us, source, event_type, sum(count) AS count, min(first_us) AS first_us,
  max(last_us) AS last_us
FROM (
  SELECT tenant_id, start_us, source, event_type, count, first_us, last_us FROM {older}
  UNION ALL
  SELECT name, {start}, name_2, name_3, value, low, high FROM commit_page WHERE kind = 16
)
GROUP BY tenant_id, start_us, source, event_type;
",
            length = view.trim_start_matches("bucket_"),
        );
    }
    sql + "PRAGMA legacy_alter_table = OFF;\n"
}
