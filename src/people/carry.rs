//! Converts the lists of suppressed people and events back to records, to carry them into other shards.

use rusqlite::Connection;

use super::record::{ERASURE, ErasureRecord};
use crate::shard::suppressed::Suppression;
use crate::shard::{Carried, ShardError};

/// Passes every suppressed person to `take`, then the erased events.
pub(super) fn carry(
    connection: &Connection,
    take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
) -> Result<(), ShardError> {
    let encoded = |record: ErasureRecord| -> Result<Carried, ShardError> {
        let mut payload = Vec::new();
        record.encode(&mut payload)?;
        Ok(Carried::Row(ERASURE, payload))
    };
    let mut statement = connection.prepare("SELECT mode, token, key FROM forgotten")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let read = || -> Result<ErasureRecord, ShardError> {
            let Suppression { mode, token } = Suppression::read(row)?;
            Ok(ErasureRecord::Suppression { key: row.get(2)?, mode, token })
        };
        take(encoded(read()?)?)?;
    }
    let mut statement = connection.prepare("SELECT key FROM erased_event")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let key = row.get(0)?;
        take(encoded(ErasureRecord::ErasedEvent { key })?)?;
    }
    Ok(())
}
