//! The feed of changes: what became known in a shard and is no new row, in one order. Streams and sinks follow it by
//! number.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::ShardError;

/// The subject of a change. The names are stored and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChangeKind {
    /// The stored status of an order has changed. `ref` is the order's row id, and `value` the code of the new status.
    Status,
    /// A price is out of line. `ref` is `price_anomaly.id`.
    Anomaly,
    /// An anomaly was decided on. `ref` is `price_anomaly.id`.
    Review,
    /// The erasure of a person's rows has begun. `ref` is `erasure.number`.
    Erasure,
    /// An erasure has deleted a service event. `ref` is the event's row id, and `value` is `erasure.number`.
    Erased,
}

impl ChangeKind {
    pub const ALL: [ChangeKind; 5] = [
        ChangeKind::Status,
        ChangeKind::Anomaly,
        ChangeKind::Review,
        ChangeKind::Erasure,
        ChangeKind::Erased,
    ];

    /// Returns the name that is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ChangeKind::Status => "status",
            ChangeKind::Anomaly => "anomaly",
            ChangeKind::Review => "review",
            ChangeKind::Erasure => "erasure",
            ChangeKind::Erased => "erased",
        }
    }

    /// Returns the kind with this stored name.
    #[must_use]
    pub fn parse(name: &str) -> Option<ChangeKind> {
        ChangeKind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// The name of the feed among the streams of [`checkpointed`](super::checkpointed) and of epochs.
pub const CHANGES: &str = "change";

/// Creates the table. The partial indexes of price changes follow in the family that reads them.
pub(super) fn create_table(connection: &Connection) -> Result<(), ShardError> {
    Ok(connection.execute_batch(
        "
CREATE TABLE change (
  -- What became known in this shard and is no new row, in order. The newest row is never deleted, so
  -- numbers only rise.
  seq INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,     -- status, anomaly, review, erasure, erased
  tenant INTEGER,         -- tenant_row.id of an anomaly or review; else NULL
  ref INTEGER NOT NULL,   -- status: the order's row id; anomaly, review: price_anomaly.id;
                          -- erasure: erasure.number; erased: the row id of the deleted service event
  value INTEGER,          -- status: the new one; erased: erasure.number; else NULL
  at_us INTEGER NOT NULL  -- microseconds since 1970 UTC
);
",
    )?)
}

/// Appends a change in the caller's transaction. Returns its number. Takes about half a microsecond.
///
/// # Errors
/// SQLite reports an error.
pub fn append_change(
    connection: &Connection,
    kind: ChangeKind,
    tenant: Option<i64>,
    r#ref: i64,
    value: Option<i64>,
    at_us: i64,
) -> Result<i64, ShardError> {
    let values = params![kind.as_str(), tenant, r#ref, value, at_us];
    Ok(connection.prepare_cached(APPEND_SQL)?.insert(values)?)
}

const APPEND_SQL: &str = "INSERT INTO change (kind, tenant, ref, value, at_us) VALUES (?1, ?2, ?3, ?4, ?5)";

/// Returns the number of the newest change, or 0.
pub(super) fn last_change(connection: &Connection) -> Result<i64, ShardError> {
    let last: Option<i64> =
        connection.prepare_cached(LAST_SQL)?.query_row([], |row| row.get(0)).optional()?;
    Ok(last.unwrap_or_default())
}

const LAST_SQL: &str = "SELECT seq FROM change ORDER BY seq DESC LIMIT 1";
