//! The available CPUs, and pinning to one of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How a thread shares its CPU with the other threads of its core. The listener has priority, so that an upload, a
/// commit or a scan never delays an ack by a scheduling slice. A writer at nice value 5 still gets a quarter of a
/// saturated core, three times what it needs to keep up with the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    Listener = 0,
    Executor = 1,
    Writer = 5,
    /// Queries. Their priority is below that of everything that keeps a promise to a client.
    Reader = 7,
    Background = 10,
}

/// Returns the CPUs that this process may run on, by the kernel's numbers. This is the affinity mask, which includes
/// cpusets.
#[must_use]
pub fn allowed() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

/// Returns the CPUs to serve on by default: all that are allowed, limited to the cgroup's quota, because a throttled
/// core responds late.
#[must_use]
pub fn available() -> Vec<usize> {
    let mut cpus = allowed();
    if cpus.is_empty() {
        cpus.push(0);
    }
    let paid_for = cpu_quota().map_or(usize::MAX, |quota| (quota + 0.01) as usize);
    cpus.truncate(paid_for.max(1));
    cpus
}

/// Returns the CPU quota of this process's cgroup (v2), in CPUs, or `None` if there is no limit.
#[must_use]
pub fn cpu_quota() -> Option<f64> {
    quota(Path::new("/sys/fs/cgroup"), &own_cgroup())
}

/// Returns this process's cgroup path (v2), relative to the mount.
fn own_cgroup() -> PathBuf {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    PathBuf::from(path)
}

/// Returns the lowest CPU quota of a cgroup and its ancestors, in CPUs, or `None` if there is no limit.
fn quota(mount: &Path, cgroup: &Path) -> Option<f64> {
    let quotas = cgroup.ancestors().filter_map(|folder| {
        let text = fs::read_to_string(mount.join(folder).join("cpu.max")).ok()?;
        let (quota_us, period_us) = text.trim().split_once(' ')?;
        Some(quota_us.parse::<f64>().ok()? / period_us.parse::<f64>().ok().filter(|us| *us > 0.0)?)
    });
    quotas.min_by(f64::total_cmp)
}

/// Pins the calling thread and sets its rank. Returns an error if that fails, which need not be fatal: without
/// pinning, the server is slower but correct.
pub fn settle(cpu: usize, rank: Rank) -> io::Result<()> {
    let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: cpu });
    // `None` names the calling thread.
    let ranked = rustix::process::setpriority_process(None, rank as i32);
    match pinned {
        false => Err(io::Error::other(format!("CPU {cpu} is not in the affinity mask of this thread"))),
        true => Ok(ranked?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_quota_on_the_way_up_counts() {
        let mount = tempfile::tempdir().unwrap();
        fs::create_dir_all(mount.path().join("a/b")).unwrap();
        assert_eq!(quota(mount.path(), Path::new("a/b")), None);
        fs::write(mount.path().join("a/b/cpu.max"), "max 100000\n").unwrap();
        assert_eq!(quota(mount.path(), Path::new("a/b")), None);
        fs::write(mount.path().join("a/cpu.max"), "150000 100000\n").unwrap();
        fs::write(mount.path().join("cpu.max"), "400000 100000\n").unwrap();
        assert_eq!(quota(mount.path(), Path::new("a/b")), Some(1.5));
        fs::write(mount.path().join("a/b/cpu.max"), "5 0\n").unwrap();
        assert_eq!(quota(mount.path(), Path::new("a/b")), Some(1.5));
    }
}
