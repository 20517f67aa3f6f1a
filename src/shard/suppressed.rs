//! The lists of suppressed people and of running erasures. Every family checks them before it stores something about
//! a person. They contain hashes that depend on this data folder's key, and therefore name no one.

use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use super::error::ShardError;
use crate::base::keys::KeyHash;

/// The treatment of a person's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErasureMode {
    /// The data is deleted, including the orders. It applies to every request that names no mode.
    #[default]
    Erase,
    /// Orders and figures remain, under a random name.
    Pseudonymise,
}

impl ErasureMode {
    pub const ALL: [ErasureMode; 2] = [ErasureMode::Erase, ErasureMode::Pseudonymise];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ErasureMode::Erase => "erase",
            ErasureMode::Pseudonymise => "pseudonymise",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<ErasureMode> {
        ErasureMode::ALL.into_iter().find(|mode| mode.as_str() == text)
    }
}

pub(super) fn create_tables(connection: &Connection) -> Result<(), ShardError> {
    connection.execute_batch(
        "
CREATE TABLE forgotten (
  -- Customers who are kept out, by a hash of tenant and id that only this data folder's key makes.
  key BLOB PRIMARY KEY,
  mode TEXT NOT NULL,  -- 'erase': orders that come are not stored; 'pseudonymise': they are the token's
  token TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE erased_event (
  -- Service events that were erased, by a hash of tenant and event id: they do not come back.
  key BLOB PRIMARY KEY
) WITHOUT ROWID;
CREATE TABLE erasure (
  -- What is being erased, and what was. `subject` says who, masked, and only as long as that has to be known.
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  tenant_id TEXT,            -- NULL: a user of the collector
  mode TEXT NOT NULL,
  began_us INTEGER NOT NULL,
  finished_us INTEGER,
  step TEXT NOT NULL,
  place TEXT NOT NULL,       -- the partition that is being worked on
  at INTEGER NOT NULL,       -- the row id in it that was reached
  uploads INTEGER NOT NULL,  -- removed before it began
  exports INTEGER NOT NULL,
  names_truncated INTEGER NOT NULL,  -- not all names and addresses were looked for
  subject BLOB,
  report TEXT NOT NULL       -- JSON: what was touched
);
",
    )?;
    Ok(())
}

/// The treatment of new data of an erased person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    pub mode: ErasureMode,
    /// The pseudonym under which new orders of the person are stored, if the mode keeps orders.
    pub token: String,
}

/// Returns `true` if any person is suppressed.
pub fn any_person(connection: &Connection) -> Result<bool, ShardError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM forgotten)";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// Returns `true` if any event is suppressed.
pub fn any_event(connection: &Connection) -> Result<bool, ShardError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM erased_event)";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// Returns `true` if any person or event is suppressed.
pub(super) fn is_anything(connection: &Connection) -> Result<bool, ShardError> {
    Ok(any_person(connection)? || any_event(connection)?)
}

/// Finds a suppressed person by the hash of tenant and customer id.
pub fn find(connection: &Connection, key: KeyHash) -> Result<Option<Suppression>, ShardError> {
    let mut statement = connection.prepare_cached("SELECT mode, token FROM forgotten WHERE key = ?1")?;
    let mut rows = statement.query([bytes(key)])?;
    rows.next()?.map(Suppression::read).transpose()
}

impl Suppression {
    /// Reads the columns mode and token.
    pub fn read(row: &Row<'_>) -> Result<Suppression, ShardError> {
        let unknown = || ShardError::Corrupt("the list of the forgotten has an unknown mode".to_owned());
        let mode = ErasureMode::parse(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?);
        Ok(Suppression { mode: mode.ok_or_else(unknown)?, token: row.get(1)? })
    }
}

/// Adds a person to the list. Erasure overrides pseudonymisation, and the first token is kept.
pub fn add(connection: &Connection, key: [u8; 16], mode: ErasureMode, token: &str) -> Result<(), ShardError> {
    connection
        .prepare_cached(
            "INSERT INTO forgotten (key, mode, token) VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET \
             mode = min(mode, excluded.mode)",
        )?
        .execute(params![key, mode.as_str(), token])?;
    Ok(())
}

/// Adds an erased event to the list, so that it is not stored a second time.
pub fn add_event(connection: &Connection, key: [u8; 16]) -> Result<(), ShardError> {
    let sql = "INSERT OR IGNORE INTO erased_event (key) VALUES (?1)";
    connection.prepare_cached(sql)?.execute([key])?;
    Ok(())
}

/// Returns `true` if the event with this hash of tenant and event id was erased.
pub fn was_event_erased(connection: &Connection, key: KeyHash) -> Result<bool, ShardError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM erased_event WHERE key = ?1)";
    Ok(connection.prepare_cached(sql)?.query_row([bytes(key)], |row| row.get(0))?)
}

pub fn bytes(key: KeyHash) -> [u8; 16] {
    key.0.to_be_bytes()
}

/// Returns the number of unfinished erasures.
pub fn unfinished_erasures(connection: &Connection) -> Result<u64, ShardError> {
    // A file that has not been migrated yet has no such table.
    let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'erasure'";
    if connection.query_row(sql, [], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(0);
    }
    let sql = "SELECT count(*) FROM erasure WHERE finished_us IS NULL";
    Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
}

/// Returns `true` while a customer of this tenant is being erased. With `*`, any tenant counts. An erasure that only
/// waits for sinks does not count, here and below.
pub fn is_erasing(connection: &Connection, scope: &str) -> Result<bool, ShardError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM erasure WHERE finished_us IS NULL AND local_us IS NULL \
               AND tenant_id IS NOT NULL AND ?1 IN (tenant_id, '*'))";
    Ok(connection.prepare_cached(sql)?.query_row([scope], |row| row.get(0))?)
}

/// Returns `true` while a user's clicks are being erased.
pub fn is_erasing_clicks(connection: &Connection) -> Result<bool, ShardError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM erasure WHERE finished_us IS NULL AND local_us IS NULL \
               AND tenant_id IS NULL)";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// Returns `true` while a customer of this tenant is being pseudonymised.
pub fn is_pseudonymising(connection: &Connection, tenant_id: &str) -> Result<bool, ShardError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM erasure WHERE finished_us IS NULL AND local_us IS NULL \
               AND tenant_id = ?1 AND mode = ?2)";
    let mode = ErasureMode::Pseudonymise.as_str();
    Ok(connection.prepare_cached(sql)?.query_row([tenant_id, mode], |row| row.get(0))?)
}
