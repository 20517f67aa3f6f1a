//! `firehose ship`: sends the rows of a data folder to a target, and shows how far it is.

mod remove;
mod schema;
mod status;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, Subcommand};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::FolderArgs;
use crate::config::{Config, ConfigError, Flags, Loaded, Raw, Source, postgres_password};
use crate::ops::output::{EXIT_CONFIG, EXIT_FAILED, complain};
use crate::ops::{self, LogSettings};
use crate::shard::{self, DataFolder};
use crate::ship::postgres::{PostgresOptions, PostgresSink};
use crate::ship::{self, Mode, RunError, RunSettings};

/// The kind of the target in a registration.
const KIND: &str = "postgres";
/// A password is a line.
const PASSWORD_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub struct ShipArgs {
    #[command(subcommand)]
    command: Option<ShipCommand>,

    #[command(flatten)]
    target: TargetArgs,

    /// Ends once everything is sent that is in the shards' files now.
    #[arg(long, conflicts_with = "drain")]
    once: bool,

    /// Ends once nothing is left to send. Use it with a stopped server, before `firehose reshard`.
    #[arg(long)]
    drain: bool,

    /// Maximum rows per second of all shards together. Default: the setting ship_rate_max.
    #[arg(long, value_name = "N")]
    rate_max: Option<String>,

    /// Address and port of the metrics. Default: the setting ship_metrics.
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<String>,
}

#[derive(Debug, Subcommand)]
enum ShipCommand {
    /// Shows for each shard and stream what the target has, and what is behind: rows, and the age of the oldest.
    ///
    /// Read-only. It works while a server and a shipper run, and without a connection to the target.
    Status {
        #[command(flatten)]
        target: TargetArgs,

        /// Prints JSON instead of text.
        #[arg(long)]
        json: bool,
    },

    /// Compares the rows of the shards with those of the target: counts and sums of hashes by tenant and day.
    ///
    /// Server and shipper may run. Compared are the rows up to the places that the target has at the start. Rows that
    /// retention has dropped here are only in the target, and do not count as a difference. Exits with 1 if there is a
    /// difference, and names it.
    Verify {
        #[command(flatten)]
        target: TargetArgs,

        /// Prints JSON instead of text.
        #[arg(long)]
        json: bool,
    },

    /// Prints the SQL that creates the tables and views of the target.
    ///
    /// `firehose ship` runs it by itself if its user may create the schema `fh`.
    Schema {
        /// Adds the statements that distribute the tables over the workers of Citus, by tenant.
        #[arg(long)]
        citus: bool,
    },

    /// Removes a sink from a data folder, so that retention and erasures no longer wait for it.
    ///
    /// The target and its rows are not changed. It also works while a server runs.
    Remove {
        #[command(flatten)]
        folder: FolderArgs,

        /// The name of the sink.
        name: String,
    },
}

/// The data folder and the target.
#[derive(Debug, Args)]
struct TargetArgs {
    /// URL of the database, such as postgres://user@host/database?sslmode=verify-full. Default: the setting ship_to.
    #[arg(long, value_name = "URL")]
    to: Option<String>,

    /// Name of the sink in the data folder. Default: the setting ship_name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// File with the password in its first line. Default: the setting ship_password_file.
    #[arg(long, value_name = "PATH")]
    password_file: Option<String>,

    /// The data folder. Default: the one in the settings.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,

    /// The settings file. Default: ./firehose.toml, if it exists.
    #[arg(long = "config", value_name = "PATH")]
    file: Option<PathBuf>,
}

impl TargetArgs {
    /// Loads the settings with these values.
    fn load(&self, more: &[(&str, &Option<String>)]) -> Result<Loaded, Vec<ConfigError>> {
        let mut raw = Raw::default();
        let data = self.data.as_ref().map(|data| data.to_string_lossy().into_owned());
        let own = [
            ("data", &data),
            ("ship_to", &self.to),
            ("ship_name", &self.name),
            ("ship_password_file", &self.password_file),
        ];
        for (name, value) in own.iter().chain(more) {
            if let Some(value) = value {
                raw.set(name, value, Source::Flag);
            }
        }
        let loaded = crate::config::load(&Flags { file: self.file.clone(), raw })?;
        shard::restrict_new_files(loaded.config.data_mode.folder_mode());
        Ok(loaded)
    }
}

/// Runs the command.
#[must_use]
pub fn ship(args: &ShipArgs) -> ExitCode {
    match &args.command {
        None => run(args),
        Some(ShipCommand::Status { target, json }) => status::status(target, *json),
        Some(ShipCommand::Verify { target, json }) => verify::verify(target, *json),
        Some(ShipCommand::Schema { citus }) => schema::schema(*citus),
        Some(ShipCommand::Remove { folder, name }) => remove::remove(folder, name),
    }
}

fn run(args: &ShipArgs) -> ExitCode {
    let more = [("ship_rate_max", &args.rate_max), ("ship_metrics", &args.metrics)];
    let loaded = match args.target.load(&more) {
        Ok(loaded) => loaded,
        Err(errors) => return complain(&errors),
    };
    let config = loaded.config;
    let guard = match ops::init(&LogSettings::from(&config)) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("firehose: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let mode = match (args.once, args.drain) {
        (true, _) => Mode::Once,
        (_, true) => Mode::Drain,
        _ => Mode::Follow,
    };
    let outcome = options(&config).and_then(|options| send(config, options, mode));
    if let Err(error) = &outcome {
        tracing::error!(%error, "the shipper ends");
    }
    drop(guard);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn send(config: Config, options: PostgresOptions, mode: Mode) -> Result<(), RunError> {
    let failed = |error: std::io::Error| RunError::Failed(format!("signals cannot be handled: {error}"));
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // A second signal ends the process at once.
        signal_hook::flag::register_conditional_shutdown(signal, i32::from(EXIT_FAILED), Arc::clone(&stop))
            .map_err(failed)?;
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(failed)?;
    }
    let folder_id = DataFolder::read_only(&config.data)?.manifest().id.clone();
    let settings = RunSettings {
        data: config.data,
        name: config.ship_name,
        kind: KIND.to_owned(),
        target: options.target(),
        mode,
        rate_max: config.ship_rate_max,
        metrics: config.ship_metrics,
        with_bar: config.log_file.is_none(),
    };
    let stopped = Arc::clone(&stop);
    ship::run(&settings, &stop, move |shard| {
        PostgresSink::new(options.clone(), folder_id.clone(), shard, Arc::clone(&stopped))
    })
}

/// Returns the options of the target that the settings name, with its password.
fn options(config: &Config) -> Result<PostgresOptions, RunError> {
    let Some(url) = &config.ship_to else {
        let why = "there is no target: set --to or ship_to, such as postgres://user@host/database";
        return Err(RunError::Settings(why.to_owned()));
    };
    let options =
        PostgresOptions::parse(url.secret()).map_err(|error| RunError::Settings(error.to_string()))?;
    if options.has_password_in_url() {
        tracing::warn!(
            "the password in the URL of the target is visible in settings or in the list of processes: put it into \
             ship_password_file or PGPASSWORD"
        );
    }
    let password = match &config.ship_password_file {
        Some(path) => Some(password_of(path)?),
        None => postgres_password(),
    };
    Ok(match password {
        Some(password) => options.with_password(password),
        None => options,
    })
}

fn password_of(path: &PathBuf) -> Result<String, RunError> {
    let wrong = |why: String| RunError::Settings(format!("ship_password_file {}: {why}", path.display()));
    let bytes = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if bytes > PASSWORD_BYTES_MAX {
        return Err(wrong("it is too large for a password".to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    match text.lines().next().unwrap_or_default() {
        "" => Err(wrong("its first line is empty".to_owned())),
        password => Ok(password.to_owned()),
    }
}

/// Writes an error to stderr and returns its exit code.
fn fail(error: &RunError) -> ExitCode {
    eprintln!("firehose: {error}");
    ExitCode::from(match error {
        RunError::Settings(_) => EXIT_CONFIG,
        RunError::Failed(_) => EXIT_FAILED,
    })
}
