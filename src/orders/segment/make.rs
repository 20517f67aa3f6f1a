//! Makes segments, in slices of upkeep: one thread at a time reads rows, and one transaction stores the segment.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::thread::JoinHandle;

use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};

use super::super::schema::ORDERS;
use super::build::{Built, build};
use super::column::replace;
use super::columns::SegmentColumns;
use super::layout::{Field, SEGMENT_ORDERS, SMALL_ORDERS, SegmentHead, first_id_of, row_ids};
use super::merge::{Groups, merge};
use super::read::{next_segment, read_columns, segment_at, undamaged};
use super::stale::{self, GONE};
use crate::base::clock;
use crate::shard::{PartitionInfo, ShardError, partitions_of};

/// A segment is made again if more than one in this many of its orders have changed.
const STALE_SHARE: usize = 100;
/// The same for a segment that will soon be merged. Each change costs a reader as much in a small one as in a large one.
const STALE_SHARE_SMALL: usize = 16;
/// The number of rows of segments that are deleted in one slice.
const ROWS_PER_SLICE: i64 = 32;

/// A change of an order that may be in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum SegmentChange {
    /// The order was deleted.
    Gone,
    /// The order belongs to the customer with this key.
    Customer(i64),
}

/// The state of a shard's segments, kept by its writer.
#[derive(Debug)]
pub(in super::super) struct Segments {
    /// No segment has an order from this id on, and none is being made. Changes of orders below it are listed.
    begun_to: i64,
    /// Every order below this id was in a segment when upkeep looked. It looks on from here.
    walked_to: i64,
    /// Set if orders may lack a segment.
    is_due: bool,
    /// The ids that are assigned.
    end_id: i64,
    making: Option<Making>,
    /// The segments that are to be merged.
    groups: Groups,
    /// The changes of segments, by their first orders.
    changes: HashMap<i64, Changes>,
    /// The first orders of segments that are to be made again.
    outdated: BTreeSet<i64>,
}

/// The number of changes of a segment, which may be too high, and the number above which it is made again.
#[derive(Clone, Copy, Debug)]
struct Changes {
    count: usize,
    max: usize,
}

/// The segment that is being made.
#[derive(Debug)]
struct Making {
    partition: String,
    orders: (i64, i64),
    why: Why,
    reading: JoinHandle<Result<Built, ShardError>>,
}

/// Why a segment is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Its orders are in none.
    Missing,
    /// It replaces smaller ones.
    Merge,
    /// Many of its orders have changed.
    Outdated,
}

impl Segments {
    pub(in super::super) fn open(connection: &Connection) -> Result<Segments, ShardError> {
        let last = "SELECT id FROM sales_segment ORDER BY id DESC LIMIT 1";
        let last: Option<i64> = connection.query_row(last, [], |row| row.get(0)).optional()?;
        let begun_to = match last.map(|row| segment_at(connection, first_id_of(row))) {
            None => 0,
            Some(Ok(Some(head))) => head.end_id(),
            // Too many changes are listed rather than too few.
            Some(_) => i64::MAX,
        };
        // A segment may be lost, but not its changes. They would replace a later status that is not listed.
        let listed = "SELECT id FROM sales_segment_stale ORDER BY id DESC LIMIT 1";
        let listed: Option<i64> = connection.query_row(listed, [], |row| row.get(0)).optional()?;
        let begun_to = begun_to.max(listed.map_or(0, |id| id + 1));
        Ok(Segments {
            begun_to,
            walked_to: 0,
            is_due: !partitions_of(connection, &ORDERS)?.is_empty(),
            end_id: 0,
            making: None,
            groups: Groups::default(),
            changes: HashMap::new(),
            outdated: BTreeSet::new(),
        })
    }

    /// Returns `true` if a slice can be run now.
    pub(in super::super) fn is_slice_due(&self) -> bool {
        match &self.making {
            Some(making) => making.reading.is_finished(),
            None => self.is_due,
        }
    }

    /// Returns `true` if there is something to make.
    pub(in super::super) fn is_due(&self) -> bool {
        self.is_due || self.making.is_some()
    }

    /// Records that ids up to `end_id` are assigned, or that a partition was sealed.
    pub(in super::super) fn grown(&mut self, end_id: i64, is_sealed: bool) {
        self.end_id = self.end_id.max(end_id);
        self.is_due |= is_sealed || self.end_id - self.walked_to >= SMALL_ORDERS;
    }

    /// Discards the rows that were read, because rows are about to be erased.
    pub(in super::super) fn stop(&mut self) {
        if let Some(Making { orders, why, .. }) = self.making.take() {
            self.put_back(why, orders);
        }
    }

    /// Makes a later slice try again.
    fn put_back(&mut self, why: Why, orders: (i64, i64)) {
        self.is_due = true;
        match why {
            Why::Missing => self.walk_from(orders.0),
            Why::Merge => self.groups.put_back(orders),
            Why::Outdated => _ = self.outdated.insert(orders.0),
        }
    }

    /// Makes the next walk look at the orders from an id on again.
    fn walk_from(&mut self, id: i64) {
        self.walked_to = self.walked_to.min(self.groups.back_to(id));
        self.is_due = true;
    }

    /// Lists a status, in the transaction that changes it.
    pub(in super::super) fn status_changed(
        &mut self,
        transaction: &Connection,
        id: i64,
        status: u8,
    ) -> Result<(), ShardError> {
        if id >= self.begun_to {
            return Ok(());
        }
        stale::list(transaction, id, i64::from(status))?;
        self.count_change(transaction, id)?;
        Ok(())
    }

    /// Lists deleted orders and replaces the customers of changed ones, in the transaction that changes the rows. Takes
    /// about 0.1 ms for each segment with such orders.
    pub(in super::super) fn rows_changed(
        &mut self,
        transaction: &Connection,
        changes: &[(i64, SegmentChange)],
    ) -> Result<(), ShardError> {
        let begun_to = self.begun_to;
        let mut customers: HashMap<i64, Vec<(usize, i64)>> = HashMap::new();
        for (id, change) in changes.iter().filter(|(id, _)| *id < begun_to) {
            // A thread may have read the row as it was.
            self.stop();
            let (first_id, customer) = match change {
                SegmentChange::Gone => {
                    stale::list(transaction, *id, GONE)?;
                    (self.count_change(transaction, *id)?, 0)
                }
                SegmentChange::Customer(key) => (segment_of(transaction, *id)?, *key),
            };
            if let Some(first_id) = first_id {
                customers.entry(first_id).or_default().push(((*id - first_id) as usize, customer));
            }
        }
        for (first_id, customers) in customers {
            if !replace_customers(transaction, first_id, &customers)? {
                self.walk_from(first_id);
            }
        }
        Ok(())
    }

    /// Counts a change. Returns the first order of its segment.
    fn count_change(&mut self, transaction: &Connection, id: i64) -> Result<Option<i64>, ShardError> {
        let Some(first_id) = segment_of(transaction, id)? else { return Ok(None) };
        let changes = match self.changes.entry(first_id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                // A damaged or incomplete segment is checked again.
                let head = undamaged(segment_at(transaction, first_id))?.flatten();
                new.insert(Changes { count: 0, max: head.map_or(0, |head| changes_max(&head)) })
            }
        };
        changes.count += 1;
        self.is_due |= changes.count > changes.max;
        Ok(Some(first_id))
    }

    /// Runs one slice until about `until_us`: begins to read a segment's rows, or stores what was read.
    pub(in super::super) fn slice(
        &mut self,
        connection: &mut Connection,
        path: &Path,
        until_us: u64,
    ) -> Result<(), ShardError> {
        if let Some(making) = self.making.take() {
            return self.finish(connection, making);
        }
        let partitions = partitions_of(connection, &ORDERS)?;
        let (why, found) = match self.next_merge(connection, &partitions)? {
            Some(orders) => (Why::Merge, Some(orders)),
            None => match self.walk(connection, &partitions, until_us)? {
                Walked::OutOfTime => return Ok(()),
                // The walk may have come to the end of a group.
                Walked::All if !self.groups.is_empty() => return Ok(()),
                Walked::All => (Why::Outdated, self.outdated(connection, &partitions)?),
                Walked::Missing(orders) => (Why::Missing, Some(orders)),
            },
        };
        let Some((partition, orders)) = found else {
            self.is_due = false;
            return Ok(());
        };
        self.begun_to = self.begun_to.max(orders.1);
        let (path, of) = (path.to_owned(), partition.clone());
        let thread = std::thread::Builder::new().name("segment".to_owned());
        let read = if why == Why::Merge { merge } else { build };
        let reading = thread.spawn(move || read(&path, &of, orders))?;
        self.making = Some(Making { partition, orders, why, reading });
        Ok(())
    }

    /// Stores the segment that a thread has read.
    fn finish(&mut self, connection: &mut Connection, making: Making) -> Result<(), ShardError> {
        let Making { partition, orders: orders @ (first_id, end_id), why, reading } = making;
        let gone = |_| ShardError::Other("the thread that reads a segment panicked".to_owned());
        let stored = reading.join().map_err(gone)?.and_then(|built| {
            let built_to = built.head.end_id();
            self.store(connection, &partition, built).map(|()| built_to)
        });
        match stored {
            // The walk looks at what was stored.
            Ok(_) if why == Why::Missing => self.walk_from(first_id),
            // The other orders have lost their segment.
            Ok(built_to) if built_to < end_id => self.walk_from(built_to),
            Ok(_) => {}
            // Rows are stored and read without segments too. The next start tries again.
            Err(error @ ShardError::Corrupt(_)) => {
                tracing::warn!(%partition, first_id, %error, "orders get no segment");
                if why == Why::Missing {
                    self.walked_to = end_id;
                }
            }
            Err(error) => {
                self.put_back(why, orders);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Returns the partition and the orders of the next segments that are to be merged.
    fn next_merge(
        &mut self,
        connection: &Connection,
        partitions: &[PartitionInfo],
    ) -> Result<Option<Orders>, ShardError> {
        while let Some(orders) = self.groups.next(connection)? {
            let partition = partitions.iter().rfind(|info| info.first_id <= orders.0);
            if let Some(info) = partition.filter(|info| orders.1 <= info.end_id) {
                return Ok(Some((info.name.clone(), orders)));
            }
        }
        Ok(None)
    }

    /// Looks for the first orders that are in no segment and should be.
    fn walk(
        &mut self,
        connection: &Connection,
        partitions: &[PartitionInfo],
        until_us: u64,
    ) -> Result<Walked, ShardError> {
        let mut columns = SegmentColumns::default();
        for info in partitions {
            let mut at = self.walked_to.max(info.first_id);
            self.walked_to = at;
            while at < info.end_id {
                let head = intact(connection, at, &mut columns)?.filter(|head| head.end_id() <= info.end_id);
                let Some(head) = head else { return self.missing(connection, info, at) };
                self.look_at(connection, &head)?;
                self.groups.push(&head);
                at = head.end_id();
                self.walked_to = at;
                if clock::monotonic_us() >= until_us {
                    return Ok(Walked::OutOfTime);
                }
            }
            self.groups.passed(info);
        }
        Ok(Walked::All)
    }

    /// Returns the orders from an id on that have to get a segment.
    fn missing(
        &mut self,
        connection: &Connection,
        info: &PartitionInfo,
        at: i64,
    ) -> Result<Walked, ShardError> {
        let next = next_segment(connection, at + 1)?.filter(|next| *next < info.end_id);
        let mut end = next.unwrap_or(info.end_id).min(at + self.groups.room(at));
        // The open partition still grows.
        if !info.sealed && next.is_none() {
            end -= (end - at) % SMALL_ORDERS;
        }
        Ok(if at < end { Walked::Missing((info.name.clone(), (at, end))) } else { Walked::All })
    }

    /// Notes a segment that is outdated.
    fn look_at(&mut self, connection: &Connection, head: &SegmentHead) -> Result<(), ShardError> {
        let count = stale::count(connection, (head.first_id, head.end_id()))?;
        let max = changes_max(head);
        if count > max {
            self.outdated.insert(head.first_id);
            self.is_due = true;
        } else if count > 0 {
            self.changes.insert(head.first_id, Changes { count, max });
        }
        Ok(())
    }

    /// Returns the partition and the orders of the first segment that is outdated.
    fn outdated(
        &mut self,
        connection: &Connection,
        partitions: &[PartitionInfo],
    ) -> Result<Option<Orders>, ShardError> {
        let suspected = self.changes.iter().filter(|(_, changes)| changes.count > changes.max);
        let suspected: Vec<i64> = suspected.map(|(first_id, _)| *first_id).collect();
        for first_id in suspected {
            self.changes.remove(&first_id);
            if let Some(head) = undamaged(segment_at(connection, first_id))?.flatten() {
                self.look_at(connection, &head)?;
            }
        }
        while let Some(first_id) = self.outdated.pop_first() {
            let partition = partitions.iter().rfind(|info| info.first_id <= first_id);
            let head = undamaged(segment_at(connection, first_id))?.flatten();
            if let Some((info, head)) =
                partition.zip(head).filter(|(info, head)| head.end_id() <= info.end_id)
            {
                return Ok(Some((info.name.clone(), (first_id, head.end_id()))));
            }
        }
        Ok(None)
    }

    /// Stores a segment with the changes since its rows were read, in place of segments of the same orders.
    fn store(
        &mut self,
        connection: &mut Connection,
        partition: &str,
        built: Built,
    ) -> Result<(), ShardError> {
        let range @ (first_id, end_id) = (built.head.first_id, built.head.end_id());
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Retention may have dropped the partition.
        let sql =
            "SELECT 1 FROM partition WHERE name = ?1 AND first_id <= ?2 AND first_id + rows + erased >= ?3";
        if !transaction.prepare_cached(sql)?.exists(params![partition, first_id, end_id])? {
            return Ok(());
        }
        let rows = built.rows(&stale::stale_statuses(&transaction, range)?);
        stale::forget(&transaction, range)?;
        let sql = "DELETE FROM sales_segment WHERE id >= ?1 AND id < ?2";
        transaction.prepare_cached(sql)?.execute(row_ids(first_id, end_id))?;
        let mut insert =
            transaction.prepare_cached("INSERT INTO sales_segment (id, data) VALUES (?1, ?2)")?;
        for (id, data) in rows {
            insert.execute(params![id, data])?;
        }
        drop(insert);
        transaction.commit()?;
        self.changes.retain(|of, _| !(first_id..end_id).contains(of));
        self.outdated.retain(|of| !(first_id..end_id).contains(of));
        Ok(())
    }
}

/// Returns the number of changes above which a segment is made again.
fn changes_max(head: &SegmentHead) -> usize {
    let is_small = (head.orders as i64) * 2 <= SEGMENT_ORDERS;
    head.orders / if is_small { STALE_SHARE_SMALL } else { STALE_SHARE }
}

/// Consecutive orders: their partition, the first id and the one after the last.
type Orders = (String, (i64, i64));

/// The result of a walk.
enum Walked {
    /// The first orders that lack a segment.
    Missing(Orders),
    OutOfTime,
    All,
}

/// Returns the segment that begins with an order, unless it is damaged. Reads all of it, in about a millisecond.
fn intact(
    connection: &Connection,
    first_id: i64,
    columns: &mut SegmentColumns,
) -> Result<Option<SegmentHead>, ShardError> {
    let Some(head) = undamaged(segment_at(connection, first_id))?.flatten() else { return Ok(None) };
    Ok(undamaged(read_columns(connection, &head, true, columns))?.map(|()| head))
}

/// Returns the first order of the segment that has an order.
fn segment_of(connection: &Connection, id: i64) -> Result<Option<i64>, ShardError> {
    let sql = "SELECT id FROM sales_segment WHERE id < ?1 ORDER BY id DESC LIMIT 1";
    let [_, end] = row_ids(id, id + 1);
    let row: Option<i64> = connection.prepare_cached(sql)?.query_row([end], |row| row.get(0)).optional()?;
    Ok(row.map(first_id_of))
}

/// Replaces customers in a segment. Returns `false` if the segment was deleted instead, because it is damaged.
fn replace_customers(
    transaction: &Connection,
    first_id: i64,
    customers: &[(usize, i64)],
) -> Result<bool, ShardError> {
    let row = Field::Customer.row_id(first_id);
    let mut read = transaction.prepare_cached("SELECT data FROM sales_segment WHERE id = ?1")?;
    let bytes = |row: &Row<'_>| Ok(row.get_ref(0)?.as_blob().unwrap_or_default().to_vec());
    let found: Option<Vec<u8>> = read.query_row([row], bytes).optional()?;
    let Some(mut bytes) = found else { return Ok(false) };
    if replace(row, &mut bytes, customers).is_ok() {
        let mut write = transaction.prepare_cached("UPDATE sales_segment SET data = ?2 WHERE id = ?1")?;
        write.execute(params![row, bytes])?;
        return Ok(true);
    }
    // A damaged column may still contain the customer. The segment is made again from the rows.
    let sql = "DELETE FROM sales_segment WHERE id >= ?1 AND id < ?2";
    transaction.prepare_cached(sql)?.execute(row_ids(first_id, first_id + 1))?;
    Ok(false)
}

/// Deletes rows of segments, and changes, that belong to no partition any more. Returns `true` once there are none.
pub(in super::super) fn drop_unreachable(
    transaction: &Connection,
    until_us: u64,
) -> Result<bool, ShardError> {
    let mut from = i64::MIN / 16;
    let delete = "DELETE FROM sales_segment WHERE id IN \
                  (SELECT id FROM sales_segment WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3)";
    for info in partitions_of(transaction, &ORDERS)? {
        if from < info.first_id {
            let [first, end] = row_ids(from, info.first_id);
            while transaction.prepare_cached(delete)?.execute([first, end, ROWS_PER_SLICE])? > 0 {
                if clock::monotonic_us() >= until_us {
                    return Ok(false);
                }
            }
            stale::forget(transaction, (from, info.first_id))?;
        }
        from = info.end_id;
    }
    Ok(true)
}
