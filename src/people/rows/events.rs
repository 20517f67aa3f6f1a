//! Erases service events that refer to a customer.

use rusqlite::{Connection, TransactionBehavior, params};

use super::super::active::ActiveErasure;
use super::super::many::PeopleMatcher;
use super::super::waiting;
use super::{LOOK_ROWS, max_id};
use crate::base::clock;
use crate::events::{Buckets, EVENTS, ServiceEventRow, drop_build};
use crate::shard::partition::{count_deleted, widened};
use crate::shard::{ChangeKind, ErasureMode, Shard, ShardError, append_change, partitions_of, suppressed};

/// Deletes the tenant's service events that refer to the people, or replaces the people in them.
pub(in super::super) fn erase_events(
    shard: &mut Shard,
    erasing: &mut ActiveErasure,
    until_us: u64,
) -> Result<bool, ShardError> {
    let partitions = partitions_of(shard.connection(), &EVENTS)?;
    let Some(partition) = erasing.walk.partition(&partitions) else { return Ok(true) };
    let Some(tenant_id) = erasing.tenant_id().map(str::to_owned) else { return Ok(true) };
    // The unfinished index of an unordered partition may contain the rows. It is built again without them.
    drop_build(shard.connection(), &partition.name)?;
    let end: Option<i64> = max_id(shard.connection(), &partition.name)?;
    let Some(end) = end else { return Ok(erasing.walk.next_partition(&partitions)) };
    while erasing.walk.at < end {
        let (after, upto) = (erasing.walk.at, erasing.walk.at.saturating_add(LOOK_ROWS));
        let found = matching_events(
            shard.connection(),
            &partition.name,
            (after, upto),
            &tenant_id,
            &erasing.matcher,
        )?;
        erasing.walk.at = upto;
        if !found.is_empty() {
            change_events(shard, erasing, &partition.name, &tenant_id, &found)?;
        }
        if clock::monotonic_us() >= until_us {
            return Ok(false);
        }
    }
    Ok(erasing.walk.next_partition(&partitions))
}

/// The ids of events that an erasure deletes, and of those that it keeps, each with its person.
pub(in super::super) type FoundEvents = [Vec<(i64, usize)>; 2];

/// Returns the ids of the tenant's events after `after` and up to `pin` that refer to people, and the id to continue
/// after if there may be more.
pub(in super::super) fn find_events(
    connection: &Connection,
    (after, pin): (i64, i64),
    tenant_id: &str,
    (matcher, mode): (&PeopleMatcher, ErasureMode),
    until_us: u64,
) -> Result<(FoundEvents, Option<i64>), ShardError> {
    let (mut found, mut at) = ([Vec::new(), Vec::new()], after);
    for partition in partitions_of(connection, &EVENTS)? {
        let end = (partition.end_id - 1).min(pin);
        at = at.max(partition.first_id - 1);
        while at < end {
            let upto = at.saturating_add(LOOK_ROWS).min(end);
            for event in matching_events(connection, &partition.name, (at, upto), tenant_id, matcher)? {
                let people = event.refers.who.iter().map(|person| (event.id, *person));
                found[usize::from(event.refers.is_kept(mode))].extend(people);
            }
            at = upto;
            if clock::monotonic_us() >= until_us {
                return Ok((found, Some(at)));
            }
        }
    }
    Ok((found, None))
}

fn change_events(
    shard: &mut Shard,
    erasing: &mut ActiveErasure,
    table: &str,
    tenant_id: &str,
    found: &[MatchingEvent],
) -> Result<(), ShardError> {
    let (keys, has_buckets) = (*shard.keys(), !shard.options().without_aggregates);
    let (is_shipped, now_us) = (waiting::is_shipped(shard.options()), clock::unix_us());
    let transaction = shard.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut buckets = Buckets::default();
    let (mut gone, mut times) = (0, None::<(i64, i64)>);
    for event in found {
        let is_kept = event.refers.is_kept(erasing.mode);
        for person in &event.refers.who {
            erasing.count(*person, |report| {
                report.events += 1;
                report.index_entries += u64::from(!is_kept);
            });
        }
        if is_kept {
            let sql = format!("UPDATE {table} SET payload = ?2 WHERE id = ?1");
            let payload = replaced(erasing, event);
            transaction.prepare_cached(&sql)?.execute(params![event.id, payload])?;
            continue;
        }
        transaction.prepare_cached(&format!("DELETE FROM {table} WHERE id = ?1"))?.execute([event.id])?;
        let number = event.refers.who.first().and_then(|person| erasing.number(*person));
        // A sink that is registered later never reads the row.
        if is_shipped {
            append_change(&transaction, ChangeKind::Erased, None, event.id, number, now_us)?;
        }
        let key = suppressed::bytes(keys.hash(tenant_id, &event.event_id));
        suppressed::add_event(&transaction, key)?;
        buckets.count(&event.row(tenant_id));
        times = Some(widened(times, event.timestamp_us));
        gone += 1;
    }
    if gone > 0 && has_buckets {
        let others = partitions_of(&transaction, &EVENTS)?;
        let info = others.iter().find(|info| info.name == table);
        let gone = || ShardError::Other(format!("{table} is not in the catalogue"));
        buckets.subtract(&transaction, info.ok_or_else(gone)?, &others)?;
    }
    let gone = count_deleted(&transaction, &EVENTS, table, gone, times)?;
    erasing.save(&transaction)?;
    transaction.commit()?;
    shard.rows_gone(&EVENTS, table, &gone);
    Ok(())
}

/// Returns the payload with a token in place of each person.
fn replaced(erasing: &ActiveErasure, event: &MatchingEvent) -> String {
    let mut payload = event.payload.clone();
    for person in &event.refers.who {
        let (Some(matcher), Some((_, token))) = (erasing.matcher.person(*person), erasing.customer(*person))
        else {
            continue;
        };
        payload = matcher.replaced(&payload, token);
    }
    // The token of one person may complete the id of another. What cannot be replaced is removed.
    let is_clean = erasing.matcher.who(payload.as_bytes()).is_empty();
    if is_clean { payload } else { "{}".to_owned() }
}

/// The people to whom an event refers.
#[derive(Debug, Default)]
pub(in super::super) struct EventRefers {
    pub(in super::super) who: Vec<usize>,
    /// Set if the event's id, source or type refers to a person. The person cannot be replaced there.
    is_named: bool,
}

impl EventRefers {
    /// Finds the people in an event's id, source and type, and in its payload.
    pub(in super::super) fn find(names: [&str; 3], payload: &[u8], matcher: &PeopleMatcher) -> EventRefers {
        let mut who: Vec<usize> = names.into_iter().flat_map(|name| matcher.who_named(name)).collect();
        let is_named = !who.is_empty();
        who.extend(matcher.who(payload));
        who.sort_unstable();
        who.dedup();
        EventRefers { who, is_named }
    }

    /// Returns `true` if an erasure in this mode keeps the event, with a pseudonym.
    pub(in super::super) fn is_kept(&self, mode: ErasureMode) -> bool {
        mode == ErasureMode::Pseudonymise && !self.is_named
    }
}

/// An event that refers to a person.
pub(in super::super) struct MatchingEvent {
    pub(in super::super) id: i64,
    pub(in super::super) event_id: String,
    pub(in super::super) source: String,
    pub(in super::super) event_type: String,
    pub(in super::super) timestamp_us: i64,
    pub(in super::super) received_us: i64,
    pub(in super::super) payload: String,
    refers: EventRefers,
}

impl MatchingEvent {
    pub(in super::super) fn row<'a>(&'a self, tenant_id: &'a str) -> ServiceEventRow<'a> {
        ServiceEventRow {
            timestamp_us: self.timestamp_us,
            received_us: self.received_us,
            tenant_id,
            event_id: &self.event_id,
            source: &self.source,
            event_type: &self.event_type,
            payload: &self.payload,
        }
    }
}

/// Returns the SQL that reads a tenant's events in a range of row ids.
pub(in super::super) fn events_sql(table: &str) -> String {
    format!(
        "SELECT id, event_id, source, event_type, timestamp_us, received_us, payload FROM {table} NOT INDEXED \
         WHERE id > ?1 AND id <= ?2 AND tenant_id = ?3"
    )
}

/// Returns the tenant's events with ids in `(after, upto]` that refer to a person.
pub(in super::super) fn matching_events(
    connection: &Connection,
    table: &str,
    (after, upto): (i64, i64),
    tenant_id: &str,
    matcher: &PeopleMatcher,
) -> Result<Vec<MatchingEvent>, ShardError> {
    let mut statement = connection.prepare_cached(&events_sql(table))?;
    let mut rows = statement.query(params![after, upto, tenant_id])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
        let refers = EventRefers::find([text(1)?, text(2)?, text(3)?], text(6)?.as_bytes(), matcher);
        if refers.who.is_empty() {
            continue;
        }
        found.push(MatchingEvent {
            id: row.get(0)?,
            event_id: row.get(1)?,
            source: row.get(2)?,
            event_type: row.get(3)?,
            timestamp_us: row.get(4)?,
            received_us: row.get(5)?,
            payload: row.get(6)?,
            refers,
        });
    }
    Ok(found)
}
