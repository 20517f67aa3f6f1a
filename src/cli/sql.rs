//! `firehose sql`: queries over all shards of a data folder.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::FolderArgs;
use crate::ops::output::{EXIT_FAILED, EXIT_USAGE, complain, say};
use crate::shard::{self, DataFolder};
use crate::sql::{self, Format, Input, Reason, SqlError};

/// The exit code of a program that SIGINT ended.
const EXIT_INTERRUPTED: u8 = 130;

#[derive(Clone, Debug, Args)]
pub struct SqlArgs {
    /// The data folder. Default: the one in the settings.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,

    /// The settings file that names the folder. Default: ./firehose.toml, if it exists.
    #[arg(long = "config", value_name = "PATH")]
    pub file: Option<PathBuf>,

    /// Runs this SQL instead of standard input. It can be repeated.
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    pub commands: Vec<String>,

    /// The format of results. Default: table on a terminal, otherwise csv.
    #[arg(long, value_enum)]
    pub format: Option<Format>,

    /// Ends a query that runs longer, in seconds, while a server writes the folder. 0: no limit.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,

    /// Prints a script for the stock sqlite3 shell, which attaches up to ten shards.
    #[arg(long, conflicts_with_all = ["commands", "format"])]
    pub attach: bool,

    /// The group of ten shards that the script attaches.
    #[arg(long, value_name = "N", requires = "attach", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=26))]
    pub group: u16,
}

/// Runs queries, or the prompt, or prints the script.
#[must_use]
pub fn sql(args: &SqlArgs) -> ExitCode {
    // clap reads the flag `-csv` of sqlite3 as `-c sv`.
    if args.commands.iter().any(|text| text == "sv") {
        eprintln!("firehose: -csv is a flag of sqlite3; here it is --format csv");
        return ExitCode::from(EXIT_USAGE);
    }
    let folder = FolderArgs { data: args.data.clone(), file: args.file.clone(), json: false };
    let data = match folder.load() {
        Ok(loaded) => loaded.config.data,
        Err(errors) => return complain(&errors),
    };
    if args.attach {
        return match sql::attach_script(&data, usize::from(args.group)) {
            Ok(script) => {
                say(&script.text);
                script.note.iter().for_each(|note| eprint!("{note}"));
                ExitCode::SUCCESS
            }
            Err(why) => failed(&why),
        };
    }
    for (id, shard_folder) in DataFolder::read_only(&data).iter().flat_map(DataFolder::shards) {
        if let Err(why) = shard::check_recovered(&shard_folder) {
            eprintln!("firehose: shard {id}: {why}");
        }
    }
    let default = if std::io::stdout().is_terminal() { Format::Table } else { Format::Csv };
    let limit = (args.timeout > 0).then(|| Duration::from_secs(args.timeout));
    let input = if args.commands.is_empty() { Input::Stdin } else { Input::Texts(&args.commands) };
    match sql::query(&data, input, limit, args.format.unwrap_or(default)) {
        // A reader that stops early (`| head`) is not an error.
        Ok(()) | Err(SqlError::Closed) => ExitCode::SUCCESS,
        Err(SqlError::Stopped(Reason::Interrupted, _)) => ExitCode::from(EXIT_INTERRUPTED),
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(why: &str) -> ExitCode {
    eprintln!("firehose: {why}");
    ExitCode::from(EXIT_FAILED)
}
