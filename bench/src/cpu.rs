//! CPU by thread, busy ratios and memory of a process and of cores between two moments, from /proc.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

use crate::process;

/// CPU times of one process at one moment.
pub(crate) struct CpuTimes {
    total_ns: u64,
    /// Name and CPU time by thread id.
    threads: BTreeMap<u32, (String, u64)>,
}

impl CpuTimes {
    /// Reads `/proc/PID/task/*/schedstat`, which takes about 20 us per thread.
    pub(crate) fn of(pid: u32) -> Result<CpuTimes> {
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task")).context("the server is gone")? {
            let path = entry?.path();
            let Some(id) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
            // A thread may end between the listing and the reading.
            let Ok(name) = fs::read_to_string(path.join("comm")) else { continue };
            let Ok(stat) = fs::read_to_string(path.join("schedstat")) else { continue };
            let ns = stat.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
            threads.insert(id, (name.trim().to_owned(), ns));
        }
        Ok(CpuTimes { total_ns: process::cpu_ns(pid)?, threads })
    }

    pub(crate) fn total_since(&self, before: &CpuTimes) -> u64 {
        self.total_ns.saturating_sub(before.total_ns)
    }

    /// Returns the CPU time in nanoseconds since `before` of the threads named `role` or `role-<number>…`. `None` if
    /// there are none.
    pub(crate) fn role_since(&self, before: &CpuTimes, role: &str) -> Option<u64> {
        let mut sum = None;
        for (id, (name, ns)) in &self.threads {
            let is_role =
                name.strip_prefix(role).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
            if is_role {
                let spent = ns.saturating_sub(before.threads.get(id).map_or(0, |(_, ns)| *ns));
                sum = Some(sum.unwrap_or(0) + spent);
            }
        }
        sum
    }
}

/// Busy and total ticks of every core at one moment.
pub(crate) struct CoreTimes(BTreeMap<usize, (u64, u64)>);

impl CoreTimes {
    pub(crate) fn read() -> Result<CoreTimes> {
        let mut cores = BTreeMap::new();
        for line in fs::read_to_string("/proc/stat")?.lines() {
            let Some((core, rest)) = line.strip_prefix("cpu").and_then(|rest| rest.split_once(' ')) else {
                continue;
            };
            let Ok(core) = core.parse() else { continue };
            // user nice system idle iowait irq softirq steal
            let ticks: Vec<u64> =
                rest.split_whitespace().take(8).filter_map(|tick| tick.parse().ok()).collect();
            let total: u64 = ticks.iter().sum();
            let idle: u64 = ticks.iter().skip(3).take(2).sum();
            cores.insert(core, (total - idle, total));
        }
        Ok(CoreTimes(cores))
    }

    /// Returns the busy time of these cores since `before` as a ratio of their total time.
    pub(crate) fn busy_since(&self, before: &CoreTimes, cores: &[usize]) -> f64 {
        let (mut busy, mut total) = (0, 0);
        for core in cores {
            let Some((now, then)) = self.0.get(core).zip(before.0.get(core)) else { continue };
            busy += now.0.saturating_sub(then.0);
            total += now.1.saturating_sub(then.1);
        }
        busy as f64 / total.max(1) as f64
    }
}

/// Returns the resident bytes of a process.
pub(crate) fn rss_bytes(pid: u32) -> Result<u64> {
    memory_bytes(pid, "VmRSS:")
}

/// Returns the resident bytes that belong to no file: heap, stacks, SQLite's caches.
pub(crate) fn anon_bytes(pid: u32) -> Result<u64> {
    memory_bytes(pid, "RssAnon:")
}

/// Returns the peak of the resident bytes of a process since it started.
pub(crate) fn peak_rss_bytes(pid: u32) -> Result<u64> {
    memory_bytes(pid, "VmHWM:")
}

fn memory_bytes(pid: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the server is gone")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("no number of kB")?;
    Ok(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_a_name_with_or_without_a_number() {
        let threads = |ns: u64| {
            [(1, "listen-0"), (2, "listen-1"), (3, "listener"), (4, "ops")]
                .into_iter()
                .map(|(id, name)| (id, (name.to_owned(), ns)))
                .collect()
        };
        let before = CpuTimes { total_ns: 0, threads: threads(5) };
        let after = CpuTimes { total_ns: 100, threads: threads(15) };
        assert_eq!(after.role_since(&before, "listen"), Some(20));
        assert_eq!(after.role_since(&before, "ops"), Some(10));
        assert_eq!(after.role_since(&before, "write"), None);
    }

    #[test]
    fn this_process_has_used_memory_and_time() -> Result<()> {
        let pid = std::process::id();
        assert!(
            rss_bytes(pid)? > anon_bytes(pid)?
                && anon_bytes(pid)? > 100 * 1024
                && peak_rss_bytes(pid)? > 100 * 1024
        );
        assert!(CpuTimes::of(pid)?.total_ns > 0);
        Ok(())
    }
}
