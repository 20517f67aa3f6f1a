//! Stores a batch's events as rows, each once, with their ids and buckets.

use std::any::Any;
use std::path::Path;
use std::time::Duration;

use rusqlite::{CachedStatement, Connection, OptionalExtension as _};

use super::buckets::Buckets;
use super::dropped::drop_tenant;
use super::order::Order;
#[cfg(test)]
use super::order::OrderLimits;
use super::record::{ServiceEventRow, decode_service_event};
use super::schema::{EVENT_IDS, EVENTS};
use super::seal::Sealing;
use crate::shard::ids::{BatchIds, Ids};
use crate::shard::partition::to_index;
use crate::shard::read::UNORDERED_ROWS_MAX;
use crate::shard::{
    Batch, BatchWriter, BuiltIndex, CountLeaving, Opening, Outcome, PartitionInfo, Record, Shard, ShardError,
    Stage, Store, Stream, TenantSlice, load_ids, open_reader, partitions_of, suppressed,
};

/// The number of rows read in one transaction. It is small enough that no checkpoint waits long.
const READ_ROWS: i64 = 50_000;

/// The in-memory state of a shard's events.
#[derive(Debug)]
pub struct EventStore {
    pub(super) ids: Ids,
    buckets: Buckets,
    /// `false` only in measurements of the cost of buckets.
    pub(super) with_buckets: bool,
    pub(super) order: Order,
    /// Whether there may be a sealed partition without its index.
    pub(super) seal_due: bool,
    pub(super) sealing: Option<Sealing>,
}

impl EventStore {
    pub(super) fn open(opening: Opening<'_>) -> Result<EventStore, ShardError> {
        let ids = load_ids(opening.connection, opening.keys, &EVENT_IDS)?;
        let with_buckets = !opening.options.without_aggregates;
        let seal_due = to_index(opening.connection, &EVENTS)?.is_some();
        Ok(EventStore {
            ids,
            buckets: Buckets::default(),
            with_buckets,
            order: Order::new(),
            seal_due,
            sealing: None,
        })
    }

    /// Makes partitions unordered at other limits, for tests.
    #[cfg(test)]
    pub(crate) fn set_order_limits(&mut self, limits: OrderLimits) {
        self.order.limits = limits;
    }

    /// Shortens the runs of ids, for tests.
    #[cfg(test)]
    pub(crate) fn shorten_runs(&mut self, run_ids_min: usize) {
        self.ids.shorten_runs(run_ids_min);
    }
}

impl Store for EventStore {
    fn begin<'t>(
        &'t mut self,
        batch: &mut Batch<'t>,
        runs: &[&[Record<'t>]],
    ) -> Result<Box<dyn BatchWriter<'t> + 't>, ShardError> {
        let connection = batch.connection;
        let mut sought = BatchEvents::default();
        for record in runs.iter().copied().flatten() {
            if let Some(row) = decode_service_event(record.payload) {
                sought.ids.push(batch.keys.hash(row.tenant_id, row.event_id));
                sought.rows.push(row);
            }
        }
        let (mut insert, mut forgets, mut is_counted) = (None, false, true);
        if !sought.ids.is_empty() {
            sought.ids.look_up(&mut self.ids, connection)?;
            let stream = batch.stream(&EVENTS);
            let is_unordered = self.order.is_unordered(&sought.rows);
            let (rows_max, rows_min) =
                (stream.partition_rows_max(), self.order.rows_min(stream.partition_rows_max()));
            let rows = sought.rows.len() as u64;
            let is_large = |open_rows: u64| is_unordered && open_rows.saturating_add(rows) >= rows_min;
            let is_over = stream.open().is_some_and(|open| match open.is_unordered {
                true => open.rows >= rows_max.min(UNORDERED_ROWS_MAX),
                false => open.rows >= rows_max || is_large(open.rows),
            });
            // A full partition was large.
            let is_unordered = is_unordered && (is_over || is_large(0));
            let open = stream.partition_unless(connection, is_over, is_unordered)?;
            is_counted = !open.is_unordered;
            insert = Some(connection.prepare_cached(&open.insert_sql)?);
            forgets = suppressed::any_event(connection)?;
        }
        // The rows of an unordered partition are counted when it gets its index.
        let buckets = (is_counted && !batch.options.without_aggregates).then_some(&mut self.buckets);
        Ok(Box::new(Writer { ids: &mut self.ids, buckets, sought, insert, forgets }))
    }

    fn committed(&mut self) {
        self.ids.committed();
        self.buckets.clear();
    }

    fn rolled_back(&mut self) {
        self.ids.rolled_back();
        self.buckets.rolled_back();
    }

    fn sealed(&mut self) {
        self.seal_due = true;
    }

    fn memory_bytes(&self) -> usize {
        self.ids.memory_bytes()
    }

    fn upkeep_due(&self, stage: Stage, shard: &Shard) -> bool {
        match stage {
            Stage::Ids => self.ids.work_due(),
            Stage::Seal => self.is_seal_due(shard),
            _ => false,
        }
    }

    fn upkeep_waits(&self) -> bool {
        self.ids.is_freezing() || self.sealing.as_ref().is_some_and(Sealing::is_waiting)
    }

    fn is_upkeep_urgent(&self) -> bool {
        self.sealing.as_ref().is_some_and(|sealing| !sealing.is_waiting())
    }

    fn upkeep(
        &mut self,
        stage: Stage,
        shard: &mut Shard,
        budget: Duration,
    ) -> Result<Option<BuiltIndex>, ShardError> {
        if stage == Stage::Seal {
            return self.seal(shard, budget);
        }
        self.ids.work(shard.connection(), budget)?;
        Ok(None)
    }

    fn stop_building(&mut self) {
        self.stop_sealing();
    }

    fn count_leaving(&self, _stream: &'static Stream) -> Option<CountLeaving> {
        Some(count_leaving)
    }

    fn leave(
        &mut self,
        transaction: &Connection,
        _stream: &'static Stream,
        counted: Option<Box<dyn Any + Send>>,
        others: &[PartitionInfo],
    ) -> Result<(), ShardError> {
        if let Some(Ok(leaving)) = counted.map(|counted| counted.downcast::<Leaving>()) {
            let Leaving { mut buckets, partition } = *leaving;
            buckets.subtract(transaction, &partition, others)?;
        }
        let first_id = others.first().map_or(i64::MAX, |partition| partition.first_id);
        self.ids.forget_below(transaction, first_id)
    }

    fn drop_tenant(
        &mut self,
        transaction: &Connection,
        slice: TenantSlice<'_>,
    ) -> Result<(usize, u64), ShardError> {
        drop_tenant(transaction, slice, self.with_buckets)
    }
}

/// A batch's events and their ids.
#[derive(Default)]
struct BatchEvents<'a> {
    rows: Vec<ServiceEventRow<'a>>,
    ids: BatchIds,
    /// The number of rows already used.
    next: usize,
}

impl<'a> BatchEvents<'a> {
    /// Returns the next row if it belongs to this record. Rows are in the order they were decoded.
    #[inline]
    fn of(&self, payload: &[u8]) -> Option<ServiceEventRow<'a>> {
        let row = self.rows.get(self.next)?;
        // A record that is not a row was skipped, so the next row belongs to a later record.
        payload.as_ptr_range().contains(&row.tenant_id.as_ptr()).then_some(*row)
    }
}

/// What is needed to decide whether an event is new, and to store it.
struct Writer<'t> {
    ids: &'t mut Ids,
    buckets: Option<&'t mut Buckets>,
    sought: BatchEvents<'t>,
    insert: Option<CachedStatement<'t>>,
    /// Set if a person's events were erased.
    forgets: bool,
}

impl<'t> BatchWriter<'t> for Writer<'t> {
    fn write(
        &mut self,
        batch: &mut Batch<'t>,
        run: &[Record<'t>],
        outcomes: &mut Vec<Option<Outcome>>,
    ) -> Result<(), ShardError> {
        for record in run {
            let Some(row) = self.sought.of(record.payload) else {
                outcomes.push(None);
                continue;
            };
            let outcome = self.store(batch, &row)?;
            batch.count_known(outcome);
            batch.received(Some(row.received_us));
            outcomes.push(Some(outcome));
        }
        Ok(())
    }

    fn finish(self: Box<Self>, batch: &mut Batch<'t>) -> Result<(), ShardError> {
        if batch.applied.stored(&EVENTS) > 0 {
            self.ids.save(batch.connection)?;
            if let Some(buckets) = self.buckets {
                buckets.save(batch.connection)?;
            }
        }
        Ok(())
    }
}

impl<'t> Writer<'t> {
    /// Stores the row unless its id is already stored.
    fn store(&mut self, batch: &mut Batch<'t>, row: &ServiceEventRow<'t>) -> Result<Outcome, ShardError> {
        let connection = batch.connection;
        self.sought.next += 1;
        let (hash, known) = self.sought.ids.find(self.ids, |row_id| compare(batch, row, row_id))?;
        if let Some(known) = known {
            return Ok(known);
        }
        // An erased event had this id, and the id remains taken.
        if self.forgets && suppressed::was_event_erased(connection, hash)? {
            batch.applied.suppressed = true;
            return Ok(Outcome::Duplicate);
        }
        let (Some(partition), Some(insert)) = (batch.stream(&EVENTS).open(), &mut self.insert) else {
            return Err(ShardError::Other("an event came before its partition".to_owned()));
        };
        insert.raw_bind_parameter(1, partition.id_to_bind())?;
        insert.raw_bind_parameter(2, row.tenant_id)?;
        insert.raw_bind_parameter(3, row.event_id)?;
        insert.raw_bind_parameter(4, row.source)?;
        insert.raw_bind_parameter(5, row.event_type)?;
        insert.raw_bind_parameter(6, row.timestamp_us)?;
        insert.raw_bind_parameter(7, row.received_us)?;
        insert.raw_bind_parameter(8, row.payload)?;
        insert.raw_execute()?;
        partition.check_id(connection)?;
        self.ids.stage(hash, partition.next_id);
        if let Some(buckets) = &mut self.buckets {
            buckets.count(row);
        }
        partition.count(row.timestamp_us);
        batch.count(&EVENTS, 1);
        Ok(Outcome::Inserted)
    }
}

/// Compares the row with a stored row that may have the same id. Returns `None` if the stored row has another id or
/// was deleted.
fn compare(
    batch: &mut Batch<'_>,
    row: &ServiceEventRow<'_>,
    row_id: i64,
) -> Result<Option<Outcome>, ShardError> {
    let connection = batch.connection;
    let Some(table) = batch.stream(&EVENTS).table_of(row_id) else { return Ok(None) };
    let mut statement = connection.prepare_cached(&format!(
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

/// What a partition that is dropped contributes to the buckets.
struct Leaving {
    buckets: Buckets,
    partition: PartitionInfo,
}

/// Counts the events of one partition by bucket. The partition no longer changes, and has its index.
fn count_leaving(path: &Path, partition: &str) -> Result<Box<dyn Any + Send>, ShardError> {
    let reader = open_reader(path)?;
    let infos = partitions_of(&reader, &EVENTS)?;
    let info = infos.into_iter().find(|info| info.name == partition);
    let info = info.ok_or_else(|| ShardError::Other(format!("{partition} is not in the catalogue")))?;
    let mut buckets = Buckets::default();
    let mut last = i64::MIN;
    let mut statement = reader.prepare(&format!(
        "SELECT id, tenant_id, source, event_type, timestamp_us FROM {partition} WHERE id > ?1 \
         ORDER BY id LIMIT ?2"
    ))?;
    loop {
        let before = last;
        let mut rows = statement.query([last, READ_ROWS])?;
        while let Some(row) = rows.next()? {
            last = row.get(0)?;
            let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
            buckets.count(&ServiceEventRow {
                timestamp_us: row.get(4)?,
                received_us: 0,
                tenant_id: text(1)?,
                event_id: "",
                source: text(2)?,
                event_type: text(3)?,
                payload: "",
            });
        }
        if last == before {
            return Ok(Box::new(Leaving { buckets, partition: info }));
        }
    }
}
