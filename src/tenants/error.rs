//! Errors in the file (for the operator) and in a request (for its sender).

use std::path::PathBuf;

use super::scope::Scope;
use crate::shard::ShardError;

/// The reason why an operation on the file of tenants and keys failed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TenantsError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// The file is locked, damaged, or not created by this program.
    #[error("{}: {source}", path.display())]
    Open { path: PathBuf, source: ShardError },
    #[error("{} was not created by this program; move it away", .0.display())]
    Foreign(PathBuf),
    #[error("{} has schema version {found}, but this program supports versions up to {known}; use a newer \
             program", path.display())]
    TooNew { path: PathBuf, found: u32, known: u32 },
    #[error("tenants.db: {0}")]
    Sql(#[from] rusqlite::Error),
    #[error("the system provides no random bytes: {0}")]
    Random(getrandom::Error),
    #[error("a tenant name must have 1 to 200 bytes of UTF-8 without control characters")]
    Name,
    #[error("tenant {0:?} already exists; change it with `firehose tenant set`")]
    TenantExists(String),
    #[error("there is no tenant {0:?}; add it with `firehose tenant add`")]
    NoTenant(String),
    #[error("there is no key {0:?}; `firehose key list` shows the keys")]
    NoKey(String),
    #[error("there is no webhook secret {0:?}; `firehose tenant secret list` shows the secrets")]
    NoSecret(String),
    #[error("a webhook secret must be whsec_ and base64 of 24 to 64 bytes")]
    BadSecret,
    #[error("the tenant already has {0} webhook secrets; revoke one or clear them")]
    TooManySecrets(usize),
}

/// The reason why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// 401: a key is required and the request has none.
    NoKey,
    /// 401: several different keys, or a malformed one.
    UnusableKey,
    /// 401: an unknown key, or a wrong secret. Both have the same message.
    UnknownKey,
    /// 401: the key has expired. The secret was right, so the response may say so.
    Expired,
    /// 401: the key was revoked. The secret was right, so the response may say so.
    Revoked,
    /// 403: the key lacks this scope.
    Scope(Scope),
    /// 403: the key lacks both scopes.
    EitherScope(Scope, Scope),
    /// 403: the key is bound to a tenant other than the requested one.
    Tenant,
    /// 403: the request concerns all tenants, and the key is bound to one.
    AllTenants,
    /// 429: a quota is exhausted.
    Limited(Limited),
}

impl Denied {
    /// Returns one sentence for the caller. It reveals nothing about other keys or tenants.
    #[must_use]
    pub fn detail(self) -> &'static str {
        match self {
            Denied::NoKey => "a key is required: Authorization: Bearer fh_..., or X-API-Key: fh_...",
            Denied::UnusableKey => "the request has several keys or a malformed key",
            Denied::UnknownKey => "unknown key",
            Denied::Expired => "the key has expired",
            Denied::Revoked => "the key was revoked",
            Denied::Scope(Scope::Write) => "the key lacks the scope write",
            Denied::Scope(Scope::Manage) => "the key lacks the scope manage",
            Denied::Scope(Scope::Read) => "the key lacks the scope read",
            Denied::Scope(Scope::Admin) => "the key lacks the scope admin",
            Denied::EitherScope(..) => "the key has neither the scope manage nor the scope read",
            Denied::Tenant => "the key is bound to another tenant",
            Denied::AllTenants => {
                "the key is bound to one tenant, and this operation needs a key for all \
                                   tenants"
            }
            Denied::Limited(Limited { quota: Quota::Requests, .. }) => {
                "the tenant's quota of requests per second is exhausted"
            }
            Denied::Limited(Limited { quota: Quota::Bytes, .. }) => {
                "the tenant's quota of bytes per second is exhausted"
            }
            Denied::Limited(Limited { quota: Quota::PriceEvents, .. }) => {
                "the tenant's quota of price events per second is exhausted"
            }
            Denied::Limited(Limited { quota: Quota::ProductEvents, .. }) => {
                "the product's quota of price events per second is exhausted"
            }
            Denied::Limited(Limited { quota: Quota::Address, .. }) => {
                "the quota of posted events per second of this address is exhausted"
            }
        }
    }
}

/// A limit's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    Requests,
    /// Bytes of bodies, as sent.
    Bytes,
    /// Price events of a tenant.
    PriceEvents,
    /// Price events of one product.
    ProductEvents,
    /// Posted events of one client address.
    Address,
}

/// A quota's state, in the terms of the `RateLimit` fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub quota: Quota,
    /// Tokens that can accumulate: `q`.
    pub capacity: u64,
    /// The number of seconds in which `capacity` tokens arrive: `w`.
    pub window_s: u64,
    /// Available tokens: `r`.
    pub available: u64,
    /// Seconds until `capacity` tokens are available, if none are used: `t`.
    pub full_s: u64,
}

/// An exhausted quota, in the terms of the `RateLimit` fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    pub quota: Quota,
    /// Tokens that can accumulate: `q`.
    pub capacity: u64,
    /// The number of seconds in which `capacity` tokens arrive: `w`.
    pub window_s: u64,
    /// Available tokens, fewer than the request needs: `r`.
    pub available: u64,
    /// Time until there are enough tokens for this request.
    pub wait_ns: u64,
}

impl Limited {
    /// Returns the number of whole seconds to wait, at least 1: the value of `t` and of `Retry-After`.
    #[must_use]
    pub fn wait_s(&self) -> u64 {
        self.wait_ns.div_ceil(1_000_000_000).max(1)
    }
}
