//! firehose itself: its command line, and its rows counted by a separate SQLite connection.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OpenFlags};

use crate::setup::{Setup, serve_argument};

/// The settings of a scenario; all others keep their defaults.
#[derive(Clone)]
pub(crate) struct Serve {
    pub(crate) cores: Vec<usize>,
    pub(crate) shards: usize,
    pub(crate) ack: &'static str,
    /// The operators' address; none if `None`.
    pub(crate) ops: Option<SocketAddr>,
    /// More settings, as `flag=value`.
    pub(crate) extra: Vec<String>,
}

impl Serve {
    /// One shard for each of the server's cores, ack at `os`.
    pub(crate) fn new(setup: &Setup) -> Serve {
        Serve {
            cores: setup.server_cores.clone(),
            shards: setup.server_cores.len(),
            ack: "os",
            ops: None,
            extra: Vec::new(),
        }
    }
}

pub(super) fn command(serve: &Serve, setup: &Setup, addr: SocketAddr, folder: &Path) -> Result<Command> {
    let cores: Vec<String> = serve.cores.iter().map(usize::to_string).collect();
    let mut command = Command::new(setup.binary());
    let ops = serve.ops.map_or_else(|| "off".to_owned(), |ops| ops.to_string());
    command.args(["serve", "--listen", &addr.to_string(), "--ops-listen", &ops, "--data"]);
    command.arg(data(folder));
    command.args(["--shards", &serve.shards.to_string(), "--cores", &cores.join(",")]);
    command.args(["--ack", serve.ack, "--log-format", "json"]);
    for extra in serve.extra.iter().chain(&setup.serve_extra) {
        command.args(serve_argument(extra)?);
    }
    // A firehose.toml in the driver's folder must not change the measurement.
    command.current_dir(folder);
    Ok(command)
}

fn data(folder: &Path) -> std::path::PathBuf {
    folder.join("data")
}

/// Counts the rows of the `events` view one by one, over all shards below a server's folder.
pub(crate) fn stored_rows(folder: &Path) -> Result<u64> {
    counted(folder, "events")
}

/// Counts orders in the same way.
pub(crate) fn stored_orders(folder: &Path) -> Result<u64> {
    counted(folder, "orders")
}

fn counted(folder: &Path, view: &str) -> Result<u64> {
    let mut rows = 0;
    let mut shards = 0;
    for entry in std::fs::read_dir(data(folder)).context("no data folder")? {
        let path = entry?.path().join("shard.db");
        if !path.exists() {
            continue;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let shard = Connection::open_with_flags(&path, flags)?;
        let count = shard
            .query_row(&format!("SELECT count(*) FROM {view}"), [], |row| row.get::<_, i64>(0))
            .with_context(|| format!("cannot count {}", path.display()))?;
        rows += u64::try_from(count)?;
        shards += 1;
    }
    ensure!(shards > 0, "no shard below {}", folder.display());
    Ok(rows)
}
