//! The binary: parses the command line and hands over.

use std::process::ExitCode;

use clap::Parser;
use firehose::cli::{Cli, Command, EXIT_FAILED, complain, doctor, say};
use firehose::config;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Config(flags) => match config::load(&flags) {
            Ok(loaded) => {
                say(&loaded.to_toml());
                ExitCode::SUCCESS
            }
            Err(errors) => complain(&errors),
        },
        Command::Doctor(args) => doctor(&args),
        Command::Serve(_) | Command::Shards(_) | Command::Verify(_) | Command::Drill(_) => {
            eprintln!("firehose: this build only has `config` and `doctor`");
            ExitCode::from(EXIT_FAILED)
        }
    }
}
