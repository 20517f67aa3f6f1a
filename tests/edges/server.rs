//! `firehose serve` as a child process with its own folder and ports.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use firehose::base::clock;
use serde_json::Value;
use tempfile::TempDir;

use super::{Client, Lane, plain};

/// Far above what a healthy machine needs. Only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Server {
    child: Child,
    folder: TempDir,
    pub address: SocketAddr,
}

impl Server {
    pub fn start(arguments: &[&str]) -> Server {
        let folder = TempDir::new().unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_firehose"))
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--ops-listen",
                "off",
                "--log-format",
                "json",
                "--allowed-hosts",
                "t",
                "--data",
            ])
            .arg(folder.path().join("data"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Server { child, folder, address: ([127, 0, 0, 1], 0).into() };
        server.address = eventually("the server says where it listens", || {
            assert!(server.child.try_wait().unwrap().is_none(), "it ended: {}", server.log());
            let log = server.log();
            let line: Value = log
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .find(|line: &Value| line["message"] == "serving")?;
            line["listen"].as_str()?.parse().ok()
        });
        eventually("the shards are open", || {
            let reply = server.connect(Lane::Hot).try_reply_to(&plain("GET", "/ready", &[]));
            reply.is_ok_and(|reply| reply.status == 200).then_some(())
        });
        server
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Opens a connection on the lane. For the executor, it sends a first request that moves the connection there.
    pub fn connect(&self, lane: Lane) -> Client {
        let mut client = Client::new(TcpStream::connect(self.address).unwrap());
        if lane == Lane::Executor {
            client.send(&plain("GET", "/nowhere", &[]));
            assert_eq!(client.reply().status, 404);
        }
        client
    }

    pub fn health(&self) -> Value {
        self.connect(Lane::Hot).ask(&plain("GET", "/health", &[])).json()
    }

    pub fn metrics(&self) -> String {
        let reply = self.connect(Lane::Hot).ask(&plain("GET", "/metrics", &["Connection: close"]));
        String::from_utf8(reply.body).unwrap()
    }

    /// Returns the number of descriptors that the process has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(self.proc("fd")).unwrap().count()
    }

    /// Returns the resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.child.id()))
    }

    /// Asserts that the process is alive, that both lanes answer, that no accepted event is lost before it is stored,
    /// and that the log contains no panic and no error.
    pub fn assert_well(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "the process ended: {}", self.log());
        for lane in super::LANES {
            let mut client = self.connect(lane);
            assert_eq!(
                client.ask(&super::post("/event", &[], super::EVENT.as_bytes())).status,
                202,
                "{lane:?}"
            );
        }
        eventually("everything received is processed and counted", || {
            let health = self.health();
            let same = health["total_received"] == health["total_processed"]
                && health["total_received"] == health["database_events"];
            (health["status"] == "healthy" && health["queue_size"] == 0 && same).then_some(())
        });
        let log = self.log();
        assert!(!log.contains("panic") && !log.contains("\"ERROR\""), "{log}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process is already gone if a test has seen it end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Polls until there is a result, and returns it.
pub fn eventually<T>(promise: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let deadline = clock::now() + PATIENCE;
    loop {
        if let Some(answer) = poll() {
            return answer;
        }
        assert!(clock::now() < deadline, "never happened: {promise}");
        clock::pause(Duration::from_millis(5));
    }
}
