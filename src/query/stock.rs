//! What is asked of the one shard that has a product: its stock, and what was decided of a request.

use super::QueryError;
use super::readers::{Readers, received};
use crate::base::ids::ShardId;
use crate::stock::{StockDecision, StockLevel};

/// What the shard's writer decided of a request, by the product's place in it.
///
/// # Errors
/// Where the shard cannot be read.
pub async fn stock_decisions(
    readers: &Readers,
    shard: ShardId,
    request: i64,
) -> Result<Vec<(u32, StockDecision)>, QueryError> {
    let step = move |connection: &rusqlite::Connection| crate::stock::stock_decisions(connection, request);
    received(readers.ask(shard, Vec::new(), step)?.recv().await)
}

/// The stock of a product; `None` where nothing ever happened to it.
///
/// # Errors
/// Where the shard cannot be read.
pub async fn stock_level(
    readers: &Readers,
    shard: ShardId,
    tenant_id: &str,
    product_id: &str,
) -> Result<Option<StockLevel>, QueryError> {
    let (tenant_id, product_id) = (tenant_id.to_owned(), product_id.to_owned());
    let step = move |connection: &rusqlite::Connection| {
        crate::stock::stock_level(connection, &tenant_id, &product_id)
    };
    received(readers.ask(shard, None, step)?.recv().await)
}
