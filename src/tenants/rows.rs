//! The rows of `tenants.db`: tenants with their limits, keys with their scopes.

use rusqlite::Row;

use super::budget::Rate;
use super::key::SecretHash;
use super::scope::Scopes;
use crate::base::prices::PriceRules;

/// A tenant's limits. `None` means unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub requests_per_s: Option<u64>,
    pub bytes_per_s: Option<u64>,
    /// Seconds of unused quota that can accumulate.
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

/// The limits on a tenant's price events. `None` means that the server's settings apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PriceLimits {
    /// Maximum difference from the previous accepted price, in hundredths of a percent.
    pub change_bp: Option<u32>,
    /// Maximum modified z-score, in thousandths.
    pub score_milli: Option<u32>,
    pub window: Option<u16>,
    pub events_per_s: Option<u64>,
    /// Price events per second for each product.
    pub product_events_per_s: Option<u64>,
}

impl PriceLimits {
    pub(super) fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<PriceLimits> {
        // Clamps a value that a manual edit may have put out of range.
        let within = |at: usize, least: i64, most: i64| {
            row.get::<_, Option<i64>>(first + at).map(|number| number.map(|number| number.clamp(least, most)))
        };
        let rate = |at| within(at, 1, i64::MAX).map(|rate| rate.map(i64::unsigned_abs));
        let number = |at, most: u32| within(at, 1, i64::from(most)).map(|number| number.map(|n| n as u32));
        Ok(PriceLimits {
            change_bp: number(0, PriceRules::CHANGE_BP_MAX)?,
            score_milli: number(1, PriceRules::SCORE_MILLI_MAX)?,
            window: within(2, 0, i64::from(PriceRules::WINDOW_MAX))?.map(|window| window as u16),
            events_per_s: rate(3)?,
            product_events_per_s: rate(4)?,
        })
    }

    /// Returns the tenant's rules. A rule that the tenant does not have is taken from the server.
    #[must_use]
    pub fn over(&self, server: PriceRules) -> PriceRules {
        PriceRules {
            change_bp: self.change_bp.unwrap_or(server.change_bp),
            score_milli: self.score_milli.unwrap_or(server.score_milli),
            window: self.window.unwrap_or(server.window),
        }
    }
}

/// One webhook secret as listed, without the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRow {
    pub secret_id: String,
    pub tenant_id: String,
    pub label: String,
    pub created_us: i64,
    /// The time of the revocation. It may be in the future; until then the secret is valid.
    pub revoked_us: Option<i64>,
}

/// The properties of a key that is to be created.
#[derive(Clone, Debug)]
pub struct KeyWish {
    /// `None` for every tenant.
    pub tenant_id: Option<String>,
    pub scopes: Scopes,
    pub label: String,
    pub expires_us: Option<i64>,
}

/// One key as stored. Unreadable parts of a row (after a manual edit) are `None`, and the key permits nothing.
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

    /// Returns one word: `active`, `revoked`, `expired`, `revoking` (the revocation is in the future) or
    /// `unreadable`.
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
        // A number below 1 (after a manual edit) becomes 1.
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
