//! An immutable snapshot of all tenants and keys, for look-ups by lanes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crossbeam_utils::CachePadded;

use super::budget::{Budget, Rate};
use super::error::Denied;
use super::key::{KeyId, SecretHash, parse};
use super::rows::{KeyRow, Limits, PriceLimits, SecretRow, TenantRow};
use super::scope::{Scope, Scopes};
use super::webhook::WebhookSecret;
use crate::http::Credential;

/// Minimum number of microseconds between two records of a key's use, so that cores rarely write to the same cache
/// line in turns.
const USED_GRAIN_US: i64 = 1_000_000;

/// A tenant's number, the same in all rosters of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TenantIndex(pub(super) u32);

/// The access that an endpoint requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Open to everyone.
    Nothing,
    /// This scope, for the tenant that the request concerns.
    Scope(Scope),
    /// One of the two scopes, for the tenant of the key.
    Either(Scope, Scope),
    /// This scope, for all tenants.
    AllTenants(Scope),
}

/// The authenticated sender of a request. Small and copied freely; valid within the process only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The key, or `None` if no key was required.
    pub key: Option<KeyId>,
    pub scopes: Scopes,
    /// The key's tenant, or `None` for every tenant.
    pub(super) tenant: Option<TenantIndex>,
}

impl Principal {
    /// The sender of a request that needs no key.
    pub const ANYONE: Principal = Principal { key: None, scopes: Scopes::ALL, tenant: None };

    /// Returns `true` if the key is bound to one tenant.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.tenant.is_some()
    }
}

/// One tenant: its current limits, and its budgets, which survive changes to the file.
#[derive(Clone, Debug)]
pub(super) struct Tenant {
    pub(super) name: Arc<str>,
    /// The rates of requests and of bytes.
    pub(super) rates: [Option<Rate>; 2],
    pub(super) budgets: Arc<[CachePadded<Budget>; 2]>,
    pub(super) prices: PriceLimits,
    /// If this is not empty, price events must be signed, even if every secret has expired.
    pub(super) secrets: Arc<[HeldSecret]>,
}

/// A webhook secret of the running server.
#[derive(Clone, Debug)]
pub struct HeldSecret {
    /// `None` if the stored bytes are not a secret (after a manual edit). In that case, no signature matches.
    pub(super) secret: Option<WebhookSecret>,
    pub(super) revoked_us: i64,
}

/// The last use of a key, in microseconds since 1970; 0 for never. It outlives the rosters.
#[derive(Debug, Default)]
pub(super) struct Used(AtomicI64);

impl Used {
    fn note(&self, now_us: i64) {
        if now_us - self.0.load(Ordering::Relaxed) >= USED_GRAIN_US {
            self.0.store(now_us, Ordering::Relaxed);
        }
    }

    pub(super) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Key {
    hash: SecretHash,
    tenant: Option<TenantIndex>,
    scopes: Scopes,
    expires_us: i64,
    revoked_us: i64,
    pub(super) used: Arc<Used>,
}

impl Key {
    fn admit(&self, id: KeyId, now_us: i64) -> Result<Principal, Denied> {
        if self.revoked_us <= now_us {
            return Err(Denied::Revoked);
        }
        if self.expires_us <= now_us {
            return Err(Denied::Expired);
        }
        self.used.note(now_us);
        Ok(Principal { key: Some(id), scopes: self.scopes, tenant: self.tenant })
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    /// If true, there never was a key, and every request has full access.
    pub(super) is_open: bool,
    pub(super) keys: HashMap<KeyId, Key>,
    /// All tenants, indexed by [`TenantIndex`]. Tenants that were removed from the file remain, without limits.
    pub(super) tenants: Vec<Tenant>,
    pub(super) by_name: HashMap<Arc<str>, TenantIndex>,
}

impl Roster {
    /// Returns the next roster from the content of the file. Budgets and the times of key use carry over.
    pub(super) fn next(&self, tenants: &[TenantRow], keys: &[KeyRow]) -> Roster {
        let mut roster = Roster {
            is_open: self.is_open && keys.is_empty(),
            keys: HashMap::with_capacity(keys.len()),
            tenants: self.tenants.clone(),
            by_name: self.by_name.clone(),
        };
        for tenant in &mut roster.tenants {
            tenant.rates = [None; 2];
            tenant.prices = PriceLimits::default();
            tenant.secrets = Arc::default();
        }
        for row in tenants {
            let index = roster.index(&row.tenant_id);
            roster.tenants[index.0 as usize].rates = row.limits.rates();
        }
        for row in keys {
            let (Ok(id), Some(hash), Some(scopes)) = (row.key_id.parse::<KeyId>(), row.hash, row.scopes)
            else {
                tracing::error!(
                    key = row.key_id,
                    "a key in tenants.db cannot be parsed; requests with it \
                                                   are refused"
                );
                continue;
            };
            let key = Key {
                hash,
                scopes,
                tenant: row.tenant_id.as_deref().map(|name| roster.index(name)),
                expires_us: row.expires_us.unwrap_or(i64::MAX),
                revoked_us: row.revoked_us.unwrap_or(i64::MAX),
                used: self.keys.get(&id).map_or_else(Arc::default, |known| known.used.clone()),
            };
            roster.keys.insert(id, key);
        }
        roster
    }

    /// Returns a tenant's index. Adds the tenant if it is new.
    fn index(&mut self, name: &str) -> TenantIndex {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        let index = TenantIndex(self.tenants.len() as u32);
        let name: Arc<str> = name.into();
        self.by_name.insert(name.clone(), index);
        self.tenants.push(Tenant {
            name,
            rates: Limits::default().rates(),
            budgets: Arc::default(),
            prices: PriceLimits::default(),
            secrets: Arc::default(),
        });
        index
    }

    /// Adds the limits on price events, and the webhook secrets.
    pub(super) fn with_prices(
        mut self,
        limits: Vec<(String, PriceLimits)>,
        secrets: &[(SecretRow, Vec<u8>)],
    ) -> Roster {
        for (tenant_id, limits) in limits {
            let index = self.index(&tenant_id);
            self.tenants[index.0 as usize].prices = limits;
        }
        let mut held: HashMap<&str, Vec<HeldSecret>> = HashMap::new();
        for (row, bytes) in secrets {
            let secret = WebhookSecret::from_stored(bytes);
            if secret.is_none() {
                tracing::error!(
                    secret = row.secret_id,
                    "a webhook secret in tenants.db is invalid; no signature matches it"
                );
            }
            let revoked_us = row.revoked_us.unwrap_or(i64::MAX);
            held.entry(&row.tenant_id).or_default().push(HeldSecret { secret, revoked_us });
        }
        for (tenant_id, held) in held {
            let index = self.index(tenant_id);
            self.tenants[index.0 as usize].secrets = held.into();
        }
        self
    }

    /// Returns the limits on a tenant's price events.
    pub(super) fn prices_of(&self, tenant: &str) -> PriceLimits {
        self.named(tenant).map(|tenant| tenant.prices).unwrap_or_default()
    }

    pub(super) fn secrets_of(&self, tenant: &str) -> Arc<[HeldSecret]> {
        self.named(tenant).map(|tenant| tenant.secrets.clone()).unwrap_or_default()
    }

    fn named(&self, tenant: &str) -> Option<&Tenant> {
        self.tenants.get(self.by_name.get(tenant)?.0 as usize)
    }

    /// Returns `true` if there is a valid key.
    pub(super) fn has_usable_key(&self, now_us: i64) -> bool {
        self.keys.values().any(|key| key.expires_us.min(key.revoked_us) > now_us)
    }

    /// Returns a request's principal if the request has access. Takes 170 ns if it looks up one of a thousand keys,
    /// and 5 ns if no key is needed.
    pub(super) fn authorize(
        &self,
        credential: Credential<'_>,
        need: Need,
        now_us: i64,
    ) -> Result<Principal, Denied> {
        if need == Need::Nothing || self.is_open {
            return Ok(Principal::ANYONE);
        }
        let text = match credential {
            Credential::Key(text) => text,
            Credential::Absent => return Err(Denied::NoKey),
            Credential::Unusable => return Err(Denied::UnusableKey),
        };
        // The secret is hashed before the look-up, so that an unknown id takes as long as a known one.
        let (id, hash) = parse(text).ok_or(Denied::UnknownKey)?;
        let key = self.keys.get(&id).filter(|key| key.hash.is(&hash)).ok_or(Denied::UnknownKey)?;
        let principal = key.admit(id, now_us)?;
        match need {
            Need::Scope(scope) | Need::AllTenants(scope) if !key.scopes.allows(scope) => {
                Err(Denied::Scope(scope))
            }
            Need::Either(one, other) if !key.scopes.allows(one) && !key.scopes.allows(other) => {
                Err(Denied::EitherScope(one, other))
            }
            Need::AllTenants(_) if key.tenant.is_some() => Err(Denied::AllTenants),
            _ => Ok(principal),
        }
    }

    /// Returns the current principal of a sender that was admitted earlier. The sender's key may have expired since,
    /// or the first key may have been created.
    pub(super) fn admit_again(&self, principal: &Principal, now_us: i64) -> Result<Principal, Denied> {
        if self.is_open {
            return Ok(Principal::ANYONE);
        }
        let id = principal.key.ok_or(Denied::NoKey)?;
        self.keys.get(&id).ok_or(Denied::UnknownKey)?.admit(id, now_us)
    }

    /// Checks that a principal has this scope for this tenant.
    pub(super) fn authorize_tenant(
        &self,
        principal: &Principal,
        tenant: &str,
        scope: Scope,
    ) -> Result<(), Denied> {
        if !principal.scopes.allows(scope) {
            return Err(Denied::Scope(scope));
        }
        match principal.tenant.map(|index| self.tenants.get(index.0 as usize)) {
            None => Ok(()),
            Some(Some(bound)) if *bound.name == *tenant => Ok(()),
            Some(_) => Err(Denied::Tenant),
        }
    }
}
