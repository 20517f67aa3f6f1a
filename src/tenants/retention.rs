//! How long a tenant's rows are kept, if not as long as the server's settings say.

use std::time::Duration;

use rusqlite::{OptionalExtension as _, Row, params};

use super::error::TenantsError;
use super::store::Store;
use crate::base::limits::{RETENTION_MAX, RETENTION_MIN};
use crate::shard::TenantKeep;

/// The additions of version 4 of the file.
pub(super) const SCHEMA_4: &str = "
CREATE TABLE retention (
  -- How long rows of a tenant are kept, in microseconds after their arrival. NULL: only the settings of the server
  -- apply. Otherwise the shorter of both does.
  tenant_id TEXT PRIMARY KEY REFERENCES tenant (tenant_id),
  events_us INTEGER,
  orders_us INTEGER,
  prices_us INTEGER,
  stock_us INTEGER
) STRICT, WITHOUT ROWID;
";

/// How long a tenant's rows of each kind are kept. `None` means that only the server's setting applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    pub events: Option<Duration>,
    pub orders: Option<Duration>,
    pub prices: Option<Duration>,
    pub stock: Option<Duration>,
}

impl Retention {
    /// Returns each kind with its word, in the order of the settings.
    #[must_use]
    pub fn each(&self) -> [(&'static str, Option<Duration>); 4] {
        [("events", self.events), ("orders", self.orders), ("prices", self.prices), ("stock", self.stock)]
    }

    fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Retention> {
        // Clamps a value that a manual edit may have put out of range.
        let keep = |at: usize| {
            let us = row.get::<_, Option<i64>>(first + at)?;
            let us = us.map(|us| Duration::from_micros(us.max(0).unsigned_abs()));
            Ok::<_, rusqlite::Error>(us.map(|keep| keep.clamp(RETENTION_MIN, RETENTION_MAX)))
        };
        Ok(Retention { events: keep(0)?, orders: keep(1)?, prices: keep(2)?, stock: keep(3)? })
    }
}

const COLUMNS: &str = "events_us, orders_us, prices_us, stock_us";

impl Store {
    /// Returns how long a tenant's rows are kept.
    pub fn retention(&self, tenant_id: &str) -> Result<Retention, TenantsError> {
        let sql = format!("SELECT {COLUMNS} FROM retention WHERE tenant_id = ?1");
        let found = self.connection.query_row(&sql, [tenant_id], |row| Retention::read(row, 0)).optional()?;
        Ok(found.unwrap_or_default())
    }

    /// Changes how long a tenant's rows are kept.
    ///
    /// # Errors
    /// [`TenantsError::NoTenant`].
    pub fn set_retention(&self, tenant_id: &str, retention: &Retention) -> Result<(), TenantsError> {
        self.tenant(tenant_id)?;
        let stored = |keep: Option<Duration>| keep.map(|keep| keep.as_micros() as i64);
        let Retention { events, orders, prices, stock } = *retention;
        self.connection.execute(
            "INSERT OR REPLACE INTO retention VALUES (?1, ?2, ?3, ?4, ?5)",
            params![tenant_id, stored(events), stored(orders), stored(prices), stored(stock)],
        )?;
        Ok(())
    }

    /// Returns the ages of all tenants, in the form that the shards use.
    pub(super) fn all_keeps(&self) -> Result<Vec<TenantKeep>, TenantsError> {
        let sql = format!("SELECT tenant_id, {COLUMNS} FROM retention ORDER BY tenant_id");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([])?;
        let mut keeps = Vec::new();
        while let Some(row) = rows.next()? {
            let tenant_id: String = row.get(0)?;
            for (setting, keep) in Retention::read(row, 1)?.each() {
                let tenant_id = tenant_id.clone().into_boxed_str();
                keeps.extend(keep.map(|keep| TenantKeep { tenant_id, setting, keep }));
            }
        }
        Ok(keeps)
    }
}
