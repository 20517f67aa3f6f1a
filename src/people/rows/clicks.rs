//! Erases a user's collector events.

use rusqlite::TransactionBehavior;

use super::super::active::ActiveErasure;
use super::{LOOK_ROWS, max_id};
use crate::base::clock;
use crate::clicks::{CLICKS, ClickStore};
use crate::shard::partition::{count_deleted, widened};
use crate::shard::{Shard, ShardError, partitions_of};

/// Deletes a user's clicks. Finds them in the user index if the partition has one.
pub(in super::super) fn erase_clicks(
    shard: &mut Shard,
    erasing: &mut ActiveErasure,
    until_us: u64,
) -> Result<bool, ShardError> {
    let Some(user_id) = erasing.user_id() else { return Ok(true) };
    // Stops a running index build. Deleted rows that the build has already sorted would otherwise reappear in the
    // index.
    if let Some((clicks, connection, _)) = shard.store_mut::<ClickStore>()
        && let Some(build) = clicks.stop_sealing()
    {
        connection.execute_batch(&format!("DROP TABLE IF EXISTS {build}"))?;
    }
    let partitions = partitions_of(shard.connection(), &CLICKS)?;
    let Some(partition) = erasing.walk.partition(&partitions) else { return Ok(true) };
    let table = partition.name.clone();
    let Some(end) = max_id(shard.connection(), &table)? else {
        return Ok(erasing.walk.next_partition(&partitions));
    };
    if partition.sealed {
        // A crash during an index build may have left this table.
        shard.connection().execute_batch(&format!("DROP TABLE IF EXISTS {table}_user_build"))?;
    }
    let is_listed = partition.sealed && partition.indexed;
    while erasing.walk.at < end {
        let (sql, upto) = if is_listed {
            let by_user = "WHERE user_id = ?1 AND id > ?2 AND id <= ?3 LIMIT 250";
            (format!("SELECT id, timestamp_us FROM {table} INDEXED BY {table}_user {by_user}"), end)
        } else {
            let part = "WHERE user_id = ?1 AND id > ?2 AND id <= ?3";
            (
                format!("SELECT id, timestamp_us FROM {table} NOT INDEXED {part}"),
                erasing.walk.at + LOOK_ROWS * 8,
            )
        };
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let found: Vec<(i64, i64)> = shard
            .connection()
            .prepare_cached(&sql)?
            .query_map([user_id, erasing.walk.at, upto], read)?
            .collect::<Result<_, _>>()?;
        // Rows that are found through the index are deleted in portions until none are left.
        if !is_listed || found.is_empty() {
            erasing.walk.at = upto;
        }
        if !found.is_empty() {
            drop_clicks(shard, erasing, &table, is_listed, &found)?;
        }
        if clock::monotonic_us() >= until_us {
            return Ok(false);
        }
    }
    Ok(erasing.walk.next_partition(&partitions))
}

fn drop_clicks(
    shard: &mut Shard,
    erasing: &mut ActiveErasure,
    table: &str,
    is_listed: bool,
    found: &[(i64, i64)],
) -> Result<(), ShardError> {
    let transaction = shard.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut times = None::<(i64, i64)>;
    for (id, at) in found {
        transaction.prepare_cached(&format!("DELETE FROM {table} WHERE id = ?1"))?.execute([id])?;
        times = Some(widened(times, *at));
    }
    let gone = found.len() as u64;
    erasing.count_all(|report| {
        report.clicks += gone;
        report.index_entries += if is_listed { 2 * gone } else { gone };
    });
    let gone = count_deleted(&transaction, &CLICKS, table, gone, times)?;
    erasing.save(&transaction)?;
    transaction.commit()?;
    shard.rows_gone(&CLICKS, table, &gone);
    Ok(())
}
