//! The peers in Python, each in its own virtual environment: the designs that firehose replaces, `seed` and `upsert`
//! in FastAPI and `django` with its REST framework; and `duckdb`, a program that answers queries.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::setup::repository;

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name)
}

fn venv(name: &str) -> PathBuf {
    repository().join("target").join(format!("bench-venv-{name}"))
}

/// Creates the environment from PyPI on first use; later calls cost nothing.
pub(crate) fn install(name: &str) -> Result<()> {
    let venv = venv(name);
    let done = venv.join("installed.txt");
    let wanted = source(name).join("requirements.txt");
    let wanted_text = std::fs::read_to_string(&wanted)?;
    if std::fs::read_to_string(&done).is_ok_and(|text| text == wanted_text) {
        return Ok(());
    }
    eprintln!("installing the packages of {name} into {}", venv.display());
    let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).status();
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

/// Returns a command that runs a peer's program, for peers that are not servers.
pub(crate) fn program(name: &str, file: &str) -> Command {
    let mut command = Command::new(venv(name).join("bin/python"));
    command.arg(source(name).join(file)).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// One worker of an ASGI application.
pub(super) fn uvicorn(name: &str, addr: SocketAddr, folder: &Path) -> Command {
    let mut command = Command::new(venv(name).join("bin/uvicorn"));
    command.args(["app:app", "--host", &addr.ip().to_string(), "--app-dir"]).arg(source(name));
    command.args(["--port", &addr.port().to_string(), "--workers", "1"]);
    command.args(["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]);
    with_database(command, name, folder)
}

/// One worker of a WSGI application with one thread, a mode that keeps connections open. Requests have no time limit.
pub(super) fn gunicorn(name: &str, addr: SocketAddr, folder: &Path) -> Command {
    let mut command = Command::new(venv(name).join("bin/gunicorn"));
    command.args(["app:app", "--bind", &addr.to_string(), "--workers", "1", "--chdir"]);
    command.arg(source(name)).args(["--worker-class", "gthread", "--threads", "1", "--timeout", "0"]);
    command.args(["--keep-alive", "60", "--log-level", "warning"]);
    with_database(command, name, folder)
}

fn with_database(mut command: Command, name: &str, folder: &Path) -> Command {
    let database = format!("{}_DATABASE", name.to_uppercase());
    command.env(database, folder.join("peer.db")).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}
