//! Settings as written, with their sources.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Arg, ArgMatches, Command};

use super::check::retention_min;
use super::settings::{SETTINGS, Spec};

/// A value's source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Default,
    File(PathBuf),
    Environment,
    Flag,
}

impl Source {
    /// Returns the setting's name in its source: `--listen`, `FIREHOSE_LISTEN`, `listen in ./firehose.toml`.
    #[must_use]
    pub fn place(&self, name: &str) -> String {
        match self {
            Source::Default => format!("{name} (default)"),
            Source::File(path) => format!("{name} in {}", path.display()),
            Source::Environment => variable(name),
            Source::Flag => format!("--{}", flag(name)),
        }
    }
}

/// A value as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub text: String,
    pub source: Source,
}

/// One layer of settings, or several merged ones. The entries are in the order of [`SETTINGS`]. A setting that is not
/// set is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw(Vec<Option<Setting>>);

impl Default for Raw {
    fn default() -> Raw {
        Raw(vec![None; SETTINGS.len()])
    }
}

impl Raw {
    /// Returns a setting's value. `None` if it is not set or unknown.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.0[index(name)?].as_ref()
    }

    /// Sets a value. Returns `false` for an unknown name.
    pub fn set(&mut self, name: &str, text: &str, source: Source) -> bool {
        let Some(index) = index(name) else { return false };
        self.0[index] = Some(Setting { text: text.to_owned(), source });
        true
    }

    /// Merges this layer over a lower one.
    #[must_use]
    pub fn or(self, lower: Raw) -> Raw {
        Raw(self.0.into_iter().zip(lower.0).map(|(upper, lower)| upper.or(lower)).collect())
    }
}

fn index(name: &str) -> Option<usize> {
    SETTINGS.iter().position(|spec| spec.name == name)
}

pub(super) fn spec(name: &str) -> &'static Spec {
    SETTINGS.iter().find(|spec| spec.name == name).expect("only names of the table are asked for")
}

/// Each setting's flag without its dashes, in the order of [`SETTINGS`].
static FLAGS: LazyLock<Vec<String>> =
    LazyLock::new(|| SETTINGS.iter().map(|spec| spec.name.replace('_', "-")).collect());

fn flag(name: &str) -> &'static str {
    index(name).map_or("", |index| &FLAGS[index])
}

pub(super) fn variable(name: &str) -> String {
    format!("FIREHOSE_{}", name.to_ascii_uppercase())
}

// Written by hand from the table, because a derived struct would repeat every row of it.
impl clap::Args for Raw {
    fn augment_args(command: Command) -> Command {
        SETTINGS.iter().fold(command, |command, spec| {
            let lines: Vec<&str> = spec.help.iter().map(|line| line.trim()).collect();
            let help = |lines: &[&str]| format!("{} [default: {}]", lines.join(" "), spec.default);
            let mut arg = Arg::new(spec.name)
                .long(flag(spec.name))
                .help_heading(spec.heading)
                .value_name(value_name(spec))
                .help(help(&lines[..1]))
                .long_help(match retention_min(spec) {
                    None => help(&lines),
                    Some(min) => help(&[&lines[..], &[&*format!("The minimum is {min}.")]].concat()),
                });
            if spec.allowed == "true or false" {
                // `--insecure` alone means true; `--insecure=false` overrides a file.
                arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true");
            }
            command.arg(arg)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Raw::augment_args(command)
    }
}

impl clap::FromArgMatches for Raw {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Raw, clap::Error> {
        let mut raw = Raw::default();
        raw.update_from_arg_matches(matches)?;
        Ok(raw)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for spec in SETTINGS {
            if let Some(text) = matches.get_one::<String>(spec.name) {
                self.set(spec.name, text, Source::Flag);
            }
        }
        Ok(())
    }
}

/// Returns the placeholder after the flag in `--help`.
fn value_name(spec: &Spec) -> &'static str {
    match spec.name {
        "listen" | "ops_listen" | "ship_metrics" => "ADDRESS",
        "data" | "log_file" | "ship_password_file" => "PATH",
        "ship_name" => "NAME",
        "cores" => "CPUS",
        "ack" | "runtime" | "log_level" | "log_format" | "retention_orders_sums" | "ship_hold_full" => "WORD",
        "insecure" => "BOOL",
        "public_url" | "ship_to" => "URL",
        "allowed_hosts" => "HOSTS",
        "cors_origins" => "ORIGINS",
        "trusted_proxies" => "NETWORKS",
        name if ["_timeout", "_interval", "_delay", "_expiry"].iter().any(|end| name.ends_with(end)) => {
            "DURATION"
        }
        "ship_keep" => "DURATION",
        "data_mode" => "MODE",
        "price_change_percent" | "price_score" => "NUMBER",
        _ if spec.allowed.contains("with us, ms, s, m, h or d") => "DURATION",
        _ if spec.bare || matches!(spec.name, "shards" | "rate_per_address" | "ship_rate_max") => "COUNT",
        _ => "BYTES",
    }
}
