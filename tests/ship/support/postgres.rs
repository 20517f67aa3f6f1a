//! A PostgreSQL server in a folder of its own, reached by a socket there. It ends with the test.
#![allow(dead_code, unreachable_pub, reason = "a program of tests uses its part")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use firehose::base::clock;
use firehose::ship::postgres::PostgresOptions;
use tempfile::TempDir;

use crate::support::skip;

/// Time limit for the server to do something, on a slow and busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Postgres {
    bin: PathBuf,
    dir: TempDir,
    server: Option<Child>,
    settings: Vec<String>,
    /// 0: no TCP.
    pub port: u16,
}

/// Returns the folder of the newest version's programs.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.parse().ok()?;
            Some((version, path.join("bin")))
        })
        .filter(|(_, bin)| bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| bin)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns a command that runs as a user whom the server accepts: it refuses root.
fn as_server_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command
}

fn id_of_server_user(what: &str) -> u32 {
    let output = Command::new("id").args([what, "postgres"]).output().expect("id runs");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
}

fn succeeded(what: &str, output: Output) -> String {
    let [out, error] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert!(output.status.success(), "{what}: {out}{error}");
    out
}

impl Postgres {
    /// Starts a server, or reports that the test is skipped.
    #[track_caller]
    pub fn start() -> Option<Postgres> {
        Postgres::start_with(&[])
    }

    /// Starts a server with settings such as `fsync=on`.
    #[track_caller]
    pub fn start_with(settings: &[&str]) -> Option<Postgres> {
        let Some(bin) = programs() else {
            skip("there is no PostgreSQL in /usr/lib/postgresql");
            return None;
        };
        let dir = tempfile::tempdir().expect("a temporary folder");
        if is_root() {
            chown(dir.path(), Some(id_of_server_user("-u")), Some(id_of_server_user("-g"))).expect("chown");
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).expect("permissions");
        let mut made = as_server_user(&bin.join("initdb"));
        made.args([
            "--no-sync",
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "-D",
        ]);
        succeeded("initdb", made.arg(dir.path().join("data")).output().expect("initdb runs"));
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let mut postgres = Postgres { bin, dir, server: None, settings, port: 0 };
        postgres.restart();
        Some(postgres)
    }

    /// Starts the server again, with more settings.
    pub fn set(&mut self, settings: &[&str]) {
        self.kill();
        self.settings.extend(settings.iter().map(|&setting| setting.to_owned()));
        self.restart();
    }

    /// Starts the server, which is not running.
    pub fn restart(&mut self) {
        let mut command = as_server_user(&self.bin.join("postgres"));
        command.arg("-D").arg(self.data()).arg("-k").arg(self.dir.path());
        command.args(["-c", "fsync=off", "-c", "shared_buffers=32MB", "-c", "max_connections=40"]);
        if self.port == 0 {
            command.args(["-c", "listen_addresses="]);
        } else {
            command.args(["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={}", self.port)]);
        }
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        let log = fs::File::create(self.dir.path().join("log")).expect("a log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a handle")).stderr(log);
        let mut server = command.spawn().expect("the server starts");
        let deadline = clock::now() + PATIENCE;
        while !self.psql("SELECT 1").status.success() {
            // Children of a server that was killed may be there for a moment.
            if server.try_wait().expect("a status").is_some() {
                server = command.spawn().expect("the server starts");
            }
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(clock::now() < deadline, "the server does not start: {log}");
            clock::pause(Duration::from_millis(20));
        }
        self.server = Some(server);
    }

    /// Lets the server listen on a free TCP port of the loopback interface, too.
    pub fn listen(&mut self) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        self.port = listener.local_addr().expect("an address").port();
        drop(listener);
        self.kill();
        self.restart();
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Returns a path next to the data folder.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Gives a file to the server's user.
    pub fn give(&self, path: &Path, mode: u32) {
        if is_root() {
            chown(path, Some(id_of_server_user("-u")), Some(id_of_server_user("-g"))).expect("chown");
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
    }

    /// Ends the server as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().expect("the server is killed");
            server.wait().expect("the server has ended");
        }
    }

    /// Sends a signal to every process of the server: `STOP` or `CONT`.
    pub fn signal(&self, name: &str) {
        let server = self.server.as_ref().expect("a server").id().to_string();
        let children = Command::new("ps").args(["-o", "pid=", "--ppid", &server]).output().expect("ps runs");
        let children = String::from_utf8_lossy(&children.stdout).into_owned();
        for process in std::iter::once(server.as_str()).chain(children.split_whitespace()) {
            Command::new("kill").args([&format!("-{name}"), process]).status().expect("kill runs");
        }
    }

    /// Returns the URL of the server's socket.
    pub fn url(&self) -> String {
        let folder = self.dir.path().to_str().expect("UTF-8");
        let port = if self.port == 0 { 5432 } else { self.port };
        format!("postgres:///postgres?host={folder}&user=postgres&port={port}")
    }

    pub fn options(&self) -> PostgresOptions {
        PostgresOptions::parse(&self.url()).expect("the URL is valid")
    }

    fn psql(&self, sql: &str) -> Output {
        let mut command = Command::new(self.bin.join("psql"));
        let port = if self.port == 0 { 5432 } else { self.port };
        command.args([
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-p",
            &port.to_string(),
        ]);
        command.arg("-h").arg(self.dir.path()).args(["-c", sql]);
        command.output().expect("psql runs")
    }

    /// Returns the folder of the server's programs, such as `psql`.
    pub fn program_folder(&self) -> &Path {
        &self.bin
    }

    /// Returns the variables that make the programs of PostgreSQL use this server.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let port = if self.port == 0 { 5432 } else { self.port };
        let folder = self.dir.path().to_str().expect("UTF-8").to_owned();
        vec![("PGHOST", folder), ("PGPORT", port.to_string()), ("PGUSER", "postgres".to_owned())]
    }

    /// Runs a statement, and returns its rows, or `None` if it fails.
    pub fn try_ask(&self, sql: &str) -> Option<String> {
        let output = self.psql(sql);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Runs a statement, and returns its rows, one a line, columns separated by `|`.
    #[track_caller]
    pub fn ask(&self, sql: &str) -> String {
        succeeded(sql, self.psql(sql)).trim_end().to_owned()
    }

    /// Runs statements in a session that stays open, and returns once they are done. Kill it to end it.
    pub fn session(&self, sql: &str) -> Child {
        let mut command = Command::new(self.bin.join("psql"));
        let port = if self.port == 0 { 5432 } else { self.port };
        command.args(["-XAtq", "-U", "postgres", "-d", "postgres", "-p", &port.to_string(), "-h"]);
        command.arg(self.dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut session = command.spawn().expect("psql runs");
        let input = session.stdin.as_mut().expect("an input");
        writeln!(input, "{sql};\n\\echo done").expect("the statements are sent");
        let output = session.stdout.as_mut().expect("an output");
        let mut lines = BufReader::new(output).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line == "done")), "{sql} fails");
        session
    }

    /// Polls until the condition is true.
    #[track_caller]
    pub fn wait_until(&self, mut is_so: impl FnMut() -> bool) {
        let deadline = clock::now() + PATIENCE;
        while !is_so() {
            assert!(clock::now() < deadline, "waited in vain");
            clock::pause(Duration::from_millis(10));
        }
    }

    /// Returns the contents of every table of the schema, as `pg_dump` writes them.
    pub fn dump(&self) -> String {
        let mut command = Command::new(self.bin.join("pg_dump"));
        let port = if self.port == 0 { 5432 } else { self.port };
        command.args(["-U", "postgres", "-n", "fh", "-p", &port.to_string(), "postgres"]);
        succeeded("pg_dump", command.arg("-h").arg(self.dir.path()).output().expect("pg_dump runs"))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // An immediate shutdown also ends the children; a killed server would leave them for a moment.
        if let Some(mut server) = self.server.take() {
            let _ = Command::new("kill").args(["-CONT", &server.id().to_string()]).status();
            let _ = Command::new("kill").args(["-QUIT", &server.id().to_string()]).status();
            let _ = server.wait();
        }
    }
}
