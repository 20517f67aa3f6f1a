//! Output and exit codes of commands.

use std::io::Write;
use std::process::ExitCode;

use crate::config::ConfigError;

pub const EXIT_OK: u8 = 0;
/// The command ran and found a problem, or failed.
pub const EXIT_FAILED: u8 = 1;
/// The command line is invalid (clap's own code).
pub const EXIT_USAGE: u8 = 2;
/// The settings or the machine are unusable: `EX_CONFIG` of sysexits.h. A restart does not help.
pub const EXIT_CONFIG: u8 = 78;

/// Writes every invalid setting to stderr, one line each, and returns the exit code.
#[must_use]
pub fn complain(errors: &[ConfigError]) -> ExitCode {
    for error in errors {
        eprintln!("firehose: {error}");
    }
    ExitCode::from(EXIT_CONFIG)
}

/// Writes a command's result to stdout. A reader that stops early (`| head`) is not an error.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
