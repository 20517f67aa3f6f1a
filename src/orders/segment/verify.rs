//! Compares segments with the rows that they were made from.

use rusqlite::Connection;

use super::super::schema::ORDERS;
use super::build::read_rows;
use super::columns::SegmentColumns;
use super::layout::{Field, SegmentHead};
use super::read::{next_segment, read_columns, segment_at};
use super::stale::{self, GONE, stale_statuses};
use crate::shard::{Problems, ShardError, partitions_of};

/// Checks that every segment has the values of its rows, that no order is in two of them, and that each belongs to a
/// partition. Takes about 1 us per item.
pub(in super::super) fn verify_segments(
    connection: &Connection,
    problems: &mut Vec<String>,
) -> Result<(), ShardError> {
    let mut found = Problems::default();
    let partitions = partitions_of(connection, &ORDERS)?;
    let mut columns = SegmentColumns::default();
    let mut at = i64::MIN / 16;
    while let Some(first_id) = next_segment(connection, at)? {
        at = first_id + 1;
        // Retention deletes the segments of a partition that it has dropped with the partition's rows.
        let of = partitions.iter().find(|info| (info.first_id..info.end_id).contains(&first_id));
        let Some(partition) = of else { continue };
        let head = match segment_at(connection, first_id) {
            Ok(Some(head)) => head,
            Ok(None) => {
                found.report(|| format!("sales_segment: the segment from order {first_id} on has no head"));
                continue;
            }
            Err(error) => {
                found.report(|| error.to_string());
                continue;
            }
        };
        if head.end_id() > partition.end_id {
            found.report(|| format!("sales_segment: the segment from order {first_id} on has other orders"));
            continue;
        }
        if next_segment(connection, at)?.is_some_and(|next| next < head.end_id()) {
            found.report(|| {
                format!("sales_segment: the segment from order {first_id} on overlaps the next one")
            });
        }
        match read_columns(connection, &head, true, &mut columns) {
            Ok(()) => {
                let range = (first_id, head.end_id());
                let changes = stale_statuses(connection, range)?;
                let gone = changes.iter().filter(|(_, status)| *status == GONE);
                let mut places = gone.filter_map(|(id, _)| usize::try_from(id - first_id).ok());
                if places.any(|place| columns.customers.get(place).is_some_and(|customer| *customer != 0)) {
                    found.report(|| {
                        format!("sales_segment: the segment from order {first_id} on has customers of deleted orders")
                    });
                }
                stale::apply(&changes, first_id, &mut columns);
                let rows = read_rows(connection, &partition.name, range, Some(usize::MAX))?;
                if let Some(field) = difference(&head, &columns, rows) {
                    let name = field.name();
                    found.report(|| {
                        format!("sales_segment: column {name} of the orders from {first_id} on differs from the rows")
                    });
                }
            }
            Err(error) => found.report(|| error.to_string()),
        }
    }
    problems
        .extend(found.done(|count| format!("sales_segment: {count} segments in total differ from the rows")));
    Ok(())
}

/// Returns the first column that differs from the rows. Orders that were deleted since the segment was made have values
/// there, and no customer.
fn difference(head: &SegmentHead, columns: &SegmentColumns, rows: SegmentColumns) -> Option<Field> {
    if columns.statuses != rows.statuses {
        return Some(Field::Status);
    }
    let code = |columns: &SegmentColumns, place: usize| {
        columns.used.get(columns.currencies[place] as usize).copied()
    };
    let (mut item, mut other_item) = (0, 0);
    for place in 0..head.orders {
        let items = columns.items[place] as usize;
        if columns.statuses[place] == GONE {
            if columns.customers[place] != 0 {
                return Some(Field::Customer);
            }
            item += items;
            continue;
        }
        let same = [
            (Field::Time, columns.times_us[place] == rows.times_us[place]),
            (Field::Tenant, columns.tenants[place] == rows.tenants[place]),
            (Field::Currency, code(columns, place) == code(&rows, place)),
            (Field::Total, columns.totals[place] == rows.totals[place]),
            (Field::Units, columns.units[place] == rows.units[place]),
            (Field::Customer, columns.customers[place] == rows.customers[place]),
            (Field::Items, columns.items[place] == rows.items[place]),
        ];
        let time_us = columns.times_us[place];
        if !head.overlaps((time_us, time_us.saturating_add(1))) {
            return Some(Field::Head);
        }
        if let Some((field, _)) = same.into_iter().find(|(_, is_same)| !is_same) {
            return Some(field);
        }
        let (range, other) = (item..item + items, other_item..other_item + items);
        let same = [
            (Field::Product, columns.products[range.clone()] == rows.products[other.clone()]),
            (Field::Quantity, columns.quantities[range.clone()] == rows.quantities[other.clone()]),
            (Field::UnitPrice, columns.unit_prices[range] == rows.unit_prices[other]),
        ];
        if let Some((field, _)) = same.into_iter().find(|(_, is_same)| !is_same) {
            return Some(field);
        }
        (item, other_item) = (item + items, other_item + items);
    }
    None
}
