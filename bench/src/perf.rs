//! System calls, context switches and instructions of a process, counted by `perf stat`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::Process;

/// Counts over a period; `None` if this machine cannot count.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) system_calls: Option<u64>,
    pub(crate) context_switches: Option<u64>,
    pub(crate) instructions: Option<u64>,
}

const EVENTS: &str = "raw_syscalls:sys_enter,context-switches,instructions:u";

/// Returns `true` if perf is installed and may trace system calls.
pub(crate) fn is_available() -> bool {
    let mut command = Command::new("perf");
    command.args(["stat", "-e", "raw_syscalls:sys_enter", "true"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Counts the events of a process for some seconds. Tracing slows every system call, so nothing else may be measured
/// meanwhile. The output file is written into `folder`.
pub(crate) fn count(pid: u32, seconds: u64, folder: &Path, cores: &[usize]) -> Result<Counts> {
    let path = folder.join("perf.csv");
    let mut command = Command::new("perf");
    command.args(["stat", "-x", ",", "-e", EVENTS, "-p", &pid.to_string(), "-o"]).arg(&path);
    command.args(["--", "sleep", &seconds.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Process::start("perf", &mut command, cores)?.wait(Duration::from_secs(seconds + 20))?;
    Ok(parse(&std::fs::read_to_string(path).context("perf wrote nothing")?))
}

fn parse(csv: &str) -> Counts {
    let value = |event: &str| {
        let line = csv.lines().find(|line| line.split(',').nth(2).is_some_and(|name| name == event))?;
        line.split(',').next()?.parse().ok()
    };
    Counts {
        system_calls: value("raw_syscalls:sys_enter"),
        context_switches: value("context-switches"),
        instructions: value("instructions:u"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_counted_is_left_out() {
        let csv = "# started\n\n29,,raw_syscalls:sys_enter,1070000,100.00,27.1,K/sec\n\
                   3,,context-switches,1070000,100.00,,\n<not supported>,,instructions:u,0,100.00,,\n";
        let counts = Counts { system_calls: Some(29), context_switches: Some(3), instructions: None };
        assert_eq!(parse(csv), counts);
    }
}
