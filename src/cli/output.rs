//! How a command speaks and ends: stdout, complaints about settings, exit codes.

use std::io::Write;
use std::process::ExitCode;

use crate::config::ConfigError;

pub const EXIT_OK: u8 = 0;
/// The command ran and found, or met, something bad.
pub const EXIT_FAILED: u8 = 1;
/// The command line makes no sense (clap's own).
pub const EXIT_USAGE: u8 = 2;
/// Settings or machine unfit: `EX_CONFIG` of sysexits.h. Starting again will not help.
pub const EXIT_CONFIG: u8 = 78;

/// Writes every wrong setting on stderr, a line each, and gives the exit code that says so.
#[must_use]
pub(super) fn complain(errors: &[ConfigError]) -> ExitCode {
    for error in errors {
        eprintln!("firehose: {error}");
    }
    ExitCode::from(EXIT_CONFIG)
}

/// Writes a command's result on stdout. A reader that has seen enough (`| head`) is no error.
pub(super) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
