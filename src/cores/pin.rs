//! Which CPUs there are and staying on one of them.
#![allow(unsafe_code, reason = "setpriority has no wrapper in std")]

use std::io;

/// How a thread shares its CPU with the others of its core: the listener comes first, so that an
/// upload, a commit or a scan never delays an ack by a scheduling slice. A writer at 5 still gets a
/// quarter of a saturated core, three times what it needs to keep up with the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    Listener = 0,
    Executor = 1,
    Writer = 5,
    Background = 10,
}

/// CPU numbers this process may use, in order: its affinity mask, cut to what the cgroup pays for.
#[must_use]
pub fn available() -> Vec<usize> {
    let mut cpus: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    if cpus.is_empty() {
        cpus.push(0);
    }
    let paid_for = super::preflight::cgroup_cpus().unwrap_or(usize::MAX).max(1);
    cpus.truncate(paid_for);
    cpus
}

/// Pins the calling thread and gives it its rank. What the system refuses is returned, not fatal: the
/// server is slower unpinned, not wrong.
pub fn settle(cpu: usize, rank: Rank) -> io::Result<()> {
    let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: cpu });
    // SAFETY: no pointers; 0 names the calling thread.
    let ranked = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, rank as i32) };
    match (pinned, ranked) {
        (false, _) => Err(io::Error::other(format!("CPU {cpu} is not in the affinity mask of this thread"))),
        (true, 0) => Ok(()),
        (true, _) => Err(io::Error::last_os_error()),
    }
}
