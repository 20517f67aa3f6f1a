//! Child processes: started on chosen cores in a process group of their own, and ended when the driver ends.
#![allow(
    unsafe_code,
    reason = "affinity, the death signal and signals to a group have no safe wrapper in std"
)]

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use firehose::base::clock;

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Handles Ctrl-C: the first one ends the scenario at its next wait, so that every guard cleans up. A second one ends
/// the driver immediately, and the kernel ends its children with it.
pub(crate) fn watch_interrupts() -> Result<()> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [libc::SIGINT, libc::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(flag))?;
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

pub(crate) fn interrupted() -> bool {
    INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Waits, in steps that are short enough to notice Ctrl-C.
pub(crate) fn pause(time: Duration) -> Result<()> {
    let end = clock::now() + time;
    loop {
        ensure!(!interrupted(), "interrupted");
        let left = end.saturating_duration_since(clock::now());
        if left.is_zero() {
            return Ok(());
        }
        clock::pause(left.min(Duration::from_millis(50)));
    }
}

/// Runs this many concurrent clients on these cores. Each gets its number from 0. Returns their results in this order.
pub(crate) fn clients<T: Send>(
    cores: &[usize],
    count: usize,
    client: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let run = |number| {
        pin_here(cores)?;
        client(number)
    };
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..count).map(|number| scope.spawn(move || run(number))).collect();
        threads.into_iter().map(|thread| thread.join().ok().context("a client panicked")?).collect()
    })
}

/// Polls `ready` every 10 ms until it returns a value, for at most `limit`.
pub(crate) fn poll<T>(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = clock::now() + limit;
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        ensure!(clock::now() < end, "{what}: not within {limit:?}");
        pause(Duration::from_millis(10))?;
    }
}

/// A running child. Dropping it kills its whole process group.
pub(crate) struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts the command with every thread allowed on `cores` only. Must be called on the main thread: the death
    /// signal follows the thread that started the child, not the process.
    pub(crate) fn start(name: &str, command: &mut Command, cores: &[usize]) -> Result<Process> {
        let set = cpu_set(cores)?;
        let parent = std::process::id();
        command.process_group(0);
        // SAFETY: the closure runs between fork and exec and makes only async-signal-safe calls on values that it
        // owns: no allocation, no lock.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0
                    || libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) != 0
                {
                    return Err(std::io::Error::last_os_error());
                }
                if libc::getppid() as u32 != parent {
                    return Err(std::io::ErrorKind::BrokenPipe.into());
                }
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| format!("cannot start {name}: {command:?}"))?;
        Ok(Process { child, name: name.to_owned() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the exit status; `None` while the child runs.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until the child exits.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let name = self.name.clone();
        poll(&format!("{name} ends"), limit, || self.ended())
    }

    /// Waits until the child exits and returns its piped standard output.
    pub(crate) fn output(&mut self, limit: Duration) -> Result<String> {
        let mut pipe = self.child.stdout.take().context("standard output is not piped")?;
        let status = self.wait(limit)?;
        let mut text = String::new();
        std::io::Read::read_to_string(&mut pipe, &mut text)?;
        if !status.success() {
            bail!("{} failed ({status}): {text}", self.name);
        }
        Ok(text)
    }

    /// Sends SIGTERM and waits until the child exits.
    pub(crate) fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        // SAFETY: takes no pointer; the child has not been reaped, so its id is still valid.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        self.wait(limit)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: takes no pointer; `start` made the group for this child.
        unsafe { libc::kill(-(self.child.id() as i32), libc::SIGKILL) };
        let _ = self.child.wait();
    }
}

fn cpu_set(cores: &[usize]) -> Result<libc::cpu_set_t> {
    ensure!(!cores.is_empty(), "no core named");
    // SAFETY: a CPU set is an array of bits, and all zeros are the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for core in cores {
        ensure!(*core < libc::CPU_SETSIZE as usize, "core {core} is beyond what a CPU set holds");
        // SAFETY: the index was checked against the size of the set.
        unsafe { libc::CPU_SET(*core, &mut set) };
    }
    Ok(set)
}

/// Pins the calling thread to these cores.
pub(crate) fn pin_here(cores: &[usize]) -> Result<()> {
    let set = cpu_set(cores)?;
    // SAFETY: `set` outlives the call, which only reads it.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    ensure!(result == 0, "cannot run on cores {cores:?}: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Lets the calling thread run before all threads of normal priority. Requires root.
pub(crate) fn become_real_time() -> Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: `parameters` outlives the call, which only reads it.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    ensure!(result == 0, "no real-time priority: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Raises the soft limit of open files to the hard limit, which children inherit, and returns it.
pub(crate) fn raise_file_limit() -> Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a pointer to a live value of the right type.
    unsafe {
        ensure!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0, "cannot read the file limit");
        limit.rlim_cur = limit.rlim_max;
        ensure!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0, "cannot raise the file limit");
    }
    Ok(limit.rlim_cur)
}

/// Returns the CPU time of a process so far in nanoseconds, including its ended threads.
pub(crate) fn cpu_ns(pid: u32) -> Result<u64> {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both calls get pointers to live values of the right types.
    let result = unsafe {
        match libc::clock_getcpuclockid(pid as i32, &raw mut clock) {
            0 => libc::clock_gettime(clock, &raw mut time),
            error => error,
        }
    };
    ensure!(result == 0, "no CPU clock for process {pid}");
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Returns the CPU time of the calling thread so far, in nanoseconds.
pub(crate) fn thread_cpu_ns() -> Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call gets a pointer to a live value of the right type.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    ensure!(result == 0, "no CPU clock for this thread");
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
