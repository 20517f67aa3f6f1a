//! What of the commerce backend is asked of single shards or of all: finished ingests, versions.

use super::QueryError;
use super::readers::{Readers, received};
use crate::base::ids::ShardId;
use crate::shard::{self, FinishedIngest};

/// What was answered to an idempotency key, if it was and is kept.
pub async fn finished_ingest(
    readers: &Readers,
    shard: ShardId,
    scope: &str,
    key: &str,
) -> Result<Option<FinishedIngest>, QueryError> {
    let (scope, key) = (scope.to_owned(), key.to_owned());
    let step = move |connection: &rusqlite::Connection| shard::find_ingest(connection, &scope, &key);
    received(readers.ask(shard, None, step)?.recv().await)
}
