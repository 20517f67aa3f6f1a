//! The rows of `tenants.db`: tenants with their limits, keys with what they may do.

use rusqlite::Row;

use super::budget::Rate;
use super::key::SecretHash;
use super::scope::Scopes;

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
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<KeyRow> {
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

impl TenantRow {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<TenantRow> {
        // A limit below zero (an edit by hand) lets as little through as there is: one a second.
        let limit =
            |at| row.get::<_, Option<i64>>(at).map(|limit| limit.map(|limit| limit.max(1).unsigned_abs()));
        Ok(TenantRow {
            tenant_id: row.get(0)?,
            created_us: row.get(1)?,
            limits: Limits {
                requests_per_s: limit(2)?,
                bytes_per_s: limit(3)?,
                burst_s: limit(4)?.unwrap_or(1),
            },
        })
    }
}
