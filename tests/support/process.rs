//! The real program: started on its own folder and free ports, queried, killed, and stopped.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::client::{Answer, Client};
use super::{wait_for, wait_until};

/// Returns the program without the settings of the user who runs the tests.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firehose"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FIREHOSE_") {
            command.env_remove(name);
        }
    }
    // This avoids a stray firehose.toml in the current folder.
    command.current_dir(std::env::temp_dir()).stdin(Stdio::null());
    command
}

/// Returns `count` of the CPUs that this process may use, or all if there are fewer, in the form that `--cores`
/// accepts.
pub fn cpus(count: usize) -> String {
    let cpus = firehose::cores::pin::allowed();
    cpus.iter().take(count).map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// A data folder, with the logs of the servers that ran on it next to it.
pub struct Folder {
    dir: TempDir,
}

impl Folder {
    pub fn new() -> Folder {
        Folder { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    /// Returns a folder as an earlier version left it, from the fixtures.
    pub fn of_fixture(name: &str) -> Folder {
        let folder = Folder::new();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        fs::create_dir_all(folder.shard(0)).expect("the folder is made");
        for file in ["manifest.json", "shard-00/shard.db"] {
            fs::copy(fixture.join(file), folder.data().join(file)).expect("the file is copied");
        }
        folder
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn shard(&self, index: usize) -> PathBuf {
        self.data().join(format!("shard-{index:02}"))
    }

    pub fn database(&self, index: usize) -> PathBuf {
        self.shard(index).join("shard.db")
    }

    /// Returns the segments of a lane, oldest first.
    pub fn segments(&self, index: usize, lane: &str) -> Vec<PathBuf> {
        let listed = fs::read_dir(self.shard(index).join(lane)).expect("the lane has a folder");
        let paths = listed.map(|entry| entry.expect("an entry").path());
        let is_segment = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "seg");
        let mut segments: Vec<_> = paths.filter(is_segment).collect();
        segments.sort();
        segments
    }

    pub fn newest_segment(&self, index: usize, lane: &str) -> PathBuf {
        self.segments(index, lane).pop().expect("the lane has a segment")
    }

    /// Starts a server on this folder, with these flags in addition to its address and folder.
    pub fn serve(&self, flags: &[&str]) -> Server {
        self.serve_on(&self.data(), flags)
    }

    pub fn serve_on(&self, data: &Path, flags: &[&str]) -> Server {
        let mut server = self.spawn_on(data, flags);
        server.wait_until_serving();
        server
    }

    /// Starts a server, but does not wait until it serves.
    pub fn spawn(&self, flags: &[&str]) -> Server {
        self.spawn_on(&self.data(), flags)
    }

    fn spawn_on(&self, data: &Path, flags: &[&str]) -> Server {
        self.spawn_as(command(), data, flags)
    }

    /// Starts a server with a command that runs the program with the words appended to it.
    pub fn spawn_as(&self, mut command: Command, data: &Path, flags: &[&str]) -> Server {
        let count = fs::read_dir(self.dir.path()).map_or(0, Iterator::count);
        let log = self.beside(&format!("log-{count:03}"));
        let file = File::create(&log).expect("a log file");
        command.arg("serve").arg("--data").arg(data);
        command.args(["--listen", "127.0.0.1:0", "--log-format", "json"]);
        if !flags.contains(&"--ops-listen") {
            command.args(["--ops-listen", "off"]);
        }
        if !flags.contains(&"--allowed-hosts") {
            // The names that the tests' clients use for the server.
            command.args(["--allowed-hosts", "test,t"]);
        }
        if !flags.contains(&"--cores") {
            command.args(["--cores", &cpus(1)]);
        }
        command.args(flags).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().expect("the program starts");
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Server { child, log, address: nowhere, ops: None, ended: None }
    }

    /// Starts a server that must end by itself.
    #[track_caller]
    pub fn refused(&self, flags: &[&str]) -> Ended {
        self.spawn(flags).wait()
    }

    /// Runs a command that takes `--data`.
    pub fn run(&self, words: &[&str]) -> Output {
        command().args(words).arg("--data").arg(self.data()).output().expect("the program runs")
    }

    /// Runs a command with `--json`, and returns its exit code and its output.
    #[track_caller]
    pub fn run_json(&self, words: &[&str]) -> (i32, Value) {
        let output = self.run(&[words, &["--json"]].concat());
        let json = serde_json::from_slice(&output.stdout);
        (output.status.code().expect("it was not killed"), json.unwrap_or_else(|_| panic!("{output:?}")))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!("what the failed test leaves is kept in {}", self.dir.path().display());
        }
    }
}

pub struct Server {
    child: Child,
    log: PathBuf,
    pub address: SocketAddr,
    pub ops: Option<SocketAddr>,
    ended: Option<ExitStatus>,
}

/// How a server ended, and what it logged.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub log: String,
}

impl Server {
    #[track_caller]
    pub fn wait_until_serving(&mut self) {
        let line = wait_for("the server to serve", || {
            let found = self.logged_exactly("serving");
            assert!(found.is_some() || self.has_ended().is_none(), "it ended instead:\n{}", self.log());
            found
        });
        let address = |name: &str| line[name].as_str().map(|text| text.parse().expect("an address"));
        self.address = address("listen").expect("it says where it listens");
        self.ops = address("ops_listen");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn has_ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("the child can be asked");
        }
        self.ended
    }

    /// Returns everything that was logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).expect("the log is there")).into_owned()
    }

    /// Returns the first complete line of the log whose message contains `message`.
    pub fn logged(&self, message: &str) -> Option<Value> {
        self.line(|said| said.contains(message))
    }

    pub fn logged_exactly(&self, message: &str) -> Option<Value> {
        self.line(|said| said == message)
    }

    fn line(&self, is_it: impl Fn(&str) -> bool) -> Option<Value> {
        let log = self.log();
        let whole = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let mut lines = whole.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line["message"].as_str().is_some_and(&is_it))
    }

    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.address).expect("the server takes connections")
    }

    /// Sends a GET on its own connection and returns the response.
    #[track_caller]
    pub fn get(&self, target: &str) -> Answer {
        self.client().get(target).expect("the server answers")
    }

    /// Returns `/health`. Its status is always 200, and its figures always add up (W4).
    #[track_caller]
    pub fn health(&self) -> Value {
        let answer = self.get("/health");
        assert_eq!(answer.status, 200, "{answer:?}");
        let health = answer.json();
        check_flow(&health);
        health
    }

    /// Waits until everything accepted is in the database and every shard can be written.
    #[track_caller]
    pub fn wait_until_stored(&self) -> Value {
        wait_for("everything to be stored", || {
            let health = self.health();
            (health["status"] == "healthy" && health["queue_size"] == 0).then_some(health)
        })
    }

    #[track_caller]
    pub fn wait_until_status(&self, status: &str) -> Value {
        wait_for(status, || Some(self.health()).filter(|health| health["status"] == status))
    }

    /// Kills the server with SIGKILL.
    pub fn kill(mut self) -> Ended {
        self.child.kill().expect("the child can be killed");
        self.wait()
    }

    /// Kills the server with SIGKILL and starts another in its place.
    pub fn replace(&mut self, serve: impl FnOnce() -> Server) {
        self.child.kill().expect("the child can be killed");
        self.child.wait().expect("the child ends");
        *self = serve();
    }

    /// Sends a signal by its name.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let line = format!("kill -s {name} {}", self.pid());
        let status = Command::new("sh").args(["-c", &line]).status().expect("sh runs");
        assert!(status.success(), "{line}");
    }

    /// Stops the server with SIGTERM. It stores everything that can be stored and must end with exit code 0.
    #[track_caller]
    pub fn stop(self) -> Ended {
        self.signal("TERM");
        let ended = self.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        ended
    }

    /// Waits until the server ends.
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        wait_until("the server to end", || self.has_ended().is_some());
        Ended { code: self.ended.and_then(|status| status.code()), log: self.log() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(4_000);
            eprintln!("── the server's log ──\n{}", log.get(from..).unwrap_or(&log));
        }
        if self.has_ended().is_none() {
            // The server is a child of this process and ends with the test.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Checks that accepted = stored + pending, for each shard and for all (W4).
#[track_caller]
fn check_flow(health: &Value) {
    let number = |of: &Value, name: &str| of[name].as_u64().unwrap_or_else(|| panic!("{name} in {of}"));
    let shards = health["shards"].as_array().expect("the shards are listed");
    let sum = |name: &str| shards.iter().map(|shard| number(shard, name)).sum::<u64>();
    for shard in shards {
        assert_eq!(
            number(shard, "received"),
            number(shard, "processed") + number(shard, "pending"),
            "{health}"
        );
    }
    assert_eq!(number(health, "total_received"), sum("received"), "{health}");
    assert_eq!(number(health, "total_processed"), sum("processed"), "{health}");
    assert_eq!(number(health, "queue_size"), sum("pending"), "{health}");
    assert_eq!(number(health, "database_events"), sum("database_events"), "{health}");
}
