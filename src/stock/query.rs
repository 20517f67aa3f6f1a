//! Queries to the one shard that has a product: its stock, and the decisions on a request.

use super::read::{self, StockDecision, StockLevel};
use crate::base::ids::ShardId;
use crate::query::{QueryError, Readers, received};

/// Returns the shard writer's decisions on a request, by each product's index in the request.
///
/// # Errors
/// Returns an error if the shard cannot be read.
pub(super) async fn stock_decisions(
    readers: &Readers,
    shard: ShardId,
    request: i64,
) -> Result<Vec<(u32, StockDecision)>, QueryError> {
    let step = move |connection: &rusqlite::Connection| read::stock_decisions(connection, request);
    received(readers.ask(shard, Vec::new(), step)?.recv().await)
}

/// Returns a product's stock, or `None` if the product never had a change.
///
/// # Errors
/// Returns an error if the shard cannot be read.
pub(super) async fn stock_level(
    readers: &Readers,
    shard: ShardId,
    tenant_id: &str,
    product_id: &str,
) -> Result<Option<StockLevel>, QueryError> {
    let (tenant_id, product_id) = (tenant_id.to_owned(), product_id.to_owned());
    let step =
        move |connection: &rusqlite::Connection| read::stock_level(connection, &tenant_id, &product_id);
    received(readers.ask(shard, None, step)?.recv().await)
}
