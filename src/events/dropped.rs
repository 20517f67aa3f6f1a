//! Deletes events of a tenant whose retention is over, in slices, each with its counts in the buckets (R3). The ids of
//! deleted events are free again, because a known id counts only if its row exists.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::buckets::Buckets;
use super::record::ServiceEventRow;
use crate::base::clock;
use crate::shard::partition::check_name;
use crate::shard::{ShardError, TenantSlice};

/// The number of events between two checks of the clock.
const ROWS: usize = if cfg!(test) { 3 } else { 32 };

/// Deletes events until the slice ends. Returns how many of the row ids were handled, and how many rows were deleted.
pub(super) fn drop_tenant(
    transaction: &Connection,
    slice: TenantSlice<'_>,
    with_buckets: bool,
) -> Result<(usize, u64), ShardError> {
    let TenantSlice { tenant_id, partition, ids, partitions, until_us } = slice;
    check_name(&super::EVENTS, partition)?;
    let sql =
        format!("SELECT source, event_type, timestamp_us FROM {partition} WHERE id = ?1 AND tenant_id = ?2");
    let mut find = transaction.prepare_cached(&sql)?;
    let mut delete = transaction.prepare_cached(&format!("DELETE FROM {partition} WHERE id = ?1"))?;
    let (mut buckets, mut handled, mut deleted) = (Buckets::default(), 0, 0);
    for some in ids.chunks(ROWS) {
        for id in some {
            let read = |row: &rusqlite::Row<'_>| {
                let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
                buckets.count(&ServiceEventRow {
                    timestamp_us: row.get(2)?,
                    received_us: 0,
                    tenant_id,
                    event_id: "",
                    source: text(0)?,
                    event_type: text(1)?,
                    payload: "",
                });
                Ok(())
            };
            if find.query_row(params![id, tenant_id], read).optional()?.is_some() {
                delete.execute([id])?;
                deleted += 1;
            }
        }
        handled += some.len();
        if clock::monotonic_us() >= until_us {
            break;
        }
    }
    if with_buckets && deleted > 0 {
        let info = partitions.iter().find(|info| info.name == partition);
        let gone = || ShardError::Other(format!("{partition} is not in the catalogue"));
        buckets.subtract(transaction, info.ok_or_else(gone)?, partitions)?;
    }
    Ok((handled, deleted))
}
