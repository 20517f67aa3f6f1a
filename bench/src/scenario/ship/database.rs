//! A PostgreSQL server in a folder of its own, with fsync, and psql as its client.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{self, Process};
use crate::setup::{Folder, Setup, free_address};

const LIMIT: Duration = Duration::from_secs(60);

/// A running server, which ends when it is dropped.
pub(super) struct Database {
    process: Process,
    bin: PathBuf,
    folder: Folder,
    port: u16,
}

/// Returns the programs of the newest installed version.
fn programs() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .context("PostgreSQL is not installed: apt-get install postgresql")?;
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin")))
        })
        .collect();
    found.sort();
    Ok(found.pop().context("no version in /usr/lib/postgresql")?.1)
}

fn is_root() -> Result<bool> {
    Ok(fs::read_to_string("/proc/self/status")?.lines().any(|line| line.starts_with("Uid:\t0\t0\t")))
}

/// Returns a command as a user that the server accepts: it refuses root.
fn as_user(program: &Path) -> Result<Command> {
    if !is_root()? {
        return Ok(Command::new(program));
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    Ok(command)
}

fn id(what: &str) -> Result<u32> {
    let output = Command::new("id").args([what, "postgres"]).output()?;
    ensure!(output.status.success(), "there is no user postgres");
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

impl Database {
    /// Starts a server on these cores.
    pub(super) fn start(setup: &Setup, cores: &[usize]) -> Result<Database> {
        let bin = programs()?;
        let folder = Folder::new(&setup.data_root)?;
        if is_root()? {
            chown(folder.path(), Some(id("-u")?), Some(id("-g")?))?;
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
        let data = folder.path().join("database");
        let mut make = as_user(&bin.join("initdb"))?;
        make.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "-D"])
            .arg(&data);
        let made = make.current_dir("/").output()?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = free_address()?.port();
        let mut serve = as_user(&bin.join("postgres"))?;
        serve.arg("-D").arg(&data).arg("-k").arg(folder.path()).args(["-p", &port.to_string()]);
        for setting in [
            "fsync=on",
            "listen_addresses=127.0.0.1",
            "shared_buffers=512MB",
            "max_wal_size=8GB",
            "checkpoint_timeout=30min",
            "track_commit_timestamp=on",
            "autovacuum=off",
        ] {
            serve.args(["-c", setting]);
        }
        let log = fs::File::create(folder.path().join("log"))?;
        serve.current_dir("/").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = Process::start("postgres", &mut serve, cores)?;
        let database = Database { process, bin, folder, port };
        process::poll("PostgreSQL answers", LIMIT, || Ok(database.ask("SELECT 1").ok()))?;
        Ok(database)
    }

    pub(super) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Returns a path that both psql and the server may use.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns psql with a command.
    pub(super) fn psql(&self, sql: &str) -> Command {
        let mut command = Command::new(self.bin.join("psql"));
        command.args([
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-h",
            "127.0.0.1",
        ]);
        command.args(["-p", &self.port.to_string(), "-c", sql]).stdin(Stdio::null());
        command
    }

    /// Runs a statement, and returns its rows.
    pub(super) fn ask(&self, sql: &str) -> Result<String> {
        let output = self.psql(sql).output()?;
        ensure!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Returns the CPU time of the server and its children that have ended or run, in nanoseconds.
    pub(super) fn cpu_ns(&self) -> Result<u64> {
        let mut all = 0;
        for entry in fs::read_dir("/proc")? {
            let path = entry?.path();
            let Ok(stat) = fs::read_to_string(path.join("stat")) else { continue };
            let Some((_, rest)) = stat.rsplit_once(')') else { continue };
            let fields: Vec<u64> = rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
            let pid: u32 = path.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or(0);
            let is_server = pid == self.process.pid();
            if is_server || fields.get(1) == Some(&u64::from(self.process.pid())) {
                // utime, stime; and those of ended children, for the server itself.
                let own = fields[11] + fields[12];
                all += own + if is_server { fields[13] + fields[14] } else { 0 };
            }
        }
        Ok(all * 10_000_000)
    }
}
