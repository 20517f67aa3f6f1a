//! The systems under test, each started in the same way on the same cores: firehose and its peers.

mod epoll;
mod firehose;
mod hyper;
mod may;
mod nginx;
mod python;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use signal_hook::consts::SIGTERM;

use crate::http;
use crate::process::{self, Process};
use crate::setup::{Folder, Setup, free_address};

pub(crate) use epoll::serve as serve_epoll;
pub(crate) use firehose::{Serve, stored_orders, stored_rows};
pub(crate) use hyper::{own_cpu, serve as serve_hyper};
pub(crate) use may::serve as serve_may;
pub(crate) use python::{install, program};

/// Headers of the 202 of the peers whose response can be chosen: as large as firehose's own, including the date.
const ANSWER_HEADERS: [&str; 5] = [
    "Content-Type: application/json",
    "Firehose-Ack: os",
    "Firehose-Receipt: 0-1234567890",
    "X-Request-Id: 0123456789abcdef",
    "Access-Control-Allow-Origin: *",
];
const ANSWER_BODY: &str = r#"{"status":"accepted","message":"Event queued for processing"}"#;

/// The server that receives the events.
#[derive(Clone)]
pub(crate) enum System {
    Firehose(Serve),
    /// Level-triggered instead of edge-triggered, as firehose's own loop is.
    Epoll {
        level: bool,
    },
    /// On glommio instead of on tokio.
    Hyper {
        glommio: bool,
    },
    May,
    Nginx,
    Seed,
    Upsert,
    Django,
}

impl System {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            System::Firehose(_) => "firehose",
            System::Epoll { level: false } => "peer-epoll",
            System::Epoll { level: true } => "peer-epoll-level",
            System::Hyper { glommio: false } => "peer-hyper-tokio",
            System::Hyper { glommio: true } => "peer-hyper-glommio",
            System::May => "peer-may",
            System::Nginx => "nginx",
            System::Seed => "seed",
            System::Upsert => "upsert",
            System::Django => "django",
        }
    }

    /// Starts the system in a new folder and waits until it answers.
    pub(crate) fn start(&self, setup: &Setup) -> Result<Running> {
        self.start_in(setup, Folder::new(&setup.data_root)?)
    }

    /// Starts the system on an existing data folder, which remains afterwards.
    pub(crate) fn start_on(&self, setup: &Setup, data: &Path) -> Result<Running> {
        let folder = Folder::new(&setup.data_root)?;
        symlink(data, folder.path().join("data"))?;
        self.start_in(setup, folder)
    }

    fn start_in(&self, setup: &Setup, folder: Folder) -> Result<Running> {
        let addr = free_address()?;
        let log = folder.path().join("stderr.log");
        let mut command = match self {
            System::Firehose(serve) => firehose::command(serve, setup, addr, folder.path())?,
            System::Epoll { level: false } => own("peer-epoll", addr, &[])?,
            System::Epoll { level: true } => own("peer-epoll", addr, &["--level"])?,
            System::Hyper { glommio: false } => own("peer-hyper", addr, &[])?,
            System::Hyper { glommio: true } => own("peer-hyper", addr, &["--glommio"])?,
            System::May => own("peer-may", addr, &[])?,
            System::Nginx => nginx::command(addr, folder.path())?,
            System::Seed | System::Upsert => python::uvicorn(self.name(), addr, folder.path()),
            System::Django => python::gunicorn(self.name(), addr, folder.path()),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(&log).with_context(|| format!("cannot make {}", log.display()))?);
        let cores = match self {
            System::Firehose(serve) => &serve.cores,
            _ => &setup.server_cores,
        };
        let process = Process::start(self.name(), &mut command, cores)?;
        let keeps_count =
            matches!(self, System::Firehose(_) | System::Seed | System::Upsert | System::Django);
        let ends_by_signal = matches!(self, System::Seed | System::Upsert);
        let mut running =
            Running { process, folder, addr, log, keeps_count, ends_by_signal, answer_bytes: 0 };
        running.wait_until_ready(self)?;
        Ok(running)
    }
}

/// Returns a command that runs this program as a peer.
fn own(subcommand: &str, addr: SocketAddr, flags: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([subcommand, "--listen", &addr.to_string()]).args(flags);
    Ok(command)
}

/// The part of `/health` that the driver needs.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Health {
    pub(crate) queue_size: u64,
    pub(crate) total_received: u64,
    pub(crate) database_events: u64,
}

/// A running system. Dropping it kills it and deletes its folder.
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) folder: Folder,
    pub(crate) addr: SocketAddr,
    log: PathBuf,
    /// Set if its `/health` counts events.
    pub(crate) keeps_count: bool,
    ends_by_signal: bool,
    /// Length of its 202, head and body.
    pub(crate) answer_bytes: usize,
}

impl Running {
    pub(crate) fn url(&self) -> String {
        format!("http://{}/event", self.addr)
    }

    pub(crate) fn health(&self) -> Result<Health> {
        let (status, body) = http::get(self.addr, "/health")?;
        ensure!(status == 200, "/health answered {status}: {body}");
        serde_json::from_str(&body).with_context(|| format!("/health is unreadable: {body}"))
    }

    /// Returns `true` if a shard of firehose has upkeep to do.
    pub(crate) fn is_upkeep_pending(&self) -> Result<bool> {
        let (status, body) = http::get(self.addr, "/health")?;
        ensure!(status == 200, "/health answered {status}: {body}");
        let health: serde_json::Value = serde_json::from_str(&body)?;
        let shards = health["shards"].as_array().context("/health lists no shards")?;
        Ok(shards.iter().any(|shard| shard["upkeep_pending"] == true))
    }

    /// Polls `/health` until nothing waits for the database. Returns the time that it took.
    pub(crate) fn drain(&self, limit: Duration) -> Result<Duration> {
        let start = ::firehose::base::clock::now();
        process::poll("the queue drains", limit, || Ok((self.health()?.queue_size == 0).then_some(())))?;
        Ok(start.elapsed())
    }

    /// Stops the system as an operator would and checks its exit: status 0, or the signal that it was sent (uvicorn,
    /// after its cleanup).
    pub(crate) fn stop(&mut self) -> Result<()> {
        let status = self.process.stop(Duration::from_secs(60))?;
        let raised = self.ends_by_signal && status.signal() == Some(SIGTERM);
        ensure!(status.success() || raised, "left with {status}:\n{}", self.log_tail());
        Ok(())
    }

    /// Adds the end of the server's log, if any, to an error.
    pub(crate) fn with_log(&self, error: anyhow::Error) -> anyhow::Error {
        match self.log_tail() {
            log if log.is_empty() => error,
            log => error.context(format!("the server's last words:\n{log}")),
        }
    }

    /// Returns the end of its standard error.
    fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..]).into_owned()
    }

    fn wait_until_ready(&mut self, system: &System) -> Result<()> {
        let name = system.name();
        process::poll(&format!("{name} answers"), Duration::from_secs(20), || {
            if let Some(status) = self.process.ended()? {
                anyhow::bail!("{name} ended at once with {status}:\n{}", self.log_tail());
            }
            Ok(http::exchange(self.addr, &http::event_request(self.addr)).ok())
        })
        .and_then(|(status, bytes, body)| {
            ensure!(status == 202, "{name} answers {status} to a good event: {body}");
            self.answer_bytes = bytes;
            Ok(())
        })
        .map_err(|error| self.with_log(error))
    }
}

/// Checks that nginx is installed if it is a peer, and installs the Python peers.
pub(crate) fn check(systems: &[System]) -> Result<()> {
    for system in systems {
        match system {
            System::Nginx => nginx::check()?,
            System::Seed | System::Upsert | System::Django => install(system.name())?,
            System::Firehose(_) | System::Epoll { .. } | System::Hyper { .. } | System::May => {}
        }
    }
    Ok(())
}
