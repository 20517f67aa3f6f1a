//! People who are to be forgotten: their rows go, and a list says that they stay away.
//!
//! In: records of the kind [`Kind::Erasure`]. Out: rows that are gone or have no name, pages without a byte that is
//! not used, a report. Owns: the tables `forgotten`, `erased_event` and `erasure`. Never: stops others' rows; every
//! step is a slice of upkeep, and begins again after a crash where it was.
//!
//! ```text
//! suppress ─► erase ─► wait for what the journals held ─► orders ─► customers ─► words ─► events │ clicks ─►
//! rejected records, answers ─► journals begun anew ─► who it was ─► unused bytes of every page ─► WAL cut ─►
//! finished
//! ```
//! `Suppress` comes first and to every shard: from then on nothing new of the person is stored, so what the later
//! steps have passed stays clean.

pub(super) mod forgotten;
mod needles;
mod page;
mod record;
mod report;
mod rows;
mod scrub;
mod work;

pub(super) use self::forgotten::Forgotten;
pub use self::needles::Needles;
pub use self::record::{ErasureMode, ErasureRecord, RemovedOutside, Subject};
pub use self::report::{
    ErasureReport, ErasureState, KnownCustomer, erasure, erasures_under_way, is_erasing, is_pseudonymising,
    known_customer, orders_of_customer,
};
pub(super) use self::rows::without_order_ids;
pub use self::work::ErasureWants;
pub(super) use self::work::Erasures;

use rusqlite::params;

use super::error::ShardError;
use super::orders::Beside;
use super::service_event::Outcome;
use crate::base::kinds::Kind;

/// The tables.
pub(super) fn tables_sql() -> String {
    "
ALTER TABLE partition ADD COLUMN erased INTEGER NOT NULL DEFAULT 0;  -- rows that were, and are not any more
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
"
    .to_owned()
}

/// Stores a record of this kind; `None` where it is none. In the caller's transaction.
pub(super) fn take(
    beside: &mut Beside<'_>,
    _kind: Kind,
    payload: &[u8],
) -> Result<Option<Outcome>, ShardError> {
    let Some(record) = ErasureRecord::decode(payload) else { return Ok(None) };
    let Beside { connection, keys, .. } = beside;
    match record {
        ErasureRecord::Suppress {
            mode,
            subject: Subject::Customer { tenant_id, customer_id, token, .. },
        } => {
            let key = forgotten::bytes(keys.hash(&tenant_id, &customer_id));
            forgotten::add(connection, key, mode, &token)?;
        }
        // The collector's events have no ids: what comes later is new.
        ErasureRecord::Suppress { subject: Subject::User { .. }, .. } => {}
        ErasureRecord::Forgotten { key, mode, token } => forgotten::add(connection, key, mode, &token)?,
        ErasureRecord::ErasedEvent { key } => forgotten::add_event(connection, key)?,
        ErasureRecord::Erase { id, began_us, mode, subject, names_truncated, removed } => {
            let tenant_id = match &subject {
                Subject::Customer { tenant_id, .. } => Some(tenant_id),
                Subject::User { .. } => None,
            };
            let report = serde_json::to_string(&ErasureReport::default()).unwrap_or_default();
            let (uploads, exports) = (removed.uploads as i64, removed.exports as i64);
            connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO erasure (id, tenant_id, mode, began_us, step, place, at, uploads, exports, \
                     names_truncated, subject, report) VALUES (?1, ?2, ?3, ?4, 'waiting', '', 0, ?5, ?6, ?7, ?8, ?9)",
                )?
                .execute(params![id, tenant_id, mode.as_str(), began_us, uploads, exports, names_truncated, payload, report])?;
        }
    }
    Ok(Some(Outcome::Inserted))
}
