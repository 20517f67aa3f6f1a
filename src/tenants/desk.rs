//! One lane's access to keys and budgets: the newest roster, and the lane's own leases.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use super::addresses::Addresses;
use super::buckets::Buckets;
use super::budget::Rate;
use super::error::{Denied, Limited, Quota, Standing};
use super::keeper::Registry;
use super::lease::Lease;
use super::roster::{HeldSecret, Need, Principal, Roster, TenantIndex};
use super::rows::PriceLimits;
use super::scope::Scope;
use crate::http::Credential;

/// The time of a request on both clocks, as read by its lane.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub unix_us: i64,
    pub monotonic_us: u64,
}

/// The tenant whose budget a request is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payer(TenantIndex);

/// Checks one lane's requests. Lanes do not share it. It takes no lock, never waits and makes no system call. It
/// allocates memory only when a tenant appears for the first time.
#[derive(Debug)]
pub struct Desk {
    roster: Cache<Arc<ArcSwap<Roster>>, Arc<Roster>>,
    lanes: u64,
    /// The leases of requests and of bytes, by tenant.
    leases: Vec<[Lease; 2]>,
    buckets: Arc<Buckets>,
    addresses: Option<Arc<Addresses>>,
    /// The roster at the last call of [`Desk::has_changed`].
    seen: Arc<Roster>,
}

impl Desk {
    #[must_use]
    pub fn new(registry: &Registry) -> Desk {
        Desk {
            roster: Cache::new(registry.roster.clone()),
            lanes: registry.lanes,
            leases: Vec::new(),
            buckets: registry.buckets.clone(),
            addresses: registry.addresses.clone(),
            seen: registry.roster.load_full(),
        }
    }

    /// Returns `true` if every request has full access, because there never was a key.
    #[inline]
    pub fn is_open(&mut self) -> bool {
        self.roster.load().is_open
    }

    /// Returns `true` if keys or tenants have changed since the last call.
    pub fn has_changed(&mut self) -> bool {
        let now = self.roster.load();
        let has_changed = !Arc::ptr_eq(now, &self.seen);
        if has_changed {
            self.seen = now.clone();
        }
        has_changed
    }

    /// Returns the limits on this tenant's price events.
    pub fn prices_of(&mut self, tenant: &str) -> PriceLimits {
        self.roster.load().prices_of(tenant)
    }

    /// Returns a tenant's secrets, one of which must sign each of its price events. The slice is empty if the events
    /// need no signature.
    pub fn secrets_of(&mut self, tenant: &str) -> Arc<[HeldSecret]> {
        self.roster.load().secrets_of(tenant)
    }

    /// Charges one price event to its tenant and its product, each named by a unique hash. All cores share the
    /// buckets. Takes about 60 ns.
    ///
    /// # Errors
    /// [`Denied::Limited`] (status 429). Nothing was charged.
    pub fn charge_price_event(
        &self,
        [tenant, product]: [u64; 2],
        [tenant_per_s, product_per_s]: [u64; 2],
        now: Now,
    ) -> Result<(), Denied> {
        let now_ns = now.monotonic_us.saturating_mul(1_000);
        let take = |key, per_s, quota| {
            let rate = Rate::new(per_s, 1);
            self.buckets.take(key, &rate, now_ns).map_err(|shortage| {
                Denied::Limited(Limited {
                    quota,
                    capacity: rate.capacity(),
                    window_s: rate.window_s(),
                    available: shortage.available,
                    wait_ns: shortage.wait_ns,
                })
            })
        };
        take(tenant, tenant_per_s, Quota::PriceEvents)?;
        take(product, product_per_s, Quota::ProductEvents)
            .inspect_err(|_| self.buckets.give_back(tenant, &Rate::new(tenant_per_s, 1)))
    }

    /// Charges one post of events to its client's address, if there is a limit. All cores share the buckets.
    ///
    /// # Errors
    /// [`Denied::Limited`] (status 429). Nothing was charged.
    #[inline]
    pub fn charge_address(&self, address: IpAddr, now: Now) -> Result<(), Denied> {
        match &self.addresses {
            None => Ok(()),
            Some(addresses) => addresses.charge(address, now.monotonic_us.saturating_mul(1_000)),
        }
    }

    /// Returns a request's principal if the request has access. Takes 5 ns (one branch) if there are no keys, and
    /// otherwise 170 ns, most of it for one hash.
    ///
    /// # Errors
    /// [`Denied`] (status 401 or 403).
    #[inline]
    pub fn authorize(
        &mut self,
        credential: Credential<'_>,
        need: Need,
        now: Now,
    ) -> Result<Principal, Denied> {
        if need == Need::Nothing {
            return Ok(Principal::ANYONE);
        }
        self.roster.load().authorize(credential, need, now.unix_us)
    }

    /// Checks that a principal has this scope for a tenant that the request names (in its path, query or body). Takes
    /// a few nanoseconds.
    ///
    /// # Errors
    /// [`Denied::Scope`] or [`Denied::Tenant`] (status 403).
    #[inline]
    pub fn authorize_tenant(
        &mut self,
        principal: &Principal,
        tenant: &str,
        scope: Scope,
    ) -> Result<(), Denied> {
        self.roster.load().authorize_tenant(principal, tenant, scope)
    }

    /// Checks that a principal that was admitted earlier still has access to the same tenant. Used for long
    /// responses.
    ///
    /// # Errors
    /// The [`Denied`] that a new request would get now.
    pub fn authorize_again(
        &mut self,
        principal: &Principal,
        tenant: &str,
        scope: Scope,
        now: Now,
    ) -> Result<(), Denied> {
        let roster = self.roster.load();
        let principal = roster.admit_again(principal, now.unix_us)?;
        roster.authorize_tenant(&principal, tenant, scope)
    }

    /// Charges the tenant that the key is bound to, if there is one. Takes 11 ns if a lease suffices, and 17 ns if
    /// the budget is exhausted.
    ///
    /// # Errors
    /// [`Denied::Limited`] (status 429). Nothing was charged.
    #[inline]
    pub fn charge(
        &mut self,
        principal: &Principal,
        requests: u64,
        bytes: u64,
        now: Now,
    ) -> Result<(), Denied> {
        match principal.tenant {
            None => Ok(()),
            Some(tenant) => self.charge_index(tenant, [requests, bytes], now),
        }
    }

    /// Returns the tenant that a key is bound to.
    pub fn tenant_of(&mut self, principal: &Principal) -> Option<Arc<str>> {
        let tenant = principal.tenant?;
        self.roster.load().tenants.get(tenant.0 as usize).map(|known| known.name.clone())
    }

    /// Returns the maximum number of bytes that can be charged to a key's tenant at once: an eighth of its burst.
    pub fn bytes_at_once(&mut self, principal: &Principal) -> u64 {
        let tenant = principal.tenant.and_then(|tenant| self.roster.load().tenants.get(tenant.0 as usize));
        let rate = tenant.and_then(|tenant| tenant.rates[1].as_ref());
        rate.map_or(u64::MAX, |rate| (rate.capacity() / 8).max(1))
    }

    /// Charges the tenant in a request's path if the request's key is not bound to a tenant, or if there are no keys.
    /// If the key is bound, its tenant has already been charged.
    ///
    /// # Errors
    /// [`Denied::Limited`] (status 429). Nothing was charged.
    pub fn charge_tenant(
        &mut self,
        principal: &Principal,
        tenant: &str,
        bytes: u64,
        now: Now,
    ) -> Result<(), Denied> {
        if principal.is_bound() {
            return Ok(());
        }
        match self.roster.load().by_name.get(tenant).copied() {
            None => Ok(()),
            Some(index) => self.charge_index(index, [1, bytes], now),
        }
    }

    /// Returns a request's payer: the tenant that the key is bound to, or else the tenant that the request names.
    pub fn payer(&mut self, principal: &Principal, tenant: Option<&str>) -> Option<Payer> {
        let named = || self.roster.load().by_name.get(tenant?).copied();
        principal.tenant.or_else(named).map(Payer)
    }

    /// Returns the fill levels of a payer's request and byte quotas. Tokens that other lanes have leased count as
    /// used.
    pub fn standing(&mut self, payer: Payer, now: Now) -> [Option<Standing>; 2] {
        let at = payer.0.0 as usize;
        let Some(tenant) = self.roster.load().tenants.get(at) else { return [None; 2] };
        let leases = self.leases.get(at).copied().unwrap_or_default();
        let now_ns = now.monotonic_us.saturating_mul(1_000);
        [(0, Quota::Requests), (1, Quota::Bytes)].map(|(kind, quota)| {
            let rate = tenant.rates[kind].as_ref()?;
            let level = tenant.budgets[kind].level(rate, now_ns);
            let available = level.available.saturating_add(leases[kind].left()).min(rate.capacity());
            Some(Standing {
                quota,
                capacity: rate.capacity(),
                window_s: rate.window_s(),
                available,
                full_s: if available == rate.capacity() { 0 } else { level.full_ns.div_ceil(1_000_000_000) },
            })
        })
    }

    fn charge_index(&mut self, index: TenantIndex, tokens: [u64; 2], now: Now) -> Result<(), Denied> {
        let at = index.0 as usize;
        let roster = self.roster.load();
        let Some(tenant) = roster.tenants.get(at) else { return Ok(()) };
        if self.leases.len() <= at {
            self.leases.resize(roster.tenants.len(), [Lease::default(); 2]);
        }
        let now_ns = now.monotonic_us.saturating_mul(1_000);
        let leases = &mut self.leases[at];
        for (kind, quota) in [Quota::Requests, Quota::Bytes].into_iter().enumerate() {
            let Some(rate) = &tenant.rates[kind] else { continue };
            let budget = &tenant.budgets[kind];
            if let Err(shortage) = leases[kind].take(budget, rate, self.lanes, tokens[kind], now_ns) {
                if kind > 0 && tenant.rates[0].is_some() {
                    leases[0].put_back(tokens[0]);
                }
                return Err(Denied::Limited(Limited {
                    quota,
                    capacity: rate.capacity(),
                    window_s: rate.window_s(),
                    available: shortage.available,
                    wait_ns: shortage.wait_ns,
                }));
            }
        }
        Ok(())
    }
}
