//! `firehose doctor`: reports problems with this machine that affect serving, and how to fix them.
//!
//! In: the effective settings. Out: one line per check, or JSON; exit code 0 or 1. Owns: a small file in the data
//! folder while a disk sync is measured. Never: changes the machine.

mod disk;
mod machine;
mod ships;

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use super::FolderArgs;
use crate::config::Config;
use crate::cores::preflight;
use crate::ops::output::{EXIT_FAILED, EXIT_OK, complain, say};

/// A finding's severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// The server works, but worse than it could, or with a weaker promise.
    Warn,
    /// The server would not start, or would not keep its promise.
    Fail,
}

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A short stable name: `io_uring`, `disk_space`, ….
    pub check: &'static str,
    pub verdict: Verdict,
    pub found: String,
    /// How to fix it. Empty if nothing is wrong.
    pub remedy: String,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Finding {
        Finding { check, verdict: Verdict::Ok, found: found.into(), remedy: String::new() }
    }

    fn warn(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { check, verdict: Verdict::Warn, found: found.into(), remedy: remedy.into() }
    }

    fn fail(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { check, verdict: Verdict::Fail, found: found.into(), remedy: remedy.into() }
    }
}

/// Runs the checks and prints them. The exit code reports whether the server could start.
#[must_use]
pub fn doctor(args: &FolderArgs) -> ExitCode {
    let config = match args.load() {
        Ok(loaded) => loaded.config,
        Err(errors) => return complain(&errors),
    };
    let findings = examine(&config);
    let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
    if args.json {
        say(&format!("{}\n", serde_json::json!({ "verdict": worst, "checks": findings })));
    } else {
        say(&lines(&findings));
    }
    ExitCode::from(if worst == Verdict::Fail { EXIT_FAILED } else { EXIT_OK })
}

/// Runs every check, in the order in which a server would encounter the problems. Takes less than a second on a
/// healthy disk.
#[must_use]
pub fn examine(config: &Config) -> Vec<Finding> {
    // The inherited limits are read first. The limits are then raised as a server raises them.
    let (memlock, open_files) = (machine::memlock(), machine::open_files(config));
    _ = preflight::raise_limits();
    vec![
        machine::io_uring(config),
        memlock,
        open_files,
        machine::cpus(config),
        machine::cpu_quota(),
        machine::reuse_port(),
        machine::ports(config),
        machine::accept_backlog(),
        machine::clock(),
        disk::file_system(config),
        disk::space(config),
        disk::sync_latency(config),
        disk::temporary_files(config),
        disk::privacy(config),
        ships::sinks(config),
    ]
}

fn lines(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let word = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        _ = write!(text, "{word:<4}  {:<14} {}", finding.check, finding.found);
        if !finding.remedy.is_empty() {
            _ = write!(text, " -> {}", finding.remedy);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_is_one_line_and_every_bad_one_has_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { data: folder.path().join("not/there/yet"), ..Config::defaults() };
        let findings = examine(&config);
        for finding in &findings {
            assert_eq!(finding.verdict == Verdict::Ok, finding.remedy.is_empty(), "{finding:?}");
            assert!(!finding.found.contains('\n') && !finding.remedy.contains('\n'), "{finding:?}");
        }
        assert_eq!(lines(&findings).lines().count(), findings.len());
        let names: std::collections::BTreeSet<_> = findings.iter().map(|finding| finding.check).collect();
        assert_eq!(names.len(), findings.len());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_line_says_the_verdict_first_and_the_remedy_last() {
        let findings = [Finding::ok("clock", "fine"), Finding::fail("cpus", "none", "find some")];
        assert_eq!(lines(&findings), "ok    clock          fine\nFAIL  cpus           none -> find some\n");
        let json = serde_json::to_value(&findings[1]).unwrap();
        assert_eq!(json["verdict"], "fail");
    }
}
