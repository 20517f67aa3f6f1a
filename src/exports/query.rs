//! Export reads: the pins of a snapshot, the selection of rows, and their data. Each is a bounded step on a reader's
//! thread.

use std::sync::Arc;

use rusqlite::Connection;

use super::source::{Batch, Chosen, ExportSource, order_of};
use crate::base::ids::ShardId;
use crate::orders::{
    BatchBounds, OrderSource, SelectionCursor, StepCache, choose_orders, forget_pages, read_orders,
};
use crate::query::{Answer, QueryError, Readers, received};
use crate::shard::read::{
    BatchLimits, RowCursor, TimeRange, copy_rows, oldest_id, oldest_id_in, pin, select_rows,
};
use crate::shard::{self, ShardError, Stream};

/// A batch that is being filled, and what was cached so far.
pub(super) type Filling = (Batch, StepCache);

/// The limits on a batch of each kind of rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) orders: BatchBounds,
    pub(super) rows: BatchLimits,
}

impl Limits {
    pub(super) fn are_reached(&self, batch: &Batch) -> bool {
        match batch {
            Batch::Orders(batch) => self.orders.is_full(batch),
            Batch::Rows(batch) => self.rows.are_reached(batch),
        }
    }
}

/// The progress of the selection in one shard. Only the part of the source's kind is used.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    orders: SelectionCursor,
    rows: RowCursor,
}

/// A running fill step. [`Filled::wait`] waits for its end.
#[derive(Debug)]
pub(super) struct Filled(Answer<Option<(Filling, usize)>>);

impl Filled {
    /// Returns the batch and the number of chosen rows that it received.
    pub(super) async fn wait(self) -> Result<(Filling, usize), QueryError> {
        received(self.0.recv().await)?.ok_or(QueryError::Busy)
    }
}

/// The rows of one shard that an export may contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// The highest row id. Every row committed later has a higher one.
    pub(super) pin: i64,
    /// The first row id of the oldest partition that has rows in the range, or the highest number without one.
    pub(super) floor: i64,
}

/// Returns the rows that exist now in each shard. They are durable, so the record of an export never outlives them.
pub(super) async fn snapshots(
    readers: &Readers,
    source: &ExportSource,
    range: TimeRange,
) -> Result<Vec<Snapshot>, QueryError> {
    let (stream, tenant_id) = (source.stream(), source.tenant_id().map(str::to_owned));
    let look = move |connection: &Connection| {
        let pin = pin(connection, stream)?;
        shard::sync_commits(connection)?;
        let Some(oldest) = oldest_id_in(connection, stream, &range)? else {
            return Ok(Snapshot { pin, floor: i64::MAX });
        };
        // The tenant's own retention may have reached a row within the partition.
        let gone = dropped_of(connection, stream, tenant_id.as_deref())?;
        Ok(Snapshot { pin, floor: oldest.max(gone.saturating_add(1)) })
    };
    readers.ask_all(Snapshot { pin: 0, floor: i64::MAX }, look).await
}

/// Returns `true` if a shard is erasing rows of the tenant, or clicks if the name is empty. An export could still
/// contain these rows.
pub(super) async fn is_erasing(readers: &Readers, tenant_id: &str) -> Result<bool, QueryError> {
    let tenant_id = tenant_id.to_owned();
    let look = move |connection: &Connection| match tenant_id.as_str() {
        "" => shard::is_erasing_clicks(connection),
        tenant_id => shard::is_erasing(connection, tenant_id),
    };
    Ok(readers.ask_all(false, look).await?.contains(&true))
}

/// Returns `true` if a shard still has rows of the tenant under a name that a pseudonym is replacing.
pub(super) async fn is_pseudonymising(readers: &Readers, tenant_id: &str) -> Result<bool, QueryError> {
    let tenant_id = tenant_id.to_owned();
    let look = move |connection: &Connection| shard::is_pseudonymising(connection, &tenant_id);
    Ok(readers.ask_all(false, look).await?.contains(&true))
}

/// Returns `true` if retention has dropped rows of the source with ids from `id` on from a shard.
pub(super) async fn has_dropped(
    readers: &Readers,
    shard: ShardId,
    source: &ExportSource,
    id: i64,
) -> Result<bool, QueryError> {
    let (stream, tenant_id) = (source.stream(), source.tenant_id().map(str::to_owned));
    let look = move |connection: &Connection| {
        let is_partition_gone = oldest_id(connection, stream)? > id;
        Ok(is_partition_gone || dropped_of(connection, stream, tenant_id.as_deref())? >= id)
    };
    received(readers.ask(shard, false, look)?.recv().await)
}

/// Makes what was chosen in a shard durable. A selection must not outlive a status that it contains.
pub(super) async fn sync(readers: &Readers, shard: ShardId) -> Result<(), QueryError> {
    received(readers.ask(shard, (), shard::sync_commits)?.recv().await)
}

/// Returns the row id up to which the rows of a source's tenant have left by the tenant's own retention, or 0.
fn dropped_of(
    connection: &Connection,
    stream: &'static Stream,
    tenant_id: Option<&str>,
) -> Result<i64, ShardError> {
    tenant_id.map_or(Ok(0), |tenant_id| shard::dropped_upto(connection, stream, tenant_id))
}

/// Returns one shard's next rows that match the source, and where to continue if there are more. `spare` is an empty
/// list whose memory is reused.
pub(super) async fn choose(
    readers: &Readers,
    shard: ShardId,
    (source, range): (&Arc<ExportSource>, TimeRange),
    pin: i64,
    cursor: Cursor,
    spare: Option<Chosen>,
) -> Result<(Chosen, Option<Cursor>), QueryError> {
    let source = source.clone();
    let absent = match &*source {
        ExportSource::Orders(_) => Chosen::Orders(Vec::new()),
        _ => Chosen::Rows(Vec::new()),
    };
    let step = move |connection: &Connection| match (&*source, spare) {
        (ExportSource::Orders(of), spare) => {
            let spare = if let Some(Chosen::Orders(spare)) = spare { spare } else { Vec::new() };
            let (chosen, next) =
                choose_orders(connection, shard, (&**of, &range), pin, cursor.orders, spare)?;
            let next = next.map(|orders| Cursor { orders, ..Cursor::default() });
            Ok((Chosen::Orders(chosen), next))
        }
        (source, spare) => {
            let spare = if let Some(Chosen::Rows(spare)) = spare { spare } else { Vec::new() };
            let (ids, next) = match source {
                ExportSource::Clicks(of) => select_rows(connection, (of, &range), pin, cursor.rows, spare)?,
                ExportSource::Events(of) => select_rows(connection, (of, &range), pin, cursor.rows, spare)?,
                ExportSource::Orders(_) => (spare, None),
            };
            Ok((Chosen::Rows(ids), next.map(|rows| Cursor { rows, ..Cursor::default() })))
        }
    };
    received(readers.ask(shard, (absent, None), step)?.recv().await)
}

/// Releases what a reader caches for a shard. After the whole shard has been read, the cache would only occupy
/// memory.
pub(super) async fn forget(readers: &Readers, shard: ShardId) {
    if let Ok(asked) = readers.ask(shard, (), forget_pages) {
        let _ = asked.recv().await;
    }
}

/// Starts to add one shard's chosen rows to a batch.
pub(super) fn fill(
    readers: &Readers,
    (shard, source): (ShardId, &Arc<ExportSource>),
    words: Vec<u64>,
    limits: Limits,
    filling: Filling,
) -> Result<Filled, QueryError> {
    let source = source.clone();
    let step = move |connection: &Connection| {
        let (mut batch, mut cache) = filling;
        let ids = || -> Vec<i64> { words.iter().map(|word| super::source::id_of(*word)).collect() };
        let taken = match (&*source, &mut batch) {
            (ExportSource::Orders(of), Batch::Orders(batch)) => {
                let chosen: Option<Vec<_>> = words.iter().map(|word| order_of(*word)).collect();
                let chosen = chosen.ok_or_else(damaged)?;
                let of = OrderSource { shard, tenant_id: &of.tenant_id };
                read_orders(connection, of, &chosen, limits.orders, batch, &mut cache)?
            }
            (ExportSource::Events(of), Batch::Rows(batch)) => {
                copy_rows(connection, of, &ids(), limits.rows, batch)?
            }
            (ExportSource::Clicks(of), Batch::Rows(batch)) => {
                copy_rows(connection, of, &ids(), limits.rows, batch)?
            }
            _ => return Err(damaged()),
        };
        Ok(Some(((batch, cache), taken)))
    };
    Ok(Filled(readers.ask(shard, None, step)?))
}

fn damaged() -> ShardError {
    ShardError::Other("the list of chosen rows is damaged".to_owned())
}
