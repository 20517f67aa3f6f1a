//! One run of wrk: started on the load cores, its one line of JSON parsed.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::process::Process;

/// The parameters of the load; the scripts are in `bench/wrk/`.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) script: &'static str,
    pub(crate) connections: usize,
    pub(crate) seconds: u64,
}

/// The line that `report.lua` prints at the end of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct WrkReport {
    pub(crate) seconds: f64,
    /// Responses read to their end, without those in flight when the time was over.
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    /// Responses of 400 and above.
    pub(crate) non_2xx: u64,
    pub(crate) connect_errors: u64,
    pub(crate) read_errors: u64,
    pub(crate) write_errors: u64,
    pub(crate) timeouts: u64,
    pub(crate) mean_us: f64,
    pub(crate) p50_us: u64,
    pub(crate) p90_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) max_us: u64,
}

impl WrkReport {
    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds.max(1e-9)
    }

    /// Returns the errors that invalidate a run where only good responses are expected.
    pub(crate) fn faults(&self) -> Option<String> {
        let errors = self.connect_errors + self.read_errors + self.write_errors;
        let mut faults = Vec::new();
        for (count, what) in [
            (self.non_2xx, "answers of 400 and above"),
            (errors, "socket errors"),
            (self.timeouts, "requests over 2 s"),
        ] {
            if count > 0 {
                faults.push(format!("{count} {what}"));
            }
        }
        if self.requests == 0 {
            faults.push("no answer at all".to_owned());
        }
        (!faults.is_empty()).then(|| faults.join(", "))
    }
}

/// Starts wrk with one thread; [`finish`] returns the report.
pub(crate) fn start(load: &Load, url: &str, cores: &[usize]) -> Result<Process> {
    let script = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/wrk")).join(load.script);
    let mut command = Command::new("wrk");
    command
        .args(["-t1", "--latency", "-c", &load.connections.to_string()])
        .args(["-d", &format!("{}s", load.seconds), "-s"])
        .arg(script)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    Process::start("wrk", &mut command, cores)
}

/// Waits for the end of a run.
pub(crate) fn finish(mut wrk: Process, load: &Load) -> Result<WrkReport> {
    parse(&wrk.output(Duration::from_secs(load.seconds + 30))?)
}

fn parse(output: &str) -> Result<WrkReport> {
    let line = output.lines().find_map(|line| line.strip_prefix("RESULT "));
    let line = line.with_context(|| format!("wrk printed no result:\n{output}"))?;
    serde_json::from_str(line).with_context(|| format!("wrk printed an unreadable result: {line}"))
}

/// Checks that wrk is installed, and otherwise reports how to install it.
pub(crate) fn check() -> Result<()> {
    let found = Command::new("wrk").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
    ensure!(found.is_ok(), "wrk is not installed: apt-get install wrk");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"RESULT {"seconds":2.0,"requests":100,"bytes":1,"non_2xx":0,"connect_errors":0,"read_errors":0,"write_errors":0,"timeouts":0,"mean_us":1.5,"p50_us":1,"p90_us":2,"p99_us":3,"p999_us":4,"max_us":5,"statuses":{}}"#;

    #[test]
    fn the_result_line_is_found_among_what_wrk_prints() -> Result<()> {
        let report = parse(&format!("Running 2s test\n  1 threads\n{LINE}\n"))?;
        assert!((report.rate() - 50.0).abs() < 1e-9);
        assert_eq!(report.faults(), None);
        assert!(parse("unable to connect").is_err());
        Ok(())
    }

    #[test]
    fn refused_events_and_socket_errors_make_a_run_worthless() -> Result<()> {
        let line =
            LINE.replace("\"non_2xx\":0", "\"non_2xx\":7").replace("\"read_errors\":0", "\"read_errors\":2");
        let faults = parse(&line)?.faults().unwrap_or_default();
        assert!(faults.contains("7 answers") && faults.contains("2 socket errors"), "{faults}");
        Ok(())
    }
}
