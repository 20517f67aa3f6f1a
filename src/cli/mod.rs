//! The command line: its tree, its help, its exit codes.
//!
//! In: arguments. Out: settings for the layers below, lines on stdout, an exit code. Owns: the text of `--help`.
//! Never: does work that belongs to the server or the shards.

mod backup;
mod doctor;
mod key;
mod reshard;
mod reshard_sinks;
mod serve;
mod shards;
mod ship;
mod sql;
mod suggestions;
mod tenant;
mod tenant_prices;
mod tenant_retention;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{ConfigError, Flags, Loaded, Raw, Source};

pub use crate::gen_dataset::{GenArgs, gen_dataset};
pub use crate::ops::output::{EXIT_CONFIG, EXIT_FAILED, EXIT_OK, EXIT_USAGE};
pub use backup::backup;
pub use doctor::{Finding, Verdict, doctor, examine};
pub use key::{KeyCommand, key};
pub use reshard::reshard;
pub use serve::{config, serve};
pub use shards::{drill_lock, shards, verify};
pub use ship::{ShipArgs, ship};
pub use sql::{SqlArgs, sql};
pub use tenant::{LimitArgs, TenantCommand, tenant};

/// Accepts clickstream events over HTTP on every core, acknowledges each with a durability promise, and
/// stores them in SQLite shards.
#[derive(Debug, Parser)]
#[command(
    name = "firehose",
    version,
    propagate_version = true,
    after_help = "\
Exit codes: 0 success, 1 failure, 2 wrong usage, 78 unusable settings or machine.

Every setting of `serve` can also be in firehose.toml (batch_rows_max = 20000) or in the \
environment (FIREHOSE_BATCH_ROWS_MAX=20000). A flag overrides the environment, which overrides the file."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serves until SIGTERM or SIGINT, then finishes open requests, stores what it can and exits with 0.
    ///
    /// Each setting can also be in firehose.toml, under its name with underscores, or in the environment as
    /// FIREHOSE_NAME. Sizes are 64MiB, 2GB or plain bytes; durations are 20ms, 5s or 2m.
    Serve(Flags),

    /// Prints the effective settings as a firehose.toml, each with its source.
    ///
    /// Accepts the flags of `serve`, so that a command line can be tested before it is used.
    Config(Flags),

    /// Lists the shards of a data folder: path, rows, bytes, journal backlog, position.
    ///
    /// Read-only. It works while a server runs on the folder. Prices and stock events have no counters and are counted
    /// one by one. A shard in which that takes more than a second shows "many" (null in JSON).
    Shards(FolderArgs),

    /// Checks every shard (SQLite's integrity check and a recount) and the checksum of every journal record.
    ///
    /// Exits with 1 if something is damaged or, with the verdict "not checked" and its reason, could not be checked.
    /// Read-only; if there is no space next to a shard, what it sorts is in SQLITE_TMPDIR or TMPDIR. It takes minutes
    /// per gigabyte on a slow disk.
    Verify {
        #[command(flatten)]
        folder: FolderArgs,

        /// Also recounts buckets and sums from the rows, compares the words of customers, and looks for ids that are
        /// stored twice.
        #[arg(long)]
        aggregates: bool,

        /// Replays every product's stock events in order of version and compares the levels.
        #[arg(long)]
        stock: bool,
    },

    /// Answers SQL over all shards of a data folder, as if they were one read-only database.
    ///
    /// Works while a server runs on the folder. Without -c, it reads statements from standard input; on a terminal, it
    /// is a prompt with history and completion. `.tables` and `.schema` show the views. Exits with 1 if a statement
    /// fails, and with 130 after Ctrl-C.
    Sql(SqlArgs),

    /// Copies a data folder while its server runs, and verifies the copy.
    ///
    /// Each shard is copied as of one moment and checked as `verify` does. The result is a data folder of its
    /// own (`firehose serve --data DEST`). It does not contain events that are only in the journals. Running
    /// uploads continue in the copy from their last checkpoints.
    Backup {
        #[command(flatten)]
        folder: FolderArgs,

        /// Destination folder. It must be absent or empty.
        #[arg(value_name = "DEST")]
        dest: PathBuf,
    },

    /// Redistributes the rows in a stopped server's folder over another number of shards.
    ///
    /// Needs space for a second copy. It can be interrupted and repeated. It verifies every count before the
    /// new shards replace the old ones, which are kept in before-reshard/. Existing receipts and cursors
    /// become invalid.
    Reshard {
        #[command(flatten)]
        folder: FolderArgs,

        /// The new number of shards.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
        to: u16,
    },

    /// Sends every row of a data folder, exactly once, to a PostgreSQL database (plain or Citus).
    ///
    /// It is a process next to the server, reads the shards only, and continues until SIGTERM or SIGINT. Rows and the
    /// place behind them are stored in one transaction of the target. Rows that retention drops remain in the target,
    /// and erasures are repeated there. Retention waits for the sink until `firehose ship remove`. The password is read
    /// from ship_password_file or from the variable PGPASSWORD.
    #[command(args_conflicts_with_subcommands = true)]
    Ship(ShipArgs),

    /// Adds tenants and sets their limits. It works while a server runs on the folder.
    #[command(subcommand)]
    Tenant(TenantCommand),

    /// Creates, lists and revokes keys. It works while a server runs on the folder.
    #[command(subcommand)]
    Key(KeyCommand),

    /// Rehearses an outage on a running server.
    #[command(subcommand)]
    Drill(Drill),

    /// Reports problems of this machine that affect serving, and their remedies.
    ///
    /// Checks io_uring, limits, CPUs, ports, the disk under the data folder, and the clock. Exits with 1 if
    /// the server could not serve, and with 0 if there are only warnings.
    Doctor(FolderArgs),

    /// Generates a commerce dataset: tenants, customers, products, orders, prices and stock events.
    ///
    /// The same seed and parameters generate the same bytes on every machine. `--out` writes files, with truth.json: the
    /// totals that a correct system must report for the dataset. `--load` stores the rows in a data folder, and `--post`
    /// sends them to a server, with or without writing files.
    GenDataset(GenArgs),
}

#[derive(Debug, Subcommand)]
pub enum Drill {
    /// Locks every shard of a data folder, as another program's forgotten transaction would.
    ///
    /// Meanwhile, the server must continue to accept events. Afterwards, it must store the backlog.
    Lock {
        #[command(flatten)]
        folder: FolderArgs,

        /// How long the locks are held, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
    },
}

/// The data folder of commands that need nothing else.
#[derive(Clone, Debug, Default, Args)]
pub struct FolderArgs {
    /// The data folder. Default: the one in the settings.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,

    /// The settings file that names the folder. Default: ./firehose.toml, if it exists.
    #[arg(long = "config", value_name = "PATH")]
    pub file: Option<PathBuf>,

    /// Prints JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

impl FolderArgs {
    /// Loads the settings with this folder. Files that the command creates from now on have the permissions that the
    /// settings specify.
    ///
    /// # Errors
    /// Returns every invalid setting in the file and the environment.
    pub fn load(&self) -> Result<Loaded, Vec<ConfigError>> {
        let mut raw = Raw::default();
        if let Some(data) = &self.data {
            raw.set("data", &data.to_string_lossy(), Source::Flag);
        }
        let loaded = crate::config::load(&Flags { file: self.file.clone(), raw })?;
        crate::shard::restrict_new_files(loaded.config.data_mode.folder_mode());
        Ok(loaded)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::SETTINGS;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_tree_is_sound_and_every_setting_has_its_help() {
        Cli::command().debug_assert();
        let mut command = Cli::command();
        let serve = command.find_subcommand_mut("serve").unwrap();
        let help = serve.render_long_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for spec in SETTINGS {
            assert!(help.contains(&format!("--{}", spec.name.replace('_', "-"))), "{}", spec.name);
            assert!(help.contains(spec.heading), "{}", spec.heading);
            let default = format!("[default: {}]", spec.default);
            assert!(help.contains(&default), "{default}");
        }
    }

    /// The minimum in the help and in the documentation is the one that is enforced.
    #[test]
    fn the_help_of_retention_names_the_least_age_and_size() {
        let mut command = Cli::command();
        let serve = command.find_subcommand_mut("serve").unwrap();
        let help = serve.render_long_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let settings = SETTINGS.iter().filter(|spec| spec.name.starts_with("retention_"));
        let mut told = 0;
        for spec in settings.filter(|spec| spec.name != "retention_orders_sums") {
            let flag = format!("--{} ", spec.name.replace('_', "-"));
            let of_flag = help.split_once(&flag).unwrap().1.split(" --").next().unwrap();
            let min = of_flag.split_once("The minimum is ").unwrap().1.split_once(". ").unwrap().0;
            // Half of it is refused.
            let half = match min {
                "1m" => "30s",
                "1MiB" => "512KiB",
                other => panic!("{other}"),
            };
            for (value, is_accepted) in [(min, true), (half, false)] {
                let line = format!("firehose serve {flag}{value}");
                let Command::Serve(flags) = parse(&line).unwrap().command else { panic!("another command") };
                assert_eq!(crate::config::load(&flags).is_ok(), is_accepted, "{line}");
            }
            let page = include_str!("../../docs/data-model.md");
            assert!(page.contains("The minimum of\nan age is 1m, that of a size 1MiB."));
            told += 1;
        }
        assert_eq!(told, 10);
    }

    #[test]
    fn flags_reach_the_settings() {
        let line = "firehose serve --listen 127.0.0.1:1 --insecure --batch-rows-max 7 --config /etc/f.toml";
        let Command::Serve(flags) = parse(line).unwrap().command else { panic!("another command") };
        assert_eq!(flags.raw.get("listen").unwrap().text, "127.0.0.1:1");
        assert_eq!(flags.raw.get("insecure").unwrap().text, "true");
        assert_eq!(flags.raw.get("batch_rows_max").unwrap().text, "7");
        assert_eq!(flags.raw.get("data"), None);
        assert_eq!(flags.file, Some("/etc/f.toml".into()));
        let Command::Serve(flags) = parse("firehose serve --insecure=false").unwrap().command else {
            panic!("another command")
        };
        assert_eq!(flags.raw.get("insecure").unwrap().text, "false");
    }

    #[test]
    fn wrong_usage_is_refused() {
        for line in [
            "firehose",
            "firehose serve --lisetn 1",
            "firehose drill",
            "firehose drill lock --seconds 0",
            "firehose serve extra",
            "firehose serve --data a --data b",
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{line}");
        }
        let line = "firehose drill lock --data /d --seconds 3";
        let Command::Drill(Drill::Lock { folder, seconds }) = parse(line).unwrap().command else {
            panic!("another command")
        };
        assert_eq!((folder.data, seconds), (Some("/d".into()), 3));
    }

    #[test]
    fn a_folder_given_outdoes_the_settings() {
        let args = FolderArgs { data: Some("/somewhere/else".into()), ..FolderArgs::default() };
        assert_eq!(args.load().unwrap().config.data, PathBuf::from("/somewhere/else"));
    }
}
