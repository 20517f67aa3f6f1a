//! The progress of an erasure in one shard, as stored there and as read by requests.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _};
use serde::{Deserialize, Serialize};

use crate::base::keys::KeyHasher;
use crate::orders::{ORDERS, customers_of, orders_of};
use crate::shard::suppressed::{self, Suppression};
use crate::shard::{ShardError, partitions_of};

/// The maximum number of names, and of addresses, that are read from each shard for one customer. Additional ones
/// only set [`KnownCustomer::is_truncated`].
const NAMES_MAX: usize = 64;

/// Counts of changed rows and files. They contain none of the person's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureReport {
    pub orders: u64,
    pub items: u64,
    /// The number of customer rows: one for each combination of name and address.
    pub customers: u64,
    /// The number of entries in the word index.
    pub words: u64,
    pub events: u64,
    pub clicks: u64,
    /// The number of entries in other indexes and lists.
    pub index_entries: u64,
    pub rejected_records: u64,
    /// The number of stored ingest responses whose errors lost their order ids.
    pub ingest_answers: u64,
    /// The number of journals that started a new segment, so that earlier segments could be deleted.
    pub journals: u64,
    pub journal_bytes: u64,
    pub quarantined_segments: u64,
    /// The number of database pages whose unused bytes were overwritten.
    pub pages: u64,
}

/// An erasure's state in one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErasureState {
    /// The tenant, or `None` for a user of the collector.
    pub tenant_id: Option<String>,
    pub mode: String,
    pub began_us: i64,
    /// The time from which only the record that waits for the sinks is left of the person in this shard. Absent for an erasure
    /// that an earlier version finished.
    pub local_us: Option<i64>,
    pub finished_us: Option<i64>,
    /// The number of the erasure's change in the shard's feed, once it has one.
    pub seq: Option<i64>,
    /// The names of the sinks that had the erasure at its end, sorted. Absent before, and for an erasure that an earlier
    /// version finished.
    pub sinks: Option<Vec<String>>,
    /// The current step, or `finished`.
    pub step: String,
    pub uploads: u64,
    pub exports: u64,
    /// Set if the customer has more names and addresses than were searched for.
    pub names_truncated: bool,
    pub report: ErasureReport,
    /// The request that erases this person together with others, if it does.
    pub batch: Option<String>,
}

/// Returns an erasure by its id, or `None` if the shard does not have it.
pub fn erasure(connection: &Connection, id: &str) -> Result<Option<ErasureState>, ShardError> {
    let sql = "SELECT tenant_id, mode, began_us, finished_us, step, uploads, exports, report, names_truncated, batch, \
               local_us, seq, sinks FROM erasure WHERE id = ?1";
    let read = |row: &rusqlite::Row<'_>| {
        let state = ErasureState {
            tenant_id: row.get(0)?,
            mode: row.get(1)?,
            began_us: row.get(2)?,
            finished_us: row.get(3)?,
            local_us: row.get(10)?,
            seq: row.get(11)?,
            sinks: None,
            step: row.get(4)?,
            uploads: row.get::<_, i64>(5)?.unsigned_abs(),
            exports: row.get::<_, i64>(6)?.unsigned_abs(),
            names_truncated: row.get(8)?,
            report: ErasureReport::default(),
            batch: row.get(9)?,
        };
        Ok((state, row.get::<_, String>(7)?, row.get::<_, Option<String>>(12)?))
    };
    let found = connection.prepare_cached(sql)?.query_row([id], read).optional()?;
    let Some((state, report, sinks)) = found else { return Ok(None) };
    let damaged = |_| ShardError::Corrupt("an erasure has no list of sinks".to_owned());
    let sinks = sinks.map(|names| serde_json::from_str(&names).map_err(damaged)).transpose()?;
    Ok(Some(ErasureState { report: parse(&report)?, sinks, ..state }))
}

pub(super) fn parse(report: &str) -> Result<ErasureReport, ShardError> {
    serde_json::from_str(report).map_err(|_| ShardError::Corrupt("an erasure has no report".to_owned()))
}

/// A customer's data in one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownCustomer {
    pub names: Vec<String>,
    pub emails: Vec<String>,
    /// Set if there are more names or addresses.
    pub is_truncated: bool,
    /// The effect of an earlier erasure, with its token.
    pub suppression: Option<Suppression>,
}

/// Returns the names and addresses that orders in this shard contain for a customer.
pub fn known_customer(
    connection: &Connection,
    keys: &KeyHasher,
    tenant_id: &str,
    customer_id: &str,
) -> Result<KnownCustomer, ShardError> {
    let key = keys.hash(tenant_id, customer_id);
    let suppression = suppressed::find(connection, key)?;
    let mut known = KnownCustomer { suppression, ..KnownCustomer::default() };
    let mut statement = connection.prepare_cached(
        "SELECT c.name, c.email FROM customer_row c JOIN tenant_row t ON t.id = c.tenant \
         WHERE c.key = ?1 AND t.tenant_id = ?2 AND c.customer_id = ?3",
    )?;
    let mut rows = statement.query((key.0 as i64, tenant_id, customer_id))?;
    while let Some(row) = rows.next()? {
        for (list, at) in [(&mut known.names, 0), (&mut known.emails, 1)] {
            let text: String = row.get(at)?;
            if text.is_empty() || list.contains(&text) {
                continue;
            }
            if list.len() < NAMES_MAX { list.push(text) } else { known.is_truncated = true }
        }
    }
    Ok(known)
}

/// Returns the sorted row ids of customers' orders, each with the position of its customer. In sealed partitions, reads
/// them from the lists. In other partitions, reads all of the tenant's orders once (0.2 us each).
pub fn orders_of_customers(
    connection: &Connection,
    keys: &KeyHasher,
    tenant_id: &str,
    ids: &[(String, usize)],
) -> Result<Vec<(i64, usize)>, ShardError> {
    let (mut owners, mut number) = (HashMap::new(), None);
    for (id, at) in ids {
        let key = keys.hash(tenant_id, id).0 as i64;
        let Some((tenant, customers)) = customers_of(connection, tenant_id, (id, key))? else { break };
        number = Some(tenant);
        owners.extend(customers.into_iter().map(|customer| (customer, *at)));
    }
    let wanted: Vec<i64> = owners.keys().copied().collect();
    let (Some(tenant), false) = (number, wanted.is_empty()) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for info in partitions_of(connection, &ORDERS)? {
        for (order, customer) in orders_of(connection, &info.name, info.indexed, tenant, &wanted)? {
            found.extend(owners.get(&customer).map(|owner| (order, *owner)));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The progress of one request's erasures in one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BatchProgress {
    pub(super) known: u64,
    /// Those that are done in the shard, except for what waits for the sinks.
    pub(super) local: u64,
    pub(super) finished: u64,
}

/// Returns the progress of the erasures of one request. `name` is the id of its batch, or of its only erasure.
pub(super) fn progress(connection: &Connection, name: &str) -> Result<BatchProgress, ShardError> {
    let sql = "SELECT count(*), count(coalesce(local_us, finished_us)), count(finished_us) FROM erasure \
               WHERE batch = ?1 OR id = ?1";
    let read = |row: &rusqlite::Row<'_>| {
        let count = |at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.unsigned_abs());
        Ok(BatchProgress { known: count(0)?, local: count(1)?, finished: count(2)? })
    };
    Ok(connection.prepare_cached(sql)?.query_row([name], read)?)
}
