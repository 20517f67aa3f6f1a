//! The segment that selected orders are in. Their numbers, and those of their items, are read from its columns.
//!
//! The rows of the orders are still read, so an order that is gone is noticed as without a segment. Of the columns,
//! only those are used that never change. A segment may therefore be older than the rows, or read by an earlier step,
//! and its list of changes does not matter.

use std::ops::Range;

use rusqlite::Connection;

use super::batch::BatchItem;
use super::choose::ChosenOrder;
use crate::base::money::Currency;
use crate::orders::segment::{SegmentColumns, SegmentHead, read_segment, segment_with, undamaged};
use crate::shard::{PartitionInfo, ShardError};

/// The number of orders that are read from rows without another look for a segment, after one was damaged.
const SKIPPED: i64 = 16_384;

/// The last segment that was read.
#[derive(Debug, Default)]
pub(super) struct HeldSegment {
    head: Option<SegmentHead>,
    columns: SegmentColumns,
    /// The end of each order's items.
    item_ends: Vec<usize>,
    /// The orders of a damaged segment.
    skipped: Range<i64>,
}

impl HeldSegment {
    pub(super) fn clear(&mut self) {
        self.head = None;
        self.skipped = 0..0;
    }

    /// Returns the number of the first orders of `run`, all of one partition, that are in one segment, which is held
    /// from then on. Takes about 0.2 ms for a segment that was not held.
    pub(super) fn hold(
        &mut self,
        connection: &Connection,
        partition: &PartitionInfo,
        run: &[ChosenOrder],
    ) -> Result<usize, ShardError> {
        let Some(first) = run.first() else { return Ok(0) };
        let is_held = |head: &SegmentHead| (head.first_id..head.end_id()).contains(&first.id);
        if !self.head.as_ref().is_some_and(is_held) {
            self.head = None;
            if self.skipped.contains(&first.id) {
                return Ok(0);
            }
            if undamaged(self.read(connection, partition, first.id))?.is_none() {
                self.skipped = first.id..first.id + SKIPPED;
            }
        }
        let has =
            |one: &&ChosenOrder| self.place(one.id).is_some_and(|place| self.columns.statuses[place] != 0);
        Ok(run.iter().take_while(has).count())
    }

    fn read(
        &mut self,
        connection: &Connection,
        partition: &PartitionInfo,
        id: i64,
    ) -> Result<(), ShardError> {
        let Some(head) = segment_with(connection, partition, id)? else { return Ok(()) };
        read_segment(connection, &head, true, &mut self.columns)?;
        self.item_ends.clear();
        let ends = self.columns.items.iter().scan(0, |end, items| {
            *end += *items as usize;
            Some(*end)
        });
        self.item_ends.extend(ends);
        self.head = Some(head);
        Ok(())
    }

    /// Returns the place of an order in the columns, if the segment that is held has it.
    fn place(&self, id: i64) -> Option<usize> {
        let head = self.head.as_ref()?;
        usize::try_from(id - head.first_id).ok().filter(|place| *place < head.orders)
    }

    /// Returns the numbers of an order, or `None` if the segment that is held does not have it.
    pub(super) fn order(&self, id: i64) -> Option<HeldOrder> {
        let (place, columns) = (self.place(id)?, &self.columns);
        let currency = usize::try_from(columns.currencies[place]).ok()?;
        let first = place.checked_sub(1).map_or(0, |before| self.item_ends[before]);
        Some(HeldOrder {
            currency: *columns.used.get(currency)?,
            ordered_at_us: columns.times_us[place],
            total: columns.totals[place],
            units: columns.units[place],
            item_count: columns.items[place],
            items: first..self.item_ends[place],
        })
    }

    /// Returns the items of an order, each with the number of its product.
    pub(super) fn items(&self, of: &HeldOrder) -> impl Iterator<Item = (i64, BatchItem)> {
        let columns = &self.columns;
        let numbers = columns.quantities[of.items.clone()].iter().zip(&columns.unit_prices[of.items.clone()]);
        let numbers = columns.products[of.items.clone()].iter().zip(numbers);
        (1..).zip(numbers).map(|(line, (product, (quantity, unit_price)))| {
            (*product, BatchItem { line, product: 0, quantity: *quantity, unit_price: *unit_price })
        })
    }
}

/// The numbers of an order in a segment.
#[derive(Clone, Debug)]
pub(super) struct HeldOrder {
    pub(super) currency: Currency,
    pub(super) ordered_at_us: i64,
    pub(super) total: i64,
    pub(super) units: i64,
    pub(super) item_count: i64,
    /// The places of the items in the columns.
    items: Range<usize>,
}
