//! `firehose ship` as a process: started for a folder and a target, killed, stopped, and its log.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use serde_json::Value;

use crate::equal::assert_equal;
use crate::postgres::Postgres;
use crate::support::{Ended, Folder, Server, command, wait_until};

/// A running shipper. It ends with the test.
pub(crate) struct Shipper {
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

/// Returns the command `firehose ship WORDS --data FOLDER --to TARGET`.
pub(crate) fn ship_command(folder: &Folder, url: &str, words: &[&str]) -> Command {
    let mut command = command();
    command.arg("ship").args(words).arg("--data").arg(folder.data()).args(["--to", url]);
    command.env("FIREHOSE_LOG_FORMAT", "json");
    command
}

/// Ships once, and returns the output. It must succeed.
#[track_caller]
pub(crate) fn ship_once(folder: &Folder, postgres: &Postgres) -> Output {
    let output = ship_command(folder, &postgres.url(), &["--once"]).output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Ships until nothing is left. It must succeed.
#[track_caller]
pub(crate) fn drain(folder: &Folder, postgres: &Postgres) {
    let output = ship_command(folder, &postgres.url(), &["--drain"]).output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs `ship verify`, which must find no difference, and returns its report.
#[track_caller]
pub(crate) fn verified(folder: &Folder, postgres: &Postgres) -> Value {
    let output =
        ship_command(folder, &postgres.url(), &["verify", "--json"]).output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&said).expect("JSON")
}

/// Returns the report of `ship status`.
#[track_caller]
pub(crate) fn status(folder: &Folder, url: &str) -> Value {
    let output = ship_command(folder, url, &["status", "--json"]).output().expect("the program runs");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

impl Shipper {
    #[track_caller]
    pub(crate) fn start(folder: &Folder, postgres: &Postgres, flags: &[&str]) -> Shipper {
        Shipper::spawn(folder, ship_command(folder, &postgres.url(), flags))
    }

    pub(crate) fn spawn(folder: &Folder, mut command: Command) -> Shipper {
        let number = (0..).find(|number| !folder.beside(&format!("ship-log-{number:03}")).exists());
        let log = folder.beside(&format!("ship-log-{:03}", number.expect("a number")));
        let file = File::create(&log).expect("a log file");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn();
        let mut shipper = Shipper { child: child.expect("the program starts"), log, ended: None };
        wait_until("signals to be handled", || shipper.has_ended() || shipper.handles_sigterm());
        shipper
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns `true` once SIGTERM does not end it at once.
    fn handles_sigterm(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        caught
            .is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & (1 << 14) != 0))
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).expect("the log is there")).into_owned()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("the child can be asked");
        }
        self.ended.is_some()
    }

    /// Sends a signal by its name.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        let line = format!("kill -s {name} {}", self.pid());
        assert!(Command::new("sh").args(["-c", &line]).status().expect("sh runs").success(), "{line}");
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the child can be killed");
        self.child.wait().expect("the child ends");
        self.ended = Some(ExitStatus::default());
    }

    /// Stops it with SIGTERM. It must end with exit code 0.
    #[track_caller]
    pub(crate) fn stop(self) -> Ended {
        self.signal("TERM");
        let ended = self.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        ended
    }

    #[track_caller]
    pub(crate) fn wait(mut self) -> Ended {
        wait_until("the shipper to end", || self.has_ended());
        Ended { code: self.ended.and_then(|status| status.code()), log: self.log() }
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            eprintln!(
                "── the shipper's log ──\n{}",
                log.get(log.len().saturating_sub(4_000)..).unwrap_or(&log)
            );
        }
        if !self.has_ended() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Ends the server and the shipper, ships what is left, and compares all rows of both sides.
#[track_caller]
pub(crate) fn all_arrives(server: Server, shipper: Shipper, (folder, postgres): (&Folder, &Postgres)) {
    server.wait_until_stored();
    server.stop();
    shipper.stop();
    drain(folder, postgres);
    assert_equal(&[folder], postgres);
}
