//! Merges small segments. The open partition gets segments of few orders, so that few orders are in none. Once
//! neighbours are together as large as a segment may be, one segment replaces them (a log-structured merge of two
//! levels, after O'Neil and others, 1996).

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;

use super::build::{Built, read_rows};
use super::columns::SegmentColumns;
use super::layout::{Field, SEGMENT_ITEMS, SEGMENT_ORDERS, SegmentHead};
use super::read::{read_columns, segment_at, undamaged};
use super::stale::{GONE, stale_statuses};
use crate::shard::{PartitionInfo, ShardError, open_reader};

/// Consecutive segments of one partition that one segment can replace.
#[derive(Clone, Copy, Debug)]
struct Group {
    first_id: i64,
    end_id: i64,
    items: usize,
    segments: usize,
}

/// The segments that are to be merged, found by a walk over all of them.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// The segments that the walk has passed last.
    last: Option<Group>,
    /// The first orders of groups that do not grow any more, with the ends of the groups.
    complete: BTreeMap<i64, i64>,
}

impl Groups {
    /// Adds the segment that the walk has come to.
    pub(super) fn push(&mut self, head: &SegmentHead) {
        if let Some(group) = &mut self.last
            && group.end_id == head.first_id
            && head.end_id() - group.first_id <= SEGMENT_ORDERS
            && group.items + head.items <= SEGMENT_ITEMS
        {
            group.end_id = head.end_id();
            group.items += head.items;
            group.segments += 1;
        } else {
            self.complete_last();
            let (first_id, end_id) = (head.first_id, head.end_id());
            self.last = Some(Group { first_id, end_id, items: head.items, segments: 1 });
        }
        if self.room(head.end_id()) == 0 {
            self.complete_last();
        }
    }

    /// Completes the last group if the walk has come to the end of its partition and the partition does not grow.
    pub(super) fn passed(&mut self, partition: &PartitionInfo) {
        if partition.sealed && self.last.is_some_and(|group| group.end_id <= partition.end_id) {
            self.complete_last();
        }
    }

    /// Returns the number of orders from an id on that a segment should have, so that the last group becomes complete.
    pub(super) fn room(&self, at: i64) -> i64 {
        let group = self.last.filter(|group| group.end_id == at);
        SEGMENT_ORDERS - group.map_or(0, |group| group.end_id - group.first_id)
    }

    /// Forgets the last group if it reaches beyond an id to which the walk goes back. Returns where the walk has to begin.
    pub(super) fn back_to(&mut self, id: i64) -> i64 {
        let cut = self.last.take_if(|group| group.end_id > id);
        cut.map_or(id, |group| group.first_id.min(id))
    }

    fn complete_last(&mut self) {
        if let Some(group) = self.last.take().filter(|group| group.segments > 1) {
            self.complete.insert(group.first_id, group.end_id);
        }
    }

    /// Adds a group whose merge has to be tried again.
    pub(super) fn put_back(&mut self, (first_id, end_id): (i64, i64)) {
        self.complete.insert(first_id, end_id);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.complete.is_empty()
    }

    /// Removes the first complete group that still consists of segments.
    pub(super) fn next(&mut self, connection: &Connection) -> Result<Option<(i64, i64)>, ShardError> {
        while let Some((first_id, end_id)) = self.complete.pop_first() {
            let mut at = first_id;
            while at < end_id
                && let Some(head) = undamaged(segment_at(connection, at))?.flatten()
            {
                at = head.end_id();
            }
            // Segments that were lost and made again may be other ones.
            if at == end_id {
                return Ok(Some((first_id, end_id)));
            }
        }
        Ok(None)
    }
}

/// Makes one segment of the orders of several ones, from their columns, in about 0.1 us an order. Opens the file on its
/// own. The rows are read if a segment is damaged, and if an order was deleted, whose values are then left out.
pub(super) fn merge(path: &Path, partition: &str, range: (i64, i64)) -> Result<Built, ShardError> {
    let connection = open_reader(path)?;
    let snapshot = connection.unchecked_transaction()?;
    let has_gone = stale_statuses(&snapshot, range)?.iter().any(|(_, status)| *status == GONE);
    let merged = if has_gone { None } else { undamaged(merged_columns(&snapshot, range))?.flatten() };
    let columns = match merged {
        Some(columns) => columns,
        None => read_rows(&snapshot, partition, range, Some(SEGMENT_ITEMS))?,
    };
    Ok(Built::new(range.0, columns))
}

/// Returns the columns of consecutive segments in one piece, without the changes since they were made. Returns `None` if a
/// segment is missing.
fn merged_columns(
    connection: &Connection,
    (first_id, end_id): (i64, i64),
) -> Result<Option<SegmentColumns>, ShardError> {
    let (mut all, mut one) = (SegmentColumns::default(), SegmentColumns::default());
    let mut at = first_id;
    while at < end_id {
        let Some(head) = segment_at(connection, at)? else { return Ok(None) };
        read_columns(connection, &head, true, &mut one)?;
        append(&mut all, &mut one);
        at = head.end_id();
    }
    Ok((at == end_id).then_some(all))
}

/// Moves the orders of a segment behind those of others.
fn append(all: &mut SegmentColumns, one: &mut SegmentColumns) {
    let mut places = Vec::with_capacity(one.used.len());
    for currency in &one.used {
        let known = all.used.iter().position(|known| known == currency);
        places.push(known.unwrap_or_else(|| {
            all.used.push(*currency);
            all.used.len() - 1
        }));
    }
    // A deleted order may have no currency.
    let place = |place: &i64| places.get(*place as usize).copied().unwrap_or_default() as i64;
    one.currencies.iter_mut().for_each(|currency| *currency = place(currency));
    for field in Field::ORDERS.into_iter().chain(Field::ITEMS) {
        if let Some((values, more)) = all.column(field).zip(one.column(field)) {
            values.append(more);
        }
    }
}
