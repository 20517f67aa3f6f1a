//! Selects orders and records their current statuses.

use std::ops::Range;

use rusqlite::{Connection, Row, params};

use super::super::filter::OrderFilter;
use super::super::indexed::{IndexedOrder, damaged};
use super::super::one;
use super::super::predicate::OrderPredicate;
use super::{LOOK, STEP_US, currency};
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::orders::schema::ORDERS;
use crate::orders::segment::{SegmentColumns, read_segment, segment_with, undamaged};
use crate::orders::status::OrderStatus;
use crate::orders::{SalesFilter, sales_days};
use crate::shard::read::TimeRange;
use crate::shard::{PartitionInfo, ShardError, partitions_of, tenant_number};

/// The number of ids that one step examines. It is small in a debug build, so that tests with few rows take several
/// steps.
const CHOOSE_IDS: i64 = if cfg!(debug_assertions) { 150 } else { 16_384 };
/// The number of orders that one step examines if it reads the time index.
const CHOOSE_ORDERS: i64 = if cfg!(debug_assertions) { 40 } else { 8_192 };
/// The tables are scanned in full if this factor times the tenant's sales on the selected days reaches the number of
/// orders in the partitions.
const MOST: u64 = 3;

/// One selected order, with the status that the export reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChosenOrder {
    pub id: i64,
    pub status: OrderStatus,
}

/// The progress of the selection in one shard.
#[derive(Clone, Debug, Default)]
pub struct SelectionCursor {
    /// The highest id of the finished partitions. In a full scan, it is the highest id read so far.
    after: i64,
    /// The time and order id of the last order read, if a partition is read from its time index and is not finished.
    within: Option<(i64, String)>,
    /// Whether the tables are scanned in full. The first step decides this.
    whole: Option<bool>,
}

/// Returns the next orders that match the filter and have ids up to `pin`, partition by partition, and where to
/// continue if there are more. Within a partition, the orders are sorted by id in a full scan, otherwise by time.
/// For each stored order, a full scan takes about 0.2 us, or 10 ns if the order is in a segment and there is no
/// condition on its customer or its items. Without a full scan, it takes 1.5 us for each matching order. `spare` is an
/// empty list whose memory is reused.
pub fn choose_orders(
    connection: &Connection,
    shard: ShardId,
    (of, range): (&OrderFilter, &TimeRange),
    pin: i64,
    mut choosing: SelectionCursor,
    spare: Vec<ChosenOrder>,
) -> Result<(Vec<ChosenOrder>, Option<SelectionCursor>), ShardError> {
    let until_us = clock::monotonic_us() + STEP_US;
    let mut chosen = spare;
    let Some(tenant) = tenant_number(connection, &of.tenant_id)? else { return Ok((chosen, None)) };
    let (from_us, to_us) = (range.from_us.unwrap_or(i64::MIN), range.to_us.unwrap_or(i64::MAX));
    let Some(wanted) = OrderPredicate::new(connection, shard, of, tenant, pin, from_us)? else {
        return Ok((chosen, None));
    };
    let mut infos = partitions_of(connection, &ORDERS)?;
    infos.retain(|info| {
        info.first_id <= pin && info.timestamp_us.is_some_and(|(low, high)| low < to_us && high >= from_us)
    });
    if let Some(order) = &of.order {
        if let Some((info, order)) = one::find(connection, &infos, &wanted, order)?
            && (from_us..to_us).contains(&order.ordered_at_us)
            && wanted.takes(&order)
            && wanted.has_item(connection, &info.name, &order)?
        {
            chosen.push(ChosenOrder { id: order.id, status: order.status });
        }
        return Ok((chosen, None));
    }
    let end = |info: &PartitionInfo| (info.end_id - 1).min(pin);
    let Some(info) = infos.iter().find(|info| end(info) > choosing.after) else { return Ok((chosen, None)) };
    let whole = match choosing.whole {
        Some(whole) => whole,
        None => {
            let of = SalesFilter { tenant_id: of.tenant_id.clone(), currency: None };
            let days = sales_days(connection, &of, (range.from_us, range.to_us))?;
            let sales: i64 = days.iter().map(|(_, orders)| orders).sum();
            let there: u64 = infos.iter().map(|info| info.rows).sum();
            sales.unsigned_abs() * MOST >= there
        }
    };
    choosing.whole = Some(whole);
    let takes = |found: &IndexedOrder| -> Result<bool, ShardError> {
        Ok(wanted.takes(found) && wanted.has_item(connection, &info.name, found)?)
    };
    let mut seen = 0_usize;
    let mut is_over = || {
        seen += 1;
        seen.is_multiple_of(LOOK) && clock::monotonic_us() >= until_us
    };
    if whole {
        let first = choosing.after.max(info.first_id - 1);
        let last = end(info).min(first + CHOOSE_IDS);
        // Reserve the maximum at once, because the process keeps the memory that a growing list frees.
        chosen.reserve_exact(CHOOSE_IDS as usize);
        if wanted.is_of_numbers() {
            let ids = (first + 1, last);
            if let Some(read) = in_segment(connection, info, ids, (from_us..to_us, &wanted), &mut chosen)? {
                choosing.after = read;
                let is_done = read >= infos.last().map_or(pin, end);
                return Ok((chosen, (!is_done).then_some(choosing)));
            }
        }
        let mut statement = connection.prepare_cached(&by_id_sql(&info.name))?;
        let mut rows = statement.query([first, last])?;
        choosing.after = last;
        while let Some(row) = rows.next()? {
            let at_us: i64 = row.get(0)?;
            if row.get::<_, i64>(7)? == tenant && (from_us..to_us).contains(&at_us) {
                let found = bare(row)?;
                if takes(&found)? {
                    chosen.push(ChosenOrder { id: found.id, status: found.status });
                }
            }
            if is_over() {
                choosing.after = row.get(1)?;
                break;
            }
        }
    } else {
        // An order id is never empty, so every order with time `from_us` follows the empty id.
        let (after_us, after_id) = choosing.within.take().unwrap_or((from_us, String::new()));
        let mut statement = connection.prepare_cached(&by_time_sql(&info.name))?;
        let mut rows = statement.query(params![tenant, after_us, after_id, to_us, pin, CHOOSE_ORDERS])?;
        let mut looked_at = 0;
        while let Some(row) = rows.next()? {
            let found = bare(row)?;
            if takes(&found)? {
                chosen.push(ChosenOrder { id: found.id, status: found.status });
            }
            looked_at += 1;
            if looked_at == CHOOSE_ORDERS || is_over() {
                choosing.within = Some((found.ordered_at_us, row.get(7)?));
                break;
            }
        }
        if choosing.within.is_none() {
            choosing.after = end(info);
        }
    }
    let is_done = choosing.within.is_none() && choosing.after >= infos.last().map_or(pin, end);
    Ok((chosen, (!is_done).then_some(choosing)))
}

/// Appends the orders from `first` to `last` that are wanted, up to the end of the segment that has `first`. Returns
/// the last id that was looked at, or `None` if no intact segment has `first`. Takes about 10 ns an order. The list of
/// changes has the statuses of the same snapshot, so the result is that of the rows.
fn in_segment(
    connection: &Connection,
    info: &PartitionInfo,
    (first, last): (i64, i64),
    (times_us, wanted): (Range<i64>, &OrderPredicate<'_>),
    chosen: &mut Vec<ChosenOrder>,
) -> Result<Option<i64>, ShardError> {
    let mut columns = SegmentColumns::default();
    let Some(head) = undamaged(segment_with(connection, info, first))?.flatten() else { return Ok(None) };
    if undamaged(read_segment(connection, &head, false, &mut columns))?.is_none() {
        return Ok(None);
    }
    let last = last.min(head.end_id() - 1);
    let place = |id: i64| (id - head.first_id) as usize;
    for at in place(first)..=place(last) {
        // A deleted order has no status.
        if columns.statuses[at] == 0
            || columns.tenants[at] != wanted.tenant
            || !times_us.contains(&columns.times_us[at])
        {
            continue;
        }
        let status = u8::try_from(columns.statuses[at]).ok().and_then(OrderStatus::from_code);
        let currency =
            usize::try_from(columns.currencies[at]).ok().and_then(|place| columns.used.get(place).copied());
        let order = IndexedOrder {
            ordered_at_us: columns.times_us[at],
            order_id: String::new(),
            id: head.first_id + at as i64,
            currency: currency.ok_or_else(damaged)?,
            status: status.ok_or_else(damaged)?,
            total: columns.totals[at],
            units: columns.units[at],
            // There is no condition on it.
            customer: 0,
        };
        if wanted.takes(&order) {
            chosen.push(ChosenOrder { id: order.id, status: order.status });
        }
    }
    Ok(Some(last))
}

/// Reads an order from the columns ordered_at_us, id, currency, status, total, units, customer.
fn bare(row: &Row<'_>) -> Result<IndexedOrder, ShardError> {
    Ok(IndexedOrder {
        ordered_at_us: row.get(0)?,
        order_id: String::new(),
        id: row.get(1)?,
        currency: currency(row, 2)?,
        status: OrderStatus::from_code(row.get(3)?).ok_or_else(damaged)?,
        total: row.get(4)?,
        units: row.get(5)?,
        customer: row.get(6)?,
    })
}

const BARE_COLUMNS: &str = "ordered_at_us, id, currency, status, total, units, customer";

pub(super) fn by_id_sql(partition: &str) -> String {
    format!("SELECT {BARE_COLUMNS}, tenant FROM {partition} WHERE id > ?1 AND id <= ?2 ORDER BY id")
}

pub(super) fn by_time_sql(partition: &str) -> String {
    format!(
        "SELECT {BARE_COLUMNS}, order_id FROM {partition} INDEXED BY {partition}_time WHERE tenant = ?1 \
         AND (ordered_at_us, order_id) > (?2, ?3) AND ordered_at_us < ?4 AND id <= ?5 \
         ORDER BY ordered_at_us, order_id LIMIT ?6"
    )
}
