//! The design that firehose replaces: FastAPI, a deque and aiosqlite, in a virtual environment.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::setup::repository;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/seed");

/// Makes the environment from PyPI on first use; later calls cost nothing.
pub(super) fn install(venv: &Path) -> Result<()> {
    let done = venv.join("installed.txt");
    let wanted = Path::new(SOURCE).join("requirements.txt");
    let wanted_text = std::fs::read_to_string(&wanted)?;
    if std::fs::read_to_string(&done).is_ok_and(|text| text == wanted_text) {
        return Ok(());
    }
    eprintln!("installing the seed's packages into {}", venv.display());
    let made = Command::new("python3").args(["-m", "venv"]).arg(venv).status();
    ensure!(
        made.context("python3 is not installed: apt-get install python3-venv")?.success(),
        "python3 -m venv failed: apt-get install python3-venv"
    );
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&wanted);
    ensure!(pip.status()?.success(), "pip could not install {}", wanted.display());
    std::fs::write(done, wanted_text)?;
    Ok(())
}

pub(super) fn command(addr: SocketAddr, folder: &Path) -> Result<Command> {
    let mut command = Command::new(repository().join("target/bench-venv/bin/uvicorn"));
    command.args(["app:app", "--app-dir", SOURCE, "--host", &addr.ip().to_string()]);
    command.args(["--port", &addr.port().to_string(), "--workers", "1"]);
    command.args(["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]);
    command.env("SEED_DATABASE", folder.join("seed.db")).env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}
