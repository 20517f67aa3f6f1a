//! A batch becomes rows: records, journal positions, counters, ids and buckets in one transaction (W1, W2,
//! W4, R3).
//!
//! Rows go in through one prepared INSERT. A virtual table over the batch (`INSERT … SELECT`) and
//! INSERTs of 8 or 32 rows were measured against it: within the noise of each other (1.2 to 1.4 M
//! rows/s at 10,000 rows a commit), and this one needs no unsafe code.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::buckets::Buckets;
use super::click;
use super::error::ShardError;
use super::file::Shard;
use super::ids::Ids;
use super::orders::{Batch, Taken, Taker};
use super::partition::{Partition, table_of};
use super::people::forgotten;
use super::service_event::{Outcome, ServiceEventRow, decode_service_event};
use super::stream::Stream;
use crate::base::ids::{LaneId, Sequence};
use crate::base::keys::KeyHash;
use crate::base::kinds::Kind;

/// One journal record.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub sequence: Sequence,
    /// The number of a [`Kind`], or one that a newer program wrote.
    pub kind: u8,
    pub payload: &'a [u8],
}

/// Where records come from: whatever a journal hands out, in order of their sequences.
pub trait Records {
    fn records(&self) -> impl Iterator<Item = Entry<'_>>;
}

/// What one [`Shard::apply`] committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Clicks stored.
    pub rows: u64,
    /// Idempotent events stored.
    pub service_events: u64,
    /// Orders stored.
    pub orders: u64,
    /// Idempotent events and orders whose id was there already, conflicts included.
    pub duplicates: u64,
    /// Those of them that had other content.
    pub conflicts: u64,
    /// Records at or below the stored position: they were applied before.
    pub skipped: u64,
    /// Records kept in `rejected_record` because they are no rows.
    pub rejected: u64,
    /// The newest acceptance time among the rows; microseconds since 1970.
    pub received_us_max: Option<i64>,
    /// Whether a partition was sealed and the next one opened.
    pub sealed: bool,
    /// Price anomalies and decisions on them that became known.
    pub price_changes: u64,
    /// Records that are no click, event or order, and were taken.
    pub beside: u64,
    /// Records came of people who were erased: the journals have what the rows have not.
    pub kept_out: bool,
}

/// The applied position of every lane.
#[derive(Clone, Debug)]
pub(super) struct Positions([Sequence; LaneId::COUNT_MAX as usize]);

impl Positions {
    pub(super) fn load(connection: &Connection) -> Result<Positions, ShardError> {
        let mut positions = Positions([Sequence::NONE; LaneId::COUNT_MAX as usize]);
        let mut statement = connection.prepare("SELECT lane, sequence FROM journal_position")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (lane, sequence): (i64, i64) = (row.get(0)?, row.get(1)?);
            let slot = usize::try_from(lane).ok().and_then(|lane| positions.0.get_mut(lane));
            let (Some(slot), Ok(sequence)) = (slot, u64::try_from(sequence)) else {
                return Err(ShardError::Corrupt(format!("lane {lane} is at {sequence}")));
            };
            *slot = Sequence(sequence);
        }
        Ok(positions)
    }

    pub(super) fn get(&self, lane: LaneId) -> Sequence {
        self.0.get(usize::from(lane.0)).copied().unwrap_or(Sequence::NONE)
    }

    pub(super) fn list(&self) -> Vec<(LaneId, Sequence)> {
        let seen = self.0.iter().enumerate().filter(|(_, sequence)| **sequence > Sequence::NONE);
        seen.map(|(lane, sequence)| (LaneId(lane as u8), *sequence)).collect()
    }

    fn slot(&mut self, lane: LaneId) -> Result<&mut Sequence, ShardError> {
        let slot = self.0.get_mut(usize::from(lane.0));
        slot.ok_or_else(|| ShardError::Other(format!("there is no lane {}", lane.0)))
    }
}

/// What a transaction changes beside the file; taken over by its commit.
struct Change {
    click: Partition,
    event: Option<Partition>,
    event_firsts: Vec<(i64, String)>,
    positions: Positions,
    applied: Applied,
    taken: Taken,
    /// A record of an erasure came.
    erasure: bool,
}

/// The keyed rows of a batch, with what may be the same ids in the sorted runs.
#[derive(Default)]
struct Keyed<'a> {
    rows: Vec<ServiceEventRow<'a>>,
    hashes: Vec<KeyHash>,
    candidates: Vec<(u32, i64)>,
    /// How many of both were used.
    next: (usize, usize),
}

impl<'a> Keyed<'a> {
    /// The next row, if the record is one: they come in the order in which they were decoded.
    #[inline]
    fn of(&self, payload: &[u8]) -> Option<ServiceEventRow<'a>> {
        let row = self.rows.get(self.next.0)?;
        // A record that is no row was left out: the row at hand belongs to a later one.
        payload.as_ptr_range().contains(&row.tenant_id.as_ptr()).then_some(*row)
    }
}

impl Shard {
    /// Stores one batch of each lane in one transaction: all of it, or nothing on any error. Records at
    /// or below a lane's position are skipped, so the same batch may come again after any failure.
    /// `outcome` is told of every keyed row before the commit: nothing of it holds unless this returns Ok.
    /// About 0.8 us a row of 200 bytes at 10,000 rows, 2 us a keyed one, plus 100 us a call.
    pub fn apply<R: Records>(
        &mut self,
        lanes: &[(LaneId, &R)],
        outcome: &mut dyn FnMut(LaneId, Sequence, Outcome),
    ) -> Result<Applied, ShardError> {
        let mut change = Change {
            click: self.click.clone(),
            event: self.event.clone(),
            event_firsts: Vec::new(),
            positions: self.positions.clone(),
            applied: Applied::default(),
            taken: Taken::begin(&self.orders),
            erasure: false,
        };
        let done = self.write(lanes, &mut change, outcome);
        self.buckets.clear();
        if let Err(error) = done {
            self.ids.rolled_back();
            self.orders.rolled_back();
            return Err(error);
        }
        // Only now: what is in memory is what is committed.
        self.ids.committed();
        self.orders.committed();
        let Change { click, event, event_firsts, positions, applied, taken, erasure } = change;
        if erasure {
            self.erasures.look();
        }
        self.orders.open = taken.open;
        self.orders.firsts.extend(taken.firsts);
        self.orders.seal_due |= taken.sealed;
        self.order_count += applied.orders;
        (self.click, self.event, self.positions) = (click, event, positions);
        self.event_firsts.extend(event_firsts);
        self.rows += applied.rows;
        self.service_events += applied.service_events;
        self.rejected += applied.rejected;
        self.beside += applied.beside;
        self.seal_due |= applied.sealed;
        Ok(applied)
    }

    fn write<R: Records>(
        &mut self,
        lanes: &[(LaneId, &R)],
        change: &mut Change,
        outcome: &mut dyn FnMut(LaneId, Sequence, Outcome),
    ) -> Result<(), ShardError> {
        let mut keyed = Keyed::default();
        let mut order_batch = Batch::default();
        for (lane, batch) in lanes {
            let position = *change.positions.slot(*lane)?;
            for entry in batch.records().filter(|entry| entry.sequence > position) {
                match Kind::from_number(entry.kind) {
                    Some(Kind::ServiceEvent) => {
                        if let Some(row) = decode_service_event(entry.payload) {
                            keyed.hashes.push(self.keys.hash(row.tenant_id, row.event_id));
                            keyed.rows.push(row);
                        }
                    }
                    Some(kind) if Batch::takes(kind) => {
                        change.erasure |= kind == Kind::Erasure;
                        order_batch.push(&self.keys, kind, entry.payload);
                    }
                    _ => {}
                }
            }
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if !keyed.hashes.is_empty() {
            self.ids.look_up(&transaction, &keyed.hashes, &mut keyed.candidates)?;
            // Run by run as they were found; by row as they are used.
            keyed.candidates.sort_unstable();
            let event = match change.event.take() {
                Some(event) if event.rows < self.options.partition_rows_max => event,
                full => {
                    change.applied.sealed |= full.is_some();
                    let next = Partition::create(&transaction, Stream::ServiceEvent, full.as_ref())?;
                    change.event_firsts.push((next.next_id, next.name.clone()));
                    next
                }
            };
            change.event = Some(event);
        }
        if change.click.rows >= self.options.partition_rows_max {
            change.click = Partition::create(&transaction, Stream::Click, Some(&change.click))?;
            change.applied.sealed = true;
        }
        let forgets = !keyed.hashes.is_empty() && forgotten::is_any_event(&transaction)?;
        let mut events = Events {
            transaction: &transaction,
            forgets,
            kept_out: false,
            ids: &mut self.ids,
            buckets: (!self.options.without_buckets).then_some(&mut self.buckets),
            firsts: [&self.event_firsts, &change.event_firsts],
        };
        let rows_max = self.options.order_partition_rows_max;
        let (taken, orders) = (&mut change.taken, &mut self.orders);
        let mut taker = (!order_batch.is_empty())
            .then(|| Taker::begin(&transaction, &self.keys, orders, &mut order_batch, taken, rows_max))
            .transpose()?;
        for (lane, batch) in lanes {
            let position = change.positions.slot(*lane)?;
            let before = *position;
            let mut insert_click = transaction.prepare_cached(&change.click.insert_sql)?;
            let mut insert_event = match &change.event {
                Some(event) if !keyed.hashes.is_empty() => {
                    Some(transaction.prepare_cached(&event.insert_sql)?)
                }
                _ => None,
            };
            for entry in batch.records() {
                if entry.sequence <= *position {
                    change.applied.skipped += 1;
                    continue;
                }
                *position = entry.sequence;
                let kind = Kind::from_number(entry.kind);
                if kind == Some(Kind::Click)
                    && let Some(row) = click::decode(entry.payload)
                {
                    insert_click.raw_bind_parameter(1, change.click.id_to_bind())?;
                    insert_click.raw_bind_parameter(2, row.user_id)?;
                    insert_click.raw_bind_parameter(3, row.timestamp_us)?;
                    insert_click.raw_bind_parameter(4, row.received_us)?;
                    insert_click.raw_bind_parameter(5, row.metadata)?;
                    insert_click.raw_execute()?;
                    change.click.check_id(&transaction)?;
                    change.click.count(row.timestamp_us);
                    change.applied.rows += 1;
                    change.applied.received_us_max =
                        change.applied.received_us_max.max(Some(row.received_us));
                } else if kind == Some(Kind::ServiceEvent)
                    && let (Some(row), Some(event), Some(insert)) =
                        (keyed.of(entry.payload), &mut change.event, &mut insert_event)
                {
                    let said = events.take(&row, &mut keyed, event, insert)?;
                    match said {
                        Outcome::Inserted => change.applied.service_events += 1,
                        Outcome::Conflict => {
                            change.applied.duplicates += 1;
                            change.applied.conflicts += 1;
                        }
                        _ => change.applied.duplicates += 1,
                    }
                    change.applied.received_us_max =
                        change.applied.received_us_max.max(Some(row.received_us));
                    outcome(*lane, entry.sequence, said);
                } else if let Some(taker) = &mut taker
                    && kind.is_some_and(Batch::takes)
                    && let Some(said) = taker.take(&mut order_batch, &entry, &mut change.taken)?
                {
                    change.applied.beside += u64::from(!kind.is_some_and(Kind::is_counted));
                    outcome(*lane, entry.sequence, said);
                } else {
                    reject(&transaction, *lane, &entry)?;
                    change.applied.rejected += 1;
                    if kind.is_none_or(Kind::is_keyed) {
                        outcome(*lane, entry.sequence, Outcome::Rejected);
                    }
                }
            }
            if *position > before {
                transaction
                    .prepare_cached(
                        "INSERT INTO journal_position (lane, sequence) VALUES (?1, ?2) \
                         ON CONFLICT (lane) DO UPDATE SET sequence = excluded.sequence",
                    )?
                    .execute(params![lane.0, position.0 as i64])?;
            }
        }
        let event_kept_out = events.kept_out;
        taker.map(|taker| taker.finish(&change.taken)).transpose()?;
        let (applied, taken) = (&mut change.applied, &change.taken);
        applied.orders = taken.orders;
        applied.duplicates += taken.duplicates;
        applied.conflicts += taken.conflicts;
        applied.price_changes = taken.price_changes;
        applied.kept_out = event_kept_out || taken.kept_out;
        applied.received_us_max = applied.received_us_max.max(taken.received_us_max);
        if applied.rows > 0 {
            change.click.save(&transaction)?;
        }
        if let (Some(event), true) = (&change.event, applied.service_events > 0) {
            event.save(&transaction)?;
            self.ids.save(&transaction)?;
            self.buckets.save(&transaction)?;
        }
        for (name, more) in [
            (Stream::Click.total(), applied.rows),
            (Stream::ServiceEvent.total(), applied.service_events),
            (Stream::Order.total(), applied.orders),
            ("rejected_records", applied.rejected),
        ] {
            if more > 0 {
                transaction
                    .prepare_cached("UPDATE total SET value = value + ?2 WHERE name = ?1")?
                    .execute(params![name, more as i64])?;
            }
        }
        if applied.beside > 0 {
            // Files of before have no such row.
            transaction
                .prepare_cached(
                    "INSERT INTO total (name, value) VALUES (?1, ?2) \
                     ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                )?
                .execute(params![BESIDE, applied.beside as i64])?;
        }
        transaction.commit()?;
        Ok(())
    }
}

/// The total of the records that were taken and are no click, event or order.
pub(super) const BESIDE: &str = "other_records";

/// What it takes to know whether an event is new, and to store it.
struct Events<'t> {
    transaction: &'t Connection,
    /// Events of somebody were erased.
    forgets: bool,
    /// One of them came again.
    kept_out: bool,
    ids: &'t mut Ids,
    buckets: Option<&'t mut Buckets>,
    /// First row id and table of every partition, oldest first: the committed ones, then this batch's.
    firsts: [&'t [(i64, String)]; 2],
}

impl Events<'_> {
    /// Stores the row unless its id is there.
    fn take(
        &mut self,
        row: &ServiceEventRow<'_>,
        keyed: &mut Keyed<'_>,
        partition: &mut Partition,
        insert: &mut rusqlite::CachedStatement<'_>,
    ) -> Result<Outcome, ShardError> {
        let (index, mut at) = keyed.next;
        let hash = keyed.hashes[index];
        let mut known = None;
        while let Some((of, row_id)) = keyed.candidates.get(at).copied()
            && of as usize == index
        {
            at += 1;
            known = known.or(self.compare(row, row_id)?);
        }
        keyed.next = (index + 1, at);
        if known.is_none() {
            // Rarely more than none; collected, because comparing reads the file.
            let newest: Vec<i64> = self.ids.newest(hash).collect();
            for row_id in newest {
                known = known.or(self.compare(row, row_id)?);
            }
        }
        if let Some(known) = known {
            return Ok(known);
        }
        // The id was there, and stays taken.
        if self.forgets && forgotten::was_event_erased(self.transaction, hash)? {
            self.kept_out = true;
            return Ok(Outcome::Duplicate);
        }
        insert.raw_bind_parameter(1, partition.id_to_bind())?;
        insert.raw_bind_parameter(2, row.tenant_id)?;
        insert.raw_bind_parameter(3, row.event_id)?;
        insert.raw_bind_parameter(4, row.source)?;
        insert.raw_bind_parameter(5, row.event_type)?;
        insert.raw_bind_parameter(6, row.timestamp_us)?;
        insert.raw_bind_parameter(7, row.received_us)?;
        insert.raw_bind_parameter(8, row.payload)?;
        insert.raw_execute()?;
        partition.check_id(self.transaction)?;
        self.ids.stage(hash, partition.next_id);
        if let Some(buckets) = &mut self.buckets {
            buckets.count(row);
        }
        partition.count(row.timestamp_us);
        Ok(Outcome::Inserted)
    }

    /// What a stored row says about one that may be the same; `None` where it is another id, or gone.
    fn compare(&self, row: &ServiceEventRow<'_>, row_id: i64) -> Result<Option<Outcome>, ShardError> {
        let [older, newer] = self.firsts;
        let firsts = if newer.first().is_some_and(|(first, _)| *first <= row_id) { newer } else { older };
        let Some(table) = table_of(firsts, row_id) else { return Ok(None) };
        let mut statement = self.transaction.prepare_cached(&format!(
            "SELECT tenant_id, event_id, source, event_type, timestamp_us, received_us, payload \
             FROM {table} WHERE id = ?1"
        ))?;
        let compared = statement.query_row([row_id], |found| {
            let text = |at: usize| found.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
            let stored = ServiceEventRow {
                tenant_id: text(0)?,
                event_id: text(1)?,
                source: text(2)?,
                event_type: text(3)?,
                timestamp_us: found.get(4)?,
                received_us: found.get(5)?,
                payload: text(6)?,
            };
            Ok(if (stored.tenant_id, stored.event_id) != (row.tenant_id, row.event_id) {
                None
            } else if stored.same_content(row) {
                Some(Outcome::Duplicate)
            } else {
                Some(Outcome::Conflict)
            })
        });
        Ok(compared.optional()?.flatten())
    }
}

/// A record that is no row never stops the shard: it is kept as it is, with the reason.
fn reject(transaction: &Connection, lane: LaneId, entry: &Entry<'_>) -> Result<(), ShardError> {
    let reason = Kind::from_number(entry.kind).map_or("unknown kind", Kind::rejection);
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO rejected_record (lane, sequence, kind, payload, reason) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![lane.0, entry.sequence.0 as i64, entry.kind, entry.payload, reason])?;
    Ok(())
}
