//! Builds two tables for a sealed order partition: its orders by product and by customer. The writer appends to them
//! in sort order, in slices of a few milliseconds, so that no commit waits for them.
//!
//! An index maintained while orders arrive would be updated at random positions: with three million items, every
//! commit would dirty nearly all of its pages. Here, a thread reads and sorts the sealed partition (24 bytes per
//! entry), and the writer appends. After a crash, the build restarts.

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};

use super::schema::{ORDERS, by_customer, by_product, item_ids, items_of};
use super::store::OrderStore;
use crate::base::clock;
use crate::shard::partition::{now, to_index};
use crate::shard::{BuiltIndex, ShardError, SortPermit, open_reader};

/// The number of rows read in one transaction. It is limited, so that no checkpoint waits long.
const READ_ROWS: i64 = 50_000;
/// The number of rows written between two checks of the clock.
const WRITE_ROWS: usize = 256;

/// An entry of either table: product or customer, time, order.
type Entry = (i64, i64, i64);

/// The tables being built.
#[derive(Debug)]
pub(super) struct Building {
    partition: String,
    started_us: u64,
    sort: Option<JoinHandle<Result<[Vec<Entry>; 2], ShardError>>>,
    entries: [Vec<Entry>; 2],
    /// The number of committed entries in each table.
    written: [usize; 2],
    /// Held while the entries are in memory.
    _permit: SortPermit,
}

/// Returns `true` if a sealed partition lacks its tables.
pub(super) fn is_due(connection: &Connection) -> Result<bool, ShardError> {
    Ok(to_index(connection, &ORDERS)?.is_some())
}

fn tables_of(partition: &str) -> [(String, &'static str); 2] {
    [(by_product(partition), "product"), (by_customer(partition), "customer")]
}

impl OrderStore {
    /// Returns `true` if a slice can be run now. No slice can be run while the sort is running.
    pub(super) fn is_seal_due(&self) -> bool {
        let is_ready = match &self.building {
            Some(building) => building.sort.as_ref().is_none_or(JoinHandle::is_finished),
            // Another shard's entries are in memory.
            None => !SortPermit::is_taken(),
        };
        self.seal_due && is_ready
    }

    /// Runs one slice of about `budget`. Returns the completed index, if any.
    pub(super) fn seal(
        &mut self,
        connection: &mut Connection,
        path: &std::path::Path,
        budget: Duration,
    ) -> Result<Option<BuiltIndex>, ShardError> {
        let until_us = clock::monotonic_us() + budget.as_micros() as u64 / 2;
        let Some(building) = &mut self.building else {
            self.building = begin(connection, path)?;
            self.seal_due = self.building.is_some() || is_due(connection)?;
            return Ok(None);
        };
        if let Some(sort) = building.sort.take() {
            let sorted = sort.join().unwrap_or_else(|_| Err(ShardError::Other("a sort panicked".to_owned())));
            match sorted {
                Ok(entries) => building.entries = entries,
                Err(error) => {
                    self.building = None;
                    return Err(error);
                }
            }
        }
        let done = write(building, connection, until_us);
        match done {
            Ok(false) => Ok(None),
            Ok(true) => {
                let built = BuiltIndex {
                    index: by_product(&building.partition),
                    partition: std::mem::take(&mut building.partition),
                    rows: building.entries.iter().map(Vec::len).sum::<usize>() as u64,
                    took: Duration::from_micros(clock::monotonic_us() - building.started_us),
                };
                self.building = None;
                // The partition's customers are in its list now, and leave with it.
                self.unlisted = None;
                Ok(Some(built))
            }
            Err(error) => {
                self.building = None;
                Err(error)
            }
        }
    }
}

fn begin(connection: &mut Connection, path: &std::path::Path) -> Result<Option<Building>, ShardError> {
    let Some(partition) = to_index(connection, &ORDERS)? else { return Ok(None) };
    let Some(permit) = SortPermit::acquire() else { return Ok(None) };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (table, what) in tables_of(&partition) {
        // Left over from a build that a crash interrupted.
        transaction.execute_batch(&format!(
            "DROP TABLE IF EXISTS {table};
CREATE TABLE {table} (
  -- The orders of a sealed partition by {what}: `id` is the order's.
  {what} INTEGER NOT NULL,
  ordered_at_us INTEGER NOT NULL,
  id INTEGER NOT NULL,
  PRIMARY KEY ({what}, ordered_at_us, id)
) WITHOUT ROWID"
        ))?;
    }
    transaction.commit()?;
    let (path, of) = (path.to_owned(), partition.clone());
    let sort = std::thread::Builder::new().name("sort".to_owned()).spawn(move || sort(path, &of))?;
    Ok(Some(Building {
        partition,
        started_us: clock::monotonic_us(),
        sort: Some(sort),
        entries: [Vec::new(), Vec::new()],
        written: [0, 0],
        _permit: permit,
    }))
}

/// Reads orders and items in order of arrival, in bounded transactions, and sorts them. A sealed partition receives
/// no new orders.
fn sort(path: PathBuf, partition: &str) -> Result<[Vec<Entry>; 2], ShardError> {
    let connection = open_reader(&path)?;
    let items = items_of(partition);
    let orders_sql = format!(
        "SELECT id, ordered_at_us, customer FROM {partition} WHERE id > ?1 ORDER BY id LIMIT {READ_ROWS}"
    );
    let items_sql = format!("SELECT id / 1024, product FROM {items} WHERE id >= ?1 AND id < ?2 ORDER BY id");
    let count = |table: &str| -> Result<usize, ShardError> {
        let counted: i64 =
            connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
        Ok(counted.unsigned_abs() as usize)
    };
    // The exact capacity: 24 bytes per item and 24 bytes per order.
    let mut found = [Vec::with_capacity(count(&items)?), Vec::with_capacity(count(partition)?)];
    let mut last_id = i64::MIN;
    loop {
        let snapshot = connection.unchecked_transaction()?;
        let mut statement = snapshot.prepare_cached(&orders_sql)?;
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let orders: Vec<(i64, i64, i64)> = statement.query_map([last_id], read)?.collect::<Result<_, _>>()?;
        let (Some(first), Some(last)) = (orders.first(), orders.last()) else { break };
        let mut statement = snapshot.prepare_cached(&items_sql)?;
        let mut rows = statement.query(item_ids(first.0, last.0))?;
        let mut at = 0;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            while orders.get(at).is_some_and(|(order, ..)| *order < id) {
                at += 1;
            }
            let Some((_, ordered_at_us, _)) = orders.get(at).filter(|(order, ..)| *order == id) else {
                return Err(ShardError::Corrupt(format!("{items} has an item of no order")));
            };
            found[0].push((row.get(1)?, *ordered_at_us, id));
        }
        found[1].extend(orders.iter().map(|(id, ordered_at_us, customer)| (*customer, *ordered_at_us, *id)));
        last_id = last.0;
    }
    for entries in &mut found {
        entries.sort_unstable();
        // An order that lists the same product in two lines has one entry.
        entries.dedup();
    }
    Ok(found)
}

/// Writes entries until `until_us`. Returns `true` once all entries are written.
fn write(building: &mut Building, connection: &mut Connection, until_us: u64) -> Result<bool, ShardError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut written = building.written;
    let mut is_done = true;
    'tables: for (at, (table, _)) in tables_of(&building.partition).iter().enumerate() {
        let mut insert = transaction.prepare_cached(&format!("INSERT INTO {table} VALUES (?1, ?2, ?3)"))?;
        for (count, (key, ordered_at_us, id)) in building.entries[at][written[at]..].iter().enumerate() {
            if count % WRITE_ROWS == WRITE_ROWS - 1 && clock::monotonic_us() >= until_us {
                written[at] += count;
                is_done = false;
                break 'tables;
            }
            insert.execute(params![key, ordered_at_us, id])?;
        }
        written[at] = building.entries[at].len();
    }
    if is_done {
        transaction.execute(
            "UPDATE partition_catalog SET indexed_at = ?2 WHERE name = ?1",
            params![building.partition, now().1],
        )?;
    }
    transaction.commit()?;
    building.written = written;
    Ok(is_done)
}
