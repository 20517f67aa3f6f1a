//! Erases service events that refer to a customer.

use rusqlite::{Connection, TransactionBehavior, params};

use super::super::active::ActiveErasure;
use super::super::matcher::PersonMatcher;
use super::super::record::Subject;
use super::{LOOK_ROWS, max_id};
use crate::base::clock;
use crate::events::{Buckets, EVENTS, ServiceEventRow};
use crate::shard::partition::{count_deleted, widened};
use crate::shard::{ErasureMode, Shard, ShardError, partitions_of, suppressed};

/// Deletes the tenant's service events that refer to the customer, or replaces the customer in them.
pub(in super::super) fn erase_events(
    shard: &mut Shard,
    erasing: &mut ActiveErasure,
    until_us: u64,
) -> Result<bool, ShardError> {
    let partitions = partitions_of(shard.connection(), &EVENTS)?;
    let Some(partition) = erasing.partition(partitions.clone()) else { return Ok(true) };
    let Some(Subject::Customer { tenant_id, token, .. }) = &erasing.subject else { return Ok(true) };
    let (tenant_id, token) = (tenant_id.clone(), token.clone());
    let end: Option<i64> = max_id(shard.connection(), &partition.name)?;
    let Some(end) = end else { return Ok(erasing.next_partition(partitions)) };
    while erasing.at < end {
        let upto = erasing.at.saturating_add(LOOK_ROWS);
        let found = matching_events(
            shard.connection(),
            &partition.name,
            (erasing.at, upto),
            &tenant_id,
            &erasing.matcher,
        )?;
        erasing.at = upto;
        if !found.is_empty() {
            change_events(shard, erasing, &partition.name, &tenant_id, &token, &found)?;
        }
        if clock::monotonic_us() >= until_us {
            return Ok(false);
        }
    }
    Ok(erasing.next_partition(partitions))
}

fn change_events(
    shard: &mut Shard,
    erasing: &mut ActiveErasure,
    table: &str,
    tenant_id: &str,
    token: &str,
    found: &[MatchingEvent],
) -> Result<(), ShardError> {
    let (keys, has_buckets) = (*shard.keys(), !shard.options().without_aggregates);
    let transaction = shard.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut buckets = Buckets::default();
    let (mut gone, mut times) = (0, None::<(i64, i64)>);
    for event in found {
        erasing.report.events += 1;
        if erasing.mode == ErasureMode::Pseudonymise && !event.is_named {
            let payload = erasing.matcher.replaced(&event.payload, token);
            let sql = format!("UPDATE {table} SET payload = ?2 WHERE id = ?1");
            transaction.prepare_cached(&sql)?.execute(params![event.id, payload])?;
            continue;
        }
        transaction.prepare_cached(&format!("DELETE FROM {table} WHERE id = ?1"))?.execute([event.id])?;
        let key = suppressed::bytes(keys.hash(tenant_id, &event.event_id));
        suppressed::add_event(&transaction, key)?;
        buckets.count(&event.row(tenant_id));
        times = Some(widened(times, event.timestamp_us));
        gone += 1;
        erasing.report.index_entries += 1;
    }
    if gone > 0 && has_buckets {
        let others = partitions_of(&transaction, &EVENTS)?;
        buckets.subtract(&transaction, &others)?;
    }
    let gone = count_deleted(&transaction, &EVENTS, table, gone, times)?;
    erasing.save(&transaction)?;
    transaction.commit()?;
    shard.rows_gone(&EVENTS, table, &gone);
    Ok(())
}

/// An event that refers to the person.
struct MatchingEvent {
    id: i64,
    event_id: String,
    source: String,
    event_type: String,
    timestamp_us: i64,
    payload: String,
    /// Set if the event's id, source or type refers to the person. The person cannot be replaced there.
    is_named: bool,
}

impl MatchingEvent {
    fn row<'a>(&'a self, tenant_id: &'a str) -> ServiceEventRow<'a> {
        ServiceEventRow {
            timestamp_us: self.timestamp_us,
            received_us: 0,
            tenant_id,
            event_id: &self.event_id,
            source: &self.source,
            event_type: &self.event_type,
            payload: "",
        }
    }
}

/// Returns the tenant's events with ids in `(after, upto]` that refer to the person.
fn matching_events(
    connection: &Connection,
    table: &str,
    (after, upto): (i64, i64),
    tenant_id: &str,
    matcher: &PersonMatcher,
) -> Result<Vec<MatchingEvent>, ShardError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id, event_id, source, event_type, timestamp_us, payload FROM {table} NOT INDEXED \
         WHERE id > ?1 AND id <= ?2 AND tenant_id = ?3"
    ))?;
    let mut rows = statement.query(params![after, upto, tenant_id])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
        let mut is_named = false;
        for at in 1..4 {
            is_named |= matcher.matches_name(text(at)?);
        }
        if is_named || matcher.matches(text(5)?.as_bytes()) {
            found.push(MatchingEvent {
                id: row.get(0)?,
                event_id: row.get(1)?,
                source: row.get(2)?,
                event_type: row.get(3)?,
                timestamp_us: row.get(4)?,
                payload: row.get(5)?,
                is_named,
            });
        }
    }
    Ok(found)
}
