//! `firehose tenant`: adds tenants and sets their limits and their retention, with or without a running server.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::FolderArgs;
use super::tenant_prices::{self, PriceArgs, SecretCommand};
use super::tenant_retention::{self, RetentionArgs};
use crate::base::clock;
use crate::ops::output::{EXIT_FAILED, complain, say};
use crate::tenants::{Limits, Rate, Retention, Store, TenantRow, TenantsError};

#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Adds a tenant, so that it can have keys of its own and limits.
    Add {
        #[command(flatten)]
        folder: FolderArgs,

        /// The tenant_id of its events: 1 to 200 bytes.
        name: String,

        #[command(flatten)]
        limits: LimitArgs,

        #[command(flatten)]
        retention: RetentionArgs,
    },

    /// Changes a tenant's limits and retention. Values that are not given stay the same. A running server applies the
    /// change within two seconds.
    Set {
        #[command(flatten)]
        folder: FolderArgs,

        /// The tenant's name.
        name: String,

        #[command(flatten)]
        limits: LimitArgs,

        #[command(flatten)]
        retention: RetentionArgs,
    },

    /// Changes how a tenant's price events are checked and limited. Values that are not given stay the same.
    Prices {
        #[command(flatten)]
        folder: FolderArgs,

        /// The tenant's name.
        name: String,

        #[command(flatten)]
        prices: PriceArgs,
    },

    /// Manages the webhook secrets that sign a tenant's price events.
    #[command(subcommand)]
    Secret(SecretCommand),

    /// Lists the added tenants, with their limits, their retention and the number of their valid keys.
    List {
        #[command(flatten)]
        folder: FolderArgs,
    },
}

/// The limits to set. `None` for those that do not change.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct LimitArgs {
    /// Requests per second, over all keys and cores, or "off".
    #[arg(long, value_name = "N", value_parser = limit)]
    requests_per_second: Option<Limit>,

    /// Bytes of request bodies per second, as sent, or "off".
    #[arg(long, value_name = "N", value_parser = limit)]
    bytes_per_second: Option<Limit>,

    /// How long unused quota accumulates for a burst, in seconds. Default: 1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=Rate::WINDOW_S_MAX))]
    burst_seconds: Option<u64>,
}

/// A number, or no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit(Option<u64>);

fn limit(text: &str) -> Result<Limit, String> {
    if text == "off" {
        return Ok(Limit(None));
    }
    let number = text.parse().ok().filter(|number| (1..=Rate::PER_S_MAX).contains(number));
    number
        .map(|number| Limit(Some(number)))
        .ok_or_else(|| format!("expected a whole number from 1 to {}, or \"off\"", Rate::PER_S_MAX))
}

impl LimitArgs {
    fn over(self, before: Limits) -> Limits {
        Limits {
            requests_per_s: self.requests_per_second.map_or(before.requests_per_s, |limit| limit.0),
            bytes_per_s: self.bytes_per_second.map_or(before.bytes_per_s, |limit| limit.0),
            burst_s: self.burst_seconds.unwrap_or(before.burst_s),
        }
    }
}

/// Runs one of the tenant commands.
#[must_use]
pub fn tenant(command: &TenantCommand) -> ExitCode {
    match command {
        TenantCommand::Add { folder, name, limits, retention } => with_store(folder, Absent::Make, |store| {
            store.together(|store| {
                store.add_tenant(name, &limits.over(Limits::default()), clock::unix_us())?;
                set_retention(folder, store, name, *retention)
            })?;
            describe(folder, store, name)
        }),
        TenantCommand::Set { folder, name, limits, retention } => with_store(folder, Absent::Fail, |store| {
            store.together(|store| {
                store.set_limits(name, &limits.over(store.tenant(name)?.limits))?;
                set_retention(folder, store, name, *retention)
            })?;
            describe(folder, store, name)
        }),
        TenantCommand::Prices { folder, name, prices } => tenant_prices::prices(folder, name, *prices),
        TenantCommand::Secret(command) => tenant_prices::secret(command),
        TenantCommand::List { folder } => with_store(folder, Absent::Empty, |store| list(folder, store)),
    }
}

/// The behaviour of a command if the folder has no tenants and no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    Make,
    /// Fails with a message.
    Fail,
    /// Lists nothing.
    Empty,
}

/// Opens the folder's file, runs `work` on it, and reports errors.
pub(super) fn with_store(
    folder: &FolderArgs,
    absent: Absent,
    work: impl FnOnce(&Store) -> Result<String, TenantsError>,
) -> ExitCode {
    let loaded = match folder.load() {
        Ok(loaded) => loaded,
        Err(errors) => return complain(&errors),
    };
    let data = &loaded.config.data;
    let store = if absent == Absent::Make { Store::create(data).map(Some) } else { Store::open(data) };
    let said = match store {
        Ok(Some(store)) => work(&store),
        Ok(None) if absent == Absent::Empty => {
            Ok(if folder.json { "[]\n".to_owned() } else { String::new() })
        }
        Ok(None) => {
            eprintln!("firehose: {} has no tenants and no keys yet", data.display());
            return ExitCode::from(EXIT_FAILED);
        }
        Err(error) => Err(error),
    };
    match said {
        Ok(text) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("firehose: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Changes a tenant's retention, and reports on stderr what has no effect under the settings of `folder`.
fn set_retention(
    folder: &FolderArgs,
    store: &Store,
    name: &str,
    args: RetentionArgs,
) -> Result<(), TenantsError> {
    let before = store.retention(name)?;
    let retention = args.over(before);
    if retention == before {
        return Ok(());
    }
    if let Ok(loaded) = folder.load() {
        let lines = tenant_retention::without_effect(&retention, &loaded.config);
        lines.iter().for_each(|line| eprintln!("firehose: {line}"));
    }
    store.set_retention(name, &retention)
}

fn describe(folder: &FolderArgs, store: &Store, name: &str) -> Result<String, TenantsError> {
    let row = store.tenant(name)?;
    if folder.json {
        return Ok(format!("{}\n", described(&row, store)?));
    }
    let Limits { requests_per_s, bytes_per_s, burst_s } = row.limits;
    let (requests, bytes) = (shown(requests_per_s), shown(bytes_per_s));
    let kept = match store.retention(name)? {
        retention if retention == Retention::default() => String::new(),
        retention => format!(", retention {}", tenant_retention::shown(&retention)),
    };
    Ok(format!("{name}: {requests} requests/s, {bytes} bytes/s, bursts of {burst_s} s{kept}\n"))
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

fn described(row: &TenantRow, store: &Store) -> Result<Value, TenantsError> {
    let now_us = clock::unix_us();
    let holds = |state: &str| matches!(state, "active" | "revoking");
    let of_tenant = |tenant: &Option<String>| tenant.as_ref() == Some(&row.tenant_id);
    let keys = store.keys()?;
    let keys = keys.iter().filter(|key| of_tenant(&key.tenant_id) && holds(key.state(now_us))).count();
    let mut told = json!({
        "tenant": row.tenant_id,
        "created_at": clock::rfc3339(row.created_us),
        "requests_per_second": row.limits.requests_per_s,
        "bytes_per_second": row.limits.bytes_per_s,
        "burst_seconds": row.limits.burst_s,
        "keys": keys,
    });
    if let Some(told) = told.as_object_mut() {
        tenant_retention::describe(&store.retention(&row.tenant_id)?, told);
    }
    Ok(told)
}

fn list(folder: &FolderArgs, store: &Store) -> Result<String, TenantsError> {
    let rows = store.tenants()?;
    let described = rows.iter().map(|row| described(row, store)).collect::<Result<Vec<_>, _>>()?;
    if folder.json {
        return Ok(format!("{}\n", Value::from(described)));
    }
    let kept = rows.iter().map(|row| Ok(tenant_retention::shown(&store.retention(&row.tenant_id)?)));
    let kept = kept.collect::<Result<Vec<_>, TenantsError>>()?;
    let width = kept.iter().map(String::len).fold("retention".len(), usize::max);
    let mut text = format!(
        "{:>12} {:>14} {:>7} {:>5}  {:<width$}  {}\n",
        "requests/s", "bytes/s", "burst s", "keys", "retention", "tenant"
    );
    for ((row, described), kept) in rows.iter().zip(&described).zip(&kept) {
        let Limits { requests_per_s, bytes_per_s, burst_s } = row.limits;
        _ = writeln!(
            text,
            "{:>12} {:>14} {:>7} {:>5}  {:<width$}  {}",
            shown(requests_per_s),
            shown(bytes_per_s),
            burst_s,
            described["keys"],
            kept,
            row.tenant_id
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_or_off_and_what_is_not_named_stays() {
        assert_eq!(limit("off"), Ok(Limit(None)));
        assert_eq!(limit("100"), Ok(Limit(Some(100))));
        for text in ["", "0", "-1", "1.5", "none", "1000000000001"] {
            assert!(limit(text).is_err(), "{text:?}");
        }
        let before = Limits { requests_per_s: Some(1), bytes_per_s: Some(2), burst_s: 3 };
        assert_eq!(LimitArgs::default().over(before), before);
        let args = LimitArgs { requests_per_second: Some(Limit(None)), ..LimitArgs::default() };
        assert_eq!(args.over(before), Limits { requests_per_s: None, ..before });
    }
}
