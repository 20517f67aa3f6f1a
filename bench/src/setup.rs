//! Settings of a run, and its needs: the server's binary, folders, free ports.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::wrk::Load;

/// The settings that all scenarios have.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub(crate) struct Setup {
    /// Rounds of each system, interleaved: A B C A B C.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Seconds of measured load in a round.
    #[arg(long, default_value_t = 8)]
    pub(crate) seconds: u64,
    /// Number of connections, instead of the scenario's own.
    #[arg(long)]
    pub(crate) connections: Option<usize>,
    /// Number of orders, instead of the scenario's own.
    #[arg(long)]
    pub(crate) orders: Option<usize>,
    /// Cores for the server, and for each peer in its place.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    pub(crate) server_cores: Vec<usize>,
    /// Cores for the load and for the driver itself.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub(crate) load_cores: Vec<usize>,
    /// The server to measure [default: the release build next to this program, built if missing].
    #[arg(long)]
    pub(crate) binary: Option<PathBuf>,
    /// Another build of the server, which `commits` measures in turns.
    #[arg(long)]
    pub(crate) base: Option<PathBuf>,
    /// Folder for the data of the servers. Each folder in it is deleted afterwards.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench-data"))]
    pub(crate) data_root: PathBuf,
    /// Folder for the result file.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    pub(crate) out: PathBuf,
    /// An additional setting for `firehose serve`, as `flag=value`; may be given several times.
    #[arg(long = "serve", value_name = "FLAG=VALUE")]
    pub(crate) serve_extra: Vec<String>,
}

impl Setup {
    /// Checks what every scenario needs, and finds or builds the server.
    pub(crate) fn check(&mut self) -> Result<()> {
        ensure!(self.rounds > 0 && self.seconds > 0, "--rounds and --seconds must be at least 1");
        if self.binary.is_none() {
            self.binary = Some(release_binary()?);
        }
        fs::create_dir_all(&self.data_root)
            .with_context(|| format!("cannot make {}", self.data_root.display()))?;
        remove_left_behind(&self.data_root)
    }

    pub(crate) fn binary(&self) -> &Path {
        self.binary.as_deref().unwrap_or(Path::new("firehose"))
    }

    pub(crate) fn load(&self, script: &'static str, connections: usize) -> Load {
        Load { script, connections, seconds: self.seconds }
    }

    /// Returns the connection counts of a scenario, or the one given on the command line.
    pub(crate) fn connection_counts(&self, defined: &[usize]) -> Vec<usize> {
        self.connections.map_or_else(|| defined.to_vec(), |one| vec![one])
    }
}

fn release_binary() -> Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("firehose");
    if !beside.exists() {
        eprintln!("building the server: cargo build --release");
        let mut build = Command::new("cargo");
        build.args(["build", "--release", "-p", "firehose", "--bin", "firehose"]);
        let built = build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).status()?;
        ensure!(built.success() && beside.exists(), "{} is missing and could not be built", beside.display());
    }
    Ok(beside)
}

/// Deletes the folders of drivers that were killed before they could.
fn remove_left_behind(root: &Path) -> Result<()> {
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        let driver: Option<u32> =
            path.file_name().and_then(|name| name.to_str()?.split_once('-')?.0.parse().ok());
        if driver.is_some_and(|driver| !Path::new(&format!("/proc/{driver}")).exists()) {
            fs::remove_dir_all(&path).with_context(|| format!("cannot delete {}", path.display()))?;
        }
    }
    Ok(())
}

/// A new folder. Dropping it deletes the folder.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(root: &Path) -> Result<Folder> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = root.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Folder(path.canonicalize()?))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns a loopback address whose port was free a moment ago.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Splits `flag=value` as given to `--serve`.
pub(crate) fn serve_argument(text: &str) -> Result<[String; 2]> {
    match text.split_once('=') {
        Some((flag, value)) if !flag.is_empty() => {
            Ok([format!("--{}", flag.trim_start_matches('-')), value.to_owned()])
        }
        _ => bail!("--serve wants FLAG=VALUE, not {text:?}"),
    }
}

/// Returns the folder of the workspace that this program was built from.
pub(crate) fn repository() -> PathBuf {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}
