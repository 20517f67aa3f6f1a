//! Queries of the commerce backend to single shards: finished ingests, one order.

use super::QueryError;
use super::filter::{Filter, step};
use super::readers::{Readers, received};
use crate::base::ids::ShardId;
use crate::orders::FinishedIngest;
use crate::shard::read::Bounds;

/// Returns the response to an idempotency key, if there was one and it is kept.
pub async fn finished_ingest(
    readers: &Readers,
    shard: ShardId,
    scope: &str,
    key: &str,
) -> Result<Option<FinishedIngest>, QueryError> {
    let (scope, key) = (scope.to_owned(), key.to_owned());
    let step = move |connection: &rusqlite::Connection| crate::orders::find_ingest(connection, &scope, &key);
    received(readers.ask(shard, None, step)?.recv().await)
}

/// Returns the order that the filter names as a line of JSON, or `None` if its shard does not have it.
///
/// # Errors
/// Returns an error if the shard cannot be read.
pub async fn order(readers: &Readers, shard: ShardId, filter: Filter) -> Result<Option<Vec<u8>>, QueryError> {
    let bounds = Bounds { rows: 1, bytes: usize::MAX };
    let ask = move |connection: &rusqlite::Connection| {
        let partial = step(connection, shard, &filter, i64::MAX, &filter.start(), bounds, false)?;
        Ok((!partial.rows.is_empty()).then_some(partial.bytes))
    };
    received(readers.ask(shard, None, ask)?.recv().await)
}
