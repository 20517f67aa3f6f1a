//! `tenants.db`: a few human-readable tables. Commands write them. The server reads them, and writes only the times
//! of key use.
//!
//! The file has a rollback journal and full syncs, so a reported revocation survives a power cut. There are a few
//! changes a day, and no request waits for one.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::TenantsError;
use super::key::{KeyId, NewKey};
use super::retention::SCHEMA_4;
use super::rows::{KeyRow, KeyWish, Limits, PriceLimits, SecretRow, TenantRow};
use super::webhook::WebhookSecret;
use crate::base::durable;
use crate::base::limits::IDENTIFIER_BYTES_MAX;
use crate::shard;

/// `FHTN`: identifies the file in its header, for `file(1)` and other programs.
const APPLICATION_ID: u32 = 0x4648_544e;
const VERSION: u32 = 4;
/// Maximum number of secrets per tenant. A signature is compared with each of them.
const SECRETS_MAX: usize = 16;

/// SQLite stores the comments within a statement, so `.schema` shows them.
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
  scopes TEXT NOT NULL,         -- write,manage,read,admin
  label TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER,           -- NULL: never
  revoked_at INTEGER,           -- may lie ahead: until then the key holds
  last_used_at INTEGER          -- to the minute
) STRICT, WITHOUT ROWID;
";

/// The additions of version 2.
const SCHEMA_2: &str = "
CREATE TABLE price_limit (
  -- How a tenant's price events are judged and limited. NULL: as the server's settings say.
  tenant_id TEXT PRIMARY KEY REFERENCES tenant (tenant_id),
  change_bp INTEGER,             -- hundredths of a percent
  score_milli INTEGER,           -- thousandths
  window INTEGER,
  events_per_s INTEGER,
  product_events_per_s INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE webhook_secret (
  -- What a tenant's price events are signed with; as long as it has a row here, each must be. The secrets are here as
  -- they are: a signature cannot be checked with a hash of one.
  secret_id TEXT PRIMARY KEY,    -- 16 hexadecimal digits
  tenant_id TEXT NOT NULL REFERENCES tenant (tenant_id),
  secret BLOB NOT NULL,
  label TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  revoked_at INTEGER             -- may lie ahead: until then it holds
) STRICT, WITHOUT ROWID;
";

/// The change of version 3. Before it, `write` included what is now `manage`. Existing keys keep their permissions.
const SCHEMA_3: &str = "
UPDATE api_key SET scopes = scopes || ',manage' WHERE instr(',' || replace(scopes, ' ', '') || ',', ',write,') > 0;
";

/// The open file.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    pub(super) connection: Connection,
}

impl Store {
    /// Returns the path of the file in a data folder.
    #[must_use]
    pub fn path_in(data: &Path) -> PathBuf {
        data.join(shard::TENANTS_FILE)
    }

    /// Opens the file if it exists.
    ///
    /// # Errors
    /// The file is locked or damaged, belongs to another program, or was written by a newer version of this program.
    pub fn open(data: &Path) -> Result<Option<Store>, TenantsError> {
        let path = Store::path_in(data);
        match path.try_exists() {
            Ok(true) => Store::open_at(path, false).map(Some),
            Ok(false) => Ok(None),
            Err(source) => Err(TenantsError::Io { path, source }),
        }
    }

    /// Opens the file; creates it and its folder if they are missing.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn create(data: &Path) -> Result<Store, TenantsError> {
        let io = |source| TenantsError::Io { path: data.to_owned(), source };
        durable::create_folder(data).map_err(io)?;
        let path = Store::path_in(data);
        shard::make_secret_file(&path).map_err(|source| TenantsError::Io { path: path.clone(), source })?;
        let store = Store::open_at(path, true)?;
        durable::sync_folder(data).map_err(io)?;
        Ok(store)
    }

    fn open_at(path: PathBuf, create: bool) -> Result<Store, TenantsError> {
        let mut connection = shard::open_small(&path, create)
            .map_err(|source| TenantsError::Open { path: path.clone(), source })?;
        if version(&connection, &path)? < VERSION {
            // The version is checked again under the lock, because two commands may create the file at the same time.
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let found = version(&transaction, &path)?;
            let schemas = [(1, SCHEMA), (2, SCHEMA_2), (3, SCHEMA_3), (4, SCHEMA_4)];
            for (_, schema) in schemas.iter().filter(|(number, _)| *number > found) {
                transaction.execute_batch(schema)?;
            }
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
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

    /// Returns a number that differs from the previous call's if another connection has written to the file in
    /// between.
    pub(super) fn data_version(&self) -> Result<i64, TenantsError> {
        Ok(self.connection.pragma_query_value(None, "data_version", |row| row.get(0))?)
    }

    /// Runs several changes in one transaction. If one fails, none is made.
    pub fn together<T>(
        &self,
        changes: impl FnOnce(&Store) -> Result<T, TenantsError>,
    ) -> Result<T, TenantsError> {
        let transaction = self.connection.unchecked_transaction()?;
        let done = changes(self)?;
        transaction.commit()?;
        Ok(done)
    }

    /// Returns every tenant, sorted by name.
    pub fn tenants(&self) -> Result<Vec<TenantRow>, TenantsError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT tenant_id, created_at, requests_per_s, bytes_per_s, burst_s FROM tenant ORDER BY tenant_id",
        )?;
        let rows = statement.query_map([], TenantRow::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Returns every key, including revoked ones, oldest first.
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

    /// Returns one tenant.
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

    /// Returns the limits on a tenant's price events.
    pub fn price_limits(&self, tenant_id: &str) -> Result<PriceLimits, TenantsError> {
        let found = self.connection.query_row(
            "SELECT change_bp, score_milli, window, events_per_s, product_events_per_s FROM price_limit \
             WHERE tenant_id = ?1",
            [tenant_id],
            |row| PriceLimits::read(row, 0),
        );
        Ok(found.optional()?.unwrap_or_default())
    }

    /// Returns the price limits of every tenant that has any.
    pub(super) fn all_price_limits(&self) -> Result<Vec<(String, PriceLimits)>, TenantsError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT tenant_id, change_bp, score_milli, window, events_per_s, product_events_per_s FROM price_limit",
        )?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, PriceLimits::read(row, 1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Changes the limits on a tenant's price events.
    ///
    /// # Errors
    /// [`TenantsError::NoTenant`].
    pub fn set_price_limits(&self, tenant_id: &str, limits: &PriceLimits) -> Result<(), TenantsError> {
        self.tenant(tenant_id)?;
        self.connection.execute(
            "INSERT OR REPLACE INTO price_limit VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                tenant_id,
                limits.change_bp,
                limits.score_milli,
                limits.window,
                stored(limits.events_per_s),
                stored(limits.product_events_per_s)
            ],
        )?;
        Ok(())
    }

    /// Stores a webhook secret. From then on the tenant's price events must be signed. The file becomes readable by its
    /// owner only. Returns the secret's id.
    ///
    /// # Errors
    /// [`TenantsError::NoTenant`], [`TenantsError::Random`], [`TenantsError::TooManySecrets`].
    pub fn add_secret(
        &self,
        tenant_id: &str,
        secret: &WebhookSecret,
        label: &str,
        now_us: i64,
    ) -> Result<String, TenantsError> {
        use std::os::unix::fs::PermissionsExt as _;
        self.tenant(tenant_id)?;
        let count: i64 = self.connection.query_row(
            "SELECT count(*) FROM webhook_secret WHERE tenant_id = ?1 AND ifnull(revoked_at, ?2) >= ?2",
            params![tenant_id, now_us],
            |row| row.get(0),
        )?;
        if count as usize >= SECRETS_MAX {
            return Err(TenantsError::TooManySecrets(SECRETS_MAX));
        }
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&self.path, private)
            .map_err(|source| TenantsError::Io { path: self.path.clone(), source })?;
        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(TenantsError::Random)?;
        let id = format!("{:016x}", u64::from_be_bytes(id));
        self.connection.execute(
            "INSERT INTO webhook_secret (secret_id, tenant_id, secret, label, created_at) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
            params![id, tenant_id, secret.bytes(), label, now_us],
        )?;
        Ok(id)
    }

    /// Returns every secret that was not cleared, oldest first, with its bytes.
    pub(super) fn secrets_with_bytes(&self) -> Result<Vec<(SecretRow, Vec<u8>)>, TenantsError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT secret_id, tenant_id, label, created_at, revoked_at, secret FROM webhook_secret \
             ORDER BY created_at, secret_id",
        )?;
        let rows = statement.query_map([], |row| {
            let of = SecretRow {
                secret_id: row.get(0)?,
                tenant_id: row.get(1)?,
                label: row.get(2)?,
                created_us: row.get(3)?,
                revoked_us: row.get(4)?,
            };
            Ok((of, row.get(5)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Returns the webhook secrets, without their bytes, oldest first.
    pub fn secrets(&self) -> Result<Vec<SecretRow>, TenantsError> {
        Ok(self.secrets_with_bytes()?.into_iter().map(|(row, _)| row).collect())
    }

    /// Sets when a secret expires. A secret that has already expired does not change. Returns the time that applies.
    /// If a tenant's last secret has expired, the tenant's price events are refused until it has another secret, or
    /// until its secrets are cleared.
    ///
    /// # Errors
    /// [`TenantsError::NoSecret`].
    pub fn revoke_secret(&self, secret_id: &str, at_us: i64, now_us: i64) -> Result<i64, TenantsError> {
        self.connection.execute(
            "UPDATE webhook_secret SET revoked_at = ?2 \
             WHERE secret_id = ?1 AND (revoked_at IS NULL OR revoked_at > ?3)",
            params![secret_id, at_us, now_us],
        )?;
        let stands = self
            .connection
            .query_row("SELECT revoked_at FROM webhook_secret WHERE secret_id = ?1", [secret_id], |row| {
                row.get(0)
            })
            .optional()?;
        stands.ok_or_else(|| TenantsError::NoSecret(secret_id.to_owned()))
    }

    /// Deletes a tenant's secrets, so that its price events need no signature. Returns the number of deleted secrets.
    ///
    /// # Errors
    /// [`TenantsError::NoTenant`].
    pub fn clear_secrets(&self, tenant_id: &str) -> Result<usize, TenantsError> {
        self.tenant(tenant_id)?;
        Ok(self.connection.execute("DELETE FROM webhook_secret WHERE tenant_id = ?1", [tenant_id])?)
    }

    /// Creates a key and stores its hash.
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

    /// Sets when a key expires. A key that has already expired does not change. Returns the time that applies.
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

    /// Records when keys were last used. It never moves a time back.
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

    /// Copies the current file to another data folder.
    pub fn copy_to(&self, data: &Path) -> Result<(), TenantsError> {
        let dest = Store::path_in(data);
        shard::make_secret_file(&dest).map_err(|source| TenantsError::Io { path: dest.clone(), source })?;
        self.connection.execute("VACUUM INTO ?1", [dest.to_string_lossy()])?;
        // SQLite does not sync the copy.
        let synced = std::fs::File::open(&dest).and_then(|copy| copy.sync_all());
        synced
            .and_then(|()| durable::sync_folder(data))
            .map_err(|source| TenantsError::Io { path: dest.clone(), source })
    }
}

/// Returns the schema version of the file, or 0 if it is empty.
fn version(connection: &Connection, path: &Path) -> Result<u32, TenantsError> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
    let tables: u32 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (number("application_id")?, number("user_version")?) {
        (APPLICATION_ID, found @ 1..=VERSION) => Ok(found),
        (APPLICATION_ID, found) => Err(TenantsError::TooNew { path: path.to_owned(), found, known: VERSION }),
        (0, 0) if tables == 0 => Ok(0),
        _ => Err(TenantsError::Foreign(path.to_owned())),
    }
}

fn stored(number: Option<u64>) -> Option<i64> {
    number.map(|number| i64::try_from(number).unwrap_or(i64::MAX))
}
