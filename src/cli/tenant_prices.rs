//! `firehose tenant prices` and `firehose tenant secret`: how a tenant's price events are checked, limited and signed.

use std::fmt::Write as _;
use std::io::Read as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::FolderArgs;
use super::key::{When, label, time};
use super::tenant::{Absent, with_store};
use crate::base::clock;
use crate::base::prices::PriceRules;
use crate::config::{decimal, decimal_text};
use crate::tenants::{PriceLimits, SecretRow, Store, TenantsError, WebhookSecret};

/// The limits to set. `None` for those that do not change.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct PriceArgs {
    /// The maximum difference in percent between a price and the accepted price before it. "default" uses the
    /// server's setting, as for the other four.
    #[arg(long, value_name = "PERCENT", value_parser = change)]
    change_percent: Option<Wanted<u32>>,

    /// The maximum modified z-score of a price among the accepted prices.
    #[arg(long, value_name = "SCORE", value_parser = score)]
    score: Option<Wanted<u32>>,

    /// How many accepted prices the score uses. No score is computed from fewer than 5.
    #[arg(long, value_name = "N", value_parser = window)]
    window: Option<Wanted<u16>>,

    /// Price events per second.
    #[arg(long, value_name = "N", value_parser = rate)]
    events_per_second: Option<Wanted<u64>>,

    /// Price events per second for each product.
    #[arg(long, value_name = "N", value_parser = rate)]
    product_events_per_second: Option<Wanted<u64>>,
}

/// A number, or the server's setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted<N>(Option<N>);

fn wanted<N>(text: &str, read: impl Fn(&str) -> Option<N>, expected: &str) -> Result<Wanted<N>, String> {
    match text {
        "default" => Ok(Wanted(None)),
        _ => read(text)
            .map(|number| Wanted(Some(number)))
            .ok_or_else(|| format!("expected {expected}, or \"default\"")),
    }
}

fn change(text: &str) -> Result<Wanted<u32>, String> {
    let read = |text: &str| decimal(text, 2).filter(|bp| (1..=PriceRules::CHANGE_BP_MAX).contains(bp));
    wanted(text, read, "0.01 to 1000000, with up to two digits after the point")
}

fn score(text: &str) -> Result<Wanted<u32>, String> {
    let read =
        |text: &str| decimal(text, 3).filter(|milli| (1..=PriceRules::SCORE_MILLI_MAX).contains(milli));
    wanted(text, read, "0.001 to 1000000, with up to three digits after the point")
}

fn window(text: &str) -> Result<Wanted<u16>, String> {
    let read = |text: &str| text.parse().ok().filter(|window| *window <= PriceRules::WINDOW_MAX);
    wanted(text, read, "0 to 200")
}

fn rate(text: &str) -> Result<Wanted<u64>, String> {
    let read = |text: &str| text.parse().ok().filter(|rate| (1..=1_000_000_000).contains(rate));
    wanted(text, read, "1 to 1000000000")
}

impl PriceArgs {
    fn over(self, before: PriceLimits) -> PriceLimits {
        fn or<N>(wanted: Option<Wanted<N>>, before: Option<N>) -> Option<N> {
            wanted.map_or(before, |wanted| wanted.0)
        }
        PriceLimits {
            change_bp: or(self.change_percent, before.change_bp),
            score_milli: or(self.score, before.score_milli),
            window: or(self.window, before.window),
            events_per_s: or(self.events_per_second, before.events_per_s),
            product_events_per_s: or(self.product_events_per_second, before.product_events_per_s),
        }
    }
}

/// Changes the given limits and prints all of them.
pub(super) fn prices(folder: &FolderArgs, name: &str, args: PriceArgs) -> ExitCode {
    with_store(folder, Absent::Fail, |store| {
        let before = store.price_limits(name)?;
        let limits = args.over(before);
        // This runs even without changes, to check that the tenant exists.
        store.set_price_limits(name, &limits)?;
        Ok(shown(folder, name, &limits))
    })
}

fn shown(folder: &FolderArgs, name: &str, limits: &PriceLimits) -> String {
    let percent = limits.change_bp.map(|bp| decimal_text(bp, 2));
    let score = limits.score_milli.map(|milli| decimal_text(milli, 3));
    if folder.json {
        let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<f64>().ok());
        let told = json!({
            "tenant": name,
            "change_percent": number(&percent),
            "score": number(&score),
            "window": limits.window,
            "events_per_second": limits.events_per_s,
            "product_events_per_second": limits.product_events_per_s,
        });
        return format!("{told}\n");
    }
    let or_default = |text: Option<String>| text.unwrap_or_else(|| "default".to_owned());
    format!(
        "{name}: change percent {}, score {}, window {}, events/s {}, events/s per product {}\n",
        or_default(percent),
        or_default(score),
        or_default(limits.window.map(|window| window.to_string())),
        or_default(limits.events_per_s.map(|rate| rate.to_string())),
        or_default(limits.product_events_per_s.map(|rate| rate.to_string())),
    )
}

#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Creates a webhook secret and prints it once. From then on, all of the tenant's price events must be signed.
    ///
    /// A tenant may have several secrets, so that both sides can rotate them: add the new one, change the
    /// sender, revoke the old one.
    Add {
        #[command(flatten)]
        folder: FolderArgs,

        /// The tenant's name.
        name: String,

        /// Reads the sender's secret (`whsec_…`) from standard input, and prints only its id.
        #[arg(long)]
        stdin: bool,

        /// A note about the purpose of the secret.
        #[arg(long, value_name = "TEXT", default_value = "", value_parser = label)]
        label: String,
    },

    /// Lists the webhook secrets of all tenants, without the secrets.
    List {
        #[command(flatten)]
        folder: FolderArgs,
    },

    /// Revokes a webhook secret: within two seconds, or later. Signatures remain required even after the last secret
    /// is revoked.
    Revoke {
        #[command(flatten)]
        folder: FolderArgs,

        /// The secret's id: 16 hexadecimal digits, as shown by `list`.
        id: String,

        /// How long the secret remains valid (24h), or when it ends.
        #[arg(long = "in", value_name = "DURATION|DATE", value_parser = time)]
        later: Option<When>,
    },

    /// Deletes a tenant's webhook secrets. After that, its price events need no signature.
    Clear {
        #[command(flatten)]
        folder: FolderArgs,

        /// The tenant's name.
        name: String,
    },
}

/// Runs one of the secret commands.
pub(super) fn secret(command: &SecretCommand) -> ExitCode {
    match command {
        SecretCommand::Add { folder, name, stdin, label } => with_store(folder, Absent::Fail, |store| {
            let secret = if *stdin { given()? } else { WebhookSecret::make()? };
            let id = store.add_secret(name, &secret, label, clock::unix_us())?;
            Ok(shown_once(folder, name, &id, (!stdin).then(|| secret.text())))
        }),
        SecretCommand::List { folder } => with_store(folder, Absent::Empty, |store| list(folder, store)),
        SecretCommand::Revoke { folder, id, later } => with_store(folder, Absent::Fail, |store| {
            let now_us = clock::unix_us();
            let at_us = store.revoke_secret(id, later.map_or(now_us, |when| when.0), now_us)?;
            let at = clock::rfc3339(at_us);
            if folder.json {
                return Ok(format!("{}\n", json!({"id": id, "revoked_at": at})));
            }
            let verb = if at_us > now_us { "ends" } else { "ended" };
            Ok(format!(
                "webhook secret {id} {verb} at {at}; a running server applies this within two \
                        seconds\n"
            ))
        }),
        SecretCommand::Clear { folder, name } => with_store(folder, Absent::Fail, |store| {
            let count = store.clear_secrets(name)?;
            if folder.json {
                return Ok(format!("{}\n", json!({"tenant": name, "cleared": count})));
            }
            Ok(format!("{name}: {count} webhook secrets deleted; its price events need no signature\n"))
        }),
    }
}

/// Reads the secret from standard input.
fn given() -> Result<WebhookSecret, TenantsError> {
    let mut text = String::new();
    // This is far longer than a secret.
    let read = std::io::stdin().take(1_024).read_to_string(&mut text);
    read.map_err(|_| TenantsError::BadSecret)?;
    WebhookSecret::parse(&text)
}

fn shown_once(folder: &FolderArgs, name: &str, id: &str, secret: Option<String>) -> String {
    if folder.json {
        return format!("{}\n", json!({"id": id, "tenant": name, "secret": secret}));
    }
    match secret {
        // This text goes to stderr, so that `$(firehose tenant secret add ...)` expands to the secret only.
        Some(secret) => {
            eprintln!("Webhook secret {id} of {name}. It is shown only once.");
            format!("{secret}\n")
        }
        None => format!("{id}\n"),
    }
}

fn state(row: &SecretRow, now_us: i64) -> &'static str {
    match row.revoked_us {
        None => "active",
        Some(at_us) if at_us > now_us => "revoking",
        Some(_) => "revoked",
    }
}

fn list(folder: &FolderArgs, store: &Store) -> Result<String, TenantsError> {
    let (rows, now_us) = (store.secrets()?, clock::unix_us());
    if folder.json {
        let described = rows.iter().map(|row| {
            json!({
                "id": row.secret_id,
                "state": state(row, now_us),
                "tenant": row.tenant_id,
                "label": row.label,
                "created_at": clock::rfc3339(row.created_us),
                "revoked_at": row.revoked_us.map(clock::rfc3339),
            })
        });
        return Ok(format!("{}\n", Value::from(described.collect::<Vec<_>>())));
    }
    let mut text = format!("{:<16}  {:<10} {:<16} {}\n", "secret", "state", "tenant", "label");
    for row in &rows {
        _ = writeln!(
            text,
            "{:<16}  {:<10} {:<16} {}",
            row.secret_id,
            state(row, now_us),
            row.tenant_id,
            row.label
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_changes_and_default_takes_it_back() {
        assert_eq!(change("12.5"), Ok(Wanted(Some(1_250))));
        assert_eq!(score("3.5"), Ok(Wanted(Some(3_500))));
        assert_eq!((window("0"), rate("default")), (Ok(Wanted(Some(0))), Ok(Wanted(None))));
        assert!(change("0").is_err() && change("1000000.01").is_err() && score("x").is_err());
        assert!(window("201").is_err() && rate("0").is_err());
        let before = PriceLimits { change_bp: Some(1), window: Some(9), ..PriceLimits::default() };
        let args = PriceArgs { change_percent: Some(Wanted(None)), ..PriceArgs::default() };
        assert_eq!(args.over(before), PriceLimits { change_bp: None, ..before });
    }
}
