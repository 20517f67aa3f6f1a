//! Service events that speak of a customer.

use rusqlite::{Connection, TransactionBehavior, params};

use super::super::super::buckets::Buckets;
use super::super::super::error::ShardError;
use super::super::super::file::Shard;
use super::super::super::inspect::partitions_of;
use super::super::super::partition::widened;
use super::super::super::service_event::ServiceEventRow;
use super::super::super::stream::Stream;
use super::super::record::{ErasureMode, Subject};
use super::super::work::Erasing;
use super::super::{Needles, forgotten};
use super::{LOOK_ROWS, count_gone, max_id};
use crate::base::clock;

impl Shard {
    /// Service events of the tenant that speak of the customer.
    pub(in super::super) fn erase_events(
        &mut self,
        erasing: &mut Erasing,
        until_us: u64,
    ) -> Result<bool, ShardError> {
        let partitions = partitions_of(&self.connection, Stream::ServiceEvent)?;
        let Some(partition) = erasing.partition(partitions.clone()) else { return Ok(true) };
        let Some(Subject::Customer { tenant_id, token, .. }) = &erasing.subject else { return Ok(true) };
        let (tenant_id, token) = (tenant_id.clone(), token.clone());
        let end: Option<i64> = max_id(&self.connection, &partition.name)?;
        let Some(end) = end else { return Ok(erasing.next_partition(partitions)) };
        while erasing.at < end {
            let upto = erasing.at.saturating_add(LOOK_ROWS);
            let found = speaking(
                &self.connection,
                &partition.name,
                (erasing.at, upto),
                &tenant_id,
                &erasing.needles,
            )?;
            erasing.at = upto;
            if !found.is_empty() {
                self.change_events(erasing, &partition.name, &tenant_id, &token, &found)?;
            }
            if clock::monotonic_us() >= until_us {
                return Ok(false);
            }
        }
        Ok(erasing.next_partition(partitions))
    }

    fn change_events(
        &mut self,
        erasing: &mut Erasing,
        table: &str,
        tenant_id: &str,
        token: &str,
        found: &[Speaking],
    ) -> Result<(), ShardError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut buckets = Buckets::default();
        let (mut gone, mut times) = (0, None::<(i64, i64)>);
        for event in found {
            erasing.report.events += 1;
            if erasing.mode == ErasureMode::Pseudonymise && !event.is_named {
                let payload = erasing.needles.replaced(&event.payload, token);
                let sql = format!("UPDATE {table} SET payload = ?2 WHERE id = ?1");
                transaction.prepare_cached(&sql)?.execute(params![event.id, payload])?;
                continue;
            }
            transaction.prepare_cached(&format!("DELETE FROM {table} WHERE id = ?1"))?.execute([event.id])?;
            let key = forgotten::bytes(self.keys.hash(tenant_id, &event.event_id));
            forgotten::add_event(&transaction, key)?;
            buckets.count(&event.row(tenant_id));
            times = Some(widened(times, event.timestamp_us));
            gone += 1;
            erasing.report.index_entries += 1;
        }
        if gone > 0 && !self.options.without_buckets {
            let others = partitions_of(&transaction, Stream::ServiceEvent)?;
            buckets.subtract(&transaction, &others)?;
        }
        let left = count_gone(&transaction, Stream::ServiceEvent, table, gone, times)?;
        erasing.save(&transaction)?;
        transaction.commit()?;
        self.service_events -= gone;
        if let Some(open) = self.event.as_mut().filter(|open| gone > 0 && open.name == table) {
            open.erased(gone, left);
        }
        Ok(())
    }
}

/// An event that speaks of the person.
struct Speaking {
    id: i64,
    event_id: String,
    source: String,
    event_type: String,
    timestamp_us: i64,
    payload: String,
    /// In what an event is known by, which nothing can take the place of.
    is_named: bool,
}

impl Speaking {
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

/// The tenant's events with ids in this stretch that speak of the person.
fn speaking(
    connection: &Connection,
    table: &str,
    (after, upto): (i64, i64),
    tenant_id: &str,
    needles: &Needles,
) -> Result<Vec<Speaking>, ShardError> {
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
            is_named |= needles.are_in_name(text(at)?);
        }
        if is_named || needles.are_in(text(5)?.as_bytes()) {
            found.push(Speaking {
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
