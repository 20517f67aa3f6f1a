//! How far the rows of tenants have left: for each tenant and stream, the row id up to which none of its rows is left.
//!
//! Rows leave in the order of their ids, so one number describes the progress, also within a partition. It is written
//! in the transaction that deletes the rows. Readers that selected rows earlier compare it with the ids of their rows.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::ShardError;
use super::stream::{STREAMS_MAX, Stream};

/// The schema version that added the table.
const SINCE: u32 = 8;

/// Creates the table.
pub(super) fn create_table(connection: &Connection) -> Result<(), ShardError> {
    Ok(connection.execute_batch(
        "
CREATE TABLE retention_tenant (
  -- How far the rows of tenants with a retention of their own have left this file.
  kind TEXT NOT NULL,        -- the name of their stream
  tenant_id TEXT NOT NULL,
  upto_id INTEGER NOT NULL,  -- no row of the tenant with this id or a lower one is left
  PRIMARY KEY (kind, tenant_id)
) WITHOUT ROWID;
",
    )?)
}

/// Returns the row id up to which a tenant's rows have left by its own retention, or 0.
pub fn dropped_upto(
    connection: &Connection,
    stream: &'static Stream,
    tenant_id: &str,
) -> Result<i64, ShardError> {
    if connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? < SINCE {
        return Ok(0);
    }
    let mut statement = connection.prepare_cached(UPTO_SQL)?;
    Ok(statement.query_row([stream.name, tenant_id], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// The SQL that finds the progress of one tenant.
pub(super) const UPTO_SQL: &str = "SELECT upto_id FROM retention_tenant WHERE kind = ?1 AND tenant_id = ?2";

/// The progress of all tenants, in memory. It may be ahead of the table by partitions without rows of the tenant.
#[derive(Debug, Default)]
pub(super) struct TenantMarks([HashMap<Box<str>, i64>; STREAMS_MAX]);

impl TenantMarks {
    pub(super) fn load(
        connection: &Connection,
        streams: impl Iterator<Item = &'static Stream>,
    ) -> Result<TenantMarks, ShardError> {
        let mut marks = TenantMarks::default();
        let mut statement =
            connection.prepare("SELECT tenant_id, upto_id FROM retention_tenant WHERE kind = ?1")?;
        for stream in streams {
            let rows = statement.query_map([stream.name], |row| {
                Ok((row.get::<_, String>(0)?.into_boxed_str(), row.get(1)?))
            })?;
            marks.0[stream.place] = rows.collect::<Result<_, _>>()?;
        }
        Ok(marks)
    }

    /// Returns the row id up to which none of the tenant's rows is left, or 0.
    pub(super) fn upto(&self, stream: &'static Stream, tenant_id: &str) -> i64 {
        self.0[stream.place].get(tenant_id).copied().unwrap_or(0)
    }

    pub(super) fn set(&mut self, stream: &'static Stream, tenant_id: &str, upto_id: i64) {
        let marks = &mut self.0[stream.place];
        match marks.get_mut(tenant_id) {
            Some(known) => *known = upto_id.max(*known),
            None => {
                marks.insert(tenant_id.into(), upto_id);
            }
        }
    }

    /// Writes a tenant's progress, in the transaction that deletes its rows.
    pub(super) fn save(
        transaction: &Connection,
        stream: &'static Stream,
        tenant_id: &str,
        upto_id: i64,
    ) -> Result<(), ShardError> {
        let sql = "INSERT INTO retention_tenant (kind, tenant_id, upto_id) VALUES (?1, ?2, ?3) \
                   ON CONFLICT (kind, tenant_id) DO UPDATE SET upto_id = max(upto_id, excluded.upto_id)";
        transaction.prepare_cached(sql)?.execute(params![stream.name, tenant_id, upto_id])?;
        Ok(())
    }
}
