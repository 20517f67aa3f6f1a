//! Settings: flag > `FIREHOSE_*` > `firehose.toml` > default, read as text, checked together, frozen.
//!
//! In: the command line's [`Raw`], the environment, one TOML file. Out: a [`Config`] that never changes, and the
//! source of each value. Owns: the one table of settings. Never: hides a default elsewhere, ignores an unknown name,
//! or reports only one error at a time.

mod check;
mod error;
mod layers;
mod networks;
mod raw;
mod settings;
mod show;
mod suggest;
mod values;
mod web;

pub use error::ConfigError;
pub use layers::{Flags, Loaded};
pub use networks::{Network, client_address};
pub use raw::{Raw, Setting, Source};
pub use settings::{Config, SETTINGS, Spec};
pub(crate) use suggest::near;
pub use values::{
    AckLevel, CoreList, DataMode, HoldPolicy, LogFormat, LogLevel, RuntimeChoice, SumsPolicy, TargetUrl,
    decimal, decimal_text, duration, duration_text,
};
pub use web::{HostName, WebOrigin, is_safe_host, is_same_authority};

/// Reads every layer for a binary's `main`: the flags given, the process environment and the file that `--config`,
/// `FIREHOSE_CONFIG` or `./firehose.toml` names.
///
/// # Errors
/// Every invalid setting at once. The operator must correct all of them.
pub fn load(flags: &Flags) -> Result<Loaded, Vec<ConfigError>> {
    layers::load(flags, std::env::vars_os())
}

/// Returns the password for PostgreSQL in the process environment, under the name that its own programs use.
#[must_use]
pub fn postgres_password() -> Option<String> {
    std::env::var_os("PGPASSWORD")?.into_string().ok().filter(|password| !password.is_empty())
}
