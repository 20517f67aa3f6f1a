//! `tenants.db`: two tables that a person can read, written by the commands, read by the server.
//!
//! A rollback journal and full syncs: a revocation that was reported done stays done. Changes are a handful a
//! day; nothing here is on a request's way.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::bucket::Rate;
use super::error::TenantsError;
use super::key::{KeyId, NewKey, SecretHash};
use super::scope::Scopes;
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

/// How much a tenant may send; `None`: as much as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub requests_per_s: Option<u64>,
    pub bytes_per_s: Option<u64>,
    /// Seconds' worth of both that can be saved up.
    pub burst_s: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { requests_per_s: None, bytes_per_s: None, burst_s: 1 }
    }
}

impl Limits {
    pub(super) fn rates(&self) -> [Option<Rate>; 2] {
        [self.requests_per_s, self.bytes_per_s].map(|per_s| Some(Rate::new(per_s?, self.burst_s)))
    }
}

/// One tenant as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRow {
    pub tenant_id: String,
    pub created_us: i64,
    pub limits: Limits,
}

/// What a key is to be.
#[derive(Clone, Debug)]
pub struct KeyWish {
    /// `None`: every tenant.
    pub tenant_id: Option<String>,
    pub scopes: Scopes,
    pub label: String,
    pub expires_us: Option<i64>,
}

/// One key as stored. What cannot be read of a row (an edit by hand) is `None`, and the key lets nobody in.
#[derive(Clone, Debug)]
pub struct KeyRow {
    pub key_id: String,
    pub tenant_id: Option<String>,
    pub(super) hash: Option<SecretHash>,
    pub scopes: Option<Scopes>,
    pub label: String,
    pub created_us: i64,
    pub expires_us: Option<i64>,
    pub revoked_us: Option<i64>,
    pub last_used_us: Option<i64>,
}

impl KeyRow {
    /// In one word: `active`, `revoked`, `expired`, `revoking` (at a time that is set) or `unreadable`.
    #[must_use]
    pub fn state(&self, now_us: i64) -> &'static str {
        let is_past = |time: Option<i64>| time.is_some_and(|time| time <= now_us);
        match self {
            key if key.hash.is_none() || key.scopes.is_none() => "unreadable",
            key if is_past(key.revoked_us) => "revoked",
            key if is_past(key.expires_us) => "expired",
            key if key.revoked_us.is_some() => "revoking",
            _ => "active",
        }
    }
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
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Deferred)?;
        let number = |name| transaction.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
        let tables: u32 =
            transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        match (number("application_id")?, number("user_version")?) {
            (APPLICATION_ID, VERSION) => {}
            (APPLICATION_ID, found) => return Err(TenantsError::TooNew { path, found, known: VERSION }),
            (0, 0) if tables == 0 => {
                transaction.execute_batch(SCHEMA)?;
                transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
                transaction.pragma_update(None, "user_version", VERSION)?;
            }
            _ => return Err(TenantsError::Foreign(path)),
        }
        transaction.commit()?;
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
        let rows = statement.query_map([], tenant_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Every key, revoked ones included, oldest first.
    pub fn keys(&self) -> Result<Vec<KeyRow>, TenantsError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT key_id, tenant_id, hash, scopes, label, created_at, expires_at, revoked_at, last_used_at
             FROM api_key ORDER BY created_at, key_id",
        )?;
        let rows = statement.query_map([], key_row)?;
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
                tenant_row,
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

fn stored(number: Option<u64>) -> Option<i64> {
    number.map(|number| i64::try_from(number).unwrap_or(i64::MAX))
}

fn tenant_row(row: &Row<'_>) -> rusqlite::Result<TenantRow> {
    // A limit below zero (an edit by hand) lets as little through as there is: one a second.
    let limit =
        |at| row.get::<_, Option<i64>>(at).map(|limit| limit.map(|limit| limit.max(1).unsigned_abs()));
    Ok(TenantRow {
        tenant_id: row.get(0)?,
        created_us: row.get(1)?,
        limits: Limits { requests_per_s: limit(2)?, bytes_per_s: limit(3)?, burst_s: limit(4)?.unwrap_or(1) },
    })
}

fn key_row(row: &Row<'_>) -> rusqlite::Result<KeyRow> {
    Ok(KeyRow {
        key_id: row.get(0)?,
        tenant_id: row.get(1)?,
        hash: SecretHash::from_stored(&row.get::<_, Vec<u8>>(2)?),
        scopes: row.get::<_, String>(3)?.parse().ok(),
        label: row.get(4)?,
        created_us: row.get(5)?,
        expires_us: row.get(6)?,
        revoked_us: row.get(7)?,
        last_used_us: row.get(8)?,
    })
}
