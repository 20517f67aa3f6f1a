//! Finds one order by its id.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::filter::OneOrder;
use super::indexed::{IndexedOrder, by_id_sql, found};
use super::predicate::OrderPredicate;
use crate::orders::schema::ORDER_IDS;
use crate::shard::{PartitionInfo, ShardError, ids};

/// Returns the order and the partition that contains it.
pub(super) fn find<'p>(
    connection: &Connection,
    partitions: &'p [PartitionInfo],
    wanted: &OrderPredicate<'_>,
    order: &OneOrder,
) -> Result<Option<(&'p PartitionInfo, IndexedOrder)>, ShardError> {
    for row_id in ids::find(connection, &ORDER_IDS, order.key)? {
        let partition = partitions.iter().rev().find(|partition| partition.first_id <= row_id);
        let Some(partition) = partition else { continue };
        let mut statement = connection.prepare_cached(&by_id_sql(&partition.name))?;
        let row = statement.query_row(params![row_id, wanted.tenant], |row| Ok(found(row))).optional()?;
        if let Some(row) = row.transpose()?.filter(|row| row.order_id == order.order_id) {
            return Ok(Some((partition, row)));
        }
    }
    Ok(None)
}
