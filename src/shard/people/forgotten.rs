//! Those who are kept out: by hashes with the data folder's key, so that the list itself names nobody.

use rusqlite::{Connection, Row, params};

use super::super::carry::Carried;
use super::super::error::ShardError;
use super::record::{ErasureMode, ErasureRecord};
use crate::base::keys::KeyHash;
use crate::base::kinds::Kind;

/// What is done with what comes of a person who was erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::shard) struct Forgotten {
    pub(in crate::shard) mode: ErasureMode,
    /// What stands for them where orders are kept.
    pub(in crate::shard) token: String,
}

/// Whether anybody is kept out.
pub(in crate::shard) fn is_anybody(connection: &Connection) -> Result<bool, ShardError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM forgotten)";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// Whether the events of anybody are.
pub(in crate::shard) fn is_any_event(connection: &Connection) -> Result<bool, ShardError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM erased_event)";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// By the hash of tenant and customer id.
pub(in crate::shard) fn find(connection: &Connection, key: KeyHash) -> Result<Option<Forgotten>, ShardError> {
    let mut statement = connection.prepare_cached("SELECT mode, token FROM forgotten WHERE key = ?1")?;
    let mut rows = statement.query([bytes(key)])?;
    rows.next()?.map(Forgotten::read).transpose()
}

impl Forgotten {
    /// From the columns mode and token.
    fn read(row: &Row<'_>) -> Result<Forgotten, ShardError> {
        let unknown = || ShardError::Corrupt("the list of the forgotten has an unknown mode".to_owned());
        let mode = ErasureMode::parse(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?);
        Ok(Forgotten { mode: mode.ok_or_else(unknown)?, token: row.get(1)? })
    }
}

/// Puts somebody on the list. Erased is more than pseudonymised, and the first token stands.
pub(super) fn add(
    connection: &Connection,
    key: [u8; 16],
    mode: ErasureMode,
    token: &str,
) -> Result<(), ShardError> {
    connection
        .prepare_cached(
            "INSERT INTO forgotten (key, mode, token) VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET \
             mode = min(mode, excluded.mode)",
        )?
        .execute(params![key, mode.as_str(), token])?;
    Ok(())
}

/// An event that was erased is not stored a second time.
pub(super) fn add_event(connection: &Connection, key: [u8; 16]) -> Result<(), ShardError> {
    let sql = "INSERT OR IGNORE INTO erased_event (key) VALUES (?1)";
    connection.prepare_cached(sql)?.execute([key])?;
    Ok(())
}

/// By the hash of tenant and event id.
pub(in crate::shard) fn was_event_erased(connection: &Connection, key: KeyHash) -> Result<bool, ShardError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM erased_event WHERE key = ?1)";
    Ok(connection.prepare_cached(sql)?.query_row([bytes(key)], |row| row.get(0))?)
}

pub(super) fn bytes(key: KeyHash) -> [u8; 16] {
    key.0.to_be_bytes()
}

/// Both lists as records, for carrying them into other shards.
pub(in crate::shard) fn carry<E: From<ShardError>>(
    connection: &Connection,
    take: &mut dyn FnMut(Carried) -> Result<(), E>,
) -> Result<(), E> {
    let encoded = |record: ErasureRecord| -> Result<Carried, ShardError> {
        let mut payload = Vec::new();
        record.encode(&mut payload)?;
        Ok(Carried::Row(Kind::Erasure, payload))
    };
    let mut statement =
        connection.prepare("SELECT mode, token, key FROM forgotten").map_err(ShardError::from)?;
    let mut rows = statement.query([]).map_err(ShardError::from)?;
    while let Some(row) = rows.next().map_err(ShardError::from)? {
        let read = || -> Result<ErasureRecord, ShardError> {
            let Forgotten { mode, token } = Forgotten::read(row)?;
            Ok(ErasureRecord::Forgotten { key: row.get(2)?, mode, token })
        };
        take(encoded(read()?)?)?;
    }
    let mut statement = connection.prepare("SELECT key FROM erased_event").map_err(ShardError::from)?;
    let mut rows = statement.query([]).map_err(ShardError::from)?;
    while let Some(row) = rows.next().map_err(ShardError::from)? {
        let key = row.get(0).map_err(ShardError::from)?;
        take(encoded(ErasureRecord::ErasedEvent { key })?)?;
    }
    Ok(())
}
