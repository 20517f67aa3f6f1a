//! Access and quotas: tenants, keys, scopes, limits.
//!
//! ```text
//! DATA/tenants.db ──Keeper (once a second)──► Roster, immutable ──ArcSwap──► Desk, one per lane
//!   written by `firehose tenant`, `firehose key`                             authorize ─► Principal
//!                                                                            charge    ─► leased tokens
//! ```
//! In: a [`crate::http::Credential`] and what the endpoint [`Need`]s. Out: a [`Principal`], or the reason for the
//! refusal ([`Denied`]). Owns: `tenants.db`, the form of a key, every tenant's budget. Never: takes a lock or makes a
//! system call while a request is checked; stores the secret of a key; logs a secret.
//!
//! With no key in the file everything is allowed, at the cost of one branch. A process that has once seen keys never
//! becomes open again, no matter what happens to the file.
//!
//! All lanes share a tenant's [`Budget`] (GCRA in one atomic word). They take slices of it in advance and return what
//! they do not use. A limit therefore holds at any number of cores, and the shared cache line is rarely touched.

mod addresses;
mod buckets;
mod budget;
mod desk;
mod error;
mod keeper;
mod key;
mod lease;
mod retention;
mod roster;
mod rows;
mod scope;
mod store;
#[cfg(test)]
mod tests;
mod webhook;

pub use budget::{Budget, Level, Rate, Shortage};
pub use desk::{Desk, Now, Payer};
pub use error::{Denied, Limited, Quota, Standing, TenantsError};
pub use keeper::{Keeper, Registry};
pub use key::{KeyId, NewKey};
pub use lease::Lease;
pub use retention::Retention;
pub use roster::{HeldSecret, Need, Principal};
pub use rows::{KeyRow, KeyWish, Limits, PriceLimits, SecretRow, TenantRow};
pub use scope::{Scope, Scopes};
pub use store::Store;
pub use webhook::{SignatureFault, Signed, WebhookSecret, verify};
