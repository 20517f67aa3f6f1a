//! `firehose serve` and `firehose config`: read the settings, then run a server or print the settings.

use std::process::ExitCode;

use crate::config::{self, Flags};
use crate::ops::output::{EXIT_CONFIG, EXIT_FAILED, complain, say};
use crate::ops::{self, LogSettings};
use crate::server::{self, ServeError};
use crate::shard;

/// Serves until it is stopped. Startup errors are written to stderr, for people, and to the log.
#[must_use]
pub fn serve(flags: &Flags) -> ExitCode {
    let loaded = match config::load(flags) {
        Ok(loaded) => loaded,
        Err(errors) => return complain(&errors),
    };
    let guard = match ops::init(&LogSettings::from(&loaded.config)) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("firehose: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    shard::restrict_new_files(loaded.config.data_mode.folder_mode());
    tracing::info!(settings = loaded.to_line(), changed = loaded.said(), "settings");
    let outcome = server::serve(loaded.config);
    if let Err(error) = &outcome {
        tracing::error!(%error, "not serving");
    }
    drop(guard);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("firehose: {error}");
            ExitCode::from(match error {
                ServeError::Environment(_)
                | ServeError::Folder(_)
                | ServeError::Tenants(_)
                | ServeError::Listen { .. } => EXIT_CONFIG,
                _ => EXIT_FAILED,
            })
        }
    }
}

/// Prints the effective settings.
#[must_use]
pub fn config(flags: &Flags) -> ExitCode {
    match config::load(flags) {
        Ok(loaded) => {
            say(&loaded.to_toml());
            ExitCode::SUCCESS
        }
        Err(errors) => complain(&errors),
    }
}
