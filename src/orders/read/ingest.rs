//! Finished ingests by their idempotency keys.

use rusqlite::{Connection, OptionalExtension as _, Row};

use crate::shard::ShardError;

pub(in crate::orders) const INGEST_SQL: &str =
    "SELECT fingerprint, response, expires_us FROM ingest_key WHERE scope = ?1 AND key = ?2";

/// A finished ingest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedIngest {
    pub fingerprint: [u8; 32],
    pub response: String,
    pub expires_us: i64,
}

/// Returns the finished ingest stored for an idempotency key, if any.
pub fn find_ingest(
    connection: &Connection,
    scope: &str,
    key: &str,
) -> Result<Option<FinishedIngest>, ShardError> {
    let read = |row: &Row<'_>| {
        Ok(FinishedIngest { fingerprint: row.get(0)?, response: row.get(1)?, expires_us: row.get(2)? })
    };
    Ok(connection.prepare_cached(INGEST_SQL)?.query_row([scope, key], read).optional()?)
}
