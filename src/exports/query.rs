//! Export reads: the pins of a snapshot, the selection of orders, and their data. Each is a bounded step on a
//! reader's thread.

use crate::base::ids::ShardId;
use crate::orders::{
    BatchBounds, ChosenOrder, NameCache, ORDERS, OrderBatch, OrderFilter, OrderSource, SelectionCursor,
    choose_orders, forget_pages, read_orders,
};
use crate::query::{Answer, QueryError, Readers, received};
use crate::shard;
use crate::shard::read::{TimeRange, pin};

/// A batch that is being filled, and the names cached so far.
pub(super) type Filling = (OrderBatch, NameCache);

/// A running fill step. [`Filled::wait`] waits for its end.
#[derive(Debug)]
pub(super) struct Filled(Answer<Option<(Filling, usize)>>);

impl Filled {
    /// Returns the batch and the number of chosen orders that it received.
    pub(super) async fn wait(self) -> Result<(Filling, usize), QueryError> {
        received(self.0.recv().await)?.ok_or(QueryError::Busy)
    }
}

/// Returns the highest order row id in each shard. Every order committed later has a higher row id.
pub(super) async fn order_pins(readers: &Readers) -> Result<Vec<i64>, QueryError> {
    readers.ask_all(0_i64, |connection| pin(connection, &ORDERS)).await
}

/// Returns `true` if a shard is erasing rows of the tenant. An export could still contain these rows.
pub(super) async fn is_erasing(readers: &Readers, tenant_id: &str) -> Result<bool, QueryError> {
    let tenant_id = tenant_id.to_owned();
    let shards = readers.ask_all(false, move |connection| shard::is_erasing(connection, &tenant_id)).await?;
    Ok(shards.contains(&true))
}

/// Returns `true` if a shard still has orders of the tenant under a name that a pseudonym is replacing.
pub(super) async fn is_pseudonymising(readers: &Readers, tenant_id: &str) -> Result<bool, QueryError> {
    let tenant_id = tenant_id.to_owned();
    let look = move |connection: &rusqlite::Connection| shard::is_pseudonymising(connection, &tenant_id);
    Ok(readers.ask_all(false, look).await?.contains(&true))
}

/// Returns one shard's next orders that match the filter, and where to continue if there are more. `spare` is an
/// empty list whose memory is reused.
pub(super) async fn choose(
    readers: &Readers,
    shard: ShardId,
    (of, range): (&OrderFilter, TimeRange),
    pin: i64,
    choosing: SelectionCursor,
    spare: Vec<ChosenOrder>,
) -> Result<(Vec<ChosenOrder>, Option<SelectionCursor>), QueryError> {
    let of = of.clone();
    let step = move |connection: &rusqlite::Connection| {
        choose_orders(connection, shard, (&of, &range), pin, choosing, spare)
    };
    received(readers.ask(shard, (Vec::new(), None), step)?.recv().await)
}

/// Returns the lowest row id that an order of a shard may have. It increases when retention deletes orders.
pub(super) async fn oldest_order(readers: &Readers, shard: ShardId) -> Result<Option<i64>, QueryError> {
    let step = |connection: &rusqlite::Connection| {
        Ok(shard::partitions_of(connection, &ORDERS)?.first().map(|partition| partition.first_id))
    };
    received(readers.ask(shard, None, step)?.recv().await)
}

/// Releases what a reader caches for a shard. After the whole shard has been read, the cache would only occupy
/// memory.
pub(super) async fn forget(readers: &Readers, shard: ShardId) {
    if let Ok(asked) = readers.ask(shard, (), forget_pages) {
        let _ = asked.recv().await;
    }
}

/// Starts to add one shard's chosen orders to a batch.
pub(super) fn fill(
    readers: &Readers,
    (shard, tenant_id): (ShardId, &str),
    chosen: Vec<ChosenOrder>,
    bounds: BatchBounds,
    filling: Filling,
) -> Result<Filled, QueryError> {
    let tenant_id = tenant_id.to_owned();
    let step = move |connection: &rusqlite::Connection| {
        let (mut batch, mut names) = filling;
        let of = OrderSource { shard, tenant_id: &tenant_id };
        let taken = read_orders(connection, of, &chosen, bounds, &mut batch, &mut names)?;
        Ok(Some(((batch, names), taken)))
    };
    Ok(Filled(readers.ask(shard, None, step)?))
}
