//! Sales by period, from columns. What is left of a shard is read in the order of its earliest times, so most periods are
//! complete, and their memory is free for others, soon after their first sale was read.

use rusqlite::Connection;

use super::super::read::overlapping;
use super::super::spans::Spans;
use super::groups::{Sale, SaleGroups};
use super::pool::ColumnPool;
use super::{ROWS_PER_READ, STEP_US};
use crate::base::clock;
use crate::orders::{
    NextOrders, SalesFilter, SegmentColumns, SegmentHead, next_orders, read_segment, rows_as_columns,
};
use crate::shard::{PartitionInfo, ShardError, tenant_number};

/// The state of reading one shard. Each step passes it to the next.
#[derive(Debug)]
pub(in super::super) struct PeriodScan {
    of: SalesFilter,
    pin: i64,
    spans: Spans,
    window: (i64, i64),
    /// The orders that are left, in descending order of their earliest times. `None` before the first step.
    left: Option<Vec<Piece>>,
    pub(in super::super) groups: SaleGroups,
    pool: ColumnPool,
}

/// Consecutive orders that are read together: a segment, or orders that are in none.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// A time that none of the orders is before.
    from_us: i64,
    from: i64,
    end: i64,
}

impl PeriodScan {
    /// Returns the state before the first step. Orders with ids up to `pin` count.
    pub(in super::super) fn new(of: SalesFilter, pin: i64, spans: Spans, pool: ColumnPool) -> PeriodScan {
        PeriodScan { of, pin, spans, window: (0, 0), left: None, groups: SaleGroups::default(), pool }
    }

    /// Returns the result of a shard that was never written.
    pub(in super::super) fn absent(&self) -> PeriodScan {
        let scan = PeriodScan::new(self.of.clone(), 0, self.spans.clone(), self.pool.clone());
        PeriodScan { left: Some(Vec::new()), ..scan }
    }

    /// Begins to read the sales of `[from, to)`.
    pub(in super::super) fn begin(&mut self, window: (i64, i64)) {
        (self.window, self.left) = (window, None);
    }

    /// Returns a time before which no sale is unread.
    pub(in super::super) fn unread_from_us(&self) -> i64 {
        self.left.as_ref().map_or(i64::MIN, |left| left.last().map_or(i64::MAX, |piece| piece.from_us))
    }

    pub(in super::super) fn is_done(&self) -> bool {
        self.left.as_ref().is_some_and(Vec::is_empty)
    }

    /// Runs a step, until it has taken 10 ms or its groups have grown by `bytes_max`. The first one takes 3 us more for
    /// each segment.
    pub(in super::super) fn step(
        mut self,
        connection: &Connection,
        bytes_max: usize,
    ) -> Result<PeriodScan, ShardError> {
        let until_us = clock::monotonic_us() + STEP_US;
        let until_bytes = self.groups.bytes() + bytes_max;
        let Some(tenant) = tenant_number(connection, &self.of.tenant_id)? else {
            self.left = Some(Vec::new());
            return Ok(self);
        };
        let infos = overlapping(connection, self.pin, self.window)?;
        let mut left = match self.left.take() {
            Some(left) => left,
            None => self.pieces(connection, &infos)?,
        };
        let mut columns = self.pool.take();
        while let Some(piece) = left.pop() {
            // Retention may have dropped the partition since the first step.
            if let Some(info) = infos.iter().find(|info| (info.first_id..info.end_id).contains(&piece.from)) {
                let next = self.read(connection, tenant, (info, piece), &mut columns)?;
                if next < piece.end {
                    left.push(Piece { from: next, ..piece });
                }
            }
            if clock::monotonic_us() >= until_us || self.groups.bytes() > until_bytes {
                break;
            }
        }
        self.pool.put_back(columns);
        self.left = Some(left);
        Ok(self)
    }

    /// Returns all orders that are to be read.
    fn pieces(&self, connection: &Connection, infos: &[PartitionInfo]) -> Result<Vec<Piece>, ShardError> {
        let mut pieces = Vec::new();
        for info in infos {
            let (mut from, end) = (info.first_id, info.end_id.min(self.pin + 1));
            while from < end {
                // Rows are read first, because their times are not known.
                let mut from_us = i64::MIN;
                let note = |head: &SegmentHead| {
                    from_us = head.times_us.map_or(i64::MAX, |(first_us, _)| first_us);
                    Ok(())
                };
                let (orders, next) = next_orders(connection, (from, end), self.window, note)?;
                if orders != NextOrders::PassedOver {
                    pieces.push(Piece { from_us, from, end: next.min(end) });
                }
                from = next;
            }
        }
        pieces.sort_unstable_by_key(|piece| std::cmp::Reverse((piece.from_us, piece.from)));
        Ok(pieces)
    }

    /// Reads a piece, or the first of its rows. Returns the order after the last one that was read.
    fn read(
        &mut self,
        connection: &Connection,
        tenant: i64,
        (info, Piece { from, end, .. }): (&PartitionInfo, Piece),
        columns: &mut SegmentColumns,
    ) -> Result<i64, ShardError> {
        let segment = |head: &SegmentHead| read_segment(connection, head, false, columns);
        // Segments may have been merged since the first step. A segment that begins before the piece is not
        // found, and its orders are read from rows.
        let (orders, mut next) = next_orders(connection, (from, end), self.window, segment)?;
        if orders == NextOrders::Rows {
            next = next.min(from + ROWS_PER_READ);
            *columns = rows_as_columns(connection, &info.name, (from, next), false)?;
        }
        if orders != NextOrders::PassedOver {
            self.add(tenant, columns, (end.min(next) - from) as usize);
        }
        Ok(next)
    }

    /// Adds the sales among the first `count` orders, in runs of neighbours that are of one period.
    fn add(&mut self, tenant: i64, columns: &SegmentColumns, count: usize) {
        let only = self.of.currency;
        let places = columns
            .used
            .iter()
            .map(|used| only.is_none_or(|only| only == *used).then(|| self.groups.currency(*used)));
        let places: Vec<Option<usize>> = places.collect();
        let times_us = &columns.times_us[..count.min(columns.times_us.len())];
        let mut from = 0;
        while let Some(first_us) = times_us.get(from) {
            let counted = self.window.0 <= *first_us && *first_us < self.window.1;
            let Some((span, group)) = self.spans.find(*first_us).filter(|_| counted) else {
                from += 1;
                continue;
            };
            let (first_us, end_us) = (span.0.max(self.window.0), span.1.min(self.window.1));
            let is_other = |us: &i64| !(first_us..end_us).contains(us);
            let end = times_us[from..].iter().position(is_other).map_or(times_us.len(), |run| from + run);
            Run { columns, tenant, range: from..end }.add(&places, group, &mut self.groups);
            from = end;
        }
    }
}

/// Neighbours that are of one period.
struct Run<'c> {
    columns: &'c SegmentColumns,
    tenant: i64,
    range: std::ops::Range<usize>,
}

impl Run<'_> {
    fn add(&self, places: &[Option<usize>], group: u32, groups: &mut SaleGroups) {
        if let Some(currency) = self.only_currency() {
            let Some(place) = places.get(currency).copied().flatten() else { return };
            let Run { columns, range, .. } = self;
            let values = columns.customers[range.clone()].iter().zip(&columns.totals[range.clone()]);
            let sales = self.are_sales().zip(values.zip(&columns.units[range.clone()]));
            let sales =
                sales.map(|(is_sale, ((customer, total), units))| (is_sale, *customer, *total, *units));
            if groups.push_run(place, group, sales) {
                return;
            }
        }
        for (at, _) in self.range.clone().zip(self.are_sales()).filter(|(_, is_sale)| *is_sale) {
            let currency = self.columns.currencies[at] as usize;
            let Some(place) = places.get(currency).copied().flatten() else { continue };
            let total = self.columns.totals[at];
            let customer = self.columns.customers[at] as u64;
            groups.push(place, group, Sale { customer, total, units: self.columns.units[at] });
        }
    }

    /// Returns for each order if it is a sale of the tenant.
    #[inline]
    fn are_sales(&self) -> impl ExactSizeIterator<Item = bool> {
        let Run { columns, tenant, range } = self;
        let tenant = *tenant;
        let orders = columns.statuses[range.clone()].iter().zip(&columns.tenants[range.clone()]);
        // Without a branch, because cancelled orders come at random.
        orders.map(move |(status, of)| (1..=4).contains(status) & (*of == tenant))
    }

    /// Returns the currency of all sales of the tenant, if they have the same one.
    fn only_currency(&self) -> Option<usize> {
        if self.columns.used.len() == 1 {
            return Some(0);
        }
        let currencies = self.columns.currencies[self.range.clone()].iter().zip(self.are_sales());
        let mut of_sales = currencies.filter(|(_, is_sale)| *is_sale).map(|(currency, _)| *currency);
        let first = of_sales.next()?;
        of_sales.all(|currency| currency == first).then_some(first as usize)
    }
}
