//! `tenants.db`: two tables that a person can read, written by the commands, read by the server.
//!
//! A rollback journal and full syncs: a revocation that was reported done stays done. Changes are a handful a
//! day; nothing here is on a request's way.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::TenantsError;
use super::key::{KeyId, NewKey};
use super::rows::{KeyRow, KeyWish, Limits, TenantRow};
use crate::base::limits::IDENTIFIER_BYTES_MAX;
use crate::shard;

const FILE: &str = "tenants.db";
/// `FHTN`: what `file(1)` and a second program see in the header.
const APPLICATION_ID: u32 = 0x4648_544e;
const VERSION: u32 = 1;

/// SQLite keeps the comments inside a statement, so `.schema` explains itself.
const SCHEMA: &str = "
CREATE TABLE tenant (
  -- Customers of the service that have limits or keys of their own.
  tenant_id TEXT PRIMARY KEY,
  created_at INTEGER NOT NULL,  -- microseconds since 1970 UTC, as every time here
  requests_per_s INTEGER,       -- NULL: no limit
  bytes_per_s INTEGER,          -- NULL: no limit; bytes of request bodies, as sent
  burst_s INTEGER NOT NULL DEFAULT 1  -- how many seconds' worth of both can be saved up
) STRICT, WITHOUT ROWID;
CREATE TABLE api_key (
  -- Keys, never their secrets. A row is not deleted: a file without rows would let everybody in.
  key_id TEXT PRIMARY KEY,      -- 16 hexadecimal digits, the middle of fh_<key_id>_<secret>
  tenant_id TEXT REFERENCES tenant (tenant_id),  -- NULL: every tenant
  hash BLOB NOT NULL,           -- BLAKE3 of the secret
  scopes TEXT NOT NULL,         -- write,read,admin
  label TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER,           -- NULL: never
  revoked_at INTEGER,           -- may lie ahead: until then the key holds
  last_used_at INTEGER          -- to the minute
) STRICT, WITHOUT ROWID;
";

/// The file, open.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    connection: Connection,
}

impl Store {
    /// Where the file of a data folder is.
    #[must_use]
    pub fn path_in(data: &Path) -> PathBuf {
        data.join(FILE)
    }

    /// Opens the file where there is one, without making it.
    ///
    /// # Errors
    /// It is locked, damaged, somebody else's or newer than this program.
    pub fn open(data: &Path) -> Result<Option<Store>, TenantsError> {
        let path = Store::path_in(data);
        match path.try_exists() {
            Ok(true) => Store::open_at(path, false).map(Some),
            Ok(false) => Ok(None),
            Err(source) => Err(TenantsError::Io { path, source }),
        }
    }

    /// Opens the file, making it and the folder where they are missing.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn create(data: &Path) -> Result<Store, TenantsError> {
        std::fs::create_dir_all(data).map_err(|source| TenantsError::Io { path: data.to_owned(), source })?;
        Store::open_at(Store::path_in(data), true)
    }

    fn open_at(path: PathBuf, create: bool) -> Result<Store, TenantsError> {
        let mut connection = shard::open_small(&path, create)
            .map_err(|source| TenantsError::Open { path: path.clone(), source })?;
        if !is_ours(&connection, &path)? {
            // Again under the lock: two commands may make it at once.
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            if !is_ours(&transaction, &path)? {
                transaction.execute_batch(SCHEMA)?;
                transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
                transaction.pragma_update(None, "user_version", VERSION)?;
            }
            transaction.commit()?;
        }
        Ok(Store { path, connection })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[cfg(test)]
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Changes when somebody else has written the file since this connection last looked.
    pub(super) fn data_version(&self) -> Result<i64, TenantsError> {
        Ok(self.connection.pragma_query_value(None, "data_version", |row| row.get(0))?)
    }

    /// Every tenant, by name.
    pub fn tenants(&self) -> Result<Vec<TenantRow>, TenantsError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT tenant_id, created_at, requests_per_s, bytes_per_s, burst_s FROM tenant ORDER BY tenant_id",
        )?;
        let rows = statement.query_map([], TenantRow::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Every key, revoked ones included, oldest first.
    pub fn keys(&self) -> Result<Vec<KeyRow>, TenantsError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT key_id, tenant_id, hash, scopes, label, created_at, expires_at, revoked_at, last_used_at
             FROM api_key ORDER BY created_at, key_id",
        )?;
        let rows = statement.query_map([], KeyRow::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Adds a tenant.
    ///
    /// # Errors
    /// [`TenantsError::Name`], [`TenantsError::TenantExists`].
    pub fn add_tenant(&self, tenant_id: &str, limits: &Limits, now_us: i64) -> Result<(), TenantsError> {
        if !(1..=IDENTIFIER_BYTES_MAX).contains(&tenant_id.len()) || tenant_id.chars().any(char::is_control) {
            return Err(TenantsError::Name);
        }
        let added = self.connection.execute(
            "INSERT INTO tenant VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            params![
                tenant_id,
                now_us,
                stored(limits.requests_per_s),
                stored(limits.bytes_per_s),
                stored(Some(limits.burst_s))
            ],
        )?;
        if added == 0 { Err(TenantsError::TenantExists(tenant_id.to_owned())) } else { Ok(()) }
    }

    /// One tenant.
    ///
    /// # Errors
    /// [`TenantsError::NoTenant`].
    pub fn tenant(&self, tenant_id: &str) -> Result<TenantRow, TenantsError> {
        let found = self
            .connection
            .query_row(
                "SELECT tenant_id, created_at, requests_per_s, bytes_per_s, burst_s FROM tenant WHERE tenant_id = ?1",
                [tenant_id],
                TenantRow::read,
            )
            .optional()?;
        found.ok_or_else(|| TenantsError::NoTenant(tenant_id.to_owned()))
    }

    /// Changes a tenant's limits.
    ///
    /// # Errors
    /// [`TenantsError::NoTenant`].
    pub fn set_limits(&self, tenant_id: &str, limits: &Limits) -> Result<(), TenantsError> {
        let changed = self.connection.execute(
            "UPDATE tenant SET requests_per_s = ?2, bytes_per_s = ?3, burst_s = ?4 WHERE tenant_id = ?1",
            params![
                tenant_id,
                stored(limits.requests_per_s),
                stored(limits.bytes_per_s),
                stored(Some(limits.burst_s))
            ],
        )?;
        if changed == 0 { Err(TenantsError::NoTenant(tenant_id.to_owned())) } else { Ok(()) }
    }

    /// Makes a key and stores its hash.
    ///
    /// # Errors
    /// [`TenantsError::NoTenant`], [`TenantsError::Random`].
    pub fn create_key(&self, wish: &KeyWish, now_us: i64) -> Result<NewKey, TenantsError> {
        if let Some(tenant_id) = &wish.tenant_id {
            self.tenant(tenant_id)?;
        }
        let key = NewKey::make()?;
        self.connection.execute(
            "INSERT INTO api_key (key_id, tenant_id, hash, scopes, label, created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                key.id.to_string(),
                wish.tenant_id,
                key.hash.bytes(),
                wish.scopes.to_string(),
                wish.label,
                now_us,
                wish.expires_us
            ],
        )?;
        Ok(key)
    }

    /// Sets when a key ends; one that has ended by then stays as it is. Gives the time that stands.
    ///
    /// # Errors
    /// [`TenantsError::NoKey`].
    pub fn revoke(&self, key_id: &str, at_us: i64, now_us: i64) -> Result<i64, TenantsError> {
        self.connection.execute(
            "UPDATE api_key SET revoked_at = ?2 WHERE key_id = ?1 AND (revoked_at IS NULL OR revoked_at > ?3)",
            params![key_id, at_us, now_us],
        )?;
        let stands = self
            .connection
            .query_row("SELECT revoked_at FROM api_key WHERE key_id = ?1", [key_id], |row| row.get(0))
            .optional()?;
        stands.ok_or_else(|| TenantsError::NoKey(key_id.to_owned()))
    }

    /// Notes when keys were last used; never moves a time back.
    pub(super) fn note_used(&mut self, used: &[(KeyId, i64)]) -> Result<(), TenantsError> {
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        {
            let mut update = transaction.prepare_cached(
                "UPDATE api_key SET last_used_at = max(?2, ifnull(last_used_at, ?2)) WHERE key_id = ?1",
            )?;
            for (key, used_us) in used {
                update.execute(params![key.to_string(), used_us])?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Copies the file as it is at this moment to another data folder.
    pub fn copy_to(&self, data: &Path) -> Result<(), TenantsError> {
        let dest = Store::path_in(data);
        self.connection.execute("VACUUM INTO ?1", [dest.to_string_lossy()])?;
        Ok(())
    }
}

/// Whether the file has our tables; false where it is empty.
fn is_ours(connection: &Connection, path: &Path) -> Result<bool, TenantsError> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
    let tables: u32 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (number("application_id")?, number("user_version")?) {
        (APPLICATION_ID, VERSION) => Ok(true),
        (APPLICATION_ID, found) => Err(TenantsError::TooNew { path: path.to_owned(), found, known: VERSION }),
        (0, 0) if tables == 0 => Ok(false),
        _ => Err(TenantsError::Foreign(path.to_owned())),
    }
}

fn stored(number: Option<u64>) -> Option<i64> {
    number.map(|number| i64::try_from(number).unwrap_or(i64::MAX))
}
